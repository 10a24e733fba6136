"""No byte of what policy redacts or blocks leaves a stream, and what leaves does not depend on how it was cut."""

import json
import random
import re
from typing import Any, Final

import pytest

from tests.support.streams_of_guard import (
    CALL,
    CHANNELS,
    TEXT,
    THOUGHT,
    cut_bytes,
    cut_text,
    documents,
    guard,
    passed,
    policies,
    texts,
    written,
    written_in_halves,
)
from trueport.gateway.guard.forms import ClientForm
from trueport.gateway.screening import ContentBlocked

# As long as its expression can match, so that no code point is held for nothing.
SECRET: Final = "kœnig-7Ωβ-日4x!-𝔰ecret"
REGEX: Final = {"regex": "kœnig-[^ ]{1,8}-𝔰ecret"}
KEYWORD: Final = {"keywords": [SECRET]}
BEFORE: Final = "So is it: the word that opens is "
AFTER: Final = " and everybody knows it. Ask no more."
PLACES: Final = [(form, channel) for form, channels in CHANNELS.items() for channel in channels]
MARKS: Final = (b"[DONE]", b"message_stop", b"response.completed", b'"STOP"', b'"stop"', b"end_turn")
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'  # keeps its connection warm and waits for nothing
CHUNKINGS: Final = 150  # for each of the fourteen places


def redacting(when: dict[str, Any] | None = None) -> Any:
    return policies({"when": when or REGEX, "action": "redact", "on": ["output"]})


def blocking(when: dict[str, Any] | None = None) -> Any:
    return policies({"when": when or REGEX, "action": "block", "on": ["output"]})


def said(channel: str, text: str) -> str:
    return json.dumps({"to": text, "n": [1, 2.5, None]}, ensure_ascii=False) if channel == CALL else text


def shown(channel: str, text: str) -> str:
    """What a client understands: of arguments the value of `to`, which have to be JSON."""
    if channel != CALL:
        return text
    return str(json.loads(text)["to"]) if text else ""


def holds_nothing(body: bytes) -> bool:
    """Whether none of the characters that only the secret has stand anywhere, spelled out or escaped."""
    text = re.sub(r"\\u[0-9a-f]{4}", lambda found: str(json.loads(f'"{found[0]}"')), body.decode())
    return not any(mark in text for mark in ("œ", "Ω", "β", "日4", "𝔰", "\ud835", "\udd30", "ecret"))


def is_signed(form: ClientForm, channel: str) -> bool:
    """Whether nobody may edit it."""
    return form == "anthropic" and channel == THOUGHT


@pytest.mark.parametrize("when", [REGEX, KEYWORD], ids=["regex", "keyword"])
@pytest.mark.parametrize(("form", "channel"), PLACES)
async def test_a_secret_at_every_border_of_two_events_is_never_delivered(
    form: ClientForm, channel: str, when: dict[str, Any]
) -> None:
    for shift in (0, 3, 7, 11, 14):
        text = "x" * shift + " " + BEFORE + SECRET + AFTER
        whole = said(channel, text)
        first = whole.index("kœnig")
        for border in range(first + shift % 3, first + len(SECRET) + 2, 3):
            events = written(form, [(channel, whole[:border]), (channel, whole[border:])])

            found = await passed(guard(form, redacting(when)), events)

            assert holds_nothing(found.body)
            if is_signed(form, channel):
                assert isinstance(found.error, ContentBlocked)
            else:
                assert found.error is None
                assert shown(channel, texts(form, found.body)[channel]) == text.replace(SECRET, "[CUSTOM_1]")
                assert found.stream.judgement.decision == "redact"


@pytest.mark.parametrize(("form", "channel"), PLACES)
async def test_reads_that_end_at_any_byte_change_nothing(form: ClientForm, channel: str) -> None:
    whole = said(channel, BEFORE + (SECRET if not is_signed(form, channel) else "kœnig-𝔰") + AFTER)
    body = b"".join(written(form, [(channel, whole[:45]), (channel, whole[45:])]))
    first = body.index("œ".encode())
    expected = (await passed(guard(form, redacting()), [body])).body
    every_byte = [body[at : at + 1] for at in range(len(body))]

    for reads in (every_byte, *([body[:at], body[at:]] for at in range(first, first + len(SECRET.encode()) + 1))):
        found = await passed(guard(form, redacting()), reads)

        assert found.error is None
        assert found.body.replace(PING, b"") == expected.replace(PING, b"")


