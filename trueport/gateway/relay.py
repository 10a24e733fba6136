"""The path of one call, top to bottom.

Each stage takes what the stage before it gives, so that leaving one out is a type error: admission gives an
Admitted, recording its intent a Recorded, screening a Screened, and only a Screened can be sent.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import msgspec
from msgspec.structs import replace

from trueport.gateway.admission import admit
from trueport.gateway.attempts import Answered, send
from trueport.gateway.cache import KeptAnswer, name_of
from trueport.gateway.call import (
    Admitted,
    Call,
    Caller,
    End,
    HeaderList,
    Outcome,
    Recorded,
    Reply,
    Screened,
    Usage,
    UsageSource,
)
from trueport.gateway.credentials import without_key
from trueport.gateway.dialects.base import StreamReader
from trueport.gateway.dialects.google_streams import ArrayReader, payload
from trueport.gateway.dialects.meter import UNREADABLE
from trueport.gateway.limits.base import BudgetSpent, RateLimited, headers
from trueport.gateway.objects.ownership import EventNotes, bind, further, noted
from trueport.gateway.own.answering import answer_here, own_answer
from trueport.gateway.ports import StreamGuard, Tools
from trueport.gateway.repeats import key_of
from trueport.gateway.screening import ContentBlocked, DetectorUnavailable, screen_input
from trueport.gateway.settlement import Settlement
from trueport.gateway.snapshot import TenantSnapshot
from trueport.gateway.streaming import SseSplitter, events
from trueport.gateway.tokens import CAREFUL, estimate_input_tokens
from trueport.gateway.translate.rules import UnreadableAnswer
from trueport.gateway.upstream import UpstreamFailure, UpstreamTruncated
from trueport.kit.deadline import Deadline
from trueport.kit.errors import InvalidRequest, TrueportError, Unauthenticated

CLIENT_GONE: Final = "client_closed"
LONGEST_ANSWER_BYTES: Final = 64 << 20
_SSE: Final = "text/event-stream"
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_KEPT_CONTENT_BYTES: Final = 8 << 20
_MOST_PAGES: Final = 20
_REVOCATION_LOOK_S: Final = 1.0
# Members of a whole answer, in any dialect, whose text the model wrote.
_WRITTEN: Final = ("choices", "output", "content", "candidates")


class KeyRevoked(Unauthenticated):
    """The API key was disabled, deleted or expired while its call was running."""

    code = "key_revoked"

    def __init__(self) -> None:
        super().__init__("The API key is no longer valid.")


async def relay(call: Call, tools: Tools) -> Reply:
    """Carry one client call to a provider and back, or refuse it in the client's dialect."""
    try:
        caller, snapshot = await tools.callers.authenticate(call)
    except TrueportError as error:
        tools.metrics.rejected_keys.inc()
        return refusal(call, error)
    return await relay_for(call, caller, snapshot, tools)


async def relay_for(call: Call, caller: Caller, snapshot: TenantSnapshot, tools: Tools) -> Reply:
    """The same for a caller who has been authenticated."""
    settlement = Settlement(call, caller, snapshot, tools)
    try:
        query = without_key(call.query)
        request = call.dialect.read(call.method, call.path, query, _content_type(call), call.body)
        settlement.request = request
        answer = own_answer(request, snapshot)
        if answer is not None:
            head, body = await answer_here(call, caller, request, answer, settlement, tools)
            receipt = settlement.record.receipt if settlement.record else ""
            return Reply(200, [*head, *own_headers(call, settlement, decision=b"allow", receipt=receipt)], body)
        admitted, settlement.reservation = await admit(call, caller, request, snapshot, tools)
        admitted = await bind(admitted, tools.objects, tools.wire_of)
        settlement.record = await tools.recorder.intent(admitted)
        recorded = Recorded(admitted, settlement.record)
        screened = await screen_input(recorded, tools.screener)
        settlement.judged(screened.judgement)
        if screened.refusal is not None:
            raise screened.refusal
        if tools.recorder.waits_before_upstream:
            await recorded.record.durable()
        kept = await _earlier_answer(recorded, screened, tools, settlement)
        if kept is not None:
            return await _give_again(*kept, recorded, settlement, tools)
        answered = await send(screened, tools, settlement)
        return await _pass_on(answered, screened, settlement, tools)
    except TrueportError as error:
        return _refuse(call, error, settlement)
    except asyncio.CancelledError as stop:
        settlement.close(_cut_short(stop, settlement))
        raise
    except BaseException:
        settlement.close(Outcome(end="gateway_failed", status=500, error="internal_error"))
        raise


