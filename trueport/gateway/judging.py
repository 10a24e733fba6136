"""The policies at work: what of a call's texts may go to the provider, and what of the answer to the client.

Everything in a body that can be read is read (gateway.texts), by itself and where pieces make up a whole. A tenant
without policies for a side pays nothing for it: its bodies are not even looked into.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec import structs

from trueport.detection.engine import Engine
from trueport.detection.policy import ActivePolicies, Context, Judged, Span, Unscannable, Verdict
from trueport.detection.policy.replay import reading_fields
from trueport.detection.redact import Placeholders
from trueport.detection.types import Category, Finding, Passage, Reading, Side
from trueport.gateway import texts as bodies
from trueport.gateway.call import Admitted, Judgement, Recorded, Scored, Screened
from trueport.gateway.guard.factory import guard_for
from trueport.gateway.guard.stream import GuardedStream
from trueport.gateway.json_gate import read_object
from trueport.gateway.ports import StreamGuard
from trueport.gateway.screening import ContentBlocked, DetectorUnavailable, Inspected
from trueport.gateway.snapshot import Target
from trueport.gateway.texts import NotEditable, Texts
from trueport.gateway.texts.joined import Joined, alone, joined
from trueport.kit.clock import Clock
from trueport.kit.errors import TrueportError

# Walking through more than this takes longer than the event loop should wait.
_SHORT_BODY_BYTES: Final = 128 << 10
_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]*_[0-9]+\]")
_PIECES_OF_JSON: Final = ("arguments", "partial_json")
_LONGEST_HELD_BYTES: Final = 64 << 20
# What can be spread over turns so that no turn shows it.
_SPREAD: Final[frozenset[Category]] = frozenset(
    {"prompt_injection", "jailbreak", "indirect_injection", "data_exfiltration"}
)
# What can be cut in the middle of a word.
_CUT: Final[frozenset[Category]] = _SPREAD | {"pii", "phi", "secrets"}


def policies_for(admitted: Admitted, side: Side, target: Target | None) -> ActivePolicies | None:
    """The policies that hold for one side of a call, None where there are none.

    Before it is known who will serve, a policy for some providers holds when any target may lead to one of them.
    """
    policies = admitted.snapshot.policies
    if policies is None or not policies.policies:
        return None
    active = policies.for_call(side, context_of(admitted, target))
    return None if active.is_empty else active


def context_of(admitted: Admitted, target: Target | None) -> Context:
    """What of a call decides which policies hold for it."""
    providers = {one.credential.provider for one in ([target] if target else admitted.targets)}
    return Context(
        environment=admitted.caller.environment,
        key_id=admitted.caller.key_id,
        model=admitted.model,
        provider=next(iter(providers)) if len(providers) == 1 else None,
        user=admitted.user,
    )


def reads_after(admitted: Admitted) -> list[ActivePolicies]:
    """The policies that read the call's recorded content once it is over, for each side that has some.

    Who will serve is not known yet, so that a policy for some providers holds when any target may lead to one.
    """
    policies = admitted.snapshot.policies
    if policies is None or not any(policy.reads_after for policy in policies.policies):
        return []
    context = context_of(admitted, None)
    sides: tuple[Side, ...] = ("input", "output")
    found = (policies.for_scan(side, context) for side in sides)
    return [active for active in found if not active.is_empty]


class PolicyScreener:
    """Implements Screener with the detection engine and the policies in each tenant's snapshot."""

    def __init__(self, engine: Engine, clock: Clock, *, patience_s: float | None = None) -> None:
        """patience_s: how long detectors may take; as long as the policies say without it."""
        self.engine = engine
        self._clock = clock
        self._patience_s = patience_s

    async def inspect_input(self, recorded: Recorded) -> Screened:
        admitted = recorded.admitted
        active = policies_for(admitted, "input", None)
        if active is None:
            return Screened(recorded, "allow")
        request, started_s = admitted.request, self._clock.monotonic()
        wire = admitted.call.dialect.wire
        if len(request.body) > _SHORT_BODY_BYTES:
            found = await asyncio.to_thread(bodies.of_request, wire, request)
        else:
            found = bodies.of_request(wire, request)
        read = await self._read(found, active)
        verdict = active.decide(read.entries)
        judgement = self._judgement(active, verdict, read, started_s, _About(admitted, None))
        if verdict.action == "block":
            return Screened(recorded, "block", judgement, _refusal("input", verdict))
        if verdict.action != "redact":
            return Screened(recorded, verdict.action, judgement)
        placeholders = Placeholders()
        placeholders.avoid(part.passage.text for part in found.parts)
        try:
            body = found.with_texts(_edits(found, read, verdict, placeholders))
        except NotEditable:
            return Screened(recorded, "block", structs.replace(judgement, decision="block"), ContentBlocked("input"))
        request = structs.replace(request, body=body, members=None if request.members is None else read_object(body))
        recorded = structs.replace(recorded, admitted=structs.replace(admitted, request=request))
        return Screened(recorded, "redact", judgement, placeholders=placeholders)

    async def inspect_output(
        self,
        admitted: Admitted,
        target: Target | None,
        body: bytes,
        content_type: str,
        placeholders: Placeholders | None = None,
    ) -> Inspected:
        active = policies_for(admitted, "output", target)
        restores = placeholders is not None and placeholders.is_reversible
        if (active is None and not restores) or not body:
            return Inspected(body)
        started_s, wire = self._clock.monotonic(), admitted.call.dialect.wire
        if len(body) > _SHORT_BODY_BYTES:
            found = await asyncio.to_thread(bodies.of_answer, wire, body, content_type)
        else:
            found = bodies.of_answer(wire, body, content_type)
        edits: dict[int, str] = {}
        judgement = None
        try:
            if active is not None:
                read = await self._read(found, active)
                verdict = active.decide(read.entries)
                judgement = self._judgement(active, verdict, read, started_s, _About(admitted, target))
                if verdict.action == "block":
                    return Inspected(b"", judgement, _refusal("output", verdict))
                if verdict.action == "redact":
                    own = placeholders.for_answer() if placeholders is not None else Placeholders()
                    edits = _edits(found, read, verdict, own)
            if restores and placeholders is not None:
                edits = _restored(found, edits, placeholders)
            return Inspected(found.with_texts(edits), judgement)
        except NotEditable:
            blocked = structs.replace(judgement, decision="block") if judgement else None
            return Inspected(b"", blocked, ContentBlocked("output"))

    def guard(self, admitted: Admitted, target: Target, placeholders: Placeholders | None = None) -> StreamGuard | None:
        active = policies_for(admitted, "output", target)
        if active is None and not (placeholders and placeholders.is_reversible):
            return None
        wire, request = admitted.call.dialect.wire, admitted.request
        stream = guard_for(wire, request, active, self.engine, self.now_s, placeholders)
        if stream is None:
            return HeldAnswer(self, admitted, target, placeholders)
        return GuardedAnswer(stream, active, _About(admitted, target))

    async def judge(self, found: Texts, active: ActivePolicies, context: Context | None = None) -> Judgement:
        """What the policies make of texts that nothing can be done about any more.

        context: whose call it was; with it the judgement tells what was found in the form of records.
        """
        started_s = self._clock.monotonic()
        read = await self._read(found, active)
        judgement = self._judgement(active, active.decide(read.entries), read, started_s)
        if context is None:
            return judgement
        return structs.replace(judgement, reading=reading_fields(read.entries, active, context, is_user_kept=False))

    def now_s(self) -> float:
        return self._clock.monotonic()

    async def _read(self, found: Texts, active: ActivePolicies) -> "_Read":
        """Everything in a body as the detectors and the tenant's own expressions see it."""
        parts = found.parts
        single, together = alone(parts), joined(parts)
        groups = [one for one in together if one.kind == "group"]
        spread = [one for one in together if one.kind != "group"]
        passages = [*(parts[index].passage for index in single), *(one.passage for one in groups)]
        readings, of_spread = await asyncio.gather(
            self._engine_reads(passages, active.wanted, active),
            self._engine_reads_spread(spread, active),
        )
        entries: list[Judged | Unscannable] = []
        places: list[int | Joined] = []
        standing: list[int | Joined] = [*single, *groups]
        for place, passage, reading in zip(standing, passages, readings, strict=True):
            entries.append(Judged(_path(place, found), passage, _with_custom(reading, active.custom(passage))))
            places.append(place)
        for one, read in zip(spread, of_spread, strict=True):
            reading = _with_custom(read, active.custom(one.passage))
            across = tuple(finding for finding in reading.findings if one.crosses(finding))
            if across or reading.failures:
                # What stands in one part has been told of that part.
                scores = reading.scores if across else {}
                entries.append(Judged(one.kind, one.passage, replace(reading, findings=across, scores=scores)))
                places.append(one)
        return _Read((*entries, *found.unscannable), tuple(places))

    async def _engine_reads(
        self, passages: Sequence[Passage], wanted: frozenset[Category], active: ActivePolicies
    ) -> list[Reading]:
        if not passages or not wanted:
            return [Reading()] * len(passages)
        return await self.engine.read(passages, wanted, timeout_s=self._patience_s or active.timeout_s)

    async def _engine_reads_spread(self, spread: Sequence[Joined], active: ActivePolicies) -> list[Reading]:
        wanted = [active.wanted & (_CUT if one.kind == "seams" else _SPREAD) for one in spread]
        read = (self._engine_reads([one.passage], kinds, active) for one, kinds in zip(spread, wanted, strict=True))
        return [readings[0] for readings in await asyncio.gather(*read)]

    def _judgement(
        self,
        active: ActivePolicies,
        verdict: Verdict,
        read: "_Read",
        started_s: float,
        about: "_About | None" = None,
    ) -> Judgement:
        judged = [entry for entry in read.entries if isinstance(entry, Judged)]
        failures = dict.fromkeys(
            failure for entry in judged for failure in entry.reading.failures if failure.categories
        )
        return Judgement(
            side=active.side,
            decision=verdict.action,
            hits=verdict.hits,
            scores=tuple(
                Scored(entry.path, entry.passage.role, entry.reading.scores) for entry in judged if entry.reading.scores
            ),
            failures=tuple(failures),
            policies=tuple(policy.id for policy in active.policies) if failures else (),
            took_us=int((self._clock.monotonic() - started_s) * 1e6),
            reading=None if about is None else about.reading(read.entries, active),
        )


