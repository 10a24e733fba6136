"""Where clients put their API key."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_plus

from trueport.gateway.call import HeaderList
from trueport.kit.errors import InvalidRequest

KEY_HEADERS: Final = (b"x-api-key", b"api-key", b"x-goog-api-key")


class AmbiguousCredential(InvalidRequest):
    """Two different keys in one request: which one counts is not ours to guess."""

    code = "ambiguous_credential"


def bearer_or_header(headers: HeaderList) -> str | None:
    """The key from `Authorization: Bearer` or one of the SDKs' own headers; None when there is none.

    Raises AmbiguousCredential when two of them disagree.
    """
    return _only(_in_headers(headers))


def bearer_header_or_query(headers: HeaderList, query: str) -> str | None:
    """The same, or the `key` of a raw query string, which is where Google's clients may put it."""
    return _only([*_in_headers(headers), *_in_query(query)])


def without_key(query: str) -> str:
    """A raw query string without its `key`s, every other member as it is spelled."""
    if not query:
        return ""
    return "&".join(pair for pair in query.split("&") if _name(pair) != "key")


def _only(keys: Iterable[str]) -> str | None:
    different = set(keys)
    if len(different) > 1:
        raise AmbiguousCredential("The request carries two different API keys: send one.")
    return different.pop() if different else None


def _in_headers(headers: HeaderList) -> list[str]:
    found = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            text = rest.strip() if scheme.lower() == b"bearer" else b""
        elif name in KEY_HEADERS:
            text = value.strip()
        else:
            continue
        if text:
            found.append(text.decode("latin-1"))
    return found


def _in_query(query: str) -> list[str]:
    values = (unquote_plus(pair.partition("=")[2]).strip() for pair in query.split("&") if _name(pair) == "key")
    return [value for value in values if value]


def _name(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0])