def refusal(
    call: Call,
    error: TrueportError,
    settlement: Settlement | None = None,
    *,
    receipt: str = "",
    rate_headers: HeaderList | None = None,
) -> Reply:
    """The error as an answer in the client's dialect."""
    status, head, body = call.dialect.refusal(error, call.interaction_id, call.request_id)
    if isinstance(error, Unauthenticated):
        head.append((b"www-authenticate", b"Bearer"))
    decision = b"block" if settlement and settlement.decision == "block" else b"refuse"
    head += [*own_headers(call, settlement, decision=decision, receipt=receipt), *(rate_headers or ())]
    return Reply(status, head, body)


def own_headers(call: Call, settlement: Settlement | None, *, decision: bytes, receipt: str = "") -> HeaderList:
    """The headers every gateway answer carries; those that depend on what never happened are empty."""
    target = settlement.served_by if settlement else None
    request = settlement.request if settlement else None
    model = (target.model if target else None) or (request.model if request else None) or ""
    request_id = call.request_id.encode()
    own_name = call.dialect.request_id_header
    return [
        (b"x-request-id", request_id),
        *([] if own_name == b"x-request-id" else [(own_name, request_id)]),
        (b"x-trueport-interaction", call.interaction_id.encode()),
        (b"x-trueport-receipt", receipt.encode()),
        (b"x-trueport-decision", decision),
        (b"x-trueport-provider", target.credential.provider.encode() if target else b""),
        (b"x-trueport-model", model.encode()),
        (b"x-trueport-attempts", b"%d" % (len(settlement.attempts) if settlement else 0)),
        (b"x-trueport-policy-version", b"%d" % settlement.policy_version if settlement else b""),
    ]


def _refuse(call: Call, error: TrueportError, settlement: Settlement) -> Reply:
    if isinstance(error, UpstreamFailure):
        usage, usage_source = _possibly_billed(settlement) if error.request_sent else (None, "none")
        outcome = Outcome(
            end="upstream_failed", status=error.status, error=error.code, usage=usage, usage_source=usage_source
        )
    else:
        outcome = Outcome(end="refused", status=error.status, error=error.code)
    settlement.close(outcome)
    rate_headers = headers(error.standing) if isinstance(error, RateLimited | BudgetSpent) else None
    receipt = settlement.record.receipt if settlement.record else settlement.receipt
    return refusal(call, error, settlement, receipt=receipt, rate_headers=rate_headers)


def _cache_name(admitted: Admitted, screened: Screened) -> bytes | None:
    """Under which name the call's answer may be kept; None where route, request or client do not want that.

    Both what the client asked and what the policies made of it have to be the same.
    """
    if not admitted.cache_s:
        return None
    for name, value in admitted.call.headers:
        if name == b"cache-control" and any(word in value.lower() for word in (b"no-cache", b"no-store")):
            return None
    own, asked = name_of(admitted), screened.recorded.admitted
    changed = None if asked is admitted else name_of(asked)
    return own if own is None or changed is None else own + changed


async def _earlier_answer(
    recorded: Recorded, screened: Screened, tools: Tools, settlement: Settlement
) -> tuple[KeptAnswer, tuple[bytes, bytes]] | None:
    """An answer that this call gets instead of asking a provider, and the header that says so."""
    admitted = recorded.admitted
    key = key_of(admitted.call)
    if key is not None:
        found = await tools.repeats.claim(admitted, key)
        if isinstance(found, KeptAnswer):
            return found, (b"x-idempotent-replay", b"true")
        settlement.claim = found
    settlement.keeps_as, settlement.keeps_s = _cache_name(admitted, screened), admitted.cache_s
    kept = tools.cache.find(settlement.keeps_as) if settlement.keeps_as is not None else None
    return None if kept is None else (kept, (b"x-trueport-cache", b"hit"))


