"""What the provider receives is what the client sent, and what the client receives is what the provider sent."""

import gzip
import json
import re
from typing import Any

import pytest

from tests.e2e.conftest import Gateway

# Spellings that a second serialisation would change, and members nobody has heard of.
ODD = (
    rb'{ "model":"sim-model" ,"temperature":1.0, "top_p":1e0,"seed":12345678901234567890,"x_float":1e2,'
    rb'"x_tiny":1.0E-7,"x_zero":-0.0,"x_digits":0.1000000000000000055511151231257827021181583404541015625,'
    b'\r\n\t"messages":[{"role":"user","content":"caf\\u00e9 \\ud83d\\ude00 \\/ \xc3\xa9 \xf0\x9f\x98\x80 \\u0000 \\"",'
    rb'"x_name":{"deep":[[],{},null,true,false]}}],"x_unknown":{"b":1,"a":[1,2.50]},"\u0078_escaped":"y"  }'
)


def without_stream_options(body: bytes) -> bytes:
    return re.sub(rb',"stream_options":\{"include_usage":true\}', b"", body)


async def test_a_request_reaches_the_provider_byte_for_byte(gateway: Gateway) -> None:
    reply = await gateway.call(ODD)

    assert reply.status == 200
    assert gateway.seen_upstream(reply.interaction)["body"] == ODD


@pytest.mark.parametrize("path", ["embeddings", "completions", "moderations", "responses", "images/generations"])
async def test_so_does_one_of_any_other_operation(gateway: Gateway, path: str) -> None:
    body = rb'{"model":"sim-model","input":"\u0041","prompt":"\u0041", "x":1.0,"max_tokens":1e0}'

    reply = await gateway.call(body, path=f"/v1/{path}")

    seen = gateway.seen_upstream(reply.interaction)
    assert (seen["method"], seen["path"]) == ("POST", f"/v1/{path}")
    assert seen["body"] == body


async def test_a_stream_request_differs_in_nothing_but_the_usage_it_asks_for(gateway: Gateway) -> None:
    body = ODD.replace(b'{ "model"', b'{"stream" : true, "model"', 1)

    reply = await gateway.call(body)

    seen = gateway.seen_upstream(reply.interaction)["body"]
    assert json.loads(seen)["stream_options"] == {"include_usage": True}
    assert without_stream_options(seen) == body


@pytest.mark.parametrize(
    ("options", "upstream"),
    [
        (b'{"include_usage":true}', b'{"include_usage":true}'),
        (b'{ "x_new" : 1, "include_usage":true }', b'{ "x_new" : 1, "include_usage":true }'),
        (b'{"include_usage":false,"x_new":1}', b'{"include_usage":true,"x_new":1}'),
        (b"null", b'{"include_usage":true}'),
    ],
)
async def test_stream_options_of_the_client_stay_beside_the_usage(
    gateway: Gateway, options: bytes, upstream: bytes
) -> None:
    body = b'{"model":"sim-model","stream_options":%s,"messages":[{"role":"user","content":"x"}],"stream":true}'

    reply = await gateway.call(body % options)

    assert gateway.seen_upstream(reply.interaction)["body"] == body % upstream


async def test_a_route_that_names_a_model_changes_that_member_alone(gateway: Gateway) -> None:
    body = ODD.replace(b'"sim-model"', b'"quick-\\u0041"')

    reply = await gateway.call(body)

    assert gateway.seen_upstream(reply.interaction)["body"] == ODD


async def test_an_upload_reaches_the_provider_byte_for_byte(gateway: Gateway) -> None:
    form = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff{"model":\r\n--x--\r\n'

    reply = await gateway.call(form, path="/v1/files", headers={"content-type": "multipart/form-data; boundary=x"})

    seen = gateway.seen_upstream(reply.interaction)
    assert seen["body"] == form
    assert ["content-type", "multipart/form-data; boundary=x"] in seen["headers"]


async def test_a_compressed_request_is_passed_on_unpacked(gateway: Gateway) -> None:

    reply = await gateway.call(gzip.compress(ODD), headers={"content-encoding": "gzip"})

    seen = gateway.seen_upstream(reply.interaction)
    assert seen["body"] == ODD
    assert "content-encoding" not in {name.lower() for name, _ in seen["headers"]}


async def test_a_body_without_a_type_goes_on_as_json(gateway: Gateway) -> None:
    body = b'{"model":"sim-model","messages":[{"role":"user","content":"x"}]}'
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-api-key: {gateway.key}\r\n"
        f"x-request-id: typeless\r\ncontent-length: {len(body)}\r\n\r\n"
    )

    raw = await gateway.raw(request.encode() + body)

    assert raw.status == 200
    assert raw.header("x-request-id") == "typeless"
    seen = gateway.seen_upstream(raw.header("x-trueport-interaction") or "")
    assert [value for name, value in seen["headers"] if name.lower() == "content-type"] == ["application/json"]


async def test_query_and_method_are_kept(gateway: Gateway) -> None:
    form = (
        b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n{}\r\n--x--\r\n'
    )
    uploaded = await gateway.call(form, path="/v1/files", headers={"content-type": "multipart/form-data; boundary=x"})
    path = f"/v1/files/{json.loads(uploaded.body)['id']}"

    reply = await gateway.call(method="DELETE", path=f"{path}?limit=2&x=a%20b%26c+d&%78=%e9&empty=&bare&limit=3")

    assert reply.status == 200
    seen = gateway.seen_upstream(reply.interaction)
    assert (seen["method"], seen["path"]) == ("DELETE", path)
    assert seen["query"] == "limit=2&x=a%20b%26c+d&%78=%e9&empty=&bare&limit=3"


