"""Each dialect at a provider of its own: neither side can tell that a gateway is between them."""

import asyncio
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.e2e.conftest import Gateway, Reply, parsed
from tests.support.installation import PATIENCE_S

# Spellings that a second serialisation would change, and members nobody has heard of.
ODD = (
    rb'"x_float":1e2 ,"x_tiny":1.0E-7, "x_zero":-0.0,"x_big":12345678901234567890,"x_one":1.0,'
    rb'"x_digits":0.1000000000000000055511151231257827021181583404541015625,'
    b'"x_text":"caf\\u00e9 \\ud83d\\ude00 \\/ \xc3\xa9 \xf0\x9f\x98\x80 \\u2028 \\"" ,\r\n\t'
    rb'"x_list":[[],{},null,true, false,1.50],"\u0078_escaped":"y"'
)
FORM_TYPE = "multipart/form-data; boundary=----x.Y'z"
UNKNOWN = {"x-unknown": "canary-1", "x-stainless-lang": "canary-2", "user-agent": "canary-3"}
VERSIONED = {"anthropic-version": "2023-06-01"}
BETAS = {"anthropic-beta": "context-1m-2025-08-07,interleaved-thinking-2025-05-14"}
OPENAI_BETA = {"openai-beta": "assistants=v2"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def odd_json(members: bytes) -> bytes:
    return b"{ " + members + b" ,\r\n  " + ODD + b"  }"


def form(name: str, content: bytes, **fields: str) -> bytes:
    """An upload whose parts are in an unusual order, with headers and bytes that a rewrite would lose."""
    line = b"------x.Y'z\r\n"
    parts = [
        line + b'Content-Disposition: form-data; name="%b"\r\nX-Part: 1\r\n\r\n%b\r\n' % (key.encode(), value.encode())
        for key, value in fields.items()
    ]
    parts.append(
        line
        + b'content-disposition: form-data; name="%b"; filename="a \xc3\xa9.bin"\r\n' % name.encode()
        + b"content-type: application/octet-stream\r\n\r\n"
        + content
        + b"\r\n"
    )
    return b"".join(parts) + b"------x.Y'z--\r\nepilogue"


@dataclass(frozen=True)
class Case:
    """A call as a client of the dialect makes it, and where it is to arrive."""

    name: str
    dialect: str
    operation: str
    """The path below the dialect's root."""
    body: bytes = b""
    method: str = "POST"
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    arrives_at: str = ""
    sent: bytes | None = None
    """The body upstream, where it is another one."""

    @property
    def all_headers(self) -> dict[str, str]:
        return {**UNKNOWN, **(VERSIONED if self.dialect == "anthropic" else {}), **self.headers}


def openai(name: str, operation: str, members: bytes = b"", **more: Any) -> Case:
    body = odd_json(members) if members else more.pop("body", b"")
    return Case(name, "openai", operation, body, arrives_at=f"/v1/{operation}", **more)


def anthropic(name: str, operation: str, members: bytes = b"", **more: Any) -> Case:
    body = odd_json(members) if members else more.pop("body", b"")
    return Case(name, "anthropic", operation, body, arrives_at=f"/v1/{operation}", **more)


def google(name: str, operation: str, members: bytes = b"", **more: Any) -> Case:
    body = odd_json(members) if members else b""
    return Case(name, "google", operation, body, arrives_at=f"/v1beta/{operation}", **more)


def azure(name: str, operation: str, members: bytes = b"", **more: Any) -> Case:
    body = odd_json(members) if members else more.pop("body", b"")
    at = f"/openai/deployments/az-gpt/{operation}"
    return Case(name, "azure", operation, body, query="api-version=2024-10-21", arrives_at=at, **more)


CHAT = rb'"model":"sim-model","messages":[{"role":"user","content":"\u0048i [[extra: fields comment event]]","x":1.0}]'
COMPLETION = rb'"prompt":"Once [[extra: fields comment event]]","model":"sim-small"'
RESPONSE = rb'"input":"Hi [[extra: fields comment event]] [[think: Hm.]]","model":"sim-model","store":false'
MESSAGE = (
    rb'"max_tokens":4000,"model":"claude-next","system":[{"type":"text","text":"Be brief.",'
    rb'"cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":'
    rb'"\u0048i [[extra: fields comment event]] [[think: Hm.]]","x":1.0}]}],'
    rb'"thinking":{"type":"enabled","budget_tokens":2048}'
)
CONTENTS = rb'"contents":[{"role":"user","parts":[{"text":"\u0048i [[extra: fields comment event]]","x":1.0}]}]'
FORM = {"content-type": FORM_TYPE}
BATCH_LINE = (
    b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions",'
    b'"body":{"model":"sim-model","messages":[{"role":"user","content":"Hello"}]}}\n'
)

CASES = [
    openai("chat", "chat/completions", CHAT, headers=OPENAI_BETA),
    openai("chat stream", "chat/completions", CHAT + rb',"stream":true,"stream_options":{"include_usage" : true}'),
    openai("completions", "completions", COMPLETION),
    openai(
        "completions stream", "completions", COMPLETION + rb',"stream":true,"stream_options":{"include_usage":true}'
    ),
    openai("responses", "responses", RESPONSE),
    openai("responses stream", "responses", RESPONSE + rb', "stream" : true'),
    openai("input tokens", "responses/input_tokens", rb'"model":"sim-model","input":"How many?"'),
    openai("embeddings", "embeddings", rb'"model":"sim-embedding","input":["\u0041","b"],"dimensions":8'),
    openai("embeddings in base64", "embeddings", rb'"model":"sim-embedding","input":"a","encoding_format":"base64"'),
    openai("moderations", "moderations", rb'"input":"hello","model":"sim-model"'),
    openai("images", "images/generations", rb'"model":"sim-image","prompt":"A \u0063at","n":2'),
    openai("speech", "audio/speech", rb'"model":"sim-tts","voice":"alloy","input":"Say \u0069t"'),
    openai("speech stream", "audio/speech", rb'"model":"sim-tts","voice":"alloy","input":"Say","stream_format":"sse"'),
    openai(
        "image edit",
        "images/edits",
        body=form("image", b"\x89PNG\r\n\x00\xff", prompt="red", model="sim-i"),
        headers=FORM,
    ),
    openai("transcription", "audio/transcriptions", body=form("file", b"RIFF\x00\xff{", model="sim-w"), headers=FORM),
    openai(
        "transcription as text",
        "audio/transcriptions",
        body=form("file", b"RIFF", model="sim-w", response_format="vtt"),
        headers=FORM,
    ),
    openai(
        "transcription stream",
        "audio/transcriptions",
        body=form("file", b"RIFF", model="sim-w", stream="true"),
        headers=FORM,
    ),
    openai("translation", "audio/translations", body=form("file", b"RIFF\r\n--", model="sim-w"), headers=FORM),
    openai("upload", "files", body=form("file", b'\x00\xff{"model":\r\n', purpose="user_data"), headers=FORM),
    openai("models", "models", method="GET"),
    openai("model", "models/sim-model", method="GET", query="x=a%20b%2Bc&%78=1&bare"),
    anthropic("messages", "messages", MESSAGE, headers=BETAS),
    anthropic("messages in beta", "messages", MESSAGE, headers=BETAS, query="beta=true&x=a%20b"),
    anthropic("messages stream", "messages", MESSAGE + rb', "stream" : true', headers=BETAS, query="beta=true"),
    anthropic(
        "count tokens", "messages/count_tokens", rb'"model":"claude-next","messages":[{"role":"user","content":"Hi"}]'
    ),
    anthropic(
        "message batch",
        "messages/batches",
        rb'"requests":[{"custom_id":"\u0061","params":{"model":"claude-next","max_tokens":1e1,"messages":[]}}]',
    ),
    anthropic("claude models", "models", method="GET", query="limit=20"),
    anthropic("claude model", "models/claude-opus-4-5", method="GET"),
    google("generate", "models/gemini-2.5-flash:generateContent", CONTENTS),
    google("generate stream", "models/gemini-2.5-flash:streamGenerateContent", CONTENTS, query="alt=sse"),
    google("count content", "models/gemini-2.5-flash:countTokens", CONTENTS),
    google(
        "embed",
        "models/gemini-embedding-001:embedContent",
        rb'"content":{"parts":[{"text":"\u0041"}]},"outputDimensionality":8',
    ),
    google(
        "embed in a batch",
        "models/gemini-embedding-001:batchEmbedContents",
        rb'"requests":[{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"\u0041"}]}}]',
    ),
    google("gemini models", "models", method="GET", query="pageSize=50&x=a%20b"),
    google("gemini model", "models/gemini-2.5-flash", method="GET"),
    azure("azure chat", "chat/completions", CHAT.replace(b"sim-model", b"az-gpt")),
    azure(
        "azure chat stream",
        "chat/completions",
        CHAT.replace(b"sim-model", b"az-gpt") + rb',"stream":true,"stream_options":{"include_usage":true}',
    ),
    azure("azure completions", "completions", COMPLETION.replace(b"sim-small", b"az-gpt")),
    azure("azure embeddings", "embeddings", rb'"model":"az-gpt","input":["\u0041"],"dimensions":8'),
    azure("azure images", "images/generations", rb'"model":"az-gpt","prompt":"A \u0063at"'),
    azure("azure speech", "audio/speech", rb'"model":"az-gpt","voice":"alloy","input":"Say \u0069t"'),
    azure(
        "azure transcription",
        "audio/transcriptions",
        body=form("file", b"RIFF\x00", model="az-gpt"),
        headers=FORM,
    ),
    Case(
        "azure v1 chat",
        "openai",
        "chat/completions",
        odd_json(CHAT.replace(b"sim-model", b"az1-gpt")),
        arrives_at="/openai/v1/chat/completions",
    ),
    Case(
        "azure v1 responses",
        "openai",
        "responses",
        odd_json(RESPONSE.replace(b"sim-model", b"az1-gpt") + rb',"stream":true'),
        arrives_at="/openai/v1/responses",
    ),
]
STREAMS = [case for case in CASES if "stream" in case.name]
ROOTS = {
    "openai": ("/v1", "/openai/v1", "/v1/v1", "/openai/v1/v1", "/openai/v1/v1/v1"),
    "anthropic": ("/anthropic/v1", "/v1", "/v1/v1", "/anthropic/v1/v1", "/anthropic"),
    "google": ("/v1beta", "/google/v1beta", "/google/v1beta/v1beta", "/v1beta/v1beta"),
    "azure": ("/openai/deployments/az-gpt", "/azure/acme-eu/az-gpt", "/azure/acme-eu/openai/deployments/az-gpt"),
}


def named(case: Case) -> str:
    return case.name


def path_of(case: Case, root: str | None = None) -> str:
    query = f"?{case.query}" if case.query else ""
    return f"{root or ROOTS[case.dialect][0]}/{case.operation}{query}"


async def ask(gateway: Gateway, case: Case, *, root: str | None = None, script: str = "", **options: Any) -> Reply:
    headers = {**case.all_headers, **({"x-simulator": script} if script else {}), **options.pop("headers", {})}
    return await gateway.call(
        options.pop("body", case.body), path=path_of(case, root), method=case.method, headers=headers, **options
    )


def assert_asked_as_sent(gateway: Gateway, case: Case, reply: Reply) -> dict[str, Any]:
    seen = gateway.seen_upstream(reply.interaction)
    assert (seen["method"], seen["path"]) == (case.method, case.arrives_at)
    # Where the provider wants a parameter of the gateway's own choice, it goes to the end.
    assert sorted(seen["query"].split("&")) == sorted(case.query.split("&"))
    assert seen["body"] == case.body
    found = [(name.lower(), value) for name, value in seen["headers"]]
    for name, value in case.all_headers.items():
        assert [told for known, told in found if known == name] == [value]
    return seen


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_a_call_arrives_as_it_was_sent_and_so_does_its_answer(gateway: Gateway, case: Case) -> None:
    reply = await ask(gateway, case)

    seen = assert_asked_as_sent(gateway, case, reply)
    assert (reply.status, seen["status"]) == (200, 200)
    assert reply.body == seen["sent"]
    assert reply.body
    if case in STREAMS:
        assert reply.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("prefix", ["", "/trueportai-services"])
@pytest.mark.parametrize(
    ("case", "root"),
    [
        (case, root)
        for case in CASES
        if case.name in ("chat", "messages stream", "count tokens", "generate", "azure chat", "upload", "claude model")
        for root in ROOTS[case.dialect]
    ],
    ids=lambda value: value.name if isinstance(value, Case) else value,
)
async def test_every_path_that_base_urls_lead_to_is_the_same_call(
    gateway: Gateway, case: Case, root: str, prefix: str
) -> None:
    reply = await ask(gateway, case, root=prefix + root)

    seen = assert_asked_as_sent(gateway, case, reply)
    assert (reply.status, reply.body) == (200, seen["sent"])


@pytest.mark.parametrize("ends", ["crlf", "cr", "mixed"])
@pytest.mark.parametrize("case", STREAMS, ids=named)
async def test_events_nobody_knows_and_odd_line_ends_pass_in_pieces_of_a_byte(
    gateway: Gateway, case: Case, ends: str
) -> None:
    # Said again in the header, because forms and sounds have no prompt that could.
    reply = await ask(gateway, case, script=f"extra=fields comment event {ends}; fault=split=1")

    seen = gateway.seen_upstream(reply.interaction)
    assert reply.body == seen["sent"]
    assert b"simulator comment" in reply.body
    assert b"event: custom" in reply.body
    assert gateway.record(reply.interaction)["end"] == "completed"


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 429, 500, 503, 529])
@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if case.name in ("chat", "responses stream", "messages", "generate", "azure chat", "upload")
    ],
    ids=named,
)
async def test_an_error_of_the_provider_is_told_in_its_own_bytes(gateway: Gateway, case: Case, status: int) -> None:
    reply = await ask(gateway, case, script=f"fault=status={status} retry-after=7")

    assert reply.status == status
    assert reply.body == gateway.seen_upstream(reply.interaction)["sent"]
    assert json.loads(reply.body)["error"]
    assert reply.headers["retry-after"] == "7"


