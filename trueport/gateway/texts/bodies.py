"""The texts of requests and answers: what kind of body it is, and which documents are in it."""

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from trueport.detection.policy import Unscannable
from trueport.detection.types import Role
from trueport.gateway.call import Request, Wire
from trueport.gateway.texts import media
from trueport.gateway.texts.events import data_lines
from trueport.gateway.texts.forms import FormPart, parts_of
from trueport.gateway.texts.json_texts import parsed
from trueport.gateway.texts.model import Body, Hop, Keys, Part, Removal
from trueport.gateway.texts.rewrite import rewritten, unquoted
from trueport.gateway.texts.tables import is_token
from trueport.gateway.texts.walk import Walk

_FIELD_ROLES: Final[Mapping[str, Role]] = {"prompt": "user", "input": "user", "text": "user", "instructions": "system"}
_JSON_FIELDS: Final = frozenset({"metadata", "file", "chunking_strategy"})
# Fields of the API's forms that are structure, where they look like it.
_STRUCTURE_FIELDS: Final = frozenset(
    {
        *("model", "purpose", "response_format", "language", "temperature", "stream", "size", "quality", "n", "style"),
        *("background", "output_format", "output_compression", "input_fidelity", "partial_images", "moderation"),
        *("timestamp_granularities[]", "timestamp_granularities", "include[]", "include", "expires_after[anchor]"),
        *("expires_after[seconds]", "upload_id", "part_number", "endpoint"),
    }
)
_CHANNELS: Final = ("index", "output_index", "content_index", "summary_index")


@dataclass(frozen=True, slots=True)
class Texts:
    """Everything in one body that a model or a person may read, in order, and what could not be read."""

    body: Body
    parts: tuple[Part, ...]
    unscannable: tuple[Unscannable, ...]

    def with_texts(self, edits: Mapping[int, str]) -> bytes:
        """The body with other texts in the parts numbered so; every other byte as it was.

        Raises NotEditable.
        """
        changes: dict[Keys, str | Removal] = {}
        for index, text in edits.items():
            part = self.parts[index]
            if part.removal is not None:
                changes[part.removal.keys] = part.removal
            elif text != part.passage.text:
                changes[part.keys] = text
        return rewritten(self.body, changes) if changes else self.body.source


def of_request(wire: Wire, request: Request) -> Texts:
    """The texts of a request in its wire. Raises InvalidForm for a form that is not read alike everywhere."""
    walk = Walk(wire)
    if request.members is not None:
        walk.document(dict(request.members), (), "", "metadata", parent="request")
        return _found(walk, Body(Hop.JSON, request.body))
    return _of_bytes(walk, request.body, request.content_type, "user")


def of_answer(wire: Wire, body: bytes, content_type: str) -> Texts:
    """The texts of an answer in a wire, whatever the operation. An answer that cannot be read is named as such."""
    walk = Walk(wire)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _of_events(walk, body)
    return _of_bytes(walk, body, content_type, "assistant")


def _found(walk: Walk, body: Body) -> Texts:
    return Texts(body, tuple(walk.parts), tuple(walk.unscannable))


def _of_bytes(walk: Walk, body: bytes, content_type: str, role: Role) -> Texts:
    if not body:
        return _found(walk, Body(Hop.TEXT, body))
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        _walk_form(walk, body, content_type)
        return _found(walk, Body(Hop.FORM, body, content_type))
    if kind == "application/x-www-form-urlencoded":
        for number, pair in enumerate(body.split(b"&")):
            name, value = unquoted(pair)
            if not is_token(name):
                # Nothing here is named like this: what it says is read with its value.
                value = f"{name}={value}"
            walk.text(value, (number,), f"form[{number}]", _FIELD_ROLES.get(name, "metadata"))
        return _found(walk, Body(Hop.PAIRS, body))
    hop = _walk_content(walk, body, content_type, (), "", role)
    if hop is Hop.TEXT and kind == "application/json":
        # It was to be JSON and is not: whatever reads it leniently may see another text.
        walk.unreadable("", "unknown", len(body))
    return _found(walk, Body(hop, body))


def _walk_form(walk: Walk, body: bytes, content_type: str) -> None:
    for number, part in enumerate(parts_of(content_type, body)):
        path = f"form[{number}]"
        for what, name in (("filename", part.file_name or ""), ("name", part.name)):
            if not is_token(name):
                keys = (number, Hop.NAME, what)
                walk.text(name, keys, f"{path}.{what}", "metadata", removal=Removal(keys, "refuse"))
        content = body[part.start : part.end]
        if part.file_name is None and not part.content_type:
            _walk_field(walk, part, content, (number,), path)
        else:
            stated = part.content_type.partition(";")[0].strip().lower()
            if stated in ("", "application/octet-stream"):
                stated = mimetypes.guess_type(part.file_name or "")[0] or stated
            _walk_content(walk, content, stated, (number,), path, "document")


