"""The key ring: who is known, for how long, and what happens when something changes or the store is away."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from trueport.domains.auth.api import KeyRecord
from trueport.domains.proxy.callers import (
    AddressNotAllowed,
    InvalidKey,
    KeyExpired,
    KeyRing,
    TenantSuspended,
)
from trueport.gateway.call import Call
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.snapshot import TenantLimits, TenantSnapshot
from trueport.kit.clock import ManualClock
from trueport.kit.errors import Unavailable
from trueport.kit.ids import InteractionId, KeyId, TenantId, UserId
from trueport.kit.tenancy import TenantScope

ACME = TenantId("ten_acme")
DIALECT = OpenAIDialect()


def key_record(key_id: str = "key_1", **changes: Any) -> KeyRecord:
    made = KeyRecord(
        key_id=KeyId(key_id),
        tenant_id=ACME,
        tenant_slug="acme",
        tenant_status="active",
        scope=TenantScope(ACME),
        name="test",
        env="prod",
        status="active",
        expires_at=None,
        requests_per_minute=60,
        tokens_per_minute=0,
        concurrency=0,
        allowed_models=(),
        allowed_cidrs=(),
        created_by=UserId("usr_1"),
    )
    return replace(made, **changes)


class Store:
    """A KeySource in memory. Texts that begin with `sk-` are well formed; `reads` counts look-ups of keys."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyRecord] = {"sk-1": key_record()}
        self.revision = 1
        self.reads = 0
        self.snapshots = 0
        self.is_away = False
        self.cannot_tell = False
        self.gate: asyncio.Event | None = None

    def change(self, text: str, **changes: Any) -> None:
        self.keys[text] = replace(self.keys[text], **changes)
        self.revision += 1

    def _check(self) -> None:
        if self.is_away:
            raise Unavailable("The store is away.")

    def tenant_of(self, text: str) -> TenantId | None:
        return ACME if text.startswith("sk-") else None

    async def find(self, text: str) -> KeyRecord | None:
        self._check()
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        return self.keys.get(text)

    async def still_holds(self, key: KeyRecord) -> bool:
        self._check()
        if self.cannot_tell:
            raise Unavailable("The store is away.")
        return any(
            known.key_id == key.key_id and known.status == known.tenant_status == "active"
            for known in self.keys.values()
        )

    async def snapshot(self, key: KeyRecord) -> TenantSnapshot:
        self._check()
        self.snapshots += 1
        return TenantSnapshot(key.tenant_id, "acme", self.revision, (), {}, TenantLimits())

    async def revisions(self, tenant_ids: Collection[TenantId]) -> Mapping[TenantId, int]:
        self._check()
        return dict.fromkeys(tenant_ids, self.revision)


def call(key: str | None = "sk-1", peer: str = "192.0.2.1") -> Call:
    headers = [] if key is None else [(b"authorization", b"Bearer " + key.encode())]
    return Call(InteractionId("int_1"), "req_1", DIALECT, "POST", "x", "", headers, b"", peer, 0, 0.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def ring(store: Store, clock: ManualClock) -> KeyRing:
    return KeyRing(store, clock, most_stale_s=300)


async def test_a_known_key_is_read_once(ring: KeyRing, store: Store) -> None:
    first, snapshot = await ring.authenticate(call())
    again, _ = await ring.authenticate(call())

    assert (first.key_id, first.tenant_id, first.requests_per_minute) == ("key_1", ACME, 60)
    assert snapshot.revision == 1
    assert again is first
    assert store.reads == 1


@pytest.mark.parametrize("key", [None, "", "nonsense"])
async def test_what_is_no_key_costs_no_read(ring: KeyRing, store: Store, key: str | None) -> None:
    with pytest.raises(InvalidKey):
        await ring.authenticate(call(key))

    assert store.reads == 0


async def test_an_unknown_key_is_asked_for_once_in_a_while(ring: KeyRing, store: Store, clock: ManualClock) -> None:
    for _ in range(3):
        with pytest.raises(InvalidKey):
            await ring.authenticate(call("sk-unknown"))
    assert store.reads == 1

    store.keys["sk-unknown"] = key_record("key_2")
    clock.advance(6)
    assert (await ring.authenticate(call("sk-unknown")))[0].key_id == "key_2"


async def test_many_calls_at_once_make_one_read(ring: KeyRing, store: Store) -> None:
    store.gate = asyncio.Event()
    calls = [asyncio.create_task(ring.authenticate(call())) for _ in range(50)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    store.gate.set()

    found = await asyncio.gather(*calls, return_exceptions=True)

    assert store.reads == 1
    assert isinstance(found[0], asyncio.CancelledError)
    assert [isinstance(other, tuple) for other in found[1:]] == [True] * 49


async def test_keys_of_one_tenant_share_its_configuration(ring: KeyRing, store: Store) -> None:
    store.keys["sk-2"] = key_record("key_2")

    (_, one), (_, two) = await ring.authenticate(call()), await ring.authenticate(call("sk-2"))

    assert one is two
    assert store.snapshots == 1


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"status": "disabled"}, InvalidKey),
        ({"tenant_status": "suspended"}, TenantSuspended),
        ({"tenant_status": "archived"}, TenantSuspended),
        ({"allowed_cidrs": ("198.51.100.0/24", "2001:db8::/32")}, AddressNotAllowed),
    ],
)
async def test_a_key_that_may_not_be_used_is_refused_before_and_after_it_is_known(
    ring: KeyRing, store: Store, changes: dict[str, Any], refusal: type[Exception]
) -> None:
    store.change("sk-1", **changes)
    for _ in range(2):
        with pytest.raises(refusal):
            await ring.authenticate(call())


