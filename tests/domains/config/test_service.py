"""Applying a configuration, and what the gateway then reads."""

from collections.abc import Iterable, Mapping

import pytest

from tests.support.deeds import told_deeds
from tests.support.detectors import TINY
from tests.support.mongo import TENANT_COLLECTIONS
from trueport.detection.base import DetectorFailed
from trueport.detection.embedding import Embeddings
from trueport.detection.engine import Engine
from trueport.detection.onnx import OnnxDetector
from trueport.detection.policy import Vector
from trueport.domains.config import domain
from trueport.domains.config.api import (
    ConfigService,
    InvalidConfiguration,
    TenantFile,
    check_tenant_file,
    compile_snapshot,
    has_topics,
    read_tenant_file,
)
from trueport.domains.config.models import StoredCredential
from trueport.domains.config.repository import ConfigurationRepository, CredentialRepository
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.pricing import load_price_book
from trueport.gateway.providers.registry import PROVIDER_NAMES
from trueport.kit.clock import ManualClock
from trueport.kit.crypto import DataKey, SealBroken
from trueport.kit.ids import TenantId
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database
from trueport.storage.revisions import revisions

CLOCK = ManualClock()
SCOPE = TenantScope(TenantId("ten_a"))
OTHER = TenantScope(TenantId("ten_b"))
KEY, OTHER_KEY = DataKey.generate("ten_a"), DataKey.generate("ten_b")
PRICES = load_price_book()
EGRESS = EgressPolicy(allow=("127.0.0.1",))
TENANT_COLLECTIONS.update(+model for model in domain.documents)

FILE = """
version: 1
credentials:
  main: {provider: openai, base_url: http://127.0.0.1:9900/v1, secret: {env: MAIN}}
  spare: {provider: openai_compatible, base_url: https://x.example/v1}
routes:
  - match: {model: "gpt-*"}
    targets: [{credential: main, timeout_s: 5}, {credential: spare, model: other}]
limits: {requests_per_minute: 7, tokens_per_minute: 8, concurrency: 9}
"""


def service(database: Database, scope: TenantScope = SCOPE, key: DataKey = KEY) -> ConfigService:
    return ConfigService(database, scope, key, CLOCK)


async def apply(database: Database, text: str = FILE, scope: TenantScope = SCOPE, key: DataKey = KEY) -> TenantFile:
    await ensure_indexes(database, domain.documents)
    file = read_tenant_file(text)
    await service(database, scope, key).apply(
        file,
        {"main": Secret("sk-main-canary-0001")},
        changed_by="usr_1",
        providers=PROVIDER_NAMES,
        egress=EGRESS,
        deeds=told_deeds(),
    )
    return file


async def test_what_is_applied_is_what_the_gateway_reads(database: Database) -> None:
    await apply(database)
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)

    first, second = snapshot.routes[0].targets
    assert snapshot.routes[0].matches("openai", "gpt-4o")
    assert not snapshot.routes[0].matches("openai", "o3")
    assert (first.credential.name, first.timeout_s, second.model) == ("main", 5.0, "other")
    assert first.credential.secret == Secret("sk-main-canary-0001")
    assert second.credential.secret is None
    assert (snapshot.limits.tenant.requests_per_minute, snapshot.limits.tenant.concurrency) == (7, 9)
    assert snapshot.revision == (await revisions(database, [SCOPE.tenant_id]))[SCOPE.tenant_id]


async def test_another_tenant_sees_nothing_of_it(database: Database) -> None:
    await apply(database)
    snapshot = await compile_snapshot(database, OTHER, "other", OTHER_KEY, PRICES)

    assert (snapshot.routes, dict(snapshot.credentials)) == ((), {})
    assert await CredentialRepository(database, OTHER).find() == []
    stored = (await CredentialRepository(database, SCOPE).find())[0]
    assert await CredentialRepository(database, OTHER).find_one({"_id": stored.id}) is None


async def test_a_secret_moved_to_another_tenants_row_does_not_open(database: Database) -> None:
    await apply(database)
    await apply(database, scope=OTHER, key=OTHER_KEY)
    stolen = await CredentialRepository(database, SCOPE).named("main")
    place = await CredentialRepository(database, OTHER).named("main")
    assert stolen is not None
    assert place is not None
    await CredentialRepository(database, OTHER).update(place.id, {"secret": stolen.secret})

    with pytest.raises(SealBroken):
        await compile_snapshot(database, OTHER, "other", OTHER_KEY, PRICES)


async def test_no_secret_lies_open_in_the_database(database: Database) -> None:
    await apply(database)

    for name in await database.list_collection_names():
        found = await database[name].find({}, comment="trueport-platform").to_list()
        assert "sk-main-canary" not in repr(found)


async def test_a_refused_file_changes_nothing(database: Database) -> None:
    await apply(database)
    before = await service(database).export("acme")

    with pytest.raises(InvalidConfiguration):
        await apply(database, FILE + "policies: [{name: x}]\n")
    assert await service(database).export("acme") == before


async def test_what_the_file_does_not_name_is_removed(database: Database) -> None:
    await apply(database)
    await apply(database, "version: 1\ncredentials: {spare: {provider: openai, base_url: https://y.example/v1}}")
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)

    assert list(snapshot.credentials) == ["spare"]
    assert str(snapshot.credentials["spare"].base_url) == "https://y.example/v1"
    assert snapshot.routes == ()


async def test_a_secret_the_file_no_longer_names_is_not_sent_to_a_new_address(database: Database) -> None:
    await apply(database)
    await apply(database, "version: 1\ncredentials: {main: {provider: openai, base_url: https://evil.example/v1}}")
    stored = await CredentialRepository(database, SCOPE).named("main")

    # The helper hands the secret over by name; the file names none for it any more.
    assert isinstance(stored, StoredCredential)
    assert stored.secret_source is None


