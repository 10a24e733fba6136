"""Streams under policies on a real server: they come as they are written, and nothing that policy forbids comes."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.support.installation import PATIENCE_S, Installation, installation
from tests.support.money import (
    FORMS,
    MODELS,
    ROUTES,
    Access,
    Got,
    ask,
    credentials,
    furnish,
    request_of,
    row_of,
)
from tests.support.ports import free_port
from tests.support.simulator import RawReply, connected
from tests.support.streams_of_guard import CALL, TEXT, THOUGHT, Piece, texts, written
from trueport.gateway.guard.forms import ClientForm

THEIRS: Final = "eve@x.example"
SAUCE: Final = "the secret sauce"
REDACTS: Final = {"name": "theirs", "on": ["output"], "when": {"regex": r"eve@x\.example"}, "action": "redact"}
BLOCKS: Final = {
    "name": "sauce",
    "on": ["output"],
    "when": {"regex": r"the\s{1,3}secret\s{1,3}sauce"},
    "action": "block",
}
POLICIES: Final[list[dict[str, Any]]] = [REDACTS, BLOCKS]
UNREAD: Final = {"name": "unread", "on": ["output"], "when": {"category": "toxicity"}, "action": "block"}
STREAMS: Final = [name for name, form in FORMS.items() if form.streams]
CLIENT_FORMS: Final[Mapping[str, ClientForm]] = {
    "chat stream": "openai_chat",
    "completions stream": "openai_completions",
    "responses stream": "openai_responses",
    "messages stream": "anthropic",
    "generate stream": "google_sse",
    "generate array": "google_array",
    "azure stream": "openai_chat",
}
# A provider's own form: Google is asked for events also by a client who wants an array.
SENT_AS: Final = {**CLIENT_FORMS, "generate array": "google_sse"}
TRANSLATED: Final = [
    (form, provider)
    for form in ("chat stream", "responses stream", "messages stream", "generate stream", "generate array")
    for provider in ("openai", "anthropic", "google")
    if provider != FORMS[form].dialect
]
PROVIDERS_FORM: Final[Mapping[str, ClientForm]] = {
    "openai": "openai_chat", "anthropic": "anthropic", "google": "google_sse",
}  # fmt: skip
STEP_PORT: Final = free_port()


class House:
    def __init__(self, place: Installation, tenants: Mapping[str, Access]) -> None:
        self.place = place
        self.tenants = tenants

    async def ask(self, form: str, prompt: str, *, slug: str = "acme", **given: Any) -> Got:
        return await ask(self.place, form, prompt, self.tenants[slug].key, **given)

    async def row(self, interaction: str) -> Mapping[str, Any]:
        return await row_of(self.place, interaction)

    async def held_ms(self, interaction: str) -> int:
        """What the outcome's record says."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for record in await asyncio.to_thread(self.place.documents, "audit_records"):
                    if record["_id"] == f"{interaction}#outcome":
                        return int(json.loads(record["canonical"])["held_ms"])
                await asyncio.sleep(0.1)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.place.url}/metrics", timeout=PATIENCE_S) as reply:
            found = re.search(rf"^{name}\S* (\S+)$", reply.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with installation(tmp_path_factory.mktemp("guarded") / "data") as place:
        secret = {"env": "SIM_KEY"}
        step = {
            f"step-{name}": {
                "provider": name, "secret": secret,
                "base_url": f"http://127.0.0.1:{STEP_PORT}" + ("/v1" if name == "openai" else ""),
            }
            for name in ("openai", "anthropic", "google", "azure")
        }  # fmt: skip
        base = {
            "credentials": {**credentials(place), **step},
            "routes": [*({"match": {"model": name}, "targets": [{"credential": name}]} for name in step), *ROUTES],
        }
        tenants = furnish(
            place,
            {
                "acme": {**base, "policies": POLICIES},
                "free": base,
                "shadow": {**base, "policies": [{**one, "mode": "shadow"} for one in POLICIES]},
                "unread": {**base, "policies": [UNREAD]},
                "lenient": {**base, "policies": [{**UNREAD, "on_failure": "allow"}]},
            },
        )
        place.serve()
        yield House(place, tenants)


# --- a provider that waits -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """What the provider's script has of its connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, *events: bytes) -> None:
        for event in events:
            self.writer.write(b"%x\r\n%b\r\n" % (len(event), event))

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def until_left(self) -> None:
        """Until the gateway has ended the connection."""
        try:
            while await self.reader.read(1024):
                pass
        except ConnectionError:
            return


@asynccontextmanager
async def provider(play: Callable[[Wire], Awaitable[None]]) -> AsyncIterator[None]:
    """One that answers every call by this script; what goes wrong in it is raised at the end."""
    played: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        played.append(asyncio.ensure_future(play(Wire(reader, writer))))
        await asyncio.wait(played)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", STEP_PORT)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
            await asyncio.gather(*played)
    finally:
        server.close()


class Client:
    """One streamed call."""

    def __init__(self) -> None:
        self.wire = bytearray()
        self._grown = asyncio.Condition()

    @property
    def raw(self) -> RawReply:
        return RawReply(bytes(self.wire), was_reset=False)

    @property
    def body(self) -> bytes:
        return self.raw.unchunked() if b"\r\n\r\n" in self.wire else b""

    @property
    def interaction(self) -> str:
        return self.raw.header("x-trueport-interaction") or ""

    async def call(self, house: House, form: str, *, slug: str = "acme", model: str | None = None) -> None:
        chosen = FORMS[form]
        request = request_of(chosen, model or f"step-{chosen.dialect}", "Go on.", house.tenants[slug].key)
        async with connected(house.place.port) as (reader, writer):
            writer.write(request)
            while piece := await reader.read(65536):
                async with self._grown:
                    self.wire += piece
                    self._grown.notify_all()

    async def has(self, needle: bytes) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: needle in self.body)

    async def has_head(self) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: b"\r\n\r\n" in self.wire)


