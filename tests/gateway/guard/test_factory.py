"""Which streams get a guard of their own, and what it is made of."""

import json
from typing import cast

import pytest

from tests.support.streams_of_guard import TEXT, CountingEngine, passed, policies, texts, written
from trueport.detection.engine import Engine
from trueport.detection.policy import Span
from trueport.detection.redact import Placeholders
from trueport.gateway.call import Request
from trueport.gateway.dialects.anthropic import AnthropicDialect
from trueport.gateway.dialects.azure import AzureDialect
from trueport.gateway.dialects.base import Dialect
from trueport.gateway.dialects.google import GoogleDialect
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.guard.factory import client_form, guard_for
from trueport.kit.clock import ManualClock

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
GOOGLE = {"contents": [{"parts": [{"text": "x"}]}]}


def read(dialect: Dialect, path: str, body: object, query: str = "") -> Request:
    return dialect.read("POST", path, query, "application/json", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("dialect", "path", "query", "body", "form"),
    [
        (OpenAIDialect(), "chat/completions", "", CHAT, "openai_chat"),
        (OpenAIDialect(), "completions", "", {"model": "m", "prompt": "x", "stream": True}, "openai_completions"),
        (OpenAIDialect(), "responses", "", {"model": "m", "input": "x", "stream": True}, "openai_responses"),
        (AzureDialect(), "deployments/d/chat/completions", "api-version=2024-10-21", CHAT, "openai_chat"),
        (AnthropicDialect(), "v1/messages", "", {**CHAT, "max_tokens": 9}, "anthropic"),
        (GoogleDialect(), "v1beta/models/m:streamGenerateContent", "alt=sse", GOOGLE, "google_sse"),
        (GoogleDialect(), "v1beta/models/m:streamGenerateContent", "", GOOGLE, "google_array"),
        (OpenAIDialect(), "images/generations", "", {"model": "m", "prompt": "x", "stream": True}, None),
        (OpenAIDialect(), "audio/speech", "", {"model": "m", "input": "x", "stream_format": "sse"}, None),
    ],
)
def test_the_form_of_a_stream_follows_from_its_request(
    dialect: Dialect, path: str, query: str, body: object, form: str | None
) -> None:
    assert client_form(dialect.wire, read(dialect, path, body, query)) == form


async def test_a_placeholder_of_the_answer_is_never_taken_for_one_of_the_request() -> None:
    placeholders = Placeholders()
    placeholders.redact("ada@example.org", (Span(0, 15, "EMAIL", is_reversible=True),))
    active = policies({"when": {"category": "pii", "types": ["EMAIL"]}, "action": "redact", "on": ["output"]})
    request = read(OpenAIDialect(), "chat/completions", CHAT)
    stream = guard_for("openai", request, active, cast(Engine, CountingEngine()), ManualClock().monotonic, placeholders)
    assert stream is not None

    found = await passed(stream, written("openai_chat", [(TEXT, "Write to [EMAIL_1] or to bob@example.org.")]))

    assert texts("openai_chat", found.body)[TEXT] == "Write to ada@example.org or to [EMAIL_2]."