def _walk_field(walk: Walk, part: FormPart, content: bytes, keys: Keys, path: str) -> None:
    found = media.text_of(content)
    role = _FIELD_ROLES.get(part.name, "metadata")
    if found is None:
        walk.content(content, "application/octet-stream", keys, path, role)
    elif part.name in _JSON_FIELDS:
        walk.document_text(found[0], keys, path, role)
    elif part.name not in _STRUCTURE_FIELDS or not is_token(found[0]):
        walk.text(found[0], keys, path, role)


def _walk_content(walk: Walk, content: bytes, media_type: str, keys: Keys, path: str, role: Role) -> Hop:
    """Reads content by what it is rather than by what it is called; the hop by which it was read."""
    is_declared = media.is_textual(media_type)
    found = media.text_of(content, is_declared=is_declared)
    if found is None or not (is_declared or media.looks_plain(content)):
        if content:
            walk.content(content, media_type, keys, path, role)
        return Hop.TEXT
    text = found[0]
    if not keys and (value := _parsed(text)) is not None:
        if isinstance(value, list):
            # Google's streams for clients that do not ask for events.
            for number, piece in enumerate(value):
                _walk_piece(walk, piece, number, f"[{number}]")
        else:
            walk.document(value, keys, path, role)
        return Hop.JSON
    lines = _documents(text)
    if lines is not None:
        below = (*keys, Hop.LINES) if keys else keys
        for number, document in lines.items():
            where = f"{path}[{number}]"
            if isinstance(document, str):
                walk.text(document, (*below, number), where, role)
            else:
                walk.document(document, (*below, number), where, role, parent="line")
        return Hop.LINES
    walk.document_text(text, keys, path, role)
    return Hop.TEXT


def _parsed(text: str) -> object:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value: object = parsed(text)
    except (ValueError, RecursionError):
        return None
    return value


def _documents(text: str) -> dict[int, object] | None:
    """The documents of a file with one on each line, by line; a line that is none as its text. None for other text."""
    first, _, rest = text.lstrip().partition("\n")
    if not first.startswith("{") or not isinstance(_parsed(first), dict):
        return None
    if rest.strip() and not rest.lstrip().startswith("{"):
        return None
    found = {}
    for number, line in enumerate(text.split("\n")):
        if line.strip():
            value = _parsed(line)
            found[number] = line if value is None else value
    return found


def _of_events(walk: Walk, body: bytes) -> Texts:
    """Server-sent events, all of them: what their deltas add up to is one text each."""
    text = body.decode(errors="surrogateescape")
    last = 0
    for number, (start, end) in enumerate(data_lines(text)):
        _walk_between(walk, text[last:start], number)
        last = end
        data = text[start:end]
        value = _parsed(data)
        path = f"events[{number}]"
        if value is None:
            if data.strip() and data.strip() != "[DONE]":
                walk.text(data, (number,), path, "assistant", "+events")
            continue
        _walk_piece(walk, value, number, path)
    _walk_between(walk, text[last:], -1)
    return _found(walk, Body(Hop.EVENTS, body))


def _walk_piece(walk: Walk, value: object, number: int, path: str) -> None:
    """One of many that have the same members: what they have in the same place adds up to one text."""
    begin = len(walk.parts)
    walk.document(value, (number,), path, "assistant")
    channel = _channel(value)
    walk.parts[begin:] = [
        replace(part, group=f"+{channel}{part.path.removeprefix(path)}") for part in walk.parts[begin:]
    ]


def _walk_between(walk: Walk, text: str, number: int) -> None:
    """Comments, names and ids of events."""
    keys: Keys = (number, Hop.NAME, "between")
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if not (name in ("event", "id", "retry", "data") and is_token(value.strip())):
            walk.text(line, keys, f"events[{number}]", "assistant", removal=Removal(keys, "refuse"))


def _channel(value: object) -> str:
    """What tells the texts of one event from those of another with the same members."""
    if not isinstance(value, dict):
        return ""
    told = [value.get(name) for name in _CHANNELS]
    choices = value.get("choices") or value.get("candidates")
    if isinstance(choices, list):
        told += [choice.get("index") for choice in choices if isinstance(choice, dict)]
    return ",".join(str(number) if isinstance(number, int) else "" for number in told)
