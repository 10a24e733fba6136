"""Trying the targets of a call in order, until one answers or none is left."""

import asyncio
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec
from yarl import URL

from trueport.gateway.breaker.base import Denied, Permit, verdict_of
from trueport.gateway.breaker.scopes import scope_of
from trueport.gateway.call import Admitted, Attempt, Decision, Request, Screened
from trueport.gateway.dialects.base import Dialect
from trueport.gateway.egress import PoolKey
from trueport.gateway.observed import asked_pause_s
from trueport.gateway.ports import OpenRecord, Tools
from trueport.gateway.providers.base import Provider, forwarded_headers
from trueport.gateway.providers.credential import CredentialRefused
from trueport.gateway.providers.registry import is_vendors_own
from trueport.gateway.routing import RegionNotAllowed, allowed_region, order_targets
from trueport.gateway.settlement import Settlement
from trueport.gateway.snapshot import Credential, Target
from trueport.gateway.translate.bridge import Bridge, bridged
from trueport.gateway.upstream import Timeouts, UpstreamAnswer, UpstreamFailure, UpstreamRequest
from trueport.kit.errors import InvalidRequest, Unavailable
from trueport.kit.ids import CredentialId, TenantId

_TIMEOUTS: Final = Timeouts()
_REFUSES_OUR_CREDENTIAL: Final = frozenset({401, 403})
_ANOTHER_MAY_DO_BETTER: Final = frozenset({429, 500, 502, 503, 504, 529})
_PROBE_GRACE_S: Final = 5.0
_BACKOFF_S: Final = 0.2
_LONGEST_BACKOFF_S: Final = 2.0


