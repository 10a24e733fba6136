"""The seam between the relay and a provider, and what never travels upstream."""

import re
from typing import Final, Protocol

from yarl import URL

from trueport.gateway.call import Call, HeaderList
from trueport.gateway.snapshot import Credential

# Credentials and routing of the client's own, headers of the connection, and what proxies in front of us added.
_OURS: Final = re.compile(
    rb"authorization|x-api-key|api-key|x-goog-api-key|cookie2?|host|connection|keep-alive|te|trailer|upgrade|expect|"
    rb"transfer-encoding|content-length|accept-encoding|content-encoding|proxy-.*|forwarded|via|x-forwarded-.*|"
    rb"x-real-ip|x-client-ip|true-client-ip|cf-.*|x-trueport-.*|x-tenant-.*|x-portkey-.*|x-request-id|"
    rb"x-client-request-id|openai-organization|openai-project|anthropic-.*|x-goog-.*|"
    rb"x-http-method-override|origin|referer|sec-.*"
)
_verdicts: dict[bytes, bool] = {}


class Provider(Protocol):
    """How to reach and authenticate at one kind of provider."""

    name: str
    dialect: str

    def url(self, credential: Credential, path: str, query: str) -> URL:
        """Where an operation lives."""

    def headers(self, credential: Credential) -> tuple[tuple[str, str], ...]:
        """The headers that prove who is calling."""


def forwarded_headers(call: Call) -> list[tuple[str, str]]:
    """The client's headers that go on to the provider: all but credentials, connection and routing headers.

    A header the client names in `Connection` belongs to the connection and stays as well, and so does one whose
    value is not printable ASCII: what a server makes of other bytes is anybody's guess.
    """
    dropped = _named_in_connection(call.headers)
    kept = []
    for name, value in call.headers:
        if name not in dropped and _passes(name):
            text = value.decode("latin-1")
            if text.isascii() and text.isprintable():
                kept.append((name.decode("latin-1"), text))
    # The provider's own log can then be matched with ours; OpenAI documents this header for that purpose.
    kept.append(("x-client-request-id", call.interaction_id))
    return kept


def _passes(name: bytes) -> bool:
    found = _verdicts.get(name)
    if found is None:
        if len(_verdicts) > 4_096:
            _verdicts.clear()
        found = _verdicts[name] = _OURS.fullmatch(name) is None
    return found


def _named_in_connection(headers: HeaderList) -> frozenset[bytes]:
    named = [value for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(part.strip().lower() for value in named for part in value.split(b","))