async def _give_again(
    kept: KeptAnswer, mark: tuple[bytes, bytes], recorded: Recorded, settlement: Settlement, tools: Tools
) -> Reply:
    """An earlier answer to the same request. The policies see request and answer like any other."""
    content_type = next((value.decode("latin-1") for name, value in kept.headers if name == b"content-type"), "")
    inspected = await tools.screener.inspect_output(recorded.admitted, None, kept.body, content_type)
    settlement.judged(inspected.judgement)
    if inspected.refusal is not None:
        raise inspected.refusal
    await recorded.record.durable()
    outcome = Outcome(
        end="completed",
        status=kept.status,
        model_served=kept.model,
        reply_bytes=len(inspected.body),
        repeats=kept.interaction_id,
        content=inspected.body,
    )
    settlement.answers_with(kept.headers)
    settlement.close(outcome)
    call = recorded.admitted.call
    head = [
        *kept.headers,
        *own_headers(call, settlement, decision=settlement.decision.encode(), receipt=recorded.record.receipt),
        *recorded.admitted.rate_headers,
        mark,
    ]
    told = {b"x-trueport-provider": kept.provider.encode(), b"x-trueport-model": kept.model.encode()}
    head = [(name, told.get(name, value)) for name, value in head]
    if kept.is_stream:
        return Reply(kept.status, head, stream=_one_piece(inspected.body))
    return Reply(kept.status, head, inspected.body)


