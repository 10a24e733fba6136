"""One clean answer from another target while nothing has reached the client, and nothing glued to it afterwards.

Asked through the official SDKs, at providers that fail in every way of the table, with a second target of the same
wire and one that needs translation.
"""

import asyncio
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any, Final

import anthropic
import openai
import pytest
from cryptography.hazmat.primitives import serialization
from google import genai
from google.genai import types as google_types

from tests.e2e.conftest import Gateway, Reply
from tests.support.chaos_upstream import Authority, CertificateKind, ChaosUpstream, Exchange, Scenario, make_authority
from tests.support.installation import Installation, installation
from tests.support.ports import free_port
from tests.support.simulator import PATIENCE_S
from tests.support.tenants import further_tenant
from trueport.storage.embedded import EmbeddedMongo

SAID: Final = "The second one answers."
SAY: Final = f"Who is there? [[say: {SAID}]]"
WIRES: Final = ("openai", "anthropic", "google")
ANOTHER: Final = {"openai": "anthropic", "anthropic": "google", "google": "openai"}
CERTIFICATES: Final[tuple[CertificateKind, ...]] = ("good", "expired", "self-signed", "wrong-name")


@dataclass(frozen=True, slots=True)
class Failure:
    """Where the first target leads, what the provider there does, and how the attempt is recorded."""

    place: str = "sim"
    fault: str = ""
    status: int | None = None
    error: str | None = None


FAILURES: Final = {
    "dead": Failure("closed", error="upstream_connect"),
    "unknown-host": Failure("nowhere", error="upstream_connect"),
    "slow": Failure(fault="delay=20s", error="upstream_timeout"),
    "500": Failure(fault="status=500", status=500),
    "502": Failure(fault="status=502", status=502),
    "503": Failure(fault="status=503", status=503),
    "529": Failure(fault="status=529", status=529),
    # The pause is over before the next call, or that would not ask the first target at all.
    "429": Failure("limited", "status=429 retry-after=0.000001", status=429),
    "expired": Failure("expired", error="upstream_tls"),
    "self-signed": Failure("self-signed", error="upstream_tls"),
    "wrong-name": Failure("wrong-name", error="upstream_tls"),
}


# --- the installation


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def tls_servers(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[CertificateKind, ChaosUpstream]]:
    """A provider behind each kind of certificate; the gateway trusts the authority that signed them."""
    folder = tmp_path_factory.mktemp("certificates")
    scenarios: dict[str, Scenario] = {"/v1/chat/completions": _chat_answer}
    servers = {kind: ChaosUpstream(scenarios, authority.server_context(kind, folder)) for kind in CERTIFICATES}
    with _loop_in_a_thread() as loop:
        blocks = [server.running() for server in servers.values()]
        for block in blocks:
            asyncio.run_coroutine_threadsafe(block.__aenter__(), loop).result(PATIENCE_S)
        yield servers
        for block in blocks:
            asyncio.run_coroutine_threadsafe(block.__aexit__(None, None, None), loop).result(PATIENCE_S)


@contextmanager
def _loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    # What a refused handshake leaves behind is the subject of the tests, not news for their output.
    loop.set_exception_handler(lambda *_: None)
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