@pytest.mark.parametrize("case", STREAMS, ids=named)
async def test_an_error_in_the_middle_of_a_stream_is_the_providers_own(gateway: Gateway, case: Case) -> None:
    reply = await ask(gateway, case, script="fault=stream-error after=2")

    assert reply.status == 200
    assert reply.body == gateway.seen_upstream(reply.interaction)["sent"]
    assert gateway.record(reply.interaction)["end"] == "upstream_failed"


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ("chat stream", "completions stream")], ids=named
)
async def test_a_stream_whose_usage_nobody_asked_for_differs_in_that_alone(gateway: Gateway, case: Case) -> None:
    body = re.sub(rb',"stream_options":\{[^}]*\}', b"", case.body)
    assert body != case.body

    reply = await ask(gateway, case, body=body)

    seen = gateway.seen_upstream(reply.interaction)
    assert seen["body"].replace(b',"stream_options":{"include_usage":true}', b"") == body
    assert b'"usage"' in seen["sent"]
    kept = [
        event.replace(b',"usage":null', b"") for event in seen["sent"].split(b"\n\n") if b'"choices":[],' not in event
    ]
    assert reply.body == b"\n\n".join(kept)


def json_of(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


async def test_the_array_form_of_googles_streams_holds_the_same_elements_in_order(gateway: Gateway) -> None:
    body = odd_json(CONTENTS.replace(b"fields comment event", b"fields"))
    path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    direct = urllib.request.Request(
        gateway.place.simulator.url + path,
        body,
        {"content-type": "application/json", "x-goog-api-key": "sk-direct"},
    )
    elements = await asyncio.to_thread(json_of, direct)

    for query in ("", "?alt=json", "?%24alt=json"):
        reply = await gateway.call(body, path=path + query)

        assert json.loads(reply.body) == elements
        assert reply.headers["content-type"] == "application/json"
        seen = gateway.seen_upstream(reply.interaction)
        assert (seen["query"], seen["body"]) == ("alt=sse", body)
        # Inside the elements nothing is spelled anew.
        told = [event.removeprefix(b"data: ") for event in seen["sent"].split(b"\r\n\r\n") if event]
        assert reply.body == b"[" + b",\r\n".join(told) + b"]"
    assert len(elements) > 2


# --- objects of the provider


async def test_a_file_and_its_batch_come_back_as_the_provider_tells_them(gateway: Gateway) -> None:
    upload = await gateway.call(form("file", BATCH_LINE, purpose="batch"), path="/v1/files", headers=FORM)
    file_id = json.loads(upload.body)["id"]
    asked = b'{ "input_file_id":"%b","endpoint":"/v1/chat/completions", "completion_window":"24h",%b}' % (
        file_id.encode(),
        ODD,
    )
    batch = await gateway.call(asked, path="/v1/batches")
    batch_id = json.loads(batch.body)["id"]
    assert gateway.seen_upstream(batch.interaction)["body"] == asked
    done = await gateway.call(method="GET", path=f"/v1/batches/{batch_id}")
    output_id = json.loads(done.body)["output_file_id"]

    for method, path in (
        ("GET", f"files/{file_id}"),
        ("GET", f"files/{file_id}/content"),
        ("GET", f"batches/{batch_id}"),
        ("GET", f"files/{output_id}/content"),
        ("DELETE", f"files/{file_id}"),
    ):
        reply = await gateway.call(method=method, path=f"/openai/v1/v1/{path}")
        seen = gateway.seen_upstream(reply.interaction)
        assert (reply.status, seen["method"], seen["path"]) == (200, method, f"/v1/{path}")
        assert reply.body == seen["sent"]


async def test_a_message_batch_comes_back_as_the_provider_tells_it(gateway: Gateway) -> None:
    asked = (
        rb'{"requests":[ {"custom_id":"a","params":{"model":"claude-next","max_tokens":50,'
        rb'"messages":[{"role":"user","content":"\u0048i"}]}}]}'
    )
    made = await gateway.call(asked, path="/anthropic/v1/messages/batches", headers=VERSIONED)
    assert gateway.seen_upstream(made.interaction)["body"] == asked
    name = json.loads(made.body)["id"]

    told = await gateway.call(method="GET", path=f"/anthropic/v1/v1/messages/batches/{name}", headers=VERSIONED)
    seen = gateway.seen_upstream(told.interaction)
    assert (told.status, seen["path"]) == (200, f"/v1/messages/batches/{name}")
    # An SDK would follow it to the provider, with a key that is none there and nobody's business but ours.
    assert told.body == seen["sent"].replace(gateway.place.simulator.url.encode() + b"/v1", b"/v1")
    assert json.loads(told.body)["results_url"] == f"/v1/messages/batches/{name}/results"

    results = await gateway.call(method="GET", path=json.loads(told.body)["results_url"], headers=VERSIONED)
    assert results.body == gateway.seen_upstream(results.interaction)["sent"]
    assert json.loads(results.body)["result"]["type"] == "succeeded"


# --- keys

ONE_OF_EACH = [
    case for case in CASES if case.name in ("chat", "chat stream", "messages", "generate", "azure chat", "models")
]
KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


async def keyed(gateway: Gateway, case: Case, headers: list[tuple[str, str]], query: str = "") -> Reply:
    """The call with these headers for credentials and no other."""
    path = path_of(case)
    if query:
        path += ("&" if "?" in path else "?") + query
    lines = [f"{case.method} {path} HTTP/1.1", f"host: 127.0.0.1:{gateway.port}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in (*case.all_headers.items(), *headers)]
    lines.append(f"content-length: {len(case.body)}")
    if case.body and "content-type" not in case.all_headers:
        lines.append("content-type: application/json")
    return parsed(await gateway.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + case.body))


def as_header(name: str, key: str) -> tuple[str, str]:
    return (name, f"Bearer {key}" if name == "authorization" else key)


def assert_unseen(gateway: Gateway, reply: Reply, *secrets: str) -> None:
    seen = gateway.seen_upstream(reply.interaction)
    everything = f"{seen['path']}?{seen['query']} {seen['headers']} {seen['body']!r}"
    assert [secret for secret in secrets if secret in everything] == []


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=named)
async def test_a_key_is_taken_from_any_header_and_goes_no_further(
    gateway: Gateway, new_key: Callable[..., dict[str, Any]], case: Case
) -> None:
    key = str(new_key()["key"])
    ways: list[tuple[list[tuple[str, str]], str]] = [([as_header(name, key)], "") for name in KEY_HEADERS]
    ways.append(([as_header(name, key) for name in KEY_HEADERS], ""))
    ways.append(([as_header("authorization", key), as_header("authorization", key)], ""))
    if case.dialect == "google":
        ways += [([], f"key={key}"), ([], f"%6bey={key}"), ([as_header("api-key", key)], f"key={key}&key={key}")]

    for headers, query in ways:
        reply = await keyed(gateway, case, headers, query)

        assert reply.status == 200, ([name for name, _ in headers], reply.body)
        assert_unseen(gateway, reply, key, "key=")
    names = []
    for path in gateway.place.data_dir.rglob("*"):
        # Journals and databases come and go meanwhile.
        with suppress(FileNotFoundError):
            if path.is_file() and key.encode() in path.read_bytes():
                names.append(path.name)
    assert names == []
    assert (gateway.place.data_dir / "server.log").stat().st_size > 0


