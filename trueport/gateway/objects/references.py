"""Which objects a request names: in its path, its query and its body."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from trueport.gateway.call import Request, Wire
from trueport.gateway.dialects.body import TooMany
from trueport.gateway.dialects.meter import UNREADABLE
from trueport.gateway.multipart import is_form, read_form, text_of
from trueport.gateway.objects.base import Reference
from trueport.gateway.objects.google import named_in
from trueport.gateway.objects.place import GENERATES, READS, is_list, place_of
from trueport.gateway.objects.tables import ACCOUNT_WIDE, CURSORS, ITEMS, MEMBERS, OPAQUE, snake
from trueport.kit.errors import InvalidRequest

MOST_REFERENCES: Final = 2_048
_NEVER_MADE: Final = "*"
# An escaped letter could hide a member's name from a search for it.
_ESCAPED: Final = re.compile(rb"\\u00[2-7]")

Naming = Callable[[str, str], str | None]
"""The object that a text names as the value of a member; None when it names none."""


def references(wire: Wire, request: Request, hosts: Collection[str] = ()) -> tuple[Reference, ...]:
    """The objects that a request names, each once.

    `hosts` are those that the tenant's own credentials lead to: for Google a URI at one of them is a name. Raises
    TooMany beyond MOST_REFERENCES, and InvalidRequest for a form that cannot be read or that names a list of objects.
    """
    found: dict[str, Reference] = {}
    if request.body:
        found = {each.id: each for each in _in_body(wire, request, hosts)}
    if request.query:
        found |= {each.id: each for each in _in_query(wire, request)}
    found |= {each.id: each for each in _in_path(wire, request)}
    if len(found) > MOST_REFERENCES:
        raise TooMany(f"At most {MOST_REFERENCES} objects can be named in one request.")
    return tuple(found.values())


def _in_path(wire: Wire, request: Request) -> Iterator[Reference]:
    if wire == "google" and request.model is not None and request.model.startswith("tunedModels/"):
        yield Reference("tuned_model", "/".join(request.model.split("/")[:2]), "path")
    if request.kind in GENERATES:
        return
    place = place_of(wire, request)
    if place.id is None:
        return
    if place.collection == "models":
        if request.method not in READS:
            yield Reference("model", request.model or place.id, "path")
    elif place.kind is not None:
        yield Reference(place.kind, place.id, "path")
    elif request.method != "POST" or place.rest:
        # What comes after something unknown in a short POST is rather a verb.
        yield Reference(place.collection, place.id, "path")


def _in_query(wire: Wire, request: Request) -> Iterator[Reference]:
    if not is_list(wire, request):
        return
    place = place_of(wire, request)
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name.lower() in CURSORS[wire] and value:
            yield Reference(place.kind or place.collection, value, name.lower())


# Bodies


@dataclass(frozen=True, slots=True)
class _Rules:
    """How to read the bodies of one wire. `mark`: a body without it names nothing."""

    kinds: Mapping[str, str]
    opaque: frozenset[str]
    mark: re.Pattern[bytes]


def _rules(wire: Wire) -> _Rules:
    kinds, opaque = dict(MEMBERS[wire]), OPAQUE[wire]
    if wire == "google":
        kinds |= {snake(name): kind for name, kind in kinds.items()}
        opaque |= {snake(name) for name in opaque}
    return _Rules(kinds, opaque, _quoted([*kinds, "audio"] if wire == "openai" else kinds))


def _quoted(names: Collection[str]) -> re.Pattern[bytes]:
    """Any of the names in quotes. The look at the first letter makes the search several times faster."""
    first = "".join(sorted({name[0] for name in names}))
    return re.compile(f'"(?=[{first}])(?:{"|".join(map(re.escape, names))})"'.encode())


_RULES: Final[Mapping[Wire, _Rules]] = {"openai": _rules("openai"), "anthropic": _rules("anthropic"),
                                        "google": _rules("google")}  # fmt: skip
_OF_ITEMS: Final = _quoted([*ITEMS, "id"])


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one body: one with input items of OpenAI's Responses (`has_items`), or that `evaluates` what is kept."""

    wire: Wire
    rules: _Rules
    naming: Naming
    has_items: bool = False
    evaluates: bool = False

    def may_name(self, body: bytes) -> bool:
        """Whether a body could name an object: a search of its bytes, so that most calls cost no more."""
        return (
            self.rules.mark.search(body) is not None
            or (self.has_items and _OF_ITEMS.search(body) is not None)
            or self.evaluates
            or (b"\\u00" in body and _ESCAPED.search(body) is not None)
        )

    def walk(self, root: object) -> Iterator[Reference]:
        """What any object in the value names, however deep."""
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, list):
                waiting += [child for child in node if isinstance(child, dict | list)]
            elif isinstance(node, dict):
                yield from self._in_object(node)
                waiting += [
                    value
                    for name, value in node.items()
                    if isinstance(value, dict | list) and name not in self.rules.opaque
                ]

    def named(self, member: str, value: object) -> Iterator[Reference]:
        """The ids in the value of a member that names objects."""
        for each in value if isinstance(value, list) else [value]:
            text = each.get("id") if isinstance(each, dict) else each
            name = self.naming(member, text) if isinstance(text, str) else None
            if name:
                yield Reference(self.rules.kinds[member], name, member)

    def text(self, text: bytes) -> Iterator[Reference]:
        try:
            value = msgspec.json.decode(text)
        except UNREADABLE:
            return
        yield from self.walk(value)

    def _in_object(self, node: dict[str, object]) -> Iterator[Reference]:
        for member in self.rules.kinds.keys() & node.keys():
            if member == "skill_id" and node.get("type") not in (None, "custom", "skill_reference"):
                continue  # the provider's own
            yield from self.named(member, node[member])
        if self.wire == "openai":
            yield from self._by_type(node)
            yield from self._bare_items(node)

    def _by_type(self, node: dict[str, object]) -> Iterator[Reference]:
        kind, name = node.get("type"), _text(node, "id")
        if self.evaluates and kind in ACCOUNT_WIDE:
            yield Reference(str(kind), _NEVER_MADE, "type")
        if kind == "file_id" and name is not None:
            yield Reference("file", name, "id")
        if self.has_items and isinstance(kind, str) and kind in ITEMS and name is not None:
            complete = ITEMS[kind]
            if complete is None or _text(node, complete) is None:
                yield Reference("item", name, "input")
        audio = node.get("audio")
        if node.get("role") == "assistant" and isinstance(audio, dict) and (name := _text(audio, "id")) is not None:
            yield Reference("audio", name, "audio")

    def _bare_items(self, node: dict[str, object]) -> Iterator[Reference]:
        """An item that says nothing but its id is a reference, though it does not say so."""
        for member in ("input", "items") if self.has_items else ():
            items = node.get(member)
            for item in items if isinstance(items, list) else ():
                is_bare = isinstance(item, dict) and item.get("type") is None and "role" not in item
                if is_bare and (name := _text(item, "id")) is not None:
                    yield Reference("item", name, member)