def events_of(form: ClientForm, *pieces: Piece) -> list[bytes]:
    return written(form, pieces)


def said_by(form: str, body: bytes) -> str:
    """What the client understands of the answer's text."""
    return texts(CLIENT_FORMS[form], body)[TEXT]


def ends(form: str, body: bytes) -> bool:
    return FORMS[form].end_mark in body


def error_in(form: str, body: bytes) -> Mapping[str, Any]:
    """The error that a stream ends with, as its last event."""
    if form == "generate array":
        assert not body.rstrip().endswith(b"]")
        document = json.loads(body + b"]")[-1]
    else:
        last = body.strip().replace(b"\r\n", b"\n").split(b"\n\n")[-1]
        document = json.loads(re.findall(rb"^data: (.*)", last, re.MULTILINE)[0])
    error: Mapping[str, Any] = document["error"]
    return error


def code_of(error: Mapping[str, Any]) -> str:
    reasons = [detail["reason"].lower() for detail in error.get("details", ()) if "reason" in detail]
    return str(reasons[0] if reasons else error["code"])


# --- redaction ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", STREAMS)
async def test_a_guarded_stream_differs_from_a_free_one_in_what_was_redacted_alone(house: House, form: str) -> None:
    prompt = f"[[say: {'One word after another. ' * 20}Ask {THEIRS} for it, {THEIRS} knows. Bye.]] [[pace: 0ms]]"

    guarded = await house.ask(form, prompt)
    free = await house.ask(form, prompt, slug="free")

    assert (guarded.status, guarded.headers["x-trueport-decision"]) == (200, "allow")
    assert THEIRS.encode() not in guarded.body
    assert said_by(form, guarded.body) == said_by(form, free.body).replace(THEIRS, "[CUSTOM_1]")
    assert ends(form, guarded.body)
    row, plain = await house.row(guarded.interaction), await house.row(free.interaction)
    assert (row["end"], row["decision"]) == ("completed", "redact")
    assert (row["total_tokens"], row["usage_source"]) == (plain["total_tokens"], "provider")


@pytest.mark.parametrize("form", STREAMS)
async def test_a_guarded_stream_in_which_nothing_is_found_is_the_providers_own(house: House, form: str) -> None:
    client = Client()
    sent = events_of(SENT_AS[form], (TEXT, "Nothing "), (TEXT, "is wrong with thís. "), (TEXT, "Bye."))

    async def play(wire: Wire) -> None:
        wire.send(*sent)
        wire.end()

    async with provider(play):
        await client.call(house, form)

    # Numbers that the client did not ask for are kept from it.
    sent = [event for event in sent if b'"prompt_tokens"' not in event]
    body = b"".join(sent)
    if form == "generate array":
        body = b"[" + b",\r\n".join(event.removeprefix(b"data: ").strip() for event in sent) + b"]"
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    assert client.body.replace(ping, b"") == body.replace(ping, b"")
    assert (await house.row(client.interaction))["decision"] == "allow"