@pytest.mark.parametrize("case", [case for case in ONE_OF_EACH if case.dialect != "google"], ids=named)
async def test_a_key_in_the_query_is_googles_way_and_no_other_dialects(gateway: Gateway, case: Case) -> None:
    refused = await keyed(gateway, case, [], f"key={gateway.key}")
    assert refused.status == 401
    assert gateway.key not in str(refused)

    reply = await keyed(gateway, case, [as_header("x-api-key", gateway.key)], "key=sk-canary-1&%6bey=sk-canary-2")
    assert reply.status == 200
    assert_unseen(gateway, reply, "sk-canary", gateway.key)


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer {key}"), ("x-api-key", "other")],
        [("x-api-key", "{key}"), ("x-goog-api-key", "sk-other")],
        [("api-key", "{key}"), ("authorization", "Bearer other")],
        [("authorization", "Bearer {key}"), ("authorization", "Bearer {key}x")],
        [("x-api-key", "{key}"), ("x-api-key", "other")],
    ],
    ids=lambda headers: "+".join(name for name, _ in headers),
)
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=named)
async def test_two_different_keys_are_a_bad_request_in_the_dialects_words(
    gateway: Gateway, case: Case, headers: list[tuple[str, str]]
) -> None:
    reply = await keyed(gateway, case, [(name, value.format(key=gateway.key)) for name, value in headers])

    assert_refused(reply, case.dialect)