@dataclass(frozen=True, slots=True)
class _About:
    """The call that is judged, and who serves it where that is known."""

    admitted: Admitted
    target: Target | None

    def reading(self, entries: Sequence[Judged | Unscannable], active: ActivePolicies) -> Mapping[str, object]:
        admitted = self.admitted
        is_user_kept = admitted.user is None or admitted.user_is_for_record
        return reading_fields(entries, active, context_of(admitted, self.target), is_user_kept=is_user_kept)


@dataclass(frozen=True, slots=True)
class _Read:
    """What is to be decided about, and for each of the first entries the part it is, or the parts it is joined of."""

    entries: tuple[Judged | Unscannable, ...]
    places: tuple[int | Joined, ...]


def _path(place: int | Joined, found: Texts) -> str:
    return found.parts[place if isinstance(place, int) else place.pieces[0].part].path


def _with_custom(reading: Reading, custom: tuple[Finding, ...]) -> Reading:
    return replace(reading, findings=reading.findings + custom) if custom else reading


def _refusal(side: Side, verdict: Verdict) -> TrueportError:
    return DetectorUnavailable() if verdict.code == DetectorUnavailable.code else ContentBlocked(side)


def _edits(found: Texts, read: _Read, verdict: Verdict, placeholders: Placeholders) -> dict[int, str]:
    """The texts that change, by the number of their part.

    A span over several parts becomes its placeholder in the first of them and nothing in the others.
    """
    cuts: list[tuple[int, int, int, Span | None, str]] = []
    for number, place in enumerate(read.places):
        for span in verdict.redactions(number):
            if isinstance(place, int):
                text = found.parts[place].passage.text
                cuts.append((place, span.start, span.end, span, text[span.start : span.end]))
                continue
            value = place.passage.text[span.start : span.end]
            for turn, (part, start, end) in enumerate(place.in_parts(span.start, span.end)):
                cuts.append((part, start, end, span if turn == 0 else None, value))
    # In the order of the body, so that a later call that repeats the conversation numbers its placeholders alike.
    pieces: dict[int, list[tuple[int, int, str]]] = {}
    for part, begin, end, whole, value in sorted(cuts, key=lambda cut: (cut[0], cut[1], -cut[2])):
        own = pieces.setdefault(part, [])
        start = max(begin, own[-1][1]) if own else begin
        if start < end:
            own.append((start, end, _placeholder(whole, value, placeholders)))
    return {part: _replaced(found.parts[part].passage.text, own) for part, own in pieces.items()}


