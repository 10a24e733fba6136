"""Answers given again to the same request, on a real server: who gets them, and who must not."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.installation import Installation, installation
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
    reconfigure,
    request_of,
    row_of,
    sent,
)
from tests.support.simulator import connected

CACHED: Final = [{**route, "cache_s": 300} for route in ROUTES]
REPEATABLE: Final = (
    *("chat", "chat stream", "responses", "responses stream", "embeddings", "messages", "messages stream"),
    *("generate", "generate stream", "generate array", "azure", "azure stream", "embed"),
)


class House:
    def __init__(self, place: Installation, tenants: dict[str, Access]) -> None:
        self.place = place
        self.tenants = tenants

    async def ask(self, prompt: str, form: str = "chat", *, slug: str = "acme", key: str = "main", **given: Any) -> Got:
        got = await ask(self.place, form, prompt, self.tenants[slug].keys[key][1], **given)
        assert got.status == 200, got.body
        return got

    async def raw(self, body: bytes, **headers: str) -> Got:
        return await sent(self.place.port, raw_request("/v1/chat/completions", body, self.tenants["acme"].key, headers))


def _state(got: Got) -> str | None:
    return got.headers.get("x-trueport-cache")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with installation(tmp_path_factory.mktemp("cache") / "data") as place:
        members = {"routes": CACHED, "prices": prices()}
        tenants = furnish(
            place,
            {"acme": members, "other": members, "changes": members, "off": {"prices": prices()}},
            {"second": {}, "staging": {"env": "staging"}},
        )
        place.serve()
        yield House(place, tenants)


@pytest.mark.parametrize("form", REPEATABLE)
async def test_the_same_request_gets_the_same_answer_without_a_provider(house: House, form: str) -> None:
    first = await house.ask(f"again {form}", form)

    second = await house.ask(f"again {form}", form)

    assert (_state(first), _state(second)) == ("miss", "hit")
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers.get("transfer-encoding") == first.headers.get("transfer-encoding")
    assert second.headers["x-trueport-provider"] == first.headers["x-trueport-provider"]
    assert second.headers["x-trueport-attempts"] == "0"
    upstream = billed(house.place)
    assert first.interaction in upstream
    assert second.interaction not in upstream


@pytest.mark.parametrize("model", [MODELS["anthropic"], MODELS["google"], MODELS["azure"]])
@pytest.mark.parametrize("form", ["chat stream", "messages"])
async def test_translated_answers_are_given_again_too(house: House, form: str, model: str) -> None:
    if form == "messages" and model == MODELS["anthropic"]:
        model = MODELS["openai"]
    first = await house.ask("over there", form, model=model)

    second = await house.ask("over there", form, model=model)

    assert (_state(second), second.body) == ("hit", first.body)


async def test_a_repeated_answer_costs_nothing_and_its_record_says_whose_it_is(house: House) -> None:
    first = await house.ask("cost")

    second = await house.ask("cost")

    row = await row_of(house.place, second.interaction)
    assert (row["repeats"], row["usage_source"], row["total_tokens"]) == (first.interaction, "none", 0)
    assert not row["cost_nano_usd"]
    assert (row["end"], row["status"], row["attempts"]) == ("completed", 200, [])
    assert (await row_of(house.place, first.interaction))["cost_nano_usd"] > 0


async def test_nobody_else_gets_it(house: House) -> None:
    await house.ask("mine")

    others = {
        "tenant": await house.ask("mine", slug="other"),
        "environment": await house.ask("mine", key="staging"),
        "model": await house.ask("mine", model="sim-other"),
        "provider": await house.ask("mine", model=MODELS["azure"]),
        "dialect": await house.ask("mine", "messages", model="sim-model"),
        "stream": await house.ask("mine", "chat stream"),
        "prompt": await house.ask("mine "),
        "member": await house.ask("mine", temperature=0.5),
        "behaviour": await house.ask("mine", headers={"openai-beta": "assistants=v2"}),
    }

    assert {name: _state(got) for name, got in others.items()} == dict.fromkeys(others, "miss")
    upstream = billed(house.place)
    assert [name for name, got in others.items() if got.interaction not in upstream] == []
    assert _state(await house.ask("mine", key="second")) == "hit"
    assert _state(await house.ask("mine", user="ann")) == "hit"


async def test_the_order_of_members_and_their_spacing_do_not_matter(house: House) -> None:
    first = await house.raw(
        b'{"model":"sim-model","messages":[{"role":"user","content":"order"}],"stop":["x"],"max_tokens":9}'
    )

    same = await house.raw(
        b'{ "max_tokens": 9,\n "messages": [ {"content": "order", "role": "user"} ], "stop": ["x"],"model":"sim-model"}'
    )

    assert (_state(first), _state(same), same.body) == ("miss", "hit", first.body)
    other = await house.raw(
        b'{"model":"sim-model","messages":[{"role":"user","content":"order"}],"stop":["y"],"max_tokens":9}'
    )
    assert _state(other) == "miss"


@pytest.mark.parametrize("said", ["no-store", "No-Cache", "max-age=0, no-store"])
async def test_a_client_that_wants_none_of_it_is_neither_served_from_it_nor_kept(house: House, said: str) -> None:
    prompt = f"private {said}"

    first = await house.ask(prompt, headers={"cache-control": said})
    after = await house.ask(prompt)
    again = await house.ask(prompt, headers={"cache-control": said})

    assert (_state(first), _state(after), _state(again)) == (None, "miss", None)
    upstream = billed(house.place)
    assert all(got.interaction in upstream for got in (first, after, again))


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ("chat", "status=500"),
        ("chat", "status=429"),
        ("chat", "truncate=length"),
        ("chat stream", "eof after=3"),
        ("chat stream", "rst after=3"),
        ("chat stream", "no-done"),
        ("chat stream", "stream-error after=3"),
        ("messages stream", "eof after=3"),
        ("generate stream", "eof after=3"),
        ("generate array", "eof after=3"),
        ("responses stream", "stream-error after=3"),
    ],
)
async def test_what_failed_or_broke_off_is_not_given_again(house: House, form: str, fault: str) -> None:
    key = house.tenants["acme"].key
    calls = [await ask(house.place, form, f"n [[fault: {fault}]]", key) for _ in range(2)]

    upstream = billed(house.place)
    assert [_state(got) for got in calls if _state(got) == "hit"] == []
    assert all(got.interaction in upstream for got in calls)


async def test_an_answer_that_stops_at_the_client_is_not_given_to_the_next(house: House) -> None:
    prompt = "left [[tokens: 40]][[pace: 10ms]]"
    async with connected(house.place.port) as (reader, writer):
        writer.write(request_of(FORMS["chat stream"], "sim-model", prompt, house.tenants["acme"].key))
        await reader.readuntil(b"data: ")

    assert _state(await house.ask(prompt, "chat stream")) == "miss"


async def test_a_changed_configuration_forgets_what_was_kept_under_the_old_one(house: House) -> None:
    prompt = "before and after"
    await house.ask(prompt, slug="changes")
    assert _state(await house.ask(prompt, slug="changes")) == "hit"
    changed = {"routes": CACHED, "prices": prices(), "regions": []}
    await asyncio.to_thread(reconfigure, house.place, "changes", {**changed, "aliases": {"new": "sim-model"}})
    await asyncio.sleep(1.0)

    assert _state(await house.ask(prompt, slug="changes")) == "miss"


async def test_nothing_is_kept_where_the_route_does_not_say_so(house: House) -> None:
    calls = [await house.ask("off", slug="off") for _ in range(2)]

    assert [_state(got) for got in calls] == [None, None]
    upstream = billed(house.place)
    assert all(got.interaction in upstream for got in calls)
