"""`Idempotency-Key` on a real server: a call is made once, however often its client sends it."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.support.chaos_load import in_flight
from tests.support.installation import PATIENCE_S, Installation, eventually, installation
from tests.support.money import (
    FORMS,
    MODELS,
    ROUTES,
    Access,
    Got,
    ask,
    billed,
    furnish,
    prices,
    raw_request,
    request_of,
    row_of,
    rows_of,
    sent,
)
from tests.support.redis_server import private_redis
from tests.support.simulator import connected
from trueport.cli.session import with_resources
from trueport.settings import load_settings
from trueport.web.domain import Resources

CANARY: Final = "yellow-canary-7f3a"
PAIRS: Final = 200


class House:
    def __init__(self, place: Installation, tenants: dict[str, Access]) -> None:
        self.place = place
        self.tenants = tenants

    async def ask(
        self, name: str, prompt: str = "n", form: str = "chat", *, slug: str = "acme", key: str = "main", **given: Any
    ) -> Got:
        headers = {"idempotency-key": name, **given.pop("headers", {})}
        return await ask(self.place, form, prompt, self.tenants[slug].keys[key][1], headers=headers, **given)

    async def answered(self, name: str, prompt: str = "n", form: str = "chat", **given: Any) -> Got:
        """The first answer that is not about another call with this key still being worked on."""
        until_s = time.monotonic() + PATIENCE_S
        got = await self.ask(name, prompt, form, **given)
        while got.code == "request_in_progress" and time.monotonic() < until_s:
            await asyncio.sleep(0.05)
            got = await self.ask(name, prompt, form, **given)
        return got


def _is_replay(got: Got) -> bool:
    return got.headers.get("x-idempotent-replay") == "true"


def _fresh() -> str:
    return f"test-{uuid4()}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with installation(tmp_path_factory.mktemp("repeats") / "data") as place:
        cached = [{"match": {"model": "kept-*"}, "targets": [{"credential": "sim", "model": "sim-model"}],
                   "cache_s": 300}]  # fmt: skip
        members = {"prices": prices(), "routes": [*cached, *ROUTES]}
        tenants = furnish(
            place,
            {"acme": members, "other": members},
            {"second": {}, "staging": {"env": "staging"}, "one": {"requests_per_minute": 1}},
        )
        place.serve()
        yield House(place, tenants)


@pytest.mark.parametrize("form", list(FORMS))
async def test_the_second_call_gets_the_answer_of_the_first_in_every_dialect(house: House, form: str) -> None:
    name = _fresh()
    first = await house.ask(name, f"twice {form}", form)

    second = await house.ask(name, f"twice {form}", form)

    assert (first.status, second.status) == (200, 200), second.body
    assert (_is_replay(first), _is_replay(second)) == (False, True)
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers.get("transfer-encoding") == first.headers.get("transfer-encoding")
    upstream = billed(house.place)
    assert first.interaction in upstream
    assert second.interaction not in upstream
    row = await row_of(house.place, second.interaction)
    assert (row["repeats"], row["usage_source"], row["cost_nano_usd"]) == (first.interaction, "none", None)


@pytest.mark.parametrize(
    ("form", "model"),
    [("chat", MODELS["anthropic"]), ("messages stream", MODELS["google"]), ("generate array", MODELS["openai"])],
)
async def test_translated_answers_are_repeated_in_the_clients_words(house: House, form: str, model: str) -> None:
    name = _fresh()
    first = await house.ask(name, "twice", form, model=model)

    second = await house.ask(name, "twice", form, model=model)

    assert (_is_replay(second), second.body) == (True, first.body)


async def test_sounds_are_repeated_byte_for_byte(house: House) -> None:
    body = {"model": "tts-1", "input": "Say it.", "voice": "alloy"}
    request = raw_request("/v1/audio/speech", body, house.tenants["acme"].key, {"idempotency-key": _fresh()})
    first = await sent(house.place.port, request)

    second = await sent(house.place.port, request)

    assert first.status == 200
    assert (_is_replay(second), second.body) == (True, first.body)


async def test_a_key_used_for_another_request_is_refused(house: House) -> None:
    name = _fresh()
    await house.ask(name, "one thing")

    other_body = await house.ask(name, "another thing")
    other_path = await house.ask(name, "one thing", "responses")

    for got in (other_body, other_path):
        assert (got.status, got.code, got.headers["x-should-retry"]) == (422, "idempotency_mismatch", "false")
        assert got.interaction not in billed(house.place)


async def test_a_call_that_is_still_being_made_is_not_made_again(house: House) -> None:
    name, prompt = _fresh(), "slow [[fault: delay=600ms]]"
    first = asyncio.create_task(house.ask(name, prompt))
    await eventually(lambda: in_flight(house.place) >= 1)
    await asyncio.sleep(0.1)

    second = await house.ask(name, prompt)

    assert (second.status, second.code) == (409, "request_in_progress")
    assert int(second.headers["retry-after"]) >= 1
    assert second.interaction not in billed(house.place)
    assert (await first).status == 200
    assert _is_replay(await house.answered(name, prompt))


async def test_a_key_means_nothing_to_others(house: House) -> None:
    name = _fresh()
    first = await house.ask(name, "mine")

    tenant = await house.ask(name, "mine", slug="other")
    environment = await house.ask(name, "mine", key="staging")
    different = await house.ask(name, "theirs", slug="other", key="staging")
    colleague = await house.ask(name, "mine", key="second")

    assert [got.status for got in (tenant, environment, different)] == [200, 200, 200]
    assert [_is_replay(got) for got in (tenant, environment, different)] == [False, False, False]
    assert {got.interaction for got in (first, tenant, environment, different)} <= billed(house.place).keys()
    assert _is_replay(colleague)


@pytest.mark.parametrize("name", ["", "two words", "k" * 256, "caf\u00e9", "tab\there", "one\r\nidempotency-key: two"])
async def test_what_cannot_be_a_key_is_refused(house: House, name: str) -> None:
    got = await house.ask(name)

    assert got.status == 400, got.body
    assert b"Idempotency-Key" in got.body
    assert got.interaction not in billed(house.place)


@pytest.mark.parametrize(
    ("form", "fault", "status"),
    [
        ("chat", "status=500 times=1", 500),
        ("chat", "status=400 times=1", 400),
        ("chat", "rst times=1", 502),
        ("messages", "status=529 times=1", 529),
        ("chat stream", "eof after=2 times=1", 200),
        ("generate stream", "status=503 times=1", 503),
    ],
)
async def test_a_call_that_failed_may_be_sent_again(house: House, form: str, fault: str, status: int) -> None:
    name = _fresh()
    prompt = f"{name} [[fault: {fault}]]"
    failed = await house.ask(name, prompt, form)
    assert failed.status == status, failed.body

    again = await house.answered(name, prompt, form)

    assert (again.status, _is_replay(again)) == (200, False)
    assert {failed.interaction, again.interaction} <= billed(house.place).keys()
    assert _is_replay(await house.answered(name, prompt, form))


async def test_a_call_that_was_refused_may_be_sent_again(house: House) -> None:
    name = _fresh()
    await house.ask(_fresh(), key="one")
    refused = await house.ask(name, key="one")
    assert refused.status == 429

    again = await house.ask(name)

    assert (again.status, _is_replay(again)) == (200, False)


async def test_a_call_whose_client_left_is_not_repeated_and_its_interaction_is_named(house: House) -> None:
    name, prompt = _fresh(), "left [[tokens: 40]][[pace: 20ms]]"
    key = house.tenants["acme"].key
    async with connected(house.place.port) as (reader, writer):
        writer.write(request_of(FORMS["chat stream"], "sim-model", prompt, key, {"idempotency-key": name}))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"data: ")
    interaction = head.decode().partition("x-trueport-interaction: ")[2].partition("\r\n")[0]

    again = await house.answered(name, prompt, "chat stream")

    assert (again.status, again.code, again.headers["x-should-retry"]) == (409, "unknown_outcome", "false")
    assert interaction.encode() in again.body
    assert again.interaction not in billed(house.place)


async def test_an_answer_out_of_the_cache_is_repeated_like_any_other(house: House) -> None:
    name = _fresh()
    first = await house.ask(_fresh(), "kept", "chat stream", model="kept-model")
    hit = await house.ask(name, "kept", "chat stream", model="kept-model")

    second = await house.ask(name, "kept", "chat stream", model="kept-model")

    assert (hit.headers["x-trueport-cache"], _is_replay(second)) == ("hit", True)
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers.get("transfer-encoding") == "chunked"


async def test_of_two_hundred_calls_sent_twice_at_once_two_hundred_are_made(house: House) -> None:
    names = [_fresh() for _ in range(PAIRS)]
    turn = asyncio.Semaphore(50)

    async def pair(name: str) -> list[Got]:
        async with turn:
            return list(await asyncio.gather(house.ask(name, name), house.ask(name, name)))

    pairs = await asyncio.gather(*map(pair, names))

    calls = [got for both in pairs for got in both]
    upstream = billed(house.place)
    assert sum(got.interaction in upstream for got in calls) == PAIRS
    for both in pairs:
        made = [got for got in both if got.interaction in upstream]
        (other,) = [got for got in both if got.interaction not in upstream]
        assert [got.status for got in made] == [200]
        assert _is_replay(other) or (other.status, other.code) == (409, "request_in_progress")
    assert set(Counter(got.status for got in calls)) <= {200, 409}


async def test_an_answer_outlives_the_process_and_lies_in_the_tenants_storage_alone(house: House) -> None:
    plain, streamed, prompt = _fresh(), _fresh(), f"[[say: {CANARY} sings {CANARY}]]"
    first = await house.ask(plain, prompt)
    first_stream = await house.ask(streamed, prompt, "messages stream")
    slow = asyncio.create_task(house.ask("cut-short", "slow [[fault: delay=20s]]"))
    await eventually(lambda: in_flight(house.place) == 1)
    await rows_of(house.place, [first.interaction, first_stream.interaction])

    await asyncio.to_thread(house.place.stop, signal.SIGKILL)
    await asyncio.gather(slow, return_exceptions=True)
    await asyncio.to_thread(house.place.serve)

    second = await house.ask(plain, prompt)
    second_stream = await house.ask(streamed, prompt, "messages stream")
    cut = await house.ask("cut-short", "slow [[fault: delay=20s]]")
    assert CANARY.encode() in second.body
    assert (_is_replay(second), second.body) == (True, first.body)
    assert (_is_replay(second_stream), second_stream.body) == (True, first_stream.body)
    assert second_stream.headers["content-type"] == first_stream.headers["content-type"]
    # What became of it is not known before its time is over.
    assert (cut.status, cut.code) == (409, "request_in_progress")
    assert not {second.interaction, second_stream.interaction, cut.interaction} & billed(house.place).keys()
    stored = await asyncio.to_thread(_everything_in_the_database, house.place)
    assert first.interaction in stored
    for secret in (CANARY, plain, streamed, "cut-short"):
        assert secret not in stored
    files = [path for path in (house.place.data_dir / "storage").rglob("*") if path.is_file()]
    assert files
    assert not any(CANARY.encode() in path.read_bytes() for path in files)


def _everything_in_the_database(place: Installation) -> str:
    async def read(resources: Resources) -> str:
        names = await resources.database.list_collection_names()
        found = [
            await resources.database[name].find({}, comment="trueport-platform").to_list() for name in sorted(names)
        ]
        return repr(found)

    return with_resources(load_settings(place.environment), read)


def _writer_of(place: Installation, interaction: str) -> str:
    """Who wrote its records, as `host.pid.start`."""
    [writer] = {record["writer"] for record in place.documents("audit_records") if record["rid"] == interaction}
    return str(writer)


async def test_any_worker_repeats_what_another_one_answered(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        private_redis() as redis,
        installation(
            tmp_path_factory.mktemp("repeats-redis") / "data", TRUEPORT_REDIS_URL=redis.url, TRUEPORT_WORKERS="2"
        ) as place,
    ):
        house = House(place, await asyncio.to_thread(furnish, place, {"acme": {"prices": prices()}}))
        await asyncio.to_thread(place.serve)
        name = _fresh()
        first = await house.ask(name, "shared", "chat stream")
        await row_of(place, first.interaction)

        # Both workers listen on one socket: while the one that answered stands still, the other is asked.
        answered = await asyncio.to_thread(_writer_of, place, first.interaction)
        pid = int(answered.rsplit(".", 2)[1])
        os.kill(pid, signal.SIGSTOP)
        try:
            again = await house.ask(name, "shared", "chat stream")
        finally:
            os.kill(pid, signal.SIGCONT)

        assert (again.status, _is_replay(again), again.body) == (200, True, first.body)
        await row_of(place, again.interaction)
        assert await asyncio.to_thread(_writer_of, place, again.interaction) != answered
        assert len(billed(place)) == 1
