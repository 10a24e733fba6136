"""Circuits shared by every process through Redis; each process keeps its own while Redis is away.

A healthy provider costs next to nothing: `closed` is believed for 200 ms without asking, callers that come while the
question is under way share its answer (a probe is never shared), and good outcomes are told together, with a weight.
`open` is believed for a second at most, although its end is known, so that an operator's pin is seen.

A dead provider is another matter: it has to receive few calls from all processes together, not few from each. So a
failure is told at once, and from the first one on, here or anywhere, until a good outcome:

1. nothing is believed without asking, and a question leaves after the failures that were reported before it;
2. every process makes one attempt at a time, its trial, and others wait for how it goes, but for 100 ms at most. A
   trial that takes longer than that sets free everybody until the next failure: slow calls must not queue.

For failures that take less than those 100 ms and reach Redis before the next attempt is asked for, this bounds what a
dead provider receives before the circuit opens: what was under way, in each process, when it first knew of a failure,
then at most `consecutive` failures and one trial for each process. With 5 in a row, 4 processes, 50 calls a second in
each and a refusal after 10 ms, that is at most 4 x 1 + 5 + 4 = 13; 5 to 8 were measured. For slow failures no such
bound exists: 200 calls a second at a provider that takes 2 s to fail brought 392 before the circuit opened, all those
that were under way when the first failure was known, and with 60 s it would be 12,000. Good outcomes of long streams
that began before the provider died put the count of failures in a row back, as they would from a provider that fails
now and then; the two cannot be told apart while they arrive.

Without Redis (no connection within 100 ms, no answer within 50 ms, an error) the same machine runs here, from what was
last known: at most one probe for each process and cool-down. When Redis is back it is told of the failures seen here,
once, and decides again.
"""

import asyncio
import itertools
import os
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from trueport.gateway.breaker.base import (
    RULES,
    BreakerRules,
    BreakerStoreUnavailable,
    Denied,
    Health,
    Outcome,
    Permit,
    Pin,
    Standing,
    State,
    Verdict,
)
from trueport.gateway.breaker.local import CAPACITY, MOST_NAMED, denied, now_ms, rests, standing
from trueport.gateway.breaker.machine import ANY_EPOCH, Answer, Machine, What
from trueport.gateway.breaker.scopes import ALIVE_KEY, ScopeKeys
from trueport.gateway.breaker.scripts import SCRIPTS, BreakerScripts, rule_arguments
from trueport.gateway.limits.fuse import FIRST_COOLDOWN_S, Fuse
from trueport.gateway.limits.resp import ErrorReply, RedisAway, Reply, RespClient, pack
from trueport.kit.clock import Clock
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_MOST_WAITING: Final = 10_000
_LOOKED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Pace:
    """How long what is known is believed, and how often the background work runs, in seconds."""

    closed_s: float = 0.2
    open_s: float = 1.0
    trial_s: float = 0.1
    tell_s: float = 0.5
    look_s: float = 1.0
    first_cooldown_s: float = FIRST_COOLDOWN_S


class _Turn:
    """Somebody asks Redis, or tries, and others wait for what comes of it.

    failures: of the circuit, when the question was asked. shared: the answer, if it holds for all who waited.
    """

    __slots__ = ("done", "failures", "shared", "timer", "trial")

    def __init__(self, failures: int) -> None:
        self.done = asyncio.Event()
        self.failures = failures
        self.shared: Answer | None = None
        self.trial: Permit | None = None
        self.timer: asyncio.TimerHandle | None = None


