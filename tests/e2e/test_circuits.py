"""A provider that keeps failing is left alone, and only that one."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Gateway
from tests.support.installation import installation
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with installation(tmp_path_factory.mktemp("circuits") / "data", TRUEPORT_BREAKER_FAILURES="5") as place:
        sim: dict[str, Any] = {
            "provider": "openai", "base_url": f"{place.simulator.url}/v1", "secret": {"env": "SIM_KEY"}
        }  # fmt: skip
        place.environment["WRONG_KEY"] = "sk-invalid"
        place.set_up()
        place.configure(
            credentials={
                "sim": sim,
                "wrong": {**sim, "secret": {"env": "WRONG_KEY"}},
                **{f"dead-{n}": {**sim, "base_url": f"http://127.0.0.1:{free_port()}/v1"} for n in range(3)},
            },
            routes=[
                *(
                    {"match": {"model": f"dead-{n}"}, "targets": [{"credential": f"dead-{n}"}]}
                    for n in range(3)
                ),
                {"match": {"model": "wrong"}, "targets": [{"credential": "wrong"}]},
                {
                    "match": {"model": "guarded"},
                    "targets": [{"credential": "dead-2"}, {"credential": "sim", "model": "sim-model"}],
                },
                {"match": {"model": "*"}, "targets": [{"credential": "sim"}]},
            ],
        )  # fmt: skip
        place.serve()
        yield Gateway(place)


def circuits(gateway: Gateway) -> dict[str, dict[str, Any]]:
    status, shown = gateway.place.ask("/trueportai-services/api/v1/routes/health", token=gateway.place.scoped_token())
    assert status == 200
    return {entry["credential"]: entry for entry in shown["data"]}


async def test_after_five_failures_calls_are_refused_at_once_until_the_cool_down_is_over(gateway: Gateway) -> None:
    replies = [await gateway.chat(model="dead-0") for _ in range(8)]

    assert [reply.status for reply in replies] == [502] * 5 + [503] * 3
    assert replies[-1].error["code"] == "circuit_open"
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 12
    assert replies[-1].headers["x-trueport-attempts"] == "1"
    shown = circuits(gateway)
    assert (shown["dead-0"]["state"], shown["dead-0"]["mode"]) == ("open", "memory")
    assert shown["dead-0"]["retry_after_ms"] > 0
    assert shown["sim"]["state"] == "closed"
    assert (await gateway.chat()).status == 200
    await asyncio.sleep(1.2)
    metrics = (await gateway.call(path="/metrics", method="GET")).body.decode()
    numbers = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("trueport_circuit"))
    assert float(numbers["trueport_circuits_open"]) >= 1
    assert float(numbers["trueport_circuit_denials"]) >= 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/anthropic/v1/messages",
            {"model": "dead-1", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]},
        ),
        ("/google/v1beta/models/dead-1:generateContent", {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}),
        ("/v1/chat/completions", {"model": "dead-1", "messages": [{"role": "user", "content": "a"}]}),
    ],
)
async def test_the_refusal_is_in_the_callers_dialect(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    for _ in range(5):
        await gateway.chat(model="dead-1")

    reply = await gateway.call(body, path=path)

    assert reply.status == 503
    assert b"circuit_open" in reply.body.lower()


async def test_a_route_with_another_target_goes_on_without_asking_the_one_that_rests(gateway: Gateway) -> None:
    replies = [await gateway.chat(model="guarded") for _ in range(7)]

    assert [reply.status for reply in replies] == [200] * 7
    assert [reply.headers["x-trueport-attempts"] for reply in replies] == ["2"] * 5 + ["1"] * 2


async def test_a_key_the_provider_does_not_take_opens_no_circuit(gateway: Gateway) -> None:
    replies = [await gateway.chat(model="wrong") for _ in range(8)]

    assert {reply.error["code"] for reply in replies} == {"upstream_auth"}
    assert circuits(gateway)["wrong"]["state"] == "closed"


async def test_after_the_cool_down_one_call_tries_and_two_good_ones_close_the_circuit(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with installation(tmp_path_factory.mktemp("recovery") / "data", TRUEPORT_BREAKER_FAILURES="2") as place:
        place.set_up()
        place.serve()
        gateway = Gateway(place)
        for _ in range(2):
            await gateway.chat(script="fault=status=500")
        assert (await gateway.chat()).status == 503

        deadline_s = time.monotonic() + 20
        while (reply := await gateway.chat()).status == 503:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.5)

        assert reply.status == 200
        assert (await gateway.chat()).status == 200
        (shown,) = circuits(gateway).values()
        assert shown["state"] == "closed"
