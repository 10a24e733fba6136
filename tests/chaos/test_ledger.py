"""What the product metered against what the provider billed, call by call, over every dialect and provider.

Calls report cached, written, reasoned and searched tokens, misreport them, and lose their client. Where the provider's
numbers arrived, both sides' books are the same number for number, and so is the price; where they did not, the row
says that it is an estimate. A failing run prints its seed; CHAOS_SEED repeats its calls.
"""

import asyncio
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, Literal

import pytest

from tests.support.chaos_load import Books, disagreements, ledger
from tests.support.installation import PATIENCE_S, Installation, installation
from tests.support.money import FORMS, MODELS, Form, cost_nano_usd, furnish, prices, raw_request, request_of, sent
from tests.support.simulator import connected

SEED: Final = int(os.environ.get("CHAOS_SEED", "20261123"))
CALLS: Final = 800
MANY_CALLS: Final = 20_000
DEPARTURES: Final = 0.1
MISREPORTS: Final = 0.2
TOGETHER: Final = 24

Goodbye = Literal["fin", "rst"]

# Stated in the provider's own terms: OpenAI has one kind of cache write, Google none.
USED: Final[Mapping[str, Sequence[str]]] = {
    "openai": ("cached=700", "cached=300 cache_write=200", "reasoning=31", "cached=640 reasoning=17", ""),
    "anthropic": (
        *("cached=700", "cache_write=400", "cache_write=400 cache_write_1h=150", "cache_write=90 cache_write_1h=90"),
        *("reasoning=31", "web_searches=3", "cached=512 cache_write=128 cache_write_1h=64 web_searches=1", ""),
    ),
    "google": ("cached=700", "reasoning=31", "tool_prompt=50", "cached=128 reasoning=7 tool_prompt=33", ""),
}
SHAPES: Final = (
    *("missing", "null", "duplicate", "decreasing", "growing", "negative"),
    *("nan", "huge", "string", "float", "wrong-total", "cached-over-prompt"),
)
_ENDS_WITH_USAGE: Final = ("responses stream", "generate stream", "generate array")
NUMBERS: Final = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "cached_tokens": "cached_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "web_searches": "web_searches",
    "audio_ms": "audio_ms",
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A call to be made. `leaves_after` pieces of its stream its client goes, saying `goodbye`."""

    name: str
    form: Form
    provider: str
    prompt: str
    shape: str | None = None
    goodbye: Goodbye | None = None
    leaves_after: int = 0

    @property
    def wire(self) -> str:
        return "openai" if self.provider == "azure" else self.provider

    @property
    def is_translated(self) -> bool:
        return ("openai" if self.form.dialect == "azure" else self.form.dialect) != self.wire

    @property
    def status(self) -> int:
        return 502 if self.cannot_be_read and not self.form.streams else 200

    @property
    def cannot_be_read(self) -> bool:
        """NaN is no JSON: what holds it can be passed on as it came, but it neither translates nor ends a stream."""
        return self.shape == "nan" and (self.is_translated or self.form.name in _ENDS_WITH_USAGE)


def _plan(draw: random.Random, calls: int) -> list[Planned]:
    """Every form at every provider in turn, so that none is left out however few calls there are."""
    pairs = [(form, provider) for form in FORMS.values() for provider in form.providers]
    return [_planned(draw, f"ledger-{calls}-{number}", *pairs[number % len(pairs)]) for number in range(calls)]


def _planned(draw: random.Random, name: str, form: Form, provider: str) -> Planned:
    wire = "openai" if provider == "azure" else provider
    if form.is_embedding:
        return Planned(name, form, provider, f"{name} {'words ' * draw.randrange(1, 40)}")
    stated = f"[[usage: prompt={draw.randrange(900, 3_000)} completion={draw.randrange(40, 90)} "
    prompt = f"{name} [[tokens: {draw.randrange(5, 20)}]]{stated}{draw.choice(USED[wire])}]]"
    if draw.random() < DEPARTURES:
        goodbye: Goodbye = draw.choice(("fin", "rst"))
        if form.streams:
            return Planned(
                name, form, provider, f"{prompt}[[pace: 8ms]]", goodbye=goodbye, leaves_after=draw.randrange(1, 10)
            )
        return Planned(name, form, provider, f"{prompt}[[fault: delay=20s]]", goodbye=goodbye)
    if draw.random() < MISREPORTS:
        shape = draw.choice(SHAPES)
        return Planned(name, form, provider, f"{prompt}[[fault: usage={shape}]]", shape=shape)
    return Planned(name, form, provider, prompt)


async def _make(place: Installation, key: str, planned: Planned) -> None:
    request = request_of(planned.form, MODELS[planned.provider], planned.prompt, key, {"x-request-id": planned.name})
    if planned.goodbye is None:
        got = await sent(place.port, request)
        assert got.status == planned.status, (planned, got.status, got.body[:300])
        return
    async with asyncio.timeout(PATIENCE_S), connected(place.port) as (reader, writer):
        writer.write(request)
        if not planned.form.streams:
            await asyncio.sleep(0.15)
        received = b""
        while received.count(_piece(planned.form)) < planned.leaves_after:
            data = await reader.read(65536)
            if not data:
                break
            received += data
        if planned.goodbye == "rst":
            opened = writer.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            writer.write_eof()
            await asyncio.sleep(0.05)


def _piece(form: Form) -> bytes:
    return b'"candidates"' if form.dialect == "google" else b"data: "


def _believed(planned: Planned, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the row has to say, given what was billed; None where no number can have arrived that may be believed."""
    told: dict[str, Any] = {name: entry[billed] for name, billed in NUMBERS.items()}
    told["cache_write_tokens"] = entry["cache_write_tokens"] - entry["cache_write_1h_tokens"]
    told["usage_source"], told["usage_doubtful"] = "provider", False
    match planned.shape:
        case "missing" | "null" | "negative" | "nan" | "huge" | "string" | "float":
            return None
        case "growing" if planned.wire == "anthropic" and told["reasoning_tokens"]:
            # Early events tell of more thinking than output: doubted when they come, and corrected by the last.
            del told["usage_doubtful"]
        case "decreasing" if not planned.form.streams:
            # One JSON object with two members of a name: the second is what it says.
            told["output_tokens"], told["reasoning_tokens"] = told["output_tokens"] // 2, told["reasoning_tokens"] // 2
        case "wrong-total":
            # This one is sent with the two wholes alone.
            told |= dict.fromkeys((*list(NUMBERS)[2:], "cache_write_tokens"), 0)
        case "cached-over-prompt" if planned.wire == "anthropic":
            # There the cache stands beside the input, so it cannot be larger than a whole: it is simply read.
            told["cached_tokens"] = entry["prompt_tokens"] + 1_000
            told["input_tokens"] = told["cached_tokens"] + entry["cache_write_tokens"]
        case "cached-over-prompt":
            told |= {"cached_tokens": 0, "cache_write_tokens": 0, "usage_doubtful": True}
        case _:
            pass
    return told


