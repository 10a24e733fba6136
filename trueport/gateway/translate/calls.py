"""The arguments of tool calls: JSON text as the model wrote it, an object where a format wants one."""

from typing import Final

import msgspec

from trueport.gateway.translate.rules import UnreadableAnswer

_json: Final = msgspec.json.Decoder()


def json_object(text: str) -> dict[str, object] | None:
    """The JSON object that `text` is, None when it is none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = _json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def json_text(value: object) -> str:
    """`value` as JSON text without spaces."""
    return msgspec.json.encode(value).decode()


def arguments_object(arguments: str, *, was_cut: bool) -> dict[str, object] | None:
    """Arguments as an object, empty for none at all; None for those that an answer's length limit cut off.

    Raises UnreadableAnswer for what the model wrote that is no object: a format that wants one cannot say it, and an
    empty one in its place would call the tool with something the model never asked for.
    """
    if not arguments.strip():
        return {}
    found = json_object(arguments)
    if found is None and not was_cut:
        raise UnreadableAnswer("The model called a tool with arguments that are not a JSON object.")
    return found


class ObjectEnd:
    """Watches JSON text arrive piece by piece and says when the object that it is has been closed.

    Counts braces outside of strings, so that a long text is looked at once and not once per piece.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "is_closed")

    def __init__(self) -> None:
        self.is_closed = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> None:
        for character in text:
            if self._in_string:
                self._read_in_string(character)
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_closed = True

    def _read_in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