class CircuitOpen(Unavailable):
    """Every target has failed so often of late that it is left alone for a while."""

    code = "circuit_open"

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("No provider for this model is in working order right now.")
        self.retry_after_s = max(1, -(-retry_after_ms // 1_000))


class Asked(msgspec.Struct, frozen=True):
    """What one target is asked, in its own wire, and the way back where that is not the client's."""

    target: Target
    provider: Provider
    request: Request
    url: URL
    dialect: Dialect
    bridge: Bridge | None


class Answered(msgspec.Struct, frozen=True):
    """A provider has begun to answer; nothing has reached the client yet."""

    admitted: Admitted
    record: OpenRecord
    decision: Decision
    asked: Asked
    answer: UpstreamAnswer
    content_type: str
    timeouts: Timeouts
    first_byte_us: int

    @property
    def target(self) -> Target:
        return self.asked.target


async def send(screened: Screened, tools: Tools, settlement: Settlement) -> Answered:
    """The first usable answer, trying the targets in order.

    A further try is made only while nothing has reached the client, which here is always so, and only within the
    retry budget. Targets with an open circuit, and those outside the regions the tenant allows, are not asked, and
    nobody is after a provider that does not take our credential. The last error answer of a provider is an answer
    too. Raises the last UpstreamFailure; CircuitOpen when no target could be asked for its circuit; or what keeps the
    request from being put to any of them.
    """
    admitted = screened.recorded.admitted
    tools.retries.note_call(admitted.caller.tenant_id)
    last: Answered | UpstreamFailure | None = None
    problem: InvalidRequest | None = None
    waits_ms: list[int] = []
    unasked: Target | None = None
    try:
        for target, is_again in _tries(_ordered(admitted, tools), admitted):
            if is_again and target is unasked:
                continue  # what kept it from being asked does so still
            if last is not None and not await _may_go_on(last, admitted, tools, is_again=is_again):
                continue
            found = await _ask(screened, target, tools, settlement)
            unasked = target if isinstance(found, Denied | InvalidRequest) else None
            if isinstance(found, Denied):
                waits_ms.append(found.retry_after_ms)
            elif isinstance(found, InvalidRequest):
                problem = problem or found
            else:
                if isinstance(last, Answered):
                    last.answer.close()
                last = found
                if _is_final(found):
                    break
    except BaseException:
        if isinstance(last, Answered):
            last.answer.close()
        raise
    if isinstance(last, Answered):
        return _with_shortest_pause(last, tools)
    if last is not None or problem is not None:
        raise last or problem  # type: ignore[misc]  # one of the two is there
    raise CircuitOpen(min(waits_ms)) if waits_ms else RegionNotAllowed


def _with_shortest_pause(last: Answered, tools: Tools) -> Answered:
    """The answer of accounts that are all at their limit says when the first of them will serve again."""
    if last.answer.status != 429:
        return last
    headers = last.answer.headers
    pauses_s = [tools.observed.pause_s(target) for target in last.admitted.targets]
    known_s = [pause_s for pause_s in pauses_s if pause_s > 0]
    if len(known_s) > 1:
        kept = {name: value for name, value in headers.items() if name != "retry-after-ms"}
        last.answer.headers = {**kept, "retry-after": str(math.ceil(min(known_s)))}
    return last


def _is_final(found: Answered | UpstreamFailure) -> bool:
    """Whether nobody else is to be asked: no other target could do better, or the credential has to be put right.

    Another account that stepped in for a wrong key would only hide it.
    """
    if isinstance(found, Answered):
        return found.answer.status not in _ANOTHER_MAY_DO_BETTER
    return isinstance(found, CredentialRefused)


async def _ask(
    screened: Screened, target: Target, tools: Tools, settlement: Settlement
) -> Answered | UpstreamFailure | InvalidRequest | Denied:
    """What came of asking `target`, or why it was not asked."""
    admitted = screened.recorded.admitted
    try:
        asked = _asked(admitted, target, tools)
    except InvalidRequest as error:
        settlement.attempts.append(Attempt(target, None, error.code, 0))
        return error
    timeouts = _timeouts(asked)
    scope = breaker_scope(target.credential, admitted.caller.tenant_id)
    permit = await tools.breakers.acquire(scope, timeouts.headers_s + _PROBE_GRACE_S)
    if isinstance(permit, Denied):
        settlement.attempts.append(Attempt(target, None, CircuitOpen.code, 0))
        return permit
    try:
        return await _try(screened, asked, timeouts, permit, tools, settlement)
    except UpstreamFailure as failure:
        return failure


async def _may_go_on(last: Answered | UpstreamFailure, admitted: Admitted, tools: Tools, *, is_again: bool) -> bool:
    """Whether another try is within the retry budget, after the pause that asking the same target again takes."""
    if not tools.retries.may_retry(admitted.caller.tenant_id, is_other_target=not is_again):
        return False
    return not is_again or await _backed_off(last, tools)


def breaker_scope(credential: Credential, tenant_id: TenantId) -> str:
    """The name of the circuit that a credential's calls share."""
    return _scope(credential.provider, credential.id, tenant_id, credential.base_url, credential.region)


@lru_cache(maxsize=4_096)  # a digest and an origin to make, the same ones for every call of an account
def _scope(provider: str, credential_id: CredentialId, tenant_id: TenantId, base_url: URL, region: str | None) -> str:
    return scope_of(
        provider,
        credential_id,
        tenant_id,
        str(base_url.origin()),
        is_custom=not is_vendors_own(provider, base_url),
        region=region,
    )


def _ordered(admitted: Admitted, tools: Tools) -> list[Target]:
    targets = admitted.targets
    if len(targets) == 1:
        return list(targets)
    observed, tenant_id = tools.observed, admitted.caller.tenant_id
    resting = {
        target.id
        for target in targets
        if observed.is_paused(target) or tools.breakers.is_resting(breaker_scope(target.credential, tenant_id))
    }
    known = {target.id: observed.latency_ms(target) for target in targets}
    latency_ms = {name: latency for name, latency in known.items() if latency is not None}
    return order_targets(targets, resting, latency_ms, tools.draw)


def _tries(targets: list[Target], admitted: Admitted) -> Iterator[tuple[Target, bool]]:
    """Each target as often as it may be tried, and whether it is the same one again."""
    for target in targets:
        if not allowed_region(admitted.snapshot, target):
            continue
        for number in range(1 + target.retries):
            yield target, number > 0


async def _backed_off(last: Answered | UpstreamFailure, tools: Tools) -> bool:
    """Wait before the same target is tried again; False when it asked for a longer pause than a client should wait."""
    pause_s = _BACKOFF_S * (0.5 + tools.draw())
    if isinstance(last, Answered):
        pause_s = max(pause_s, asked_pause_s(last.answer.headers, tools.clock.now()) or 0.0)
    if pause_s > _LONGEST_BACKOFF_S:
        return False
    await asyncio.sleep(pause_s)
    return True


def _asked(admitted: Admitted, target: Target, tools: Tools) -> Asked:
    """What `target` is asked: the client's request, for another model or translated where the target wants that.

    Raises InvalidRequest when it cannot be said in the target's wire.
    """
    request, dialect = admitted.request, admitted.call.dialect
    provider = tools.providers[target.credential.provider]
    model = target.model or admitted.model
    bridge = None
    if provider.wire != dialect.wire:
        form = dialect.format_of(request)
        if form is None or model is None:
            raise InvalidRequest("This operation is not available at the provider that serves this model.")
        dialect = tools.wires[provider.wire]
        request, bridge = bridged(request, form, dialect, model)
    elif model is not None and model != request.model:
        request = dialect.with_model(request, model)
    request = provider.adapted(target.credential, request)
    return Asked(target, provider, request, provider.url(target.credential, request), dialect, bridge)


async def _try(
    screened: Screened, asked: Asked, timeouts: Timeouts, permit: Permit, tools: Tools, settlement: Settlement
) -> Answered:
    admitted = screened.recorded.admitted
    target = asked.target
    started_s = tools.clock.monotonic()
    settlement.asks(target, asked.request)
    status: int | None = None
    error: str | None = None
    try:
        headers = await _headers(admitted, asked)
        answer = await tools.upstream.send(_request(admitted, asked, headers, timeouts))
        status = answer.status
        if status in _REFUSES_OUR_CREDENTIAL:
            answer.close()
            asked.provider.refused(target.credential)
            raise CredentialRefused
    except UpstreamFailure as failure:
        error = failure.code
        tools.breakers.report(permit, verdict_of(status, failure_counts=failure.counts_as_failure))
        raise
    except BaseException:
        error = "stopped"
        tools.breakers.report(permit, "void")
        raise
    finally:
        took_us = int((tools.clock.monotonic() - started_s) * 1e6)
        settlement.attempts.append(Attempt(target, status, error, took_us))
    if status >= 400:
        tools.breakers.report(permit, verdict_of(status, failure_counts=True))
        if status == 429:
            tools.observed.asked_to_wait(target, answer.headers)
    else:
        tools.observed.answered(target, took_us)
        settlement.holds(permit)
    return Answered(
        admitted=admitted,
        record=screened.recorded.record,
        decision=screened.decision,
        asked=asked,
        answer=answer,
        content_type=answer.headers.get("content-type", ""),
        timeouts=timeouts,
        first_byte_us=took_us,
    )


def _timeouts(asked: Asked) -> Timeouts:
    """A target's own limit holds until a stream begins and between its events, or for a whole plain answer."""
    own_s = asked.target.timeout_s
    if own_s is None:
        return _TIMEOUTS
    return Timeouts(
        connect_s=min(own_s, _TIMEOUTS.connect_s),
        headers_s=own_s,
        event_s=min(own_s, _TIMEOUTS.event_s),
        total_s=_TIMEOUTS.total_s if asked.request.streams else own_s,
    )


async def _headers(admitted: Admitted, asked: Asked) -> tuple[tuple[str, str], ...]:
    """The provider's own headers, then those of the client that may go along, then what the API needs beside them."""
    own = await asked.provider.headers(asked.target.credential, asked.request)
    passed = forwarded_headers(admitted.call, asked.provider.wire)
    present = {name.lower() for name, _ in (*own, *passed)}
    missing = [pair for pair in asked.provider.default_headers if pair[0] not in present]
    if "content-type" not in present and asked.request.members is not None:
        # The HTTP client would make up one of its own.
        missing.append(("content-type", asked.request.content_type))
    return (*own, *passed, *missing)


def _request(
    admitted: Admitted, asked: Asked, headers: tuple[tuple[str, str], ...], timeouts: Timeouts
) -> UpstreamRequest:
    credential = asked.target.credential
    return UpstreamRequest(
        method=asked.request.method,
        url=asked.url,
        headers=headers,
        body=asked.request.body,
        pool=PoolKey(admitted.caller.tenant_id, credential.id),
        timeouts=timeouts,
    )
