"""Every official SDK against every provider: the same questions, the same answers, whoever serves the model."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as google_types
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.e2e.conftest import Gateway

MODELS = ("sim-model", "claude-next", "gemini-2.5-flash", "az-gpt")
SAID = "The answer is 42, and nothing else."
SAY = f"What is it? [[say: {SAID}]]"
TWO_CALLS = 'Go. [[tool: get_weather {"city": "Paris"}]] [[tool: get_time {"city": "Rome"}]]'
CALLED = [("get_weather", {"city": "Paris"}), ("get_time", {"city": "Rome"})]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@dataclass(frozen=True)
class Told:
    """What an SDK gave its user."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0


class Sdk(Protocol):
    """One SDK, asked the same things as the others."""

    def ask(self, model: str, prompt: str) -> Told: ...
    def stream(self, model: str, prompt: str) -> Told: ...
    def tools(self, model: str, prompt: str, *, streamed: bool) -> list[tuple[str, Any]]: ...
    def tool_answered(self, model: str) -> str: ...
    def schema(self, model: str) -> Any: ...
    def image(self, model: str) -> str: ...


class OpenAIChatSdk:
    def __init__(self, gateway: Gateway) -> None:
        self.client: openai.OpenAI = openai.OpenAI(
            base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20
        )

    def _create(self, model: str, content: Any, **options: Any) -> Any:
        messages = content if isinstance(content, list) and "role" in content[0] else None
        messages = messages or [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
        return self.client.chat.completions.create(model=model, messages=messages, **options)

    def ask(self, model: str, prompt: str) -> Told:
        whole = self._create(model, prompt)
        return Told(whole.choices[0].message.content, whole.usage.prompt_tokens, whole.usage.completion_tokens)

    def stream(self, model: str, prompt: str) -> Told:
        pieces = list(self._create(model, prompt, stream=True, stream_options={"include_usage": True}))
        usage = pieces[-1].usage
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == "stop"
        return Told(text, usage.prompt_tokens, usage.completion_tokens)

    def tools(self, model: str, prompt: str, *, streamed: bool) -> list[tuple[str, Any]]:
        tools = [
            {"type": "function", "function": {"name": name, "description": name, "parameters": CITY}}
            for name, _ in CALLED
        ]
        if not streamed:
            whole = self._create(model, prompt, tools=tools)
            assert whole.choices[0].finish_reason == "tool_calls"
            return [
                (call.function.name, json.loads(call.function.arguments))
                for call in whole.choices[0].message.tool_calls
            ]
        found: dict[int, tuple[str, str]] = {}
        for piece in self._create(model, prompt, tools=tools, stream=True):
            for call in (piece.choices[0].delta.tool_calls or ()) if piece.choices else ():
                name, arguments = found.get(call.index, ("", ""))
                name = name or call.function.name or ""
                found[call.index] = (name, arguments + (call.function.arguments or ""))
        return [(name, json.loads(arguments)) for name, arguments in found.values()]

    def tool_answered(self, model: str) -> str:
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
        }
        messages = [
            {"role": "user", "content": "How is the weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": f"Sunny. [[say: {SAID}]]"},
        ]
        return str(self._create(model, messages).choices[0].message.content)

    def schema(self, model: str) -> Any:
        form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
        return json.loads(self._create(model, "Who?", response_format=form).choices[0].message.content)

    def image(self, model: str) -> str:
        content = [
            {"type": "text", "text": SAY},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
        return str(self._create(model, content).choices[0].message.content)


class AzureSdk(OpenAIChatSdk):
    def __init__(self, gateway: Gateway) -> None:
        self.client = openai.AzureOpenAI(
            azure_endpoint=gateway.url, api_key=gateway.key, api_version="2024-10-21", max_retries=0, timeout=20
        )


class ResponsesSdk:
    def __init__(self, gateway: Gateway) -> None:
        self.client = openai.OpenAI(base_url=f"{gateway.url}/openai/v1", api_key=gateway.key, max_retries=0, timeout=20)

    def _create(self, model: str, prompt: Any, **options: Any) -> Any:
        return self.client.responses.create(model=model, input=prompt, instructions="Be brief.", **options)

    def ask(self, model: str, prompt: str) -> Told:
        whole = self._create(model, prompt)
        assert whole.status == "completed"
        return Told(whole.output_text, whole.usage.input_tokens, whole.usage.output_tokens)

    def stream(self, model: str, prompt: str) -> Told:
        events = list(self._create(model, prompt, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        whole = events[-1].response
        assert whole.output_text == text
        return Told(text, whole.usage.input_tokens, whole.usage.output_tokens)

    def tools(self, model: str, prompt: str, *, streamed: bool) -> list[tuple[str, Any]]:
        tools = [
            {"type": "function", "name": name, "description": name, "parameters": CITY, "strict": False}
            for name, _ in CALLED
        ]
        whole = self._create(model, prompt, tools=tools, stream=streamed)
        if streamed:
            whole = list(whole)[-1].response
        return [(item.name, json.loads(item.arguments)) for item in whole.output if item.type == "function_call"]

    def tool_answered(self, model: str) -> str:
        return str(
            self._create(
                model,
                [
                    {"role": "user", "content": "How is the weather?"},
                    {
                        "type": "function_call",
                        "call_id": "call_1",
                        "name": "get_weather",
                        "arguments": '{"city":"Paris"}',
                    },
                    {"type": "function_call_output", "call_id": "call_1", "output": f"Sunny. [[say: {SAID}]]"},
                ],
            ).output_text
        )

    def schema(self, model: str) -> Any:
        form = {"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}}
        return json.loads(self._create(model, "Who?", text=form).output_text)

    def image(self, model: str) -> str:
        content = [
            {"type": "input_text", "text": SAY},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
        ]
        return str(self._create(model, [{"role": "user", "content": content}]).output_text)


class AnthropicSdk:
    def __init__(self, gateway: Gateway) -> None:
        self.client = anthropic.Anthropic(
            base_url=f"{gateway.url}/anthropic", api_key=gateway.key, max_retries=0, timeout=20
        )

    def _ask(self, model: str, content: Any, **options: Any) -> dict[str, Any]:
        messages = content if isinstance(content, list) and "role" in content[0] else None
        messages = messages or [{"role": "user", "content": content}]
        return {"model": model, "max_tokens": 500, "messages": messages, "system": "Be brief.", **options}

    def ask(self, model: str, prompt: str) -> Told:
        whole: Any = self.client.messages.create(**self._ask(model, prompt))
        assert whole.stop_reason == "end_turn"
        return Told(whole.content[0].text, whole.usage.input_tokens, whole.usage.output_tokens)

    def stream(self, model: str, prompt: str) -> Told:
        with self.client.messages.stream(**self._ask(model, prompt)) as stream:
            text = "".join(stream.text_stream)
            whole = stream.get_final_message()
        assert whole.stop_reason == "end_turn"
        return Told(text, whole.usage.input_tokens, whole.usage.output_tokens)

    def tools(self, model: str, prompt: str, *, streamed: bool) -> list[tuple[str, Any]]:
        tools = [{"name": name, "description": name, "input_schema": CITY} for name, _ in CALLED]
        asked = self._ask(model, prompt, tools=tools)
        if streamed:
            with self.client.messages.stream(**asked) as stream:
                whole: Any = stream.get_final_message()
        else:
            whole = self.client.messages.create(**asked)
        assert whole.stop_reason == "tool_use"
        return [(block.name, block.input) for block in whole.content if block.type == "tool_use"]

    def tool_answered(self, model: str) -> str:
        messages = [
            {"role": "user", "content": "How is the weather?"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": f"Sunny. [[say: {SAID}]]"}],
            },
        ]
        whole: Any = self.client.messages.create(**self._ask(model, messages))
        return str(whole.content[0].text)

    def schema(self, model: str) -> Any:
        form = {"format": {"type": "json_schema", "schema": PERSON}}
        whole: Any = self.client.messages.create(**self._ask(model, "Who?", output_config=form))
        return json.loads(whole.content[0].text)

    def image(self, model: str) -> str:
        content = [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
            {"type": "text", "text": SAY},
        ]
        whole: Any = self.client.messages.create(**self._ask(model, content))
        return str(whole.content[0].text)


class GoogleSdk:
    def __init__(self, gateway: Gateway) -> None:
        options = google_types.HttpOptions(base_url=f"{gateway.url}/google", timeout=20_000)
        self.client = genai.Client(api_key=gateway.key, vertexai=False, http_options=options)

    def _config(self, **options: Any) -> google_types.GenerateContentConfig:
        return google_types.GenerateContentConfig(system_instruction="Be brief.", **options)

    def _create(self, model: str, contents: Any, **options: Any) -> Any:
        return self.client.models.generate_content(model=model, contents=contents, config=self._config(**options))

    def _stream(self, model: str, contents: Any, **options: Any) -> list[Any]:
        return list(
            self.client.models.generate_content_stream(model=model, contents=contents, config=self._config(**options))
        )

    def ask(self, model: str, prompt: str) -> Told:
        whole = self._create(model, prompt)
        usage = whole.usage_metadata
        return Told(whole.text, usage.prompt_token_count, usage.candidates_token_count)

    def stream(self, model: str, prompt: str) -> Told:
        pieces = self._stream(model, prompt)
        usage = pieces[-1].usage_metadata
        assert pieces[-1].candidates[0].finish_reason == google_types.FinishReason.STOP
        return Told(
            "".join(piece.text or "" for piece in pieces), usage.prompt_token_count, usage.candidates_token_count
        )

    def tools(self, model: str, prompt: str, *, streamed: bool) -> list[tuple[str, Any]]:
        declared = [
            google_types.FunctionDeclaration(name=name, description=name, parameters_json_schema=CITY)
            for name, _ in CALLED
        ]
        tools = [google_types.Tool(function_declarations=declared)]
        off = google_types.AutomaticFunctionCallingConfig(disable=True)
        options: dict[str, Any] = {"tools": tools, "automatic_function_calling": off}
        answers = self._stream(model, prompt, **options) if streamed else [self._create(model, prompt, **options)]
        return [(call.name, call.args) for answer in answers for call in answer.function_calls or ()]

    def tool_answered(self, model: str) -> str:
        contents = [
            {"role": "user", "parts": [{"text": "How is the weather?"}]},
            {"role": "model", "parts": [{"function_call": {"name": "get_weather", "args": {"city": "Paris"}}}]},
            {
                "role": "user",
                "parts": [
                    {"function_response": {"name": "get_weather", "response": {"result": f"Sunny. [[say: {SAID}]]"}}}
                ],
            },
        ]
        return str(self._create(model, contents).text)

    def schema(self, model: str) -> Any:
        whole = self._create(model, "Who?", response_mime_type="application/json", response_json_schema=PERSON)
        return json.loads(whole.text)

    def image(self, model: str) -> str:
        contents = [
            {"role": "user", "parts": [{"text": SAY}, {"inline_data": {"mime_type": "image/png", "data": PIXEL}}]}
        ]
        return str(self._create(model, contents).text)


class LangChainSdk:
    """LangChain's chat models; the same for both vendors from here on."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make

    def ask(self, model: str, prompt: str) -> Told:
        whole = self._make(model).invoke([("system", "Be brief."), ("human", prompt)])
        return Told(whole.text, whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"])

    def stream(self, model: str, prompt: str) -> Told:
        pieces = list(self._make(model).stream([("system", "Be brief."), ("human", prompt)]))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        return Told(whole.text, whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"])

    def tools(self, model: str, prompt: str, *, streamed: bool) -> list[tuple[str, Any]]:
        tools = [
            {"type": "function", "function": {"name": name, "description": name, "parameters": CITY}}
            for name, _ in CALLED
        ]
        bound = self._make(model).bind_tools(tools)
        if not streamed:
            return [(call["name"], call["args"]) for call in bound.invoke(prompt).tool_calls]
        pieces = list(bound.stream(prompt))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        return [(call["name"], call["args"]) for call in whole.tool_calls]

    def tool_answered(self, model: str) -> str:
        call = {"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1"}
        messages = [
            {"role": "user", "content": "How is the weather?"},
            {"role": "assistant", "content": "", "tool_calls": [{**call, "type": "tool_call"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": f"Sunny. [[say: {SAID}]]"},
        ]
        return str(self._make(model).invoke(messages).text)

    def schema(self, model: str) -> Any:
        named = {"title": "person", "description": "A person.", **PERSON}
        return self._make(model).with_structured_output(named, method="json_schema").invoke("Who?")

    def image(self, model: str) -> str:
        content = [
            {"type": "text", "text": SAY},
            {"type": "image", "source_type": "base64", "data": PIXEL, "mime_type": "image/png"},
        ]
        return str(self._make(model).invoke([{"role": "user", "content": content}]).text)


def _langchain_openai(gateway: Gateway) -> LangChainSdk:
    def make(model: str) -> Any:
        return ChatOpenAI(
            model=model,
            base_url=f"{gateway.url}/v1",
            api_key=SecretStr(gateway.key),
            max_retries=0,
            timeout=20,
            stream_usage=True,
        )

    return LangChainSdk(make)


def _langchain_anthropic(gateway: Gateway) -> LangChainSdk:
    def make(model: str) -> Any:
        return ChatAnthropic(
            model_name=model,
            base_url=f"{gateway.url}/anthropic",
            api_key=SecretStr(gateway.key),
            max_retries=0,
            timeout=20,
            stop=None,
        )

    return LangChainSdk(make)


SDKS: dict[str, Callable[[Gateway], Sdk]] = {
    "openai_chat": OpenAIChatSdk,
    "openai_responses": ResponsesSdk,
    "azure": AzureSdk,
    "anthropic": AnthropicSdk,
    "google": GoogleSdk,
    "langchain_openai": _langchain_openai,
    "langchain_anthropic": _langchain_anthropic,
}


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[Sdk]:
    found = SDKS[request.param](gateway)
    yield found
    close = getattr(getattr(found, "client", None), "close", None)
    if close is not None:
        close()


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_arrives_whole_with_its_usage(sdk: Sdk, model: str) -> None:
    told = sdk.ask(model, SAY)

    assert told.text == SAID
    assert told.input_tokens > 0
    assert told.output_tokens > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_streamed_answer_says_the_same_as_a_whole_one(sdk: Sdk, model: str) -> None:
    assert sdk.stream(model, SAY) == sdk.ask(model, SAY)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_parallel_tool_calls_arrive_with_their_arguments(sdk: Sdk, model: str, *, streamed: bool) -> None:
    assert sdk.tools(model, TWO_CALLS, streamed=streamed) == CALLED


@pytest.mark.parametrize("model", MODELS)
def test_the_result_of_a_tool_is_answered(sdk: Sdk, model: str) -> None:
    assert sdk.tool_answered(model) == SAID


@pytest.mark.parametrize("model", MODELS)
def test_structured_output_follows_its_schema(sdk: Sdk, model: str) -> None:
    found = sdk.schema(model)

    assert set(found) == {"name", "age"}
    assert isinstance(found["age"], int)


@pytest.mark.parametrize("model", MODELS)
def test_an_image_can_be_asked_about(sdk: Sdk, model: str) -> None:
    assert sdk.image(model) == SAID
