"""Opens what the gateway needs, in the order it is needed, and closes it in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from trueport.audit.direct import DirectJournal
from trueport.audit.journal import Journal, SpoolUnavailable
from trueport.audit.shipper import RecordSink, Shipper
from trueport.audit.spool import Spool
from trueport.detection.base import DetectorFailed
from trueport.detection.engine import Engine
from trueport.detection.registry import EngineMissing, open_engine
from trueport.detection.types import Passage
from trueport.domains.analytics.api import ContentReader, ContentViewer, MongoSink
from trueport.domains.audit.api import SubjectKeys
from trueport.domains.proxy.callers import KeyRing
from trueport.domains.proxy.contents import StoredContents
from trueport.domains.proxy.gaps import Gaps
from trueport.domains.proxy.http import WIRES, GatewayApp
from trueport.domains.proxy.objects import StoredObjects
from trueport.domains.proxy.recorder import SpoolRecorder
from trueport.domains.proxy.repeats import StoredRepeats
from trueport.domains.proxy.rereading import RecordedContent
from trueport.domains.proxy.scanning import Scanner, Screeners
from trueport.domains.proxy.source import StoredKeys
from trueport.domains.proxy.spending import BudgetAlerts, LoggedSpending
from trueport.domains.proxy.user_tags import UserTags
from trueport.gateway.breaker.base import BreakerRules, Breakers, BreakerStoreUnavailable
from trueport.gateway.breaker.local import LocalBreakers
from trueport.gateway.breaker.redis import RedisBreakers
from trueport.gateway.breaker.retries import RetryBudget
from trueport.gateway.cache import AnswerCache
from trueport.gateway.egress import Egress, EgressPolicy
from trueport.gateway.judging import PolicyScreener
from trueport.gateway.limits.base import LimiterUnavailable, Limits, OnAlert, SpentSource
from trueport.gateway.limits.keys import KeyNames, Pepper
from trueport.gateway.limits.local import LocalLimits
from trueport.gateway.limits.redis import RedisLimits
from trueport.gateway.limits.resp import Address, RespClient
from trueport.gateway.metrics import GatewayMetrics
from trueport.gateway.observed import Observed
from trueport.gateway.ports import Tools
from trueport.gateway.pricing import load_price_book
from trueport.gateway.providers.registry import WIRE_OF, providers
from trueport.gateway.screening import DetectorUnavailable
from trueport.gateway.upstream import Upstream
from trueport.kit.clock import Clock
from trueport.kit.deadline import Deadline
from trueport.kit.logging import get_logger
from trueport.kit.tasks import ended
from trueport.settings import Settings
from trueport.storage.documents import open_store
from trueport.web.domain import ReadinessCheck, Resources
from trueport.web.trail import Trail

log = get_logger(__name__)

STREAM_GRACE_S: Final = 30.0
_DRAIN_S: Final = 10.0
_ADOPTION_S: Final = 5.0
"""A long journal, or a database that is away, is not waited for: calls are served meanwhile."""
_CANCELLED_S: Final = 5.0
_READ_S: Final = 2.0
_PATIENCE_AFTER_S: Final = 60.0
_NEVER: Final = 1 << 52


def egress_policy(settings: Settings) -> EgressPolicy:
    """What provider addresses this installation may reach."""
    return EgressPolicy(allow=settings.egress_allow, requires_tls=not settings.allows_plain_http)


@asynccontextmanager
async def open_gateway(resources: Resources) -> AsyncIterator[None]:
    """Lifespan hook: gives the GatewayApp its tools, and takes them away when every call has ended."""
    settings, clock = resources.settings, resources.clock
    gateway = resources.part(GatewayApp)
    prices = load_price_book(settings.prices_file)
    engine = await open_prepared(settings.detection_url, clock, settings.data_dir)
    callers = resources.parts[KeyRing] = KeyRing(StoredKeys(resources, prices, engine), clock)
    tags = UserTags(settings.keys.purpose_key("user-tags"))
    limits = await open_limits(
        settings, clock, LoggedSpending(resources.database, callers, tags), BudgetAlerts(resources.events)
    )
    breakers = await open_breakers(settings, clock)
    egress = Egress(egress_policy(settings))
    upstream = Upstream(egress)
    store = open_store(settings.storage_url, settings.data_dir)
    sink = MongoSink(resources.database, store, events=resources.events)
    journal = open_journal(settings, clock, sink)
    gaps = Gaps(journal, clock) if journal.mode == "best_effort" else None
    keys = SubjectKeys(resources)
    contents = StoredContents(resources, store, keys)
    repeats = StoredRepeats(resources, callers, contents)
    metrics = resources.part(GatewayMetrics)
    screeners = open_screeners(settings, engine, clock)
    recorded = RecordedContent(resources.database, contents, screeners.after)
    resources.parts.update({Trail: Trail(journal), ContentReader: recorded, ContentViewer: recorded})
    gateway.tools = Tools(
        callers=callers,
        limits=limits,
        recorder=SpoolRecorder(journal, tags, keys, gaps),
        screener=PolicyScreener(engine, clock),
        upstream=upstream,
        breakers=breakers,
        retries=RetryBudget(clock),
        observed=Observed(clock),
        cache=AnswerCache(clock),
        repeats=repeats,
        objects=StoredObjects(resources.database, clock, callers),
        providers=providers(upstream, clock, egress.policy),
        wires=WIRES,
        wire_of=WIRE_OF,
        prices=prices,
        metrics=metrics,
        clock=clock,
        engine=engine,
    )
    checks = {
        "journal": ReadinessCheck(partial(_journal_writes, journal), is_critical=gaps is None),
        "circuits": ReadinessCheck(partial(_circuits_answer, breakers), is_critical=False),
        "limits": ReadinessCheck(partial(_limits_answer, limits), is_critical=False),
        "detection": ReadinessCheck(partial(_detection_reads, engine, clock), is_critical=False),
    }
    resources.readiness.update(checks)
    background = [
        _kept_running(callers.watch(), "key_watch"),
        _kept_running(_measure(gateway.tools), "measure"),
    ]
    shipper = Shipper(journal, settings.spool.directory, sink) if isinstance(journal, Spool) else None
    if shipper is not None:
        background.append(_kept_running(shipper.run(), "shipper"))
        background.append(_kept_running(_measure_journal(shipper, gaps, metrics), "measure_journal"))
        # What a crash left in the journal has been spent: the first call that asks for budgets is to be told.
        if not await shipper.has_adopted(Deadline.after(_ADOPTION_S)):
            log.warning("dead_writers_not_adopted_yet")
    if settings.scans_per_minute:
        scanner = Scanner(resources, contents, screeners, metrics, per_minute=settings.scans_per_minute)
        background.append(_kept_running(scanner.run(), "scanner"))
    try:
        yield
    finally:
        gateway.is_draining = True
        await _calls_ended(gateway)
        await ended(background)
        is_shipped = await _is_drained(journal, shipper, gaps)
        gateway.tools = None
        await repeats.close()
        await screeners.close()
        await egress.close()
        await breakers.close()
        await limits.close()
        journal.close(is_shipped=is_shipped)


def open_journal(settings: Settings, clock: Clock, sink: RecordSink) -> Spool | DirectJournal:
    """The journal the settings name. Raises OSError when there is none to be made."""
    if settings.spool.is_bypassed:
        return DirectJournal(sink, clock)
    with suppress(OSError):
        settings.spool.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Spool(
        settings.spool.directory,
        clock=clock,
        segment_bytes=settings.spool.segment_bytes,
        capacity_bytes=settings.spool.capacity_bytes,
        mode=settings.spool.mode,
        second_root=settings.spool.second_directory,
    )


async def _is_drained(journal: Journal, shipper: Shipper | None, gaps: Gaps | None) -> bool:
    if gaps is not None:
        gaps.tell()
    if shipper is None:
        with suppress(SpoolUnavailable):
            await journal.settled()
            return True
        return False
    is_shipped = await shipper.finish(Deadline.after(_DRAIN_S))
    if not is_shipped:
        log.warning("journal_not_drained", reason="left for the next start")
    return is_shipped


def open_screeners(settings: Settings, engine: Engine, clock: Clock) -> Screeners:
    """What reads recorded content: `engine` itself, and the deep one where the settings name one."""
    deep = engine
    if settings.deep_detection_url is not None:
        deep = open_engine(settings.deep_detection_url, clock, data_dir=settings.data_dir)
    return Screeners(
        after=PolicyScreener(deep, clock, patience_s=_PATIENCE_AFTER_S),
        again=PolicyScreener(engine, clock, patience_s=_PATIENCE_AFTER_S),
    )


async def open_prepared(url: str, clock: Clock, data_dir: Path) -> Engine:
    """The detection engine with its models loaded: a server that cannot read texts says so before it takes calls.

    A Triton server may come later. Raises UnknownEngine, and EngineMissing that says what to do.
    """
    engine = open_engine(url, clock, data_dir=data_dir)
    try:
        await engine.prepare()
    except DetectorFailed as error:
        await engine.close()
        raise EngineMissing(
            f"The detection engine {url.partition('?')[0]!r} cannot be loaded: {error.__cause__ or error.code}. "
            "Install it anew, or choose another with TRUEPORT_DETECTION_URL (`rules:` needs no model)."
        ) from error
    return engine


async def open_limits(
    settings: Settings, clock: Clock, source: SpentSource | None = None, on_alert: OnAlert | None = None
) -> Limits:
    """The limiter the settings name. Redis being away is no error: the limiter then counts its share."""
    if not settings.uses_redis:
        return LocalLimits(clock, window=settings.rate_window, source=source, on_alert=on_alert)
    limits = RedisLimits(
        RespClient(Address.parse(settings.redis_url.reveal())),
        KeyNames(Pepper(settings.keys.purpose_key("limiter-pepper"))),
        clock,
        window=settings.rate_window,
        on_loss=settings.limiter_loss,
        workers=settings.server.workers,
        source=source,
        on_alert=on_alert,
    )
    await limits.open()
    return limits


async def open_breakers(settings: Settings, clock: Clock) -> Breakers:
    """The circuits, shared through Redis where the settings name one."""
    rules = BreakerRules(consecutive=settings.breaker_failures)
    if not settings.breaker_failures:
        rules = BreakerRules(consecutive=_NEVER, volume=_NEVER)
    if not settings.uses_redis:
        return LocalBreakers(clock, rules=rules)
    breakers = RedisBreakers(RespClient(Address.parse(settings.redis_url.reveal())), clock, rules=rules)
    await breakers.open()
    return breakers


async def _journal_writes(journal: Journal) -> None:
    if not journal.is_healthy:
        raise SpoolUnavailable


async def _limits_answer(limits: Limits) -> None:
    if not await limits.ping():
        raise LimiterUnavailable


async def _detection_reads(engine: Engine, clock: Clock) -> None:
    # Always another text: one that was read before is known.
    passage = Passage(f"Are you there at {clock.epoch_us()}?")
    readings = await engine.read([passage], engine.categories, timeout_s=_READ_S)
    if readings[0].failures:
        raise DetectorUnavailable


async def _circuits_answer(breakers: Breakers) -> None:
    if not await breakers.ping():
        raise BreakerStoreUnavailable


async def _measure_journal(shipper: Shipper, gaps: Gaps | None, metrics: GatewayMetrics) -> None:
    spool = shipper.spool
    while True:
        if gaps is not None:
            gaps.tell()
        metrics.journal_bytes.set(spool.used_bytes)
        metrics.journal_filled.set(spool.filled_share)
        metrics.journal_sync_seconds.set(spool.last_sync_ms / 1_000)
        metrics.journal_is_behind.set(shipper.is_behind)
        await asyncio.sleep(1)


async def _measure(tools: Tools) -> None:
    metrics = tools.metrics
    while True:
        metrics.show_circuits(tools.breakers.health(), tools.retries)
        await asyncio.sleep(1)


def _kept_running(work: Awaitable[None], name: str) -> asyncio.Task[None]:
    async def run() -> None:
        with suppress(asyncio.CancelledError):
            try:
                await work
            except Exception as error:
                # Without these the process would take calls it cannot account for: better to end and be restarted.
                log.error("background_work_failed", job=name, error_type=type(error).__name__)
                raise

    return asyncio.create_task(run(), name=name)


async def _calls_ended(gateway: GatewayApp) -> None:
    """Let calls under way end by themselves for a while, and then end them: a process that stops has an end."""
    for grace_s in (STREAM_GRACE_S, _CANCELLED_S):
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await gateway.until_idle()
                return
        log.warning("calls_cut_short", count=gateway.end_calls())
