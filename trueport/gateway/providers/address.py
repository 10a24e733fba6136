"""Where a request goes: an account's base URL, a path below it, and a query.

Part of a URL is text that a client chose: the operation, sometimes a model, the query. Each part is checked before it
is put in, so that no text can climb out of its place.
"""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import quote, unquote_plus

from yarl import URL

from trueport.kit.errors import InvalidRequest

_LONGEST_SEGMENT: Final = 256
_PLAIN_OPERATION: Final = re.compile(r"(?!(?:.*/)?\.{1,2}(?:/|\Z))[A-Za-z0-9._~:@,=-]+(?:/[A-Za-z0-9._~:@,=-]+)*")
# What ends a segment or the path, at once or, for a percent sign, after being decoded twice.
_ENDS_SEGMENT: Final = re.compile(r"[/\\?#%]")
_QUERY: Final = re.compile(r"(?:[!\"$&-\[\]-~]|%[0-9A-Fa-f]{2})*")
# Clients leave some of these as they are. A `;` is to some servers a separator of parameters, so that they would see
# other names than were looked at here.
_TO_BE_ENCODED: Final = re.compile(r'[";<>\[\]^`{|}]')


class UnsafeAddress(InvalidRequest):
    """A name in the request cannot be part of a provider's URL."""

    code = "unsafe_address"


def segment(text: str, what: str, *, also_refused: str = "") -> str:
    """`text` as one segment of a path, percent-encoded.

    Raises UnsafeAddress, which names `what` it was, for text that a server might read as more or less than one
    segment, and for the characters in `also_refused`.
    """
    if (
        not 0 < len(text) <= _LONGEST_SEGMENT
        or not text.isprintable()
        or _ENDS_SEGMENT.search(text) is not None
        or not text.strip(".")
        or any(character in text for character in also_refused)
    ):
        raise UnsafeAddress(f"The {what} cannot be part of an address.", param=what)
    return quote(text, safe=":@,=")


def operation_path(operation: str) -> str:
    """An operation's path, each of its segments encoded. Raises UnsafeAddress."""
    if _PLAIN_OPERATION.fullmatch(operation) is not None:
        return operation
    return "/".join(segment(part, "path") for part in operation.split("/"))


def checked_query(query: str, without: Collection[str] = ()) -> str:
    """The raw query minus the parameters named in `without` (lower case), however they are spelled or encoded.

    Raises UnsafeAddress for what ends a query or is no part of a URL at all.
    """
    if not query:
        return ""
    if _QUERY.fullmatch(query) is None:
        raise UnsafeAddress("The query of this URL is not encoded as it should be.", param="query")
    plain = _TO_BE_ENCODED.sub(lambda found: quote(found[0]), query)
    return "&".join(pair for pair in plain.split("&") if pair and parameter_name(pair) not in without)


def parameter_name(pair: str) -> str:
    """The name in `name=value`, decoded, in lower case."""
    return unquote_plus(pair.partition("=")[0]).lower()


def parameter(query: str, name: str) -> str | None:
    """The first value of a parameter, still encoded; None when it is absent or empty."""
    for pair in query.split("&"):
        if parameter_name(pair) == name:
            return pair.partition("=")[2] or None
    return None


def below(base: URL, path: str, query: str) -> URL:
    """`path` on the host of `base`; whoever calls has built it of checked parts."""
    return URL.build(
        scheme=base.scheme, authority=base.raw_authority, path=path, query_string=query, encoded=True
    )  # fmt: skip


def base_path(base: URL) -> str:
    """The path of a base URL without a slash at its end; "" for a bare host."""
    return base.raw_path.rstrip("/")