class _Circuit:
    """What this process knows of one circuit.

    answer, at_ms: Redis's last word, and when it came. believed_until_s: until then nobody asks.
    failures: how many were reported here; an answer to an earlier question says nothing about them.
    untold: reports on their way that a question has to wait for.
    machine: decides while Redis is away. seen_here: failures it saw since its last good outcome.
    """

    __slots__ = (
        "answer",
        "at_ms",
        "believed_until_s",
        "failures",
        "is_slow",
        "machine",
        "probe_id",
        "scope",
        "seen_here",
        "turn",
        "untold",
    )

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.answer: Answer | None = None
        self.at_ms = 0
        self.believed_until_s = 0.0
        self.probe_id = ""
        self.turn: _Turn | None = None
        self.is_slow = False
        self.failures = 0
        self.untold = 0
        self.machine: Machine | None = None
        self.seen_here = 0

    @property
    def is_suspect(self) -> bool:
        """Whether there were failures since the last good outcome, as far as is known."""
        return self.untold > 0 or (self.answer is not None and self.answer.in_a_row > 0)

    def now(self, at_ms: int) -> Answer | None:
        """The last word with what is left of its wait."""
        answer = self.answer
        if answer is None or answer.wait_ms == 0:
            return answer
        wait_ms = max(0, answer.wait_ms - (at_ms - self.at_ms))
        return Answer(answer.what, answer.state, answer.epoch, wait_ms, answer.in_a_row, answer.trips, answer.pin)


@dataclass(frozen=True, slots=True)
class _Report:
    """Something to tell Redis about a circuit."""

    circuit: _Circuit
    epoch: str
    probe_id: str
    outcome: Outcome
    weight: int = 1


