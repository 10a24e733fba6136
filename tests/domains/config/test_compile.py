"""What the gateway reads of a configuration while others change it, and with which keys."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.mongo import TENANT_COLLECTIONS
from tests.support.web import House, settings_of
from trueport.domains.auth.api import operator_scope, tenant_key
from trueport.domains.config import domain
from trueport.domains.config.api import ConfigService, compile_snapshot, read_tenant_file
from trueport.domains.config.compile import content_key
from trueport.domains.config.models import ContentKey
from trueport.domains.config.repository import ContentKeyRepository, CredentialRepository
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.providers.openai import PROVIDERS
from trueport.kit.clock import ManualClock
from trueport.kit.crypto import DataKey, SealBroken
from trueport.kit.ids import TenantId
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database
from trueport.storage.revisions import bump_revision, revisions
from trueport.web.domain import Resources

SCOPE = TenantScope(TenantId("ten_compile"))
OTHER = TenantScope(TenantId("ten_elsewhere"))
KEY = DataKey.generate("ten_compile/1")
EGRESS = EgressPolicy(allow=(), allow_plain_http_public=False)
TENANT_COLLECTIONS.update(+model for model in domain.documents)
TWO = """
version: 1
credentials:
  one: {provider: openai, base_url: https://one.example.com/v1, secret: {env: ONE}}
  two: {provider: openai, base_url: https://two.example.com/v1, secret: {file: /two}, region: eu}
routes: [{match: {model: "a*", dialect: openai}, targets: [{credential: two, weight: 3}]}, {match: {}, targets: [{credential: one}]}]
"""  # noqa: E501 - one route a line would say no more
SECRETS = {"one": Secret("sk-one-0123456789abcdef"), "two": Secret("sk-two")}


async def apply(database: Database, text: str = TWO, **options: Any) -> None:
    await ensure_indexes(database, domain.documents)
    await ConfigService(database, SCOPE, KEY, ManualClock()).apply(
        read_tenant_file(text), SECRETS, changed_by="usr_1", providers=PROVIDERS, egress=EGRESS, **options
    )


async def test_a_change_in_the_middle_of_compiling_makes_the_snapshot_old_not_current(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(database)
    read = CredentialRepository.find

    async def read_late(self: CredentialRepository, *filters: Any, **options: Any) -> Any:
        await bump_revision(database, SCOPE.tenant_id)
        return await read(self, *filters, **options)

    monkeypatch.setattr(CredentialRepository, "find", read_late)
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, ManualClock())

    assert snapshot.revision < (await revisions(database, [SCOPE.tenant_id]))[SCOPE.tenant_id]


async def test_a_tenant_that_configured_nothing_has_an_empty_snapshot(database: Database) -> None:
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, ManualClock())

    assert (snapshot.routes, dict(snapshot.credentials), snapshot.revision) == ((), {}, 0)
    assert (snapshot.limits.requests_per_minute, snapshot.limits.tokens_per_minute) == (0, 0)


async def test_routes_keep_their_order_and_their_targets_members(database: Database) -> None:
    await apply(database)
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, ManualClock())

    assert [(route.model_glob, route.dialect) for route in snapshot.routes] == [("a*", "openai"), (None, None)]
    (target,) = snapshot.routes[0].targets
    assert (target.credential.region, target.weight, target.timeout_s, target.model) == ("eu", 3, None, None)
    assert target.credential.secret == Secret("sk-two")
    assert "sk-" not in repr(snapshot)


async def test_a_hint_is_kept_of_long_secrets_only(database: Database) -> None:
    await apply(database)
    stored = {one.name: one for one in await CredentialRepository(database, SCOPE).find()}

    assert (stored["one"].secret_hint, stored["two"].secret_hint) == ("cdef", None)
    assert (stored["one"].secret_source, stored["two"].secret_source) == ("env:ONE", "file:/two")


async def test_a_credential_keeps_its_id_through_changes(database: Database) -> None:
    await apply(database)
    before = {one.name: one.id for one in await CredentialRepository(database, SCOPE).find()}
    await apply(database)

    assert {one.name: one.id for one in await CredentialRepository(database, SCOPE).find()} == before


async def test_a_secret_of_one_credential_does_not_open_for_another(database: Database) -> None:
    await apply(database)
    stored = {one.name: one for one in await CredentialRepository(database, SCOPE).find()}
    await CredentialRepository(database, SCOPE).update(stored["two"].id, {"secret": stored["one"].secret})

    with pytest.raises(SealBroken):
        await compile_snapshot(database, SCOPE, "acme", KEY, ManualClock())


async def test_a_credential_that_names_no_secret_has_none_whatever_is_handed_over(database: Database) -> None:
    await apply(database)
    await apply(database, "version: 1\ncredentials: {one: {provider: openai, base_url: https://evil.example.com/v1}}")

    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, ManualClock())
    (stored,) = await CredentialRepository(database, SCOPE).find()
    assert snapshot.credentials["one"].secret is None
    assert (stored.secret, stored.secret_hint, stored.secret_source) == (None, None, None)


async def test_a_month_has_one_content_key_and_the_next_another(database: Database) -> None:
    await ensure_indexes(database, domain.documents)
    clock = ManualClock(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC))
    first = await content_key(database, SCOPE, KEY, clock)
    again = await content_key(database, SCOPE, KEY, clock)
    clock.advance(1)
    next_month = await content_key(database, SCOPE, KEY, clock)

    assert first.commitment == again.commitment != next_month.commitment
    kept = await ContentKeyRepository(database, SCOPE).find()
    assert {key.month for key in kept} == {"2026-01", "2026-02"}


async def test_the_loser_of_a_race_for_the_content_key_takes_the_winners(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_indexes(database, domain.documents)
    looking = asyncio.Barrier(2)
    look = ContentKeyRepository.of_month
    looked = 0

    async def look_together(self: ContentKeyRepository, month: str) -> ContentKey | None:
        nonlocal looked
        looked += 1
        found = await look(self, month)
        if looked <= 2:
            # Both have seen that there is none before either makes one.
            await asyncio.wait_for(looking.wait(), 20)
        return found

    monkeypatch.setattr(ContentKeyRepository, "of_month", look_together)
    one, other = await asyncio.gather(*(content_key(database, SCOPE, KEY, ManualClock()) for _ in range(2)))

    assert one.commitment == other.commitment
    assert looked == 3
    assert len(await ContentKeyRepository(database, SCOPE).find()) == 1


async def test_a_content_key_pasted_into_another_tenants_row_does_not_open(database: Database) -> None:
    await ensure_indexes(database, domain.documents)
    made = await content_key(database, SCOPE, KEY, ManualClock())
    (stored,) = await ContentKeyRepository(database, SCOPE).find()
    pasted = stored.model_copy(update={"id": made.kid + "x", "tenant_id": OTHER.tenant_id})
    await ContentKeyRepository(database, OTHER).insert(pasted)

    with pytest.raises(SealBroken):
        await content_key(database, OTHER, KEY, ManualClock())


async def test_another_key_encryption_key_opens_no_tenant(house: House, tmp_path: Path) -> None:
    tenant = await house.tenant(await house.person())
    scope = operator_scope(tenant)
    assert (await tenant_key(house.resources, scope.tenant_id)).kid == f"{tenant.id}/1"
    stranger = settings_of(tmp_path / "stranger", TRUEPORT_KEK="another key-encryption key, as long as it has to be")

    with pytest.raises(SealBroken):
        await tenant_key(Resources(stranger, house.resources.database, house.clock, house.events), scope.tenant_id)
