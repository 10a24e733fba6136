"""Policies on a real server: no way of asking and no form of answer goes past them, and no record holds a text."""

import asyncio
import base64
import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from tests.support.bodies import PICTURE
from tests.support.installation import PATIENCE_S, Installation, installation
from tests.support.money import FORMS, MODELS, ROUTES, Access, Got, ask, billed, furnish, raw_request, row_of, sent

FORBIDDEN: Final = "the forbidden deed"
PRIVATE: Final = "bob@x.example"
SAUCE: Final = "the secret sauce"
THEIRS: Final = "eve@x.example"
CANARIES: Final = (FORBIDDEN, PRIVATE, SAUCE, THEIRS)

POLICIES: Final[list[dict[str, Any]]] = [
    {"name": "forbidden", "on": ["input"], "when": {"regex": r"(?i)the\s+forbidden\s+deed"}, "action": "block"},
    {"name": "private", "on": ["input"], "when": {"regex": r"bob@x\.example"}, "action": "redact"},
    {"name": "sauce", "on": ["output"], "when": {"regex": r"the\s+secret\s+sauce"}, "action": "block"},
    {"name": "theirs", "on": ["output"], "when": {"regex": r"eve@x\.example"}, "action": "redact"},
]
STRICT: Final[list[dict[str, Any]]] = [
    {"name": "unreadable", "on": ["input", "output"], "when": {"unscannable": True}, "action": "block"}
]
ADDRESSES: Final = {"name": "addresses", "on": ["input"], "when": {"category": "pii", "types": ["EMAIL"]},
                    "action": "redact", "placeholder": "reversible"}  # fmt: skip
TOXIC: Final = {"name": "toxic", "on": ["input", "output"], "when": {"category": "toxicity"}, "action": "block"}
KINDS: Final = {
    "openai": b'"type":"policy_violation"',
    "azure": b'"type":"policy_violation"',
    "anthropic": b'"type":"invalid_request_error"',
    "google": b'"status":"FAILED_PRECONDITION"',
}
GENERATING: Final = [name for name, form in FORMS.items() if not form.is_embedding]
STREAMS: Final = [name for name in GENERATING if FORMS[name].streams]
WHOLE: Final = [name for name in GENERATING if not FORMS[name].streams]
TRANSLATED: Final = [
    (form, provider)
    for form in ("chat", "chat stream", "responses", "responses stream", "messages", "messages stream", "generate")
    for provider in ("openai", "anthropic", "google")
    if provider != FORMS[form].dialect
]


class House:
    def __init__(self, place: Installation, tenants: Mapping[str, Access]) -> None:
        self.place = place
        self.tenants = tenants

    async def ask(self, form: str, prompt: str, *, slug: str = "acme", key: str = "main", **given: Any) -> Got:
        return await ask(self.place, form, prompt, self.tenants[slug].keys[key][1], **given)

    async def post(self, path: str, body: Any, *, slug: str = "acme", **headers: str) -> Got:
        return await sent(self.place.port, raw_request(path, body, self.tenants[slug].key, headers or None))

    def reached_provider(self, got: Got) -> bool:
        return got.interaction in billed(self.place)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    shadow = [{**policy, "mode": "shadow"} for policy in POLICIES]
    cached = [{**route, "cache_s": 300} for route in ROUTES]
    with installation(tmp_path_factory.mktemp("screening") / "data") as place:
        tenants = furnish(
            place,
            {
                "acme": {"policies": POLICIES},
                "shadow": {"policies": shadow},
                "strict": {"policies": STRICT},
                "free": {},
                "cached": {"policies": [{**POLICIES[2], "users": ["eve"]}], "routes": cached},
                "addresses": {"policies": [ADDRESSES]},
                # Nobody reads for toxicity without a model.
                "unread": {"policies": [TOXIC]},
                "lenient": {"policies": [{**TOXIC, "on_failure": "allow"}]},
            },
        )
        place.serve()
        yield House(place, tenants)


def refused(got: Got) -> bool:
    headers = got.headers
    is_marked = headers["x-should-retry"] == "false" and headers["x-trueport-decision"] == "block"
    return got.status == 400 and got.code == "content_policy_violation" and is_marked


def without(got: Got, *texts: str) -> bool:
    """Whether none of the texts is in the answer, nor in what the pieces of a stream add up to."""
    return not any(text in said for said in (got.body.decode(), *added_up(got)) for text in texts)