@pytest.mark.parametrize(("form", "provider_name"), TRANSLATED)
async def test_a_translated_stream_is_guarded_in_the_clients_form(house: House, form: str, provider_name: str) -> None:
    told = f"{'One word after another. ' * 20}Ask {THEIRS} for it. Bye."
    blocked = await house.ask(form, f"[[say: {'word ' * 60}{SAUCE} and more]]", model=MODELS[provider_name])
    redacted = await house.ask(form, f"[[say: {told}]]", model=MODELS[provider_name])

    assert said_by(form, redacted.body) == told.replace(THEIRS, "[CUSTOM_1]")
    assert ends(form, redacted.body)
    assert code_of(error_in(form, blocked.body)) == "content_policy_violation"
    assert not ends(form, blocked.body)
    assert b"secret" not in blocked.body


@pytest.mark.parametrize("form", ["chat stream", "responses stream", "messages stream"])
async def test_arguments_of_a_tool_stay_json(house: House, form: str) -> None:
    client = Client()
    arguments = json.dumps({"to": THEIRS, "n": 1})
    pieces = [(TEXT, "I call. "), *((CALL, arguments[at : at + 3]) for at in range(0, len(arguments), 3))]

    async def play(wire: Wire) -> None:
        wire.send(*events_of(SENT_AS[form], *pieces))
        wire.end()

    async with provider(play):
        await client.call(house, form)

    assert b"eve@" not in client.body
    assert json.loads(texts(CLIENT_FORMS[form], client.body)[CALL]) == {"to": "[CUSTOM_1]", "n": 1}


# --- in step --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", STREAMS)
async def test_text_is_with_the_client_before_the_provider_has_finished(house: House, form: str) -> None:
    client = Client()
    words = ["begun ", *["word "] * 40, "Bye."]
    sent = events_of(SENT_AS[form], *((TEXT, word) for word in words))
    split = next(number for number, event in enumerate(sent) if b"Bye" in event)

    async def play(wire: Wire) -> None:
        wire.send(*sent[:split])
        await client.has(b"begun")
        wire.send(*sent[split:])
        wire.end()

    # Neither side goes on if the beginning is kept back.
    async with provider(play):
        await client.call(house, form)

    assert said_by(form, client.body) == "".join(words)


@pytest.mark.parametrize(("form", "provider_name"), TRANSLATED)
async def test_so_is_translated_text(house: House, form: str, provider_name: str) -> None:
    client = Client()
    words = ["begun ", *["word "] * 40, "Bye."]
    sent = events_of(PROVIDERS_FORM[provider_name], *((TEXT, word) for word in words))
    split = next(number for number, event in enumerate(sent) if b"Bye" in event)

    async def play(wire: Wire) -> None:
        wire.send(*sent[:split])
        await client.has(b"begun")
        wire.send(*sent[split:])
        wire.end()

    async with provider(play):
        await client.call(house, form, model=f"step-{provider_name}")

    assert said_by(form, client.body) == "".join(words)


@pytest.mark.parametrize("form", STREAMS)
async def test_a_shadow_policy_lets_every_event_by_before_the_next_and_is_recorded(house: House, form: str) -> None:
    client = Client()
    sent = events_of(SENT_AS[form], *((TEXT, text) for text in ("Ask ev", "e@x.ex", "ample for the se", "cret sauce.")))
    needles = [b"Ask ev", b"e@x.ex", b"ample for the se", b"cret sauce."]

    async def play(wire: Wire) -> None:
        for event in sent:
            wire.send(event)
            for needle in needles:
                if needle in event:
                    await client.has(needle)
        wire.end()

    async with provider(play):
        await client.call(house, form, slug="shadow")

    assert said_by(form, client.body) == f"Ask {THEIRS} for {SAUCE}."
    assert (await house.row(client.interaction))["decision"] == "allow"
    found = await violations(house, client.interaction)
    assert {(one["policy"], one["mode"]) for one in found} == {("theirs", "shadow"), ("sauce", "shadow")}


