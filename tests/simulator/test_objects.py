"""Files, batches, pictures and sounds of OpenAI's dialect."""

import io
import json
import wave

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.simulator import get, post, raw_call, request_bytes
from trueport.simulator import Simulator

KEY = {"authorization": "Bearer sk-test"}


def wav(length_s: float) -> bytes:
    """Silence of that length."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8_000)
        writer.writeframes(b"\0\0" * int(length_s * 8_000))
    return file.getvalue()


# --- files


async def test_a_file_comes_back_as_it_went_in(client: AsyncOpenAI) -> None:
    data = b"\x00\r\n--x\r\n\xff{}"
    made = await client.files.create(file=("odd name.bin", data), purpose="user_data")

    found = await client.files.retrieve(made.id)
    content = await client.files.content(made.id)
    listed = [one.id async for one in client.files.list(purpose="user_data")]
    other = [one.id async for one in client.files.list(purpose="batch")]

    assert (found.filename, found.bytes, found.purpose) == ("odd name.bin", len(data), "user_data")
    assert content.read() == data
    assert (listed, other) == ([made.id], [])


async def test_the_same_file_twice_is_two_files_and_a_deleted_one_is_gone(client: AsyncOpenAI) -> None:
    one, two = [await client.files.create(file=("a", b"same"), purpose="batch") for _ in range(2)]

    gone = await client.files.delete(one.id)

    assert one.id != two.id
    assert gone.deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(one.id)
    assert (await client.files.content(two.id)).read() == b"same"


async def test_lists_come_in_pages(client: AsyncOpenAI, simulator: Simulator) -> None:
    made = [(await client.files.create(file=("a", b"x"), purpose="batch")).id for _ in range(5)]

    page = json.loads((await get(simulator.port, "/v1/files?limit=2", headers=KEY)).body)
    listed = [one.id async for one in client.files.list(limit=2)]

    assert [one["id"] for one in page["data"]] == made[:2:-1]
    assert page["has_more"]
    assert listed == made[::-1]


async def test_a_form_without_a_file_or_with_an_odd_purpose_is_refused(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    no_form = await post(simulator.port, "/v1/files", {}, headers={**KEY, "content-type": "application/json"})
    with pytest.raises(openai.BadRequestError) as odd:
        await client.files.create(file=("a", b"x"), purpose="mischief")  # type: ignore[arg-type]  # meant to be wrong

    assert no_form.status == 400
    assert odd.value.param == "purpose"


# --- batches


async def test_a_batch_is_worked_through_once_it_is_looked_at(client: AsyncOpenAI) -> None:
    def line(custom_id: str, url: str, body: object) -> bytes:
        return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode()

    chat = {"model": "m", "messages": [{"role": "user", "content": "[[say: yes]]"}]}
    lines = [
        line("a", "/v1/chat/completions", chat),
        line("b", "/v1/embeddings", {"model": "m", "input": "x", "dimensions": 2}),
        line("c", "/v1/chat/completions", {"model": "m"}),
        b"not json",
    ]
    uploaded = await client.files.create(file=("in.jsonl", b"\n".join(lines)), purpose="batch")
    made = await client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    )

    done = await client.batches.retrieve(made.id)

    assert (made.status, done.status) == ("validating", "completed")
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (4, 2, 2)
    assert done.output_file_id is not None
    assert done.error_file_id is not None
    good = [json.loads(one) for one in (await client.files.content(done.output_file_id)).text.splitlines()]
    bad = [json.loads(one) for one in (await client.files.content(done.error_file_id)).text.splitlines()]
    assert [one["custom_id"] for one in good] == ["a", "b"]
    assert good[0]["response"]["body"]["choices"][0]["message"]["content"] == "yes"
    assert (bad[0]["custom_id"], bad[0]["response"]["status_code"]) == ("c", 400)
    assert bad[1]["error"]["code"] == "invalid_json_line"
    assert [one.id async for one in client.batches.list()] == [made.id]


async def test_a_batch_can_be_cancelled_until_it_is_looked_at(client: AsyncOpenAI) -> None:
    uploaded = await client.files.create(file=("in.jsonl", b""), purpose="batch")
    made = await client.batches.create(input_file_id=uploaded.id, endpoint="/v1/responses", completion_window="24h")

    cancelling = await client.batches.cancel(made.id)
    cancelled = await client.batches.retrieve(made.id)

    assert (cancelling.status, cancelled.status) == ("cancelling", "cancelled")
    with pytest.raises(openai.NotFoundError):
        await client.batches.create(input_file_id="file-x", endpoint="/v1/responses", completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        await client.batches.retrieve("batch_x")


# --- pictures


async def test_pictures_are_made_and_billed_in_tokens_and_in_pieces(client: AsyncOpenAI, simulator: Simulator) -> None:
    made = await client.images.generate(model="gpt-image-1", prompt="a small cat", n=2, quality="low")

    assert made.data is not None
    assert [(one.b64_json or "")[:8] for one in made.data] == ["iVBORw0K"] * 2
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (3, 544, 547)
    assert made.usage.input_tokens_details.text_tokens == 3
    entry = simulator.ledger.only_entry()
    assert (entry.images, entry.prompt_tokens, entry.completion_tokens) == (2, 3, 544)


async def test_older_models_give_addresses_and_no_usage(client: AsyncOpenAI, simulator: Simulator) -> None:
    made = await client.images.generate(model="dall-e-2", prompt="a small cat", n=3)

    assert made.data is not None
    assert made.data[0].url
    assert made.usage is None
    assert (simulator.ledger.only_entry().images, simulator.ledger.only_entry().total_tokens) == (3, 0)


async def test_edited_pictures_are_read_as_well(client: AsyncOpenAI, simulator: Simulator) -> None:
    pictures = [("a.png", b"one", "image/png"), ("b.png", b"two", "image/png")]
    made = await client.images.edit(model="gpt-image-1", prompt="a hat [[usage: images=5]]", image=pictures)

    assert made.usage is not None
    assert made.usage.input_tokens_details.image_tokens == 2 * 194
    assert simulator.ledger.only_entry().images == 5
    with pytest.raises(openai.BadRequestError) as filtered:
        await client.images.generate(model="gpt-image-1", prompt="[[filter: violence]]")
    assert filtered.value.code == "content_policy_violation"


# --- sounds


async def test_speech_is_sound_of_the_kind_asked_for(client: AsyncOpenAI, simulator: Simulator) -> None:
    spoken = await client.audio.speech.create(model="tts-1", voice="alloy", input="one two", response_format="wav")
    usual = await client.audio.speech.create(model="tts-1", voice="alloy", input="one two")

    with wave.open(io.BytesIO(spoken.read())) as reader:
        assert reader.getnframes() * 1000 // reader.getframerate() == 600
    assert usual.response.headers["content-type"] == "audio/mpeg"
    entry = simulator.ledger.entries[0]
    assert (entry.prompt_tokens, entry.completion_tokens, entry.audio_ms) == (2, 6, 600)


async def test_speech_can_come_in_events_with_usage(simulator: Simulator) -> None:
    asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "one two", "stream_format": "sse"}
    reply = await post(simulator.port, "/v1/audio/speech", asked, headers=KEY)

    found = [json.loads(line.removeprefix(b"data: ")) for line in reply.unchunked().split(b"\n\n") if line]
    assert {event["type"] for event in found[:-1]} == {"speech.audio.delta"}
    assert found[-1]["usage"] == {"input_tokens": 2, "output_tokens": 6, "total_tokens": 8}
    assert simulator.ledger.only_entry().completion_tokens == 6


async def test_whisper_is_billed_by_time(client: AsyncOpenAI, simulator: Simulator) -> None:
    heard = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav(2.5)))
    form = b"".join(
        b'--x\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % part
        for part in (
            (b"model", b"whisper-1"),
            (b'file"; filename="a.mp3', b"x" * 16_000),
            (b"response_format", b"verbose_json"),
        )
    )
    headers = {**KEY, "content-type": "multipart/form-data; boundary=x", "connection": "close"}
    request = request_bytes(form + b"--x--\r\n", path="/v1/audio/translations", headers=headers, key=None)
    detailed = json.loads((await raw_call(simulator.port, request)).body)
    subtitled = await client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", wav(2.5)), response_format="vtt", prompt="[[say: good day]]"
    )

    assert heard.usage is not None
    assert (heard.usage.type, heard.usage.type == "duration" and heard.usage.seconds) == ("duration", 3)
    assert (detailed["task"], detailed["duration"]) == ("translate", 1.0)
    assert "00:00:00.000 --> 00:00:02.500\ngood day" in str(subtitled)
    assert [(one.audio_ms, one.total_tokens) for one in simulator.ledger.entries] == [(2500, 0), (1000, 0), (2500, 0)]


async def test_the_other_models_are_billed_by_token(client: AsyncOpenAI, simulator: Simulator) -> None:
    heard = await client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.wav", wav(2)), prompt="[[say: good day]]"
    )
    stream = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", wav(2)), stream=True)
    events = [event async for event in stream]

    assert heard.text == "good day"
    assert heard.usage is not None
    assert heard.usage.type == "tokens"
    assert (heard.usage.input_tokens, heard.usage.output_tokens) == (20 + 8, 2)
    assert events[-1].type == "transcript.text.done"
    said = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert events[-1].text == said
    assert simulator.ledger.entries[0].audio_ms == 2000
    assert simulator.ledger.entries[1].completion_tokens == len(events) - 1


async def test_a_length_can_be_stated_and_an_unknown_format_is_refused(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    await client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", wav(1)), prompt="[[usage: audio_ms=61000]]"
    )
    with pytest.raises(openai.BadRequestError) as refused:
        await client.audio.transcriptions.create(
            model="whisper-1",
            file=("a.wav", b""),
            response_format="song",  # type: ignore[call-overload]  # meant to be wrong
        )

    assert simulator.ledger.entries[0].audio_ms == 61_000
    assert refused.value.param == "response_format"
