"""What wraps a tenant's key: changed without touching what was sealed, and withdrawn by whoever holds it."""

import os
from pathlib import Path

import pytest

from tests.support.web import House
from trueport.domains.auth.api import tenant_key, wrap_tenant_key
from trueport.domains.auth.models import Tenant
from trueport.domains.auth.tenant_keys import STALE_S, TenantKeys
from trueport.kit.ids import TenantId
from trueport.storage.revisions import revisions
from trueport.storage.wrapping.base import KeyRefused, KeyServiceUnavailable, UnknownWrapper
from trueport.storage.wrapping.files import FileWrapper

CACHED_S = 300


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kek-of-acme"
    path.write_text(os.urandom(32).hex())
    return path


async def a_tenant(house: House, slug: str = "acme") -> TenantId:
    return TenantId((await house.tenant(await house.person(), slug)).id)


def another_process(house: House) -> TenantKeys:
    return TenantKeys(house.resources)


async def test_a_key_wrapped_anew_is_the_same_key(house: House, file: Path, tmp_path: Path) -> None:
    tenant_id = await a_tenant(house)
    before = (await tenant_key(house.resources, tenant_id)).commitment
    other = tmp_path / "kek-2027"
    other.write_text(os.urandom(32).hex())

    for wrapped_by in (f"file://{file}", f"file://{other}", ""):
        await wrap_tenant_key(house.resources, tenant_id, wrapped_by)
        # The one before is needed no more.
        if wrapped_by.endswith("2027"):
            file.unlink()
        assert (await another_process(house).of(tenant_id)).commitment == before


async def test_every_process_hears_of_a_key_wrapped_anew(house: House, file: Path) -> None:
    tenant_id = await a_tenant(house)
    before = await revisions(house.resources.database, [tenant_id])

    await wrap_tenant_key(house.resources, tenant_id, f"file://{file}")

    assert (await revisions(house.resources.database, [tenant_id]))[tenant_id] == before[tenant_id] + 1


async def test_a_withdrawn_key_is_used_for_the_time_of_the_cache_and_no_longer(house: House, file: Path) -> None:
    tenant_id, other = await a_tenant(house), await a_tenant(house, "globex")
    await wrap_tenant_key(house.resources, tenant_id, f"file://{file}")
    await tenant_key(house.resources, tenant_id)
    kept = file.read_bytes()
    file.unlink()

    await tenant_key(house.resources, tenant_id)
    house.clock.advance(CACHED_S)
    with pytest.raises(KeyRefused):
        await tenant_key(house.resources, tenant_id)
    await tenant_key(house.resources, other)
    file.write_bytes(kept)
    await tenant_key(house.resources, tenant_id)


async def test_a_service_that_is_away_leaves_known_keys_for_a_quarter_of_an_hour(
    house: House, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await a_tenant(house)
    await wrap_tenant_key(house.resources, tenant_id, f"file://{file}")
    await tenant_key(house.resources, tenant_id)

    async def away(*_: object) -> bytes:
        raise KeyServiceUnavailable

    monkeypatch.setattr(FileWrapper, "unwrap", away)
    house.clock.advance(CACHED_S)
    await tenant_key(house.resources, tenant_id)
    with pytest.raises(KeyServiceUnavailable):
        await another_process(house).of(tenant_id)
    house.clock.advance(STALE_S - CACHED_S)
    with pytest.raises(KeyServiceUnavailable):
        await tenant_key(house.resources, tenant_id)


@pytest.mark.parametrize("broken", ["no-such-kind://x", "file:///no/such/file"])
async def test_a_key_is_not_given_to_what_cannot_give_it_back(house: House, broken: str) -> None:
    tenant_id = await a_tenant(house)

    with pytest.raises((UnknownWrapper, KeyRefused)):
        await wrap_tenant_key(house.resources, tenant_id, broken)

    stored = await house.resources.database[+Tenant].find_one({"_id": tenant_id})
    assert stored is not None
    assert stored["wrapped_by"] == ""
    await another_process(house).of(tenant_id)


async def test_what_one_tenants_key_was_wrapped_to_does_not_open_as_anothers(house: House, file: Path) -> None:
    one, two = await a_tenant(house), await a_tenant(house, "globex")
    for tenant_id in (one, two):
        await wrap_tenant_key(house.resources, tenant_id, f"file://{file}")
    rows = house.resources.database[+Tenant]
    stolen = await rows.find_one({"_id": one})
    assert stolen is not None
    await rows.update_one({"_id": two}, {"$set": {"wrapped_key": stolen["wrapped_key"]}})

    with pytest.raises(KeyRefused):
        await another_process(house).of(two)