# --- headers


async def test_unknown_headers_pass_and_those_of_the_connection_and_of_others_do_not(gateway: Gateway) -> None:
    passing = {
        "x-unknown": "canary-1",
        "openai-beta": "canary-3",
        "user-agent": "canary-4",
        "x-stainless-lang": "canary-5",
        "accept": "canary/6",
    }
    withheld = [
        *("x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization", "forwarded", "via"),
        *("x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-connecting-ip", "x-portkey-config", "te", "trailer"),
        *("x-portkey-api-key", "openai-organization", "openai-project", "anthropic-beta", "anthropic-version"),
        *("x-client-request-id", "x-http-method-override", "origin", "referer", "keep-alive", "proxy-connection"),
        *("x-tenant-slug", "x-trueport-anything", "sec-fetch-mode", "upgrade-insecure-x", "accept-encoding"),
        # The gateway keeps this promise itself: a provider that kept it too would answer the retries of one call.
        "idempotency-key",
    ]
    # A second credential has to be the same one, or the call is refused before it gets anywhere.
    values = {name: gateway.key if name.endswith("api-key") and "portkey" not in name else "stop" for name in withheld}
    del values["upgrade-insecure-x"]

    reply = await gateway.call(
        ODD, headers={**passing, **values, "x-drop-me": "stop", "connection": "x-drop-me, close"}
    )

    assert reply.status == 200
    seen = {name.lower(): value for name, value in gateway.seen_upstream(reply.interaction)["headers"]}
    assert {name: seen.get(name) for name in passing} == passing
    assert [name for name, value in seen.items() if "stop" in value or gateway.key in value] == []
    assert seen["authorization"] == "Bearer sk-simulated-provider-key"
    assert seen["host"] == f"127.0.0.1:{gateway.place.simulator.port}"
    assert seen["accept-encoding"] == "identity"
    assert seen["x-client-request-id"] == reply.interaction


@pytest.mark.parametrize("value", ["caf\u00e9", "a\tb", "\u00ff\u00fe"])
async def test_a_header_with_bytes_that_servers_read_differently_is_left_out(gateway: Gateway, value: str) -> None:
    reply = await gateway.call(ODD, headers={"x-odd": value, "x-even": "here"})

    assert reply.status == 200
    seen = {name.lower() for name, _ in gateway.seen_upstream(reply.interaction)["headers"]}
    assert "x-odd" not in seen
    assert "x-even" in seen


@pytest.mark.parametrize("fault", ["set-cookie", "hop-by-hop", "echo-key"])
async def test_headers_that_are_the_providers_own_business_stay_there(gateway: Gateway, fault: str) -> None:
    reply = await gateway.chat(script=f"fault={fault}")

    assert "set-cookie" not in reply.headers
    assert not {name for name in reply.headers if name.startswith(("proxy-", "keep-", "upgrade", "x-simulator"))}
    assert "sk-simulated-provider-key" not in str(reply)


# --- answers


@pytest.mark.parametrize(
    "extra", ["fields", "comment", "event", "fields comment event", "crlf", "cr", "mixed", "fields comment event crlf"]
)
async def test_a_stream_arrives_byte_for_byte(gateway: Gateway, extra: str) -> None:
    prompt = f"Hi [[say: d\u00e9j\u00e0 vu \U0001f600]] [[extra: {extra}]] [[fault: split=1]]"

    reply = await gateway.chat(prompt, stream=True, stream_options={"include_usage": True})

    assert reply.body == gateway.seen_upstream(reply.interaction)["sent"]
    assert gateway.record(reply.interaction)["end"] == "completed"


@pytest.mark.parametrize("extra", ["fields comment event", "crlf", "cr", "mixed"])
async def test_without_the_usage_everything_else_of_a_stream_arrives(gateway: Gateway, extra: str) -> None:
    reply = await gateway.chat(f"Hi [[extra: {extra}]]", stream=True)

    sent = gateway.seen_upstream(reply.interaction)["sent"]
    kept = b"".join(
        event.replace(b',"usage":null', b"")
        for event in re.findall(rb".+?(?:(?>\r\n|\r|\n){2}|\Z)", sent, re.DOTALL)
        if b'"choices":[],' not in event
    )
    assert reply.body == kept
    assert b'"usage"' in sent
    assert b'"usage"' not in reply.body
    entry = gateway.record(reply.interaction)
    assert (entry["end"], entry["usage_source"]) == ("completed", "provider")


async def test_a_plain_answer_arrives_byte_for_byte(gateway: Gateway) -> None:
    reply = await gateway.chat("Hi [[extra: fields]] [[say: \u00e9\U0001f600]]")

    assert reply.body == gateway.seen_upstream(reply.interaction)["sent"]


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 503])
async def test_an_error_of_the_provider_arrives_byte_for_byte(gateway: Gateway, status: int) -> None:
    reply = await gateway.chat(script=f"fault=status={status}")

    assert reply.status == status
    assert reply.body == gateway.seen_upstream(reply.interaction)["sent"]


async def test_an_answer_of_some_other_type_arrives_as_it_is(gateway: Gateway) -> None:
    reply: Any = await gateway.chat(script="fault=content-type=text/html")

    assert reply.headers["content-type"] == "text/html"
    assert reply.body == gateway.seen_upstream(reply.interaction)["sent"]
