"""Speech out of text, and text out of speech."""

import io
import wave
from base64 import b64encode
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from trueport.simulator.answers import Meter
from trueport.simulator.calls import Answer, Call
from trueport.simulator.errors import Refused, error_reply, missing_model
from trueport.simulator.multipart import Form, read_form
from trueport.simulator.reply import Event, Reply
from trueport.simulator.requests import decode
from trueport.simulator.script import Script
from trueport.simulator.streams import DONE, dressed
from trueport.simulator.text import digest_of, sentence, words
from trueport.simulator.usage import Usage, UsageForm, corrected, count_tokens, pieces, reported

_TYPES: Final = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
# How long a token takes to say, and how many tokens a second of sound is billed.
_MS_PER_TOKEN: Final = 300
_TOKENS_PER_S: Final = 10
_RATE: Final = 24_000
# Sound in a format the simulator cannot read is taken to have this many bytes a second.
_BYTES_PER_S: Final = 16_000
_LONGEST_SPOKEN_MS: Final = 60_000


class SpeechRequest(msgspec.Struct):
    model: str
    input: Annotated[str, msgspec.Meta(min_length=1)]
    voice: str | dict[str, object]
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    stream_format: Literal["audio", "sse"] | None = None


_SPEECH: Final = msgspec.json.Decoder(SpeechRequest)
_FORMATS: Final = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")


