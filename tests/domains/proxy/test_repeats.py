"""Which Idempotency-Keys were used for which calls, as the database remembers it."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from tests.support.mongo import TENANT_COLLECTIONS
from tests.support.objects import admitted, asked
from tests.support.web import settings_of
from trueport.domains.proxy import domain
from trueport.domains.proxy.callers import KeyRing
from trueport.domains.proxy.contents import StoredContents
from trueport.domains.proxy.models import UsedKey
from trueport.domains.proxy.repeats import KEPT_FOR, LEASE, StoredRepeats
from trueport.gateway.cache import KeptAnswer
from trueport.gateway.call import Admitted, End, HeaderList, Outcome
from trueport.gateway.repeats import Claim, IdempotencyMismatch, OutcomeUnknown, RequestInProgress
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.clock import ManualClock, SystemClock
from trueport.kit.errors import Unavailable
from trueport.kit.events import EventBus
from trueport.kit.ids import InteractionId, TenantId
from trueport.kit.tenancy import Environment, TenantScope
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database
from trueport.web.domain import Resources

TENANT_COLLECTIONS.update({+UsedKey})
CHAT = {"model": "m", "messages": [{"role": "user", "content": "a secret question"}]}
HEAD: HeaderList = [(b"content-type", b"application/json"), (b"x-request-id", b"req_1")]


class EverybodyKnown:
    """Tenants by the scopes of their keys."""

    def known(self, tenant_id: TenantId) -> tuple[TenantScope, TenantSnapshot]:
        return TenantScope(tenant_id), call(tenant=tenant_id).snapshot


class NobodyKnown:
    def known(self, tenant_id: TenantId) -> None:
        """A tenant whose keys have just been dropped."""


class Contents(dict[str, bytes]):
    """What lies in the tenant's storage, by interaction."""

    async def of(self, scope: TenantScope, interaction_id: str, kind: str) -> bytes | None:  # noqa: ARG002
        return self.get(interaction_id)


def call(
    interaction: str = "int_1", *, tenant: str = "ten_a", env: Environment = "prod", path: str = "chat/completions",
    body: Any = None, query: str = "",
) -> Admitted:  # fmt: skip
    found = admitted("openai", asked("openai", "POST chat/completions", body or CHAT), tenant=tenant, environment=env)
    own = structs.replace(found.call, interaction_id=InteractionId(interaction), path=path, query=query)
    return structs.replace(found, call=own)


def outcome(end: End = "completed", status: int = 200, content: bytes = b'{"said":"so"}') -> Outcome:
    return Outcome(end=end, status=status, content=content, reply_bytes=len(content))


