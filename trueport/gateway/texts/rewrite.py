"""A body with some of its texts changed, whatever the body is; every byte that no change is about stays."""

from collections.abc import Mapping
from typing import assert_never
from urllib.parse import quote, quote_plus, unquote_plus

from trueport.gateway.texts import media
from trueport.gateway.texts.events import changed_events
from trueport.gateway.texts.forms import parts_of
from trueport.gateway.texts.json_texts import Tree, changed
from trueport.gateway.texts.model import Body, Hop, Keys, NotEditable, Removal, Step


def rewritten(body: Body, changes: Mapping[Keys, str | Removal]) -> bytes:
    """The body with the changes made. Raises NotEditable for a change that cannot be."""
    if any(isinstance(change, Removal) and change.how == "refuse" for change in changes.values()):
        raise NotEditable
    return _bytes(body.hop, body.source, _tree(changes), body.content_type)


def _tree(changes: Mapping[Keys, str | Removal]) -> Tree:
    """The changes by their steps. What is removed has no changes inside."""
    root: Tree = {}
    # A removal of something goes before the changes in it.
    for keys, change in sorted(changes.items(), key=lambda pair: (not isinstance(pair[1], Removal), len(pair[0]))):
        node = root
        for step in keys[:-1]:
            below = node.setdefault(step, {})
            if not isinstance(below, dict):
                break
            node = below
        else:
            node.setdefault(keys[-1] if keys else Hop.TEXT, change)
    return root


def _bytes(hop: Hop, source: bytes, tree: Tree, content_type: str) -> bytes:
    """`source` with changes, where it stands as bytes."""
    match hop:
        case Hop.FORM:
            return _form(source, tree, content_type)
        case Hop.PAIRS:
            return _pairs(source, tree)
        case Hop.EVENTS:
            return changed_events(source, tree, _inner)
        case Hop.LINES:
            return _lines(source.decode(errors="surrogateescape"), tree).encode(errors="surrogateescape")
        case Hop.JSON:
            return changed(source.decode(), tree, _inner).encode()
        case Hop.TEXT:
            found = media.text_of(source, is_declared=True)
            if found is None:
                raise NotEditable
            return _text(found[0], tree).encode(found[1], "replace")
        case Hop.NAME | Hop.DATA_URL | Hop.BASE64:
            raise NotEditable
        case _:
            assert_never(hop)


def _inner(hop: Hop, text: str, tree: Tree) -> str:
    """`text` with changes, where it is a string of a document."""
    match hop:
        case Hop.JSON:
            return changed(text, tree, _inner)
        case Hop.LINES:
            return _lines(text, tree)
        case Hop.TEXT:
            return _text(text, tree)
        case Hop.BASE64:
            return _base64(text, tree)
        case Hop.DATA_URL:
            found = media.data_url(text)
            if found is None:
                raise NotEditable
            return found.head + (_base64(found.payload, tree) if found.is_base64 else quote(_text(text, tree)))
        case Hop.FORM | Hop.PAIRS | Hop.EVENTS | Hop.NAME:
            raise NotEditable
        case _:
            assert_never(hop)


def _base64(payload: str, tree: Tree) -> str:
    content = media.unbase64(payload)
    found = None if content is None else media.text_of(content, is_declared=True)
    if found is None:
        raise NotEditable
    text, codec = found
    hop = next(iter(tree))
    below = tree[hop]
    text = _inner(hop, text, below) if hop is Hop.JSON and isinstance(below, dict) else _text(text, tree)
    return media.rebase64(text.encode(codec, "replace"))


def _text(text: str, tree: Tree) -> str:
    """What takes the place of a whole text, or of the document in it."""
    below = tree.get(Hop.JSON)
    if isinstance(below, dict):
        return changed(text, below, _inner)
    change = tree.get(Hop.TEXT, text)
    if not isinstance(change, str):
        raise NotEditable
    return change


def _lines(text: str, tree: Tree) -> str:
    lines = text.split("\n")
    for number, below in tree.items():
        if not isinstance(number, int) or isinstance(below, Removal):
            raise NotEditable
        # A line that is no document is changed as a whole.
        lines[number] = below if isinstance(below, str) else changed(lines[number], below, _inner)
    return "\n".join(lines)


def _form(source: bytes, tree: Tree, content_type: str) -> bytes:
    pieces, done = [], 0
    for number, part in enumerate(parts_of(content_type, source)):
        below = tree.get(number)
        if below is None:
            continue
        content = source[part.start : part.end]
        new = _part(content, below)
        pieces += [source[done : part.start], new]
        done = part.end
    return b"".join([*pieces, source[done:]])


def _part(content: bytes, below: "Tree | str | Removal") -> bytes:
    if isinstance(below, dict):
        hop: Step = next(iter(below))
        inside = below[hop]
        if hop is Hop.LINES and isinstance(inside, dict):
            return _bytes(Hop.LINES, content, inside, "")
        return _bytes(Hop.TEXT, content, below, "")
    if isinstance(below, Removal):
        raise NotEditable
    found = media.text_of(content, is_declared=True)
    return below.encode(found[1] if found else "utf-8", "replace")


def _pairs(source: bytes, tree: Tree) -> bytes:
    pairs = source.split(b"&")
    for number, below in tree.items():
        if not isinstance(number, int) or not isinstance(below, str):
            raise NotEditable
        name, _, _ = pairs[number].partition(b"=")
        pairs[number] = name + b"=" + quote_plus(below).encode()
    return b"&".join(pairs)


def unquoted(pair: bytes) -> tuple[str, str]:
    """The name and the value of a pair in a urlencoded form."""
    name, _, value = pair.decode("latin-1").partition("=")
    return unquote_plus(name), unquote_plus(value)