def _text(node: dict[str, object], member: str) -> str | None:
    value = node.get(member)
    return value if isinstance(value, str) and value else None


def _as_it_is(_: str, text: str) -> str:
    return text


def _in_body(wire: Wire, request: Request, hosts: Collection[str]) -> Iterator[Reference]:
    family = request.operation.partition("/")[0] if wire == "openai" else ""
    reader = _Reader(
        wire,
        _RULES[wire],
        partial(_googles, hosts) if wire == "google" else _as_it_is,
        has_items=family in ("responses", "conversations"),
        evaluates=family == "evals",
    )
    if request.members is not None:
        if reader.may_name(request.body):
            yield from reader.walk(request.members)
    elif is_form(request.content_type):
        yield from _in_form(reader, request)
    elif not request.operation.startswith("upload/"):
        yield from _in_other_form(reader, request)


def _googles(hosts: Collection[str], member: str, text: str) -> str | None:
    return named_in(member, text, hosts)


def _in_form(reader: _Reader, request: Request) -> Iterator[Reference]:
    body, content_type = request.body, request.content_type
    fields = read_form(content_type, body)
    for label, field in fields.items():
        member = _member(label)
        if member in reader.rules.kinds:
            if label.endswith("[]"):
                raise InvalidRequest("Send a list of objects as JSON.", param=label)
            yield from reader.named(member, body[field.start : field.end].decode("utf-8", "replace"))
        elif not field.is_file and body[field.start : field.end].lstrip()[:1] in (b"{", b"["):
            yield from reader.text(body[field.start : field.end])
    file = fields.get("file")
    if reader.wire == "openai" and file is not None and text_of(body, fields, "purpose") == "batch":
        yield from _in_lines(reader, body[file.start : file.end])


def _in_lines(reader: _Reader, text: bytes) -> Iterator[Reference]:
    """What the requests in a batch's input name."""
    with_items = _Reader(reader.wire, reader.rules, reader.naming, has_items=True)
    if not with_items.may_name(text):
        return
    for line in filter(with_items.may_name, text.splitlines()):
        try:
            asked = msgspec.json.decode(line)
        except UNREADABLE:
            continue  # nor will the provider make anything of it
        if isinstance(asked, dict):
            is_response = "responses" in str(asked.get("url"))
            yield from (with_items if is_response else reader).walk(asked.get("body"))


def _in_other_form(reader: _Reader, request: Request) -> Iterator[Reference]:
    """A body of another type, read as what a lenient provider could take it for."""
    body = request.body
    if body[:256].lstrip()[:1] in (b"{", b"["):
        yield from reader.text(body)
    elif request.content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        for label, value in parse_qsl(body.decode("utf-8", "replace")):
            if (member := _member(label)) in reader.rules.kinds:
                yield from reader.named(member, value)


def _member(label: str) -> str:
    """The member that a form's field stands for: the last name in `input_reference[file_id]`."""
    return label.removesuffix("[]").rpartition("[")[2].rstrip("]")
