"""What providers that imitate OpenAI are sent instead of what the client wrote."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tests.support.providers import account, asking
from trueport.gateway.json_gate import read_object
from trueport.gateway.providers.compatible import DROPS, PRESETS, QUIRK_NAMES, CompatibleProvider, preset_at, quirks_of
from trueport.gateway.providers.members import without

PROVIDER = CompatibleProvider()
UNKNOWN = "https://llm.example.org/v1"


def sent(body: str, *quirks: str, base: str = UNKNOWN, operation: str = "chat/completions") -> str:
    """What an account with these quirks is sent; checks that members and bytes say the same."""
    request = asking(operation, body.encode())
    adapted = PROVIDER.adapted(account(base, quirks=frozenset(quirks)), request)
    assert adapted.members == read_object(adapted.body)
    assert adapted.model == request.model
    return adapted.body.decode()


CALL = '{ "model":"m", "temperature": 1.0, "messages":[{"role":"user","content":"h\\u0069 \\/ é"}] }'
RICH = """{"model":"m","messages":[{"role":"developer","content":"be brief"},{"role":"user","content":"hi"}],
"max_completion_tokens":5,"seed":7,"store":true,"metadata":{"a":"b"},"stream":true,"user":"u",
"stream_options":{"include_usage":true},"parallel_tool_calls":false,"logprobs":true,"service_tier":"auto",
"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}},"top_p":0.50}"""


@pytest.mark.parametrize("quirks", [(), ("as_openai",), tuple(sorted(QUIRK_NAMES - {"as_openai"}))])
def test_a_request_that_no_quirk_is_about_stays_the_very_same_bytes(quirks: tuple[str, ...]) -> None:
    request = asking("chat/completions", CALL.encode())

    assert PROVIDER.adapted(account(UNKNOWN, quirks=frozenset(quirks)), request) is request


def test_an_unknown_host_is_sent_everything_as_it_came() -> None:
    assert sent(RICH) == RICH


@pytest.mark.parametrize(
    ("quirk", "given", "expected"),
    [
        ("max_tokens", '{"max_completion_tokens": 5 , "n":1}', '{ "n":1,"max_tokens":5}'),
        ("max_tokens", '{"max_tokens":9,"max_completion_tokens":5}', '{"max_tokens":5}'),
        ("max_tokens", '{"max_tokens":9}', '{"max_tokens":9}'),
        ("random_seed", '{"seed":7}', '{"random_seed":7}'),
        ("no_stream_options", '{"stream":true,"stream_options":{"include_usage":true}}', '{"stream":true}'),
        ("no_store", '{"store":false,"x":1.50}', '{"x":1.50}'),
        ("no_metadata", '{"x":1,"metadata":{"a":[1,{"b":"}"}]},"y":2}', '{"x":1,"y":2}'),
        ("no_user", '{"user":"u","safety_identifier":"s","prompt_cache_key":"k"}', "{}"),
        ("no_service_tier", '{"service_tier":"flex"}', "{}"),
        ("no_parallel_tool_calls", '{"a":1,"parallel_tool_calls":true}', '{"a":1}'),
        ("no_reasoning_effort", '{"reasoning_effort":"low","verbosity":"low","a":1}', '{"a":1}'),
        ("no_logprobs", '{"logprobs":true,"a":1,"top_logprobs":3}', '{"a":1}'),
        ("no_prediction", '{"prediction":{"type":"content"}}', "{}"),
        (
            "no_developer_role",
            '{"messages":[{"role":"developer","content":"x"},{"role":"user","content":"developer"}]}',
            '{"messages":[{"role":"system","content":"x"},{"role":"user","content":"developer"}]}',
        ),
        (
            "no_message_name",
            '{"messages":[{"role":"user","name":"a","content":"x"},{"role":"function","name":"f","content":"y"}]}',
            '{"messages":[{"role":"user","content":"x"},{"role":"function","name":"f","content":"y"}]}',
        ),
        (
            "json_object",
            '{"response_format":{"type":"json_schema","json_schema":{}},"a":1}',
            '{"response_format":{"type":"json_object"},"a":1}',
        ),
        ("json_object", '{"response_format": {"type": "text"}}', '{"response_format": {"type": "text"}}'),
        ("key_in_api_key", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_each_quirk_changes_what_it_is_about_and_no_other_byte(quirk: str, given: str, expected: str) -> None:
    assert sent(given, quirk) == expected


def test_every_quirk_that_takes_members_out_takes_out_each_of_them() -> None:
    for quirk, names in DROPS.items():
        body = json.dumps(dict.fromkeys(("kept", *names), 1))

        assert json.loads(sent(body, quirk)) == {"kept": 1}


def test_quirks_about_the_same_member_add_up() -> None:
    both = '{"messages":[{"role":"developer","name":"a","content":"x"}]}'

    assert sent(both, "no_developer_role", "no_message_name") == '{"messages":[{"role":"system","content":"x"}]}'


@pytest.mark.parametrize(
    "messages", ['"text"', "null", "[null,1,[]]", '[{"role":["developer"]}]', '[{"content":{"role":"developer"}}]']
)
def test_messages_that_are_none_are_the_providers_to_refuse(messages: str) -> None:
    body = f'{{"messages":{messages},"response_format":[]}}'

    assert sent(body, "no_developer_role", "no_message_name", "json_object") == body


@pytest.mark.parametrize(
    ("base", "gone", "there"),
    [
        (
            "https://api.mistral.ai/v1",
            {"max_completion_tokens", "seed", "store", "stream_options", "user", "logprobs", "service_tier"},
            {"max_tokens": 5, "random_seed": 7, "parallel_tool_calls": False, "top_p": 0.5},
        ),
        (
            "https://api.groq.com/openai/v1",
            {"store", "metadata", "logprobs"},
            {"max_completion_tokens": 5, "stream_options": {"include_usage": True}},
        ),
        (
            "https://api.deepseek.com",
            {"max_completion_tokens", "store", "metadata", "parallel_tool_calls"},
            {"max_tokens": 5, "response_format": {"type": "json_object"}},
        ),
        ("https://api.together.xyz/v1", {"max_completion_tokens", "store"}, {"max_tokens": 5}),
        ("https://api.fireworks.ai/inference/v1", {"max_completion_tokens", "store"}, {"max_tokens": 5}),
        ("https://api.x.ai/v1", {"store", "metadata"}, {"max_completion_tokens": 5}),
        ("https://eu-west-1.api.x.ai/v1", {"store", "metadata"}, {"max_completion_tokens": 5}),
        ("http://ollama.internal:11434/v1", {"max_completion_tokens", "store"}, {"max_tokens": 5}),
    ],
)
def test_known_hosts_get_what_they_understand(base: str, gone: set[str], there: dict[str, Any]) -> None:
    members = json.loads(sent(RICH, base=base))

    assert not gone & members.keys()
    assert {name: members[name] for name in there} == there
    assert members["messages"][0] == {"role": "system", "content": "be brief"}


def test_openrouter_gets_what_the_client_wrote() -> None:
    assert sent(RICH, base="https://openrouter.ai/api/v1") == RICH


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_can_be_named_for_any_host(name: str) -> None:
    credential = account(UNKNOWN, quirks=frozenset({name, "no_user"}))

    assert quirks_of(credential) == {name, "no_user"} | PRESETS[name].quirks


def test_an_account_can_do_without_its_hosts_quirks() -> None:
    assert sent(RICH, "as_openai", base="https://api.mistral.ai/v1") == RICH
    assert '"user":"u"' not in sent(RICH, "as_openai", "no_user", base="https://api.mistral.ai/v1")


@pytest.mark.parametrize(
    "base", ["https://api.mistral.ai.evil.example/v1", "https://evil-api.x.ai/v1", "https://x/api.mistral.ai"]
)
def test_a_host_that_only_looks_like_one_has_no_preset(base: str) -> None:
    assert preset_at(URL(base)) is None


def test_other_operations_are_left_alone() -> None:
    assert sent(RICH, "mistral", operation="responses") == RICH
    assert (
        sent('{"model":"m","input":"x","user":"u"}', "mistral", operation="embeddings") == '{"model":"m","input":"x"}'
    )


async def test_the_key_goes_where_the_provider_looks_for_it() -> None:
    async def headers(*quirks: str, secret: str | None = "k-1") -> tuple[tuple[str, str], ...]:
        return await PROVIDER.headers(account(UNKNOWN, secret, quirks=frozenset(quirks)), asking())

    assert await headers() == (("authorization", "Bearer k-1"),)
    assert await headers("key_in_api_key") == (("api-key", "k-1"),)
    assert await headers("key_in_x_api_key", "max_tokens") == (("x-api-key", "k-1"),)
    assert await headers(secret=None) == ()


# --- taking members out


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c", 'q"', "\\", "é", "{,}"]), JSON),
    st.sets(st.sampled_from(["a", "b", 'q"', "{,}", "never"])),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_what_is_left_after_taking_members_out_is_the_rest(
    members: dict[str, Any], names: set[str], indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(members, indent=indent, ensure_ascii=ascii_only).encode()

    kept = read_object(without(body, names))

    assert kept == {name: value for name, value in members.items() if name not in names}
    assert list(kept) == [name for name in members if name not in names]


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ('{"x":1}', "{}"),
        ('{ "x" : 1 , "a" : 1.0 }', '{ "a" : 1.0}'),
        ('{"a":1e2,"x":1}', '{"a":1e2}'),
        ('{"a":"x","\\u0078":[{"x":"]}"}],"b":0}', '{"a":"x","b":0}'),
        ("{ }", "{ }"),
    ],
)
def test_a_member_is_taken_out_with_one_comma(body: str, left: str) -> None:
    assert without(body.encode(), {"x"}).decode() == left
