"""Load for servers that are about to be killed, and the books that have to agree afterwards.

Three sides keep books: the client (what it saw), the simulated provider (what it received and billed) and the
product (trail and interaction log). `disagreements` compares them; nothing in it waits or reads.
"""

import asyncio
import json
import random
import re
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import aiohttp
import psutil

from tests.support.installation import Installation
from tests.support.simulator import SimulatorProcess

Document = Mapping[str, Any]

SETTLING_S = 30.0
NO_PREDECESSOR = "0" * 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client got of one call. `is_whole`: an answer of 200 with its proper end."""

    interaction: str | None
    status: int
    is_stream: bool
    is_whole: bool
    took_s: float
    limiter: str | None = None


@dataclass(frozen=True, slots=True)
class Books:
    """All three sides."""

    seen: Sequence[Seen]
    billed: Sequence[Document]
    records: Sequence[Document]
    rows: Sequence[Document]

    @property
    def ends(self) -> Counter[str]:
        return Counter(row["end"] for row in self.rows)


def chat(prompt: str, *, stream: bool = False, **members: object) -> dict[str, object]:
    return {"model": "sim-model", "stream": stream, "messages": [{"role": "user", "content": prompt}], **members}


async def call(session: aiohttp.ClientSession, url: str, key: str, body: dict[str, object]) -> Seen:
    """One call, read to its end or to where it breaks off. Raises aiohttp.ClientError when nothing came back."""
    started_s = time.monotonic()
    headers = {"authorization": f"Bearer {key}"}
    is_stream = bool(body.get("stream"))
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
        interaction, limiter = reply.headers.get("x-trueport-interaction"), reply.headers.get("x-ratelimit-mode")
        try:
            received = await reply.read()
        except aiohttp.ClientError:
            is_whole = False
        else:
            is_whole = reply.status == 200 and (not is_stream or received.endswith(b"data: [DONE]\n\n"))
        return Seen(interaction, reply.status, is_stream, is_whole, time.monotonic() - started_s, limiter)


async def keep_calling(
    url: str, key: str, seed: int, stop: asyncio.Event, *, parallel: int = 12, fresh: bool = False
) -> list[Seen]:
    """Streamed and plain calls, quick and slow ones, until `stop` is set; each then ends as it may.

    `fresh` opens a connection for every call, so that every worker gets some.
    """
    seen: list[Seen] = []

    async def caller(session: aiohttp.ClientSession, draw: random.Random) -> None:
        while not stop.is_set():
            tokens, pace_ms = draw.choice((5, 12, 30)), draw.choice((1, 5, 20))
            stream = draw.random() < 0.6
            pace = f"[[pace: {pace_ms}ms]]" if stream else f"[[fault: delay={draw.choice((1, 30, 120))}ms]]"
            try:
                seen.append(
                    await call(session, url, key, chat(f"n {tokens} [[tokens: {tokens}]]{pace}", stream=stream))
                )
            except (aiohttp.ClientError, OSError):
                # Nobody is there: the server was killed, or its worker is being replaced.
                await asyncio.sleep(0.05)

    connector = aiohttp.TCPConnector(limit=0, force_close=fresh)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(caller(session, random.Random(seed * 1_000 + i)) for i in range(parallel)))
    return seen


async def load_until(
    place: Installation, key: str, seed: int, deed: Callable[[], Awaitable[None]], *, fresh: bool = False
) -> list[Seen]:
    """Keep calling while `deed` runs; what the clients saw."""
    stop = asyncio.Event()
    load = asyncio.create_task(keep_calling(place.url, key, seed, stop, fresh=fresh))
    try:
        await deed()
    finally:
        stop.set()
        seen = await load
    return seen


def workers_of(place: Installation) -> list[psutil.Process]:
    """The worker processes of the running server."""
    return [child for child in _children(place) if not _is_database(child) and _is_worker(child)]


def database_of(place: Installation) -> psutil.Process:
    return next(child for child in _children(place) if _is_database(child))


def _children(place: Installation) -> list[psutil.Process]:
    assert place.server is not None
    return list(psutil.Process(place.server.pid).children())


def _is_database(process: psutil.Process) -> bool:
    return any("secantusd" in part for part in _command(process))


def _is_worker(process: psutil.Process) -> bool:
    command = _command(process)
    return bool(command) and not any("resource_tracker" in part for part in command)


def _command(process: psutil.Process) -> list[str]:
    """The process's command line; empty when it has ended."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too
        return []


def ledger(simulator: SimulatorProcess) -> list[dict[str, Any]]:
    """Every entry of the provider's books."""
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["seq"] if found else 0
        page = json.loads(fetch(f"{simulator.url}/_simulator/ledger?after={after}&limit=10000"))["entries"]
        if not page:
            return found
        found += page


def forget(simulator: SimulatorProcess) -> None:
    fetch(f"{simulator.url}/_simulator/reset", method="POST")


