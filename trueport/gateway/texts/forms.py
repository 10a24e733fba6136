"""The parts of a multipart body, all of them; the form's own rules are those of gateway.multipart."""

import re
from dataclasses import dataclass
from typing import Final

from trueport.gateway.multipart import InvalidForm

_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb';\s*name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_FILE: Final = re.compile(rb';\s*filename\*?="?([^";\r\n]*)', re.IGNORECASE)
_MOST_PARTS: Final = 512


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part: its name ("" for none), its file's name (None when it is no file), its type and where it stands."""

    name: str
    file_name: str | None
    content_type: str
    start: int
    end: int


def parts_of(content_type: str, body: bytes) -> list[FormPart]:
    """Every part in order. Raises InvalidForm for a body that is not read alike everywhere."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidForm("its content type names no boundary")
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    if not body.startswith(mark):
        raise InvalidForm("it does not begin with its boundary")
    parts: list[FormPart] = []
    at = len(mark)
    while not body.startswith(b"--", at):
        head_end = body.find(b"\r\n\r\n", at)
        end = body.find(b"\r\n" + mark, at)
        if not body.startswith(b"\r\n", at) or not 0 <= head_end < end or len(parts) == _MOST_PARTS:
            raise InvalidForm("a part is not complete, or there are too many")
        parts.append(_part(body[at + 2 : head_end], head_end + 4, end))
        at = end + 2 + len(mark)
    return parts


def _part(head: bytes, start: int, end: int) -> FormPart:
    stated = {}
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        stated[name.strip().lower()] = value.strip()
    disposition = stated.get(b"content-disposition", b"")
    named, file = _NAME.search(b";" + disposition), _FILE.search(disposition)
    return FormPart(
        named[1].decode(errors="replace") if named else "",
        file[1].decode(errors="replace") if file else None,
        stated.get(b"content-type", b"").decode("latin-1"),
        start,
        end,
    )
