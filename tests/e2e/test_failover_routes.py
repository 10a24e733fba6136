"""When the first target of a route fails, the client sees one clean answer of the second, and the record shows both."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as google_types

from tests.e2e.conftest import Gateway, Reply
from tests.support.chaos_upstream import make_authority
from tests.support.installation import free_port, installation

SAID = "The second one answers."
SAY = f"Who is there? [[say: {SAID}]]"
FAILURES = {
    "dead": ("closed", None, "upstream_connect", None),
    "status-500": ("sim", "fault=status=500", None, 500),
    "status-502": ("sim", "fault=status=502", None, 502),
    "status-503": ("sim", "fault=status=503", None, 503),
    "status-529": ("sim", "fault=status=529", None, 529),
    "status-429": ("sim", "fault=status=429", None, 429),
    "silent": ("sim", "fault=hang", "upstream_timeout", None),
    "reset": ("sim", "fault=rst", "upstream_connect", None),
    "not-http": ("sim", "fault=not-http", "upstream_invalid", None),
    "certificate": ("tls", None, "upstream_tls", None),
}
SECONDS = {"openai": "sim", "anthropic": "anthropic", "google": "google"}


def _route(failure: str, second: str) -> dict[str, Any]:
    credential, script, _, _ = FAILURES[failure]
    first: dict[str, Any] = {"credential": credential, "timeout_s": 0.8}
    if script is not None:
        first["model"] = f"sim-model+{script}"
    return {
        "match": {"model": f"{failure}-{second}"},
        "targets": [first, {"credential": SECONDS[second], "model": f"{second}-model"}],
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("failover")
    with installation(folder / "data") as place, _untrusted(folder) as port:
        sim = {"provider": "openai", "base_url": f"{place.simulator.url}/v1", "secret": {"env": "SIM_KEY"}}
        place.set_up()
        place.configure(
            credentials={
                "sim": sim,
                "limited": sim,
                "closed": {**sim, "base_url": f"http://127.0.0.1:{free_port()}/v1"},
                "tls": {**sim, "base_url": f"https://127.0.0.1:{port}/v1"},
                "anthropic": {**sim, "provider": "anthropic", "base_url": place.simulator.url},
                "google": {**sim, "provider": "google", "base_url": place.simulator.url},
            },
            aliases={"quick": "aliased-model"},
            routes=[
                *(_route(failure, second) for failure in FAILURES for second in SECONDS),
                {
                    "match": {"model": "refused-*"},
                    "targets": [{"credential": "sim"}, {"credential": "anthropic", "model": "second"}],
                },
                {
                    "match": {"model": "cut-*"},
                    "targets": [{"credential": "sim"}, {"credential": "anthropic", "model": "second"}],
                },
                {
                    "match": {"model": "paused"},
                    "targets": [
                        {"credential": "limited", "model": "sim-model+fault=status=429 retry-after=60"},
                        {"credential": "sim", "model": "sim-model"},
                    ],
                },
                {"match": {"model": "again-*"}, "targets": [{"credential": "sim", "retries": 2}]},
                {"match": {"model": "aliased-*"}, "targets": [{"credential": "sim", "model": "sim-model"}]},
                {"match": {"model": "*"}, "targets": [{"credential": "sim"}]},
            ],
        )
        place.serve()
        yield Gateway(place)


class _untrusted:  # noqa: N801 - reads as what it stands for
    """A TLS server whose certificate nobody vouches for; as a block, its port."""

    def __init__(self, folder: Path) -> None:
        self._context: ssl.SSLContext = make_authority().server_context("good", folder)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()

        async def start() -> int:
            self._server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=self._context)
            port: int = self._server.sockets[0].getsockname()[1]
            return port

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def ask(gateway: Gateway, model: str, *, stream: bool = False, dialect: str = "openai") -> Reply:
    """The same question in each dialect."""
    message = [{"role": "user", "content": SAY}]
    if dialect == "anthropic":
        body = {"model": model, "max_tokens": 100, "messages": message, "stream": stream}
        return await gateway.call(body, path="/anthropic/v1/messages")
    if dialect == "google":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        contents = {"contents": [{"role": "user", "parts": [{"text": SAY}]}]}
        return await gateway.call(contents, path=f"/google/v1beta/models/{model}:{verb}")
    return await gateway.call({"model": model, "messages": message, "stream": stream})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("second", SECONDS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_the_second_target_answers_and_both_attempts_are_told(
    gateway: Gateway, failure: str, second: str, *, stream: bool
) -> None:
    reply = await ask(gateway, f"{failure}-{second}", stream=stream)

    assert reply.status == 200
    assert reply.headers["x-trueport-attempts"] == "2"
    assert reply.headers["x-trueport-provider"] == second
    assert b"error" not in reply.body
    entry = gateway.record(reply.interaction)
    _, _, error, status = FAILURES[failure]
    assert [(attempt["status"], attempt["error"]) for attempt in entry["attempts"]] == [(status, error), (200, None)]
    assert (entry["end"], entry["provider"], entry["usage_source"]) == ("completed", second, "provider")


@pytest.mark.parametrize("second", SECONDS)
def test_sdks_of_every_dialect_do_not_notice(gateway: Gateway, second: str) -> None:
    model = f"dead-{second}"
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        chat = client.chat.completions.create(model=model, messages=[{"role": "user", "content": SAY}])
        pieces = client.chat.completions.create(model=model, messages=[{"role": "user", "content": SAY}], stream=True)
        assert chat.choices[0].message.content == SAID
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == SAID
    with anthropic.Anthropic(base_url=f"{gateway.url}/anthropic", api_key=gateway.key, max_retries=0) as other:
        message: Any = other.messages.create(model=model, max_tokens=100, messages=[{"role": "user", "content": SAY}])
        assert message.content[0].text == SAID
    options = google_types.HttpOptions(base_url=f"{gateway.url}/google", timeout=20_000)
    third = genai.Client(api_key=gateway.key, vertexai=False, http_options=options)
    assert third.models.generate_content(model=model, contents=SAY).text == SAID


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_what_is_wrong_with_the_request_is_not_tried_elsewhere(gateway: Gateway, status: int) -> None:
    reply = await gateway.chat(model="refused-model", script=f"fault=status={status}")

    assert (reply.status, reply.headers["x-trueport-attempts"]) == (status, "1")


END_MARKS = {"openai": b"[DONE]", "anthropic": b"message_stop", "google": b'"finishReason"'}


@pytest.mark.parametrize("fault", ["eof", "rst after=3", "truncate=chunk after=3", "no-done"])
@pytest.mark.parametrize("dialect", END_MARKS)
async def test_a_stream_that_breaks_ends_in_an_error_and_nothing_is_glued_to_it(
    gateway: Gateway, dialect: str, fault: str
) -> None:
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "openai": ("/v1/chat/completions", {"model": "cut-model", "stream": True}),
        "anthropic": ("/anthropic/v1/messages", {"model": "cut-model", "max_tokens": 100, "stream": True}),
        "google": ("/google/v1beta/models/cut-model:streamGenerateContent?alt=sse", {}),
    }
    path, body = bodies[dialect]
    if dialect == "google":
        body = {"contents": [{"role": "user", "parts": [{"text": "[[tokens: 30]]"}]}]}
    else:
        body = {**body, "messages": [{"role": "user", "content": "[[tokens: 30]]"}]}

    reply = await gateway.call(body, path=path, headers={"x-simulator": f"fault={fault}"})

    assert reply.status == 200
    assert END_MARKS[dialect] not in reply.body
    assert b'"error"' in reply.events[-1]
    assert reply.headers["x-trueport-attempts"] == "1"
    entry = gateway.record(reply.interaction)
    assert (entry["end"], len(entry["attempts"])) == ("upstream_failed", 1)


async def test_an_account_that_asked_for_a_pause_gets_one(gateway: Gateway) -> None:
    first, second = await ask(gateway, "paused"), await ask(gateway, "paused")

    assert [reply.status for reply in (first, second)] == [200, 200]
    assert [reply.headers["x-trueport-attempts"] for reply in (first, second)] == ["2", "1"]


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
    unserved = await ask(own, "dead-openai", dialect=dialect)
    assert (unserved.status, unserved.headers["x-trueport-attempts"]) == (502, "1")
    refused = await ask(aliased, "quick", dialect=dialect)
    assert refused.status == 403
    assert b"model_not_allowed" in refused.body.lower()
