"""What a guard costs the processor for each event of a stream: `python -m tests.bench.guarded`.

The figures are of this machine in this run; each is the best of its rounds.
"""

import asyncio
import time
from typing import Final

from tests.support.streams_of_guard import TEXT, CountingEngine, guard, policies, written
from trueport.detection.policy import ActivePolicies
from trueport.gateway.guard.forms import ClientForm

EVENTS: Final = 2_000
ROUNDS: Final = 5
FORMS: Final[tuple[ClientForm, ...]] = ("openai_chat", "openai_responses", "anthropic", "google_sse")
WORDS: Final = ["Nothing", "to", "see", "here,", "move", "on", "please", "and", "think", "of", "summer", "days.", ""]
RULES: Final = {"when": {"category": ["pii", "secrets"]}, "action": "redact", "on": ["output"]}
POLICIES: Final[dict[str, ActivePolicies | None]] = {
    "rules": policies(RULES),
    "keyword": policies({"when": {"keywords": ["moonshot"]}, "action": "redact", "on": ["output"]}),
    "shadow": policies({**RULES, "mode": "shadow"}),
}


async def cpu_us_per_event(form: ClientForm, active: ActivePolicies | None) -> float:
    """Of a stream of words, one in each event, in which nothing is found."""
    events = written(form, [(TEXT, WORDS[number % len(WORDS)] + " ") for number in range(EVENTS)])
    stream = guard(form, active, engine=CountingEngine())
    started_s = time.process_time()
    for event in events:
        await stream.feed(event)
    await stream.finish()
    await stream.observe()
    return (time.process_time() - started_s) / len(events) * 1e6


async def main() -> None:
    for form in FORMS:
        for name, active in POLICIES.items():
            best = min([await cpu_us_per_event(form, active) for _ in range(ROUNDS)])
            print(f"{form:17} {name:8} {best:5.0f} us per event")


if __name__ == "__main__":
    asyncio.run(main())