async def test_two_different_keys_may_stand_in_header_and_query(gateway: Gateway) -> None:
    case = next(case for case in CASES if case.name == "generate")

    assert_refused(await keyed(gateway, case, [as_header("x-goog-api-key", gateway.key)], "key=sk-other"), "google")
    assert_refused(await keyed(gateway, case, [], f"key={gateway.key}&key=sk-other"), "google")


def assert_refused(reply: Reply, dialect: str) -> None:
    assert reply.status == 400
    error = json.loads(reply.body)
    match dialect:
        case "anthropic":
            assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
        case "google":
            assert (error["error"]["code"], error["error"]["status"]) == (400, "INVALID_ARGUMENT")
            assert error["error"]["details"][0]["reason"] == "AMBIGUOUS_CREDENTIAL"
        case _:
            assert error["error"]["type"] == "invalid_request_error"
            assert error["error"]["code"] == "ambiguous_credential"


@pytest.mark.parametrize("name", ["basic", "digest", "Token"])
async def test_a_key_under_another_scheme_is_no_key(gateway: Gateway, name: str) -> None:
    case = next(case for case in CASES if case.name == "chat")

    reply = await keyed(gateway, case, [("authorization", f"{name} {gateway.key}")])

    assert reply.status == 401


# --- what stays on its side

