"""Who made what at a provider, as the database remembers it."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from tests.support.mongo import TENANT_COLLECTIONS
from tests.support.objects import admitted, asked
from trueport.domains.proxy import domain
from trueport.domains.proxy.models import KeptObject
from trueport.domains.proxy.objects import KEPT_FOR, KEPT_FOR_BY_KIND, KeptObjects, StoredObjects
from trueport.gateway.call import Admitted
from trueport.gateway.objects.base import Made
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.clock import ManualClock
from trueport.kit.errors import Unavailable
from trueport.kit.ids import CredentialId, TenantId
from trueport.kit.tenancy import Environment, TenantScope
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database

TENANT_COLLECTIONS.update({+KeptObject})
MAIN, SPARE = CredentialId("crd_main"), CredentialId("crd_spare")
FILE = [Made("file", "file-1")]


class EverybodyKnown:
    """Tenants by the scopes of their keys."""

    def known(self, tenant_id: TenantId) -> tuple[TenantScope, TenantSnapshot]:
        return TenantScope(tenant_id), admitted("openai", asked("openai", "GET files"), tenant=tenant_id).snapshot


class NobodyKnown:
    def known(self, tenant_id: TenantId) -> None:
        """A tenant whose keys have just been dropped."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def objects(database: Database, clock: ManualClock) -> StoredObjects:
    await ensure_indexes(database, domain.documents)
    return StoredObjects(database, clock, EverybodyKnown())


def call(tenant: str = "ten_a", *, wire: str = "openai", env: Environment = "prod") -> Admitted:
    line = "GET v1beta/files" if wire == "google" else "GET files"
    return admitted(wire, asked(wire, line), tenant=tenant, environment=env)


async def ids(objects: StoredObjects, whose: Admitted, *names: str) -> Sequence[str]:
    return sorted(await objects.owners(whose, names))


async def test_what_was_noted_is_found_with_the_credential_that_made_it(objects: StoredObjects) -> None:
    await objects.note(call(), FILE, MAIN)

    assert await objects.owners(call(), ["file-1", "file-2"]) == {"file-1": MAIN}
    assert await objects.owners(call(), ["file-1"]) == {"file-1": MAIN}
    assert await objects.owners(call(), ["file-2"]) == {}


@pytest.mark.parametrize(
    "other", [call("ten_b"), call(env="dev"), call(env="staging"), call(wire="anthropic"), call(wire="google")]
)
async def test_nobody_else_finds_it(objects: StoredObjects, other: Admitted) -> None:
    await objects.note(call(), FILE, MAIN)

    assert await ids(objects, other, "file-1") == []
    await objects.forget(other, ["file-1"])
    assert await ids(objects, call(), "file-1") == ["file-1"]


async def test_two_tenants_may_have_objects_of_one_name(objects: StoredObjects) -> None:
    await objects.note(call(), FILE, MAIN)
    await objects.note(call("ten_b"), FILE, SPARE)

    assert await objects.owners(call(), ["file-1"]) == {"file-1": MAIN}
    assert await objects.owners(call("ten_b"), ["file-1"]) == {"file-1": SPARE}


async def test_what_is_known_already_stays_with_the_credential_that_made_it(objects: StoredObjects) -> None:
    await objects.note(call(), FILE, MAIN)
    await objects.note(call(), [*FILE, Made("file", "file-2")], SPARE)

    assert await objects.owners(call(), ["file-1", "file-2"]) == {"file-1": MAIN, "file-2": SPARE}


async def test_what_is_gone_is_not_found(objects: StoredObjects) -> None:
    await objects.note(call(), [Made("file", "file-1"), Made("file", "file-2")], MAIN)

    await objects.forget(call(), ["file-1", "never"])

    assert await ids(objects, call(), "file-1", "file-2") == ["file-2"]


async def test_more_than_one_round_trip_finds_them_all(objects: StoredObjects) -> None:
    many = [f"file-{number}" for number in range(1_201)]
    await objects.note(call(), [Made("file", name) for name in many], MAIN)

    assert set(await objects.owners(call(), [*many, *many, "never"])) == set(many)


@pytest.mark.parametrize(("kind", "kept_for"), [("file", KEPT_FOR), *KEPT_FOR_BY_KIND.items()])
async def test_its_time_ends_before_the_database_removes_it(
    objects: StoredObjects, clock: ManualClock, kind: str, kept_for: timedelta
) -> None:
    await objects.note(call(), [Made(kind, "x")], MAIN)

    clock.advance(kept_for.total_seconds() - 1)
    assert await ids(objects, call(), "x") == ["x"]
    clock.advance(2)
    assert await ids(objects, call(), "x") == []


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 4_000, "$where", "a.b", "\x00"])
async def test_any_text_may_be_asked_for(objects: StoredObjects, name: str) -> None:
    assert await ids(objects, call(), name) == []


async def test_a_tenant_that_is_not_known_just_now_is_asked_to_come_back(database: Database) -> None:
    with pytest.raises(Unavailable):
        await StoredObjects(database, ManualClock(), NobodyKnown()).owners(call(), ["file-1"])


async def test_the_documents_say_what_they_are(objects: StoredObjects, database: Database) -> None:
    await objects.note(call(), FILE, MAIN)

    [stored] = await KeptObjects(database, TenantScope(TenantId("ten_a"))).find()

    assert (stored.env, stored.wire, stored.kind, stored.object_id) == ("prod", "openai", "file", "file-1")
    assert await KeptObjects(database, TenantScope(TenantId("ten_b"))).find() == []