async def test_an_export_applied_again_gives_the_same_configuration(database: Database) -> None:
    file = await apply(database)
    exported = await service(database).export("acme")

    assert (exported.routes, exported.credentials, exported.limits) == (file.routes, file.credentials, file.limits)


async def test_each_change_is_a_new_version_and_a_new_revision(database: Database) -> None:
    await apply(database)
    before = await revisions(database, [SCOPE.tenant_id])
    await apply(database)

    current = await ConfigurationRepository(database, SCOPE).current()
    assert current is not None
    assert current.version == 2
    assert (await revisions(database, [SCOPE.tenant_id]))[SCOPE.tenant_id] > before[SCOPE.tenant_id]


async def test_the_wrong_tenant_key_opens_nothing(database: Database) -> None:
    await apply(database)
    await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)

    with pytest.raises(SealBroken):
        await compile_snapshot(database, SCOPE, "acme", OTHER_KEY, PRICES)


POLICIES = """
policies:
  - {name: addresses, when: {category: pii, types: [EMAIL]}, action: redact}
  - {name: project, when: {regex: '(?i)aurora'}, action: flag, mode: shadow}
"""


async def test_policies_of_the_file_are_compiled_and_exported(database: Database) -> None:
    await apply(database, FILE + POLICIES)
    snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)
    exported = await service(database).export("acme")

    assert snapshot.policies is not None
    assert [policy.document.name for policy in snapshot.policies.policies] == ["addresses", "project"]
    assert (snapshot.policies.version, snapshot.policy_version) == (1, 1)
    assert [(policy["name"], policy["action"]) for policy in exported.policies] == [
        ("addresses", "redact"), ("project", "flag"),
    ]  # fmt: skip


async def test_a_file_applied_again_changes_the_versions_of_what_it_changes(database: Database) -> None:
    async def versions(text: str) -> tuple[int, dict[str, tuple[str, int]]]:
        await apply(database, text)
        found = (await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)).policies
        assert found is not None
        return found.version, {policy.document.name: (policy.id, policy.version) for policy in found.policies}

    first, before = await versions(FILE + POLICIES)
    same, unchanged = await versions(FILE + POLICIES)
    later, after = await versions(FILE + POLICIES.replace("action: redact", "action: block"))

    assert (first, same, later) == (1, 1, 2)
    assert unchanged == before
    assert after["project"] == before["project"]
    assert after["addresses"] == (before["addresses"][0], 2)


async def test_a_tenant_without_policies_has_none_to_ask(database: Database) -> None:
    await apply(database)

    assert (await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)).policies is None


async def test_presets_of_the_file_are_stored_as_the_policies_they_stand_for(database: Database) -> None:
    text = FILE + "policies: [{preset: secrets, mode: shadow}, {preset: pci}]\n"

    await apply(database, text)
    first = await service(database).export("a")
    await apply(database, text)

    names = ["secrets: passwords, keys and tokens", "pci: card numbers", "pci: card security codes"]
    assert [policy["name"] for policy in first.policies] == names
    assert first.policies[0]["mode"] == "shadow"
    found = (await compile_snapshot(database, SCOPE, "acme", KEY, PRICES)).policies
    assert found is not None
    # The second time nothing was changed.
    assert (found.version, [policy.version for policy in found.policies]) == (1, [1, 1, 1])


async def test_an_unknown_preset_is_refused_with_those_there_are(database: Database) -> None:
    with pytest.raises(InvalidConfiguration, match="policies 2: there is no preset 'gentle'; known are strict, "):
        await apply(database, FILE + "policies: [{preset: pci}, {preset: gentle}]\n")

    assert await ConfigurationRepository(database, SCOPE).current() is None


LAW = """
policies:
  - name: law
    when: {topics: [{name: law, examples: [one two, two three, three four, four five, five six]}]}
    action: block
"""


async def test_topics_are_compiled_with_the_engine_and_again_when_it_had_failed(database: Database) -> None:
    await apply(database, FILE + LAW)
    revision = (await revisions(database, [SCOPE.tenant_id]))[SCOPE.tenant_id]
    engine = Engine([OnnxDetector(TINY)], CLOCK)

    class Failing(Embeddings):
        async def of(self, texts: Iterable[str]) -> Mapping[str, Vector]:  # noqa: ARG002 - as the real one has it
            raise DetectorFailed("overloaded")

    async def topics_with(embeddings: Embeddings | None) -> tuple[int, int | None]:
        snapshot = await compile_snapshot(database, SCOPE, "acme", KEY, PRICES, embeddings=embeddings)
        assert snapshot.policies is not None
        topics = snapshot.policies.policies[0].topics
        return snapshot.revision, None if topics is None else len(topics)

    assert await topics_with(Embeddings(engine)) == (revision, 1)
    # Older than it is, so that whoever holds it reads it again.
    assert await topics_with(Failing(engine)) == (revision - 1, None)
    # With no model there is nothing to wait for.
    assert await topics_with(Embeddings(Engine([], CLOCK))) == (revision, None)
    await engine.close()


def test_topics_are_refused_where_the_engine_cannot_tell_them() -> None:
    file = read_tenant_file(FILE + LAW)

    assert has_topics(file)
    check_tenant_file(file, PROVIDER_NAMES, EGRESS)
    with pytest.raises(InvalidConfiguration, match="to onnx:"):
        check_tenant_file(file, PROVIDER_NAMES, EGRESS, tells_topics=False)
