"""A stream is passed on as it comes: no event waits here for the one after it."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import STEP_PORT, Gateway
from tests.support.simulator import PATIENCE_S, RawReply, connected

WORDS = " ".join(f"w{number:02}" for number in range(12))
SAY = f"Count. [[say: {WORDS}]]"
VERSION = {"anthropic-version": "2023-06-01"}


@dataclass(frozen=True)
class Way:
    """How a client asks for a stream, and where its provider is asked for the same."""

    name: str
    provider: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    direct: str
    """The path at the simulator that gives the provider's events."""
    direct_body: dict[str, Any]


def user(**members: Any) -> list[dict[str, Any]]:
    return [{"role": "user", **members}]


def chat(provider: str) -> dict[str, Any]:
    return {
        "model": f"step-{provider}",
        "messages": user(content=SAY),
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def message(provider: str) -> dict[str, Any]:
    return {"model": f"step-{provider}", "max_tokens": 500, "messages": user(content=SAY), "stream": True}


CONTENTS: dict[str, Any] = {"contents": user(parts=[{"text": SAY}])}
CHAT_AT = "/v1/chat/completions"
MESSAGES_AT = "/v1/messages"
RESPONSES_AT = "/v1/responses"
COMPLETIONS_AT = "/v1/completions"


def generate_at(provider: str) -> str:
    return f"/v1beta/models/step-{provider}:streamGenerateContent"


AZURE_AT = "/openai/deployments/step-azure/chat/completions?api-version=2024-10-21"
RESPONSE = {"model": "step-openai", "input": SAY, "stream": True}
COMPLETION = {
    "model": "step-openai",
    "prompt": SAY,
    "stream": True,
    "stream_options": {"include_usage": True},
}
NATIVE = [
    Way("chat", "openai", CHAT_AT, chat("openai"), {}, CHAT_AT, chat("openai")),
    Way("completions", "openai", COMPLETIONS_AT, COMPLETION, {}, COMPLETIONS_AT, COMPLETION),
    Way("responses", "openai", RESPONSES_AT, RESPONSE, {}, RESPONSES_AT, RESPONSE),
    Way("messages", "anthropic", MESSAGES_AT, message("anthropic"), VERSION, MESSAGES_AT, message("anthropic")),
    Way(
        "google",
        "google",
        f"{generate_at('google')}?alt=sse",
        CONTENTS,
        {},
        f"{generate_at('google')}?alt=sse",
        CONTENTS,
    ),
    Way("azure", "azure", AZURE_AT, chat("azure"), {}, AZURE_AT, chat("azure")),
]
ARRAY = Way("google array", "google", generate_at("google"), CONTENTS, {}, f"{generate_at('google')}?alt=sse", CONTENTS)
TRANSLATED = [
    Way("chat at anthropic", "anthropic", CHAT_AT, chat("anthropic"), {}, MESSAGES_AT, message("anthropic")),
    Way(
        "responses at google",
        "google",
        RESPONSES_AT,
        {**RESPONSE, "model": "step-google"},
        {},
        f"{generate_at('google')}?alt=sse",
        CONTENTS,
    ),
    Way("messages at openai", "openai", MESSAGES_AT, message("openai"), VERSION, CHAT_AT, chat("openai")),
    Way("google at openai", "openai", f"{generate_at('openai')}?alt=sse", CONTENTS, {}, CHAT_AT, chat("openai")),
    Way("google array at openai", "openai", generate_at("openai"), CONTENTS, {}, CHAT_AT, chat("openai")),
]


def named(way: Way) -> str:
    return way.name


def events_of(gateway: Gateway, way: Way) -> list[bytes]:
    """The events that a provider would answer with, each with its blank line."""
    request = urllib.request.Request(
        gateway.place.simulator.url + way.direct,
        json.dumps(way.direct_body).encode(),
        {
            "content-type": "application/json",
            "authorization": "Bearer sk-direct",
            "x-api-key": "sk-direct",
            "x-goog-api-key": "sk-direct",
            "api-key": "sk-direct",
            **VERSION,
        },
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        found = re.findall(rb".+?(?:\r\n\r\n|\n\n)", answer.read(), re.DOTALL)
    assert len(found) > 10
    return found


class Client:
    """One streamed call; `has` waits until its answer holds something."""

    def __init__(self) -> None:
        self.wire = bytearray()
        self._grown = asyncio.Condition()

    @property
    def body(self) -> bytes:
        raw = RawReply(bytes(self.wire), was_reset=False)
        return raw.unchunked() if b"\r\n\r\n" in self.wire else b""

    @property
    def status(self) -> int:
        return RawReply(bytes(self.wire), was_reset=False).status

    @property
    def interaction(self) -> str:
        return RawReply(bytes(self.wire), was_reset=False).header("x-trueport-interaction") or ""

    async def call(self, gateway: Gateway, way: Way, body: dict[str, Any] | None = None) -> None:
        data = json.dumps(way.body if body is None else body).encode()
        head = {
            "host": "gateway",
            "connection": "close",
            "authorization": f"Bearer {gateway.key}",
            "content-type": "application/json",
            "content-length": str(len(data)),
            **way.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        async with connected(gateway.port) as (reader, writer):
            writer.write(f"POST {way.path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
            while piece := await reader.read(65536):
                async with self._grown:
                    self.wire += piece
                    self._grown.notify_all()

    async def has(self, needle: bytes) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: needle in self.body)


@asynccontextmanager
async def provider(events: Sequence[bytes], after_each: Callable[[int], Any]) -> AsyncIterator[list[int]]:
    """A provider that sends event after event, each only when the wait for the one before is over.

    Gives the numbers of those sent.
    """
    sent: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number, event in enumerate(events):
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            sent.append(number)
            await after_each(number)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", STEP_PORT)
    try:
        yield sent
    finally:
        server.close()


async def in_step(gateway: Gateway, way: Way, needles: Sequence[bytes | None], events: Sequence[bytes]) -> Client:
    """The call, whose provider sends nothing more until the client has what each event gives it.

    Raises TimeoutError when an event is kept back: then neither side would ever go on.
    """
    client = Client()

    async def until_there(number: int) -> None:
        needle = needles[number]
        if needle is not None:
            await client.has(needle)

    async with asyncio.timeout(PATIENCE_S), provider(events, until_there) as sent:
        await client.call(gateway, way)
    assert client.status == 200
    assert sent == list(range(len(events)))
    return client


@pytest.mark.parametrize("way", NATIVE, ids=named)
async def test_every_event_is_with_the_client_before_the_provider_sends_the_next(gateway: Gateway, way: Way) -> None:
    events = events_of(gateway, way)
    so_far = [b"".join(events[: number + 1]) for number in range(len(events))]

    client = await in_step(gateway, way, so_far, events)

    assert client.body == b"".join(events)


async def test_every_element_of_an_array_is_with_the_client_before_the_next_event(gateway: Gateway) -> None:
    events = events_of(gateway, ARRAY)
    told = [event.removeprefix(b"data: ").strip() for event in events]
    elements = [b"[" + b",\r\n".join(told[: number + 1]) for number in range(len(told))]

    client = await in_step(gateway, ARRAY, elements, events)

    assert client.body == elements[-1] + b"]"


@pytest.mark.parametrize("way", TRANSLATED, ids=named)
async def test_so_is_what_a_translated_event_says(gateway: Gateway, way: Way) -> None:
    events = events_of(gateway, way)
    needles: list[bytes | None] = []
    known: set[bytes] = set()
    for event in events:
        new = [word for word in re.findall(rb"w\d\d", event) if word not in known]
        known.update(new)
        needles.append(new[-1] if new else None)
    assert len(known) == len(WORDS.split())
    assert len([needle for needle in needles if needle]) > 6

    client = await in_step(gateway, way, needles, events)

    assert all(word.encode() in client.body for word in WORDS.split())


# --- at the simulator's own pace

PACED = [
    Way("chat", "", CHAT_AT, chat("openai"), {}, "", {}),
    Way("responses", "", RESPONSES_AT, RESPONSE, {}, "", {}),
    Way("messages", "", MESSAGES_AT, message("anthropic"), VERSION, "", {}),
    Way("google", "", "/v1beta/models/gemini-x:streamGenerateContent?alt=sse", CONTENTS, {}, "", {}),
    Way("google array", "", "/v1beta/models/gemini-x:streamGenerateContent", CONTENTS, {}, "", {}),
    Way("azure", "", "/openai/deployments/az-gpt/chat/completions?api-version=2024-10-21", chat("azure"), {}, "", {}),
    Way("chat at anthropic", "", CHAT_AT, chat("anthropic"), {}, "", {}),
]
MODELS = {"chat": "sim-model", "responses": "sim-model", "azure": "az-gpt"}


def scripted(way: Way, prompt: str) -> dict[str, Any]:
    """The call's body with this prompt, for the simulator."""
    text = json.dumps(way.body).replace(json.dumps(SAY), json.dumps(prompt))
    body: dict[str, Any] = json.loads(text)
    if "model" in body:
        body["model"] = MODELS.get(way.name, "claude-x")
    return body


async def test_while_a_slow_provider_is_still_at_it_its_beginning_has_been_read(gateway: Gateway) -> None:
    async def watched(way: Way) -> tuple[str, bool]:
        """Whether it all came in the end."""
        client = Client()
        call = asyncio.ensure_future(client.call(gateway, way, scripted(way, f"{SAY} [[pace: 120ms]]")))
        await client.has(b"w00")
        entries = await asyncio.to_thread(books, gateway)
        (entry,) = [entry for entry in entries if entry["interaction"] == client.interaction]
        assert entry["ended"] is None, f"{way.name}: the provider had ended when its first word came"
        assert not call.done()
        await call
        return way.name, b"w11" in client.body

    async with asyncio.timeout(PATIENCE_S):
        found = await asyncio.gather(*map(watched, PACED))

    assert [name for name, is_whole in found if not is_whole] == []


def books(gateway: Gateway) -> list[dict[str, Any]]:
    url = f"{gateway.place.simulator.url}/_simulator/ledger?limit=10000"
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
        entries: list[dict[str, Any]] = json.load(reply)["entries"]
    return entries


@pytest.mark.parametrize("way", PACED, ids=named)
async def test_a_burst_of_thousands_of_events_arrives_whole(gateway: Gateway, way: Way) -> None:
    client = Client()

    async with asyncio.timeout(PATIENCE_S):
        await client.call(gateway, way, scripted(way, "Go on. [[tokens: 4000]]"))

    assert client.status == 200
    assert client.wire.endswith(b"0\r\n\r\n")
    assert gateway.record(client.interaction)["end"] == "completed"
    sent = gateway.seen_upstream(client.interaction)["sent"]
    if way.name in ("google array", "chat at anthropic"):
        assert len(client.body) > 400_000
    else:
        assert client.body == sent


@pytest.mark.parametrize("way", PACED[:4], ids=named)
async def test_a_client_that_reads_late_gets_everything(gateway: Gateway, way: Way) -> None:
    body = json.dumps(scripted(way, "Go on. [[tokens: 4000]]")).encode()
    head = (
        f"POST {way.path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\nauthorization: Bearer {gateway.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in way.headers.items())
    )
    received = bytearray()

    async with asyncio.timeout(PATIENCE_S), connected(gateway.port) as (reader, writer):
        writer.write(head.encode() + b"\r\n" + body)
        while piece := await reader.read(65536):
            received += piece
            if len(received) < 300_000:
                await asyncio.sleep(0.05)

    raw = RawReply(bytes(received), was_reset=False)
    seen = gateway.seen_upstream(raw.header("x-trueport-interaction") or "")
    assert raw.unchunked() == seen["sent"]
