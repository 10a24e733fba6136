"""Pauses, retries, aliases and the models of a key, on routes with more than one target."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Gateway, Reply
from tests.support.installation import installation
from tests.support.ports import free_port

SAY = "Who is there? [[say: The second one answers.]]"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with installation(tmp_path_factory.mktemp("failover") / "data") as place:
        sim = {"provider": "openai", "base_url": f"{place.simulator.url}/v1", "secret": {"env": "SIM_KEY"}}
        limited = "sim-model+fault=status=429 retry-after="
        place.set_up()
        place.configure(
            credentials={
                **dict.fromkeys(("sim", "limited", "soon", "late"), sim),
                "closed": {**sim, "base_url": f"http://127.0.0.1:{free_port()}/v1"},
            },
            aliases={"quick": "aliased-model"},
            routes=[
                {
                    "match": {"model": "dead-first"},
                    "targets": [{"credential": "closed"}, {"credential": "sim", "model": "second-model"}],
                },
                {
                    "match": {"model": "paused"},
                    "targets": [
                        {"credential": "limited", "model": f"{limited}60"},
                        {"credential": "sim", "model": "sim-model"},
                    ],
                },
                {
                    "match": {"model": "all-limited"},
                    "targets": [
                        {"credential": "soon", "model": f"{limited}7"},
                        {"credential": "late", "model": f"{limited}60"},
                    ],
                },
                {"match": {"model": "again-*"}, "targets": [{"credential": "sim", "retries": 2}]},
                {"match": {"model": "aliased-*"}, "targets": [{"credential": "sim", "model": "sim-model"}]},
                {"match": {"model": "*"}, "targets": [{"credential": "sim"}]},
            ],
        )
        place.serve()
        yield Gateway(place)


async def ask(gateway: Gateway, model: str, *, dialect: str = "openai") -> Reply:
    """The same question in each dialect."""
    message = [{"role": "user", "content": SAY}]
    if dialect == "anthropic":
        body: dict[str, Any] = {"model": model, "max_tokens": 100, "messages": message}
        return await gateway.call(body, path="/anthropic/v1/messages")
    if dialect == "google":
        contents = {"contents": [{"role": "user", "parts": [{"text": SAY}]}]}
        return await gateway.call(contents, path=f"/google/v1beta/models/{model}:generateContent")
    return await gateway.call({"model": model, "messages": message})


async def test_an_account_that_asked_for_a_pause_gets_one(gateway: Gateway) -> None:
    first, second = await ask(gateway, "paused"), await ask(gateway, "paused")

    assert [reply.status for reply in (first, second)] == [200, 200]
    assert [reply.headers["x-trueport-attempts"] for reply in (first, second)] == ["2", "1"]


async def test_when_every_account_is_at_its_limit_the_shortest_pause_is_told(gateway: Gateway) -> None:
    reply = await ask(gateway, "all-limited")

    assert (reply.status, reply.headers["x-trueport-attempts"]) == (429, "2")
    assert reply.headers["retry-after"] == "7"


async def test_the_same_target_is_tried_again_where_its_route_says_so(gateway: Gateway) -> None:
    reply = await gateway.chat(f"{SAY} [[fault: status=503 times=1]]", model="again-model")

    assert reply.status == 200
    assert [attempt["status"] for attempt in gateway.record(reply.interaction)["attempts"]] == [503, 200]


async def test_an_alias_stands_for_its_model(gateway: Gateway) -> None:
    reply = await gateway.chat(model="quick")

    assert (reply.status, reply.headers["x-trueport-model"]) == (200, "sim-model")


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "google"])
async def test_a_keys_models_are_checked_on_what_would_really_be_called(gateway: Gateway, dialect: str) -> None:
    own = Gateway(gateway.place)
    own.key = gateway.place.create_key(model="dead-*")["key"]
    aliased = Gateway(gateway.place)
    aliased.key = gateway.place.create_key(model="quick")["key"]

    # The second target's model is not among those the key may use: better no answer than that one's.
    unserved = await ask(own, "dead-first", dialect=dialect)
    assert (unserved.status, unserved.headers["x-trueport-attempts"]) == (502, "1")
    refused = await ask(aliased, "quick", dialect=dialect)
    assert refused.status == 403
    assert b"model_not_allowed" in refused.body.lower()
