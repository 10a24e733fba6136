"""JSON as it was written: read without losing what is there twice, and changed in places with every other byte kept."""

import json
from collections.abc import Callable, Container, Mapping
from typing import Any, Final

from trueport.gateway.texts.model import Hop, NotEditable, Removal, Step

Tree = dict[Step, "Tree | str | Removal"]
"""Changes by the steps that lead to them. Names to be changed stand below Hop.NAME, by the name they have."""

Inner = Callable[[Hop, str, Tree], str]
"""What a string is with the changes below a hop made in it."""

_SPACE: Final = " \t\n\r"


def _all_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    members = {}
    for name, value in pairs:
        members[_called(name, members)] = value
    return members


def _called(name: str, taken: Container[str]) -> str:
    """What a member is called here: its name, with a number behind it when the object has that name already."""
    called, times = name, 0
    while called in taken:
        times += 1
        called = f"{name}\0{times}"
    return called


_EVERYTHING: Final = json.JSONDecoder(object_pairs_hook=_all_of)
_SCAN: Final = json.JSONDecoder().raw_decode


def parsed(text: str) -> Any:
    """The value, with every member of objects that name one twice. Raises ValueError and RecursionError."""
    return _EVERYTHING.decode(text)


def changed(text: str, tree: Tree, inner: Inner) -> str:
    """The document with the changes made. Raises NotEditable when a changed name would be there twice."""
    start = _skip(text, 0)
    value, end = _value(text, start, tree, inner)
    return text[:start] + value + text[end:]


def _value(text: str, at: int, node: "Tree | str | Removal", inner: Inner) -> tuple[str, int]:
    """What the value at `at` becomes, and where the old one ends."""
    if isinstance(node, dict):
        hop = next((step for step in node if isinstance(step, Hop) and step is not Hop.NAME), None)
        if hop is not None:
            held, end = _SCAN(text, at)
            return _dump(inner(hop, held, _below(node, hop))), end
        return _object(text, at, node, inner) if text[at] == "{" else _list(text, at, node, inner)
    _, end = _SCAN(text, at)
    return ("null" if isinstance(node, Removal) else _dump(node)), end


def _below(node: Mapping[Step, "Tree | str | Removal"], step: Step) -> Tree:
    found = node[step]
    if isinstance(found, Removal):
        raise NotEditable
    return {Hop.TEXT: found} if isinstance(found, str) else found


def _object(text: str, at: int, node: Tree, inner: Inner) -> tuple[str, int]:
    names = _below(node, Hop.NAME) if Hop.NAME in node else {}
    seen: set[str] = set()
    written: set[str] = set()
    pieces = []
    done, at = at, _skip(text, at + 1)
    while text[at] != "}":
        start = at
        name, at = _SCAN(text, at)
        called = _called(name, seen)
        seen.add(called)
        new_name = names.get(called)
        if isinstance(new_name, str):
            pieces += [text[done:start], _dump(new_name)]
            done, name = at, new_name
        if names and name in written:
            raise NotEditable
        written.add(name)
        at = _skip(text, _skip(text, at) + 1)
        if called in node:
            value, end = _value(text, at, node[called], inner)
            pieces += [text[done:at], value]
            done = end
        else:
            _, end = _SCAN(text, at)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    pieces.append(text[done : at + 1])
    return "".join(pieces), at + 1


def _list(text: str, at: int, node: Tree, inner: Inner) -> tuple[str, int]:
    items = []
    at += 1
    index = 0
    while text[_skip(text, at)] != "]":
        start = _skip(text, at)
        change = node.get(index)
        value, end = _value(text, start, change, inner) if change is not None else ("", _SCAN(text, start)[1])
        after = _skip(text, end)
        if change is None:
            items.append(text[at:after])
        elif not (isinstance(change, Removal) and change.how == "drop"):
            items.append(text[at:start] + value + text[end:after])
        at = after + 1 if text[after] == "," else after
        index += 1
    end = _skip(text, at)
    return "[" + ",".join(items) + text[at : end + 1], end + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _dump(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
