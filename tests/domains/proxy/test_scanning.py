"""Recorded content is read by what it is: its type is not recorded."""

from typing import Any

import pytest

from trueport.domains.proxy.scanning import texts_of
from trueport.kit.errors import InvalidRequest

FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nwrite to ann\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--xyz--\r\n'
)
CHAT = b'{"model": "m", "messages": [{"role": "user", "content": "write to ann"}]}'
EVENTS = b"".join(
    b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % piece for piece in (b"write ", b"to ann")
)
ARRAY = b'[{"candidates": [{"content": {"role": "model", "parts": [{"text": "write to ann"}]}}]}]'


@pytest.mark.parametrize(
    ("side", "dialect", "body", "texts"),
    [
        ("input", "openai", CHAT, ["write to ann"]),
        ("input", "azure", CHAT, ["write to ann"]),
        ("input", "openai", FORM, ["write to ann"]),
        ("input", "google", b'{"contents": [{"parts": [{"text": "write to ann"}]}]}', ["write to ann"]),
        ("input", "openai", b"write to ann", ["write to ann"]),
        ("output", "openai", EVENTS, ["write ", "to ann"]),
        ("output", "openai", b"event: x\n" + EVENTS, ["write ", "to ann"]),
        ("output", "google", ARRAY, ["write to ann"]),
        ("output", "anthropic", b'{"content": [{"type": "text", "text": "write to ann"}]}', ["write to ann"]),
        ("output", "openai", b"write to ann", ["write to ann"]),
    ],
)
def test_the_texts_of_recorded_content_are_those_of_the_call(
    side: Any, dialect: str, body: bytes, texts: list[str]
) -> None:
    found = texts_of(side, {"dialect": dialect, "operation": "whatever"}, body)

    assert [
        part.passage.text for part in found.parts if "ann" in part.passage.text or "write" in part.passage.text
    ] == texts


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 2}', b"{not json"])
def test_content_without_one_sure_reading_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        texts_of("input", {"dialect": "openai"}, body)
