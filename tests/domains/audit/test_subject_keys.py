"""The keys that seal what people say: one for each person and month, stored before use, nobody else's."""

import asyncio
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.web import House
from trueport.audit.sealing import open_content, seal_content
from trueport.domains.audit.erasure.keys import STALE_S, ContentErased, Person, SubjectKeys, subject_of
from trueport.domains.audit.erasure.models import SubjectKey
from trueport.domains.audit.erasure.repository import SubjectKeyRows
from trueport.domains.auth.models import Tenant
from trueport.domains.config.models import ContentKey
from trueport.kit.crypto import DataKey, SealBroken
from trueport.kit.ids import TenantId
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import StoreUnavailable

FRESH_S = 300  # KEY_CACHE_S, unless set


async def a_tenant(house: House, slug: str = "acme") -> TenantId:
    return TenantId((await house.tenant(await house.person(), slug)).id)


def rows(house: House, tenant_id: TenantId) -> SubjectKeyRows:
    return SubjectKeyRows(house.resources.database, TenantScope(tenant_id))


async def test_each_person_and_month_has_a_key_and_every_process_the_same(house: House) -> None:
    tenant_id = await a_tenant(house)
    people = [Person(tenant_id, "key_a"), Person(tenant_id, "key_b"), Person(tenant_id, "key_a", "ada")]
    one, other = SubjectKeys(house.resources), SubjectKeys(house.resources)

    first = [await one.sealing(person, 1) for person in people]
    again = [await other.sealing(person, 1) for person in people]
    house.clock.advance(40 * 86_400)
    later = [await one.sealing(person, 1) for person in people]

    assert len({sealing.key.commitment for sealing in first + later}) == 6
    assert [(each.subject, each.key.kid) for each in first] == [(each.subject, each.key.kid) for each in again]
    assert [each.subject for each in first] == [each.subject for each in later]
    assert {key.id for key in await rows(house, tenant_id).find()} == {each.key.kid for each in first + later}


async def test_a_person_is_known_by_the_tag_whichever_key_the_application_uses(house: House) -> None:
    tenant_id = await a_tenant(house)
    keys = SubjectKeys(house.resources)

    subjects = {(await keys.sealing(Person(tenant_id, key, "ada"), 1)).subject for key in ("key_a", "key_b")}
    # An API key's own name as a tag is a person all the same.
    as_key, as_tag = Person(tenant_id, "key_a"), Person(tenant_id, "key_b", "key_a")

    assert len(subjects) == 1
    assert (await keys.sealing(as_key, 1)).subject != (await keys.sealing(as_tag, 1)).subject


async def test_one_tag_at_two_tenants_is_two_subjects_that_say_nothing_of_it(house: House) -> None:
    keys = SubjectKeys(house.resources)
    tag = "ada@example.com"

    subjects = {
        (await keys.sealing(Person(await a_tenant(house, slug), "key_a", tag), 1)).subject
        for slug in ("acme", "globex")
    }

    assert len(subjects) == 2
    assert not any(hashlib.sha256(tag.encode()).hexdigest()[:20] in subject or "ada" in subject for subject in subjects)


async def test_calls_that_begin_at_once_share_one_key(house: House) -> None:
    tenant_id = await a_tenant(house)

    found = await asyncio.gather(
        *(SubjectKeys(house.resources).sealing(Person(tenant_id, "key_a", "ada"), 1) for _ in range(12))
    )

    assert len({sealing.key.commitment for sealing in found}) == 1
    assert len(await rows(house, tenant_id).find()) == 1


async def test_calls_of_one_process_that_begin_at_once_ask_the_database_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(await a_tenant(house), "key_a", "ada")
    keys = SubjectKeys(house.resources)
    await keys.sealing(person, 1)
    look, looked = SubjectKeyRows.of_month, 0

    async def counted(self: SubjectKeyRows, subject: str, month: str) -> SubjectKey | None:
        nonlocal looked
        looked += 1
        return await look(self, subject, month)

    monkeypatch.setattr(SubjectKeyRows, "of_month", counted)
    found = await asyncio.gather(*(keys.sealing(person, 2) for _ in range(50)))

    assert looked == 1
    assert len({id(sealing) for sealing in found}) == 1


