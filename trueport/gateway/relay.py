"""The path of one call, top to bottom.

Each stage takes what the stage before it gives, so that leaving one out is a type error: admission gives an
Admitted, recording its intent a Recorded, screening a Screened, and only a Screened can be sent.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from trueport.gateway.admission import admit, estimated_input_tokens
from trueport.gateway.attempts import Answered, send
from trueport.gateway.call import Admitted, Call, End, HeaderList, Outcome, Recorded, Reply, Usage, UsageSource
from trueport.gateway.limits.base import RateLimited, headers
from trueport.gateway.ports import Tools
from trueport.gateway.screening import screen_input
from trueport.gateway.settlement import Settlement
from trueport.gateway.streaming import SseSplitter, events
from trueport.gateway.upstream import UpstreamFailure, UpstreamTruncated
from trueport.kit.deadline import Deadline
from trueport.kit.errors import InvalidRequest, TrueportError, Unauthenticated

CLIENT_GONE: Final = "client_closed"
LONGEST_ANSWER_BYTES: Final = 64 << 20
_SSE: Final = "text/event-stream"
_KEPT_CONTENT_BYTES: Final = 8 << 20
_REVOCATION_LOOK_S: Final = 1.0


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
    settlement = Settlement(call, caller, snapshot, tools)
    try:
        request = settlement.request = call.dialect.read(call.method, call.path, _content_type(call), call.body)
        admitted, settlement.reservation = await admit(call, caller, request, snapshot, tools)
        settlement.record = tools.recorder.intent(admitted)
        recorded = Recorded(admitted, settlement.record)
        screened = await screen_input(recorded, tools.screener)
        if tools.recorder.waits_before_upstream:
            await recorded.record.durable()
        answered = await send(screened, tools, settlement)
        return await _pass_on(answered, settlement)
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
    head += [*own_headers(call, settlement, decision=b"refuse", receipt=receipt), *(rate_headers or ())]
    return Reply(status, head, body)


def own_headers(call: Call, settlement: Settlement | None, *, decision: bytes, receipt: str = "") -> HeaderList:
    """The headers every gateway answer carries; those that depend on what never happened are empty."""
    target = settlement.served_by if settlement else None
    request = settlement.request if settlement else None
    model = (target.model if target else None) or (request.model if request else None) or ""
    return [
        (b"x-request-id", call.request_id.encode()),
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
    rate_headers = headers(error.standing) if isinstance(error, RateLimited) else None
    receipt = settlement.record.receipt if settlement.record else settlement.receipt
    return refusal(call, error, settlement, receipt=receipt, rate_headers=rate_headers)


async def _pass_on(answered: Answered, settlement: Settlement) -> Reply:
    admitted = answered.admitted
    head = _answer_headers(answered, settlement)
    if answered.answer.status == 200 and answered.content_type.startswith(_SSE):
        try:
            await answered.record.durable()
        except BaseException:
            answered.answer.close()
            raise
        stream = _stream(answered, settlement)
        # Closing a generator that never ran runs none of it, so it is brought to where its `finally` holds.
        await anext(stream)
        return Reply(200, head, stream=stream)
    body = await answered.answer.read(LONGEST_ANSWER_BYTES)
    body = _without_secret(body, answered)
    may_use_model = admitted.caller.may_use_model
    if admitted.request.lists_models and answered.answer.status < 300 and not may_use_model(""):
        body = admitted.call.dialect.only_models(body, may_use_model)
    usage: Usage | None = None
    usage_source: UsageSource = "none"
    doubtful, model = False, None
    if answered.answer.status < 300:
        reported, doubtful, model = admitted.call.dialect.usage(body)
        usage, usage_source = settlement.metered(reported, output_tokens=estimated_input_tokens(body))
    # The intent has been on its way to the disk since before the provider was called.
    await answered.record.durable()
    settlement.close(
        Outcome(
            end="completed",
            status=answered.answer.status,
            model_served=model,
            usage=usage,
            usage_source=usage_source,
            usage_doubtful=doubtful,
            first_byte_us=answered.first_byte_us,
            reply_bytes=len(body),
            upstream_request_id=answered.answer.upstream_request_id,
            content=body,
        )
    )
    return Reply(answered.answer.status, head, body)


async def _stream(answered: Answered, settlement: Settlement) -> AsyncGenerator[bytes, None]:
    """The provider's events as the client gets them, after an empty piece that is there at once.

    Settles when it ends, breaks, or is closed from outside.
    """
    call, request = answered.admitted.call, answered.admitted.request
    timeouts = answered.timeouts
    reader = call.dialect.stream_reader(request)
    revocation = _RevocationWatch(answered)
    source = events(answered.answer, SseSplitter(), event_s=timeouts.event_s, deadline=Deadline.after(timeouts.total_s))
    content = bytearray()
    sent = 0
    error: TrueportError | None = None
    stop: BaseException | None = None
    try:
        yield b""
        async for batch in source:
            if not answered.admitted.caller.is_live():
                raise KeyRevoked
            piece = reader.pass_on(batch)
            if len(content) < _KEPT_CONTENT_BYTES:
                content += piece
            if piece:
                sent += len(piece)
                yield piece
        if not reader.is_complete and not reader.failed:
            raise UpstreamTruncated("The provider's stream ended before it was complete.")
    except TrueportError as problem:
        if reader.has_ended and isinstance(problem, UpstreamFailure):
            return  # the client has everything; how the connection went down afterwards changes nothing
        error = problem
        yield call.dialect.error_event(problem, call.interaction_id, call.request_id)
    except BaseException as cut:
        stop = cut
        raise
    finally:
        revocation.stop()
        usage, usage_source = settlement.metered(reader.usage, output_tokens=reader.output_events)
        outcome = Outcome(
            end="completed",
            status=200,
            model_served=reader.model,
            usage=usage,
            usage_source=usage_source,
            usage_doubtful=reader.usage_doubtful,
            first_byte_us=answered.first_byte_us,
            reply_bytes=sent,
            upstream_request_id=answered.answer.upstream_request_id,
            content=bytes(content),
        )
        settlement.close(_ended(outcome, error, stop, failed_inside=reader.failed))
        answered.answer.close()


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


def _answer_headers(answered: Answered, settlement: Settlement) -> HeaderList:
    admitted: Admitted = answered.admitted
    head = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answered.answer.headers.items()]
    head += own_headers(admitted.call, settlement, decision=answered.decision.encode(), receipt=answered.record.receipt)
    head += admitted.rate_headers
    return head


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
