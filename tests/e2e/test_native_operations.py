"""What the official SDKs do beside chatting, each at a provider of its own dialect, and what is on record about it."""

import io
import json
import time
import uuid
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types

from tests.e2e.conftest import Gateway
from tests.support.installation import PATIENCE_S

API_VERSION = "2024-10-21"
OPTIONS: dict[str, Any] = {"max_retries": 0, "timeout": 20}
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def sound(seconds: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8_000)
        writer.writeframes(b"\0\0" * 8_000 * seconds)
    return file.getvalue()


class Log:
    """What the installation has on record since a moment: newest first."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._token = gateway.place.scoped_token()

    def last(self, key_id: str, count: int = 1) -> list[dict[str, Any]]:
        """The last `count` ended calls of a key, newest first."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            status, page = self._gateway.place.ask(
                f"/trueportai-services/api/v1/analytics/logs?key_id={key_id}&limit=50", token=self._token
            )
            assert status == 200, page
            found = [entry for entry in page["data"] if entry["key_id"] == key_id and entry["end"] != "in_progress"]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline_s, f"{len(found)} of {count} calls are in the log"
            time.sleep(0.03)


@pytest.fixture(scope="module")
def log(gateway: Gateway) -> Log:
    return Log(gateway)


@pytest.fixture
def key(new_key: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A key of the test's own, so that its calls can be told from others."""
    return new_key()


@pytest.fixture
def at_openai(gateway: Gateway, key: dict[str, Any]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/openai/v1", api_key=key["key"], **OPTIONS) as client:
        yield client


@pytest.fixture
def at_azure(gateway: Gateway, key: dict[str, Any]) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(
        azure_endpoint=gateway.url, api_key=key["key"], api_version=API_VERSION, **OPTIONS
    ) as client:
        yield client


@pytest.fixture
def at_anthropic(gateway: Gateway, key: dict[str, Any]) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"{gateway.url}/anthropic", api_key=key["key"], **OPTIONS) as client:
        yield client


@pytest.fixture
def at_google(gateway: Gateway, key: dict[str, Any]) -> Iterator[genai.Client]:
    with google_client(gateway, key["key"]) as client:
        yield client


def google_client(gateway: Gateway, key: str) -> genai.Client:
    options = google_types.HttpOptions(base_url=f"{gateway.url}/google", timeout=20_000)
    return genai.Client(api_key=key, vertexai=False, http_options=options)


def recorded(log: Log, key: dict[str, Any], *operations: str, dialect: str) -> list[dict[str, Any]]:
    """The calls of the key, oldest first, which were these and went well."""
    entries = log.last(key["id"], len(operations))[::-1]
    assert len(entries) == len(operations)
    assert [told for told, entry in zip(operations, entries, strict=True) if not does(entry, told)] == []
    assert {(entry["dialect"], entry["end"], entry["status"]) for entry in entries} == {(dialect, "completed", 200)}
    return entries


def does(entry: dict[str, Any], operation: str) -> bool:
    """Whether the entry is of this operation."""
    return bool(entry["operation"] == operation)


# --- OpenAI


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_openai_embeddings(at_openai: openai.OpenAI, log: Log, key: dict[str, Any], form: Any) -> None:
    options = {} if form is None else {"encoding_format": form}
    made = at_openai.embeddings.create(model="sim-embedding", input=["one", "two"], dimensions=8, **options)

    assert [one.index for one in made.data] == [0, 1]
    if form != "base64":
        assert [len(one.embedding) for one in made.data] == [8, 8]
    (entry,) = recorded(log, key, "embeddings", dialect="openai")
    assert (entry["usage_source"], entry["input_tokens"], entry["output_tokens"]) == (
        "provider",
        made.usage.prompt_tokens,
        0,
    )
    assert entry["cost_nano_usd"] is None or entry["cost_nano_usd"] >= 0


def test_openai_counts_input_tokens(at_openai: openai.OpenAI, log: Log, key: dict[str, Any]) -> None:
    told = at_openai.responses.input_tokens.count(model="sim-model", input="How many tokens is this?")

    assert told.input_tokens > 0
    (entry,) = recorded(log, key, "responses/input_tokens", dialect="openai")
    assert (entry["usage_source"], entry["total_tokens"]) == ("none", 0)


def test_openai_lists_and_describes_models(at_openai: openai.OpenAI, log: Log, key: dict[str, Any]) -> None:
    listed = at_openai.models.list()
    one = at_openai.models.retrieve("sim-model")

    assert listed.object == "list"
    assert (one.id, one.object) == ("sim-model", "model")
    assert one in list(listed)
    entries = recorded(log, key, "models", "models/sim-model", dialect="openai")
    assert [(entry["method"], entry["usage_source"]) for entry in entries] == [("GET", "none")] * 2


def test_openai_moderates(at_openai: openai.OpenAI, log: Log, key: dict[str, Any]) -> None:
    assert len(at_openai.moderations.create(model="sim-model", input=["a", "b"]).results) == 2

    recorded(log, key, "moderations", dialect="openai")


def test_openai_makes_and_edits_images(at_openai: openai.OpenAI, log: Log, key: dict[str, Any]) -> None:
    made = at_openai.images.generate(model="sim-image", prompt="A cat", n=2)
    edited = at_openai.images.edit(model="sim-image", image=("a.png", b"\x89PNG", "image/png"), prompt="Red")

    assert [bool(one.b64_json) for one in made.data or ()] == [True, True]
    assert edited.usage is not None
    first, second = recorded(log, key, "images/generations", "images/edits", dialect="openai")
    assert made.usage is not None
    assert first["output_tokens"] == made.usage.output_tokens
    assert (second["input_tokens"], second["image_input_tokens"] > 0) == (edited.usage.input_tokens, True)


def test_what_openai_bills_by_the_piece_is_counted_by_the_piece(
    at_openai: openai.OpenAI, log: Log, key: dict[str, Any]
) -> None:
    at_openai.images.generate(model="dall-e-3", prompt="A cat", n=2)
    at_openai.audio.transcriptions.create(model="whisper-1", file=("a.wav", sound(3), "audio/wav"))

    pictures, seconds = recorded(log, key, "images/generations", "audio/transcriptions", dialect="openai")
    assert (pictures["images"], pictures["total_tokens"], pictures["usage_source"]) == (2, 0, "provider")
    assert (seconds["audio_ms"], seconds["total_tokens"], seconds["usage_source"]) == (3_000, 0, "provider")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # what the SDK says of translations
def test_openai_speaks_and_listens(at_openai: openai.OpenAI, log: Log, key: dict[str, Any]) -> None:
    with at_openai.audio.speech.with_streaming_response.create(
        model="sim-tts", voice="alloy", input="Say it", response_format="wav"
    ) as spoken:
        wav = b"".join(spoken.iter_bytes())
    heard = at_openai.audio.transcriptions.create(model="sim-hear", file=("a.wav", wav, "audio/wav"))
    text = at_openai.audio.transcriptions.create(
        model="sim-hear", file=("a.wav", sound(), "audio/wav"), response_format="text"
    )
    translated = at_openai.audio.translations.create(model="sim-hear", file=("a.wav", sound(), "audio/wav"))

    assert wav.startswith(b"RIFF")
    assert heard.text
    assert isinstance(text, str)
    assert translated.text
    spoken_entry, heard_entry, *_ = recorded(
        log, key, "audio/speech", "audio/transcriptions", "audio/transcriptions", "audio/translations", dialect="openai"
    )
    assert spoken_entry["model"] == "sim-tts"
    assert heard_entry["usage_source"] == "provider"
    assert heard_entry["input_tokens"] > 0


def test_openai_streams_what_it_hears(at_openai: openai.OpenAI, log: Log, key: dict[str, Any]) -> None:
    events = list(
        at_openai.audio.transcriptions.create(model="sim-hear", file=("a.wav", sound(), "audio/wav"), stream=True)
    )

    done = events[-1]
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == done.text
    (entry,) = recorded(log, key, "audio/transcriptions", dialect="openai")
    assert (entry["stream"], entry["usage_source"]) == (True, "provider")


def test_openai_keeps_files_and_works_off_batches(at_openai: openai.OpenAI, log: Log, key: dict[str, Any]) -> None:
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "sim-model", "messages": HELLO},
    }
    made = at_openai.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = at_openai.batches.create(
        input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    done = at_openai.batches.retrieve(batch.id)
    assert done.output_file_id is not None
    result = json.loads(at_openai.files.content(done.output_file_id).text)
    assert made.id in [one.id for one in at_openai.files.list()]
    assert batch.id in [one.id for one in at_openai.batches.list()]
    assert at_openai.files.retrieve(made.id).filename == "in.jsonl"
    assert at_openai.files.delete(made.id).deleted is True

    assert (done.status, result["custom_id"], result["response"]["status_code"]) == ("completed", "a", 200)
    recorded(
        log,
        key,
        "files",
        "batches",
        f"batches/{batch.id}",
        f"files/{done.output_file_id}/content",
        "files",
        "batches",
        f"files/{made.id}",
        f"files/{made.id}",
        dialect="openai",
    )


def test_openai_continues_retrieves_and_deletes_responses(
    at_openai: openai.OpenAI, log: Log, key: dict[str, Any]
) -> None:
    first = at_openai.responses.create(model="sim-model", input=f"What is {uuid.uuid4()}?")
    second = at_openai.responses.create(model="sim-model", input="And now?", previous_response_id=first.id)
    again = at_openai.responses.retrieve(first.id)
    items = list(at_openai.responses.input_items.list(first.id))
    at_openai.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        at_openai.responses.retrieve(first.id)

    assert again.output_text == first.output_text
    assert len(items) == 1
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    entries = log.last(key["id"], 6)[::-1]
    at = f"responses/{first.id}"
    assert [(entry["method"], entry["operation"], entry["status"]) for entry in entries] == [
        ("POST", "responses", 200),
        ("POST", "responses", 200),
        ("GET", at, 200),
        ("GET", f"{at}/input_items", 200),
        ("DELETE", at, 200),
        ("GET", at, 404),
    ]
    assert [entry["usage_source"] for entry in entries[:2]] == ["provider", "provider"]


def test_openais_streaming_helpers_put_the_pieces_together(
    at_openai: openai.OpenAI, log: Log, key: dict[str, Any]
) -> None:
    with at_openai.chat.completions.stream(model="sim-model", messages=HELLO) as chat:
        said = "".join(event.delta for event in chat if event.type == "content.delta")
        whole = chat.get_final_completion()
    with at_openai.responses.stream(model="sim-model", input="Hello") as response:
        told = "".join(event.delta for event in response if event.type == "response.output_text.delta")
        final = response.get_final_response()

    assert whole.choices[0].message.content == said
    assert (final.output_text, final.status) == (told, "completed")
    entries = recorded(log, key, "chat/completions", "responses", dialect="openai")
    assert all(entry["stream"] and entry["usage_source"] == "provider" for entry in entries)


# --- Azure


def test_azures_operations_go_to_their_deployments(at_azure: openai.AzureOpenAI, log: Log, key: dict[str, Any]) -> None:
    chat = at_azure.chat.completions.create(model="az-gpt", messages=HELLO)
    embedded = at_azure.embeddings.create(model="az-embed", input="one", dimensions=4)
    image = at_azure.images.generate(model="az-image", prompt="A cat")
    heard = at_azure.audio.transcriptions.create(model="az-hear", file=("a.wav", sound(), "audio/wav"))
    completed = at_azure.completions.create(model="az-gpt", prompt="Once")

    assert chat.choices[0].message.content
    assert len(embedded.data[0].embedding) == 4
    assert image.data
    assert heard.text
    assert completed.choices[0].text
    entries = recorded(
        log,
        key,
        "chat/completions",
        "embeddings",
        "images/generations",
        "audio/transcriptions",
        "completions",
        dialect="azure",
    )
    assert {entry["provider"] for entry in entries} == {"azure"}
    assert [entry["model"] for entry in entries] == ["az-gpt", "az-embed", "az-image", "az-hear", "az-gpt"]
    assert {entry["usage_source"] for entry in entries} == {"provider"}


def test_azures_newer_api_is_openais_at_the_same_address(gateway: Gateway, log: Log, key: dict[str, Any]) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/openai/v1/", api_key=key["key"], **OPTIONS) as client:
        response = client.responses.create(model="az1-gpt", input="Hello")
        pieces = list(client.chat.completions.create(model="az1-gpt", messages=HELLO, stream=True))

    assert response.output_text
    assert pieces[-1].choices[0].finish_reason == "stop"
    entries = recorded(log, key, "responses", "chat/completions", dialect="openai")
    assert {entry["provider"] for entry in entries} == {"azure"}


# --- Anthropic


def test_anthropic_counts_tokens(at_anthropic: anthropic.Anthropic, log: Log, key: dict[str, Any]) -> None:
    counted = at_anthropic.messages.count_tokens(model="claude-next", messages=HELLO, system="Be brief.")
    said = at_anthropic.messages.create(model="claude-next", max_tokens=50, messages=HELLO, system="Be brief.")

    assert counted.input_tokens == said.usage.input_tokens
    first, second = recorded(log, key, "messages/count_tokens", "messages", dialect="anthropic")
    assert (first["usage_source"], first["total_tokens"]) == ("none", 0)
    assert (second["usage_source"], second["input_tokens"]) == ("provider", counted.input_tokens)


def test_anthropic_lists_and_describes_models(at_anthropic: anthropic.Anthropic, log: Log, key: dict[str, Any]) -> None:
    listed = list(at_anthropic.models.list(limit=20))
    one = at_anthropic.models.retrieve("claude-opus-4-5")

    assert (one.type, one.display_name) == ("model", "claude-opus-4-5")
    assert one in listed
    recorded(log, key, "models", "models/claude-opus-4-5", dialect="anthropic")


def test_anthropic_works_off_message_batches(at_anthropic: anthropic.Anthropic, log: Log, key: dict[str, Any]) -> None:
    params: Any = {"model": "claude-next", "max_tokens": 50, "messages": HELLO}
    made = at_anthropic.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
    done = at_anthropic.messages.batches.retrieve(made.id)
    results = list(at_anthropic.messages.batches.results(made.id))
    listed = [one.id for one in at_anthropic.messages.batches.list()]
    at_anthropic.messages.batches.delete(made.id)

    assert (made.processing_status, done.processing_status) == ("in_progress", "ended")
    assert [(one.custom_id, one.result.type) for one in results] == [("a", "succeeded")]
    assert made.id in listed
    at = f"messages/batches/{made.id}"
    # Before it asks for the results the SDK looks where they are.
    recorded(log, key, "messages/batches", at, at, f"{at}/results", "messages/batches", at, dialect="anthropic")


def test_anthropics_beta_calls_and_streaming_helpers(
    gateway: Gateway, at_anthropic: anthropic.Anthropic, log: Log, key: dict[str, Any]
) -> None:
    beta = at_anthropic.beta.messages.with_raw_response.create(
        model="claude-next",
        max_tokens=50,
        messages=HELLO,
        betas=["context-1m-2025-08-07"],
        extra_query={"beta": "true"},
    )
    with at_anthropic.messages.stream(model="claude-next", max_tokens=50, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        whole: Any = stream.get_final_message()

    seen = gateway.seen_upstream(beta.headers["x-trueport-interaction"])
    assert seen["query"] == "beta=true"
    assert ["anthropic-beta", "context-1m-2025-08-07"] in seen["headers"]
    assert whole.content[0].text == text
    recorded(log, key, "messages", "messages", dialect="anthropic")


def test_anthropics_users_find_the_id_of_their_request(at_anthropic: anthropic.Anthropic) -> None:
    answer = at_anthropic.messages.with_raw_response.create(model="claude-next", max_tokens=9, messages=HELLO)
    with pytest.raises(anthropic.NotFoundError) as refused:
        at_anthropic.messages.create(model="nobody-serves-this", max_tokens=9, messages=HELLO)

    assert answer.parse()._request_id == answer.headers["x-request-id"]
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]


# --- Google


def test_google_counts_tokens(at_google: genai.Client, log: Log, key: dict[str, Any]) -> None:
    counted = at_google.models.count_tokens(model="gemini-2.5-flash", contents="How many tokens is this?")

    assert (counted.total_tokens or 0) > 0
    (entry,) = recorded(log, key, "countTokens", dialect="google")
    assert (entry["model"], entry["usage_source"], entry["total_tokens"]) == ("gemini-2.5-flash", "none", 0)


def test_google_embeds_one_and_many(at_google: genai.Client, log: Log, key: dict[str, Any]) -> None:
    config = google_types.EmbedContentConfig(output_dimensionality=8)
    one = at_google.models.embed_content(model="gemini-embedding-001", contents="one", config=config)
    texts: list[google_types.ContentUnion] = ["one", "two", "three"]
    many = at_google.models.embed_content(model="gemini-embedding-001", contents=texts, config=config)

    assert [len(found.values or ()) for found in one.embeddings or ()] == [8]
    assert [len(found.values or ()) for found in many.embeddings or ()] == [8, 8, 8]
    entries = log.last(key["id"], 2)[::-1]
    assert does(entries[0], "embedContent") or does(entries[0], "batchEmbedContents")
    assert does(entries[1], "batchEmbedContents")
    assert [(entry["dialect"], entry["usage_source"], entry["output_tokens"]) for entry in entries] == [
        ("google", "provider", 0)
    ] * 2
    assert all(entry["input_tokens"] > 0 for entry in entries)


def test_google_lists_and_describes_models(at_google: genai.Client, log: Log, key: dict[str, Any]) -> None:
    listed = [model.name for model in at_google.models.list()]
    one = at_google.models.get(model="gemini-2.5-flash")

    assert one.name == "models/gemini-2.5-flash"
    assert one.input_token_limit
    assert one.name in listed
    recorded(log, key, "models", "models/gemini-2.5-flash", dialect="google")


def test_googles_chats_stream_turn_after_turn(at_google: genai.Client, log: Log, key: dict[str, Any]) -> None:
    chat = at_google.chats.create(model="gemini-2.5-flash")
    first = "".join(piece.text or "" for piece in chat.send_message_stream("Say [[say: one]]"))
    second = "".join(piece.text or "" for piece in chat.send_message_stream("Say [[say: two]]"))

    assert (first, second) == ("one", "two")
    assert [content.role for content in chat.get_history() if content.role == "user"] == ["user", "user"]
    entries = recorded(log, key, "streamGenerateContent", "streamGenerateContent", dialect="google")
    assert all(entry["stream"] and entry["usage_source"] == "provider" for entry in entries)


# --- asynchronous clients


@pytest.fixture
async def asynchronous_openai(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, **OPTIONS) as client:
        yield client


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # Google's own class
async def test_the_asynchronous_clients_do_the_same(gateway: Gateway, asynchronous_openai: openai.AsyncOpenAI) -> None:
    embedded = await asynchronous_openai.embeddings.create(model="sim-embedding", input="one", dimensions=4)
    listed = [model.id async for model in asynchronous_openai.models.list()]
    async with asynchronous_openai.responses.stream(model="sim-model", input="Hello") as stream:
        response = await stream.get_final_response()
    assert (len(embedded.data[0].embedding), "sim-model" in listed, response.status) == (4, True, "completed")

    async with openai.AsyncAzureOpenAI(
        azure_endpoint=gateway.url, api_key=gateway.key, api_version=API_VERSION, **OPTIONS
    ) as azure:
        chat = await azure.chat.completions.create(model="az-gpt", messages=HELLO)
    assert chat.choices[0].message.content

    async with anthropic.AsyncAnthropic(
        base_url=f"{gateway.url}/anthropic", api_key=gateway.key, **OPTIONS
    ) as at_anthropic:
        counted = await at_anthropic.messages.count_tokens(model="claude-next", messages=HELLO)
        async with at_anthropic.messages.stream(model="claude-next", max_tokens=50, messages=HELLO) as messages:
            text = "".join([piece async for piece in messages.text_stream])
        params: Any = {"model": "claude-next", "max_tokens": 50, "messages": HELLO}
        batch = await at_anthropic.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
        results = [one.custom_id async for one in await at_anthropic.messages.batches.results(batch.id)]
    assert (counted.input_tokens > 0, bool(text), results) == (True, True, ["a"])

    client = google_client(gateway, gateway.key)
    async with client.aio as google:
        tokens = await google.models.count_tokens(model="gemini-2.5-flash", contents="Hello")
        pieces = [
            piece.text or ""
            async for piece in await google.models.generate_content_stream(
                model="gemini-2.5-flash", contents="Say [[say: one two]]"
            )
        ]
    client.close()
    assert ((tokens.total_tokens or 0) > 0, "".join(pieces)) == (True, "one two")


# --- errors


class Asked:
    """Each SDK, asked something that goes wrong; what it raises."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def openai(self, key: str, model: str, prompt: str) -> BaseException:
        with openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key=key, **OPTIONS) as client:
            return self._raised(lambda: client.chat.completions.create(model=model, messages=_said(prompt)))

    def responses(self, key: str, model: str, prompt: str) -> BaseException:
        with openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key=key, **OPTIONS) as client:
            return self._raised(lambda: client.responses.create(model=model, input=prompt))

    def azure(self, key: str, model: str, prompt: str) -> BaseException:
        with openai.AzureOpenAI(
            azure_endpoint=self.gateway.url, api_key=key, api_version=API_VERSION, **OPTIONS
        ) as client:
            return self._raised(lambda: client.chat.completions.create(model=model, messages=_said(prompt)))

    def anthropic(self, key: str, model: str, prompt: str) -> BaseException:
        with anthropic.Anthropic(base_url=f"{self.gateway.url}/anthropic", api_key=key, **OPTIONS) as client:
            return self._raised(lambda: client.messages.create(model=model, max_tokens=50, messages=_said(prompt)))

    def google(self, key: str, model: str, prompt: str) -> BaseException:
        with google_client(self.gateway, key) as client:
            return self._raised(lambda: client.models.generate_content(model=model, contents=prompt))

    @staticmethod
    def _raised(ask: Callable[[], Any]) -> BaseException:
        with pytest.raises(Exception) as error:  # noqa: PT011 - which one is what the tests compare
            ask()
        return error.value


def _said(prompt: str) -> list[Any]:
    return [{"role": "user", "content": prompt}]


HOME_MODELS = {
    "openai": "sim-model",
    "responses": "sim-model",
    "azure": "az-gpt",
    "anthropic": "claude-next",
    "google": "gemini-2.5-flash",
}
SDKS = list(HOME_MODELS)
Kinds = dict[str, type[BaseException]]


def kinds(of_openai: type[BaseException], of_anthropic: type[BaseException]) -> Kinds:
    """Google's SDK knows two classes, and puts the status in `code`."""
    return {
        **dict.fromkeys(("openai", "responses", "azure"), of_openai),
        "anthropic": of_anthropic,
        "google": google_errors.ClientError,
    }


def assert_raised(error: BaseException, kind: type[BaseException], status: int) -> None:
    assert type(error) is kind, error
    assert getattr(error, "status_code", None) == status or getattr(error, "code", None) == status


@pytest.mark.parametrize("sdk", SDKS)
def test_a_bad_key_is_an_authentication_error(gateway: Gateway, sdk: str) -> None:
    error = getattr(Asked(gateway), sdk)("sk-wrong", HOME_MODELS[sdk], "Hello")

    assert_raised(error, kinds(openai.AuthenticationError, anthropic.AuthenticationError)[sdk], 401)


@pytest.mark.parametrize("sdk", SDKS)
def test_a_model_nobody_serves_is_not_found(gateway: Gateway, sdk: str, log: Log, key: dict[str, Any]) -> None:
    error = getattr(Asked(gateway), sdk)(key["key"], "nobody-serves-this", "Hello")

    assert_raised(error, kinds(openai.NotFoundError, anthropic.NotFoundError)[sdk], 404)
    (entry,) = log.last(key["id"])
    assert (entry["end"], entry["status"], entry["error"]) == ("refused", 404, "model_not_found")


@pytest.mark.parametrize("sdk", SDKS)
def test_a_request_the_provider_finds_wrong_is_a_bad_request(
    gateway: Gateway, sdk: str, log: Log, key: dict[str, Any]
) -> None:
    error = getattr(Asked(gateway), sdk)(key["key"], HOME_MODELS[sdk], "Hello [[fault: status=400]]")

    assert_raised(error, kinds(openai.BadRequestError, anthropic.BadRequestError)[sdk], 400)
    (entry,) = log.last(key["id"])
    assert (entry["end"], entry["status"], entry["usage_source"]) == ("completed", 400, "none")


@pytest.mark.parametrize("sdk", SDKS)
def test_a_name_that_is_none_is_a_bad_request(gateway: Gateway, sdk: str) -> None:
    error = getattr(Asked(gateway), sdk)(gateway.key, "x" * 257, "Hello")

    # Where the model is part of a path, one that cannot be is no path.
    status = 404 if sdk == "azure" else 400
    kind = {400: openai.BadRequestError, 404: openai.NotFoundError}[status]
    assert_raised(error, kinds(kind, anthropic.BadRequestError)[sdk], status)


@pytest.mark.parametrize("sdk", SDKS)
def test_a_used_up_limit_is_a_rate_limit_error(
    gateway: Gateway, sdk: str, new_key: Callable[..., dict[str, Any]], log: Log
) -> None:
    made = new_key(requests_per_minute=1)
    asked = getattr(Asked(gateway), sdk)
    asked(made["key"], HOME_MODELS[sdk], "Hello [[fault: status=400]]")

    error = asked(made["key"], HOME_MODELS[sdk], "Hello")

    assert_raised(error, kinds(openai.RateLimitError, anthropic.RateLimitError)[sdk], 429)
    assert int(error.response.headers["retry-after"]) >= 1
    assert (log.last(made["id"], 2)[0]["end"], log.last(made["id"], 2)[0]["error"]) == ("refused", "rate_limited")


@pytest.mark.parametrize("sdk", SDKS)
def test_the_providers_own_limit_is_the_same_error(gateway: Gateway, sdk: str) -> None:
    error = getattr(Asked(gateway), sdk)(gateway.key, HOME_MODELS[sdk], "Hello [[fault: status=429 retry-after=3]]")

    assert_raised(error, kinds(openai.RateLimitError, anthropic.RateLimitError)[sdk], 429)
    assert error.response.headers["retry-after"] == "3"


@pytest.mark.parametrize("sdk", SDKS)
def test_a_request_beyond_the_size_limit_is_told_so(gateway: Gateway, sdk: str) -> None:
    error = getattr(Asked(gateway), sdk)(gateway.key, HOME_MODELS[sdk], "x" * (20 << 20))

    assert_raised(error, kinds(openai.APIStatusError, anthropic.RequestTooLargeError)[sdk], 413)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("status", [500, 503])
def test_an_error_on_the_providers_side_is_a_server_error(gateway: Gateway, sdk: str, status: int) -> None:
    error = getattr(Asked(gateway), sdk)(gateway.key, HOME_MODELS[sdk], f"Hello [[fault: status={status}]]")

    of_anthropic = anthropic.InternalServerError if status == 500 else anthropic.ServiceUnavailableError
    expected: Kinds = {**kinds(openai.InternalServerError, of_anthropic), "google": google_errors.ServerError}
    assert_raised(error, expected[sdk], status)
