"""Google's dialect on the wire, at the Gemini API and at Vertex AI."""

import json
import math
from typing import Any

import pytest

from tests.support.simulator import RawReply, get, post, sse_events
from trueport.simulator import Simulator

KEY = {"x-goog-api-key": "AIza-wxyz"}
VERTEX = "/v1/projects/p/locations/us-central1/publishers/google/models"
DECLARATION = {"name": "get_weather", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}
TOOLS = [{"functionDeclarations": [DECLARATION]}]
TWO_CALLS = '[[tool: get_weather {"city": "Paris"}]] [[tool: get_weather {"city": "Oslo"}]]'


def body(prompt: str = "Hello", **members: Any) -> dict[str, object]:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **members}


async def call(
    simulator: Simulator, prompt: str = "Hello", *, verb: str = "generateContent", script: str = "", **members: Any
) -> RawReply:
    path = f"/v1beta/models/gemini-sim:{verb}"
    return await post(simulator.port, path, body(prompt, **members), headers=KEY, script=script)


async def content(simulator: Simulator, prompt: str = "Hello", **members: Any) -> Any:
    reply = await call(simulator, prompt, **members)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


async def chunks(simulator: Simulator, prompt: str = "Hello", **members: Any) -> list[Any]:
    reply = await call(simulator, prompt, verb="streamGenerateContent?alt=sse", **members)
    return [data for _, data in sse_events(reply.unchunked())]


async def test_generated_content_has_the_members_of_the_real_one(simulator: Simulator) -> None:
    told = await content(simulator, "[[say: Yes, of course.]]")

    assert told.pop("responseId")
    assert told == {
        "candidates": [
            {
                "content": {"parts": [{"text": "Yes, of course."}], "role": "model"},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 11,
            "candidatesTokenCount": 5,
            "totalTokenCount": 16,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 11}],
        },
        "modelVersion": "gemini-sim",
    }
    entry = simulator.ledger.only_entry()
    assert (entry.dialect, entry.model, entry.key_hint) == ("google", "gemini-sim", "wxyz")
    assert (entry.prompt_tokens, entry.completion_tokens) == (11, 5)


async def test_a_stream_has_no_names_and_no_end_mark_and_its_usage_grows(simulator: Simulator) -> None:
    reply = await call(simulator, "[[tokens: 3]]", verb="streamGenerateContent?alt=sse")
    whole = await content(simulator, "[[tokens: 3]]")

    wire = reply.unchunked()
    assert reply.header("content-type") == "text/event-stream"
    assert b"event:" not in wire
    assert b"[DONE]" not in wire
    assert wire.endswith(b"}\r\n\r\n")
    found = [data for _, data in sse_events(wire)]
    assert [chunk["usageMetadata"].get("candidatesTokenCount") for chunk in found] == [1, 2, 3, 3]
    assert [chunk["candidates"][0].get("finishReason") for chunk in found] == [None, None, None, "STOP"]
    said = "".join(chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in found)
    assert said == whole["candidates"][0]["content"]["parts"][0]["text"]


async def test_without_alt_a_stream_is_one_json_array(simulator: Simulator) -> None:
    reply = await call(simulator, "[[tokens: 3]]", verb="streamGenerateContent")

    assert (reply.header("content-type") or "").startswith("application/json")
    found = json.loads(reply.unchunked())
    assert found == await chunks(simulator, "[[tokens: 3]]")
    assert [entry.completion_tokens for entry in simulator.ledger.entries] == [3, 3]


async def test_thoughts_come_as_parts_and_are_billed_beside_the_candidates(simulator: Simulator) -> None:
    config = {"thinkingConfig": {"includeThoughts": True}}
    prompt = "[[think: Let me see.]] [[say: Done.]]"
    whole = await content(simulator, prompt, generationConfig=config)
    found = await chunks(simulator, prompt, generationConfig=config)

    thought, text = whole["candidates"][0]["content"]["parts"]
    assert (thought["text"], thought["thought"], text) == ("Let me see.", True, {"text": "Done."})
    usage = whole["usageMetadata"]
    assert (usage["thoughtsTokenCount"], usage["candidatesTokenCount"]) == (4, 2)
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + 6
    parts = [chunk["candidates"][0]["content"]["parts"][0] for chunk in found]
    assert [part.get("thought", False) for part in parts] == [True] * 4 + [False] * 3
    assert [(entry.completion_tokens, entry.reasoning_tokens) for entry in simulator.ledger.entries] == [(6, 4)] * 2


async def test_functions_are_called_in_parallel(simulator: Simulator) -> None:
    config = {"thinkingConfig": {"includeThoughts": True}}
    whole = await content(simulator, TWO_CALLS, tools=TOOLS, generationConfig=config)
    found = await chunks(simulator, TWO_CALLS, tools=TOOLS)

    _, first, second = whole["candidates"][0]["content"]["parts"]
    assert first["functionCall"] == {"name": "get_weather", "args": {"city": "Paris"}}
    assert second["functionCall"]["args"] == {"city": "Oslo"}
    assert ("thoughtSignature" in first, "thoughtSignature" in second) == (True, False)
    assert whole["candidates"][0]["finishReason"] == "STOP"
    called = [chunk["candidates"][0]["content"]["parts"][0].get("functionCall") for chunk in found]
    assert [one["args"]["city"] for one in called if one] == ["Paris", "Oslo"]


