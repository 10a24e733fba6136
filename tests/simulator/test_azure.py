"""Azure OpenAI: deployments, versions and a filter that always comments."""

import json
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI

from tests.simulator.test_answers import user
from tests.support.simulator import post, sse_events
from trueport.simulator import Simulator

KEY = {"api-key": "azure-wxyz"}
CHAT = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
BODY = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def azure(simulator: Simulator) -> AsyncIterator[AsyncAzureOpenAI]:
    async with AsyncAzureOpenAI(
        azure_endpoint=simulator.url, api_key="azure-wxyz", api_version="2024-10-21", max_retries=0
    ) as opened:
        yield opened


async def test_a_deployment_answers_as_openai_would_with_the_filters_findings(
    azure: AsyncAzureOpenAI, simulator: Simulator
) -> None:
    reply = await azure.chat.completions.create(model="my-gpt", messages=user("[[say: Good morning.]]"))

    told = reply.model_dump()
    assert told["choices"][0]["message"]["content"] == "Good morning."
    assert told["choices"][0]["content_filter_results"]["violence"] == {"filtered": False, "severity": "safe"}
    assert told["prompt_filter_results"][0]["prompt_index"] == 0
    entry = simulator.ledger.only_entry()
    assert (entry.dialect, entry.model, entry.key_hint) == ("azure", "my-gpt", "wxyz")
    assert entry.completion_tokens == 3


async def test_a_stream_begins_with_the_findings_on_the_prompt(simulator: Simulator) -> None:
    reply = await post(simulator.port, CHAT, {**BODY, "stream": True}, headers=KEY)

    found = [data for _, data in sse_events(reply.unchunked())]
    assert found[0]["choices"] == []
    assert found[0]["prompt_filter_results"]
    assert all("content_filter_results" in chunk["choices"][0] for chunk in found[1:-1])
    assert found[-1] == "[DONE]"


async def test_the_deployment_is_the_model_whatever_the_body_says(simulator: Simulator) -> None:
    for body in ({**BODY, "model": "other"}, BODY):
        reply = await post(simulator.port, CHAT, body, headers=KEY)
        assert json.loads(reply.body)["model"] == "my-gpt"


async def test_a_path_without_a_version_is_not_found(simulator: Simulator) -> None:
    unversioned = await post(simulator.port, CHAT.partition("?")[0], BODY, headers=KEY)
    unknown = await post(simulator.port, "/openai/deployments/d/other?api-version=1", BODY, headers=KEY)

    for reply in (unversioned, unknown):
        assert (reply.status, json.loads(reply.body)) == (
            404,
            {"error": {"code": "404", "message": "Resource not found"}},
        )


async def test_the_filter_objects_when_told_to(azure: AsyncAzureOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await azure.chat.completions.create(model="my-gpt", messages=user("[[filter: hate]]"))
    with pytest.raises(openai.BadRequestError) as broken:
        await azure.chat.completions.create(model="my-gpt", messages=user("[[filter: jailbreak]]"))

    error = refused.value.response.json()["error"]
    assert (error["code"], error["param"], error["status"], error["type"]) == ("content_filter", "prompt", 400, None)
    result = error["innererror"]["content_filter_result"]
    assert error["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    assert (result["hate"], result["sexual"]["filtered"]) == ({"filtered": True, "severity": "high"}, False)
    jailbreak = broken.value.response.json()["error"]["innererror"]["content_filter_result"]["jailbreak"]
    assert jailbreak == {"filtered": True, "detected": True}


async def test_errors_are_azures(azure: AsyncAzureOpenAI, simulator: Simulator) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await azure.chat.completions.create(model="missing-gpt", messages=user("Hi"))
    with pytest.raises(openai.RateLimitError) as limited:
        await azure.chat.completions.create(model="d", messages=user("[[fault: status=429 retry-after=9]]"))
    wrong = await post(simulator.port, CHAT, BODY, headers={"api-key": "sk-invalid"})
    keyless = await post(simulator.port, CHAT, BODY)

    assert missing.value.code == "DeploymentNotFound"
    assert limited.value.response.headers["retry-after"] == "9"
    assert "retry after 9 seconds" in str(limited.value)
    assert (wrong.status, keyless.status) == (401, 401)
    assert json.loads(wrong.body)["error"]["code"] == "401"


async def test_the_other_kinds_of_calls_are_there(azure: AsyncAzureOpenAI, simulator: Simulator) -> None:
    embedded = await azure.embeddings.create(model="emb", input="x", dimensions=4)
    responded = await azure.responses.create(model="d", input="[[say: yes]]")
    pictured = await azure.images.generate(model="gpt-image-1", prompt="a cat")
    heard = await azure.audio.transcriptions.create(model="whisper", file=("a.mp3", b"x" * 16_000))
    listed = await azure.models.list()
    versionless = AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key="k", max_retries=0)
    chatted = await versionless.chat.completions.create(model="d", messages=user("[[say: yes]]"))
    await versionless.close()

    assert len(embedded.data[0].embedding) == 4
    assert responded.output_text == "yes"
    assert pictured.usage is not None
    assert heard.text
    assert listed.data
    assert chatted.choices[0].message.content == "yes"
    assert {entry.dialect for entry in simulator.ledger.entries} == {"azure"}
    assert simulator.ledger.entries[0].model == "emb"