def added_up(got: Got) -> list[str]:
    """The strings of all events by the name of their member, each joined."""
    found: dict[str, str] = {}
    documents = re.findall(r"^data: (\{.*)", got.body.decode(), re.MULTILINE) or [got.body.decode()]
    for document in documents:
        # An array that an error ends stays open.
        closed = document + "]" if document.startswith("[") and not document.rstrip().endswith("]") else document
        for name, value in strings(json.loads(closed) if document[:1] in ("{", "[") else {}):
            found[name] = found.get(name, "") + value
    return list(found.values())


def strings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, name)


# --- input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_a_forbidden_prompt_reaches_no_provider(house: House, form: str) -> None:
    got = await house.ask(form, f"do {FORBIDDEN} now")

    assert refused(got)
    assert KINDS[FORMS[form].dialect] in got.body
    assert not house.reached_provider(got)
    assert without(got, FORBIDDEN)
    row = await row_of(house.place, got.interaction)
    assert (row["end"], row["decision"], row["error"]) == ("refused", "block", "content_policy_violation")


@pytest.mark.parametrize("form", FORMS)
async def test_the_provider_gets_a_prompt_without_what_is_private(house: House, form: str) -> None:
    got = await house.ask(form, f"write to {PRIVATE} soon")

    assert got.status == 200
    assert got.headers["x-trueport-decision"] == "redact"
    assert PRIVATE.encode() not in seen_upstream(house, got)
    assert b"write to [" in seen_upstream(house, got)


@pytest.mark.parametrize(("form", "provider"), TRANSLATED)
async def test_a_translated_prompt_is_the_redacted_one(house: House, form: str, provider: str) -> None:
    got = await house.ask(form, f"write to {PRIVATE} soon", model=MODELS[provider])

    assert got.status == 200
    assert PRIVATE.encode() not in seen_upstream(house, got)
    assert b"write to [" in seen_upstream(house, got)


def seen_upstream(house: House, got: Got) -> bytes:
    url = f"{house.place.simulator.url}/_simulator/last?interaction={got.interaction}"
    with urllib.request.urlopen(url, timeout=20) as reply:
        return base64.b64decode(json.load(reply)["body"])


def _message(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


CHAT: Final = "/v1/chat/completions"
PLACES: Final[dict[str, tuple[str, Any]]] = {
    "system": (CHAT, {"messages": [{"role": "system", "content": FORBIDDEN}, _message(_text("x"))]}),
    "earlier turn": (CHAT, {"messages": [{"role": "assistant", "content": FORBIDDEN}, _message(_text("x"))]}),
    "tool result": (
        CHAT,
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": json.dumps({"said": FORBIDDEN})},
            ]
        },
    ),
    "tool arguments in escapes": (
        CHAT,
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a": "the \\u0066orbidden deed"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c", "content": "x"},
            ]
        },
    ),
    "tool definition": (
        CHAT,
        {
            "messages": [_message(_text("x"))],
            "tools": [{"type": "function", "function": {"name": "f", "description": FORBIDDEN}}],
        },
    ),
    "name of a tool's argument": (
        CHAT,
        {
            "messages": [_message(_text("x"))],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {FORBIDDEN: {}}}}}],
        },
    ),
    "unknown member": (CHAT, {"messages": [_message(_text("x"))], "brand_new": {"deep": [FORBIDDEN]}}),
    "unknown block": (CHAT, {"messages": [_message({"type": "brand_new", "words": FORBIDDEN})]}),
    "two turns": (CHAT, {"messages": [_message(_text("the forbidden")), _message(_text("deed"))]}),
    "two blocks": (CHAT, {"messages": [_message(_text("the forbid"), _text("den deed"))]}),
    "text file": (
        CHAT,
        {
            "messages": [
                _message(
                    {
                        "type": "file",
                        "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,dGhlIGZvcmJpZGRlbiBkZWVk"},
                    }
                )
            ]
        },
    ),
    "responses input": ("/v1/responses", {"input": [{"type": "message", "role": "user", "content": FORBIDDEN}]}),
    "responses tool output": (
        "/v1/responses",
        {"input": [{"type": "function_call_output", "call_id": "c", "output": FORBIDDEN}]},
    ),
    "responses instructions": ("/v1/responses", {"input": "x", "instructions": FORBIDDEN}),
    "moderation": ("/v1/moderations", {"input": FORBIDDEN}),
    "picture prompt": ("/v1/images/generations", {"prompt": FORBIDDEN, "model": "dall-e-3"}),
    "speech": ("/v1/audio/speech", {"input": FORBIDDEN, "voice": "alloy", "model": "tts-1"}),
    "anthropic system": (
        "/anthropic/v1/messages",
        {"max_tokens": 9, "system": [_text(FORBIDDEN)], "messages": [_message(_text("x"))]},
    ),
    "anthropic document": (
        "/anthropic/v1/messages",
        {
            "max_tokens": 9,
            "messages": [
                _message(
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": FORBIDDEN}}
                )
            ],
        },
    ),
    "anthropic count": ("/anthropic/v1/messages/count_tokens", {"messages": [_message(_text(FORBIDDEN))]}),
    "anthropic batch": (
        "/anthropic/v1/messages/batches",
        {"requests": [{"custom_id": "a", "params": {"max_tokens": 1, "messages": [_message(_text(FORBIDDEN))]}}]},
    ),
    "google system": (
        "/google/v1beta/models/gemini-2.5-flash:generateContent",
        {"systemInstruction": {"parts": [{"text": FORBIDDEN}]}, "contents": [{"parts": [{"text": "x"}]}]},
    ),
    "google in snake case": (
        "/google/v1beta/models/gemini-2.5-flash:generateContent",
        {"system_instruction": {"parts": [{"text": FORBIDDEN}]}, "contents": [{"parts": [{"text": "x"}]}]},
    ),
    "google count": (
        "/google/v1beta/models/gemini-2.5-flash:countTokens",
        {"contents": [{"parts": [{"text": FORBIDDEN}]}]},
    ),
}


