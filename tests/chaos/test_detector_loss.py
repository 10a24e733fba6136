"""The detection server dies, hangs, slows down and lies at seeded random moments: nothing unguarded passes.

Under a policy that blocks on failure every call is blocked, refused or judged; under one that lets pass, the record
says what nobody read. A failing run prints its seed; CHAOS_SEED repeats it as far as scheduling lets it.
"""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.e2e.test_screening import without
from tests.support.installation import Installation, installation
from tests.support.money import Access, Got, ask, billed, furnish, rows_of
from tests.support.triton_process import TritonProcess, triton_process

SEED: Final = int(os.environ.get("CHAOS_SEED", "20261123"))
MOMENTS: Final = 10
MANY_MOMENTS: Final = 200
CALLERS: Final = 3
# What the stub finds toxic, and what no provider and no client may see.
CANARY: Final = "idiot"
TOXIC: Final[dict[str, Any]] = {
    "name": "toxic",
    "when": {"category": "toxicity"},
    "action": "block",
    "timeout_ms": 800,
}
STRUCK: Final = ("kill", "stop", "slow", "NaN", "shape")
REFUSALS: Final = {400: "content_policy_violation", 503: "detector_unavailable"}
KINDS: Final = ("harmless", "harmful", "harmful answer")
FORMS: Final = ("chat", "chat stream", "messages", "messages stream")


@dataclass(frozen=True)
class House:
    place: Installation
    tenants: dict[str, Access]
    triton: TritonProcess

    async def ask(self, slug: str, form: str, prompt: str) -> Got:
        return await ask(self.place, form, prompt, self.tenants[slug].keys["main"][1])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with triton_process() as triton:
        url = f"triton://127.0.0.1:{triton.port}?fallback=none&timeout_ms=400&models=toxicity"
        folder = tmp_path_factory.mktemp("detector_loss") / "data"
        with installation(folder, TRUEPORT_DETECTION_URL=url) as place:
            tenants = furnish(
                place,
                {
                    "strict": {"policies": [TOXIC]},
                    "output": {"policies": [{**TOXIC, "on": ["output"]}]},
                    "rules": {"policies": [{**TOXIC, "on_failure": "rules_only"}]},
                    "lenient": {"policies": [{**TOXIC, "on_failure": "allow"}]},
                },
            )
            place.serve()
            yield House(place, tenants, triton)


@asynccontextmanager
async def struck(house: House, how: str) -> AsyncIterator[None]:
    """The server is in this state within the block, and well again behind it."""
    triton = house.triton
    match how:
        case "kill":
            await asyncio.to_thread(triton.kill)
        case "stop":
            triton.signal(signal.SIGSTOP)
        case _:
            await asyncio.to_thread(triton.tell, how)
    try:
        yield
    finally:
        match how:
            case "kill":
                await asyncio.to_thread(triton.start)
            case "stop":
                triton.signal(signal.SIGCONT)
            case _:
                await asyncio.to_thread(triton.tell, "truth")


async def keep_asking(house: House, draw: random.Random, stop: asyncio.Event) -> list[tuple[str, Got]]:
    """Harmless prompts, harmful ones, and harmless ones whose answer is harmful, each another text."""
    seen = []
    while not stop.is_set():
        kind, number = draw.choice(KINDS), draw.randrange(1 << 40)
        slug, prompt = {
            "harmless": ("strict", f"hello {number} [[say: fine weather {number}]]"),
            "harmful": ("strict", f"you {CANARY} {number} [[say: fine weather {number}]]"),
            # Nobody reads what this tenant asks, but what it is answered.
            "harmful answer": ("output", f"hello {number} [[say: it is {number}, you {CANARY}, and fine weather]]"),
        }[kind]
        seen.append((kind, await house.ask(slug, draw.choice(FORMS), prompt)))
    return seen


async def answers_again(house: House) -> None:
    """Wait until a harmless call passes."""
    draw = random.Random()
    async with asyncio.timeout(60):
        while (await house.ask("strict", "chat", f"hello {draw.random()}")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def run(house: House, moments: int) -> None:
    draw = random.Random(SEED)
    await answers_again(house)
    seen: list[tuple[str, Got]] = []
    for moment in range(moments):
        stop = asyncio.Event()
        callers = [asyncio.create_task(keep_asking(house, draw, stop)) for _ in range(CALLERS)]
        await asyncio.sleep(draw.uniform(0, 0.2))
        async with struck(house, STRUCK[moment % len(STRUCK)]):
            await asyncio.sleep(draw.uniform(0, 0.4))
        await asyncio.sleep(draw.uniform(0, 0.2))
        stop.set()
        for answers in await asyncio.gather(*callers):
            seen += answers
        await answers_again(house)

    books = billed(house.place)
    assert {kind for kind, _ in seen} == set(KINDS), f"seed {SEED}"
    for kind, got in seen:
        where = f"seed {SEED}: {kind}, {got.status}"
        assert without(got, CANARY), where
        if got.status != 200:
            assert got.code == REFUSALS.get(got.status), where
        if kind == "harmful":
            assert got.status in REFUSALS, where
            assert got.interaction not in books, where
    statuses = {got.status for _, got in seen}
    assert statuses == {200, 400, 503}, f"seed {SEED}: {statuses}"


async def test_nothing_unguarded_passes_whatever_happens_to_the_detector(house: House) -> None:
    await run(house, MOMENTS)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_nothing_unguarded_passes_through_many_moments(house: House) -> None:
    await run(house, MANY_MOMENTS)


@pytest.mark.parametrize("how", ["kill", "stop", "NaN"])
@pytest.mark.parametrize("slug", ["rules", "lenient"])
async def test_where_a_policy_lets_pass_what_nobody_read_the_call_goes_on_and_the_record_says_so(
    house: House, how: str, slug: str
) -> None:
    await answers_again(house)

    async with struck(house, how):
        got = await house.ask(slug, "chat", f"you {CANARY} {random.random()}")
    await answers_again(house)

    assert got.status == 200
    await rows_of(house.place, [got.interaction])
    documents = await asyncio.to_thread(house.place.documents, "audit_records")
    (outcome,) = [one for one in documents if one["_id"] == f"{got.interaction}#outcome"]
    assert detector_failures(outcome) == {(side, "triton", "toxicity") for side in ("input", "output")}, sorted(outcome)


def detector_failures(outcome: dict[str, Any]) -> set[tuple[str, ...]]:
    return {
        (one["side"], one["detector"], *one["categories"])
        for one in json.loads(outcome["canonical"])["detector_failures"]
    }
