"""One text of a stream: how much of it may leave, and what of it is replaced."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Protocol

from trueport.detection.types import Passage, Role
from trueport.gateway.guard.base import Cut, Edit, Extract, Judge, Rhythm
from trueport.gateway.texts import NotEditable

Restore = Callable[[str], str]
"""A placeholder of the client's own input back to what the client wrote; anything else as it is."""

PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,63}_[1-9][0-9]{0,6}\]")
_BEGUN_PLACEHOLDER: Final = re.compile(r"\[(?:[A-Z][A-Z0-9_]{0,72})?\Z")
_SENTENCE_END: Final = re.compile(r"[.!?\u3002\uff01\uff1f]\s|\n")
# Beside a place where a span was found, this much is read again: rules look at words around their match.
_AROUND: Final = 128
# A span without an end may wait for this long; no form of a secret is longer, and the stream ends there.
_LONGEST_SPAN: Final = 32_768
# Nobody who wants to be read writes so many invisible characters among so few others.
_MOST_HIDDEN: Final = 4_096
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")


class Channel(Protocol):
    """A text that arrives in pieces. Places count code points from its beginning."""

    path: str
    length: int
    released: int
    edits: list[Edit]
    is_over: bool
    quiet: int

    async def append(self, text: str) -> None:
        """The next piece. Raises the TrueportError that the stream ends with."""

    async def end(self) -> None:
        """Nothing more is expected. Raises as `append` does."""

    def digest(self) -> bytes:
        """Tells the text so far from others."""


