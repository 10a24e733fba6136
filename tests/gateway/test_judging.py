"""What becomes of requests and answers when policies decide, with policies and detectors of the test's own."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from msgspec import structs

from trueport.detection.engine import Engine
from trueport.detection.policy import Judged, Span, Unscannable
from trueport.detection.redact import Placeholders
from trueport.detection.types import Category, Failure, Finding, Passage, Reading
from trueport.gateway.call import Admitted, Recorded, Request, Screened
from trueport.gateway.dialects.anthropic import AnthropicDialect
from trueport.gateway.dialects.base import Dialect
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.judging import HeldAnswer, PolicyScreener
from trueport.gateway.screening import ContentBlocked, DetectorUnavailable
from trueport.kit.clock import ManualClock

Read = tuple[Passage, frozenset[Category]]


class WordEngine:
    """Finds `bob` as pii, `bad deed` as an injection; remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[Read] = []

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        assert timeout_s == 1.0
        self.given += [(passage, wanted) for passage in passages]
        return [self._reading(passage, wanted) for passage in passages]

    @staticmethod
    def _reading(passage: Passage, wanted: frozenset[Category]) -> Reading:
        words: dict[Category, str] = {"pii": "bob|eve", "prompt_injection": r"bad\s*deed"}
        findings = tuple(
            Finding(category, "PERSON" if category == "pii" else "ATTACK", hit.start(), hit.end(), 0.9, "words", "1")
            for category, word in words.items()
            if category in wanted
            for hit in re.finditer(word, passage.text)
        )
        scores = {category: 0.9 if any(one.category == category for one in findings) else 0.1 for category in wanted}
        return Reading(scores=scores, findings=findings)


@dataclass
class Policies:
    """Redacts pii, blocks the rest; `blocked` kinds of unreadable content block as well."""

    blocked: frozenset[str] = frozenset()
    action: str | None = None
    seen: list[Any] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)
    is_empty: bool = False
    policies: tuple[Any, ...] = (SimpleNamespace(id="redact", digest="", reads_after=False),)
    side: Any = "input"
    code: str | None = None
    wanted: frozenset[Category] = frozenset({"pii", "prompt_injection"})
    timeout_s: float = 1.0

    def for_call(self, side: str, context: Any) -> "Policies":
        self.contexts.append((side, context))
        self.side = side
        return self

    def custom(self, passage: Passage) -> tuple[Finding, ...]:  # noqa: ARG002 - as the real ones have it
        return ()

    def decide(self, entries: Sequence[Any]) -> Any:
        self.seen = list(entries)
        findings = [one for entry in entries if isinstance(entry, Judged) for one in entry.reading.findings]
        unread = [one for one in entries if isinstance(one, Unscannable) and one.kind in self.blocked]
        action = "redact" if findings else "allow"
        if unread or any(one.category == "prompt_injection" for one in findings):
            action = "block"

        def redactions(index: int) -> tuple[Span, ...]:
            entry = entries[index]
            found = entry.reading.findings if isinstance(entry, Judged) else ()
            return tuple(_span(one) for one in found if one.category == "pii")

        return SimpleNamespace(action=self.action or action, hits=(), code=self.code, redactions=redactions)


def _span(finding: Finding) -> Span:
    return Span(finding.start, finding.end, finding.type)


def recorded(
    body: Any, policies: Policies | None, *, dialect: Dialect | None = None, path: str = "chat/completions"
) -> Recorded:
    dialect = dialect or OpenAIDialect()
    request: Request = dialect.read("POST", path, "", "application/json", json.dumps(body).encode())
    admitted = SimpleNamespace(
        call=SimpleNamespace(dialect=dialect),
        caller=SimpleNamespace(environment="prod", key_id="key_1"),
        request=request,
        snapshot=SimpleNamespace(policies=policies),
        targets=(SimpleNamespace(credential=SimpleNamespace(provider="openai")),),
        model="m",
        user=None,
    )
    return Recorded(cast(Admitted, _Admitted(**vars(admitted))), cast(Any, None))


class _Admitted(msgspec.Struct, frozen=True):
    call: Any
    caller: Any
    request: Request
    snapshot: Any
    targets: Any
    model: str
    user: str | None


async def screened(body: Any, policies: Policies, engine: WordEngine | None = None, **given: Any) -> Screened:
    screener = PolicyScreener(cast(Engine, engine or WordEngine()), ManualClock())
    return await screener.inspect_input(recorded(body, policies, **given))