async def _one_piece(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _pass_on(answered: Answered, screened: Screened, settlement: Settlement, tools: Tools) -> Reply:
    if answered.answer.status == 200 and answered.content_type.startswith(_SSE):
        return await _pass_on_stream(answered, screened, settlement, tools)
    answered, body = await _whole(answered, settlement, tools)
    asked = answered.asked
    usage: Usage | None = None
    usage_source: UsageSource = "none"
    doubtful, model = False, None
    if answered.answer.status < 300:
        reported, doubtful, model = asked.dialect.usage(body)
        output_tokens = _estimated_output(body) if reported is None else 0
        usage, usage_source = settlement.metered(reported, output_tokens=output_tokens)
    outcome = Outcome(
        end="completed",
        status=answered.answer.status,
        model_served=model,
        usage=usage,
        usage_source=usage_source,
        usage_doubtful=doubtful,
        first_byte_us=answered.first_byte_us,
        upstream_request_id=answered.answer.upstream_request_id,
    )
    try:
        status, head, body = _in_clients_terms(answered, settlement, body)
    except UnreadableAnswer as error:
        settlement.close(replace(outcome, end="upstream_failed", status=error.status, error=error.code))
        raise
    if asked.bridge is None:
        body = await noted(answered.admitted, status, body, answered.target.credential.id, tools.objects)
    outcome, body = await _inspected(answered, screened, outcome, head, body, settlement, tools)
    head = [*head, (b"x-trueport-decision", settlement.decision.encode())]
    # The intent has been on its way to the disk since before the provider was called.
    await answered.record.durable()
    settlement.answers_with(head)
    settlement.close(replace(outcome, reply_bytes=len(body), content=body))
    if status == 200:
        settlement.keep(head, body, is_stream=False)
    return Reply(status, head, body)


async def _inspected(
    answered: Answered,
    screened: Screened,
    outcome: Outcome,
    head: HeaderList,
    body: bytes,
    settlement: Settlement,
    tools: Tools,
) -> tuple[Outcome, bytes]:
    """The answer as policy lets it leave. Raises what the client gets instead, the call then being closed."""
    content_type = next((value.decode("latin-1") for name, value in head if name == b"content-type"), "")
    inspected = await tools.screener.inspect_output(
        answered.admitted, answered.target, body, content_type, screened.placeholders
    )
    settlement.judged(inspected.judgement)
    outcome = replace(outcome, held_ms=inspected.judgement.took_us // 1_000 if inspected.judgement else 0)
    if inspected.refusal is not None:
        # The provider has done its work, which is paid for.
        settlement.close(replace(outcome, end="refused", status=inspected.refusal.status, error=inspected.refusal.code))
        raise inspected.refusal
    return outcome, inspected.body


async def _whole(answered: Answered, settlement: Settlement, tools: Tools) -> tuple[Answered, bytes]:
    """An answer with its whole body; of a list the first page with something of the tenant's on it, or the last."""
    body = _without_secret(await answered.answer.read(LONGEST_ANSWER_BYTES), answered)
    for _ in range(_MOST_PAGES - 1):
        onward = await further(answered.admitted, answered.answer.status, body, tools.objects)
        if onward is None:
            break
        answered = await send(Screened(Recorded(onward, answered.record), answered.decision), tools, settlement)
        body = _without_secret(await answered.answer.read(LONGEST_ANSWER_BYTES), answered)
    return answered, body


def _in_clients_terms(answered: Answered, settlement: Settlement, body: bytes) -> tuple[int, HeaderList, bytes]:
    """A whole answer as the client gets it: as it came, or translated where the provider speaks another wire."""
    admitted, bridge, status = answered.admitted, answered.asked.bridge, answered.answer.status
    if bridge is None:
        head = _answer_headers(answered, settlement)
        may_use_model = admitted.caller.may_use_model
        if admitted.request.lists_models and status < 300 and not may_use_model(""):
            body = admitted.call.dialect.only_models(body, may_use_model)
        return status, head, admitted.call.dialect.with_own_links(admitted.request, body)
    if status < 300:
        return status, _answer_headers(answered, settlement, _JSON), bridge.answer(body)
    call = admitted.call
    error = bridge.error(status, body)
    status, own, body = call.dialect.refusal(error, call.interaction_id, call.request_id)
    told = {name for name, _ in own}
    return status, [*own, *(pair for pair in _answer_headers(answered, settlement, _JSON) if pair[0] not in told)], body


async def _pass_on_stream(answered: Answered, screened: Screened, settlement: Settlement, tools: Tools) -> Reply:
    own_type = _EVENTS if answered.asked.bridge is not None else None
    if answered.admitted.request.streams_as == "array":
        own_type = _JSON
    head = _answer_headers(answered, settlement, own_type)
    head.append((b"x-trueport-decision", settlement.decision.encode()))
    settlement.answers_with(head)
    try:
        guard = tools.screener.guard(answered.admitted, answered.target, screened.placeholders)
        await answered.record.durable()
    except BaseException:
        answered.answer.close()
        raise
    stream = _stream(answered, settlement, head, _notes(answered, tools), guard)
    # Closing a generator that never ran runs none of it, so it is brought to where its `finally` holds.
    await anext(stream)
    return Reply(200, head, stream=stream)


def _notes(answered: Answered, tools: Tools) -> EventNotes | None:
    """What remembers the objects that the stream's events bring into being; None where none does."""
    if answered.asked.bridge is not None:
        return None
    notes = EventNotes(answered.admitted, answered.target.credential.id, tools.objects)
    return notes if notes.are_due else None


async def _stream(
    answered: Answered, settlement: Settlement, head: HeaderList, notes: EventNotes | None, guard: StreamGuard | None
) -> AsyncGenerator[bytes, None]:
    """The provider's events as the client gets them, after an empty piece that is there at once.

    Settles when it ends, breaks, or is closed from outside.
    """
    call = answered.admitted.call
    reader = _reader(answered)
    revocation = _RevocationWatch(answered)
    delivered = _Delivered()
    error: TrueportError | None = None
    stop: BaseException | None = None
    try:
        yield b""
        if guard is not None:
            yield b""  # the head of the answer does not wait for the first text that policies let go
        async for batch in _batches(answered, reader, guard):
            if piece := await _piece(batch, answered, reader, notes, guard):
                yield delivered.with_piece(piece)
            _raise_refusal(guard)
        if ending := await _ending(reader, guard):
            yield delivered.with_piece(ending)
        _raise_refusal(guard)
        await _observe(guard)
    except TrueportError as problem:
        if reader.has_ended and isinstance(problem, UpstreamFailure):
            return  # the client has everything; how the connection went down afterwards changes nothing
        # The provider is not waited for while the client takes its time with what is left for it.
        answered.answer.close()
        error, rest = await _broken_off(problem, guard)
        if rest:
            yield delivered.with_piece(rest)
        event = call.dialect.error_event(error, call.interaction_id, call.request_id)
        yield _error_piece(reader, event, is_first=not delivered.size)
        await _observe(guard)
    except BaseException as cut:
        stop = cut
        raise
    finally:
        revocation.stop()
        outcome = replace(
            _streamed(answered, reader, settlement, guard), reply_bytes=delivered.size, content=bytes(delivered.content)
        )
        outcome = _ended(outcome, error, stop, failed_inside=reader.failed)
        settlement.close(outcome)
        if outcome.end == "completed" and delivered.is_kept_whole:
            settlement.keep(head, bytes(delivered.content), is_stream=True)
        answered.answer.close()


class _Delivered:
    """What the client has got of a stream: how much, and the beginning of it that is recorded."""

    __slots__ = ("content", "size")

    def __init__(self) -> None:
        self.content = bytearray()
        self.size = 0

    @property
    def is_kept_whole(self) -> bool:
        return len(self.content) == self.size

    def with_piece(self, piece: bytes) -> bytes:
        """The piece, once it has been noted."""
        if len(self.content) < _KEPT_CONTENT_BYTES:
            self.content += piece
        self.size += len(piece)
        return piece


async def _piece(
    batch: list[bytes],
    answered: Answered,
    reader: StreamReader,
    notes: EventNotes | None,
    guard: StreamGuard | None,
) -> bytes:
    """What the client gets of these events now."""
    if not answered.admitted.caller.is_live():
        raise KeyRevoked
    if notes is not None:
        await notes.before(batch)
    piece = reader.pass_on(batch)
    return piece if guard is None else await guard.feed(piece)


def _batches(answered: Answered, reader: StreamReader, guard: StreamGuard | None) -> AsyncIterator[list[bytes]]:
    """The provider's events as they come."""
    timeouts = answered.timeouts
    source = events(answered.answer, SseSplitter(), event_s=timeouts.event_s, deadline=Deadline.after(timeouts.total_s))
    return source if guard is None else _to_the_end(source, reader)


async def _to_the_end(source: AsyncIterator[list[bytes]], reader: StreamReader) -> AsyncGenerator[list[bytes], None]:
    """The events, without the failure of a connection that goes down behind the last: a guard still holds some."""
    try:
        async for batch in source:
            yield batch
    except UpstreamFailure:
        if not reader.has_ended:
            raise


async def _ending(reader: StreamReader, guard: StreamGuard | None) -> bytes:
    """What the client gets once the stream is over. Raises UpstreamTruncated for one that is not whole."""
    if not reader.is_complete and not reader.failed:
        raise UpstreamTruncated("The provider's stream ended before it was complete.")
    ending = reader.ending()
    return ending if guard is None else await guard.feed(ending) + await guard.finish()


def _raise_refusal(guard: StreamGuard | None) -> None:
    """A stream that policy has ended ends now, not with the provider's next event."""
    if guard is not None and guard.refusal is not None:
        raise guard.refusal


async def _observe(guard: StreamGuard | None) -> None:
    """The policies that only tell read the rest, once the client has it."""
    if guard is not None:
        await guard.observe()


async def _broken_off(problem: TrueportError, guard: StreamGuard | None) -> tuple[TrueportError, bytes]:
    """What a stream ends with that goes no further, and what before that a guard still held and policy allows."""
    if guard is None or not isinstance(problem, UpstreamFailure):
        return problem, b""
    try:
        rest = await guard.finish()
    except TrueportError as refusal:
        return refusal, b""
    return guard.refusal or problem, rest


def _streamed(answered: Answered, reader: StreamReader, settlement: Settlement, guard: StreamGuard | None) -> Outcome:
    """What a stream came to as far as it went."""
    if guard is not None:
        settlement.judged(guard.judgement)
    usage, usage_source = _metered(reader, answered, settlement)
    return Outcome(
        end="completed",
        status=200,
        model_served=reader.model,
        usage=usage,
        usage_source=usage_source,
        usage_doubtful=reader.usage_doubtful,
        first_byte_us=answered.first_byte_us,
        upstream_request_id=answered.answer.upstream_request_id,
        held_ms=0 if guard is None else guard.held_ms,
    )


def _error_piece(reader: StreamReader, event: bytes, *, is_first: bool) -> bytes:
    """The error as the next piece of the answer. What a guard kept has not begun the array that it stands in."""
    if not isinstance(reader, ArrayReader):
        return event
    return b"[" + payload(event) if is_first else reader.error(event)


def _metered(reader: StreamReader, answered: Answered, settlement: Settlement) -> tuple[Usage | None, UsageSource]:
    """What a stream used, which may have been cut.

    OpenAI's numbers come once, behind the text, and are then final. Anthropic's begin with the input alone, and
    Google's grow with every event: what a cut stream has told is not all.
    """
    wire = answered.asked.dialect.wire
    untold = 0 if reader.usage is not None and wire == "google" else reader.output_events
    return settlement.metered(reader.usage, output_tokens=untold, is_whole=reader.is_complete or wire == "openai")


def _reader(answered: Answered) -> StreamReader:
    """What meters the provider's stream and makes the client's of it."""
    asked, request = answered.asked, answered.admitted.request
    if asked.bridge is None:
        return asked.dialect.stream_reader(asked.request)
    reader = asked.bridge.reader(asked.dialect.stream_reader(asked.request))
    return ArrayReader(reader) if request.streams_as == "array" else reader


class _RevocationWatch:
    """Fails the answer of a stream once its key is no longer valid: its next event may be long in coming."""

    __slots__ = ("_answered", "_loop", "_timer")

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_REVOCATION_LOOK_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if self._answered.admitted.caller.is_live():
            self._timer = self._loop.call_later(_REVOCATION_LOOK_S, self._look)
        else:
            self._answered.answer.fail(KeyRevoked())


def _ended(
    outcome: Outcome, error: TrueportError | None, stop: BaseException | None, *, failed_inside: bool
) -> Outcome:
    if stop is not None:
        end, code = _stopped(stop)
        return replace(outcome, end=end, error=code)
    if isinstance(error, KeyRevoked):
        return replace(outcome, end="key_revoked", error=error.code)
    if isinstance(error, ContentBlocked | DetectorUnavailable):
        return replace(outcome, end="refused", error=error.code)
    if error is not None:
        return replace(outcome, end="upstream_failed", error=error.code)
    if failed_inside:
        return replace(outcome, end="upstream_failed", error="upstream_error_event")
    return outcome


def _cut_short(stop: asyncio.CancelledError, settlement: Settlement) -> Outcome:
    usage, usage_source = _possibly_billed(settlement)
    end, code = _stopped(stop)
    return Outcome(
        end=end, status=499 if end == "client_closed" else 503, error=code, usage=usage, usage_source=usage_source
    )


def _stopped(stop: BaseException) -> tuple[End, str]:
    """How a call ends that was stopped from outside, and the code of it: by its client, or by us."""
    if isinstance(stop, GeneratorExit) or stop.args == (CLIENT_GONE,):
        return "client_closed", CLIENT_GONE
    return "gateway_failed", "stopped"


def _possibly_billed(settlement: Settlement) -> tuple[Usage | None, UsageSource]:
    """What a call may cost whose answer never came: its input, once a target was tried."""
    return settlement.metered(None, output_tokens=0) if settlement.served_by else (None, "none")


def _answer_headers(
    answered: Answered, settlement: Settlement, own_type: tuple[bytes, bytes] | None = None
) -> HeaderList:
    """The headers of an answer; `own_type` is its content type where it is written anew."""
    admitted, bridge = answered.admitted, answered.asked.bridge
    head = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in answered.answer.headers.items()
        if not (name == "content-type" and own_type is not None)
    ]
    if own_type is not None:
        head.append(own_type)
    if bridge is not None and bridge.dropped:
        head.append((b"x-trueport-dropped", ",".join(bridge.dropped).encode("ascii", "replace")))
    if settlement.keeps_as is not None:
        head.append((b"x-trueport-cache", b"miss"))
    # What was decided is told once the answer has been seen too.
    own = own_headers(admitted.call, settlement, decision=b"", receipt=answered.record.receipt)
    head += [pair for pair in own if pair[0] != b"x-trueport-decision"]
    head += admitted.rate_headers
    return head


def _estimated_output(body: bytes) -> int:
    """About the tokens of the texts in an answer whose provider did not count them."""
    try:
        said = msgspec.json.decode(body)
    except UNREADABLE:
        return CAREFUL.count(body.decode(errors="replace"), "")
    written = [said[name] for name in _WRITTEN if name in said] if isinstance(said, dict) else said
    return estimate_input_tokens({"input": written}, body, "", counter=CAREFUL)


def _without_secret(body: bytes, answered: Answered) -> bytes:
    """An error text that quotes the credential it was sent, with the credential taken out."""
    secret = answered.target.credential.secret
    if answered.answer.status < 400 or secret is None:
        return body
    return body.replace(secret.reveal().encode(), b"[removed]")


def _content_type(call: Call) -> str:
    found = [value for name, value in call.headers if name == b"content-type"]
    if len(found) > 1:
        raise InvalidRequest("The request states the type of its body more than once.")
    return found[0].decode("latin-1") if found else ""