async def test_arguments_that_are_no_object_end_as_a_malformed_call(simulator: Simulator) -> None:
    told = await content(simulator, "[[tool: get_weather {oops}]]", tools=TOOLS)

    assert told["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL"


async def test_a_function_result_is_answered_in_words(simulator: Simulator) -> None:
    turns = [
        {"role": "user", "parts": [{"text": TWO_CALLS}]},
        {"role": "model", "parts": [{"functionCall": {"name": "get_weather", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "get_weather", "response": {"degrees": 21}}}]},
    ]

    told = await content(simulator, contents=turns, tools=TOOLS)

    assert told["candidates"][0]["content"]["parts"][0]["text"]


@pytest.mark.parametrize(
    "members",
    [
        {"tools": TOOLS, "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        {
            "tools": [{"function_declarations": [DECLARATION]}],
            "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["get_weather"]}},
        },
    ],
)
async def test_a_function_that_is_insisted_on_is_called_with_fitting_arguments(
    simulator: Simulator, members: dict[str, Any]
) -> None:
    told = await content(simulator, **members)

    (part,) = told["candidates"][0]["content"]["parts"]
    assert isinstance(part["functionCall"]["args"]["city"], str)


@pytest.mark.parametrize(
    "config",
    [
        {
            "responseMimeType": "application/json",
            "responseSchema": {"type": "OBJECT", "properties": {"age": {"type": "INTEGER"}}},
        },
        {
            "response_mime_type": "application/json",
            "response_json_schema": {"type": "object", "properties": {"age": {"type": "integer"}}},
        },
    ],
)
async def test_a_schema_is_followed_in_either_spelling(simulator: Simulator, config: dict[str, object]) -> None:
    told = await content(simulator, generationConfig=config)

    assert json.loads(told["candidates"][0]["content"]["parts"][0]["text"]) == {"age": 7}


async def test_an_answer_ends_where_it_is_told_to(simulator: Simulator) -> None:
    stopped = await content(simulator, "[[say: one STOP two]]", generationConfig={"stopSequences": ["STOP"]})
    cut = await content(simulator, "[[tokens: 40]]", generationConfig={"maxOutputTokens": 7})
    named = await content(simulator, "[[finish: RECITATION]]")
    blocked = await content(simulator, "[[filter: hate]]")
    streamed = await chunks(simulator, "[[filter: hate]]")

    assert stopped["candidates"][0]["content"]["parts"][0]["text"] == "one "
    assert (cut["candidates"][0]["finishReason"], cut["usageMetadata"]["candidatesTokenCount"]) == ("MAX_TOKENS", 7)
    assert named["candidates"][0]["finishReason"] == "RECITATION"
    assert blocked["promptFeedback"]["blockReason"] == "SAFETY"
    assert "candidates" not in blocked
    assert streamed[0]["promptFeedback"] == blocked["promptFeedback"]


async def test_several_candidates_take_turns(simulator: Simulator) -> None:
    found = await chunks(simulator, "[[tokens: 2]]", generationConfig={"candidateCount": 2})

    assert [chunk["candidates"][0]["index"] for chunk in found] == [0, 1] * 3
    assert simulator.ledger.only_entry().completion_tokens == 4


async def test_stated_usage_is_put_into_googles_members(simulator: Simulator) -> None:
    prompt = "[[usage: prompt=100 cached=40 tool_prompt=10 completion=30 reasoning=20]]"
    usage = (await content(simulator, prompt))["usageMetadata"]

    assert (usage["promptTokenCount"], usage["toolUsePromptTokenCount"], usage["cachedContentTokenCount"]) == (
        90,
        10,
        40,
    )
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"], usage["totalTokenCount"]) == (10, 20, 130)
    entry = simulator.ledger.only_entry()
    assert (entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens, entry.reasoning_tokens) == (
        100,
        30,
        40,
        20,
    )


async def test_pictures_are_read_and_counted(simulator: Simulator) -> None:
    parts = [{"inlineData": {"mimeType": "image/png", "data": "aaaa"}}, {"text": "Hello"}]
    seen = await content(simulator, contents=[{"parts": parts}])

    assert seen["usageMetadata"]["promptTokenCount"] == 258 + 1


async def test_tokens_are_counted_as_they_are_billed(simulator: Simulator) -> None:
    instruction = {"parts": [{"text": "Be brief."}]}
    billed = (await content(simulator, systemInstruction=instruction))["usageMetadata"]["promptTokenCount"]
    plain = await content(simulator, verb="countTokens", system_instruction=instruction)
    wrapped = await post(
        simulator.port,
        "/v1beta/models/g:countTokens",
        {"generateContentRequest": body(systemInstruction=instruction)},
        headers=KEY,
    )

    assert plain["totalTokens"] == billed == json.loads(wrapped.body)["totalTokens"] == 4
    assert simulator.ledger.entries[-1].total_tokens == 0


async def test_embeddings_are_unit_vectors_one_by_one_and_together(simulator: Simulator) -> None:
    def asked(text: str) -> dict[str, object]:
        return {"model": "models/e", "content": {"parts": [{"text": text}]}, "outputDimensionality": 8}

    one = await post(simulator.port, "/v1beta/models/e:embedContent", asked("alpha"), headers=KEY)
    many = {"requests": [asked("alpha"), asked("beta")]}
    both = await post(simulator.port, "/v1beta/models/e:batchEmbedContents", many, headers=KEY)
    instances = {"instances": [{"content": "alpha"}], "parameters": {"outputDimensionality": 8}}
    vertex = await post(simulator.port, f"{VERTEX}/e:predict", instances, headers={"authorization": "Bearer t"})

    values = json.loads(one.body)["embedding"]["values"]
    assert math.isclose(math.fsum(x * x for x in values), 1, rel_tol=1e-5)
    assert [len(each["values"]) for each in json.loads(both.body)["embeddings"]] == [8, 8]
    assert json.loads(both.body)["embeddings"][0]["values"] == values
    assert json.loads(vertex.body)["predictions"][0]["embeddings"]["values"] == values
    assert [entry.prompt_tokens for entry in simulator.ledger.entries] == [1, 2, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "Please use a valid role: user, model."),
        ({"contents": [{"role": "user", "parts": []}]}, "parts must not be empty"),
    ],
)
async def test_what_google_would_refuse_is_refused(simulator: Simulator, change: dict[str, Any], message: str) -> None:
    reply = await call(simulator, **change)

    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert message in error["message"]