class Stores:
    """Processes that share a database and the tenant's storage."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.contents = Contents()

    def process(self, callers: object = EverybodyKnown()) -> StoredRepeats:
        return StoredRepeats(self.resources, cast("KeyRing", callers), cast("StoredContents", self.contents))


@pytest.fixture
def clock() -> ManualClock:
    # At the real present, because the database itself removes what has expired.
    return ManualClock(SystemClock().now())


@pytest.fixture
async def stores(database: Database, clock: ManualClock, tmp_path: Path) -> Stores:
    await ensure_indexes(database, domain.documents)
    return Stores(Resources(settings_of(tmp_path), database, clock, EventBus()))


@pytest.fixture
def repeats(stores: Stores) -> StoredRepeats:
    return stores.process()


async def claimed(repeats: StoredRepeats, whose: Admitted, key: str = "k") -> Claim:
    found = await repeats.claim(whose, key)
    assert isinstance(found, Claim), found
    return found


async def ended(repeats: StoredRepeats, whose: Admitted, how: Outcome, key: str = "k") -> None:
    repeats.settle(await claimed(repeats, whose, key), how, HEAD)
    await repeats.close()


async def test_the_answer_is_given_again_by_the_process_that_has_it_and_by_any_other(
    stores: Stores, repeats: StoredRepeats
) -> None:
    await ended(repeats, call(), outcome())
    stores.contents["int_1"] = b'{"said":"so"}'

    for process in (repeats, stores.process()):
        kept = await process.claim(call("int_2"), "k")
        assert isinstance(kept, KeptAnswer)
        assert (kept.interaction_id, kept.status, kept.body) == ("int_1", 200, b'{"said":"so"}')
        assert kept.headers == [(b"content-type", b"application/json")]
        assert not kept.is_stream


@pytest.mark.parametrize(
    ("content_type", "streams_as", "is_stream"),
    [(b"text/event-stream; charset=utf-8", "sse", True), (b"application/json", "array", True),
     (b"application/json", "sse", False)],
)  # fmt: skip
async def test_what_was_streamed_is_streamed_again(
    stores: Stores, repeats: StoredRepeats, content_type: bytes, streams_as: Any, is_stream: bool
) -> None:
    whose = call()
    whose = structs.replace(whose, request=structs.replace(whose.request, streams=True, streams_as=streams_as))
    stores.contents["int_1"] = outcome().content
    repeats.settle(await claimed(repeats, whose), outcome(), [(b"content-type", content_type)])
    await repeats.close()

    for process in (repeats, stores.process()):
        kept = await process.claim(whose, "k")
        assert isinstance(kept, KeptAnswer)
        assert kept.is_stream == is_stream


async def test_an_answer_that_is_not_yet_where_it_can_be_read_is_not_asked_for_again(
    stores: Stores, repeats: StoredRepeats
) -> None:
    await ended(repeats, call(), outcome())

    with pytest.raises(RequestInProgress):
        await stores.process().claim(call("int_2"), "k")


async def test_an_answer_of_which_a_part_was_not_kept_is_not_passed_off_as_whole(
    stores: Stores, repeats: StoredRepeats
) -> None:
    await ended(repeats, call(), structs.replace(outcome(), reply_bytes=9_000_000))
    stores.contents["int_1"] = outcome().content

    for process in (repeats, stores.process()):
        with pytest.raises(OutcomeUnknown) as refusal:
            await process.claim(call("int_2"), "k")
        assert refusal.value.fields["interaction"] == "int_1"


@pytest.mark.parametrize(
    "other",
    [
        call("int_2", body={**CHAT, "temperature": 0}),
        call("int_2", path="responses"),
        call("int_2", query="beta=true"),
    ],
)
async def test_another_request_under_the_same_key_is_refused_whatever_became_of_the_first(
    repeats: StoredRepeats, other: Admitted
) -> None:
    claim = await claimed(repeats, call())
    with pytest.raises(IdempotencyMismatch):
        await repeats.claim(other, "k")

    repeats.settle(claim, outcome(), HEAD)
    await repeats.close()

    with pytest.raises(IdempotencyMismatch):
        await repeats.claim(other, "k")


@pytest.mark.parametrize("other", [call(tenant="ten_b"), call(env="dev"), call(env="staging")])
async def test_the_key_of_another_tenant_or_environment_means_nothing(repeats: StoredRepeats, other: Admitted) -> None:
    await ended(repeats, call(), outcome())

    await claimed(repeats, other)
    await claimed(repeats, call(), "K")


async def test_of_many_calls_at_once_one_is_made(stores: Stores) -> None:
    processes = [stores.process() for _ in range(4)]

    found = await asyncio.gather(
        *(processes[n % 4].claim(call(f"int_{n}"), "k") for n in range(40)), return_exceptions=True
    )

    assert sum(isinstance(each, Claim) for each in found) == 1
    assert sum(isinstance(each, RequestInProgress) for each in found) == 39


async def test_a_call_whose_process_died_is_unknown_when_its_lease_ends(
    stores: Stores, repeats: StoredRepeats, clock: ManualClock
) -> None:
    await claimed(repeats, call("int_died"))
    survivor = stores.process()

    clock.advance(LEASE.total_seconds() - 1)
    with pytest.raises(RequestInProgress):
        await survivor.claim(call("int_2"), "k")
    clock.advance(1)
    with pytest.raises(OutcomeUnknown, match="int_died") as refusal:
        await survivor.claim(call("int_3"), "k")

    assert (refusal.value.status, refusal.value.code, refusal.value.should_retry) == (409, "unknown_outcome", False)


@pytest.mark.parametrize(
    "how", [outcome("refused", 403), outcome("upstream_failed", 502), outcome("completed", 500),
            outcome("completed", 429), outcome("completed", 404)]
)  # fmt: skip
async def test_what_failed_or_was_refused_may_be_sent_again(
    stores: Stores, repeats: StoredRepeats, how: Outcome
) -> None:
    await ended(repeats, call(), how)

    await claimed(stores.process(), call("int_2"))


@pytest.mark.parametrize("end", ["client_closed", "key_revoked", "gateway_failed"])
async def test_what_broke_off_is_not_repeated(stores: Stores, repeats: StoredRepeats, end: End) -> None:
    await ended(repeats, call(), outcome(end))

    for process in (repeats, stores.process()):
        with pytest.raises(OutcomeUnknown, match="int_1"):
            await process.claim(call("int_2"), "k")


async def test_a_key_is_free_again_after_a_day(stores: Stores, repeats: StoredRepeats, clock: ManualClock) -> None:
    await ended(repeats, call(), outcome())
    stores.contents["int_1"] = outcome().content

    clock.advance((KEPT_FOR - timedelta(seconds=1)).total_seconds())
    assert isinstance(await repeats.claim(call("int_2"), "k"), KeptAnswer)
    clock.advance(1)

    await claimed(repeats, call("int_3", body={**CHAT, "n": 2}))


async def test_the_database_holds_neither_the_key_nor_anything_that_was_said(
    repeats: StoredRepeats, database: Database
) -> None:
    await ended(repeats, call(), outcome(content=b"a secret answer"), key="the-clients-key")

    found = repr(await database[+UsedKey].find({"tenant_id": "ten_a"}).to_list())

    assert "int_1" in found
    assert "secret" not in found
    assert "the-clients-key" not in found


async def test_a_tenant_nobody_knows_any_more_cannot_take_a_key(stores: Stores) -> None:
    with pytest.raises(Unavailable):
        await stores.process(NobodyKnown()).claim(call(), "k")
