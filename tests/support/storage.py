"""A small model with repositories through both doors, for tests of storage itself."""

import asyncio
import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from odmantic import EmbeddedModel, Field, Index, Model, query

from trueport.kit.ids import TenantId, new_id
from trueport.kit.tenancy import PlatformScope, TenantScope
from trueport.storage.mongo import Document
from trueport.storage.platform import PlatformRepository
from trueport.storage.scoped import TenantRepository

ACME = TenantScope(TenantId("ten_acme"))
OTHER = TenantScope(TenantId("ten_other"))
OPERATOR = PlatformScope("usr_operator", "a test")
NOON = datetime(2026, 11, 23, 12, 0, 0, 125_000, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(EmbeddedModel):
    size: int
    made_at: datetime


class Thing(Model):
    id: str = Field(primary_field=True)
    tenant_id: str
    name: str
    colour: Colour = Colour.RED
    size: int = Field(default=1, key_name="sz")
    parts: list[Part] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    seen_at: datetime | None = None
    created_at: datetime
    revision: int = 0

    model_config = {"collection": "things", "indexes": lambda: [Index(Thing.tenant_id, Thing.name, unique=True)]}  # noqa: RUF012 - odmantic reads it from the class


class Things(TenantRepository[Thing]):
    model = Thing

    async def named(self, name: str) -> Thing | None:
        return await self.find_one(query.eq(Thing.name, name))

    def spelt_out(self, *filters: Document) -> Document:
        return self._scoped(filters)


class AllThings(PlatformRepository[Thing]):
    model = Thing


def thing(name: str = "one", scope: TenantScope = ACME, **members: Any) -> Thing:
    """A thing of the tenant; `members` replace its defaults."""
    return Thing(**{"id": new_id("thg"), "tenant_id": scope.tenant_id, "name": name, "created_at": NOON, **members})


def names(items: Sequence[Thing]) -> list[str]:
    return [item.name for item in items]


class Wire:
    """The way to a database. While `flows` is cleared, its answers stay under way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.flows = asyncio.Event()
        self.flows.set()
        self.asked = asyncio.Event()
        self.uri = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Wire"]:
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            back = asyncio.create_task(self._copy(far_reader, writer, is_answer=True))
            try:
                await self._copy(reader, far_writer, is_answer=False)
            except asyncio.CancelledError:
                pass  # the test is over; asyncio would log what a connection callback raises
            finally:
                back.cancel()
                far_writer.transport.abort()
                writer.transport.abort()
                tasks.discard(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.uri = f"mongodb://127.0.0.1:{server.sockets[0].getsockname()[1]}/?directConnection=true"
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        try:
            while data := await reader.read(65_536):
                if is_answer:
                    await self.flows.wait()
                elif not self.flows.is_set():
                    self.asked.set()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