async def test_a_body_that_is_no_object_and_a_model_that_is_not_there_are_refused(simulator: Simulator) -> None:
    listed = await post(simulator.port, "/v1beta/models/g:generateContent", [], headers=KEY)
    missing = await post(simulator.port, "/v1beta/models/missing-g:generateContent", body(), headers=KEY)
    unknown = await post(simulator.port, "/v1beta/models/g:dream", body(), headers=KEY)

    assert (listed.status, missing.status, unknown.status) == (400, 404, 404)
    assert json.loads(missing.body)["error"]["status"] == "NOT_FOUND"


async def test_a_quota_error_says_when_to_come_back(simulator: Simulator) -> None:
    reply = await call(simulator, script="fault=status=429 retry-after=3")

    error = json.loads(reply.body)["error"]
    assert (reply.status, error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"] == [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}]


async def test_the_key_may_be_in_the_query_and_vertex_wants_a_bearer(simulator: Simulator) -> None:
    by_query = await post(simulator.port, "/v1beta/models/g:generateContent?key=AIza-q123", body())
    keyless = await post(simulator.port, "/v1beta/models/g:generateContent", body())
    wrong = await post(simulator.port, "/v1beta/models/g:generateContent?key=sk-invalid", body())
    bearer = {"authorization": "Bearer ya29.other"}
    vertex = await post(simulator.port, f"{VERTEX}/g:generateContent", body(), headers=bearer)
    by_key = await post(simulator.port, f"{VERTEX}/g:generateContent", body(), headers=KEY)

    assert [one.status for one in (by_query, keyless, wrong, vertex, by_key)] == [200, 403, 400, 200, 401]
    assert json.loads(wrong.body)["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    assert json.loads(by_key.body)["error"]["status"] == "UNAUTHENTICATED"
    assert simulator.ledger.entries[0].key_hint == "q123"


@pytest.mark.parametrize("path", ["/v1beta/models", "/v1/models", "/google/v1beta/models"])
async def test_models_are_listed_and_found(simulator: Simulator, path: str) -> None:
    listed = json.loads((await get(simulator.port, path, headers=KEY)).body)["models"]
    one = json.loads((await get(simulator.port, f"{path}/gemini-x", headers=KEY)).body)
    missing = await get(simulator.port, f"{path}/missing-x", headers=KEY)

    assert "models/sim-model" in [model["name"] for model in listed]
    assert (one["name"], "countTokens" in one["supportedGenerationMethods"]) == ("models/gemini-x", True)
    assert missing.status == 404


@pytest.mark.parametrize("base", ["/v1/models", "/v1beta/models", "/google/v1beta/models", "/models"])
async def test_paths_work_below_a_base_and_in_every_version(simulator: Simulator, base: str) -> None:
    assert (await post(simulator.port, f"{base}/g:generateContent", body(), headers=KEY)).status == 200


async def test_directives_work_after_the_models_name(simulator: Simulator) -> None:
    path = "/v1beta/models/g+say=from%20the%20model:generateContent"
    reply = await post(simulator.port, path, body(), headers=KEY)

    assert json.loads(reply.body)["candidates"][0]["content"]["parts"][0]["text"] == "from the model"