async def _chat_answer(exchange: Exchange) -> None:
    message = {"role": "assistant", "content": "trusted"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    await exchange.send_json(json.dumps(answer).encode())


def _credentials(simulator: str, ports: Mapping[CertificateKind, int]) -> dict[str, Any]:
    """`{wire}-{place}` for every wire and every place that a first or second target leads to."""
    places: dict[str, str] = {
        "sim": simulator,
        # An account of its own each, because a pause and a latency are the account's.
        "limited": simulator,
        "second": simulator,
        "closed": f"http://127.0.0.1:{free_port()}",
        "nowhere": "https://nowhere.invalid",
        **{str(kind): f"https://127.0.0.1:{port}" for kind, port in ports.items()},
    }
    return {
        f"{wire}-{place}": {
            "provider": wire,
            "base_url": f"{origin}/v1" if wire == "openai" else origin,
            "secret": {"env": "SIM_KEY"},
        }
        for wire in WIRES
        for place, origin in places.items()
    }


def _failing_routes() -> Iterator[dict[str, Any]]:
    """`{failure}-{wire}-{second}`: the first target of one wire fails, the second of another or the same answers."""
    for name, failure in FAILURES.items():
        for wire in WIRES:
            first: dict[str, Any] = {"credential": f"{wire}-{failure.place}", "timeout_s": 0.7}
            if failure.fault:
                first["model"] = f"first+fault={failure.fault}"
            for second in (wire, ANOTHER[wire]):
                yield {
                    "match": {"model": f"{name}-{wire}-{second}"},
                    "targets": [first, {"credential": f"{second}-second", "model": f"{second}-model"}],
                }


def _routes() -> list[dict[str, Any]]:
    def first(wire: str, **more: Any) -> dict[str, Any]:
        return {"credential": f"{wire}-sim", "timeout_s": 0.7, **more}

    second = {"credential": "openai-second", "model": "second-model"}
    sim = "openai-sim"
    return [
        *_failing_routes(),
        *({"match": {"model": f"cut-{wire}"}, "targets": [first(wire), second]} for wire in WIRES),
        *({"match": {"model": f"refused-{wire}"}, "targets": [first(wire, retries=1), second]} for wire in WIRES),
        {"match": {"model": "trusted"}, "targets": [{"credential": "openai-good"}, second]},
        {
            "match": {"model": "by-weight"},
            "targets": [
                {"credential": sim, "model": "heavy", "weight": 1000},
                {"credential": sim, "model": "light", "weight": 1},
            ],
        },
        {
            "match": {"model": "half-and-half"},
            "targets": [
                {"credential": sim, "model": "left", "weight": 1},
                {"credential": sim, "model": "right", "weight": 1},
            ],
        },
        {
            "match": {"model": "by-priority"},
            "targets": [
                {"credential": sim, "model": "last", "priority": 3},
                {"credential": sim, "model": "middle", "priority": 2},
                {"credential": "openai-closed", "model": "best", "priority": 1},
            ],
        },
        {
            "match": {"model": "by-latency"},
            "choose": "latency",
            "targets": [
                {"credential": sim, "model": "slow+fault=delay=300ms"},
                {"credential": sim, "model": "quick"},
            ],
        },
        {"match": {"model": "*"}, "targets": [{"credential": sim}]},
    ]


@pytest.fixture(scope="module")
def gateway(
    authority: Authority,
    tls_servers: Mapping[CertificateKind, ChaosUpstream],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("failover")
    trusted = folder / "authority.pem"
    trusted.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    # Where no name server answers, a name has no address after a second instead of twenty.
    settings = {"SSL_CERT_FILE": str(trusted), "RES_OPTIONS": "timeout:1 attempts:1"}
    with installation(folder / "data", **settings) as place:
        _set_up(place, {kind: server.port for kind, server in tls_servers.items()})
        place.serve()
        yield Gateway(place)


def _set_up(place: Installation, ports: Mapping[CertificateKind, int]) -> None:
    # Running beside the commands, so that none of them has to start it.
    database = EmbeddedMongo(place.data_dir)
    database.start()
    try:
        place.set_up()
        place.configure(credentials=_credentials(place.simulator.url, ports), routes=_routes())
    finally:
        database.stop()


# --- before the first byte


@dataclass(frozen=True, slots=True)
class Told:
    """What an SDK gave its user, and the headers it came with."""

    text: str
    headers: Mapping[str, str]


def by_openai(gateway: Gateway, model: str, *, stream: bool) -> Told:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        raw: Any = client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": SAY}], stream=stream
        )
        if not stream:
            return Told(raw.parse().choices[0].message.content, raw.headers)
        choices = [piece.choices[0] for piece in raw.parse() if piece.choices]
        assert choices[-1].finish_reason == "stop"
        return Told("".join(choice.delta.content or "" for choice in choices), raw.headers)


def by_anthropic(gateway: Gateway, model: str, *, stream: bool) -> Told:
    with anthropic.Anthropic(
        base_url=f"{gateway.url}/anthropic", api_key=gateway.key, max_retries=0, timeout=20
    ) as client:
        raw: Any = client.messages.with_raw_response.create(
            model=model, max_tokens=100, messages=[{"role": "user", "content": SAY}], stream=stream
        )
        if not stream:
            return Told(raw.parse().content[0].text, raw.headers)
        events = list(raw.parse())
        assert events[-1].type == "message_stop"
        texts = [event.delta.text for event in events if event.type == "content_block_delta"]
        return Told("".join(texts), raw.headers)


def by_google(gateway: Gateway, model: str, *, stream: bool) -> Told:
    options = google_types.HttpOptions(base_url=f"{gateway.url}/google", timeout=20_000)
    client = genai.Client(api_key=gateway.key, vertexai=False, http_options=options)
    models: Any = client.models
    if not stream:
        whole = models.generate_content(model=model, contents=SAY)
        return Told(whole.text, whole.sdk_http_response.headers)
    pieces = list(models.generate_content_stream(model=model, contents=SAY))
    assert pieces[-1].candidates[0].finish_reason == google_types.FinishReason.STOP
    return Told("".join(piece.text or "" for piece in pieces), pieces[-1].sdk_http_response.headers)


SDKS: Final[Mapping[str, Callable[..., Told]]] = {
    "openai": by_openai,
    "anthropic": by_anthropic,
    "google": by_google,
}


@dataclass(frozen=True, slots=True)
class Served:
    """All that is to be known about a call that a second target answered."""

    text: str
    attempts: str
    provider: str
    model: str
    recorded: tuple[tuple[str, int | None, str | None], ...]
    end: tuple[str, str, str]


def served(gateway: Gateway, wire: str, model: str, *, stream: bool) -> Served:
    told = SDKS[wire](gateway, model, stream=stream)
    entry = gateway.record(told.headers["x-trueport-interaction"])
    return Served(
        told.text,
        told.headers["x-trueport-attempts"],
        told.headers["x-trueport-provider"],
        told.headers["x-trueport-model"],
        tuple((each["target"].partition("/")[0], each["status"], each["error"]) for each in entry["attempts"]),
        (entry["end"], entry["provider"], entry["usage_source"]),
    )


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", FAILURES)
async def test_an_sdk_sees_one_clean_answer_of_a_second_target_of_its_own_wire_and_of_another(
    gateway: Gateway, name: str, wire: str
) -> None:
    failure = FAILURES[name]
    variants = [(second, stream) for second in (wire, ANOTHER[wire]) for stream in (False, True)]

    seen = await asyncio.gather(
        *(
            asyncio.to_thread(served, gateway, wire, f"{name}-{wire}-{second}", stream=stream)
            for second, stream in variants
        )
    )

    first = (f"{wire}-{failure.place}", failure.status, failure.error)
    assert dict(zip(variants, seen, strict=True)) == {
        (second, stream): Served(
            text=SAID,
            attempts="2",
            provider=second,
            model=f"{second}-model",
            recorded=(first, (f"{second}-second", 200, None)),
            end=("completed", second, "provider"),
        )
        for second, stream in variants
    }


async def test_only_a_provider_that_proves_who_it_is_gets_the_request(
    gateway: Gateway, tls_servers: Mapping[CertificateKind, ChaosUpstream]
) -> None:
    reply = await gateway.chat(model="trusted")
    for kind in ("expired", "self-signed", "wrong-name"):
        await gateway.chat(SAY, model=f"{kind}-openai-openai")

    assert (reply.status, reply.headers["x-trueport-attempts"]) == (200, "1")
    assert b"trusted" in reply.body
    assert tls_servers["good"].requests
    assert all(server.connections == 0 for kind, server in tls_servers.items() if kind != "good")


# --- what another target could not do better either


@dataclass(frozen=True, slots=True)
class Form:
    """How a client asks for a stream, and what would tell it that the stream is whole."""

    dialect: str
    path: str
    body: Callable[[str, str], dict[str, Any]]
    end: re.Pattern[bytes]
    finish: re.Pattern[bytes]


def _messages(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "stream": True, "max_tokens": 500, "messages": [{"role": "user", "content": prompt}]}


def _contents(model: str, prompt: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}


FORMS: Final = {
    "chat": Form(
        "openai", "/v1/chat/completions", _messages, re.compile(rb"\[DONE\]"), re.compile(rb'"finish_reason": ?"')
    ),
    "responses": Form(
        "openai",
        "/v1/responses",
        lambda model, prompt: {"model": model, "stream": True, "input": prompt},
        re.compile(rb"response\.(?:completed|incomplete)"),
        re.compile(rb"response\.(?:output_item\.done|completed)"),
    ),
    "anthropic": Form(
        "anthropic",
        "/anthropic/v1/messages",
        _messages,
        re.compile(rb"message_stop"),
        re.compile(rb'"stop_reason": ?"'),
    ),
    "google-sse": Form(
        "google",
        "/google/v1beta/models/{model}:streamGenerateContent?alt=sse",
        _contents,
        re.compile(rb'"finishReason"'),
        re.compile(rb'"finishReason"'),
    ),
    "google-array": Form(
        "google",
        "/google/v1beta/models/{model}:streamGenerateContent",
        _contents,
        re.compile(rb"\]\s*\Z"),
        re.compile(rb'"finishReason"'),
    ),
}


async def ask(gateway: Gateway, form: Form, model: str, prompt: str, *, stream: bool = True) -> Reply:
    path, body = form.path.format(model=model), form.body(model, prompt)
    if not stream:
        path = path.replace("streamGenerateContent", "generateContent").partition("?")[0]
        body.pop("stream", None)
    return await gateway.call(body, path=path)


def asked_upstream(gateway: Gateway, interaction: str, after: int) -> list[dict[str, Any]]:
    """What the provider's books say about this call, beyond entry number `after`."""
    return [entry for entry in _books(gateway, after)["entries"] if entry["interaction"] == interaction]


def last_entry(gateway: Gateway) -> int:
    return max((entry["seq"] for entry in _books(gateway, 0)["entries"]), default=0)


def _books(gateway: Gateway, after: int) -> dict[str, Any]:
    url = f"{gateway.place.simulator.url}/_simulator/ledger?after={after}&limit=10000"
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", ["status=400", "status=401", "status=403", "status=404", "echo-key"])
@pytest.mark.parametrize("provider", WIRES)
@pytest.mark.parametrize("form", ["chat", "anthropic", "google-sse"])
async def test_what_the_provider_refuses_is_asked_of_nobody_else(
    gateway: Gateway, form: str, provider: str, fault: str, *, stream: bool
) -> None:
    after = last_entry(gateway)

    reply = await ask(gateway, FORMS[form], f"refused-{provider}", f"Hi [[fault: {fault}]]", stream=stream)

    assert reply.headers["x-trueport-attempts"] == "1"
    assert len(asked_upstream(gateway, reply.interaction, after)) == 1
    entry = gateway.record(reply.interaction)
    if fault in ("status=400", "status=404"):
        assert (reply.status, entry["end"]) == (int(fault[-3:]), "completed")
    else:
        assert (reply.status, entry["end"], entry["error"]) == (502, "upstream_failed", "upstream_auth")
        assert reply.headers["x-should-retry"] == "false"
        # Neither the key nor what the provider says about it.
        for told in (b"sk-simulated", b"API key", b"api_key", b"x-api-key", b"permission", b"Incorrect"):
            assert told.lower() not in reply.body.lower()


# --- after the first byte

CUTS: Final = {
    "rst after=3": "upstream_truncated",
    "eof after=3": "upstream_truncated",
    "truncate=chunk after=3": "upstream_truncated",
    "truncate=length after=3": "upstream_truncated",
    "no-done": "upstream_truncated",
    "no-done after=3": "upstream_truncated",
    "silence after=3": "upstream_stalled",
    "drip=comments after=3": "upstream_stalled",
    "stream-error after=3": "upstream_error_event",
    "invalid-utf8 after=3": "upstream_invalid",
}


@pytest.mark.parametrize("fault", CUTS)
@pytest.mark.parametrize("name", FORMS)
async def test_a_stream_that_breaks_ends_in_an_error_of_the_callers_dialect(
    gateway: Gateway, name: str, fault: str
) -> None:
    form, after = FORMS[name], last_entry(gateway)

    # The wire of the client itself, and two that are translated.
    replies = await asyncio.gather(
        *(ask(gateway, form, f"cut-{provider}", f"Hi [[tokens: 30]] [[fault: {fault}]]") for provider in WIRES)
    )

    for provider, reply in zip(WIRES, replies, strict=True):
        assert reply.status == 200, provider
        assert reply.headers["x-trueport-provider"] == provider
        assert b'"error"' in _last_element(name, reply), provider
        assert form.end.search(reply.body) is None, provider
        # A provider that only leaves out its end mark has said that it is finished.
        assert fault == "no-done" or form.finish.search(reply.body) is None, provider
        assert reply.headers["x-trueport-attempts"] == "1"
        assert len(asked_upstream(gateway, reply.interaction, after)) == 1
        entry = await asyncio.to_thread(gateway.record, reply.interaction)
        assert (entry["end"], entry["error"]) == ("upstream_failed", CUTS[fault]), provider
        assert [(attempt["status"], attempt["error"]) for attempt in entry["attempts"]] == [(200, None)]


def _last_element(name: str, reply: Reply) -> bytes:
    """The last event of a stream, or the last element of an array that was left open."""
    if name == "google-array":
        return reply.body.rpartition(b",\r\n{")[2]
    return reply.events[-1]


# --- who is asked


async def test_weights_say_how_often_a_target_is_asked_first(gateway: Gateway) -> None:
    async def models(model: str, calls: int) -> Counter[str]:
        replies = [await gateway.chat(model=model) for _ in range(calls)]
        return Counter(reply.headers["x-trueport-model"] for reply in replies)

    # The odds against either of these are beyond a billion to one.
    assert (await models("by-weight", 30))["heavy"] >= 25
    assert set(await models("half-and-half", 40)) == {"left", "right"}


async def test_priorities_are_followed_whatever_the_order_in_the_file(gateway: Gateway) -> None:
    reply = await gateway.chat(model="by-priority")

    assert (reply.headers["x-trueport-model"], reply.headers["x-trueport-attempts"]) == ("middle", "2")


async def test_the_faster_target_is_asked_once_both_are_known(gateway: Gateway) -> None:
    models = [(await gateway.chat(model="by-latency")).headers["x-trueport-model"] for _ in range(8)]

    assert models.count("slow+fault=delay=300ms") <= 1
    assert models[2:] == ["quick"] * 6


async def test_a_tenants_data_leaves_its_regions_neither_first_nor_when_everything_else_fails(
    gateway: Gateway,
) -> None:
    sim = {"provider": "openai", "base_url": f"{gateway.place.simulator.url}/v1", "secret": {"env": "SIM_KEY"}}
    routes = [
        {"match": {"model": "first-away"}, "targets": [{"credential": "us"}, {"credential": "eu", "model": "near"}]},
        {
            "match": {"model": "second-away"},
            "targets": [
                {"credential": "eu-closed", "retries": 1},
                {"credential": "us"},
                {"credential": "nowhere-said"},
                {"credential": "eu", "model": "near+fault=status=503"},
            ],
        },
        {"match": {"model": "only-away"}, "targets": [{"credential": "us"}, {"credential": "nowhere-said"}]},
    ]
    tenant = further_tenant(
        gateway.place,
        "european",
        regions=["eu"],
        credentials={
            "us": {**sim, "region": "us"},
            "eu": {**sim, "region": "eu"},
            "eu-closed": {**sim, "region": "eu", "base_url": f"http://127.0.0.1:{free_port()}/v1"},
            "nowhere-said": sim,
        },
        routes=routes,
    )
    after = last_entry(gateway)

    async def call(model: str) -> Reply:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        return await gateway.call(body, key=tenant.key)

    near, failed, away = await call("first-away"), await call("second-away"), await call("only-away")

    assert (near.status, near.headers["x-trueport-model"], near.headers["x-trueport-attempts"]) == (200, "near", "1")
    assert failed.status == 503
    assert (away.status, away.error["code"]) == (403, "region_not_allowed")
    asked = [
        entry["model"] for reply in (near, failed, away) for entry in asked_upstream(gateway, reply.interaction, after)
    ]
    assert asked == ["near", "near+fault=status=503"]


# --- how often


async def test_retries_do_not_turn_a_bad_minute_into_a_storm(gateway: Gateway) -> None:
    sim = {"provider": "openai", "base_url": f"{gateway.place.simulator.url}/v1", "secret": {"env": "SIM_KEY"}}
    target = {"credential": "sim", "model": "sim-model+fault=status=503", "retries": 3}
    # A tenant of its own, because the budget is.
    tenant = further_tenant(
        gateway.place, "stormy", credentials={"sim": sim}, routes=[{"match": {"model": "*"}, "targets": [target]}]
    )
    after, calls, turn = last_entry(gateway), 150, asyncio.Semaphore(10)
    body = {"model": "sim-model", "messages": [{"role": "user", "content": "Hi"}]}

    async def call() -> Reply:
        async with turn:
            return await gateway.call(body, key=tenant.key)

    started_s = time.monotonic()
    replies = await asyncio.gather(*(call() for _ in range(calls)))
    took_s = time.monotonic() - started_s

    assert {reply.status for reply in replies} == {503}
    own = {reply.interaction for reply in replies}
    received = sum(entry["interaction"] in own for entry in _books(gateway, after)["entries"])
    assert received == sum(int(reply.headers["x-trueport-attempts"]) for reply in replies)
    # A tenth, and the minimum of one a second.
    assert calls + 10 <= received <= 1.1 * calls + took_s + 1
