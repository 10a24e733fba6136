"""Google's names for what it keeps, and the addresses that stand for them.

A name is a path, `files/abc`, with the API's version or a project before it in some places.
"""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import unquote, urlsplit

_HOST: Final = re.compile(r"generativelanguage\.googleapis\.com|(?:[a-z0-9-]+-)?aiplatform\.googleapis\.com")
_NAME: Final = re.compile(
    r"/?(?:(?:upload|download)/)?(?:v[0-9][a-z0-9]*/)?(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?"
    r"(models/[^/:]+/operations/[^/:]+|[A-Za-z]+/[^/:]+)"
)
_FILE: Final = re.compile(r"(?:^|/)(files/[^/:]+)(?::[A-Za-z]+)?$")


def bare_name(text: str) -> str:
    """A name without version, project and verb; what is no name stands for itself."""
    found = _NAME.match(text)
    return found[1] if found else text


def named_in(member: str, text: str, hosts: Collection[str]) -> str | None:
    """The object that a member of a request names, None where it names nothing that is kept at Google.

    An address at one of `hosts`, or at Google's own, is a name. One elsewhere is not, whatever its path.
    """
    if "://" not in text:
        is_name = member not in _OTHERWISE_USED or text.startswith(_OTHERWISE_USED[member])
        return bare_name(text) if is_name else None
    try:
        address = urlsplit(text.strip())
        host = unquote(address.hostname or "").rstrip(".")
    except ValueError:
        return text
    return _at(address.path) if host in hosts or _HOST.fullmatch(host) else None


# Members that have other meanings, and what their values begin with when they name an object.
_OTHERWISE_USED: Final = {"source": ("corpora/",), "uri": ("files/", "/", "v1")}


def told_name(text: str) -> str:
    """The name in an answer of Google's, which may give an address instead."""
    try:
        return _at(urlsplit(text).path) if "://" in text else bare_name(text)
    except ValueError:
        return text


def _at(path: str) -> str:
    path = unquote(path)
    found = _FILE.search(path)
    return found[1] if found else bare_name(path)
