"""A stream on its way to the client: events wait in line until policy has seen every text in them."""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

from msgspec import structs

from trueport.detection.policy import Judged, Unscannable
from trueport.gateway.call import Judgement
from trueport.gateway.guard.arguments import ArgumentsChannel
from trueport.gateway.guard.base import Edit, Extract, Judge, Ruling, extract
from trueport.gateway.guard.channel import PLACEHOLDER, Channel, Restore, TextChannel, edited
from trueport.gateway.guard.forms import FORMS, ChannelName, ClientForm, Marks, Slot
from trueport.gateway.guard.frames import LONGEST_HELD_BYTES, ArrayFrames, Frame, Frames, SseFrames
from trueport.gateway.guard.watch import Watch
from trueport.gateway.screening import ContentBlocked
from trueport.gateway.texts import NotEditable, Part
from trueport.gateway.texts.json_texts import parsed
from trueport.gateway.texts.model import Body, Hop, Keys, Removal
from trueport.gateway.texts.rewrite import rewritten
from trueport.gateway.texts.walk import Walk
from trueport.kit.errors import TrueportError

_END_MARKS: Final = frozenset({b"", b"[DONE]"})
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# Of what stood in the same place of the event before, as much is read again.
_SEAM: Final = 512
_MOST_PLACES: Final = 1_000
_MOST_ENVELOPES: Final = 64
_LONGEST_ENVELOPE: Final = 4_096
# Within a string, what stands around such a number would make the string a text.
_SHORT_NUMBER: Final = re.compile(rb"(?<=[:,\[ ])[0-9]{1,6}(?=[,}\]])")
_OBFUSCATION: Final = re.compile(rb'"obfuscation": ?"[A-Za-z0-9]{0,64}"')
# A text is taken to be over when another of the same answer has gone on for at least so long; in code points.
_PATIENCE: Final = 256

Changes = dict[Keys, str | Removal]


@dataclass(slots=True)
class _Piece:
    """A piece of a channel's text. `text` is the slot's own unless a character was cut in two there (`is_recut`)."""

    slot: Slot
    channel: Channel
    start: int
    text: str
    is_recut: bool

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(slots=True)
class _Waiting:
    """An event in line. `changes` are settled; what happens to its pieces shows when their channels are released."""

    frame: Frame
    lane: int | None
    since_s: float
    pieces: list[_Piece] = field(default_factory=list)
    changes: Changes = field(default_factory=dict)
    tokens: list[Part] = field(default_factory=list)
    is_dropped: bool = False

    @property
    def is_free(self) -> bool:
        return all(piece.channel.released >= piece.end for piece in self.pieces)