@pytest.mark.parametrize(("form", "channel"), PLACES)
async def test_halves_of_a_character_in_two_events_are_read_as_the_character(form: ClientForm, channel: str) -> None:
    before, after = said(channel, BEFORE + SECRET + AFTER).split("𝔰")
    events = written_in_halves(form, [(channel, before + "\ud835"), (channel, "\udd30" + after)])

    found = await passed(guard(form, redacting()), events)

    assert holds_nothing(found.body)
    if not is_signed(form, channel):
        assert found.error is None
        assert shown(channel, texts(form, found.body)[channel]) == BEFORE + "[CUSTOM_1]" + AFTER


@pytest.mark.parametrize(("form", "channel"), PLACES)
async def test_a_block_lets_nothing_of_the_secret_out_and_no_end_mark(form: ClientForm, channel: str) -> None:
    whole = said(channel, "word " * 300 + SECRET + AFTER)
    outcomes = set()
    for step in (1, 7, 64, 5_000):
        pieces = [(channel, whole[at : at + step]) for at in range(0, len(whole), step)]

        found = await passed(guard(form, blocking()), written(form, pieces))

        assert isinstance(found.error, ContentBlocked)
        assert found.stream.judgement.decision == "block"
        assert holds_nothing(found.body)
        assert not any(mark in found.body for mark in MARKS)
        assert not found.body.endswith(b"]")
        outcomes.add(texts(form, found.body)[channel])
    assert len(outcomes) == 1
    delivered = outcomes.pop()
    assert whole.startswith(delivered)
    assert channel == CALL or len(delivered) > 1_400


@pytest.mark.parametrize(("form", "channel"), PLACES)
async def test_any_chunking_redacts_alike(form: ClientForm, channel: str) -> None:
    draw = random.Random(f"{form}/{channel}")
    for _ in range(CHUNKINGS):
        text = _prose(draw)
        expected = text.replace(SECRET, "[CUSTOM_1]")
        if is_signed(form, channel):
            text = expected = text.replace("kœnig", "könig")
        pieces = _pieces(channel, said(channel, text), draw)
        body = b"".join(written(form, pieces))

        found = await passed(guard(form, redacting()), cut_bytes(body, draw, draw.choice((0, 3, 40))))

        assert found.error is None
        assert shown(channel, texts(form, found.body)[channel]) == expected
        assert is_signed(form, channel) or found.stream.judgement.decision == "redact"


@pytest.mark.parametrize(("form", "channel"), PLACES)
async def test_any_chunking_is_blocked_at_the_same_place(form: ClientForm, channel: str) -> None:
    draw = random.Random(f"{channel}/{form}")
    for _ in range(20):
        text = _prose(draw)
        whole = said(channel, text)
        delivered = []
        for _ in range(2):
            body = b"".join(written(form, _pieces(channel, whole, draw)))
            # Redacting what is signed blocks it.
            active = redacting() if is_signed(form, channel) else blocking()
            found = await passed(guard(form, active), cut_bytes(body, draw, draw.choice((0, 3, 40))))

            assert isinstance(found.error, ContentBlocked)
            assert not any(mark in found.body for mark in MARKS)
            delivered.append(texts(form, found.body)[channel])
        assert delivered[0] == delivered[1]
        assert whole[: whole.index(SECRET)].startswith(delivered[0])


def _prose(draw: random.Random) -> str:
    """Text with the secret once or more, anywhere in it, among what only looks like it."""
    words = ["Größe", "✓", "日本語。", "ende\n", "𝔰𝔰", "kœnig-", SECRET[:9], SECRET[1:], '"', "\\", "a" * 40, "etc. Go"]
    parts = [draw.choice(words) for _ in range(draw.randrange(5, 40))]
    for _ in range(draw.randrange(1, 4)):
        parts.insert(draw.randrange(len(parts) + 1), SECRET)
    return " ".join(parts)


def _pieces(channel: str, whole: str, draw: random.Random) -> list[tuple[str, str]]:
    """The text cut anywhere, and somewhere within the secret."""
    within = whole.find(SECRET) + draw.randrange(1, len(SECRET))
    count = draw.choice((0, 4, 30))
    return [(channel, piece) for half in (whole[:within], whole[within:]) for piece in cut_text(half, draw, count)]