class TextChannel:
    """Implements Channel for text in the plain sense."""

    def __init__(
        self, path: str, role: Role, judge: Judge, restore: Restore | None = None, *, is_signed: bool = False
    ) -> None:
        self.path = path
        self.length = 0
        self.released = 0
        self.edits: list[Edit] = []
        self.is_over = False
        self.quiet = 0
        self._role: Role = role
        self._judge = judge
        self._restore = restore
        self._is_signed = is_signed
        self._rhythm = judge.rhythm
        self._kept = ""  # the text from `_base` on, as far as it has been looked at
        self._base = 0
        self._new: list[str] = []
        self._scanned = 0
        self._open_at: int | None = None
        self._digest = blake2b(digest_size=16)

    async def append(self, text: str) -> None:
        self.is_over = False
        self.quiet = 0
        self.length += len(text)
        self._digest.update(text.encode(errors="surrogatepass"))
        if self._rhythm is None and self._restore is None:
            self.released = self.length
            return
        self._new.append(text)
        while (cut := self._next_cut()) is not None:
            await self._scan(cut, is_last=False)

    async def end(self) -> None:
        self.is_over = True
        if self.released < self.length:
            self._gather()
            await self._scan(self.length, is_last=True)

    def digest(self) -> bytes:
        return self._digest.digest()

    def _gather(self) -> None:
        if self._new:
            self._kept = "".join([self._kept, *self._new])
            self._new.clear()

    def _next_cut(self) -> int | None:
        """The next place to judge at, None while the text does not reach it. Follows from the text alone."""
        rhythm = self._rhythm
        if rhythm is None or not rhythm.longest_step:
            self._gather()
            return self.length if self.length > self._scanned else None
        # A span that goes on and on is read from its beginning each time, so ever more rarely.
        waits = 0 if self._open_at is None else self._scanned - self._open_at
        first = self._scanned + max(rhythm.shortest_step, waits)
        last = self._scanned + max(rhythm.longest_step, waits)
        if self.length < first:
            return None
        self._gather()
        # The white space behind a full stop counts to the sentence: it may not be there yet.
        found = _SENTENCE_END.search(self._kept, first - self._base - 1, last - self._base)
        if found is not None:
            return self._base + found.end()
        return last if self.length >= last else None

    async def _scan(self, place: int, *, is_last: bool) -> None:
        rhythm = self._rhythm or Rhythm(0, 0, 0)
        firm = place if is_last else max(self.released, self._held_from(place, rhythm.hold))
        cuts, open_at = await self._judged(place, firm, rhythm) if self._rhythm else ([], None)
        self._scanned = place
        self._open_at = open_at
        if open_at is not None:
            if place - open_at > _LONGEST_SPAN:
                raise NotEditable
            firm = max(self.released, min(firm, open_at))
        for cut in cuts:
            firm = max(firm, cut.end)
        self.released = self._settle(cuts, place, firm, is_last=is_last)
        self._forget(rhythm)

    def _held_from(self, place: int, hold: int) -> int:
        """Where the last `hold` code points before `place` begin that a reader sees. Raises NotEditable.

        Between the letters of a word can stand any number of others that nobody sees.
        """
        start, hidden = place - hold, 0
        while start > self._base and not (text := self._kept[start - self._base : place - self._base]).isascii():
            seen = sum(map(_is_hidden, text))
            if seen > _MOST_HIDDEN:
                raise NotEditable
            if seen == hidden:
                break
            start, hidden = place - hold - seen, seen
        return start

    async def _judged(self, place: int, firm: int, rhythm: Rhythm) -> tuple[list[Cut], int | None]:
        """Cuts and the beginning of an open span, in places of the channel."""
        back = 2 * rhythm.hold + rhythm.longest_step + _AROUND
        start = max(self._base, min(self.released - rhythm.hold - _AROUND, place - max(back, rhythm.window)))
        text = self._kept[start - self._base : place - self._base]
        given = Extract(self.path, Passage(text, self._role), start, self.released - start, firm - start)
        (ruling,) = await self._judge.read([given])
        if ruling.refusal is not None:
            raise ruling.refusal
        cuts = [Cut(cut.start + start, cut.end + start, cut.span, cut.is_whole) for cut in ruling.cuts]
        cuts = [cut for cut in cuts if cut.end > self.released]
        return cuts, None if ruling.open_at is None else max(self.released, ruling.open_at + start)

    def _settle(self, cuts: list[Cut], place: int, firm: int, *, is_last: bool) -> int:
        """Turn cuts into edits, restore what stands between them, and say up to where the text is settled."""
        done = self.released
        for cut in cuts:
            start = max(cut.start, done)
            self._restore_between(done, start)
            self._edit(start, cut)
            done = cut.end
        if self._restore is not None:
            if not is_last:
                begun = _BEGUN_PLACEHOLDER.search(self._kept, max(done, place - 76) - self._base, place - self._base)
                whole = _across(self._kept, done - self._base, firm - self._base)
                if whole is not None:
                    firm = max(done, whole + self._base)
                if begun is not None:
                    firm = max(done, min(firm, begun.start() + self._base))
            self._restore_between(done, firm)
        return firm

    def _edit(self, start: int, cut: Cut) -> None:
        if self._is_signed:
            raise NotEditable
        last = self.edits[-1] if self.edits else None
        goes_on = last is not None and last.end == start and (cut.start < start or cut.is_whole)
        value = self._kept[start - self._base : cut.end - self._base]
        self.edits.append(Edit(start, cut.end, "" if goes_on else self._judge.placeholder(cut.span, value)))

    def _restore_between(self, start: int, end: int) -> None:
        if self._restore is None or self._is_signed:
            return
        for found in PLACEHOLDER.finditer(self._kept, start - self._base, end - self._base):
            own = self._restore(found[0])
            if own != found[0]:
                self.edits.append(Edit(found.start() + self._base, found.end() + self._base, own))

    def _forget(self, rhythm: Rhythm) -> None:
        """Let go of text that no judge will see again."""
        back = max(2 * rhythm.hold + 2 * rhythm.longest_step + _AROUND, rhythm.window)
        keep_from = min(self.released - rhythm.hold - _AROUND, self._scanned - back)
        if keep_from - self._base > 2 * back:
            self._kept = self._kept[keep_from - self._base :]
            self._base = keep_from


@lru_cache(maxsize=8_192)
def _is_hidden(char: str) -> bool:
    """Whether a character shows nothing of its own: formats, variations, marks on others, fillers."""
    return char >= "\x80" and (unicodedata.category(char) in ("Cf", "Mn", "Me") or char in _FILLERS)


def _across(text: str, start: int, border: int) -> int | None:
    """Where a placeholder begins that reaches across `border`, None when none does."""
    for found in PLACEHOLDER.finditer(text, max(start, border - 76)):
        if found.start() < border < found.end():
            return found.start()
        if found.start() >= border:
            return None
    return None


def edited(text: str, start: int, edits: list[Edit], upto: int) -> str:
    """The code points of `text`, which stands at `start` of its channel, as they leave; none from `upto` on."""
    written, done, end = [], start, min(start + len(text), upto)
    for edit in edits[bisect_right(edits, start, key=lambda one: one.end) :]:
        if edit.start >= end:
            break
        if edit.start >= start:
            written += [text[done - start : edit.start - start], edit.new]
        done = min(max(done, edit.end), end)
    return "".join([*written, text[done - start : max(done, end) - start]])