class RedisBreakers:
    """`Breakers` over Redis. Belongs to the event loop it is opened in."""

    def __init__(
        self,
        client: RespClient,
        clock: Clock,
        *,
        rules: BreakerRules = RULES,
        cluster: bool = False,
        pace: Pace = Pace(),
        scripts: BreakerScripts = SCRIPTS,
        draw: random.Random | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self._client = client
        self._clock = clock
        self._rules = rules
        self._cluster = cluster
        self._pace = pace
        self._scripts = scripts
        self._rule_arguments = rule_arguments(rules)
        # Jitter only: nothing about it has to be hard to guess.
        draw = draw or random.Random()  # noqa: S311
        self._draw: Callable[[], float] = draw.random
        self._fuse = Fuse(clock, draw, first_cooldown_s=pace.first_cooldown_s)
        self._capacity = capacity
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()
        self._decided_here: dict[str, _Circuit] = {}  # those with a machine
        self._worker = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._numbers = itertools.count(1)

        self._good: dict[tuple[_Circuit, str], int] = {}  # good outcomes to tell, by circuit and epoch
        self._waiting: list[_Report] = []
        self._tell_timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._blown = asyncio.Event()
        self._is_closed = False
        self._denied = self._probes = self._opened = 0
        self._local_decisions = self._failures = self._losses = 0

    async def open(self) -> None:
        """Start the background work. Redis being away is no error."""
        self._tending = asyncio.create_task(self._tend())

    async def acquire(self, scope: str, lease_s: float) -> Permit | Denied:
        circuit = self._circuit(scope)
        while not self._fuse.is_blown:
            answer = self._believed(circuit)
            if answer is not None:
                return self._decided(circuit, answer)
            turn = circuit.turn
            if turn is None:
                return await self._ask(circuit, lease_s)
            await turn.done.wait()
            # Meanwhile another failure may have become known; then the answer is too old.
            if turn.shared is not None and turn.failures == circuit.failures:
                return self._decided(circuit, turn.shared)
        return self._decide_here(circuit, lease_s)

    def report(self, permit: Permit, verdict: Verdict) -> None:
        if not permit.is_open:
            return
        permit.is_open = False
        circuit = self._circuit(permit.scope)
        if circuit.turn is not None and circuit.turn.trial is permit:
            self._end_turn(circuit, circuit.turn)
        if permit.kind == "unguarded":
            return
        outcome = permit.outcome(verdict)
        if circuit.machine is not None:
            self._report_here(circuit, permit.epoch, permit.probe_id, outcome)
        elif permit.held_by == "memory":
            # Made while Redis was away, and its machine is gone: of all it could say only a failure is news.
            if outcome == "fail":
                self._tell(_Report(circuit, ANY_EPOCH, "", "fail"))
        elif outcome == "ok" and permit.kind == "pass" and not circuit.is_suspect:
            self._tell_later(circuit, permit.epoch)
        elif outcome != "void" or permit.kind == "probe":
            self._tell(_Report(circuit, permit.epoch, permit.probe_id, outcome))

    def is_resting(self, scope: str) -> bool:
        circuit = self._circuits.get(scope)
        return circuit is not None and self._rests(circuit)

    async def standings(self, scopes: Sequence[str]) -> list[Standing]:
        if not self._fuse.is_blown:
            commands = [self._look_command(scope) for scope in scopes]
            try:
                replies = await self._send(commands)
                return [standing(scope, _read(reply), "redis") for scope, reply in zip(scopes, replies, strict=True)]
            except (RedisAway, ErrorReply) as error:
                self._failed(error)
        now, untouched = now_ms(self._clock), Machine(self._rules)
        found = []
        for scope in scopes:
            circuit = self._circuits.get(scope)
            machine = untouched if circuit is None else circuit.machine or self._seed(circuit)
            found.append(standing(scope, machine.look(now), "local"))
        return found

    async def pin(self, scope: str, pin: Pin | None) -> None:
        try:
            if self._fuse.is_blown:
                raise RedisAway("not asked")
            (reply,) = await self._send([self._command(self._scripts.pin.sha, scope, pin or "")])
            answer = _read(reply)
        except (RedisAway, ErrorReply) as error:
            if not self._fuse.is_blown:
                self._failed(error)
            raise BreakerStoreUnavailable from error
        self._learn(self._circuit(scope), answer)

    def health(self) -> Health:
        resting = sorted(circuit.scope for circuit in self._circuits.values() if self._rests(circuit))
        return Health(
            mode="local" if self._fuse.is_blown else "redis",
            resting=tuple(resting[:MOST_NAMED]),
            denied=self._denied,
            probes=self._probes,
            opened=self._opened,
            local_decisions=self._local_decisions,
            redis_failures=self._failures,
            redis_losses=self._losses,
        )

    async def ping(self) -> bool:
        try:
            return await self._client.call(pack("PING"), self._client.deadline()) == b"PONG"
        except (RedisAway, ErrorReply):
            return False

    async def flush(self) -> None:
        """Return when Redis has been told of everything reported so far, or is away."""
        self._tell_good()
        while self._telling is not None:
            await asyncio.wait([self._telling])

    async def close(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        await self.flush()
        self._is_closed = True
        if self._tell_timer is not None:
            self._tell_timer.cancel()
        await self._client.close()

    # Asking

    def _believed(self, circuit: _Circuit) -> Answer | None:
        """What Redis said, if that still holds without asking."""
        if circuit.untold or self._clock.monotonic() >= circuit.believed_until_s:
            return None
        return circuit.now(now_ms(self._clock))

    async def _ask(self, circuit: _Circuit, lease_s: float) -> Permit | Denied:
        turn = circuit.turn = _Turn(circuit.failures)
        probe_id = f"{self._worker}-{next(self._numbers)}"
        command = self._command(self._scripts.acquire.sha, circuit.scope, probe_id, int(lease_s * 1_000))
        try:
            await self._told(circuit)
            turn.failures = circuit.failures
            try:
                (reply,) = await self._send([command])
                answer = _read(reply)
            except (RedisAway, ErrorReply) as error:
                self._failed(error)
                self._give_back(circuit, probe_id)
                return self._decide_here(circuit, lease_s)
            except asyncio.CancelledError:
                self._give_back(circuit, probe_id)
                raise
            if answer.what == "probe":
                # Other answers prove nothing: a replica or a full server gives them too, and then takes no report.
                self._fuse.succeeded()
            self._learn(circuit, answer)
            return self._answered(circuit, turn, answer, probe_id)
        finally:
            if turn.trial is None:
                self._end_turn(circuit, turn)

    def _answered(self, circuit: _Circuit, turn: _Turn, answer: Answer, probe_id: str) -> Permit | Denied:
        if answer.what == "probe":
            self._probes += 1
            circuit.probe_id = probe_id
            return Permit(circuit.scope, "probe", answer.epoch, probe_id, "redis")
        permit = self._decided(circuit, answer)
        if isinstance(permit, Permit) and answer.in_a_row > 0 and not circuit.is_slow:
            turn.trial = permit
            loop = asyncio.get_running_loop()
            turn.timer = loop.call_later(self._pace.trial_s, self._trial_is_slow, circuit, turn)
        else:
            turn.shared = answer
        return permit

    def _decided(self, circuit: _Circuit, answer: Answer) -> Permit | Denied:
        """What an answer means for one caller; never a probe, which is one caller's alone."""
        if answer.pin == "forced_closed":
            return Permit(circuit.scope, "unguarded", answer.epoch, held_by="redis")
        if answer.pin is None and answer.state == "closed":
            return Permit(circuit.scope, "pass", answer.epoch, held_by="redis")
        self._denied += 1
        return denied(circuit.scope, answer, self._rules)

    def _trial_is_slow(self, circuit: _Circuit, turn: _Turn) -> None:
        circuit.is_slow = True
        self._end_turn(circuit, turn)

    def _end_turn(self, circuit: _Circuit, turn: _Turn) -> None:
        if turn.timer is not None:
            turn.timer.cancel()
        if circuit.turn is turn:
            circuit.turn = None
        turn.done.set()

    def _learn(self, circuit: _Circuit, answer: Answer) -> None:
        """Remember what Redis said, and for how long it need not be asked again."""
        now = self._clock.monotonic()
        circuit.answer = answer
        circuit.at_ms = now_ms(self._clock)
        if answer.pin is not None:
            believed_s = self._pace.closed_s
        elif answer.state == "closed":
            believed_s = self._pace.closed_s if answer.in_a_row == 0 else 0.0
        else:
            longest_s = self._pace.open_s if answer.state == "open" else self._pace.closed_s
            believed_s = min(answer.wait_ms / 1_000, longest_s)
        circuit.believed_until_s = now + believed_s
        if answer.in_a_row == 0:
            circuit.is_slow = False
        self._opened += answer.what == "opened"
        if circuit.machine is not None:
            self._hand_back(circuit)

    def _rests(self, circuit: _Circuit) -> bool:
        now = now_ms(self._clock)
        answer = circuit.now(now) if circuit.machine is None else circuit.machine.look(now)
        return answer is not None and rests(answer)

    # Telling

    def _tell_later(self, circuit: _Circuit, epoch: str) -> None:
        if self._is_closed or len(self._good) >= _MOST_WAITING:
            return
        self._good[circuit, epoch] = self._good.get((circuit, epoch), 0) + 1
        if self._tell_timer is None:
            self._tell_timer = asyncio.get_running_loop().call_later(self._pace.tell_s, self._tell_good)

    def _tell_good(self) -> None:
        if self._tell_timer is not None:
            self._tell_timer.cancel()
            self._tell_timer = None
        good, self._good = self._good, {}
        for (circuit, epoch), weight in good.items():
            self._tell(_Report(circuit, epoch, "", "ok", weight))

    def _tell(self, report: _Report) -> None:
        """Send a report now, after those that came before it."""
        circuit = report.circuit
        if report.outcome == "fail":
            circuit.failures += 1
            circuit.is_slow = False
            circuit.believed_until_s = 0.0
            # Good outcomes from before this failure must not follow it.
            earlier = self._good.pop((circuit, report.epoch), 0)
            if earlier:
                self._tell(_Report(circuit, report.epoch, "", "ok", earlier))
        if self._is_closed or len(self._waiting) >= _MOST_WAITING:
            return
        if self._fuse.is_blown:
            self._absorb(report)
            return
        circuit.untold += 1
        self._waiting.append(report)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def _tell_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_LOOKED_AT_ONCE], self._waiting[_LOOKED_AT_ONCE:]
                await self._tell_batch(batch)
        finally:
            self._telling = None

    async def _tell_batch(self, batch: Sequence[_Report]) -> None:
        try:
            replies = await self._send([self._report_command(report) for report in batch])
        except RedisAway as error:
            replies = [error] * len(batch)
        problem: Exception | None = None
        for report, reply in zip(batch, replies, strict=True):
            report.circuit.untold -= 1
            if isinstance(reply, RedisAway | ErrorReply):
                problem = reply
                self._absorb(report)
            else:
                self._learn(report.circuit, _read(reply))
        if problem is None:
            self._fuse.succeeded()
        else:
            self._failed(problem)

    async def _told(self, circuit: _Circuit) -> None:
        """Wait until nothing reported about `circuit` is still on its way."""
        while circuit.untold and self._telling is not None:
            await asyncio.wait([self._telling])

    def _give_back(self, circuit: _Circuit, probe_id: str) -> None:
        """Free the slot of a probe that Redis may have given to somebody who no longer waits for it."""
        if not self._fuse.is_blown:
            self._tell(_Report(circuit, ANY_EPOCH, probe_id, "void"))

    # Without Redis

    def _decide_here(self, circuit: _Circuit, lease_s: float) -> Permit | Denied:
        self._local_decisions += 1
        machine = self._machine(circuit)
        probe_id = f"{self._worker}-{next(self._numbers)}"
        answer = machine.acquire(now_ms(self._clock), probe_id, int(lease_s * 1_000))
        match answer.what:
            case "pass":
                return Permit(circuit.scope, "pass", answer.epoch)
            case "unguarded":
                return Permit(circuit.scope, "unguarded", answer.epoch)
            case "probe":
                self._probes += 1
                return Permit(circuit.scope, "probe", answer.epoch, probe_id)
            case _:
                self._denied += 1
                return denied(circuit.scope, answer, self._rules)

    def _report_here(self, circuit: _Circuit, epoch: str, probe_id: str, outcome: Outcome, weight: int = 1) -> None:
        machine = self._machine(circuit)
        answer = machine.report(now_ms(self._clock), epoch, probe_id, outcome, weight, self._draw())
        if answer.what == "stale":
            return
        self._opened += answer.what == "opened"
        if outcome == "fail":
            circuit.seen_here += weight
        elif outcome == "ok":
            circuit.seen_here = 0

    def _absorb(self, report: _Report) -> None:
        """Let the machine here know what Redis could not be told. It may have been; then the failure counts twice."""
        if report.outcome != "void" or report.probe_id:
            self._report_here(report.circuit, report.epoch, report.probe_id, report.outcome, report.weight)

    def _machine(self, circuit: _Circuit) -> Machine:
        if circuit.machine is None:
            circuit.machine = self._seed(circuit)
            self._decided_here[circuit.scope] = circuit
        return circuit.machine

    def _seed(self, circuit: _Circuit) -> Machine:
        """A machine that stands where the circuit stood when Redis was last heard of."""
        machine = Machine(self._rules)
        answer = circuit.answer
        if answer is None:
            return machine
        until = circuit.at_ms + answer.wait_ms
        machine.state, machine.epoch, machine.pin = answer.state, int(answer.epoch), answer.pin
        machine.in_a_row, machine.trips = answer.in_a_row, answer.trips
        if answer.state == "open":
            machine.open_until = until
        elif answer.state == "half_open" and answer.wait_ms > 0:
            machine.probe, machine.probe_until = circuit.probe_id or "another process", until
        return machine

    def _hand_back(self, circuit: _Circuit) -> None:
        """Let Redis decide again, and tell it of the failures seen here."""
        circuit.machine = None
        self._decided_here.pop(circuit.scope, None)
        failures, circuit.seen_here = circuit.seen_here, 0
        if failures:
            self._tell(_Report(circuit, ANY_EPOCH, "", "fail", failures))

    # In the background

    async def _tend(self) -> None:
        """Look for Redis while it is away, one probe at a time; else see whether what rests still has to."""
        while True:
            if self._fuse.is_blown:
                await asyncio.sleep(self._fuse.cooldown_s())
                if await self._is_back():
                    self._found_again()
            else:
                try:
                    async with asyncio.timeout(self._pace.look_s):
                        await self._blown.wait()
                except TimeoutError:
                    await self._look()

    async def _is_back(self) -> bool:
        """Whether Redis takes writes: one that answers but is full or read-only is not back."""
        try:
            (reply,) = await self._send([pack("SET", ALIVE_KEY, self._worker, "EX", 60)])
        except RedisAway:
            return False
        return not isinstance(reply, ErrorReply)

    async def _look(self) -> None:
        """Ask how the circuits stand that this process takes for open or pinned.

        Calls go to other targets meanwhile, so nobody else would notice that one is closed again.
        """
        waiting = [
            circuit
            for circuit in self._circuits.values()
            if circuit.answer is not None and (circuit.answer.state != "closed" or circuit.answer.pin is not None)
        ][:_LOOKED_AT_ONCE]
        if not waiting:
            return
        try:
            replies = await self._send([self._look_command(circuit.scope) for circuit in waiting])
            for circuit, reply in zip(waiting, replies, strict=True):
                self._learn(circuit, _read(reply))
        except (RedisAway, ErrorReply) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._fuse.failed():
            self._losses += 1
            self._blown.set()
            log.warning("breakers_lost_redis", reason=type(error).__name__)

    def _found_again(self) -> None:
        self._blown.clear()
        self._fuse.mend()
        for circuit in list(self._decided_here.values()):
            circuit.believed_until_s = 0.0
            self._hand_back(circuit)
        log.info("breakers_found_redis")

    # Commands

    def _circuit(self, scope: str) -> _Circuit:
        circuit = self._circuits.get(scope)
        if circuit is None:
            circuit = self._circuits[scope] = _Circuit(scope)
            if len(self._circuits) > self._capacity:
                forgotten, _ = self._circuits.popitem(last=False)
                self._decided_here.pop(forgotten, None)
        else:
            self._circuits.move_to_end(scope)
        return circuit

    def _command(self, sha: str, scope: str, *arguments: int | str) -> bytes:
        keys = ScopeKeys.of(scope, cluster=self._cluster)
        return pack("EVALSHA", sha, 3, keys.state, keys.meta, keys.window, *arguments)

    def _look_command(self, scope: str) -> bytes:
        return self._command(self._scripts.look.sha, scope)

    def _report_command(self, report: _Report) -> bytes:
        return self._command(
            self._scripts.report.sha,
            report.circuit.scope,
            report.epoch,
            report.probe_id,
            report.outcome,
            report.weight,
            repr(self._draw()),
            *self._rule_arguments,
        )

    async def _send(self, commands: Sequence[bytes]) -> list[Reply]:
        """The replies to `commands`, sent in one write; one that failed has its exception in its place.

        A server without the scripts is given them, and the wrong server is left, once each. Raises RedisAway when
        there is no connection.
        """
        replies = await self._client.call_all(commands)
        failed = [at for at, reply in enumerate(replies) if _is_from_the_wrong_server(reply)]
        if failed:
            self._client.drop()
            for at, reply in zip(failed, await self._client.call_all([commands[at] for at in failed]), strict=True):
                replies[at] = reply
        missed = [
            at for at, reply in enumerate(replies) if isinstance(reply, ErrorReply) and reply.knows_no_such_script
        ]
        if missed:
            loads = [pack("SCRIPT", "LOAD", source) for source in self._scripts.sources()]
            again = await self._client.call_all([*loads, *(commands[at] for at in missed)])
            for at, reply in zip(missed, again[len(loads) :], strict=True):
                replies[at] = reply
        return replies


def _is_from_the_wrong_server(reply: Reply) -> bool:
    return isinstance(reply, ErrorReply) and reply.comes_from_the_wrong_server


def _read(reply: Reply) -> Answer:
    """The answer of a script. Raises the error that came in its place."""
    if isinstance(reply, Exception):
        raise reply
    # What the scripts answer with is fixed; `bytes` and integers in this order.
    what, state, epoch, wait_ms, in_a_row, trips, pin = cast("tuple[bytes, bytes, bytes, int, int, int, bytes]", reply)
    return Answer(
        cast(What, what.decode()),
        cast(State, state.decode()),
        epoch.decode(),
        wait_ms,
        in_a_row,
        trips,
        cast(Pin, pin.decode()) if pin else None,
    )