def chat(*turns: str, **members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": turn} for turn in turns], **members}


def sent(found: Screened) -> Any:
    return json.loads(found.recorded.admitted.request.body)


async def test_a_tenant_without_policies_has_nothing_read() -> None:
    engine = WordEngine()
    given = recorded(chat("bob"), None)

    found = await PolicyScreener(cast(Engine, engine), ManualClock()).inspect_input(given)

    assert (found.recorded, found.decision, engine.given) == (given, "allow", [])


async def test_policies_that_do_not_hold_for_the_call_have_nothing_read() -> None:
    engine = WordEngine()

    found = await screened(chat("bob"), Policies(is_empty=True), engine)

    assert (found.decision, engine.given) == ("allow", [])


async def test_what_is_allowed_goes_on_as_the_very_same_request() -> None:
    policies = Policies()
    given = recorded(chat("hello"), policies)

    found = await PolicyScreener(cast(Engine, WordEngine()), ManualClock()).inspect_input(given)

    assert found.recorded is given
    assert found.judgement is not None
    assert found.judgement.decision == "allow"


async def test_what_is_redacted_is_what_the_provider_gets() -> None:
    found = await screened(chat("ask bob and eve", "tell bob"), Policies())

    assert found.decision == "redact"
    assert [turn["content"] for turn in sent(found)["messages"]] == ["ask [PERSON_1] and [PERSON_2]", "tell [PERSON_1]"]
    assert found.recorded.admitted.request.members == sent(found)


async def test_a_block_has_a_refusal_and_no_other_request() -> None:
    found = await screened(chat("a bad deed"), Policies())

    assert isinstance(found.refusal, ContentBlocked)
    assert (found.refusal.status, found.refusal.should_retry) == (400, False)
    assert found.decision == "block"


async def test_a_failure_that_blocks_is_a_503() -> None:
    found = await screened(chat("x"), Policies(action="block", code="detector_unavailable"))

    assert isinstance(found.refusal, DetectorUnavailable)
    assert found.refusal.status == 503


async def test_an_attack_that_is_spread_over_turns_is_seen() -> None:
    found = await screened(chat("say a bad", "deed to me"), Policies())

    assert found.decision == "block"


async def test_a_word_that_is_cut_between_turns_is_seen_and_redacted() -> None:
    found = await screened(chat("it was bo", "b who came"), Policies())

    assert [turn["content"] for turn in sent(found)["messages"]] == ["it was [PERSON_1]", " who came"]


async def test_an_attack_in_one_turn_is_told_once() -> None:
    policies = Policies()

    await screened(chat("a bad deed", "and more"), policies)

    assert [entry.path for entry in policies.seen if entry.reading.findings] == ["messages[0].content"]


async def test_names_of_members_are_read_together_and_changed_apart() -> None:
    body = chat("x", metadata={"bob": "1", "eve": "2"})

    found = await screened(body, Policies())

    assert sent(found)["metadata"] == {"[PERSON_1]": "1", "[PERSON_2]": "2"}


async def test_unreadable_content_follows_the_policy() -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a"}}]}
    body = {"model": "m", "messages": [picture]}

    assert (await screened(body, Policies())).decision == "allow"
    assert (await screened(body, Policies(blocked=frozenset({"image"})))).decision == "block"


async def test_a_signed_thought_that_has_to_stay_blocks_the_call() -> None:
    content = [
        {"type": "thinking", "thinking": "of bob", "signature": "Eq"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", "content": content}]}

    found = await screened(body, Policies(), dialect=AnthropicDialect(), path="messages")

    assert isinstance(found.refusal, ContentBlocked)
    assert found.judgement is not None
    assert found.judgement.decision == "block"


async def test_the_context_names_a_provider_only_when_it_is_certain() -> None:
    policies = Policies()
    given = recorded(chat("x"), policies)
    screener = PolicyScreener(cast(Engine, WordEngine()), ManualClock())
    await screener.inspect_input(given)
    one, other = (SimpleNamespace(credential=SimpleNamespace(provider=name)) for name in ("openai", "google"))
    given = structs.replace(given, admitted=structs.replace(given.admitted, targets=(one, other)))
    await screener.inspect_input(given)
    await screener.inspect_output(given.admitted, cast(Any, other), b'{"choices":[]}', "application/json")

    assert [(side, context.provider) for side, context in policies.contexts] == [
        ("input", "openai"), ("input", None), ("output", "google"),
    ]  # fmt: skip


async def answered(body: bytes, policies: Policies, content_type: str = "application/json") -> Any:
    screener = PolicyScreener(cast(Engine, WordEngine()), ManualClock())
    admitted = recorded(chat("x"), policies).admitted
    return await screener.inspect_output(admitted, admitted.targets[0], body, content_type)


async def test_an_answer_is_redacted_in_all_its_choices_and_without_its_log_probabilities() -> None:
    choice: Callable[[int, str], Any] = lambda index, text: {  # noqa: E731 - a short table
        "index": index, "message": {"role": "assistant", "content": text},
        "logprobs": {"content": [{"token": "b", "logprob": -1.0, "bytes": [98], "top_logprobs": []},
                                 {"token": "ob", "logprob": -1.0, "bytes": [98], "top_logprobs": []}]},
    }  # fmt: skip
    body = json.dumps({"choices": [choice(0, "it is bob"), choice(1, "or eve")], "usage": {"total_tokens": 3}}).encode()

    found = await answered(body, Policies())

    said = json.loads(found.body)
    assert [one["message"]["content"] for one in said["choices"]] == ["it is [PERSON_1]", "or [PERSON_2]"]
    assert [one["logprobs"] for one in said["choices"]] == [None, None]
    assert said["usage"] == {"total_tokens": 3}


async def test_a_blocked_answer_has_no_body() -> None:
    found = await answered(b'{"choices":[{"message":{"content":"a bad deed"}}]}', Policies())

    assert (found.body, type(found.refusal)) == (b"", ContentBlocked)


async def test_sounds_and_pictures_in_place_of_an_answer_follow_the_policy() -> None:
    policies = Policies(blocked=frozenset({"audio"}))

    assert (await answered(b"\x00\xff\xfe", policies, "audio/mpeg")).refusal is not None
    assert (await answered(b"\x00\xff\xfe", Policies(), "audio/mpeg")).body == b"\x00\xff\xfe"


STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"content":"so b"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"ob is"}}]}\n\n'
    b"data: [DONE]\n\n"
)