@pytest.mark.parametrize("form", ["openai_chat", "openai_responses", "anthropic", "google_sse", "google_array"])
async def test_channels_that_take_turns_are_kept_apart(form: ClientForm) -> None:
    draw = random.Random(form)
    channels = [channel for channel in CHANNELS[form] if not (form == "anthropic" and channel == THOUGHT)]
    whole = {channel: said(channel, f"{channel} {BEFORE}{SECRET}{AFTER}") for channel in channels}
    for _ in range(25):
        left = {channel: cut_text(text, draw, 30) for channel, text in whole.items()}
        pieces = []
        while any(left.values()):
            channel = draw.choice([name for name, waiting in left.items() if waiting])
            pieces.append((channel, left[channel].pop(0)))

        found = await passed(guard(form, redacting()), written(form, pieces))

        assert found.error is None
        assert holds_nothing(found.body)
        delivered = texts(form, found.body)
        for channel in channels:
            # Whichever is settled first is the first to be numbered, and the same value has the same number.
            assert shown(channel, delivered[channel]) == f"{channel} {BEFORE}[CUSTOM_1]{AFTER}"


@pytest.mark.parametrize("form", list(CHANNELS))
@pytest.mark.parametrize("size", [1, 13])
async def test_a_stream_without_a_match_leaves_byte_for_byte(form: ClientForm, size: int) -> None:
    whole = {channel: said(channel, 'Nothing to see. Møve on, "please"\n' * 40) for channel in CHANNELS[form]}
    order = [channel for channel in (THOUGHT, TEXT, CALL) if channel in whole]
    pieces = [
        (channel, whole[channel][at : at + size]) for channel in order for at in range(0, len(whole[channel]), size)
    ]
    body = b"".join(written(form, pieces))

    found = await passed(guard(form, redacting()), [body[at : at + 11] for at in range(0, len(body), 11)])

    assert found.error is None
    assert found.stream.judgement.decision == "allow"
    if form == "anthropic":
        # What only keeps the line warm does not wait.
        assert found.body.replace(PING, b"") == body.replace(PING, b"")
    else:
        assert found.body == body


@pytest.mark.parametrize("form", list(CHANNELS))
async def test_whatever_the_rule_pack_finds_is_never_delivered(form: ClientForm) -> None:
    key = "AKIA" + "Q7ZT2M4XW5PLKD3C"
    body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj" * 30
    pem = "-----BEGIN PRIVATE KEY-----\n" + body + "\n-----END PRIVATE KEY-----"
    active = policies(
        {"when": {"category": "secrets"}, "action": "redact", "on": ["output"]},
        {"when": {"category": "pii", "types": ["EMAIL"]}, "action": "redact", "on": ["output"]},
    )
    text = (
        f"{'One line of prose. ' * 20}Use {key} now.\n{pem}.\n(Then write to ada.lovelace@example.org. {'Bye. ' * 150}"
    )
    draw = random.Random(form)
    seen = set()
    for _ in range(12):
        pieces = [(TEXT, piece) for piece in cut_text(text, draw, draw.choice((3, 40, 500)))]

        found = await passed(guard(form, active), written(form, pieces))

        delivered = texts(form, found.body)[TEXT]
        seen.add(delivered)
        assert not any(part in found.body.decode() for part in (key[4:9], body[:12], "lovelace", "example.org"))
        assert delivered.startswith("One line of prose. ")
        assert delivered.endswith("Bye. Bye. ")
        assert "(Then write to [EMAIL_1]. Bye." in delivered
    assert len(seen) == 1


async def test_what_the_end_of_a_response_repeats_is_redacted_like_its_deltas() -> None:
    pieces = [(THOUGHT, f"Think {SECRET}!"), (TEXT, f"Say {SECRET}."), (CALL, json.dumps({"a": f"Do {SECRET}"}))]

    found = await passed(guard("openai_responses", redacting()), written("openai_responses", pieces))

    assert holds_nothing(found.body)
    events = documents("openai_responses", found.body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = {event["type"]: event for event in events}
    assert done["response.output_text.done"]["text"] == "Say [CUSTOM_1]."
    assert done["response.content_part.done"]["part"]["text"] == "Say [CUSTOM_1]."
    output = done["response.completed"]["response"]["output"]
    assert output[0]["summary"][0]["text"] == "Think [CUSTOM_1]!"
    assert output[1]["content"][0]["text"] == "Say [CUSTOM_1]."
    assert json.loads(output[2]["arguments"]) == {"a": "Do [CUSTOM_1]"}
    assert done["response.function_call_arguments.done"]["arguments"] == output[2]["arguments"]
    assert all(event["obfuscation"] == "x8Kq" for event in events if "delta" in event)