def _placeholder(span: Span | None, value: str, placeholders: Placeholders) -> str:
    return placeholders.redact(value, (replace(span, start=0, end=len(value)),)) if span else ""


def _replaced(text: str, pieces: Sequence[tuple[int, int, str]]) -> str:
    written, done = [], 0
    for start, end, new in pieces:
        written += [text[done:start], new]
        done = end
    return "".join([*written, text[done:]])


def _restored(found: Texts, edits: Mapping[int, str], placeholders: Placeholders) -> dict[int, str]:
    """The edits, and with them the client's own values where the model repeated their placeholders."""
    texts = {index: edits.get(index, part.passage.text) for index, part in enumerate(found.parts)}
    for index in alone(found.parts):
        texts[index] = placeholders.restore(texts[index])
    for one in joined(found.parts):
        if one.kind == "group":
            _restore_spread([piece.part for piece in one.pieces], texts, found, placeholders)
    return dict(edits) | {
        index: text
        for index, text in texts.items()
        # Log probabilities and signed thoughts are not for changing a second time.
        if found.parts[index].removal is None and text != found.parts[index].passage.text
    }


def _restore_spread(members: Sequence[int], texts: dict[int, str], found: Texts, placeholders: Placeholders) -> None:
    """Restore in `texts` what stands in pieces of one text: the whole value where its placeholder begins."""
    whole = "".join(texts[index] for index in members)
    for match in reversed(list(_PLACEHOLDER.finditer(whole))):
        own = placeholders.restore(match[0])
        if own == match[0]:
            continue
        at = 0
        for index in members:
            text = texts[index]
            start, end = max(match.start() - at, 0), min(match.end() - at, len(text))
            at += len(text)
            if start < end:
                is_json = found.parts[index].path.endswith(_PIECES_OF_JSON)
                texts[index] = text[:start] + (json.dumps(own)[1:-1] if is_json else own) + text[end:]
                own = ""