WITHHELD = {
    "cookie": "stop",
    "proxy-authorization": "stop",
    "forwarded": "for=stop",
    "via": "stop",
    "x-forwarded-for": "stop",
    "x-forwarded-host": "stop",
    "x-real-ip": "stop",
    "cf-connecting-ip": "stop",
    "x-portkey-config": "stop",
    "x-portkey-api-key": "stop",
    "openai-organization": "stop",
    "openai-project": "stop",
    "x-goog-user-project": "stop",
    "x-goog-request-params": "stop",
    "x-client-request-id": "stop",
    "x-http-method-override": "stop",
    "x-tenant-slug": "stop",
    "x-trueport-anything": "stop",
    "origin": "stop",
    "referer": "stop",
    "te": "stop",
    "keep-alive": "stop",
    "proxy-connection": "stop",
    "accept-encoding": "stop",
    "x-drop-me": "stop",
    "connection": "x-drop-me, close",
}
FOREIGN = {
    "openai": "anthropic-beta",
    "anthropic": "openai-beta",
    "google": "anthropic-beta",
    "azure": "anthropic-beta",
}


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=named)
async def test_headers_of_the_connection_of_proxies_and_of_others_stay_here(gateway: Gateway, case: Case) -> None:
    reply = await ask(gateway, case, headers={**WITHHELD, FOREIGN[case.dialect]: "stop"})

    assert reply.status == 200
    seen = gateway.seen_upstream(reply.interaction)
    headers = [(name.lower(), value) for name, value in seen["headers"]]
    assert [name for name, value in headers if "stop" in value or gateway.key in value] == []
    assert [value for name, value in headers if name == "host"] == [f"127.0.0.1:{gateway.place.simulator.port}"]
    assert [value for name, value in headers if name == "x-client-request-id"] == [reply.interaction]
    assert {"x-drop-me", "cookie", "forwarded"}.isdisjoint(name for name, _ in headers)
    credentials = {name: value for name, value in headers if name in KEY_HEADERS}
    own = {"openai": "authorization", "anthropic": "x-api-key", "google": "x-goog-api-key", "azure": "api-key"}
    name = own[case.dialect]
    assert credentials == dict([as_header(name, "sk-simulated-provider-key")])


