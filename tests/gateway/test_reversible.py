"""What goes back to the client of what its policies took out, with the real policies and rules."""

import json
from typing import Any, cast

from tests.gateway.test_judging import recorded
from trueport.detection.engine import Engine
from trueport.detection.patterns.pack import PatternDetector
from trueport.detection.policy import PolicySet, compile_policy, unfold
from trueport.detection.policy.documents import read_policy
from trueport.gateway.judging import PolicyScreener
from trueport.gateway.screening import Inspected
from trueport.kit.clock import ManualClock


def policies(*entries: dict[str, Any]) -> Any:
    return PolicySet(
        tuple(compile_policy(f"pol_{number}", 1, read_policy(one)) for number, one in enumerate(unfold(entries)))
    )


ADDRESSES: dict[str, Any] = {
    "name": "addresses", "when": {"category": "pii", "types": ["EMAIL"]}, "action": "redact",
    "placeholder": "reversible",
}  # fmt: skip


async def told(question: str, answer: str, *entries: dict[str, Any]) -> tuple[str, str]:
    """What the provider is asked, and what the client is told of an answer."""
    screener = PolicyScreener(Engine([PatternDetector()], ManualClock()), ManualClock())
    call = recorded({"model": "m", "messages": [{"role": "user", "content": question}]}, policies(*entries))
    screened = await screener.inspect_input(call)
    asked = json.loads(screened.recorded.admitted.request.body)["messages"][0]["content"]
    body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}]}).encode()
    inspected: Inspected = await screener.inspect_output(
        screened.recorded.admitted, call.admitted.targets[0], body, "application/json", screened.placeholders
    )
    return asked, cast(str, json.loads(inspected.body)["choices"][0]["message"]["content"])


async def test_a_placeholder_the_client_wrote_itself_stays_what_it_is() -> None:
    asked, answer = await told(
        "What is [EMAIL_1]? Mine is ann@acme.example.",
        "[EMAIL_1] stands for an address, yours is [EMAIL_2].",
        ADDRESSES,
    )

    assert asked == "What is [EMAIL_1]? Mine is [EMAIL_2]."
    assert answer == "[EMAIL_1] stands for an address, yours is ann@acme.example."


async def test_somebody_else_s_address_in_an_answer_does_not_become_the_client_s() -> None:
    asked, answer = await told("Mine is ann@acme.example.", "Yours is [EMAIL_1], his is bob@acme.example.", ADDRESSES)

    assert asked == "Mine is [EMAIL_1]."
    assert answer == "Yours is ann@acme.example, his is [EMAIL_2]."


async def test_the_balanced_preset_gives_numbers_back() -> None:
    asked, answer = await told(
        "Is 4111 1111 1111 1111 a valid card?", "[CREDIT_CARD_1] passes the check.", {"preset": "balanced"}
    )

    assert asked == "Is [CREDIT_CARD_1] a valid card?"
    assert answer == "4111 1111 1111 1111 passes the check."