def _faults(planned: Planned, row: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing about one call in which both sides' books differ."""
    who = f"{planned.name} ({planned.form.name} at {planned.provider}, {planned.shape or planned.goodbye or 'plain'})"
    if row["end"] == "client_closed":
        yield from _departed_faults(who, planned, row, entry)
        return
    end = "upstream_failed" if planned.cannot_be_read else "completed"
    if (row["end"], row["status"]) != (end, planned.status):
        yield f"{who} ends as {row['end']} {row['status']} {row['error']}"
        return
    wanted = _believed(planned, entry)
    if wanted is None:
        if row["usage_source"] != "estimated":
            yield f"{who} has a usage from {row['usage_source']}, which cannot be"
        if planned.shape in ("negative", "huge", "string", "float") and not row["usage_doubtful"]:
            yield f"{who} is not marked doubtful"
        has_output = row["output_tokens"] > 0 or planned.cannot_be_read
        if row["input_tokens"] <= 0 or not has_output or not row["cost_nano_usd"]:
            yield f"{who} is estimated at nothing: {row['input_tokens']} and {row['output_tokens']}"
        return
    for name, value in wanted.items():
        found = row.get(name, 0)
        if found != value:
            yield f"{who} has {name} {found} and not {value}"
    cost = cost_nano_usd(planned.provider, _as_entry(wanted))
    if row["cost_nano_usd"] != cost:
        yield f"{who} costs {row['cost_nano_usd']} and not {cost}"


def _departed_faults(who: str, planned: Planned, row: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    if planned.goodbye is None:
        yield f"{who} ends as if its client had left"
    # OpenAI's numbers stand before the end mark: whoever leaves in between leaves a call that is counted to its end.
    is_counted = planned.wire == "openai" and row["total_tokens"] == entry["total_tokens"]
    if row["usage_source"] != "estimated" and not is_counted:
        yield f"{who} was left by its client and is not marked as estimated"
    if row["input_tokens"] <= 0 or row["cost_nano_usd"] is None:
        yield f"{who} was left by its client and read {row['input_tokens']}, cost {row['cost_nano_usd']}"
    if entry["events_sent"] and row["output_tokens"] > max(entry["completion_tokens"], entry["events_sent"]):
        yield f"{who} was left by its client with {row['output_tokens']} of {entry['completion_tokens']} tokens"


def _as_entry(wanted: Mapping[str, Any]) -> dict[str, int]:
    """The row's numbers in the words of the provider's books."""
    told = {billed: wanted[name] for name, billed in NUMBERS.items()}
    return told | {"cache_write_tokens": wanted["cache_write_tokens"] + wanted["cache_write_1h_tokens"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    with installation(tmp_path_factory.mktemp("ledger") / "data") as found:
        key = furnish(found, {"acme": {"prices": prices()}})["acme"].key
        found.serve()
        yield found, key


async def _settle(place: Installation, key: str, calls: int) -> None:
    draw = random.Random(SEED)
    plan = _plan(draw, calls)
    turn = asyncio.Semaphore(TOGETHER)

    async def one(planned: Planned) -> None:
        async with turn:
            await _make(place, key, planned)

    await asyncio.gather(*map(one, plan))

    books = await _books(place, {planned.name for planned in plan})
    rows = {row["request_id"]: row for row in books.rows}
    by_call = {entry["interaction"]: entry for entry in books.billed}
    print(_report(plan, rows, len(books.billed)))  # noqa: T201 - the numbers of the run, shown with -s or on failure
    # Nothing is missing and nothing there twice, on either side.
    assert len(books.rows) == len(rows) == len(plan)
    assert len(books.billed) == len(by_call)
    unseen = [planned for planned in plan if rows[planned.name]["_id"] not in by_call]
    assert unseen == []
    faults = [
        fault for planned in plan for fault in _faults(planned, rows[planned.name], by_call[rows[planned.name]["_id"]])
    ]
    assert not faults, "\n".join(faults)
    assert [line for line in disagreements(await _everything(place)) if "metered" not in line] == []


async def _books(place: Installation, names: Set[str]) -> Books:
    """Both sides' books of the calls with these request ids, once they have ended on both."""
    # The journal is shipped behind the calls.
    until_s = time.monotonic() + PATIENCE_S + 0.02 * len(names)
    while True:
        rows = [row for row in await asyncio.to_thread(place.documents, "interactions") if row["request_id"] in names]
        own = {row["_id"] for row in rows}
        entries = [entry for entry in ledger(place.simulator) if entry["interaction"] in own]
        is_over = len(rows) >= len(names) and all(row["end"] != "in_progress" for row in rows)
        if (is_over and all(entry["ended"] for entry in entries)) or time.monotonic() > until_s:
            break
        await asyncio.sleep(0.3)
    return Books([], entries, [], rows)


async def _everything(place: Installation) -> Books:
    """Both sides' books as they are, of all calls: the trail's chains run through them all."""
    records = await asyncio.to_thread(place.documents, "audit_records")
    return Books([], ledger(place.simulator), records, await asyncio.to_thread(place.documents, "interactions"))


def _report(plan: Sequence[Planned], rows: Mapping[str, Any], upstream: int) -> str:
    sources = Counter((row["end"], row["usage_source"]) for row in rows.values())
    translated = sum(planned.is_translated for planned in plan)
    return f"seed {SEED}: {len(plan)} calls, {translated} translated, {upstream} at the provider, {dict(sources)}"


@pytest.mark.timeout(150)
async def test_what_was_metered_is_what_was_billed(place: tuple[Installation, str]) -> None:
    await _settle(*place, CALLS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_what_was_metered_is_what_was_billed_twenty_thousand_times(place: tuple[Installation, str]) -> None:
    await _settle(*place, MANY_CALLS)


async def test_sound_is_billed_by_its_length(place: tuple[Installation, str]) -> None:
    server, key = place
    mark = "sound-boundary"
    fields = {"model": "whisper-1", "prompt": "[[usage: audio_ms=62000]]", "response_format": "verbose_json"}
    parts = [
        f'--{mark}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nID3\r\n--{mark}--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary={mark}", "x-request-id": "sound"}

    request = raw_request("/v1/audio/transcriptions", "".join([*parts, file]).encode(), key, headers)
    got = await sent(server.port, request)

    assert got.status == 200, got.body
    books = await _books(server, {"sound"})
    (row,), (entry,) = books.rows, books.billed
    assert entry["audio_ms"] == 62_000
    assert (row["audio_ms"], row["usage_source"]) == (entry["audio_ms"], "provider")
    assert row["cost_nano_usd"] == cost_nano_usd("openai", {**entry, "prompt_tokens": 0, "completion_tokens": 0})
