"""OpenAI's models at an Azure resource.

Source: https://learn.microsoft.com/azure/ai-services/openai/reference. The older addresses name a deployment and a
dated version of the API; those below `/openai/v1` are OpenAI's own, with the deployment in the place of the model.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

from msgspec.structs import replace
from yarl import URL

from trueport.gateway.call import Request, Wire
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.multipart import is_form, read_form, text_of, with_text
from trueport.gateway.providers.address import (
    UnsafeAddress,
    base_path,
    below,
    checked_query,
    operation_path,
    parameter,
    segment,
)
from trueport.gateway.providers.credential import CredentialRefused, holds_json, json_of, key_of
from trueport.gateway.providers.members import edited
from trueport.gateway.providers.tokens import Grant, TokenSource, token_endpoint
from trueport.gateway.snapshot import Credential

DEFAULT_API_VERSION: Final = "2024-10-21"
_VERSION: Final = re.compile(r"[0-9A-Za-z.-]{1,40}")
_OF_A_DEPLOYMENT: Final = frozenset({"chat/completions", "completions", "embeddings"})
_FAMILIES_OF_A_DEPLOYMENT: Final = ("audio/", "images/")
# The first dated version that knows `stream_options`; earlier ones refuse members they do not know.
_KNOWS_STREAM_OPTIONS: Final = "2024-09-01"
_AUTHORITY: Final = "https://login.microsoftonline.com"
# Where each of Microsoft's clouds gives out tokens, and for what.
_SCOPES: Final[Mapping[str, str]] = {
    "login.microsoftonline.com": "https://cognitiveservices.azure.com/.default",
    "login.microsoftonline.us": "https://cognitiveservices.azure.us/.default",
    "login.partner.microsoftonline.cn": "https://cognitiveservices.azure.cn/.default",
    "login.chinacloudapi.cn": "https://cognitiveservices.azure.cn/.default",
}


class AzureProvider:
    """`https://{resource}.openai.azure.com`, with `/openai/v1` at its end where the newer API is meant.

    A secret that is a JSON object with `tenant_id`, `client_id` and `client_secret` (and `authority` outside the
    public cloud) is used to get tokens from Entra ID; any other is sent as the resource's key.
    """

    name = "azure"
    wire: Wire = "openai"
    default_headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, tokens: TokenSource, policy: EgressPolicy) -> None:
        self._tokens = tokens
        self._policy = policy

    def adapted(self, credential: Credential, request: Request) -> Request:
        if not _is_v1(credential) and _takes_deployment(request):
            return _known_to(_api_version(credential, request), request)
        return _asking_for_deployment(credential, request)

    def url(self, credential: Credential, request: Request) -> URL:
        base, operation = credential.base_url, operation_path(request.operation)
        query = checked_query(request.query, ("api-version",))
        if _is_v1(credential):
            return below(base, f"{base_path(base)}/{operation}", query)
        root = f"{base_path(base).removesuffix('/openai')}/openai"
        if _takes_deployment(request):
            deployment = _deployment(credential, request.model or "")
            root = f"{root}/deployments/{segment(deployment, 'deployment', also_refused=':@,=')}"
        version = f"api-version={_api_version(credential, request)}"
        return below(base, f"{root}/{operation}", f"{query}&{version}" if query else version)

    async def headers(self, credential: Credential, request: Request) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - for all requests alike
        if holds_json(credential):
            token = await self._tokens.token(credential, self._grant)
            return (("authorization", f"Bearer {token.reveal()}"),)
        key = key_of(credential)
        return () if key is None else (("api-key", key),)

    def refused(self, credential: Credential) -> None:
        self._tokens.refused(credential)

    def _grant(self, credential: Credential) -> Grant:
        """Client credentials at Entra ID. Source: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow."""
        account = json_of(credential)
        tenant, client, secret = (account.get(name) for name in ("tenant_id", "client_id", "client_secret"))
        authority = account.get("authority") or _AUTHORITY
        if not all(isinstance(text, str) and text for text in (tenant, client, secret, authority)):
            raise CredentialRefused("The credential for Azure needs tenant_id, client_id and client_secret.")
        try:
            path = f"{segment(str(tenant), 'tenant_id', also_refused=':@,=')}/oauth2/v2.0/token"
        except UnsafeAddress as error:
            raise CredentialRefused("The credential for Azure names no tenant_id that can be one.") from error
        endpoint = token_endpoint(f"{str(authority).rstrip('/')}/{path}", self._policy, tuple(_SCOPES))
        form = {
            "grant_type": "client_credentials",
            "client_id": str(client),
            "client_secret": str(secret),
            "scope": _SCOPES.get(endpoint.host or "", _SCOPES["login.microsoftonline.com"]),
        }
        return Grant(endpoint, partial(dict, form))


def _is_v1(credential: Credential) -> bool:
    return base_path(credential.base_url).endswith("/openai/v1")


def _takes_deployment(request: Request) -> bool:
    operation = request.operation
    is_one = operation in _OF_A_DEPLOYMENT or operation.startswith(_FAMILIES_OF_A_DEPLOYMENT)
    return is_one and request.model is not None


def _deployment(credential: Credential, model: str) -> str:
    return credential.deployments.get(model, model)


def _api_version(credential: Credential, request: Request) -> str:
    """The client's own, else the account's, else the last stable one; as it stands in a query."""
    version = parameter(request.query, "api-version") or credential.api_version or DEFAULT_API_VERSION
    if _VERSION.fullmatch(version) is None:
        raise UnsafeAddress("This api-version is not one of Azure's.", param="api-version")
    return version


def _known_to(version: str, request: Request) -> Request:
    """The request without the wish for usage numbers that the gateway added, for a version that refuses it."""
    members = request.members
    if version >= _KNOWS_STREAM_OPTIONS or request.wants_usage_event or not members:
        return request
    if "stream_options" not in members:
        return request
    return edited(request, dropped=("stream_options",))


def _asking_for_deployment(credential: Credential, request: Request) -> Request:
    """The request with the deployment where OpenAI has the model. `model` itself stays the name it was asked by."""
    if request.model is None:
        return request
    deployment = _deployment(credential, request.model)
    members = request.members
    if members is not None:
        if members.get("model") == deployment:
            return request
        return edited(request, changed={"model": deployment})
    if request.body and is_form(request.content_type):
        fields = read_form(request.content_type, request.body)
        field = fields.get("model")
        if field is not None and text_of(request.body, fields, "model") != deployment:
            return replace(request, body=with_text(request.body, field, deployment))
    return request
