"""Opens what every process needs, before any domain, and closes it last."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Counter

from trueport.domains.proxy.http import GatewayApp
from trueport.gateway.metrics import GatewayMetrics
from trueport.kit.clock import SystemClock
from trueport.kit.events import EventBus
from trueport.kit.logging import get_logger
from trueport.settings import Settings
from trueport.storage.embedded import EmbeddedMongo
from trueport.storage.mongo import StoreUnavailable, connect, database_of, ping
from trueport.storage.tripwire import Noted, Tripwire
from trueport.web.domain import ReadinessCheck, Resources

log = get_logger(__name__)

_unscoped_commands = Counter("trueport_unscoped_commands", "Commands on tenant collections that named no tenant")


@asynccontextmanager
async def open_resources(
    settings: Settings, *, gateway: GatewayApp | None = None, tenant_collections: frozenset[str] = frozenset()
) -> AsyncIterator[Resources]:
    """The process's own resources. An embedded database is started here unless the folder's owner runs it already."""
    embedded = EmbeddedMongo(settings.data_dir) if settings.embeds_mongodb else None
    uri = embedded.start() if embedded else settings.mongodb_uri.reveal()
    client = connect(uri, listeners=[Tripwire(tenant_collections, _unscoped)])
    database = database_of(client)

    async def database_answers() -> None:
        if not await ping(database):
            raise StoreUnavailable

    resources = Resources(
        settings=settings,
        database=database,
        clock=SystemClock(),
        events=EventBus(),
        readiness={"database": ReadinessCheck(database_answers, is_critical=False)},
    )
    if gateway is not None:
        resources.parts[GatewayApp] = gateway
        resources.parts[GatewayMetrics] = GatewayMetrics()
    try:
        yield resources
    finally:
        await client.close()
        if embedded is not None:
            embedded.stop()


def _unscoped(noted: Noted) -> None:
    _unscoped_commands.inc()
    log.error("unscoped_command", collection=noted.collection, command=noted.command)
