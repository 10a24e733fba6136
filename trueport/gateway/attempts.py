"""Trying the targets of a call in order, until one answers or none is left."""

from dataclasses import dataclass
from typing import Final

from trueport.gateway.call import Admitted, Attempt, Decision, Screened
from trueport.gateway.egress import PoolKey
from trueport.gateway.ports import OpenRecord, Tools
from trueport.gateway.providers.base import forwarded_headers
from trueport.gateway.settlement import Settlement
from trueport.gateway.snapshot import Target
from trueport.gateway.upstream import (
    Timeouts,
    UpstreamAnswer,
    UpstreamFailure,
    UpstreamInvalid,
    UpstreamRequest,
)

_TIMEOUTS: Final = Timeouts()
_REFUSES_OUR_CREDENTIAL: Final = frozenset({401, 403})
_ANOTHER_MAY_DO_BETTER: Final = frozenset({429, 500, 502, 503, 504, 529})


class UpstreamAuth(UpstreamFailure):
    """The provider does not accept the tenant's credential. Its own text stays here: it may quote the key."""

    code = "upstream_auth"
    status = 502
    counts_as_failure = False
    should_retry = False

    def __init__(self) -> None:
        # Whoever is not let in is not billed either, so nothing is estimated for this call.
        super().__init__("The provider refused the credential configured for it.", request_sent=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """A provider has begun to answer; nothing has reached the client yet."""

    admitted: Admitted
    record: OpenRecord
    decision: Decision
    target: Target
    answer: UpstreamAnswer
    content_type: str
    timeouts: Timeouts
    first_byte_us: int


async def send(screened: Screened, tools: Tools, settlement: Settlement) -> Answered:
    """The first usable answer, trying the targets in order.

    A further target is tried only while nothing has reached the client, which here is always so. The last target's
    own error answer is an answer too. Raises the last UpstreamFailure.
    """
    admitted = screened.recorded.admitted
    targets = admitted.targets
    for target in targets:
        is_last = target is targets[-1]
        try:
            answered = await _try(screened, target, tools, settlement)
        except UpstreamFailure:
            if is_last:
                raise
            continue
        if answered.answer.status in _ANOTHER_MAY_DO_BETTER and not is_last:
            answered.answer.close()
            continue
        return answered
    raise UpstreamInvalid("No target is left to try.")  # unreachable: admission gives at least one target


async def _try(screened: Screened, target: Target, tools: Tools, settlement: Settlement) -> Answered:
    admitted = screened.recorded.admitted
    started_s = tools.clock.monotonic()
    settlement.served_by = target
    timeouts = _timeouts(admitted, target)
    status: int | None = None
    error: str | None = None
    try:
        answer = await tools.upstream.send(_request(admitted, target, tools, timeouts))
        status = answer.status
        if status in _REFUSES_OUR_CREDENTIAL:
            answer.close()
            raise UpstreamAuth
    except UpstreamFailure as failure:
        error = failure.code
        raise
    except BaseException:
        error = "stopped"
        raise
    finally:
        took_us = int((tools.clock.monotonic() - started_s) * 1e6)
        settlement.attempts.append(Attempt(target, status, error, took_us))
    return Answered(
        admitted=admitted,
        record=screened.recorded.record,
        decision=screened.decision,
        target=target,
        answer=answer,
        content_type=answer.headers.get("content-type", ""),
        timeouts=timeouts,
        first_byte_us=took_us,
    )


def _timeouts(admitted: Admitted, target: Target) -> Timeouts:
    """A target's own limit holds until a stream begins and between its events, or for a whole plain answer."""
    own_s = target.timeout_s
    if own_s is None:
        return _TIMEOUTS
    return Timeouts(
        connect_s=min(own_s, _TIMEOUTS.connect_s),
        headers_s=own_s,
        event_s=min(own_s, _TIMEOUTS.event_s),
        total_s=_TIMEOUTS.total_s if admitted.request.streams else own_s,
    )


def _request(admitted: Admitted, target: Target, tools: Tools, timeouts: Timeouts) -> UpstreamRequest:
    call, request, credential = admitted.call, admitted.request, target.credential
    provider = tools.providers[credential.provider]
    body = call.dialect.with_model(request, target.model) if target.model else request.body
    return UpstreamRequest(
        method=call.method,
        url=provider.url(credential, call.path, call.query),
        headers=(*provider.headers(credential), *forwarded_headers(call), *_stated_type(admitted)),
        body=body,
        pool=PoolKey(admitted.caller.tenant_id, credential.id),
        timeouts=timeouts,
    )


def _stated_type(admitted: Admitted) -> tuple[tuple[str, str], ...]:
    """A content type for a JSON body whose client named none; the HTTP client would make up one of its own."""
    if admitted.request.members is None or any(name == b"content-type" for name, _ in admitted.call.headers):
        return ()
    return (("content-type", admitted.request.content_type),)