@pytest.mark.parametrize("peer", ["198.51.100.7", "2001:db8::1"])
async def test_a_key_bound_to_networks_works_inside_them(ring: KeyRing, store: Store, peer: str) -> None:
    store.change("sk-1", allowed_cidrs=("198.51.100.0/24", "2001:db8::/32"))

    assert await ring.authenticate(call(peer=peer))


@pytest.mark.parametrize("peer", ["", "unknown", "unix:"])
async def test_an_address_that_is_none_is_in_no_network(ring: KeyRing, store: Store, peer: str) -> None:
    store.change("sk-1", allowed_cidrs=("0.0.0.0/0", "::/0"))

    with pytest.raises(AddressNotAllowed):
        await ring.authenticate(call(peer=peer))


async def test_a_key_ends_in_its_moment_without_anybody_looking(
    ring: KeyRing, store: Store, clock: ManualClock
) -> None:
    store.change("sk-1", expires_at=clock.now() + timedelta(seconds=10))
    await ring.authenticate(call())
    clock.advance(9.9)
    await ring.authenticate(call())
    clock.advance(0.1)

    with pytest.raises(KeyExpired):
        await ring.authenticate(call())


@pytest.mark.parametrize(
    ("globs", "allowed", "denied"),
    [
        ((), ["any", ""], []),
        (("gpt-4*", "o1"), ["gpt-4o", "o1"], ["gpt-3", "o1-mini", "GPT-4o", ""]),
        (("*",), [""], []),
    ],
)
async def test_models_are_judged_by_the_keys_globs(
    ring: KeyRing, store: Store, globs: tuple[str, ...], allowed: list[str], denied: list[str]
) -> None:
    store.change("sk-1", allowed_models=globs)

    caller, _ = await ring.authenticate(call())

    assert [caller.may_use_model(model) for model in allowed] == [True] * len(allowed)
    assert [caller.may_use_model(model) for model in denied] == [False] * len(denied)


# --- changes


async def test_a_change_is_seen_with_the_next_refresh(ring: KeyRing, store: Store) -> None:
    caller, _ = await ring.authenticate(call())
    store.change("sk-1", requests_per_minute=5)
    await ring.refresh()

    changed, snapshot = await ring.authenticate(call())

    assert changed.requests_per_minute == 5
    assert snapshot.revision == 2
    assert caller.is_live()  # the call under way goes on: its key still holds


@pytest.mark.parametrize("changes", [{"status": "disabled"}, {"tenant_status": "suspended"}])
async def test_calls_under_way_hear_that_their_key_is_gone(
    ring: KeyRing, store: Store, changes: dict[str, Any]
) -> None:
    store.keys["sk-2"] = key_record("key_2")
    caller, _ = await ring.authenticate(call())
    other, _ = await ring.authenticate(call("sk-2"))
    store.change("sk-1", **changes)

    await ring.refresh()

    assert not caller.is_live()
    assert other.is_live()


async def test_they_hear_it_too_when_another_call_has_seen_the_change_first(ring: KeyRing, store: Store) -> None:
    store.keys["sk-2"] = key_record("key_2")
    caller, _ = await ring.authenticate(call())
    store.change("sk-1", status="disabled")
    await ring.authenticate(call("sk-2"))  # not known yet, so it reads the new revision before the refresh does

    await ring.refresh()

    assert not caller.is_live()


async def test_they_hear_it_later_when_the_store_goes_away_in_between(ring: KeyRing, store: Store) -> None:
    caller, _ = await ring.authenticate(call())
    store.change("sk-1", status="disabled")
    store.cannot_tell = True
    with pytest.raises(Unavailable):
        await ring.refresh()
    assert caller.is_live()

    store.cannot_tell = False
    await ring.refresh()

    assert not caller.is_live()


async def test_a_key_that_is_read_again_keeps_its_calls(ring: KeyRing, store: Store, clock: ManualClock) -> None:
    caller, _ = await ring.authenticate(call())
    clock.advance(301)
    await ring.authenticate(call())  # too long without a refresh: read again
    assert store.reads == 2
    store.change("sk-1", status="disabled")

    await ring.refresh()

    assert not caller.is_live()


async def test_a_deleted_key_is_unknown_after_the_refresh(ring: KeyRing, store: Store) -> None:
    await ring.authenticate(call())
    del store.keys["sk-1"]
    store.revision += 1
    await ring.refresh()

    with pytest.raises(InvalidKey):
        await ring.authenticate(call())


# --- the store is away


async def test_known_keys_work_for_a_while_without_the_store_and_unknown_ones_do_not(
    ring: KeyRing, store: Store, clock: ManualClock
) -> None:
    await ring.authenticate(call())
    store.is_away = True
    clock.advance(299)

    assert await ring.authenticate(call())
    with pytest.raises(Unavailable):
        await ring.authenticate(call("sk-2"))

    clock.advance(2)
    with pytest.raises(Unavailable):
        await ring.authenticate(call())

    store.is_away = False
    await ring.refresh()
    assert await ring.authenticate(call())


async def test_an_unknown_key_is_not_remembered_as_such_when_the_store_could_not_say(
    ring: KeyRing, store: Store
) -> None:
    store.is_away = True
    with pytest.raises(Unavailable):
        await ring.authenticate(call())
    store.is_away = False

    assert await ring.authenticate(call())


async def test_the_watch_goes_on_after_the_store_was_away(ring: KeyRing, store: Store) -> None:
    caller, _ = await ring.authenticate(call())
    store.change("sk-1", status="disabled")
    store.is_away = True
    rounds = 0

    async def sleep(_: float) -> None:
        nonlocal rounds
        rounds += 1
        store.is_away = rounds < 2
        if rounds == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await ring.watch(sleep)

    assert rounds == 4
    assert not caller.is_live()