@pytest.mark.parametrize("case", [*ONE_OF_EACH, *STREAMS[1:]], ids=named)
async def test_cookies_of_the_provider_never_come_back(gateway: Gateway, case: Case) -> None:
    reply = await ask(gateway, case, script="fault=set-cookie")
    assert reply.status == 200
    assert "set-cookie" not in reply.headers

    again = await ask(gateway, case)
    assert "cookie" not in {name.lower() for name, _ in gateway.seen_upstream(again.interaction)["headers"]}


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=named)
async def test_a_provider_that_quotes_its_key_does_not_tell_it_to_the_client(gateway: Gateway, case: Case) -> None:
    reply = await ask(gateway, case, script="fault=echo-key")

    assert b"sk-simulated-provider-key" in gateway.seen_upstream(reply.interaction)["sent"]
    assert reply.status >= 400
    assert "sk-simulated-provider-key" not in str(reply)


# --- Azure's own ways


async def test_a_body_without_a_model_gets_azures_deployment_and_nothing_else(gateway: Gateway) -> None:
    body = odd_json(rb'"messages":[{"role":"user","content":"Hi"}]')

    reply = await gateway.call(body, path="/openai/deployments/az-gpt/chat/completions?api-version=2024-10-21")

    seen = gateway.seen_upstream(reply.interaction)
    assert (reply.status, reply.body) == (200, seen["sent"])
    assert re.sub(rb'\s*,?"model":"az-gpt",?', b"", seen["body"]).replace(b" ", b"") == body.replace(b" ", b"")


@pytest.mark.parametrize("query", ["api-version=2025-04-01-preview", "x=a%20b&api-version=2024-06-01&y=1"])
async def test_azures_version_and_other_parameters_arrive(gateway: Gateway, query: str) -> None:
    body = rb'{"model":"az-gpt","messages":[{"role":"user","content":"Hi"}]}'

    reply = await gateway.call(body, path=f"/openai/deployments/az-gpt/chat/completions?{query}")

    seen = gateway.seen_upstream(reply.interaction)
    assert (reply.status, seen["body"]) == (200, body)
    assert sorted(parse_qsl(seen["query"])) == sorted(parse_qsl(query))


@pytest.fixture(autouse=True)
def _log_without_secrets(gateway: Gateway) -> Iterator[None]:
    """Whatever a test here did, neither side's key is in the server's log afterwards."""
    yield
    log = (gateway.place.data_dir / "server.log").read_text()
    assert [name for name in (gateway.key, "sk-simulated-provider-key", "sk-canary") if name in log] == []