@pytest.mark.parametrize("name", PLACES)
async def test_no_place_in_a_request_hides_a_text(house: House, name: str) -> None:
    path, body = PLACES[name]
    model = "claude-next" if "anthropic" in path else "sim-model"
    named = body if "google" in path or "model" in body else {"model": model, **body}

    got = await house.post(path, named)

    assert refused(got), got.body
    assert not house.reached_provider(got)


def form(*parts: tuple[str, str, bytes]) -> bytes:
    """A multipart body with the boundary `b`: each part's name, what follows it in its headers, and its content."""
    pieces = [
        f'--b\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"
        for name, more, content in parts
    ]
    return b"".join(pieces) + b"--b--\r\n"


LINE: Final = json.dumps(
    {"custom_id": "1", "method": "POST", "url": CHAT, "body": {"model": "m", "messages": [_message(_text(FORBIDDEN))]}}
).encode()
UPLOADS: Final = {
    "transcription prompt": (
        "/v1/audio/transcriptions",
        form(
            ("model", "", b"whisper-1"),
            ("prompt", "", FORBIDDEN.encode()),
            ("file", '; filename="a.wav"\r\ncontent-type: audio/wav', b"\x00\xff\x01"),
        ),
    ),
    "picture edit": (
        "/v1/images/edits",
        form(
            ("model", "", b"dall-e-2"),
            ("prompt", "", FORBIDDEN.encode()),
            ("image", '; filename="a.png"\r\ncontent-type: image/png', b"\x89PNG\x00"),
        ),
    ),
    "batch file": (
        "/v1/files",
        form(("purpose", "", b"batch"), ("file", '; filename="a.jsonl"', LINE + b"\n" + LINE)),
    ),
    "text file": ("/v1/files", form(("purpose", "", b"user_data"), ("file", '; filename="a.txt"', FORBIDDEN.encode()))),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_no_part_of_an_upload_hides_a_text(house: House, name: str) -> None:
    path, body = UPLOADS[name]

    got = await house.post(path, body, **{"content-type": "multipart/form-data; boundary=b"})

    assert refused(got), got.body
    assert not house.reached_provider(got)


async def test_a_private_line_of_a_batch_file_is_redacted_in_its_place(house: House) -> None:
    body = UPLOADS["batch file"][1].replace(FORBIDDEN.encode(), PRIVATE.encode())

    got = await house.post("/v1/files", body, **{"content-type": "multipart/form-data; boundary=b"})

    assert got.status == 200, got.body
    assert PRIVATE.encode() not in seen_upstream(house, got)


UNREADABLE: Final[dict[str, tuple[str, Any]]] = {
    "picture": (
        CHAT,
        {
            "messages": [
                _message({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}, _text("what"))
            ]
        },
    ),
    "picture by address": (
        CHAT,
        {"messages": [_message({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}, _text("what"))]},
    ),
    "sealed thoughts": (
        "/v1/responses",
        {
            "input": [
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAAB" + "x" * 60},
                _message({"type": "input_text", "text": "go on"}),
            ]
        },
    ),
    "tokens": ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 5}),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_follows_the_policy_about_it(house: House, name: str) -> None:
    path, body = UNREADABLE[name]

    stopped = await house.post(path, {"model": "sim-model", **body}, slug="strict")
    passed = await house.post(path, {"model": "sim-model", **body}, slug="acme")

    assert refused(stopped)
    assert passed.headers["x-trueport-decision"] == "allow"


