"""What the gateway reads of a configuration while others change it, and with which keys."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.deeds import told_deeds
from tests.support.mongo import TENANT_COLLECTIONS
from tests.support.web import House, settings_of
from trueport.domains.auth.api import operator_scope, tenant_key
from trueport.domains.config import domain
from trueport.domains.config.api import ConfigService, compile_snapshot, read_tenant_file
from trueport.domains.config.compile import content_key_named
from trueport.domains.config.models import ContentKey
from trueport.domains.config.repository import ContentKeyRepository, CredentialRepository
from trueport.gateway.call import Usage
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.pricing import cost_nano_usd, load_price_book
from trueport.gateway.providers.registry import PROVIDER_NAMES
from trueport.gateway.snapshot import Bounds, BudgetRule, TenantLimits, TenantSnapshot
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
PRICES = load_price_book()
EGRESS = EgressPolicy(allow=())
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
        read_tenant_file(text),
        SECRETS,
        changed_by="usr_1",
        providers=PROVIDER_NAMES,
        egress=EGRESS,
        deeds=told_deeds(),
        **options,
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
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)

    assert snapshot.revision < (await revisions(database, [SCOPE.tenant_id]))[SCOPE.tenant_id]


async def test_a_tenant_that_configured_nothing_has_an_empty_snapshot(database: Database) -> None:
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)

    assert (snapshot.routes, dict(snapshot.credentials), snapshot.revision) == ((), {}, 0)
    assert snapshot.limits == TenantLimits()
    assert (snapshot.budgets, snapshot.aliases, snapshot.regions) == ((), {}, frozenset())


async def test_routes_keep_their_order_and_their_targets_members(database: Database) -> None:
    await apply(database)
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)

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
        await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)


async def test_a_credential_that_names_no_secret_has_none_whatever_is_handed_over(database: Database) -> None:
    await apply(database)
    await apply(database, "version: 1\ncredentials: {one: {provider: openai, base_url: https://evil.example.com/v1}}")

    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)
    (stored,) = await CredentialRepository(database, SCOPE).find()
    assert snapshot.credentials["one"].secret is None
    assert (stored.secret, stored.secret_hint, stored.secret_source) == (None, None, None)


async def test_a_content_key_pasted_into_another_tenants_row_does_not_open(database: Database) -> None:
    made = DataKey.generate("dek_old")
    for scope in (SCOPE, OTHER):
        wrapped = KEY.wrap(made, f"{SCOPE.tenant_id}|content-key|dek_old{scope.tenant_id}")
        row = ContentKey(
            id=f"dek_old{scope.tenant_id}",
            tenant_id=scope.tenant_id,
            month="2026-01",
            wrapped=wrapped,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        await ContentKeyRepository(database, scope).insert(row)

    opened = await content_key_named(database, SCOPE, KEY, f"dek_old{SCOPE.tenant_id}")
    assert opened.commitment == made.commitment
    with pytest.raises(SealBroken):
        await content_key_named(database, OTHER, KEY, f"dek_old{OTHER.tenant_id}")


async def test_another_key_encryption_key_opens_no_tenant(house: House, tmp_path: Path) -> None:
    tenant = await house.tenant(await house.person())
    scope = operator_scope(tenant)
    assert (await tenant_key(house.resources, scope.tenant_id)).kid == f"{tenant.id}/1"
    stranger = settings_of(tmp_path / "stranger", TRUEPORT_KEK="another key-encryption key, as long as it has to be")

    with pytest.raises(SealBroken):
        await tenant_key(Resources(stranger, house.resources.database, house.clock, house.events), scope.tenant_id)


RICH = """
version: 1
credentials:
  a: {provider: openai, base_url: https://api.openai.com/v1, region: us}
  b: {provider: azure, base_url: https://a.openai.azure.com, region: eu, deployments: {gpt-4.1: p}, quirks: [no_store]}
aliases: {fast.v1: gpt-4.1}
regions: [eu]
routes:
  - match: {model: "ordered"}
    targets: [{credential: a}, {credential: b}, {credential: a, model: m}]
  - match: {model: "weighted"}
    targets: [{credential: a, weight: 3}, {credential: b, weight: 1}, {credential: a, model: m}]
  - match: {model: "stated"}
    targets: [{credential: a, priority: 7}, {credential: b, priority: 2, retries: 1}]
  - match: {model: "fastest"}
    choose: latency
    cache_s: 60
    targets: [{credential: a}, {credential: b}]
limits:
  requests_per_minute: 7
  per_user: {requests_per_minute: 5}
  models: {"gpt-4.*": {concurrency: 2}}
budgets:
  - {period: month, limit_usd: "500.00", alert_at: [0.5], per: user, model: "gpt-4*"}
  - {period: day, limit_usd: "0.000000001", action: alert, name: tiny}
prices: [{provider: azure, model: "gpt-4.1", input: "1.00", output: "2.00"}]
"""


async def rich_snapshot(database: Database) -> TenantSnapshot:
    service = ConfigService(database, SCOPE, KEY, ManualClock())
    await service.apply(
        read_tenant_file(RICH), {}, changed_by="usr_1", providers=PROVIDER_NAMES, egress=EGRESS, deeds=told_deeds()
    )
    return await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)


async def test_targets_are_ordered_weighted_or_ranked_as_the_file_says(database: Database) -> None:
    ordered, weighted, stated, fastest = (await rich_snapshot(database)).routes

    assert [target.priority for target in ordered.targets] == [0, 1, 2]
    assert [(target.priority, target.weight) for target in weighted.targets] == [(0, 3), (0, 1), (1, 1)]
    assert [(target.priority, target.retries) for target in stated.targets] == [(7, 0), (2, 1)]
    assert [(target.priority, target.by_latency) for target in fastest.targets] == [(0, True), (0, True)]
    assert (fastest.cache_s, ordered.cache_s) == (60, 0)


async def test_everything_else_in_the_file_reaches_the_gateway(database: Database) -> None:
    snapshot = await rich_snapshot(database)
    azure = snapshot.credentials["b"]

    assert (azure.deployments, azure.quirks, azure.region) == ({"gpt-4.1": "p"}, frozenset({"no_store"}), "eu")
    assert (snapshot.aliases, snapshot.regions) == ({"fast.v1": "gpt-4.1"}, frozenset({"eu"}))
    assert snapshot.limits == TenantLimits(Bounds(7), Bounds(5), (("gpt-4.*", Bounds(concurrency=2)),))
    assert snapshot.budgets == (
        BudgetRule("month per user gpt-4*", "month", 500_000_000_000, alert_at=(0.5,), per="user", model="gpt-4*"),
        BudgetRule("tiny", "day", 1, blocks=False),
    )
    own = snapshot.prices.price_of("azure", "gpt-4.1") if snapshot.prices else None
    assert own is not None
    assert cost_nano_usd(Usage(1_000_000, 1_000_000), own) == 3_000_000_000


async def test_what_was_applied_is_exported_as_it_was(database: Database) -> None:
    service = ConfigService(database, SCOPE, KEY, ManualClock())
    await rich_snapshot(database)

    assert replace(await service.export("acme"), tenant=None) == read_tenant_file(RICH)
