"""Google's models, at the Gemini API and on Vertex AI: the same operations at different addresses.

Sources: https://ai.google.dev/api, https://cloud.google.com/vertex-ai/docs/reference/rest, and for tokens
https://developers.google.com/identity/protocols/oauth2/service-account.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

import jwt
from yarl import URL

from trueport.gateway.call import Request, Wire
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.providers.address import (
    UnsafeAddress,
    base_path,
    below,
    checked_query,
    operation_path,
    parameter_name,
    segment,
)
from trueport.gateway.providers.credential import CredentialRefused, holds_json, json_of, key_of
from trueport.gateway.providers.tokens import Grant, TokenSource, token_endpoint
from trueport.gateway.snapshot import Credential
from trueport.kit.clock import Clock

_VERSION: Final = re.compile(r"v[0-9]{1,3}(?:(?:alpha|beta)[0-9]{0,3})?")
_VERSIONED: Final = re.compile(rf"(?P<root>.*)/(?P<version>{_VERSION.pattern})")
_PUBLISHED: Final = re.compile(r"publishers/[A-Za-z0-9_-]+/models/")
# Besides credentials: what changes who pays, the method or the headers, wraps the answer in a script, or leaves out
# the usage that a call is metered by.
_NOT_PASSED: Final = frozenset(
    {"key", "access_token", "oauth_token", "userproject", "quotauser", "callback", "fields", "api-version"}
)
# Everything that is not a verb on a model, where the request names a model all the same.
_COLLECTIONS: Final = frozenset(
    {
        *("models", "tunedModels", "interactions", "cachedContents", "files", "batches", "operations"),
        *("fileSearchStores", "corpora"),
    }
)
_TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_TOKEN_HOSTS: Final = (".googleapis.com", "accounts.google.com")
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_LIFE_S: Final = 3_600


class GoogleProvider:
    """`https://generativelanguage.googleapis.com`, or Vertex AI with project and location in the base URL.

    A base URL at `…aiplatform.googleapis.com`, or with `/publishers/` in its path, is Vertex AI's. A secret that is
    the JSON key of a service account is used to get tokens; any other is sent as an API key.
    """

    name = "google"
    wire: Wire = "google"
    default_headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, tokens: TokenSource, clock: Clock, policy: EgressPolicy) -> None:
        self._tokens = tokens
        self._clock = clock
        self._policy = policy

    def adapted(self, credential: Credential, request: Request) -> Request:  # noqa: ARG002 - nothing to adapt
        return request

    def url(self, credential: Credential, request: Request) -> URL:
        base = credential.base_url
        path = _vertex_path(base, request) if _is_vertex(base) else _gemini_path(base, request)
        return below(base, path, _query(request))

    async def headers(self, credential: Credential, request: Request) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - for all requests alike
        if holds_json(credential):
            token = await self._tokens.token(credential, self._grant)
            return (("authorization", f"Bearer {token.reveal()}"),)
        key = key_of(credential)
        return () if key is None else (("x-goog-api-key", key),)

    def refused(self, credential: Credential) -> None:
        self._tokens.refused(credential)

    def _grant(self, credential: Credential) -> Grant:
        account = json_of(credential)
        if account.get("type", "service_account") != "service_account":
            raise CredentialRefused("The credential configured for Google is not the key of a service account.")
        endpoint = token_endpoint(str(account.get("token_uri") or _TOKEN_URI), self._policy, _TOKEN_HOSTS)
        return Grant(endpoint, partial(_assertion, account, str(endpoint), self._clock.epoch_us() // 1_000_000))


def _assertion(account: Mapping[str, object], audience: str, now_s: int) -> Mapping[str, str]:
    """The form that proves who the service account is. Good for `audience` alone: no other endpoint takes it."""
    email, key, key_id = account.get("client_email"), account.get("private_key"), account.get("private_key_id")
    if not isinstance(email, str) or not isinstance(key, str):
        raise CredentialRefused("The credential configured for Google is not the key of a service account.")
    claims = {"iss": email, "sub": email, "aud": audience, "scope": _SCOPE, "iat": now_s}
    headers = {"kid": key_id} if isinstance(key_id, str) else None
    try:
        signed = jwt.encode({**claims, "exp": now_s + _ASSERTION_LIFE_S}, key, algorithm="RS256", headers=headers)
    except (jwt.PyJWTError, ValueError, TypeError):
        # Without the cause: what could not be read is a private key.
        raise CredentialRefused("The private key configured for Google cannot be read.") from None
    return {"grant_type": _JWT_BEARER, "assertion": signed}


def _is_vertex(base: URL) -> bool:
    return "/publishers/" in base.raw_path or (base.host or "").endswith("aiplatform.googleapis.com")


def _gemini_path(base: URL, request: Request) -> str:
    root, version = base_path(base), "v1beta"
    found = _VERSIONED.fullmatch(root)
    if found is not None:
        root, version = found["root"], found["version"]
    version = request.version or version
    if _VERSION.fullmatch(version) is None:
        raise UnsafeAddress("This API version is not one of Google's.", param="version")
    if _is_verb(request):
        return f"{root}/{version}/{_model_path(request.model or '')}:{operation_path(request.operation)}"
    if request.operation.startswith("upload/"):
        return f"{root}/upload/{version}/{operation_path(request.operation.removeprefix('upload/'))}"
    return f"{root}/{version}/{operation_path(request.operation)}"


def _vertex_path(base: URL, request: Request) -> str:
    """Models are a publisher's, everything else lies beside the publishers. The version is the base URL's."""
    location, _, publisher = base_path(base).partition("/publishers/")
    models = f"{location}/publishers/{publisher or 'google'}"
    if _is_verb(request):
        return f"{models}/{_model_path(request.model or '')}:{operation_path(request.operation)}"
    if request.operation == "models" or request.operation.startswith("models/"):
        return f"{models}/{operation_path(request.operation)}"
    return f"{location}/{operation_path(request.operation)}"


def _is_verb(request: Request) -> bool:
    return request.model is not None and "/" not in request.operation and request.operation not in _COLLECTIONS


def _model_path(model: str) -> str:
    """`models/{name}` for a model in any of the forms that Google's SDKs take."""
    for collection in ("tunedModels", "models"):
        if model.startswith(f"{collection}/"):
            return f"{collection}/{segment(model.removeprefix(f'{collection}/'), 'model', also_refused=':')}"
    # Whose model it is stands in the base URL.
    return f"models/{segment(_PUBLISHED.sub('', model, count=1), 'model', also_refused=':')}"


def _query(request: Request) -> str:
    """The client's query, without the system parameters that Google's servers also take as `$name`."""
    query = checked_query(request.query, _NOT_PASSED)
    return "&".join(pair for pair in query.split("&") if not parameter_name(pair).startswith("$"))