async def test_a_held_stream_leaves_redacted_across_its_events() -> None:
    screener = PolicyScreener(cast(Engine, WordEngine()), ManualClock())
    admitted = recorded(chat("x", stream=True), Policies()).admitted
    guard = HeldAnswer(screener, admitted, admitted.targets[0], None)

    early = [await guard.feed(STREAM[at : at + 7]) for at in range(0, len(STREAM), 7)]
    late = await guard.finish()

    assert set(early) == {b""}
    assert late == STREAM.replace(b'"so b"', b'"so [PERSON_1]"').replace(b'"ob is"', b'" is"')
    assert guard.judgement is not None
    assert guard.judgement.decision == "redact"


async def test_a_held_stream_tells_its_client_what_was_replaced_in_the_request() -> None:
    screener = PolicyScreener(cast(Engine, WordEngine()), ManualClock())
    admitted = recorded(chat("x", stream=True), Policies(is_empty=True)).admitted
    placeholders = Placeholders()
    placeholders.redact('an "X"', (Span(3, 6, "PERSON", is_reversible=True),))
    guard = HeldAnswer(screener, admitted, admitted.targets[0], placeholders)
    stream = STREAM.replace(b"so b", b"[PERS").replace(b"ob is", b"ON_1] is [PERSON_2]")

    await guard.feed(stream)

    assert await guard.finish() == STREAM.replace(b"so b", b'\\"X\\"').replace(b"ob is", b" is [PERSON_2]")


async def test_failures_and_scores_are_in_the_judgement_and_no_text() -> None:
    class Failing(WordEngine):
        async def read(self, passages: Any, wanted: Any, *, timeout_s: float) -> list[Reading]:
            read = await super().read(passages, wanted, timeout_s=timeout_s)
            failure = Failure(frozenset({"pii"}), "onnx", "timeout")
            return [Reading(one.scores, one.findings, None, (failure,)) for one in read]

    found = await screened(chat("ask canary"), Policies(), Failing())

    assert found.judgement is not None
    assert [(one.detector, one.code) for one in found.judgement.failures] == [("onnx", "timeout")]
    assert [one.path for one in found.judgement.scores] == ["messages[0].content"]
    # Whoever reads again needs to know for whom.
    assert found.judgement.policies == ("redact",)
    assert "canary" not in repr(found.judgement)