def speak(call: Call) -> Answer:
    """`POST audio/speech`: sound, or events with pieces of it."""
    asked = decode(call.request.body, _SPEECH)
    script = call.script([asked.input], asked.model)
    if asked.model.startswith("missing-"):
        return Answer(missing_model(asked.model), script, asked.model)
    text = count_tokens(asked.input)
    length = text * _MS_PER_TOKEN
    usage = corrected(Usage(text, length * _TOKENS_PER_S // 1000, audio_ms=length), script.usage)
    form = asked.response_format or "mp3"
    sound = _sound(form, asked.input, min(usage.audio_ms, _LONGEST_SPOKEN_MS))
    if asked.stream_format != "sse":
        return Answer(Reply(body=sound, content_type=_TYPES[form], usage=usage), script, asked.model)
    events = dressed(_speech_events(sound, usage, script), script.extra)
    reply = Reply(events=events, content_type="text/event-stream; charset=utf-8", usage=usage)
    return Answer(reply, script, asked.model)


def _sound(form: str, text: str, length_ms: int) -> bytes:
    """Something of that length: real where it is WAV or PCM, and otherwise bytes that only pass for it."""
    samples = (digest_of(text) * (length_ms * _RATE // 1000 * 2 // 32 + 1))[: length_ms * _RATE // 1000 * 2]
    if form == "pcm":
        return samples
    if form != "wav":
        start = {"mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x64", "flac": b"fLaC"}.get(form, b"OggS")
        return start + samples[: length_ms * _BYTES_PER_S // 1000]
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(_RATE)
        writer.writeframes(samples)
    return file.getvalue()


def _speech_events(sound: bytes, usage: Usage, script: Script) -> Iterator[Event]:
    meter = Meter(usage)
    step = max(len(sound) // 4, 1)
    share = usage.completion // 4
    for start in range(0, len(sound), step):
        piece = b64encode(sound[start : start + step]).decode()
        yield _data({"type": "speech.audio.delta", "audio": piece}, meter.take(share))
    for number, told in enumerate(reported(usage, script.usage_shape, _FORM) or (b"",)):
        yield _data({"type": "speech.audio.done"}, 0 if number else meter.take_rest(), told)


def transcribe(call: Call) -> Answer:
    """`POST audio/transcriptions`."""
    return _heard(call, "transcribe")


def translate(call: Call) -> Answer:
    """`POST audio/translations`."""
    return _heard(call, "translate")


def _heard(call: Call, task: str) -> Answer:
    form = read_form(call.request)
    upload = form.file("file")
    model = call.model or form.required("model")
    prompt = form.fields.get("prompt", "")
    script = call.script([prompt], model)
    if model.startswith("missing-"):
        return Answer(missing_model(model), script, model)
    kind = form.fields.get("response_format", "json")
    if kind not in _FORMATS:
        message = f"Invalid value: '{kind}'. Supported values are: {', '.join(_FORMATS)}."
        raise Refused(error_reply(400, message, param="response_format"))
    tokens = _tokens(script, upload.data)
    length = script.usage.get("audio_ms", _length_ms(upload.data))
    heard = length * _TOKENS_PER_S // 1000
    counted = Usage(heard + count_tokens(prompt), len(tokens), audio_ms=length)
    if _is_billed_by_time(model):
        counted = Usage(audio_ms=length)
    usage = corrected(counted, script.usage)
    if form.fields.get("stream") == "true" and not _is_billed_by_time(model):
        events = dressed(_text_events(tokens, heard, usage, script), script.extra)
        reply = Reply(events=events, content_type="text/event-stream; charset=utf-8", usage=usage)
        return Answer(reply, script, model)
    return Answer(_written(form, kind, "".join(tokens), heard, usage, script, task, model), script, model)


def _is_billed_by_time(model: str) -> bool:
    return model.startswith("whisper")


def _tokens(script: Script, sound: bytes) -> list[str]:
    """What was said, which depends on the sound alone unless the script knows better."""
    digest = digest_of(sound.hex())
    if script.say is not None:
        return pieces(script.say)
    return pieces(sentence(digest, 0)) if script.tokens is None else words(digest, 0, script.tokens)


def _length_ms(sound: bytes) -> int:
    """How long the sound is; only WAV tells, the rest is estimated from its size."""
    try:
        with wave.open(io.BytesIO(sound)) as reader:
            return int(reader.getnframes()) * 1000 // (int(reader.getframerate()) or 1)
    except (wave.Error, EOFError):
        return len(sound) * 1000 // _BYTES_PER_S


def _written(
    form: Form, kind: str, text: str, heard: int, usage: Usage, script: Script, task: str, model: str
) -> Reply:
    seconds = usage.audio_ms / 1000
    match kind:
        case "text":
            return Reply(body=text.encode() + b"\n", content_type="text/plain; charset=utf-8", usage=usage)
        case "srt":
            subtitles = f"1\n00:00:00,000 --> {_stamp(usage.audio_ms, ',')}\n{text}\n\n"
            return Reply(body=subtitles.encode(), content_type="application/x-subrip", usage=usage)
        case "vtt":
            subtitles = f"WEBVTT\n\n00:00:00.000 --> {_stamp(usage.audio_ms, '.')}\n{text}\n\n"
            return Reply(body=subtitles.encode(), content_type="text/vtt", usage=usage)
    told: dict[str, object] = {"text": text}
    if kind == "verbose_json":
        language = "english" if task == "translate" else form.fields.get("language", "english")
        segment = {"id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": text, "tokens": [], "temperature": 0.0}
        scores = {"avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0}
        told = {"task": task, "language": language, "duration": seconds, **told, "segments": [{**segment, **scores}]}
    body = msgspec.json.encode(told)
    wording = _BY_TIME if _is_billed_by_time(model) else _heard_form(heard)
    usages = reported(usage, script.usage_shape, wording)
    return Reply(body=b"%b%b}" % (body[:-1], b"".join(b',"usage":%b' % one for one in usages)), usage=usage)


def _text_events(tokens: list[str], heard: int, usage: Usage, script: Script) -> Iterator[Event]:
    meter = Meter(usage)
    for token in tokens:
        yield _data({"type": "transcript.text.delta", "delta": token}, meter.take(1))
    done = {"type": "transcript.text.done", "text": "".join(tokens)}
    for number, told in enumerate(reported(usage, script.usage_shape, _heard_form(heard)) or (b"",)):
        yield _data(done, 0 if number else meter.take_rest(), told)
    yield DONE


def _data(value: dict[str, str], tokens: int, usage: bytes = b"") -> Event:
    told = usage and b',"usage":%b' % usage
    return Event(b"data: %b%b}\n\n" % (msgspec.json.encode(value)[:-1], told), tokens)


def _stamp(length_ms: int, point: str) -> str:
    minutes, rest = divmod(length_ms, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _spoken_usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }


def _time_usage(usage: Usage) -> dict[str, object]:
    return {"type": "duration", "seconds": -(-usage.audio_ms // 1000)}


def _heard_form(heard: int) -> UsageForm:
    """How the usage is worded when `heard` of the prompt's tokens are sound."""

    def whole(usage: Usage) -> dict[str, object]:
        return {
            "type": "tokens",
            "input_tokens": usage.prompt,
            "input_token_details": {"text_tokens": usage.prompt - heard, "audio_tokens": heard},
            "output_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
        }

    return UsageForm(whole, "input_tokens", "output_tokens", "total_tokens")


_FORM: Final = UsageForm(_spoken_usage, "input_tokens", "output_tokens", "total_tokens")
_BY_TIME: Final = UsageForm(_time_usage, "input_tokens", "output_tokens", "total_tokens")