class GuardedStream:
    """Implements StreamGuard for the forms of FORMS. Used by one task; not to be used after it raised."""

    def __init__(
        self,
        form: ClientForm,
        judge: Judge,
        now_s: Callable[[], float],
        *,
        restore: Restore | None = None,
        watch: Watch | None = None,
        said_by_client: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """judge: of the policies that may change or end the stream; `watch` is told every text and changes nothing.
        `said_by_client` tells texts of the request, which some forms repeat.
        """
        self._form = FORMS[form]
        self._frames: Frames = ArrayFrames() if self._form.is_array else SseFrames()
        self._judge = judge
        self._now_s = now_s
        self._restore = restore
        self._watch = watch
        self._said_by_client = said_by_client
        self._channels: dict[ChannelName, Channel] = {}
        self._lanes: dict[ChannelName, int | None] = {}
        self._line: list[_Waiting] = []
        self._line_bytes = 0
        self._silent: set[bytes] = set()
        self._halves: dict[ChannelName, str] = {}
        self._told: dict[bytes, Channel] = {}
        self._places: dict[str, _Place] = {}
        self._out: list[bytes] = []
        self._blocked: set[int | None] = set()
        self._has_moved = False
        self._error: TrueportError | None = None
        self._waited_s = 0.0
        self._longest_s = 0.0

    @property
    def judgement(self) -> Judgement:
        """What has been decided so far, about texts that have left and texts that wait."""
        own = self._judge.judgement
        if self._error is not None:
            own = structs.replace(own, decision="block")
        return own if self._watch is None else self._watch.joined_to(own)

    @property
    def entries(self) -> tuple[Judged | Unscannable, ...]:
        """Everything that was found so far, whether acted on or not, without the texts."""
        return (*self._judge.entries, *(self._watch.entries if self._watch is not None else ()))

    @property
    def refusal(self) -> TrueportError | None:
        """What the stream ends with: ContentBlocked, also for what nobody may change, or DetectorUnavailable."""
        return self._error

    @property
    def held_ms(self) -> int:
        """The longest that an event has waited."""
        return int(self._longest_s * 1_000)

    @property
    def held_sum_ms(self) -> int:
        """What all events have waited, added up."""
        return int(self._waited_s * 1_000)

    async def feed(self, piece: bytes) -> bytes:
        """What may leave now, as whole events.

        When policy ends the stream, what was free before still leaves, `refusal` says why, and the next call raises
        it; with nothing to leave it is raised at once.
        """
        self._check()
        try:
            for frame in self._frames.feed(piece):
                await self._take(frame)
                self._free()
        except TrueportError as error:
            self._stop(error)
        return self._taken_out()

    async def finish(self) -> bytes:
        """What may leave once the stream is over, however that came: everything left is judged as it stands."""
        self._check()
        try:
            for frame in self._frames.finish():
                await self._take(frame)
            await self._end(())
            self._has_moved = True
            self._free()
        except TrueportError as error:
            self._stop(error)
        return self._taken_out()

    async def observe(self) -> None:
        """Have the policies that only tell read what they have not read yet. Nothing waits for them."""
        if self._watch is not None:
            await self._watch.finish()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _stop(self, error: TrueportError) -> None:
        self._error = ContentBlocked("output") if isinstance(error, NotEditable) else error
        self._has_moved = True
        with suppress(NotEditable):
            self._free()
        self._let_begun_go()
        self._line.clear()

    def _taken_out(self) -> bytes:
        """What has left the line since this was last asked. Raises what the stream ends with once that is nothing."""
        written = b"".join(self._out)
        self._out.clear()
        if not written:
            self._check()
        return written

    # --- taking events -------------------------------------------------------------------------------------

    async def _take(self, frame: Frame) -> None:
        waiting = _Waiting(frame, None, self._now_s())
        self._line_bytes += len(frame.raw)
        if self._line_bytes > LONGEST_HELD_BYTES:
            raise NotEditable
        if frame.beside:
            await self._look_beside(waiting)
        if frame.data in _END_MARKS:
            if frame.data:
                await self._end(())
            waiting.lane = -1 if not frame.data and not self._form.is_array else None
            self._line.append(waiting)
            return
        value = _value(frame.data)
        if not isinstance(value, dict):
            await self._look_at_text(waiting)
            self._line.append(waiting)
            return
        marks = self._form.read(frame.name, value)
        waiting.lane = -1 if marks.says_nothing else marks.lane
        if not marks.slots:
            # What an event repeats is of channels that it ends.
            await self._end_all(marks)
        await self._look_at_rest(waiting, value, marks)
        # In line before its pieces are judged: what of them is free leaves even when the rest ends the stream.
        self._line.append(waiting)
        for slot in marks.slots:
            channel = self._channel(slot, marks)
            text, is_recut = self._characters(slot)
            waiting.pieces.append(_Piece(slot, channel, channel.length, text, is_recut))
            await self._append(channel, slot if text == slot.text else replace(slot, text=text), marks)
        if marks.slots:
            await self._end_all(marks)

    def _characters(self, slot: Slot) -> tuple[str, bool]:
        """The slot's text in whole characters, and whether it took one over or left half of one to the next.

        Hosts that count in UTF-16 cut between the halves of a character; clients put them together again.
        """
        text = slot.text
        if text.isascii() and not (text and self._halves):
            return text, False
        half = self._halves.pop(slot.channel, "") if text else ""
        whole = _paired(half + text)
        if "\ud800" <= whole[-1:] <= "\udbff":
            self._halves[slot.channel] = whole[-1]
            return _SURROGATE.sub("\ufffd", whole[:-1]), True
        return _SURROGATE.sub("\ufffd", whole), bool(half)

    def _channel(self, slot: Slot, marks: Marks) -> Channel:
        channel = self._channels.get(slot.channel)
        if channel is None:
            path = ".".join(str(step) for step in slot.channel if step != "None")
            if slot.is_json:
                channel = ArgumentsChannel(path, self._judge, self._restore)
            else:
                channel = TextChannel(path, slot.role, self._judge, self._restore, is_signed=slot.is_signed)
            self._channels[slot.channel] = channel
            self._lanes[slot.channel] = marks.lane
        return channel

    async def _append(self, channel: Channel, slot: Slot, marks: Marks) -> None:
        if not slot.text:
            return
        if self._watch is not None:
            self._watch.append(slot)
        if slot.is_json:
            # A call's name is whole when its arguments begin.
            await self._end((*slot.channel[:-1], "name"))
        released = channel.released
        await channel.append(slot.text)
        self._has_moved |= channel.released != released
        if channel.is_over:
            self._tell(channel)
        rhythm = self._judge.rhythm
        patience = _PATIENCE if rhythm is None else max(_PATIENCE, rhythm.hold + rhythm.longest_step)
        for name, other in self._channels.items():
            is_waiting = other is not channel and not other.is_over and self._lanes[name] == marks.lane
            if is_waiting and not isinstance(other, ArgumentsChannel):
                other.quiet += len(slot.text)
                if other.quiet >= patience:
                    await self._end_one(other)

    async def _end_all(self, marks: Marks) -> None:
        for name in marks.ends:
            await self._end(name)

    async def _end(self, beginning: ChannelName) -> None:
        """The channels whose names begin so are over."""
        for name, channel in self._channels.items():
            if name[: len(beginning)] == beginning and not channel.is_over:
                await self._end_one(channel)

    async def _end_one(self, channel: Channel) -> None:
        self._has_moved = True
        await channel.end()
        self._tell(channel)

    def _tell(self, channel: Channel) -> None:
        """The channel is over: where its text comes again, it is changed as it was here."""
        if self._form.repeats and channel.length:
            self._told[channel.digest()] = channel

    # --- everything else in an event -------------------------------------------------------------------------

    async def _look_at_rest(self, waiting: _Waiting, value: dict[str, Any], marks: Marks) -> None:
        covered = {slot.keys for slot in marks.slots}
        envelope = _envelope(waiting.frame.data, marks.slots)
        if envelope is not None and envelope in self._silent:
            return
        if self._told and not marks.slots:
            covered |= self._repeated(value, (), waiting)
        walk = Walk(self._form.wire)
        walk.document(value, (), "", "assistant")
        found = []
        for part in walk.parts:
            if _is_below(part.keys, covered):
                continue
            if part.removal is not None and part.removal.how == "null":
                waiting.tokens.append(part)
            elif not (_is_echo(part.keys) and self._said_by_client(part.passage.text)):
                found.append(part)
        is_silent = not (found or waiting.tokens or walk.unscannable) and len(covered) == 1
        if is_silent and envelope is not None and len(self._silent) < _MOST_ENVELOPES:
            self._silent.add(envelope)
        for content in walk.unscannable:
            _raise_refusal(self._judge.content(content))
            if self._watch is not None:
                self._watch.content(content)
        if found:
            await self._judge_parts(waiting, found)

    def _repeated(self, value: object, keys: Keys, waiting: _Waiting) -> set[Keys]:
        """The places where the text of a channel that is over stands again; they are changed as that was."""
        if isinstance(value, str):
            channel = self._told.get(_digest(value)) if value else None
            if channel is None:
                return set()
            if channel.edits:
                waiting.changes[keys] = edited(value, 0, channel.edits, channel.length)
                self._drop_tokens(waiting, keys)
            return {keys}
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {found for step, inner in items for found in self._repeated(inner, (*keys, step), waiting)}

    @staticmethod
    def _drop_tokens(waiting: _Waiting, keys: Keys) -> None:
        """Log probabilities beside a text that changed would tell what it was."""
        data = _value(waiting.frame.data)
        for step in keys[:-1]:
            data = data[step]
        if isinstance(data, dict) and data.get("logprobs"):
            place = (*keys[:-1], "logprobs")
            waiting.changes[place] = Removal(place, "null")

    async def _judge_parts(self, waiting: _Waiting, parts: list[Part]) -> None:
        if self._judge.rhythm is None and self._restore is None and self._watch is None:
            return
        extracts, asked = [], []
        for part in parts:
            path, text = f"{waiting.lane}:{part.path}:{part.group}", part.passage.text
            place = self._places.get(path)
            if place is not None and place.last == text:
                self._change(waiting, part, place.edits)
                continue
            if self._watch is not None:
                self._watch.text(part)
            before = place.before if place is not None else ""
            place = _Place(text, (before + text)[-_SEAM:], [])
            if len(self._places) < _MOST_PLACES or path in self._places:
                self._places[path] = place
            extracts.append(extract(part.path, before + text, part.passage.role, fresh=len(before)))
            asked.append((part, place))
        rulings = await self._rulings(extracts)
        for (part, place), given, ruling in zip(asked, extracts, rulings, strict=True):
            place.edits = self._edits(given, ruling)
            self._change(waiting, part, place.edits)

    async def _rulings(self, extracts: list[Extract]) -> list[Ruling]:
        if self._judge.rhythm is None or not extracts:
            return [Ruling()] * len(extracts)
        rulings = await self._judge.read(extracts)
        for ruling in rulings:
            _raise_refusal(ruling)
        return rulings

    def _edits(self, given: Extract, ruling: Ruling) -> list[Edit]:
        """The cuts as edits of the part, which stands behind what was read before it."""
        edits = []
        for cut in ruling.cuts:
            if cut.end <= given.fresh:
                continue
            new = self._judge.placeholder(cut.span, given.passage.text[cut.start : cut.end])
            edits.append(Edit(max(0, cut.start - given.fresh), cut.end - given.fresh, new))
        return edits

    def _change(self, waiting: _Waiting, part: Part, edits: list[Edit]) -> None:
        text = part.passage.text
        if edits and part.removal is not None:
            waiting.changes[part.removal.keys] = part.removal
        elif edits:
            waiting.changes[part.keys] = edited(text, 0, edits, len(text))
        elif self._restore is not None and part.removal is None:
            restore = self._restore
            restored = PLACEHOLDER.sub(lambda found: restore(found[0]), text)
            if restored != text:
                waiting.changes[part.keys] = restored

    async def _look_beside(self, waiting: _Waiting) -> None:
        """Comments and ids. An event whose comments must not leave does not leave."""
        lines = b"\n".join(waiting.frame.beside).decode(errors="replace")
        await self._look(waiting, "events.comment", lines)

    async def _look_at_text(self, waiting: _Waiting) -> None:
        """Data that is no object: an event that no client of this form expects."""
        await self._look(waiting, "events.data", waiting.frame.data.decode(errors="replace"))

    async def _look(self, waiting: _Waiting, path: str, text: str) -> None:
        place = self._places.get(path)
        if place is None or place.last != text:
            before = place.before if place else ""
            place = self._places[path] = _Place(text, (before + text)[-_SEAM:], [])
            given = extract(path, before + text, "assistant", fresh=len(before))
            (ruling,) = await self._rulings([given])
            place.edits = self._edits(given, ruling)
        waiting.is_dropped = waiting.is_dropped or bool(place.edits)

    # --- leaving the line ------------------------------------------------------------------------------------

    def _free(self) -> None:
        """Let the events leave that may, in the order they came as far as they are of one lane or of none."""
        line = self._line
        if not self._has_moved and line and line[-1].lane != -1 and (self._blocked & {line[-1].lane, None}):
            return  # nothing before the last event can leave now, and it waits behind them
        self._has_moved = False
        self._line, self._blocked = [], set()
        try:
            for number, waiting in enumerate(line):
                if None in self._blocked:
                    self._line += line[number:]
                    break
                is_behind = waiting.lane in self._blocked or (waiting.lane is None and bool(self._blocked))
                if waiting.lane != -1 and (is_behind or not waiting.is_free):
                    self._line.append(waiting)
                    self._blocked.add(waiting.lane)
                else:
                    self._out.append(self._leave(waiting))
        except NotEditable:
            self._line += line[number:]
            self._blocked.add(None)
            raise

    def _leave(self, waiting: _Waiting) -> bytes:
        waited_s = self._now_s() - waiting.since_s
        self._longest_s = max(self._longest_s, waited_s)
        self._waited_s += waited_s
        self._line_bytes -= len(waiting.frame.raw)
        return b"" if waiting.is_dropped else self._frames.in_place(self._written(waiting, waiting.pieces))

    def _written(self, waiting: _Waiting, pieces: list[_Piece]) -> bytes:
        changes = dict(waiting.changes)
        has_edits = False
        for piece in pieces:
            new = edited(piece.text, piece.start, piece.channel.edits, piece.channel.released)
            if new != piece.text or piece.is_recut or _touches(piece):
                has_edits = True
                if piece.slot.is_signed and _touches(piece):
                    raise NotEditable
                changes[piece.slot.keys] = _SURROGATE.sub("\ufffd", new)
        for part in waiting.tokens:
            if part.removal is not None and (has_edits or not self._are_told(waiting)):
                changes[part.removal.keys] = part.removal
        if not changes:
            return waiting.frame.raw
        data = rewritten(Body(Hop.JSON, waiting.frame.data), changes)
        return self._frames.with_data(waiting.frame, data.replace(b"\r", b"").replace(b"\n", b""))

    def _are_told(self, waiting: _Waiting) -> bool:
        """Whether the log probabilities of an event are about the text in it, which has been judged."""
        if self._judge.rhythm is None:
            return True
        groups: dict[str, list[str]] = {}
        for part in waiting.tokens:
            if part.group.startswith("+"):
                groups.setdefault(part.group, []).append(part.passage.text)
        texts = {piece.slot.text for piece in waiting.pieces}
        texts |= set(_strings(_value(waiting.frame.data))) if self._form.repeats else set()
        return all("".join(tokens) in texts for tokens in groups.values())

    def _let_begun_go(self) -> None:
        """The stream ends here: of events whose texts are free in part, that part, and nothing behind it."""
        stopped: set[int | None] = set()
        for waiting in self._line:
            if waiting.lane in stopped or None in stopped:
                continue
            stopped.add(waiting.lane)
            if waiting.is_dropped or not any(piece.channel.released > piece.start for piece in waiting.pieces):
                continue
            # An answer that ends here has not finished.
            value = _value(waiting.frame.data)
            for keys in (*_finishes(value), *_signatures(value, waiting.pieces)):
                waiting.changes[keys] = Removal(keys, "null")
            with suppress(NotEditable):
                self._out.append(self._frames.in_place(self._written(waiting, waiting.pieces)))


@dataclass(slots=True)
class _Place:
    """A place that has one text in each event: the last one, the end of all of them, and what was changed."""

    last: str
    before: str
    edits: list[Edit]


def _value(data: bytes) -> Any:
    """The JSON in an event's data, with every member of objects that name one twice; None for what is none."""
    try:
        return parsed(data.decode())
    except (ValueError, RecursionError):
        return None


def _paired(text: str) -> str:
    """The text with its halves of characters put together where two stand side by side."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _touches(piece: _Piece) -> bool:
    """Whether an edit is about any code point of the piece."""
    edits = piece.channel.edits
    first = bisect_left(edits, piece.start + 1, key=lambda one: one.end)
    return first < len(edits) and edits[first].start < piece.end


def _envelope(data: bytes, slots: Sequence[Slot]) -> bytes | None:
    """An event without its one piece of text, and without what counts up from event to event; None for others.

    Most events of a stream have the same, so that only the first of them has to be walked through.
    """
    if len(slots) != 1 or len(data) > _LONGEST_ENVELOPE:
        return None
    text = slots[0].text
    written = json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")
    if data.count(written) != 1:
        written = json.dumps(text).encode()
        if data.count(written) != 1:
            return None
    return _SHORT_NUMBER.sub(b"0", _OBFUSCATION.sub(b"", data.replace(written, b'"\0"')))


def _is_echo(keys: Keys) -> bool:
    """Whether a response has something of its request in this place."""
    return len(keys) > 1 and keys[0] == "response" and keys[1] != "output"


def _is_below(keys: Keys, covered: set[Keys]) -> bool:
    return any(keys[:length] in covered for length in range(1, len(keys) + 1))


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for inner in items for text in _strings(inner)]


def _raise_refusal(ruling: Ruling) -> None:
    if ruling.refusal is not None:
        raise ruling.refusal


def _signatures(value: Any, pieces: list[_Piece]) -> Iterator[Keys]:
    """Where signatures stand beside texts that leave only in part."""
    for piece in pieces:
        if not piece.slot.is_signed or piece.channel.released >= piece.end:
            continue
        beside = value
        for step in piece.slot.keys[:-1]:
            beside = beside[step]
        for name in ("thoughtSignature", "thought_signature"):
            if name in beside:
                yield *piece.slot.keys[:-1], name


def _finishes(value: Mapping[str, Any]) -> Iterator[Keys]:
    """Where an event says that a choice or candidate has finished."""
    for member in ("choices", "candidates"):
        listed = value.get(member)
        for place, one in enumerate(listed if isinstance(listed, list) else ()):
            for name in ("finish_reason", "finishReason"):
                if isinstance(one, dict) and one.get(name) is not None:
                    yield member, place, name
