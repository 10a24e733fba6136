"""Top-level members of a JSON body replaced, added or taken out; every other byte stays."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from trueport.gateway.call import Request
from trueport.gateway.json_gate import splice_members

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SCAN: Final = json.JSONDecoder().raw_decode


def edited(request: Request, *, changed: Mapping[str, object] | None = None, dropped: Collection[str] = ()) -> Request:
    """The request with members of its JSON body set to other values, and others taken out.

    Unchanged where the body is not JSON. What is `changed` stands where the member stood, or at the end.
    """
    members, changed = request.members, changed or {}
    if members is None:
        return request
    body, gone = request.body, members.keys() & set(dropped)
    if gone:
        body = without(body, gone)
        members = {name: value for name, value in members.items() if name not in gone}
    body = splice_members(body, members, changed)
    return replace(request, body=body, members={**members, **changed})


def without(body: bytes, names: Collection[str]) -> bytes:
    """A JSON object minus some of its members, each with one comma. `body` has passed the JSON gate."""
    text = body.decode()
    pieces: list[str] = []
    kept_any = False
    at = text.index("{") + 1
    pieces.append(text[:at])
    while text[_skip(text, at)] != "}":
        name, colon = _SCAN(text, _skip(text, at))
        _, end = _SCAN(text, _skip(text, _skip(text, colon) + 1))
        if name not in names:
            pieces += ["," if kept_any else "", text[at:end]]
            kept_any = True
        at = _skip(text, end)
        if text[at] == ",":
            at += 1
    pieces.append(text[at:])
    return "".join(pieces).encode()


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
