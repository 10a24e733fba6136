"""Reading recorded content after the call: for policies that ask for it, and where a detector was away during it.

One worker in each process takes tasks from the queue at a bounded rate. What a call said is opened from the tenant's
storage, read under the policies that held for the call in the version they had then, and what they find stands in the
list of violations as found afterwards. Nothing about the call itself changes any more.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trueport.audit.canonical import parse
from trueport.audit.records import Kind, record_id
from trueport.detection.embedding import Embeddings
from trueport.detection.policy import ActivePolicies, PolicySet
from trueport.detection.types import Category, Side
from trueport.domains.analytics.api import AuditRecords, Scan, ScanQueue, ScanResults, ScanTask
from trueport.domains.auth.api import work_scope
from trueport.domains.config.api import policies_of_version
from trueport.domains.proxy.contents import StoredContents
from trueport.domains.proxy.http import WIRES
from trueport.domains.proxy.recorder import decision_fields
from trueport.gateway import texts as bodies
from trueport.gateway.call import Judgement, Request, Wire
from trueport.gateway.json_gate import read_object
from trueport.gateway.judging import PolicyScreener
from trueport.gateway.metrics import GatewayMetrics
from trueport.gateway.texts import Texts
from trueport.kit.crypto import SealBroken
from trueport.kit.errors import InvalidRequest, NotFound, Unavailable
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.web.domain import Resources

log = get_logger(__name__)

_IDLE_S: Final = 1.0
_AWAY_S: Final = 5.0
_MEASURED_EVERY_S: Final = 10.0
_MOST_DECISIONS: Final = 200
_KINDS: Final[Mapping[Side, Kind]] = {"input": "intent", "output": "outcome"}
_EVENTS: Final = (b"data:", b"event:", b"id:", b":")


@dataclass(frozen=True, slots=True)
class Screeners:
    """`after` reads for policies that want it after the call, `again` for a detector that was away during it."""

    after: PolicyScreener
    again: PolicyScreener

    def of(self, reason: str) -> PolicyScreener:
        return self.after if reason == "policy" else self.again

    async def close(self) -> None:
        """Close the engines of both."""
        for engine in {id(one.engine): one.engine for one in (self.after, self.again)}.values():
            await engine.close()


@dataclass(frozen=True, slots=True)
class _Found:
    """What one side came to: decisions as records have them, a problem, and whether it has to be read once more."""

    decisions: tuple[dict[str, Any], ...] = ()
    problem: str | None = None
    is_open: bool = False


class Scanner:
    """Takes scans from the queue, one at a time, at most `per_minute`."""

    def __init__(
        self,
        resources: Resources,
        contents: StoredContents,
        screeners: Screeners,
        metrics: GatewayMetrics,
        *,
        per_minute: int,
    ) -> None:
        self._resources = resources
        self._queue = ScanQueue(resources.database, resources.clock)
        self._contents = contents
        self._screeners = screeners
        self._embeddings = Embeddings(screeners.again.engine)
        self._metrics = metrics
        self._between_s = 60.0 / per_minute

    async def run(self) -> None:
        """Scan for ever. A store that is away is asked again."""
        loop = asyncio.get_running_loop()
        measured_s = -_MEASURED_EVERY_S
        while True:
            wait_s = _AWAY_S
            try:
                if loop.time() - measured_s >= _MEASURED_EVERY_S:
                    measured_s = loop.time()
                    await self._measure()
                wait_s = self._between_s if await self.scan_next() else max(_IDLE_S, self._between_s)
            except Unavailable as error:
                log.warning("scan_delayed", code=error.code)
            await asyncio.sleep(wait_s)

    async def scan_next(self) -> bool:
        """Do what is due first; False when nothing is. Raises a kit Unavailable; the task is then given back."""
        task = await self._queue.claim()
        if task is None:
            return False
        try:
            await self._scan(task)
        except Unavailable:
            await self._queue.put_back(task)
            raise
        except Exception as error:  # noqa: BLE001 - one scan that cannot be done must not keep the others from it
            # The type alone: a message may quote the text.
            log.error("scan_failed", interaction=task.id, error_type=type(error).__name__)
            await self._put_back_or_give_up(task, self._results(task), None)
        return True

    async def _scan(self, task: ScanTask) -> None:
        results = self._results(task)
        scan = await results.wanted(task.id)
        if scan is None or scan.state != "waiting":
            await self._queue.finish(task)
            return
        scope = work_scope(task.tenant)
        try:
            record = parse(
                (await AuditRecords(self._resources.database, scope).get(record_id(task.id, "outcome"))).canonical
            )
        except NotFound:
            await self._end(task, results, scan, ["record_not_kept"], 0)
            return
        policies = await policies_of_version(
            self._resources.database,
            scope,
            scan.policy_version,
            embeddings=self._embeddings,
            bands=self._screeners.again.engine.bands,
        )
        sides = [await self._side(scope, record, policies, each) for each in scan.wanted]
        added = await results.keep(scan, record, [one for side in sides for one in side.decisions][:_MOST_DECISIONS])
        self._metrics.scan_violations.inc(added)
        if any(side.is_open for side in sides):
            await self._put_back_or_give_up(task, results, scan, added)
            return
        await self._end(task, results, scan, [side.problem for side in sides if side.problem], added)

    async def _side(
        self, scope: TenantScope, record: dict[str, Any], policies: PolicySet | None, wanted: Mapping[str, Any]
    ) -> _Found:
        side: Side = wanted["side"]
        if not record.get("request_bytes" if side == "input" else "reply_bytes"):
            return _Found()
        body = await self._opened(scope, record, side)
        if body is None:
            return _Found(problem=f"{side}: content_not_kept")
        is_cut = side == "output" and len(body) != record.get("reply_bytes")
        problem = f"{side}: content_cut" if is_cut else None
        names = set(wanted["policies"])
        # Who would serve was not known yet when it was written down which policies held.
        served_by = record.get("provider")
        known = [one for one in (policies.policies if policies else ()) if one.id in names]
        held = tuple(one for one in known if served_by is None or one.is_for_provider(served_by))
        if not known:
            return _Found(problem=f"{side}: policies_not_kept")
        active = ActivePolicies(side, held)
        lost: frozenset[Category] = frozenset(wanted["categories"])
        try:
            found = await asyncio.to_thread(texts_of, side, record, body)
        except InvalidRequest:
            return _Found(problem=f"{side}: content_not_readable")
        judgement = await self._screeners.of(wanted["reason"]).judge(found, active)
        failed = {failure.code for failure in judgement.failures if failure.categories & (lost or active.wanted)}
        if "too_long" in failed:
            # That will not change, however often it is read.
            problem = f"{side}: too_long"
        return _Found(_decisions(judgement, lost), problem, is_open=bool(failed - {"too_long"}))

    async def _opened(self, scope: TenantScope, record: dict[str, Any], side: Side) -> bytes | None:
        """What was said on one side, None where it was not kept, is gone, or is not what its record describes."""
        try:
            return await self._contents.of(scope, record["rid"], _KINDS[side])
        except (NotFound, SealBroken) as error:
            log.warning("scan_content_not_opened", interaction=record["rid"], error_type=type(error).__name__)
            return None

    async def _put_back_or_give_up(
        self, task: ScanTask, results: ScanResults, scan: Scan | None, added: int = 0
    ) -> None:
        scan = scan or await results.wanted(task.id)
        if not self._queue.is_too_old(task):
            if scan is not None:
                await results.tried(scan, violations=added, tries=task.tries)
            await self._queue.put_back(task)
            self._metrics.scans.labels("put_back").inc()
            return
        if scan is not None:
            await results.end(scan, "given_up", problems=["not_read"], violations=added, tries=task.tries)
        await self._queue.finish(task)
        self._metrics.scans.labels("given_up").inc()

    async def _end(self, task: ScanTask, results: ScanResults, scan: Scan, problems: list[str], added: int) -> None:
        state: Any = "not_scannable" if problems else "done"
        await results.end(scan, state, problems=problems, violations=added, tries=task.tries)
        await self._queue.finish(task)
        self._metrics.scans.labels(state).inc()

    def _results(self, task: ScanTask) -> ScanResults:
        resources = self._resources
        return ScanResults(resources.database, work_scope(task.tenant), resources.clock, resources.events)

    async def _measure(self) -> None:
        backlog = await self._queue.backlog()
        self._metrics.scans_waiting.set(backlog.waiting)
        self._metrics.scans_oldest_seconds.set(backlog.oldest_s)


def texts_of(side: Side, record: Mapping[str, Any], body: bytes) -> Texts:
    """The texts of recorded content. Raises InvalidRequest for content that has no sure reading.

    What type it was sent under is not recorded and not needed: content is read by what it is.
    """
    wire = _wire(record.get("dialect"))
    if side == "output":
        return bodies.of_answer(wire, body, _content_type(body))
    content_type = _content_type(body)
    request = Request(
        operation=str(record.get("operation") or ""),
        model=record.get("model"),
        streams=bool(record.get("stream")),
        wants_usage_event=False,
        body=body,
        members=read_object(body) if content_type == "application/json" else None,
        content_type=content_type,
        most_output_tokens=None,
    )
    return bodies.of_request(wire, request)


def _wire(dialect: object) -> Wire:
    return next((wire for wire in WIRES if wire == dialect), "openai")


def _content_type(body: bytes) -> str:
    start = body.lstrip()[:256]
    if start.startswith((b"{", b"[")):
        return "application/json"
    if start.startswith(b"--"):
        mark = start.split(b"\r\n", 1)[0][2:].decode("latin-1")
        return f'multipart/form-data; boundary="{mark}"'
    return "text/event-stream" if start.startswith(_EVENTS) else "application/octet-stream"


def _decisions(judgement: Judgement, lost: frozenset[Category]) -> tuple[dict[str, Any], ...]:
    """What there is to say, of the categories that were lost during the call where it is about those."""
    return tuple(decision_fields(hit) for hit in judgement.hits if not lost or hit.category in lost)