def fetch(url: str, *, method: str = "GET") -> bytes:
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=30) as reply:
        content: bytes = reply.read()
    return content


def in_flight(place: Installation) -> float:
    """The calls that the server says are under way, in all its workers."""
    text = fetch(f"{place.url}/metrics").decode()
    found = re.search(r"^trueport_calls_in_flight (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def settled_books(place: Installation, seen: Sequence[Seen]) -> Books:
    """The books once they agree, or as they are after some patience: the journal is shipped behind the calls."""
    deadline_s = time.monotonic() + SETTLING_S
    while True:
        records, rows = await asyncio.to_thread(_stored, place)
        books = Books(seen, ledger(place.simulator), records, rows)
        if not disagreements(books) or time.monotonic() > deadline_s:
            return books
        await asyncio.sleep(0.3)


def _stored(place: Installation) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return place.documents("audit_records"), place.documents("interactions")


def disagreements(books: Books) -> list[str]:
    """A line for everything that does not fit together; none when nothing was lost, doubled or altered."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for record in books.records:
        kinds[record["rid"]].append(record["kind"])
    return [
        *_repeated("record", (record["_id"] for record in books.records)),
        *_repeated("row", (row["_id"] for row in books.rows)),
        *_unclosed(kinds),
        *_unrecorded(books, kinds),
        *_broken_chains(books.records),
        *_misbilled(books),
        *_wrong_rows(books, kinds),
    ]


def _repeated(what: str, names: Iterable[str]) -> list[str]:
    return [f"{what} {name} is there {count} times" for name, count in Counter(names).items() if count > 1]


def _unclosed(kinds: Mapping[str, list[str]]) -> list[str]:
    """Every intent has exactly one end; ends without an intent belong to calls that were refused."""
    found = []
    for rid, own in kinds.items():
        ends = own.count("outcome") + own.count("abandoned")
        if "intent" in own and ends != 1:
            found.append(f"{rid} has an intent and {ends} ends")
    return found


def _unrecorded(books: Books, kinds: Mapping[str, list[str]]) -> list[str]:
    unknown = [entry["interaction"] for entry in books.billed if "intent" not in kinds.get(entry["interaction"], ())]
    found = [f"the provider received {rid}, of which there is no intent" for rid in unknown]
    for seen in books.seen:
        own = kinds.get(seen.interaction or "", [])
        if seen.is_whole and not own:
            found.append(f"the client had an answer of {seen.interaction}, of which there is no record")
        # A plain answer is handed out after its outcome is written; of a stream only the last event is.
        if seen.is_whole and not seen.is_stream and "outcome" not in own:
            found.append(f"the client had the whole answer of {seen.interaction}, which has no outcome")
    return found


def _broken_chains(records: Sequence[Document]) -> list[str]:
    chains: dict[tuple[str, str], list[Document]] = defaultdict(list)
    found = []
    for record in records:
        chains[record["tenant_id"], record["writer"]].append(record)
        said = json.loads(record["canonical"])
        if sha256(b"\x00" + record["canonical"]).hexdigest() != record["leaf"]:
            found.append(f"{record['_id']} does not have the leaf of its bytes")
        if any(said[name] != record[name] for name in ("rid", "kind", "writer", "wseq")):
            found.append(f"{record['_id']} says something else than its bytes")
    for (_, writer), chain in chains.items():
        prev = NO_PREDECESSOR
        for wseq, record in enumerate(sorted(chain, key=lambda each: int(each["wseq"]))):
            said = json.loads(record["canonical"])
            if record["wseq"] != wseq or said["prev"] != prev:
                found.append(f"the chain of {writer} breaks at {wseq} of {len(chain)}")
                break
            prev = record["leaf"]
    return found


def _misbilled(books: Books) -> list[str]:
    billed: Counter[str] = Counter()
    for entry in books.billed:
        billed[entry["interaction"]] += entry["total_tokens"]
    by_provider = [row for row in books.rows if row["usage_source"] == "provider"]
    return [
        f"{row['_id']} ({row['end']}) metered {row['total_tokens']} tokens, the provider billed {billed[row['_id']]}"
        for row in by_provider
        if row["total_tokens"] != billed[row["_id"]]
    ]


def _wrong_rows(books: Books, kinds: Mapping[str, list[str]]) -> list[str]:
    rows = {row["_id"]: row for row in books.rows}
    found = [f"{rid} has records and no row" for rid in kinds if rid.startswith("int_") and rid not in rows]
    for rid, row in rows.items():
        if ("abandoned" in kinds.get(rid, ())) != (row["end"] == "abandoned"):
            found.append(f"the row of {rid} ends as {row['end']}, its records are {kinds.get(rid)}")
        if row["end"] == "abandoned" and (row["usage_source"] != "none" or row["total_tokens"]):
            found.append(f"{rid} is abandoned and has usage")
        if row["end"] == "in_progress":
            found.append(f"{rid} is still in progress")
    return found
