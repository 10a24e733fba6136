"""The seam between the relay and a provider, and what never travels upstream."""

import re
from functools import lru_cache
from typing import Final, Protocol

from yarl import URL

from trueport.gateway.call import Call, HeaderList, Request, Wire
from trueport.gateway.snapshot import Credential

# Credentials and routing of the client's own, headers of the connection, and what proxies in front of us added.
_OURS: Final = re.compile(
    rb"authorization|x-api-key|api-key|x-goog-api-key|cookie2?|host|connection|keep-alive|te|trailer|upgrade|expect|"
    rb"transfer-encoding|content-length|accept-encoding|content-encoding|proxy-.*|forwarded|via|x-forwarded-.*|"
    rb"x-real-ip|x-client-ip|true-client-ip|cf-.*|x-trueport-.*|x-tenant-.*|x-portkey-.*|x-request-id|"
    rb"x-client-request-id|openai-organization|openai-project|x-goog-.*|idempotency-key|"
    rb"x-http-method-override|origin|referer|sec-.*"
)
# Headers that mean something to one family of providers and nothing, or something else, to the others.
_FAMILY: Final[dict[bytes, Wire]] = {b"openai-": "openai", b"anthropic-": "anthropic"}


class Provider(Protocol):
    """How to reach and authenticate at one kind of provider."""

    name: str
    wire: Wire
    default_headers: tuple[tuple[str, str], ...]
    """What the API cannot do without and a client may state itself: sent where the client's headers lack the name."""

    def adapted(self, credential: Credential, request: Request) -> Request:
        """The request as this account wants it (other member names, its own deployment name); mostly unchanged.

        `model` stays the name the request was admitted and is priced by. `url` and `headers` take the result.
        """

    def url(self, credential: Credential, request: Request) -> URL:
        """Where the request goes, its query included.

        Raises a kit InvalidRequest for a name that cannot be part of a URL, before anything is sent.
        """

    async def headers(self, credential: Credential, request: Request) -> tuple[tuple[str, str], ...]:
        """The headers that prove who is calling, and those the API cannot do without.

        Waits where a token has to be fetched first. Raises a subclass of UpstreamFailure when none can be had.
        """

    def refused(self, credential: Credential) -> None:
        """The provider did not accept the last headers: what they were made from is not to be used again."""


def forwarded_headers(call: Call, wire: Wire) -> list[tuple[str, str]]:
    """The client's headers that go on to a provider of `wire`: all but credentials, connection and routing headers.

    A header the client names in `Connection` belongs to the connection and stays as well, and so does one whose
    value is not printable ASCII: what a server makes of other bytes is anybody's guess. Headers of one family of
    providers (`anthropic-beta`) go to that family only.
    """
    dropped = _named_in_connection(call.headers)
    kept = []
    for name, value in call.headers:
        spelled = _spelled(name, wire)
        if spelled and name not in dropped:
            text = value.decode("latin-1")
            if text.isascii() and text.isprintable():
                kept.append((spelled, text))
    # The provider's own log can then be matched with ours; OpenAI documents this header for that purpose.
    kept.append(("x-client-request-id", call.interaction_id))
    return kept


@lru_cache(maxsize=4_096)
def _spelled(name: bytes, wire: Wire) -> str:
    """The name of a header that goes on, in text; empty for one that stays."""
    family = next((of for prefix, of in _FAMILY.items() if name.startswith(prefix)), wire)
    return name.decode("latin-1") if family == wire and _OURS.fullmatch(name) is None else ""


def _named_in_connection(headers: HeaderList) -> frozenset[bytes]:
    named = [value for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(part.strip().lower() for value in named for part in value.split(b","))
