"""The official OpenAI SDK, unchanged, with nothing but a base URL and a key."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.e2e.conftest import Gateway
from tests.support.installation import Installation
from trueport.cli.session import with_resources
from trueport.domains.auth.models import Tenant
from trueport.settings import load_settings
from trueport.storage.revisions import bump_revision
from trueport.web.domain import Resources

ROOTS = [
    "/openai/v1",
    "/trueportai-services/openai/v1",
    "/v1",
    "/openai/v1/v1",
    "/v1/v1",
    "/trueportai-services/openai/v1/v1/",
]
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("get_weather", "get_time")
]
TWO_CALLS: list[Any] = [
    {
        "role": "user",
        "content": 'Go. [[tool: get_weather {"city": "Paris"}]] [[tool: get_time {"city": "Rome"}]]',
    }
]
NO_KEY: dict[str, Any] = {"Authorization": openai.Omit()}
OWN_HEADERS = (
    "x-request-id",
    "x-trueport-interaction",
    "x-trueport-receipt",
    "x-trueport-decision",
    "x-trueport-provider",
    "x-trueport-model",
    "x-trueport-attempts",
    "x-trueport-policy-version",
)


def client_of(gateway: Gateway, root: str = "/openai/v1", **options: Any) -> OpenAI:
    return OpenAI(base_url=gateway.url + root, **{"api_key": gateway.key, "max_retries": 0, "timeout": 20, **options})


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with client_of(gateway) as found:
        yield found


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/openai/v1", api_key=gateway.key, max_retries=0, timeout=20
    ) as found:
        yield found


@pytest.mark.parametrize("root", ROOTS)
def test_every_base_url_a_user_might_enter_works_plain_and_streamed(gateway: Gateway, root: str) -> None:
    with client_of(gateway, root) as client:
        whole = client.chat.completions.create(model="sim-model", messages=HELLO)
        pieces = list(client.chat.completions.create(model="sim-model", messages=HELLO, stream=True))

    text = whole.choices[0].message.content
    assert text
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == text
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


async def test_the_asynchronous_client_works_plain_and_streamed(async_client: AsyncOpenAI) -> None:
    whole = await async_client.chat.completions.create(model="sim-model", messages=HELLO)
    stream = await async_client.chat.completions.create(model="sim-model", messages=HELLO, stream=True)
    text = "".join([piece.choices[0].delta.content or "" async for piece in stream])

    assert text == whole.choices[0].message.content


async def test_many_streams_at_once_do_not_mix(async_client: AsyncOpenAI) -> None:
    async def said(number: int) -> str:
        messages: list[Any] = [{"role": "user", "content": f"[[say: number {number} it is]] [[pace: 5ms]]"}]
        stream = await async_client.chat.completions.create(model="sim-model", messages=messages, stream=True)
        return "".join([piece.choices[0].delta.content or "" async for piece in stream])

    assert await asyncio.gather(*map(said, range(20))) == [f"number {number} it is" for number in range(20)]


def test_a_stream_without_include_usage_tells_nothing_about_usage(client: OpenAI) -> None:
    pieces = list(client.chat.completions.create(model="sim-model", messages=HELLO, stream=True))

    assert all(piece.choices for piece in pieces)
    assert not any("usage" in piece.model_fields_set for piece in pieces)


def test_a_stream_with_include_usage_ends_with_the_usage_once(client: OpenAI) -> None:
    pieces = list(
        client.chat.completions.create(
            model="sim-model", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )

    assert [piece for piece in pieces if piece.usage] == [pieces[-1]]
    assert pieces[-1].choices == []
    # Asked for by the client, so the provider's own null in the other chunks is passed on too.
    assert all("usage" in piece.model_fields_set for piece in pieces)


def test_parallel_tool_calls_arrive_whole(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-model", messages=TWO_CALLS, tools=WEATHER)

    calls: list[Any] = list(answer.choices[0].message.tool_calls or [])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("get_weather", '{"city": "Paris"}'),
        ("get_time", '{"city": "Rome"}'),
    ]


def test_parallel_tool_calls_arrive_whole_in_a_stream(client: OpenAI) -> None:
    arguments: dict[int, str] = {}
    names: dict[int, str] = {}
    for piece in client.chat.completions.create(model="sim-model", messages=TWO_CALLS, tools=WEATHER, stream=True):
        for call in piece.choices[0].delta.tool_calls or []:
            assert call.function is not None
            names.setdefault(call.index, call.function.name or "")
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")

    assert names == {0: "get_weather", 1: "get_time"}
    assert arguments == {0: '{"city": "Paris"}', 1: '{"city": "Rome"}'}


def test_a_conversation_with_tool_results_goes_on(client: OpenAI) -> None:
    asked = client.chat.completions.create(model="sim-model", messages=TWO_CALLS, tools=WEATHER).choices[0].message
    results: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in asked.tool_calls or []
    ]

    conversation: list[Any] = [*TWO_CALLS, asked.to_dict(), *results]
    answer = client.chat.completions.create(model="sim-model", messages=conversation, tools=WEATHER)

    assert answer.choices[0].message.content


def test_an_answer_in_a_json_schema_is_parsed_by_the_sdk(client: OpenAI) -> None:
    class Place(BaseModel):
        city: str
        inhabitants: int

    answer = client.chat.completions.parse(model="sim-model", messages=HELLO, response_format=Place)

    assert isinstance(answer.choices[0].message.parsed, Place)


def test_several_choices_arrive_each_under_its_own_index(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="sim-model", messages=HELLO, n=2)
    texts = {0: "", 1: ""}
    for piece in client.chat.completions.create(model="sim-model", messages=HELLO, n=2, stream=True):
        for choice in piece.choices:
            texts[choice.index] += choice.delta.content or ""

    assert [choice.index for choice in whole.choices] == [0, 1]
    assert texts == {choice.index: choice.message.content for choice in whole.choices}


def test_embeddings_are_the_same_as_numbers_and_in_the_sdks_own_base64(client: OpenAI) -> None:
    packed = client.embeddings.create(model="sim-embedding", input=["one", "two"], dimensions=16)
    plain = client.embeddings.create(
        model="sim-embedding", input=["one", "two"], dimensions=16, encoding_format="float"
    )

    assert [item.index for item in packed.data] == [0, 1]
    for left, right in zip(packed.data, plain.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding, abs=1e-6)
    assert plain.usage.prompt_tokens > 0


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    listed = [model.id for model in client.models.list()]

    assert "sim-model" in listed
    assert client.models.retrieve("sim-model").id == "sim-model"


def test_plain_completions_work_whole_and_streamed(client: OpenAI) -> None:
    whole = client.completions.create(model="sim-model", prompt="Once")
    pieces = list(client.completions.create(model="sim-model", prompt="Once", stream=True))

    assert whole.choices[0].text
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert not any(piece.usage for piece in pieces)


def test_moderations_pass_through(client: OpenAI) -> None:
    assert client.moderations.create(input="hello").results[0].flagged is False


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_names_itself_and_is_found_in_the_log(gateway: Gateway, client: OpenAI, *, stream: bool) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="sim-model", messages=HELLO, stream=stream
    ) as answer:
        answer.read()
        headers = dict(answer.headers)

    assert {name: bool(headers.get(name)) for name in OWN_HEADERS} == dict.fromkeys(OWN_HEADERS, True)
    entry = gateway.record(headers["x-trueport-interaction"])
    assert (entry["end"], entry["status"], entry["stream"]) == ("completed", 200, stream)
    assert (entry["model"], entry["operation"]) == ("sim-model", "chat/completions")
    assert (entry["receipt"], entry["request_id"]) == (headers["x-trueport-receipt"], headers["x-request-id"])
    assert (entry["usage_source"], entry["usage_doubtful"]) == ("provider", False)
    assert entry["output_tokens"] > 0
    assert entry["cost_nano_usd"] == entry["input_tokens"] * 1_000 + entry["output_tokens"] * 4_000


def test_a_refusal_carries_the_same_headers_and_is_found_in_the_log(gateway: Gateway, client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nobody-serves-this", messages=HELLO)

    headers = refused.value.response.headers
    assert [name for name in OWN_HEADERS if name not in headers] == []
    assert headers["x-trueport-decision"] == "refuse"
    entry = gateway.record(headers["x-trueport-interaction"])
    assert (entry["end"], entry["status"], entry["error"]) == ("refused", 404, "model_not_found")
    assert (entry["usage_source"], entry["attempts"]) == ("none", [])


# --- what the SDK raises


def refused(client: OpenAI, model: str = "sim-model", **options: Any) -> Any:
    """The error the SDK raises for a call; its members are read dynamically."""
    with pytest.raises(openai.APIError) as error:
        client.chat.completions.create(model=model, messages=HELLO, **options)
    return error.value


@pytest.mark.parametrize(
    "key",
    ["nonsense", "sk-tp-000000000000-wrong-000000", "sk-" + "x" * 60_000, 'a"b$c{"$ne":1}'],
    ids=["word", "shape", "long", "operators"],
)
def test_a_key_that_is_none_is_an_authentication_error(gateway: Gateway, key: str) -> None:
    with client_of(gateway, api_key=key) as client:
        error = refused(client)

    assert type(error) is openai.AuthenticationError
    assert error.code == "invalid_api_key"
    assert error.type == "authentication_error"


def test_no_key_at_all_is_an_authentication_error(client: OpenAI) -> None:
    error = refused(client, extra_headers=NO_KEY)

    assert type(error) is openai.AuthenticationError
    assert error.response.headers["www-authenticate"] == "Bearer"


def test_a_key_with_one_character_changed_is_an_authentication_error(gateway: Gateway) -> None:
    at = len(gateway.key) // 2
    other = "A" if gateway.key[at] != "A" else "B"
    with client_of(gateway, api_key=gateway.key[:at] + other + gateway.key[at + 1 :]) as client:
        assert type(refused(client)) is openai.AuthenticationError


def test_a_disabled_key_is_an_authentication_error_within_a_second_and_works_again_when_enabled(
    gateway: Gateway, new_key: Callable[..., dict[str, Any]]
) -> None:
    made = new_key()
    with client_of(gateway, api_key=made["key"]) as client:
        client.models.list()
        gateway.place.run("keys", "disable", made["id"], "--tenant", gateway.place.tenant)
        error = eventually_refused(client)
        gateway.place.run("keys", "enable", made["id"], "--tenant", gateway.place.tenant)
        eventually_served(client)

    assert type(error) is openai.AuthenticationError
    assert error.code == "invalid_api_key"


def test_an_expired_key_is_an_authentication_error(gateway: Gateway, new_key: Callable[..., dict[str, Any]]) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    made = new_key(expires_at=soon.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    with client_of(gateway, api_key=made["key"]) as client:
        error = eventually_refused(client)

    assert type(error) is openai.AuthenticationError
    assert error.code == "api_key_expired"


def test_a_suspended_organisation_is_denied(gateway: Gateway) -> None:
    with client_of(gateway) as client:
        client.models.list()
        try:
            set_tenant_status(gateway.place, "suspended")
            error = eventually_refused(client)
        finally:
            set_tenant_status(gateway.place, "active")
        eventually_served(client)

    assert type(error) is openai.PermissionDeniedError
    assert error.code == "tenant_suspended"


def set_tenant_status(place: Installation, status: str) -> None:
    async def work(resources: Resources) -> None:
        tenants = resources.database[+Tenant]
        await tenants.update_one(
            {"_id": place.access["tenant_id"]}, {"$set": {"status": status}}, comment="trueport-platform"
        )
        await bump_revision(resources.database, place.access["tenant_id"])  # type: ignore[arg-type]  # plain JSON

    with_resources(load_settings(place.environment), work)


def eventually_refused(client: OpenAI) -> Any:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        try:
            client.models.list()
        except openai.APIStatusError as error:
            return error
        time.sleep(0.05)
    raise AssertionError("the key still works")


def eventually_served(client: OpenAI) -> None:
    deadline_s = time.monotonic() + 20
    while True:
        try:
            client.models.list()
        except openai.APIStatusError:
            assert time.monotonic() < deadline_s, "the key does not work again"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def limited(gateway: Gateway, new_key: Callable[..., dict[str, Any]]) -> Iterator[OpenAI]:
    made = new_key(allowed_models=["sim-m*"])
    with client_of(gateway, api_key=made["key"]) as client:
        yield client


class TestAKeyForSomeModels:
    def test_may_use_those(self, limited: OpenAI) -> None:
        assert limited.chat.completions.create(model="sim-model", messages=HELLO).choices

    @pytest.mark.parametrize("model", ["sim-small", "quick-x", "sim-", "second-x"])
    def test_is_denied_any_other_and_any_name_that_leads_elsewhere(self, limited: OpenAI, model: str) -> None:
        error = refused(limited, model)

        assert type(error) is openai.PermissionDeniedError
        assert (error.code, error.param) == ("model_not_allowed", "model")

    def test_is_not_let_past_by_upper_case(self, limited: OpenAI) -> None:
        with pytest.raises((openai.PermissionDeniedError, openai.NotFoundError)):
            limited.chat.completions.create(model="SIM-MODEL", messages=HELLO)

    def test_is_denied_embeddings_and_retrieval_too(self, limited: OpenAI) -> None:
        with pytest.raises(openai.PermissionDeniedError):
            limited.embeddings.create(model="sim-embedding", input="x")
        with pytest.raises(openai.PermissionDeniedError):
            limited.models.retrieve("sim-small")

    def test_is_denied_what_hides_its_model(self, limited: OpenAI) -> None:
        with pytest.raises(openai.PermissionDeniedError):
            limited.audio.transcriptions.create(model="sim-other", file=("a.wav", b"RIFF", "audio/wav"))
        with pytest.raises(openai.PermissionDeniedError):
            limited.moderations.create(input="hello")
        with pytest.raises(openai.PermissionDeniedError):
            limited.files.list()

    def test_sees_only_those_in_the_list(self, limited: OpenAI) -> None:
        assert [model.id for model in limited.models.list()] == ["sim-model"]


def test_a_used_up_rate_limit_is_a_rate_limit_error_that_says_when(
    gateway: Gateway, new_key: Callable[..., dict[str, Any]]
) -> None:
    made = new_key(requests_per_minute=2)
    with client_of(gateway, api_key=made["key"]) as client:
        first = client.chat.completions.with_raw_response.create(model="sim-model", messages=HELLO)
        client.chat.completions.create(model="sim-model", messages=HELLO)
        error = refused(client)

    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert type(error) is openai.RateLimitError
    assert error.type == "rate_limit_error"
    # A sliding minute may need two until there is room; the SDK gives up beyond 120 seconds.
    assert 1 <= int(error.response.headers["retry-after"]) <= 120
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    entry = gateway.record(error.response.headers["x-trueport-interaction"])
    assert (entry["end"], entry["status"]) == ("refused", 429)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"model": "sim-model\r\nx-evil: 1"}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"tools": [{}] * 513}, "tools"),
        ({"messages": [HELLO[0]] * 2_049}, "messages"),
    ],
    ids=["empty", "number", "long", "control", "stream", "options", "tools", "messages"],
)
def test_a_request_the_gateway_does_not_understand_is_a_bad_request(
    client: OpenAI, members: dict[str, Any], param: str
) -> None:
    error = refused(client, extra_body=members)

    assert type(error) is openai.BadRequestError
    assert error.type == "invalid_request_error"
    assert error.param == param


def test_a_request_the_provider_refuses_is_its_bad_request(client: OpenAI) -> None:
    error = refused(client, extra_body={"messages": "none"})

    assert type(error) is openai.BadRequestError
    assert error.response.headers["x-trueport-attempts"] == "1"


def test_a_model_without_a_route_is_not_found(client: OpenAI) -> None:
    error = refused(client, "nobody-serves-this")

    assert type(error) is openai.NotFoundError
    assert error.code == "model_not_found"


def test_a_model_the_provider_does_not_have_is_its_not_found(client: OpenAI) -> None:
    error = refused(client, "missing-model")

    assert type(error) is openai.NotFoundError
    assert error.response.headers["x-trueport-attempts"] == "1"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=429 retry-after=7", openai.RateLimitError),
        ("status=500", openai.InternalServerError),
        ("status=503 retry-after=3", openai.InternalServerError),
        ("status=409", openai.ConflictError),
        ("status=422", openai.UnprocessableEntityError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_providers_own_errors_are_raised_as_if_it_had_been_called_directly(
    gateway: Gateway, client: OpenAI, fault: str, kind: type[openai.APIStatusError], *, stream: bool
) -> None:
    direct = OpenAI(base_url=f"{gateway.place.simulator.url}/v1", api_key="sk-any", max_retries=0, timeout=20)
    with direct:
        original = refused(direct, stream=stream, extra_headers={"x-simulator": f"fault={fault}"})
    error = refused(client, stream=stream, extra_headers={"x-simulator": f"fault={fault}"})

    assert type(error) is type(original) is kind
    assert error.body == original.body
    assert error.response.headers.get("retry-after") == original.response.headers.get("retry-after")


def test_the_sdks_own_retries_work(gateway: Gateway) -> None:
    with client_of(gateway, max_retries=2) as client:
        answer = client.chat.completions.create(
            model="sim-model",
            messages=[{"role": "user", "content": "Retried [[fault: status=503 retry-after=0 times=1]]"}],
        )

    assert answer.choices[0].message.content


def test_a_second_target_answers_when_the_first_cannot_be_reached(gateway: Gateway, client: OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model="second-choice", messages=HELLO)

    assert answer.headers["x-trueport-attempts"] == "2"
    assert answer.headers["x-trueport-model"] == "sim-model"
    attempts = gateway.record(answer.headers["x-trueport-interaction"])["attempts"]
    assert [(attempt["status"], attempt["error"]) for attempt in attempts] == [(None, "upstream_connect"), (200, None)]


# --- where the key is


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "x-goog-api-key", "X-API-KEY"])
def test_the_key_may_come_in_another_sdks_header(gateway: Gateway, name: str) -> None:
    headers = {**NO_KEY, name: gateway.key}
    with client_of(gateway, api_key="unused") as client:
        answer = client.chat.completions.with_raw_response.create(
            model="sim-model", messages=HELLO, extra_headers=headers
        )

    seen = gateway.seen_upstream(answer.headers["x-trueport-interaction"])
    assert gateway.key not in str(seen["headers"])


def test_the_same_key_twice_is_one_key(gateway: Gateway, client: OpenAI) -> None:
    assert client.with_options(default_headers={"x-api-key": gateway.key}).models.list().data


def test_two_different_keys_are_a_bad_request(gateway: Gateway, client: OpenAI) -> None:
    error = refused(client.with_options(default_headers={"x-api-key": gateway.key + "x"}))

    assert type(error) is openai.BadRequestError
    assert error.code == "ambiguous_credential"


def test_a_key_in_the_query_is_neither_accepted_nor_passed_on(gateway: Gateway, client: OpenAI) -> None:
    nameless = client.with_options(default_query={"key": gateway.key})
    assert type(refused(nameless, extra_headers=NO_KEY)) is openai.AuthenticationError

    query = {"key": "sk-canary", "x-other": "a b", "%6bey": "not a key, whatever it decodes to when decoded twice"}
    answer = client.with_options(default_query=query).chat.completions.with_raw_response.create(
        model="sim-model", messages=HELLO
    )

    seen = gateway.seen_upstream(answer.headers["x-trueport-interaction"])
    assert "sk-canary" not in seen["query"]
    assert parse_qs(seen["query"]) == {name: [value] for name, value in query.items() if name != "key"}


@pytest.mark.parametrize("spelled", ["key", "%6bey", "%6B%65%79", "k%65y"])
async def test_a_key_in_the_query_is_found_in_any_spelling(gateway: Gateway, spelled: str) -> None:
    body = {"model": "sim-model", "messages": HELLO}

    reply = await gateway.call(body, path=f"/v1/chat/completions?a=1&{spelled}=sk-canary&keys=2&%6beys=3&{spelled}")

    assert gateway.seen_upstream(reply.interaction)["query"] == "a=1&keys=2&%6beys=3"