class GuardedAnswer:
    """Implements StreamGuard for the known forms of streams. Its judgement has what was found, for replays."""

    def __init__(self, stream: GuardedStream, active: ActivePolicies | None, about: _About) -> None:
        self._stream = stream
        self._active = active
        self._about = about
        self.feed = stream.feed
        self.finish = stream.finish
        self.observe = stream.observe

    @property
    def judgement(self) -> Judgement | None:
        if self._active is None:
            return None
        return structs.replace(self._stream.judgement, reading=self._about.reading(self._stream.entries, self._active))

    @property
    def refusal(self) -> TrueportError | None:
        return self._stream.refusal

    @property
    def held_ms(self) -> int:
        return self._stream.held_ms


class HeldAnswer:
    """Implements StreamGuard for forms of streams that nobody knows: nothing leaves until all of it has been seen."""

    refusal: TrueportError | None = None

    def __init__(self, screener: PolicyScreener, admitted: Admitted, target: Target, placeholders: Placeholders | None):
        self._screener = screener
        self._admitted = admitted
        self._target = target
        self._placeholders = placeholders
        self._held = bytearray()
        self._since_s: float | None = None
        self.judgement: Judgement | None = None
        self.held_ms = 0

    async def feed(self, piece: bytes) -> bytes:
        if piece and self._since_s is None:
            self._since_s = self._screener.now_s()
        self._held += piece
        if len(self._held) > _LONGEST_HELD_BYTES:
            raise ContentBlocked("output")
        return b""

    async def finish(self) -> bytes:
        content_type = "application/json" if self._admitted.request.streams_as == "array" else "text/event-stream"
        inspected = await self._screener.inspect_output(
            self._admitted, self._target, bytes(self._held), content_type, self._placeholders
        )
        self.judgement = inspected.judgement
        if self._since_s is not None:
            self.held_ms = int((self._screener.now_s() - self._since_s) * 1_000)
        if inspected.refusal is not None:
            raise inspected.refusal
        return inspected.body

    async def observe(self) -> None:
        """Everything has been read."""
