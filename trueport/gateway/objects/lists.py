"""Lists of an account's objects: what is in one, what is left of it for one tenant, and where it goes on."""

from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec.structs import replace

from trueport.gateway.call import Request, Wire
from trueport.gateway.dialects.meter import UNREADABLE
from trueport.gateway.objects.google import bare_name

_COUNTS: Final = ("total", "total_count", "totalSize", "count")


def elements(answer: object) -> list[object]:
    """What stands in the lists of a parsed page."""
    values = answer.values() if isinstance(answer, dict) else ()
    return [element for value in values if isinstance(value, list) for element in value]


def listed(body: bytes) -> tuple[str, ...]:
    """The ids (Google's names) of the objects on a page, each once."""
    try:
        found = map(_id_of, elements(msgspec.json.decode(body)))
    except UNREADABLE:
        return ()
    return tuple(dict.fromkeys(name for name in found if name is not None))


def only_own(body: bytes, owned: Collection[str]) -> bytes:
    """A page without the objects that are not `owned`; empty when `body` is no JSON object.

    What stays keeps its bytes. The ends of the page are the first and the last that stay, counts are theirs, and
    whether there is more is as the provider said.
    """
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        kept = {name: _own(raw, owned) for name, raw in members.items() if bytes(raw).startswith(b"[")}
    except UNREADABLE:
        return b""
    ids = [name for name, _ in kept.get("data", [])]
    told = dict.fromkeys(_COUNTS, sum(map(len, kept.values())))
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    changed = {name: msgspec.json.encode(value) for name, value in (told | ends).items() if name in members}
    changed |= {name: b"[%b]" % b",".join(raw for _, raw in own) for name, own in kept.items()}
    return msgspec.json.encode(members | {name: msgspec.Raw(value) for name, value in changed.items()})


def next_page(wire: Wire, request: Request, body: bytes) -> Request | None:
    """The request for the page after this one, None when it is the last.

    Its cursor may be the id of another tenant's object, so it is not for the client.
    """
    try:
        page = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if not isinstance(page, dict):
        return None
    if wire == "google":
        token = page.get("nextPageToken")
        return _asking(request, "pageToken", ("page_token",), token) if isinstance(token, str) and token else None
    ids = [name for element in elements(page) if (name := _id_of(element)) is not None]
    if page.get("has_more") is not True or not ids:
        return None
    forward, backward = ("after", "before") if wire == "openai" else ("after_id", "before_id")
    if any(name.lower() == backward for name, _ in parse_qsl(request.query)):
        return _asking(request, backward, (forward,), ids[0])
    return _asking(request, forward, (), ids[-1])


def _asking(request: Request, name: str, others: tuple[str, ...], cursor: str) -> Request:
    dropped = {name.lower(), *others}
    kept = [pair for pair in parse_qsl(request.query, keep_blank_values=True) if pair[0].lower() not in dropped]
    return replace(request, query=urlencode([*kept, (name, cursor)]))


def _own(raw: msgspec.Raw, owned: Collection[str]) -> list[tuple[str, bytes]]:
    found = [
        (_id_of(msgspec.json.decode(each)), bytes(each)) for each in msgspec.json.decode(raw, type=list[msgspec.Raw])
    ]
    return [(name, each) for name, each in found if name is not None and name in owned]


def _id_of(element: object) -> str | None:
    if not isinstance(element, dict):
        return None
    if isinstance(name := element.get("id"), str):
        return name
    return bare_name(name) if isinstance(name := element.get("name"), str) else None