async def test_a_call_that_is_cancelled_leaves_the_others_their_key(house: House) -> None:
    person = Person(await a_tenant(house), "key_a", "ada")
    keys = SubjectKeys(house.resources)
    first, second = (asyncio.ensure_future(keys.sealing(person, 1)) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()

    assert (await second).key.kid == (await keys.sealing(person, 1)).key.kid


async def test_a_key_in_use_asks_the_database_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person(await a_tenant(house), "key_a", "ada")
    keys = SubjectKeys(house.resources)
    first = await keys.sealing(person, 1)
    away(monkeypatch)

    assert await keys.sealing(person, 1) is first


async def test_a_higher_revision_makes_every_process_look_again(house: House) -> None:
    tenant_id = await a_tenant(house)
    person = Person(tenant_id, "key_a", "ada")
    keys = SubjectKeys(house.resources)
    first = await keys.sealing(person, 1)
    await rows(house, tenant_id).delete(first.key.kid)

    assert (await keys.sealing(person, 1)).key.kid == first.key.kid
    assert (await keys.sealing(person, 2)).key.kid != first.key.kid


async def test_a_new_key_is_not_given_out_when_it_cannot_be_stored(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(await a_tenant(house), "key_a", "ada")
    away(monkeypatch)

    with pytest.raises(StoreUnavailable):
        await SubjectKeys(house.resources).sealing(person, 1)


async def test_known_keys_outlast_a_database_that_is_away_for_a_while_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(await a_tenant(house), "key_a", "ada")
    keys = SubjectKeys(house.resources)
    first = await keys.sealing(person, 1)
    away(monkeypatch)

    house.clock.advance(FRESH_S + 1)
    assert await keys.sealing(person, 1) is first
    house.clock.advance(STALE_S - FRESH_S)
    with pytest.raises(StoreUnavailable):
        await keys.sealing(person, 1)


async def test_a_tenants_key_that_was_withdrawn_opens_nothing_after_the_time_of_the_cache(house: House) -> None:
    tenant_id = await a_tenant(house)
    keys = SubjectKeys(house.resources)
    kid = (await keys.sealing(Person(tenant_id, "key_a"), 1)).key.kid
    await house.resources.database[+Tenant].update_one({"_id": tenant_id}, {"$set": {"wrapped_key": bytes(60)}})

    await keys.opening(TenantScope(tenant_id), kid)
    house.clock.advance(FRESH_S)
    with pytest.raises(SealBroken):
        await keys.opening(TenantScope(tenant_id), kid)
    with pytest.raises(SealBroken):
        await keys.sealing(Person(tenant_id, "key_a"), 1)


@pytest.mark.parametrize("member", ["subject", "month", "id"])
async def test_a_key_put_in_anothers_place_does_not_open(house: House, member: str) -> None:
    tenant_id = await a_tenant(house)
    keys, stored = SubjectKeys(house.resources), rows(house, tenant_id)
    kid = (await keys.sealing(Person(tenant_id, "key_a"), 1)).key.kid
    row = await stored.get(kid)
    await stored.delete(kid)
    moved = row.model_copy(update={member: {"subject": "sub_x", "month": "2020-01", "id": "dek_x"}[member]})
    await stored.insert(moved)

    with pytest.raises(SealBroken):
        await keys.opening(TenantScope(tenant_id), moved.id)


async def test_another_tenants_key_is_not_found(house: House) -> None:
    tenant_id, other = await a_tenant(house), await a_tenant(house, "globex")
    keys = SubjectKeys(house.resources)
    kid = (await keys.sealing(Person(tenant_id, "key_a"), 1)).key.kid

    with pytest.raises(ContentErased):
        await keys.opening(TenantScope(other), kid)


async def test_what_was_sealed_under_a_tenants_key_of_a_month_stays_readable(house: House) -> None:
    tenant_id = await a_tenant(house)
    keys = SubjectKeys(house.resources)
    own_key, old = await keys.tenant_key(tenant_id), DataKey.generate("dek_old")
    await house.resources.database[+ContentKey].insert_one(
        {
            "_id": "dek_old",
            "tenant_id": tenant_id,
            "month": "2026-01",
            "wrapped": own_key.wrap(old, f"{tenant_id}|content-key|dek_old"),
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "revision": 0,
        }
    )

    assert (await keys.opening(TenantScope(tenant_id), "dek_old")).commitment == old.commitment


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(SubjectKeyRows, "of_month", fail)


texts = st.binary(min_size=1, max_size=200)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=2, max_size=12, unique=True), st.binary(min_size=32, max_size=32))
def test_subjects_of_different_people_differ_and_stay_the_same(names: list[str], seed: bytes) -> None:
    own_key, other = DataKey("ten", seed), DataKey.generate("ten")

    assert len({subject_of(own_key, name) for name in names}) == len(names)
    assert [subject_of(own_key, name) for name in names] == [subject_of(DataKey("x", seed), name) for name in names]
    assert not {subject_of(own_key, name) for name in names} & {subject_of(other, name) for name in names}


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=2, max_size=8))
def test_no_nonce_is_used_twice_and_no_key_opens_what_another_sealed(plaintexts: list[bytes]) -> None:
    one, other = DataKey.generate("dek_1"), DataKey.generate("dek_2")
    sealed = [seal_content(key, text, f"p{n}") for key in (one, other) for n, text in enumerate(plaintexts)]

    assert len({(description["kid"], description["nonce"]) for description, _ in sealed}) == len(sealed)
    for n, (description, ciphertext) in enumerate(sealed[: len(plaintexts)]):
        assert open_content(one, description, ciphertext, f"p{n}") == plaintexts[n]
        # Also when somebody rewrites the commitment in the description.
        for changed in (description, {**description, "kc": other.commitment}):
            with pytest.raises(SealBroken):
                open_content(other, changed, ciphertext, f"p{n}")
