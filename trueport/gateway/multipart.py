"""The form fields of a multipart body, and one of them replaced; every other byte stays.

Source of the format: RFC 7578 and RFC 2046 section 5.1.1. Parsers differ on repeated names, on what may stand before
the first boundary and on folded headers; a body that leaves room for two readings is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trueport.kit.errors import InvalidRequest

_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb';\s*name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_FILE: Final = re.compile(rb";\s*filename\*?=", re.IGNORECASE)
_MOST_PARTS: Final = 512
# Lists are sent as the same name again and again; everything else may stand there once.
_REPEATABLE: Final = re.compile(rb".*\[\]|timestamp_granularities|include|image|file")


class InvalidForm(InvalidRequest):
    """The body is not a form that every parser reads alike."""

    code = "invalid_form"

    def __init__(self, what: str) -> None:
        super().__init__(f"The multipart body cannot be read: {what}.", param="body")


@dataclass(frozen=True, slots=True)
class Field:
    """Where a part's content begins and ends in the body, and whether it is a file."""

    start: int
    end: int
    is_file: bool


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def read_form(content_type: str, body: bytes) -> dict[str, Field]:
    """The parts by name, the first of each. Raises InvalidForm."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidForm("its content type names no boundary")
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    if not body.startswith(mark):
        raise InvalidForm("it does not begin with its boundary")
    fields: dict[str, Field] = {}
    at = len(mark)
    for _ in range(_MOST_PARTS):
        if body.startswith(b"--", at):
            return fields
        if not body.startswith(b"\r\n", at):
            raise InvalidForm("a boundary is followed by other text")
        head_end = body.find(b"\r\n\r\n", at)
        end = body.find(b"\r\n" + mark, at)
        if not 0 <= head_end < end:
            raise InvalidForm("a part is not complete")
        name, is_file = _named(body[at + 2 : head_end])
        if name not in fields:
            fields[name] = Field(head_end + 4, end, is_file)
        elif _REPEATABLE.fullmatch(name.encode()) is None:
            raise InvalidForm("a field is there twice")
        at = end + 2 + len(mark)
    raise InvalidForm(f"it has more than {_MOST_PARTS} parts")


def text_of(body: bytes, fields: Mapping[str, Field], name: str) -> str | None:
    """The text of a field that is no file, None when there is none. Raises InvalidForm when it is not UTF-8."""
    field = fields.get(name)
    if field is None or field.is_file:
        return None
    try:
        return body[field.start : field.end].decode()
    except UnicodeDecodeError as error:
        raise InvalidForm("a field is not UTF-8") from error


def with_text(body: bytes, field: Field, text: str) -> bytes:
    """The body with another text in `field`."""
    return body[: field.start] + text.encode() + body[field.end :]


def _named(head: bytes) -> tuple[str, bool]:
    lines = head.split(b"\r\n")
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise InvalidForm("a header is folded")
    stated = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"content-disposition:")]
    named = [name for value in stated for name in _NAME.findall(value)]
    if len(stated) != 1 or len(named) != 1:
        raise InvalidForm("a part does not have one name")
    try:
        return named[0].decode(), _FILE.search(stated[0]) is not None
    except UnicodeDecodeError as error:
        raise InvalidForm("a name is not UTF-8") from error
