"""The data of server-sent events, read and changed where it stands."""

import re
from typing import Final

from trueport.gateway.texts.json_texts import Inner, Tree, changed
from trueport.gateway.texts.model import NotEditable

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_DATA: Final = "data:"


def data_lines(source: str) -> list[tuple[int, int]]:
    """Where the data of each `data:` line begins and ends."""
    spans, at = [], 0
    for end in [*(found.span() for found in _LINE_END.finditer(source)), (len(source), len(source))]:
        if source.startswith(_DATA, at):
            start = at + len(_DATA)
            spans.append((start + source.startswith(" ", start), end[0]))
        at = end[1]
    return spans


def changed_events(source: bytes, tree: Tree, inner: Inner) -> bytes:
    """The events with changes in their data, by the number of the data line."""
    text = source.decode(errors="surrogateescape")
    pieces, done = [], 0
    for number, (start, end) in enumerate(data_lines(text)):
        below = tree.get(number)
        if below is None:
            continue
        if isinstance(below, dict):
            new = changed(text[start:end], below, inner)
        elif isinstance(below, str) and _LINE_END.search(below) is None:
            new = below
        else:
            raise NotEditable
        pieces += [text[done:start], new]
        done = end
    return "".join([*pieces, text[done:]]).encode(errors="surrogateescape")
