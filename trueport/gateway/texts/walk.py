"""The walk over a JSON document: every text in it as a part, with who speaks it by where it stands."""

import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

from trueport.detection.policy import Unscannable
from trueport.detection.types import Passage, Role
from trueport.gateway.call import Wire
from trueport.gateway.texts import media
from trueport.gateway.texts.json_texts import parsed
from trueport.gateway.texts.media import MediaKind
from trueport.gateway.texts.model import Hop, Keys, Part, Removal
from trueport.gateway.texts.tables import (
    BLOCKS,
    SPEAKERS,
    TABLES,
    Inside,
    Rule,
    Rules,
    is_sealed,
    is_token,
    schema_inside,
)

_DEEPEST_JSON: Final = 4
_SHORTEST_NUMBER: Final = 10**6  # below it no number tells anything about anybody
_SNAKE: Final = re.compile(r"_([a-z0-9])")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MEDIA_TYPES: Final = ("mimeType", "mime_type", "media_type")
_UNKNOWN: Final = Rule("text", "free")
_STRUCTURE: Final = Rule("skip", "skip")
_CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_OF_CHOSEN_TOKENS: Final = frozenset({"content", "refusal", "tokens", "chosenCandidates", "chosen_candidates"})
_OPENINGS: Final = ("{", "[")
_TOKEN_WORDS: Final = _OF_CHOSEN_TOKENS | {
    *("token", "bytes", "logprob", "top_logprobs", "token_logprobs", "text_offset", "topCandidates", "candidates"),
    *("top_candidates", "logProbability", "log_probability", "logProbabilitySum", "log_probability_sum", "tokenId"),
    *("token_id",),
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is: in what, by which rule, under which member, and what an edit here would come to.

    `outer` is the type of the object around, `siblings` the list that an object is an element of.
    """

    inside: Inside
    rule: Rule
    parent: str = ""
    removal: Removal | None = None
    outer: str = ""
    siblings: Sequence[object] = ()


_FREE: Final = _Place("free", _UNKNOWN)
_SKIPPED: Final = _Place("skip", _STRUCTURE)
_SCHEMA: Final = _Place("schema", _UNKNOWN)


class Walk:
    """Collects the parts of one document, or of several in one body."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._rules: Rules = TABLES[wire]
        self.parts: list[Part] = []
        self.unscannable: list[Unscannable] = []

    def document(self, value: object, keys: Keys, path: str, role: Role, *, parent: str = "") -> None:
        """A document of the API."""
        self._any(value, keys, path, role, _Place("wire", Rule("text"), parent))

    def free(self, value: object, keys: Keys, path: str, role: Role) -> None:
        """A document of anybody's."""
        self._any(value, keys, path, role, _FREE)

    def text(
        self, text: str, keys: Keys, path: str, role: Role, group: str = "", removal: Removal | None = None
    ) -> None:
        """One text."""
        if not text or text.isspace():
            return
        if not text.isascii():
            text = _SURROGATE.sub("�", text)
        self.parts.append(Part(path, keys, Passage(text, role), group, removal))

    def content(self, content: bytes, media_type: str, keys: Keys, path: str, role: Role) -> None:
        """What stands in a body as bytes: text is read, anything else named. `keys` lead to the bytes."""
        is_declared = media.is_textual(media_type)
        found = media.text_of(content, is_declared=is_declared)
        if found is None or not (is_declared or media.looks_plain(content)):
            self.unreadable(path, media.kind_of(media_type), len(content))
            return
        self.document_text(found[0], keys, path, role)

    def document_text(self, text: str, keys: Keys, path: str, role: Role) -> None:
        """A text that may be a JSON document, which is then read in its pieces."""
        value = _json(text, keys)
        if value is None:
            self.text(text, keys, path, role)
        else:
            self.free(value, (*keys, Hop.JSON), path, role)

    def unreadable(self, path: str, kind: MediaKind, size_bytes: int) -> None:
        """Content that nobody here can read."""
        self.unscannable.append(Unscannable(path, kind, size_bytes))

    # --- values --------------------------------------------------------------------------------------------

    def _any(self, value: object, keys: Keys, path: str, role: Role, place: "_Place") -> None:
        if isinstance(value, dict):
            self._object(value, keys, path, role, place)
        elif isinstance(value, list):
            self._list(value, keys, path, role, place)
        elif isinstance(value, str):
            self._string(value, keys, path, role, place, {})
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._number(value, keys, path, role, place)

    def _list(self, value: list[object], keys: Keys, path: str, role: Role, place: "_Place") -> None:
        if value and place.inside == "wire" and place.rule.leaf == "text" and all(type(item) is int for item in value):
            # A text as the numbers of a tokenizer: the model reads it, nobody here does.
            self.unreadable(path, "unknown", 4 * len(value))
            return
        place = replace(place, siblings=value)
        for index, item in enumerate(value):
            self._any(item, (*keys, index), f"{path}[{index}]", role, place)

    def _number(self, value: int | float, keys: Keys, path: str, role: Role, place: "_Place") -> None:
        if place.inside == "free" and abs(value) >= _SHORTEST_NUMBER:
            self.text(repr(value), keys, path, role)

    def _object(self, value: dict[str, Any], keys: Keys, path: str, role: Role, place: "_Place") -> None:
        match place.inside:
            case "wire":
                self._wire_object(value, keys, path, role, place)
            case "schema":
                self._schema(value, keys, path, role)
            case _:
                self._free_object(value, keys, path, role, place)

    def _wire_object(self, value: dict[str, Any], keys: Keys, path: str, role: Role, place: "_Place") -> None:
        kind = value.get("type")
        kind = kind if isinstance(kind, str) else ""
        role = self._role(value, kind, role)
        signed = self._signed(value, kind, keys, place)
        for index, (name, inner) in enumerate(value.items()):
            rule = self._rule(kind, place.parent, name)
            if rule is None:
                self._name(name, keys, f"{path}{{{index}}}", role)
                self._any(inner, (*keys, name), f"{path}{{{index}}}", role, _FREE)
                continue
            below, keys_below = f"{path}.{name}" if path else name, (*keys, name)
            if rule.inside == "tokens":
                self._tokens(inner, keys_below, below, role, _Tokens(keys_below, below))
                continue
            own = _Place(rule.inside, rule, name, signed, kind)
            if isinstance(inner, str):
                self._string(inner, keys_below, below, rule.role or role, replace(own, outer=place.outer), value)
            else:
                self._any(inner, keys_below, below, rule.role or role, own)

    def _rule(self, kind: str, parent: str, name: str) -> Rule | None:
        if self._wire == "google":
            parent, name = _camel(parent), _camel(name)
        rules = self._rules
        return rules.get(f"{kind}.{name}") or rules.get(f"{parent}.{name}") or rules.get(name)

    def _role(self, value: Mapping[str, Any], kind: str, role: Role) -> Role:
        if (found := BLOCKS.get(kind)) is not None:
            return found
        speaker = value.get("role")
        if isinstance(speaker, str) and (spoken := SPEAKERS.get(speaker)) is not None:
            return spoken
        return "reasoning" if value.get("thought") is True else role

    def _free_object(self, value: dict[str, Any], keys: Keys, path: str, role: Role, place: "_Place") -> None:
        for index, (name, inner) in enumerate(value.items()):
            below = f"{path}{{{index}}}"
            is_structure = place.inside == "skip" and is_token(name)
            if not is_structure:
                self._name(name, keys, below, role)
            self._any(inner, (*keys, name), below, role, place if is_structure else _FREE)

    def _name(self, name: str, keys: Keys, path: str, role: Role) -> None:
        self.text(name.partition("\0")[0], (*keys, Hop.NAME, name), path, role, group=f"names:{role}")

    def _schema(self, value: dict[str, Any], keys: Keys, path: str, role: Role) -> None:
        for index, (name, inner) in enumerate(value.items()):
            below, keys_below = f"{path}{{{index}}}", (*keys, name)
            kind = schema_inside(name)
            if kind == "names" and isinstance(inner, dict):
                for place, (named, schema) in enumerate(inner.items()):
                    self._name(named, keys_below, f"{below}{{{place}}}", role)
                    self._any(schema, (*keys_below, named), f"{below}{{{place}}}", role, _SCHEMA)
            elif kind == "schema":
                self._any(inner, keys_below, below, role, _SCHEMA)
            elif kind == "skip":
                self._any(inner, keys_below, below, role, _SKIPPED)
            else:
                if kind != "text":
                    self._name(name, keys, below, role)
                self._any(inner, keys_below, below, role, _FREE)

    def _tokens(self, value: object, keys: Keys, path: str, role: Role, of: "_Tokens") -> None:
        """Log probabilities. The chosen tokens make up the text again; those that were not stand beside it."""
        if isinstance(value, str):
            group = f"+tokens:{of.path}" if of.are_chosen else f"tokens:{of.path}"
            self.text(value, keys, path, role, group, Removal(of.keys, "null"))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._tokens(item, (*keys, index), f"{path}[{index}]", role, of)
        elif isinstance(value, dict):
            for name, inner in value.items():
                is_word = name in _TOKEN_WORDS
                if not is_word:
                    self._tokens(name, (*keys, Hop.NAME, name), path, role, of.others)
                below = of.below(name) if name in _OF_CHOSEN_TOKENS else of if name == "token" else of.others
                self._tokens(inner, (*keys, name), f"{path}.{name}" if is_word else path, role, below)

    # --- strings -------------------------------------------------------------------------------------------

    def _string(
        self, value: str, keys: Keys, path: str, role: Role, place: "_Place", beside: Mapping[str, Any]
    ) -> None:
        leaf = place.rule.leaf
        match leaf:
            case "text":
                self._text(value, keys, path, role, place.removal)
            case "json":
                self.document_text(value, keys, path, role)
            case "base64" | "url":
                self._media(value, keys, path, role, place, beside)
            case "link":
                self.text(value, keys, path, role)
            case "skip" | "file" | "encrypted" | "vector":
                if value and leaf in ("file", "encrypted"):
                    kind = "encrypted" if leaf == "encrypted" else place.rule.kind
                    self.unreadable(path, kind, 0 if leaf == "file" else media.size_bytes(value))
                # What does not look like what belongs here is read like any text.
                if not (is_sealed if leaf in ("encrypted", "vector") else is_token)(value):
                    self.text(value, keys, path, role, removal=place.removal)
            case _:
                assert_never(leaf)

    def _text(self, value: str, keys: Keys, path: str, role: Role, removal: Removal | None) -> None:
        if (stated := media.sniffed(value)) is not None:
            self.unreadable(path, media.kind_of(stated), media.size_bytes(value))
        elif role == "tool_result" and removal is None:
            self.document_text(value, keys, path, role)
        else:
            self.text(value, keys, path, role, removal=removal)
        encoded = media.data_url(value)
        if encoded is not None and encoded.is_base64 and media.is_base64(encoded.payload):
            self._encoded(encoded.payload, encoded.media_type, (*keys, Hop.DATA_URL), path, role)

    def _media(self, value: str, keys: Keys, path: str, role: Role, place: "_Place", beside: Mapping[str, Any]) -> None:
        rule, kind = place.rule, place.rule.kind
        if kind == "file" and place.outer in ("image", "audio", "video"):
            kind = place.outer  # type: ignore[assignment]  # just compared
        encoded = media.data_url(value)
        if encoded is not None:
            if encoded.is_base64 and media.is_base64(encoded.payload):
                self._encoded(encoded.payload, encoded.media_type, (*keys, Hop.DATA_URL), path, role)
            else:
                self.text(value, keys, path, role)
                if not media.is_textual(encoded.media_type):
                    self.unreadable(path, media.kind_of(encoded.media_type), len(encoded.payload))
        elif rule.leaf == "url":
            if value:
                self.unreadable(path, _kind(beside, kind), 0)
            self.text(value, keys, path, "metadata")
        elif media.is_base64(value):
            self._encoded(value, _media_type(beside, kind), (*keys, Hop.BASE64), path, role)
        else:
            self.text(value, keys, path, role)

    def _encoded(self, payload: str, media_type: str, keys: Keys, path: str, role: Role) -> None:
        if not payload:
            return
        is_declared = media.is_textual(media_type)
        content = media.unbase64(payload) if is_declared or media.looks_like_text(payload) else None
        found = None if content is None else media.text_of(content, is_declared=is_declared)
        if found is None:
            self.unreadable(path, media.kind_of(media_type), media.size_bytes(payload))
        else:
            self.document_text(found[0], keys, path, "document" if role == "user" else role)

    # --- signed thoughts -----------------------------------------------------------------------------------

    def _signed(self, value: Mapping[str, Any], kind: str, keys: Keys, place: "_Place") -> Removal | None:
        """What becomes of a block that its model has signed when policy wants another text in it.

        The provider refuses a thought that was changed. It takes a turn without its thoughts, except while calls of
        tools that follow from them are open, and it takes no empty turn.
        """
        if self._wire == "anthropic":
            is_signed = kind in ("thinking", "redacted_thinking") and "signature" in value
        else:
            is_signed = self._wire == "google" and value.get("thought") is True and _has_signature(value)
        if not is_signed:
            return None
        around = place.siblings
        others = [block for block in around if block is not value and not _is_thought(block)]
        if not isinstance(keys[-1] if keys else "", int) or not others or any(map(_calls_tool, others)):
            return Removal(keys, "refuse")
        return Removal(keys, "drop")


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Where log probabilities begin, under which list of them the walk is, and whether these are the chosen ones."""

    keys: Keys
    path: str
    are_chosen: bool = True

    @property
    def others(self) -> "_Tokens":
        return replace(self, are_chosen=False)

    def below(self, name: str) -> "_Tokens":
        return replace(self, path=f"{self.path}.{name}")


def _camel(name: str) -> str:
    """Google takes its members in both spellings."""
    return _SNAKE.sub(lambda found: found[1].upper(), name) if "_" in name else name


def _is_thought(block: object) -> bool:
    return isinstance(block, dict) and (block.get("thought") is True or block.get("type") in _THOUGHTS)


def _calls_tool(block: object) -> bool:
    return isinstance(block, dict) and (
        block.get("type") in _CALLS or "functionCall" in block or "function_call" in block
    )


def _has_signature(value: Mapping[str, Any]) -> bool:
    return "thoughtSignature" in value or "thought_signature" in value


def _stated_type(beside: Mapping[str, Any]) -> str | None:
    return next((found for name in _MEDIA_TYPES if isinstance(found := beside.get(name), str) and found), None)


def _kind(beside: Mapping[str, Any], kind: MediaKind) -> MediaKind:
    stated = _stated_type(beside)
    return kind if stated is None else media.kind_of(stated)


def _media_type(beside: Mapping[str, Any], kind: MediaKind) -> str:
    """By the word of the member beside it, else by the file's name, else by what stands in such a place."""
    stated = _stated_type(beside)
    if stated is not None:
        return stated
    file_name = beside.get("filename")
    guessed = mimetypes.guess_type(file_name)[0] if isinstance(file_name, str) else None
    return guessed or f"{kind}/*"


def _json(text: str, keys: Keys) -> object:
    """The object or list that a text spells, None for any other text."""
    if text[:1] not in _OPENINGS and text.lstrip()[:1] not in _OPENINGS:
        return None
    if sum(step is Hop.JSON for step in keys) >= _DEEPEST_JSON:
        return None
    try:
        value: object = parsed(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None
