"""What the simulator says when nobody told it what to say: always the same for the same prompt."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec

_ADJECTIVES: Final = (
    "amber", "brisk", "calm", "distant", "early", "faded", "gentle", "hollow",
    "idle", "jolly", "keen", "late", "mellow", "narrow", "opal", "patient",
)  # fmt: skip
_NOUNS: Final = (
    "anchors", "beacons", "canals", "dunes", "embers", "ferries", "gulls", "harbours",
    "islands", "jetties", "kites", "lanterns", "meadows", "nettles", "orchards", "pilots",
)  # fmt: skip
_VERBS: Final = (
    "answer", "border", "carry", "drift past", "encircle", "follow", "greet", "hide",
    "ignore", "join", "know", "leave", "measure", "name", "outlast", "pass",
)  # fmt: skip
_WORDS: Final = (*_ADJECTIVES, *_NOUNS)
_DEEPEST_SCHEMA: Final = 16


def digest_of(text: str) -> bytes:
    """The 32 bytes that decide an answer to `text`."""
    # A lone surrogate is legal in JSON and has no UTF-8 form; it must not stop an answer.
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def sentence(digest: bytes, choice: int) -> str:
    """One short sentence; `choice` tells the answers of one request apart. At least eight bytes of digest."""
    a, b, c, d, e = (digest[n] + choice for n in range(5))
    return (
        f"The {_ADJECTIVES[a % 16]} {_NOUNS[b % 16]} {_VERBS[c % 16]} "
        f"the {_ADJECTIVES[d % 16]} {_NOUNS[e % 16]} number {(digest[5] + choice) % 100}."
    )


def words(digest: bytes, choice: int, number: int) -> list[str]:
    """`number` tokens of plain words; joined they are the text."""
    many = len(_WORDS)
    spaced = [f" {_WORDS[(digest[n % 32] + n // 32 + choice) % many]}" for n in range(number)]
    return [spaced[0][1:], *spaced[1:]] if spaced else []


def json_answer(digest: bytes, choice: int, schema: Mapping[str, object] | None) -> str:
    """A JSON text: an instance of `schema`, or an object with the sentence in it when there is none."""
    said = sentence(digest, choice)
    value = {"answer": said} if schema is None else _instance(schema, schema, said, 0)
    return msgspec.json.encode(value).decode()


def _instance(schema: object, root: Mapping[str, object], said: str, depth: int) -> object:
    """A value that fits the types, constants and members of `schema`; bounds and formats are not read."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST_SCHEMA:
        return None
    if "const" in schema:
        return schema["const"]
    enum = schema.get("enum")
    if isinstance(enum, list) and enum:
        return enum[0]
    narrower = _narrower(schema, root)
    if narrower is not None:
        return _instance(narrower, root, said, depth + 1)
    return _of_kind(schema, root, said, depth)


def _narrower(schema: Mapping[str, object], root: Mapping[str, object]) -> object:
    """The schema that `schema` refers to, or the first of those it combines; None if it does neither."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _referenced(reference, root)
    for key in ("anyOf", "oneOf", "allOf"):
        options = schema.get(key)
        if isinstance(options, list) and options:
            return options[0]
    return None


def _of_kind(schema: Mapping[str, object], root: Mapping[str, object], said: str, depth: int) -> object:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    # Google's own schemas name the types in capitals.
    kind = str(kind).lower()
    if kind == "object":
        properties = schema.get("properties")
        members = properties.items() if isinstance(properties, Mapping) else ()
        return {name: _instance(member, root, said, depth + 1) for name, member in members}
    if kind == "array":
        return [_instance(schema.get("items"), root, said, depth + 1)]
    return {"string": said, "integer": 7, "number": 7.5, "boolean": True}.get(kind)


def _referenced(reference: str, root: Mapping[str, object]) -> object:
    found: object = root
    for part in reference.removeprefix("#").split("/")[1:]:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
