"""Requests no honest client sends: refused in the dialect's own form, never a 500, and nobody else notices."""

import asyncio
import gzip
import json
import time
from typing import Any

import pytest

from tests.e2e.conftest import Gateway, parsed
from tests.support.simulator import PATIENCE_S, RawReply, connected

MESSAGES = b'"messages":[{"role":"user","content":"x"}]'
CHAT = b'{"model":"sim-model",' + MESSAGES + b"}"


@pytest.fixture(autouse=True)
def healthy_afterwards(gateway: Gateway) -> Any:
    yield
    assert gateway.is_ready()
    assert "call_failed" not in gateway.place.log_tail()


def error_of(raw: RawReply) -> dict[str, Any]:
    """The refusal in OpenAI's form, checked to be one."""
    reply = parsed(raw)
    assert reply.headers["content-type"] == "application/json"
    error = reply.error
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert isinstance(error["code"], str)
    assert error["interaction_id"] == reply.interaction
    return error


def request(
    gateway: Gateway, *lines: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1", body: bytes = CHAT
) -> bytes:
    """A request whose head is whole but for what `lines` add or spoil; without them it would be served."""
    head = [line, b"connection: close", b"authorization: Bearer " + gateway.key.encode(), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def framed(
    gateway: Gateway, *lines: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1", body: bytes = CHAT
) -> bytes:
    """The same with Host, length and type."""
    own = (b"host: gateway", b"content-type: application/json", b"content-length: %d" % len(body))
    return request(gateway, *own, *lines, line=line, body=body)


async def test_the_request_that_the_others_spoil_is_served(gateway: Gateway) -> None:
    assert (await gateway.raw(framed(gateway))).status == 200


# --- bodies


def chat_with(member: bytes) -> bytes:
    return b'{"model":"sim-model",' + MESSAGES + b"," + member + b"}"


BODIES = {
    "nothing": (b"", "invalid_request"),
    "space": (b"  \n", "invalid_json"),
    "cut": (CHAT[:-1], "invalid_json"),
    "two": (CHAT + CHAT, "invalid_json"),
    "list": (b"[" + CHAT + b"]", "invalid_json"),
    "string": (b'"x"', "invalid_json"),
    "null": (b"null", "invalid_json"),
    "comma": (CHAT[:-1] + b",}", "invalid_json"),
    "comment": (CHAT[:-1] + b"/**/}", "invalid_json"),
    "quotes": (CHAT.replace(b'"', b"'"), "invalid_json"),
    "bom": (b"\xef\xbb\xbf" + CHAT, "invalid_json"),
    "utf16": (CHAT.decode().encode("utf-16"), "invalid_json"),
    "latin-1": (chat_with(b'"user":"\xe9"'), "invalid_json"),
    "overlong": (chat_with(b'"user":"\xc0\xaf"'), "invalid_json"),
    "raw surrogate": (chat_with(b'"user":"\xed\xa0\x80"'), "invalid_json"),
    "half a pair": (chat_with(rb'"user":"\ud83d"'), "invalid_json"),
    "other half": (chat_with(rb'"user":"\udE00"'), "invalid_json"),
    "half in a name": (chat_with(rb'"\ud83d":1'), "invalid_json"),
    "raw NUL": (chat_with(b'"user":"a\x00b"'), "invalid_json"),
    "NaN": (chat_with(b'"temperature":NaN'), "invalid_json"),
    "Infinity": (chat_with(b'"temperature":-Infinity'), "invalid_json"),
    "too large": (chat_with(b'"temperature":1e400'), "invalid_json"),
    "digits": (chat_with(b'"seed":' + b"7" * 5_000), "invalid_json"),
    "leading zero": (chat_with(b'"seed":007'), "invalid_json"),
    "twice": (chat_with(b'"model":"other"'), "duplicate_key"),
    "twice, escaped": (chat_with(rb'"mod\u0065l":"other"'), "duplicate_key"),
    "twice, inside": (chat_with(rb'"a":{"b":[{"c":1,"\u0063":2}]}'), "duplicate_key"),
    "deep lists": (chat_with(b'"x":' + b"[" * 129 + b"]" * 129), "json_too_deep"),
    "deep objects": (chat_with(b'"x":' + b'{"a":' * 200 + b"1" + b"}" * 200), "json_too_deep"),
    "very deep": (b"[" * 1_000_000, "json_too_deep"),
    "many": (chat_with(b'"x":[' + b"{}," * 200_000 + b"{}]"), "too_many_items"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_body_that_parsers_read_differently_is_refused(gateway: Gateway, case: str) -> None:
    body, code = BODIES[case]

    raw = await gateway.raw(framed(gateway, body=body))

    assert raw.status == 400
    assert error_of(raw)["code"] == code


async def test_a_body_nested_just_within_the_bound_is_served(gateway: Gateway) -> None:
    body = chat_with(b'"x":' + b"[" * 127 + b"]" * 127)

    assert (await gateway.raw(framed(gateway, body=body))).status == 200


@pytest.mark.parametrize(
    "stated",
    [b"text/plain", b"application/x-www-form-urlencoded", b"application/json; charset=utf-16", b"multipart/form-data"],
)
async def test_a_type_that_is_not_json_in_utf_8_is_refused(gateway: Gateway, stated: bytes) -> None:
    lines = (b"host: gateway", b"content-type: " + stated, b"content-length: %d" % len(CHAT))

    raw = await gateway.raw(request(gateway, *lines))

    assert (raw.status, error_of(raw)["param"]) == (400, "body")


async def test_two_types_are_refused(gateway: Gateway) -> None:
    raw = await gateway.raw(framed(gateway, b"content-type: text/plain"))

    assert (raw.status, error_of(raw)["code"]) == (400, "invalid_request")


async def test_a_body_where_none_belongs_is_refused(gateway: Gateway) -> None:
    raw = await gateway.raw(framed(gateway, line=b"GET /v1/models HTTP/1.1"))

    assert (raw.status, error_of(raw)["param"]) == (400, "body")


# --- size, time, compression


async def test_a_body_stated_too_large_is_refused_before_it_is_sent(gateway: Gateway) -> None:
    head = request(gateway, b"host: gateway", b"content-length: %d" % ((20 << 20) + 1), body=b"")

    raw = await gateway.raw(head)

    assert (raw.status, error_of(raw)["code"]) == (413, "body_too_large")


async def test_a_body_that_grows_too_large_is_refused_when_it_does(gateway: Gateway) -> None:
    piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    received = bytearray()
    async with asyncio.timeout(PATIENCE_S), connected(gateway.port) as (reader, writer):
        writer.write(request(gateway, b"host: gateway", b"transfer-encoding: chunked", body=b""))
        try:
            for _ in range(22):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        try:
            while data := await reader.read(65536):
                received += data
        except ConnectionError:
            pass

    # Whether the answer survives on a connection that is closed with unread bytes is up to the network stack.
    if received:
        assert RawReply(bytes(received), was_reset=False).status == 413


async def test_a_body_of_the_greatest_size_is_served(gateway: Gateway) -> None:
    body = chat_with(b'"user":""')
    body = body.replace(b'"user":""', b'"user":"' + b"x" * ((20 << 20) - len(body)) + b'"')
    assert len(body) == 20 << 20

    assert (await gateway.raw(framed(gateway, body=body))).status == 200


@pytest.mark.slow
async def test_a_body_that_stops_coming_is_given_up(gateway: Gateway) -> None:
    begun_s = time.monotonic()

    raw = await gateway.raw(request(gateway, b"host: gateway", b"content-length: 1000", body=b"{"))

    assert (raw.status, error_of(raw)["code"]) == (408, "request_timeout")
    assert time.monotonic() - begun_s > 2


@pytest.mark.parametrize("coding", [b"br", b"deflate", b"zstd", b"gzip, gzip", b"gzip, identity", b"x"])
async def test_an_unknown_compression_is_refused(gateway: Gateway, coding: bytes) -> None:
    raw = await gateway.raw(framed(gateway, b"content-encoding: " + coding))

    assert (raw.status, error_of(raw)["code"]) == (415, "unsupported_encoding")


async def test_a_body_compressed_too_far_is_refused(gateway: Gateway) -> None:
    bomb = gzip.compress(bytes(50_000_000))

    raw = await gateway.raw(framed(gateway, b"content-encoding: gzip", body=bomb))

    assert (raw.status, error_of(raw)["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "body", [CHAT, gzip.compress(CHAT)[:-4], gzip.compress(CHAT) + b"x"], ids=["no", "cut", "more"]
)
async def test_gzip_that_is_none_is_refused(gateway: Gateway, body: bytes) -> None:
    raw = await gateway.raw(framed(gateway, b"content-encoding: gzip", body=body))

    assert (raw.status, error_of(raw)["code"]) == (400, "invalid_request")


# --- heads


def length() -> bytes:
    return b"content-length: %d" % len(CHAT)


HOSTS = [
    (),
    (b"host: a", b"host: b"),
    (b"host: a", b"host: a"),
    (b"host:",),
    (b"host: a b",),
    (b"host: a/b",),
    (b"host: a?b",),
    (b"host: a#b",),
    (b"host: a@b",),
    (b"host: a,b",),
    (b"host: a:b",),
    (b"host: a:1:2",),
    (b"host: [::1",),
    (b"host: .a",),
    (b"host: a..b",),
    (b"host: " + b"a" * 300,),
    (b"host: caf\xe9",),
]


@pytest.mark.parametrize("hosts", HOSTS, ids=str)
async def test_anything_but_one_plain_host_is_refused(gateway: Gateway, hosts: tuple[bytes, ...]) -> None:
    raw = await gateway.raw(request(gateway, *hosts, length()))

    assert raw.status == 400
    if raw.body:  # what is no HTTP at all is refused by the server below, with an empty body
        assert error_of(raw)["code"] == "invalid_host"


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"127.0.0.1:8080", b"[::1]:1", b"A-b_c.d"])
async def test_any_plain_host_is_served(gateway: Gateway, host: bytes) -> None:
    assert (await gateway.raw(request(gateway, b"host: " + host, length()))).status == 200


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT)
HEADS = {
    "two lengths": ([length(), b"content-length: 1"], CHAT),
    "a list of lengths": ([b"content-length: 1, 1"], CHAT),
    "unknown coding": ([b"transfer-encoding: xchunked"], CHUNKED),
    "coding twice": ([b"transfer-encoding: chunked", b"transfer-encoding: chunked"], CHUNKED),
    "coding after chunked": ([b"transfer-encoding: chunked, identity"], CHUNKED),
    "negative length": ([b"content-length: -1"], CHAT),
    "signed length": ([b"content-length: +%d" % len(CHAT)], CHAT),
    "hexadecimal length": ([b"content-length: 0x10"], CHAT),
    "endless length": ([b"content-length: " + b"9" * 40], CHAT),
    "space before colon": ([length(), b"x-a : b"], CHAT),
    "space in a name": ([length(), b"x a: b"], CHAT),
    "no colon": ([length(), b"x-a"], CHAT),
    "no name": ([length(), b": b"], CHAT),
    "folded": ([length(), b"x-a: b", b" c"], CHAT),
    "NUL in a value": ([length(), b"x-a: b\x00c"], CHAT),
    "NUL in a name": ([length(), b"x\x00a: b"], CHAT),
    "bare CR": ([length(), b"x-a: b\rx-c: d"], CHAT),
    "control character": ([length(), b"x-a: \x01\x1b[2J"], CHAT),
    "delete": ([length(), b"x-a: \x7f"], CHAT),
    "bad chunk size": ([b"transfer-encoding: chunked"], b"zz\r\n" + CHAT),
    "negative chunk": ([b"transfer-encoding: chunked"], b"-1\r\n" + CHAT),
    "huge chunk": ([b"transfer-encoding: chunked"], b"f" * 17 + b"\r\n" + CHAT),
    "chunk without end": ([b"transfer-encoding: chunked"], b"1\r\n{}}\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("case", HEADS)
async def test_a_head_that_two_servers_read_differently_is_refused(gateway: Gateway, case: str) -> None:
    lines, body = HEADS[case]

    raw = await gateway.raw(request(gateway, b"host: gateway", *lines, body=body))

    if raw.wire:
        assert 400 <= raw.status < 500
    assert raw.wire.count(b"HTTP/1.1 ") <= 1
    assert b"chat.completion" not in raw.wire


# What has one reading only (RFC 9112, 6.3: the coding counts, not the length), and ends the connection after it.
READ_BY_THE_RULE = {
    "the same length twice": ([length(), length()], CHAT),
    "length and coding": ([length(), b"transfer-encoding: chunked"], CHUNKED),
    "coding and length": ([b"transfer-encoding: chunked", length()], CHUNKED),
    "coding before chunked": ([b"transfer-encoding: gzip, chunked"], CHUNKED),
}


@pytest.mark.parametrize("case", READ_BY_THE_RULE)
async def test_a_body_framed_twice_is_one_request_and_the_provider_gets_one_framing(
    gateway: Gateway, case: str
) -> None:
    lines, body = READ_BY_THE_RULE[case]
    second = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    first = request(gateway, b"host: gateway", *lines, body=body)

    raw = await gateway.raw(first + second)

    assert raw.wire.count(b"HTTP/1.1 ") == 1
    assert raw.status in (200, 400)
    if raw.status == 200:
        seen = gateway.seen_upstream(raw.header("x-trueport-interaction") or "")
        framing = [
            name.lower() for name, _ in seen["headers"] if name.lower() in ("content-length", "transfer-encoding")
        ]
        assert (seen["body"], framing) == (CHAT, ["content-length"])


async def test_a_second_request_hidden_in_a_body_is_not_answered(gateway: Gateway) -> None:
    hidden = b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"

    raw = await gateway.raw(
        request(gateway, b"host: a", b"content-length: %d" % len(hidden), b"transfer-encoding: chunked", body=hidden)
    )

    assert raw.wire.count(b"HTTP/1.1 ") <= 1
    assert b'"object":"list"' not in raw.wire


async def test_a_great_many_headers_are_refused_or_served_and_nothing_else(gateway: Gateway) -> None:
    many = await gateway.raw(framed(gateway, *[b"x-%d: y" % number for number in range(2_000)]))
    large = await gateway.raw(framed(gateway, b"x-large: " + b"y" * 2_000_000))

    for raw in (many, large):
        assert not raw.wire or raw.status == 200 or 400 <= raw.status < 500


# --- targets

OWN_PATHS = [
    b"/v1/",
    b"/v1/v1/",
    b"/v1/models/",
    b"/v1/../v1/models",
    b"/v1/./models",
    b"/v1/%2e%2e/models",
    b"/v1/%2E/models",
    b"/v1/%2e%2e%2fmodels",
    b"/v1/..;/models",
    b"/v1//models",
    b"/v1/models//x",
    b"/v1/models%00",
    b"/v1/models%20",
    b"/v1/models%0d%0ax-evil:1",
    b"/v1/models%3fa=b",
    b"/v1/models%23",
    b"/v1/%252e%252e/models",
    b"/v1/models\\..\\x",
    b"/v1/models/%ff%fe",
    b"/openai/v1/@evil.example/../x",
    b"/v1/Chat/Completions",
    b"/v1/chat/COMPLETIONS",
    b"/v1/chat/completions%09",
]


@pytest.mark.parametrize("path", OWN_PATHS, ids=bytes.decode)
async def test_a_path_with_two_readings_is_not_found(gateway: Gateway, path: bytes) -> None:
    before = await calls_upstream(gateway)

    raw = await gateway.raw(framed(gateway, line=b"POST " + path + b" HTTP/1.1"))

    assert raw.status in (400, 404)
    if raw.body:
        error_of(raw)
    assert await calls_upstream(gateway) == before


async def calls_upstream(gateway: Gateway) -> int:
    wire = b"GET /_simulator/ledger?limit=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    received = bytearray()
    async with connected(gateway.place.simulator.port) as (reader, writer):
        writer.write(wire)
        while data := await asyncio.wait_for(reader.read(65536), PATIENCE_S):
            received += data
    requests: int = json.loads(parsed(RawReply(bytes(received), was_reset=False)).body)["totals"]["requests"]
    return requests


@pytest.mark.parametrize(
    "line",
    [
        b"GET //v1/models HTTP/1.1",
        b"GET /%76%31/../v1 HTTP/1.1",
        b"GET /../v1/models HTTP/1.1",
        b"GET v1/models HTTP/1.1",
        b"GET /v1/models  HTTP/1.1",
        b"GET /v1/mo dels HTTP/1.1",
        b"GET /v1/models HTTP/9.9",
        b"GET /v1/models",
        b"GET * HTTP/1.1",
        b"CONNECT 169.254.169.254:80 HTTP/1.1",
        b"CONNECT /v1/models HTTP/1.1",
        b"TRACE /v1/models HTTP/1.1",
        b"OPTIONS /v1/models HTTP/1.1",
        b"PROPFIND /v1/models HTTP/1.1",
        b"G\x00T /v1/models HTTP/1.1",
        b"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1",
        b"GET http://169.254.169.254/v1/models?x=http://evil.example HTTP/1.0",
        b"",
    ],
    ids=repr,
)
async def test_a_target_of_another_form_is_never_our_error(gateway: Gateway, line: bytes) -> None:
    raw = await gateway.raw(request(gateway, b"host: gateway", line=line, body=b""))

    if raw.wire:
        assert raw.status < 500 or raw.status == 505
        assert b"169.254" not in raw.body


async def test_an_absolute_target_reaches_the_configured_provider_and_no_other(gateway: Gateway) -> None:
    raw = await gateway.raw(framed(gateway, line=b"POST http://evil.example:1/v1/chat/completions HTTP/1.1"))

    assert raw.status in (200, 400)
    if raw.status == 200:
        seen = gateway.seen_upstream(raw.header("x-trueport-interaction") or "")
        assert f"127.0.0.1:{gateway.place.simulator.port}" in dict(seen["headers"]).values()


@pytest.mark.parametrize(
    "value",
    [b"Basic YTpi", b"Bearer", b"Bearer ", b"bearer  x y", b"Bearer \xff\xfe", b"", b"Bearer sk-tp-", b"Digest x=1"],
    ids=repr,
)
async def test_an_authorization_that_holds_no_key_is_unauthenticated(gateway: Gateway, value: bytes) -> None:
    head = [b"POST /v1/chat/completions HTTP/1.1", b"host: a", b"connection: close", length()]

    raw = await gateway.raw(b"\r\n".join([*head, b"authorization: " + value]) + b"\r\n\r\n" + CHAT)

    assert (raw.status, error_of(raw)["code"]) == (401, "invalid_api_key")


async def test_two_authorizations_that_differ_are_refused_and_two_alike_are_one(gateway: Gateway) -> None:
    own = b"authorization: Bearer " + gateway.key.encode()

    two = await gateway.raw(framed(gateway, b"authorization: Bearer other"))
    alike = await gateway.raw(framed(gateway, own))

    assert (two.status, error_of(two)["code"]) == (400, "ambiguous_credential")
    assert alike.status == 200


@pytest.mark.parametrize("value", [b"x" * 129, b"a b", b'"', b"\xe9", b"${jndi:x}"], ids=repr)
async def test_a_request_id_that_is_none_is_replaced(gateway: Gateway, value: bytes) -> None:
    raw = await gateway.raw(framed(gateway, b"x-request-id: " + value))

    assert raw.status == 200
    assert (raw.header("x-request-id") or "").startswith("req_")


@pytest.mark.parametrize("model", ["caf\u00e9", "\U0001f600", "a b", "$where", "../../x", "{{7*7}}"])
async def test_an_odd_model_name_is_at_most_not_served(gateway: Gateway, model: str) -> None:
    body = json.dumps({"model": f"missing-{model}", "messages": []}, ensure_ascii=False).encode()

    raw = await gateway.raw(framed(gateway, body=body))

    assert raw.status in (400, 404)
    assert raw.header("x-trueport-attempts") == "1"
