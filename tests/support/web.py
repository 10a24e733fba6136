"""An application with a database of its own, people in it, and a client that speaks to it in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from tests.support.mongo import TENANT_COLLECTIONS
from trueport.app import create_app, installed_domains
from trueport.audit.canonical import parse
from trueport.audit.segment import HEADER_BYTES, frames
from trueport.audit.spool import Spool
from trueport.domains.auth.members import add_member
from trueport.domains.auth.models import ApiKey, Membership, Session, Tenant, User
from trueport.domains.auth.repository import Sessions, Users
from trueport.domains.auth.tenants import create_tenant
from trueport.domains.auth.tools import AuthTools
from trueport.kit.clock import ManualClock, SystemClock
from trueport.kit.events import Event, EventBus
from trueport.kit.ids import TenantId, UserId, new_id
from trueport.kit.principal import Role
from trueport.kit.tenancy import Environment, PlatformScope, TenantScope
from trueport.settings import Settings, load_settings
from trueport.storage.mongo import Database
from trueport.web.deeds import Deeds, operator_deeds
from trueport.web.domain import Domain, Resources
from trueport.web.trail import Trail

TENANT_COLLECTIONS.update({+ApiKey, +Membership})

# The domains under test; their routes are walked by tests/web/test_access_matrix.py.
HOSTED = ("auth", "config", "analytics", "audit")
PASSWORD = "correct horse battery staple"
LOOPBACK = "127.0.0.1"
OUTSIDE = "203.0.113.9"


class RecordingBus(EventBus):
    """An event bus that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Event] = []

    async def tell(self, event: Event) -> None:
        self.told.append(event)
        await super().tell(event)


@dataclass(frozen=True)
class House:
    """An application under test, and short ways to people it."""

    app: Litestar
    resources: Resources
    clock: ManualClock
    events: RecordingBus
    client: httpx.AsyncClient
    spool: Spool

    @property
    def deeds(self) -> Deeds:
        """Deeds of somebody at the command line."""
        return operator_deeds(self.resources)

    def records(self, tenant_id: str | None = None) -> list[dict[str, Any]]:
        """What the journal of this house holds, of one tenant or of all, in the order it was written."""
        found = [
            parse(frame.record)
            for number, _ in self.spool.ends()
            for frame in frames(self.spool.read_all(number, HEADER_BYTES), 0)
        ]
        return [record for record in found if tenant_id in (None, record["tenant"])]

    @property
    def tools(self) -> AuthTools:
        return self.resources.part(AuthTools)

    def client_from(self, address: str) -> httpx.AsyncClient:
        """A client whose connections come from `address`."""
        return client_of(self.app, address)

    async def person(self, email: str | None = None, *, is_platform_admin: bool = False) -> User:
        """Somebody with an account and no usable password; sign-in is not what most tests are about."""
        user = User(
            id=new_id("usr"),
            email=email or f"{new_id('p')}@people.example",
            password_hash="none",
            first_name="Ada",
            last_name="Lovelace",
            is_platform_admin=is_platform_admin,
            created_at=self.clock.now(),
        )
        return await Users(self.resources.database, PlatformScope("tests", "people")).insert(user)

    async def session(self, user: User) -> str:
        now = self.clock.now()
        session = Session(id=new_id("ses"), user_id=user.id, expires_at=now.replace(year=now.year + 1), created_at=now)
        await Sessions(self.resources.database, PlatformScope("tests", "sessions")).insert(session)
        return session.id

    async def tenant(self, owner: User, slug: str = "acme") -> Tenant:
        return await create_tenant(self.resources, UserId(owner.id), slug.title(), slug, self.deeds)

    async def join(self, tenant: Tenant, role: Role, user: User | None = None) -> User:
        """Somebody (new) who has this role in the tenant."""
        user = user or await self.person()
        await add_member(self.resources, TenantScope(TenantId(tenant.id)), UserId(user.id), role, self.deeds)
        return user

    async def as_person(self, user: User) -> dict[str, str]:
        """Headers of a new session of this person."""
        return bearer(self.tools.signer.issue_global(UserId(user.id), await self.session(user)))

    async def as_member(
        self, user: User, tenant: Tenant, *, role: Role = "viewer", env: Environment = "prod"
    ) -> dict[str, str]:
        """Headers of a new session in a tenant. `role` is what the token says, which decides nothing."""
        session = await self.session(user)
        return bearer(self.tools.signer.issue_scoped(UserId(user.id), session, TenantId(tenant.id), role, env))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def client_of(app: Any, address: str = LOOPBACK) -> httpx.AsyncClient:  # Litestar's ASGI types differ from httpx's
    transport = httpx.ASGITransport(app, client=(address, 50_000), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def settings_of(folder: Path, **environ: str) -> Settings:
    given = {"TRUEPORT_DATA_DIR": str(folder), "TRUEPORT_SECRET_KEY": "s" * 40, "TRUEPORT_KEK": "k" * 40,
             "TRUEPORT_DETECTION_URL": "rules:", **environ}  # fmt: skip
    return load_settings(given)


@asynccontextmanager
async def open_house(
    settings: Settings, database: Database, domains: list[Domain] | None = None
) -> AsyncIterator[House]:
    # Starts at the real present, because the database itself removes what has expired.
    clock = ManualClock(SystemClock().now())
    events = RecordingBus()
    app = create_app(settings, installed_domains(HOSTED) if domains is None else domains)
    app.state.resources = resources = Resources(settings, database, clock, events)
    # Records stay in the journal: what a test's log holds is what the test puts there. Tests of records read it.
    spool = Spool(settings.data_dir / "spool", clock=clock, segment_bytes=1 << 16, capacity_bytes=1 << 30)
    resources.parts[Trail] = Trail(spool)
    try:
        async with _running(app), client_of(app) as client:
            yield House(app, resources, clock, events, client, spool)
    finally:
        spool.close()


@asynccontextmanager
async def _running(app: Litestar) -> AsyncIterator[None]:
    """The application started, in a task of its own: it ends in the task it began in, which fixtures do not."""
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()

    life = asyncio.create_task(live())
    ready = asyncio.create_task(started.wait())
    await asyncio.wait((life, ready), return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        if not life.done():
            yield
    finally:
        stop.set()
        await life


@pytest.fixture
async def house(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """The application in the `local` environment."""
    async with open_house(settings_of(tmp_path), database) as opened:
        yield opened


@pytest.fixture
async def public_house(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """The application in production, known as gw.example.com."""
    environ = {
        "TRUEPORT_ENVIRONMENT": "prod",
        "TRUEPORT_ALLOW_EMBEDDED": "1",
        "TRUEPORT_PUBLIC_URL": "https://gw.example.com",
    }
    async with open_house(settings_of(tmp_path, **environ), database) as opened:
        yield opened


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem a reply tells of, after looking at what every problem has."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    members: dict[str, Any] = response.json()
    assert members["code"] == code, members
    assert members["type"] == f"https://docs.trueportai.com/errors/{code}"
    assert members["status"] == status
    assert members["request_id"] == response.headers["x-request-id"]
    assert members["title"]
    assert members["detail"]
    return members