# --- output --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form_name", WHOLE)
async def test_a_blocked_answer_is_not_delivered_and_is_paid_for(house: House, form_name: str) -> None:
    got = await house.ask(form_name, f"[[say: it is {SAUCE} indeed]]")

    assert refused(got), got.body
    assert without(got, SAUCE)
    row = await row_of(house.place, got.interaction)
    assert (row["end"], row["decision"]) == ("refused", "block")
    assert row["total_tokens"] > 0


@pytest.mark.parametrize("form_name", STREAMS)
async def test_a_blocked_stream_ends_with_an_error_and_without_its_end_mark(house: House, form_name: str) -> None:
    got = await house.ask(form_name, f"[[say: it is {SAUCE} indeed]]")

    assert got.status == 200
    assert without(got, SAUCE)
    assert re.search(rb"content_policy_violation|refusal|CONTENT_POLICY_VIOLATION|PROHIBITED", got.body) is not None
    assert FORMS[form_name].end_mark == b"finishReason" or FORMS[form_name].end_mark not in got.body
    row = await row_of(house.place, got.interaction)
    assert row["decision"] == "block"


@pytest.mark.parametrize("form_name", GENERATING)
async def test_what_is_theirs_is_redacted_in_every_form_of_answer(house: House, form_name: str) -> None:
    got = await house.ask(form_name, f"[[say: ask {THEIRS} for it]]")

    assert got.status == 200
    assert without(got, THEIRS)
    assert re.search(rb"\bit\b", got.body) is not None
    assert (await row_of(house.place, got.interaction))["decision"] == "redact"


@pytest.mark.parametrize(("form_name", "provider"), TRANSLATED)
async def test_a_translated_answer_is_seen_as_the_client_gets_it(house: House, form_name: str, provider: str) -> None:
    redacted = await house.ask(form_name, f"[[say: ask {THEIRS} for it]]", model=MODELS[provider])
    blocked = await house.ask(form_name, f"[[say: it is {SAUCE} indeed]]", model=MODELS[provider])

    assert without(redacted, THEIRS)
    assert re.search(rb"\bit\b", redacted.body) is not None
    assert without(blocked, SAUCE)


TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("streams", [False, True])
async def test_choices_and_arguments_of_tools_are_answers_too(house: House, streams: bool) -> None:
    two = await house.ask("chat", f"[[say: ask {THEIRS} for it]]", n=2, stream=streams)
    called = await house.ask("chat", f'[[tool: f {{"to": "{THEIRS}"}}]]', tools=[TOOL], stream=streams)

    for got in (two, called):
        assert got.status == 200
        assert without(got, THEIRS)
    if not streams:
        arguments = json.loads(called.body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        assert json.loads(arguments)["to"].startswith("[")
        assert len(json.loads(two.body)["choices"]) == 2


async def test_log_probabilities_do_not_tell_what_was_redacted(house: House) -> None:
    got = await house.ask("chat", f"[[say: ask {THEIRS} for it]]", logprobs=True, top_logprobs=2)

    assert got.status == 200
    tokens = re.findall(r'"token":\s*"([^"]*)"', got.body.decode())
    assert THEIRS not in "".join(tokens)


async def test_thoughts_are_answers_too(house: House) -> None:
    body = {
        "model": "claude-next", "max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [{"role": "user", "content": f"[[think: it is {SAUCE}]] [[say: fine]]"}],
    }  # fmt: skip

    got = await house.post("/anthropic/v1/messages", body)

    assert refused(got), got.body


async def test_a_kept_answer_is_seen_by_the_policies_of_whoever_gets_it_again(house: House) -> None:
    prompt = f"[[say: it is {SAUCE}]]"
    first = await house.ask("chat", prompt, slug="cached", user="bob")
    again = await house.ask("chat", prompt, slug="cached", user="bob")
    theirs = await house.ask("chat", prompt, slug="cached", user="eve")

    assert (first.headers["x-trueport-cache"], again.headers["x-trueport-cache"]) == ("miss", "hit")
    assert refused(theirs)
    assert without(theirs, SAUCE)
    assert not house.reached_provider(theirs)


@pytest.mark.parametrize("form_name", GENERATING)
async def test_an_address_goes_nowhere_and_its_owner_reads_it_again(house: House, form_name: str) -> None:
    got = await house.ask(form_name, "write to ada.lovelace@mail.example", slug="addresses")
    echoed = await house.ask(form_name, "[[say: I wrote to ada.lovelace@mail.example]]", slug="addresses")

    assert b"ada.lovelace" not in seen_upstream(house, got)
    assert b"[EMAIL_1]" in seen_upstream(house, got)
    assert not without(echoed, "ada.lovelace@mail.example")
    found = await violations(house, got.interaction)
    assert {(one["category"], one["type"], one["score_bp"] > 5_000) for one in found} == {("pii", "EMAIL", True)}


# --- detectors that do not answer ----------------------------------------------------------------------------


@pytest.mark.parametrize("form_name", GENERATING)
async def test_what_nobody_could_read_is_refused_unless_the_policy_lets_it_pass(house: House, form_name: str) -> None:
    stopped = await house.ask(form_name, "hello", slug="unread")
    passed = await house.ask(form_name, "hello", slug="lenient")

    assert (stopped.status, stopped.code) == (503, "detector_unavailable")
    assert not house.reached_provider(stopped)
    assert passed.status == 200
    assert (await row_of(house.place, stopped.interaction))["error"] == "detector_unavailable"


# --- shadow, and nothing at all ------------------------------------------------------------------------------


@pytest.mark.parametrize("form_name", GENERATING)
async def test_a_policy_in_the_shadow_changes_nothing_and_is_recorded(house: House, form_name: str) -> None:
    prompt = f"{FORBIDDEN} {PRIVATE} [[say: {SAUCE} and {THEIRS}]]"

    shadowed = await house.ask(form_name, prompt, slug="shadow")
    free = await house.ask(form_name, prompt, slug="free")

    assert (shadowed.status, shadowed.headers["x-trueport-decision"]) == (200, "allow")
    assert PRIVATE.encode() in seen_upstream(house, shadowed)
    assert not without(shadowed, THEIRS)
    assert not without(shadowed, SAUCE)
    assert len(added_up(shadowed)) == len(added_up(free))
    row = await row_of(house.place, shadowed.interaction)
    found = await violations(house, shadowed.interaction)
    assert row["decision"] == "allow"
    assert {(one["policy"], one["mode"]) for one in found} == {
        (policy["name"], "shadow") for policy in POLICIES
    }  # fmt: skip


async def violations(house: House, interaction: str) -> list[dict[str, Any]]:
    """Those of one call, once there are any: they are written beside its row."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            documents = await asyncio.to_thread(house.place.documents, "violations")
            found = [one for one in documents if one["interaction_id"] == interaction]
            if found:
                return found
            await asyncio.sleep(0.1)


def metrics(house: House) -> str:
    with urllib.request.urlopen(f"{house.place.url}/metrics", timeout=20) as reply:
        return str(reply.read(), "utf-8")


async def test_no_record_log_or_metric_holds_a_text(house: House) -> None:
    got = [
        await house.ask("chat", f"{FORBIDDEN}"),
        await house.ask("chat", f"to {PRIVATE} [[say: {THEIRS}]]"),
        await house.ask("chat stream", f"[[say: {SAUCE}]]"),
        await house.post(CHAT, {"model": "sim-model", "messages": [_message(_text("x"))], PRIVATE: {FORBIDDEN: 1}}),
    ]
    for one in got:
        await row_of(house.place, one.interaction)

    assert await violations(house, got[0].interaction)
    names = ("interactions", "violations", "audit_records")
    written = [str(await asyncio.to_thread(house.place.documents, name)) for name in names]
    written.append((house.place.data_dir / "server.log").read_text())
    counted = await asyncio.to_thread(metrics, house)
    written.append(counted)
    for text in written:
        assert not any(canary in text for canary in CANARIES)
    assert 'trueport_decisions_total{action="block",category="custom",mode="enforce",side="input"}' in counted
