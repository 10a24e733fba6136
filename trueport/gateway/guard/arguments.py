"""The arguments of a tool's call: JSON text in pieces, judged once it is whole."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from trueport.gateway.guard.base import Edit, Judge, extract
from trueport.gateway.guard.channel import PLACEHOLDER, Restore
from trueport.gateway.texts import NotEditable
from trueport.gateway.translate.calls import ObjectEnd

# A string with its closing quote, where it has one; a number; everything else is structure.
_TOKEN: Final = re.compile(r'"(?P<string>(?:[^"\\]|\\.)*+)(?P<close>"?)|(?P<number>-?[0-9][0-9.eE+-]*)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PLAIN: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LONGEST: Final = 4 << 20  # code points; a client could do nothing with more


class ArgumentsChannel:
    """Implements Channel. Nothing is released before the object has been closed, or the call is over.

    What comes behind a closed object, as from imitations that give several calls one number, waits for the end.
    """

    def __init__(self, path: str, judge: Judge, restore: Restore | None = None) -> None:
        self.path = path
        self.length = 0
        self.released = 0
        self.edits: list[Edit] = []
        self.is_over = False
        self.quiet = 0
        self._judge = judge
        self._restore = restore
        self._pieces: list[str] = []
        self._end = ObjectEnd()
        self._digest = blake2b(digest_size=16)

    async def append(self, text: str) -> None:
        self.is_over = False
        self.quiet = 0
        self.length += len(text)
        self._digest.update(text.encode(errors="surrogatepass"))
        if self._judge.rhythm is None and self._restore is None:
            self.released = self.length
            return
        if self.length > _LONGEST:
            raise NotEditable
        self._pieces.append(text)
        was_closed = self._end.is_closed
        self._end.feed(text)
        if not was_closed and self._end.is_closed and _is_json("".join(self._pieces)):
            await self.end()

    async def end(self) -> None:
        self.is_over = True
        if self.released == self.length:
            return
        text = "".join(self._pieces)
        self._pieces = [text]
        tokens = list(_tokens(text))
        plain = "".join(token.text for token in tokens)
        changes = await self._changes(tokens, plain)
        for token, new in changes:
            if token.start >= self.released:
                self.edits.append(Edit(token.start, token.end, new))
            elif token.end > self.released:
                # Part of it is out: the rest of the string goes, its closing quote stays.
                self.edits.append(Edit(self.released, token.end, '"' if token.is_closed else ""))
        self.released = self.length

    def digest(self) -> bytes:
        return self._digest.digest()

    async def _changes(self, tokens: "Sequence[_Token]", plain: str) -> "list[tuple[_Token, str]]":
        """The tokens that become others, and what they become."""
        pieces: dict[int, list[tuple[int, int, str]]] = {}
        if self._judge.rhythm is not None:
            (ruling,) = await self._judge.read([extract(self.path, plain, "tool_call")])
            if ruling.refusal is not None:
                raise ruling.refusal
            for cut in ruling.cuts:
                new = self._judge.placeholder(cut.span, plain[cut.start : cut.end])
                for index, start, end in _within(tokens, cut.start, cut.end):
                    pieces.setdefault(index, []).append((start, end, new))
                    new = ""  # what reaches over several strings is told of in the first
        if self._restore is not None:
            _add_restored(tokens, pieces, self._restore)
        return [(tokens[index], tokens[index].with_changes(sorted(pieces[index]))) for index in sorted(pieces)]


def _add_restored(tokens: "Sequence[_Token]", pieces: dict[int, list[tuple[int, int, str]]], restore: Restore) -> None:
    """Add the changes that put the client's own words back, where nothing else changes."""
    for index, token in enumerate(tokens):
        taken = pieces.get(index, [])
        for found in PLACEHOLDER.finditer(token.text):
            own = restore(found[0])
            is_free = all(found.end() <= start or end <= found.start() for start, end, _ in taken)
            if own != found[0] and is_free and not token.is_structure:
                taken = pieces.setdefault(index, taken)
                taken.append((found.start(), found.end(), own))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of JSON text, from `start` to `end`: `text` is what it says, without escapes and with its quotes."""

    start: int
    end: int
    at: int
    text: str
    is_structure: bool
    is_string: bool
    is_closed: bool

    def with_changes(self, changes: Sequence[tuple[int, int, str]]) -> str:
        """The token's JSON with code points of `text` replaced. What was a number becomes a string."""
        first, last = (1, len(self.text) - self.is_closed) if self.is_string else (0, len(self.text))
        written, done = [], first
        for begin, stop, new in changes:
            start, end = max(begin, done), min(stop, last)
            if start < end:
                written += [self.text[done:start], new]
                done = end
        text = json.dumps("".join([*written, self.text[done:last]]), ensure_ascii=False)
        text = text.encode(errors="replace").decode()
        return text if self.is_closed or not self.is_string else text[:-1]


def _tokens(text: str) -> Iterator[_Token]:
    """The text in tokens that leave nothing out, whether or not it is whole or JSON at all."""
    done, at = 0, 0
    for found in _TOKEN.finditer(text):
        if found.start() > done:
            between = text[done : found.start()]
            yield _Token(done, found.start(), at, between, not _says(between), False, True)
            at += len(between)
        string = found["string"]
        is_closed = string is None or found["close"] == '"'
        plain = found[0] if string is None else '"' + _unescaped(string) + found["close"]
        yield _Token(found.start(), found.end(), at, plain, False, string is not None, is_closed)
        done, at = found.end(), at + len(plain)
    if done < len(text):
        yield _Token(done, len(text), at, text[done:], not _says(text[done:]), False, True)


_STRUCTURE: Final = re.compile(r"(?:[\s{}\[\]:,]|true|false|null)*")


def _says(text: str) -> bool:
    """Whether text outside of strings and numbers is more than JSON's own marks and words."""
    return _STRUCTURE.fullmatch(text) is None


def _within(tokens: Sequence[_Token], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The tokens that say something between two places of the plain text, and the places in each."""
    for index, token in enumerate(tokens):
        if token.at >= end:
            return
        first = token.at + token.is_string
        last = token.at + len(token.text) - (token.is_string and token.is_closed)
        if not token.is_structure and max(start, first) < min(end, last):
            yield index, max(start, first) - token.at, min(end, last) - token.at


def _unescaped(string: str) -> str:
    if "\\" not in string:
        return string
    try:
        plain = str(json.loads(f'"{string}"', strict=False))
    except ValueError:
        plain = _ESCAPE.sub(_character, string)
    return _SURROGATE.sub("\ufffd", plain)


def _character(found: re.Match[str]) -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _PLAIN.get(code, code)