async def violations(house: House, interaction: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            documents = await asyncio.to_thread(house.place.documents, "violations")
            found = [one for one in documents if one["interaction_id"] == interaction]
            if len(found) > 1:
                return found
            await asyncio.sleep(0.1)


# --- blocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", STREAMS)
async def test_a_block_ends_the_stream_and_the_providers_work_at_once(house: House, form: str) -> None:
    client = Client()
    text = "word " * 60
    pieces = [*["word "] * 60, "the sec", "ret sauce", " is vinegar. " * 6]
    sent = events_of(SENT_AS[form], *((TEXT, piece) for piece in pieces))
    last = next(number for number, event in enumerate(sent) if b"vinegar" in event)

    async def play(wire: Wire) -> None:
        wire.send(*sent[: last + 1])
        # Nothing more comes: the stream ends for the sake of what has come, and here ends the connection.
        await wire.until_left()

    async with provider(play):
        await client.call(house, form)

    assert b" sec" not in client.body
    assert text.startswith(said_by(form, client.body).rstrip())
    assert len(said_by(form, client.body)) > 200
    assert code_of(error_in(form, client.body)) == "content_policy_violation"
    assert not ends(form, client.body)
    row = await house.row(client.interaction)
    assert (row["end"], row["error"], row["decision"]) == ("refused", "content_policy_violation", "block")
    assert row["total_tokens"] > 0


async def test_a_signed_thought_that_policy_would_change_ends_the_stream(house: House) -> None:
    client = Client()
    sent = events_of("anthropic", (THOUGHT, "It is " * 30), (THOUGHT, f"up to {THEIRS}. "), (TEXT, "Fine."))

    async def play(wire: Wire) -> None:
        wire.send(*sent)
        wire.end()

    async with provider(play):
        await client.call(house, "messages stream")

    assert b"eve@" not in client.body
    assert b"signature_delta" not in client.body
    assert code_of(error_in("messages stream", client.body)) == "content_policy_violation"


@pytest.mark.parametrize("form", STREAMS)
async def test_what_nobody_could_read_ends_the_stream_unless_the_policy_lets_it_pass(house: House, form: str) -> None:
    stopped = await house.ask(form, "[[say: hello]]", slug="unread")
    passed = await house.ask(form, "[[say: hello]]", slug="lenient")

    assert stopped.status == 200
    assert code_of(error_in(form, stopped.body)) == "detector_unavailable"
    assert not ends(form, stopped.body)
    assert b"hello" not in stopped.body
    assert said_by(form, passed.body) == "hello"
    assert ends(form, passed.body)
    assert (await house.row(stopped.interaction))["error"] == "detector_unavailable"
    assert (await house.row(passed.interaction))["end"] == "completed"


# --- ends that nobody planned ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", STREAMS)
async def test_what_was_held_when_the_provider_broke_off_is_judged_and_delivered(house: House, form: str) -> None:
    client = Client()
    pieces = ["begun ", *["word "] * 40, f"Ask {THEIRS} or ", "eve@x.", "Bye."]
    sent = events_of(SENT_AS[form], *((TEXT, piece) for piece in pieces))
    cut = next(number for number, event in enumerate(sent) if b"Bye" in event)

    async def play(wire: Wire) -> None:
        # In one piece, so that its end has come in when its beginning is with the client.
        wire.send(b"".join(sent[:cut]))
        await client.has(b"begun")
        wire.writer.write_eof()

    async with provider(play):
        await client.call(house, form)

    assert said_by(form, client.body) == "".join(pieces[:-1]).replace(THEIRS, "[CUSTOM_1]")
    assert code_of(error_in(form, client.body)) == "upstream_truncated"
    row = await house.row(client.interaction)
    assert (row["end"], row["decision"]) == ("upstream_failed", "redact")


@pytest.mark.parametrize("form", STREAMS)
async def test_a_client_that_leaves_while_text_is_held_ends_the_providers_work(house: House, form: str) -> None:
    client = Client()
    sent = events_of(SENT_AS[form], (TEXT, "Ask eve@"), (TEXT, "x.example."))
    cut = next(number for number, event in enumerate(sent) if b"eve@" in event) + 1
    has_sent, has_left = asyncio.Event(), asyncio.Event()

    async def play(wire: Wire) -> None:
        wire.send(*sent[:cut])
        has_sent.set()
        await wire.until_left()
        has_left.set()

    async with provider(play):
        call = asyncio.ensure_future(client.call(house, form))
        await asyncio.gather(has_sent.wait(), client.has_head(), client.has(b"".join(sent[: cut - 1])))
        call.cancel()
        await has_left.wait()

    assert b"eve@" not in client.body
    row = await house.row(client.interaction)
    assert (row["end"], row["error"]) == ("client_closed", "client_closed")
    assert row["total_tokens"] > 0


async def test_the_time_held_is_in_the_record_and_the_metrics(house: House) -> None:
    before = house.metric("trueport_held_seconds_count")
    client = Client()
    sent = events_of("openai_chat", (TEXT, "eve@"), (TEXT, "x.example. Bye."))
    shortest_s = 0.05

    async def play(wire: Wire) -> None:
        wire.send(*sent[:2])
        await asyncio.sleep(shortest_s)
        wire.send(*sent[2:])
        wire.end()

    async with provider(play):
        await client.call(house, "chat stream")

    assert await house.held_ms(client.interaction) > 0
    assert house.metric("trueport_held_seconds_count") > before
