"""Token counts of a text without its model's tokenizer: for admission, and where a provider tells no usage.

Tokenizers are data of tens of megabytes for each family of models, some providers publish none, and an estimate is
marked as one wherever it is used. So tokens are estimated from the classes of a text's bytes: how many letters,
digits, punctuation, kana and so on it has, each with the tokens that one of them makes on average. Two sets of weights
were fitted to the counts of OpenAI's o200k_base on 5,800 texts: English prose, questions, chat and web pages,
source code, JSON, Markdown, credentials and random data, and messages in 22 other languages. On 5,000 other texts of
the same kinds, counting those of 50 tokens and more:

                          median error    within 10 %    within 20 %    for 1 kB of English
    QUICK    English          7 %             67 %           91 %           9 us
             others           8 %             63 %           95 %
    CAREFUL  English          5 %             78 %           95 %           18 us
             others           7 %             68 %           95 %
    a quarter of the bytes   16 %             33 %           59 %

Messages in Finnish (21 % too few), Polish (16 %) and Italian (12 %) come out worst; fluent prose in other languages
than English comes out too high, by up to a third. Other providers' tokenizers were not measured.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import msgspec

_MOST_CHARACTERS: Final = 262_144
_SAMPLES: Final = 4
_TOKENS_PER_MESSAGE: Final = 4
"""What OpenAI's chat format puts around each message, the role included."""
_TOKENS_PER_MEDIUM: Final = 1_000
_BYTES_PER_MEDIUM_TOKEN: Final = 2_000


class TokenCounter(Protocol):
    """Counts the tokens of a text, exactly or about."""

    def count(self, text: str, model: str) -> int:
        """Tokens of `text` for `model`; 0 for no text and for nothing else."""


@dataclass(frozen=True, slots=True)
class ByteClassCounter:
    """Estimates tokens from the classes of a text's bytes; any model's alike.

    weights: thousandths of a token for each occurrence of a class, or of two next to each other (see _CLASSES).
    """

    ascii_weights: tuple[tuple[bytes, int], ...]
    other_weights: tuple[tuple[bytes, int], ...]

    def count(self, text: str, model: str) -> int:  # noqa: ARG002 - one rule for all models
        """About the tokens of `text`. Of a long one 262,144 characters are looked at, spread evenly over it."""
        if not text:
            return 0
        looked_at = _sample(text)
        # A space in front, because a word at the beginning is one too. Half a surrogate pair is text as well.
        classes = b" " + looked_at.encode(errors="surrogatepass").translate(_CLASS_OF)
        weights = self.ascii_weights if looked_at.isascii() else self.ascii_weights + self.other_weights
        thousandths = sum([classes.count(pattern) * weight for pattern, weight in weights])
        return max(1, round(thousandths * len(text) / (len(looked_at) * 1_000)))


def _sample(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS:
        return text
    length, step = _MOST_CHARACTERS // _SAMPLES, len(text) // _SAMPLES
    return "".join(text[start : start + length] for start in range(0, step * _SAMPLES, step))


# Bytes of UTF-8 by what they begin: a letter, A capital, 0 digit, n line or tab, p other ASCII; L Latin with accents,
# g Greek, G Cyrillic, W Hebrew, H Arabic, I Indic and Thai, S signs, J kana, C Chinese, K Hangul, F full width,
# E emoji and the rest; c inside of a character. Spaces stand for themselves.
_CLASSES: Final = (
    *((0x00, b"p"), (0x09, b"n"), (0x0B, b"p"), (0x0D, b"n"), (0x0E, b"p"), (0x20, b" "), (0x21, b"p")),
    *((0x30, b"0"), (0x3A, b"p"), (0x41, b"A"), (0x5B, b"p"), (0x61, b"a"), (0x7B, b"p"), (0x80, b"c")),
    *((0xC0, b"L"), (0xCC, b"g"), (0xD0, b"G"), (0xD5, b"W"), (0xD8, b"H"), (0xE0, b"I"), (0xE1, b"S")),
    *((0xE3, b"J"), (0xE4, b"C"), (0xEA, b"K"), (0xEE, b"F"), (0xF0, b"E"), (0x100, b"")),
)
_CLASS_OF: Final = b"".join(kind * (after - first) for (first, kind), (after, _) in pairwise(_CLASSES))

QUICK: Final = ByteClassCounter(
    ascii_weights=(
        *((b"a", 202), (b"A", 423), (b"0", 615), (b" ", 166), (b"n", 222), (b"p", 491)),
        *((b"pa", 138), (b"aA", 1_097), (b"0a", 1_094)),
    ),
    other_weights=(
        *((b"L", 1_437), (b"g", 409), (b"G", 299), (b"W", 502), (b"H", 365), (b"I", 399)),
        *((b"J", 700), (b"C", 914), (b"K", 731), (b"F", 1_838), (b"E", 2_244)),
    ),
)
"""For every call, before it is admitted."""

CAREFUL: Final = ByteClassCounter(
    ascii_weights=(
        *((b"a", 138), (b"A", 261), (b"0", 499), (b"n", 729), (b"p", 222)),
        *((b" a", 468), (b" A", 571), (b" 0", 1_676), (b" p", 935), (b"  ", 118)),
        *((b"pa", 772), (b"pA", 834), (b"aA", 858), (b"a0", 454), (b"0a", 957), (b"A0", 494), (b"0A", 1_632)),
    ),
    other_weights=(
        *((b"L", 1_377), (b"g", 426), (b"G", 312), (b"W", 527), (b"H", 392), (b"I", 418)),
        *((b"J", 689), (b"C", 890), (b"K", 760), (b"F", 1_903), (b"E", 2_206)),
    ),
)
"""For the rare call whose usage never came."""


# Members of a request, in any dialect, whose text the model reads; and those it reads as JSON.
_READ: Final = (
    *("messages", "system", "input", "instructions", "prompt", "suffix"),
    *("contents", "systemInstruction", "system_instruction", "content", "requests"),
)
_READ_AS_JSON: Final = ("tools", "functions", "response_format", "text", "output_config", "output_format")
_READ_IN_CONFIG: Final = ("responseSchema", "responseJsonSchema", "response_schema", "response_json_schema")
# Inside of messages.
_JSON_PARTS: Final = frozenset({"input", "args", "response", "functionDeclarations"})
_MEDIA: Final = frozenset(
    {"data", "file_data", "url", "image_url", "file_url", "fileUri", "file_uri", "file_id", "encrypted_content"}
)
_UNREAD: Final = frozenset(
    {
        *("type", "role", "id", "tool_call_id", "tool_use_id", "call_id", "ttl", "signature", "thoughtSignature"),
        *(
            "thought_signature",
            "media_type",
            "mimeType",
            "mime_type",
            "detail",
            "format",
            "status",
            "model",
            "taskType",
        ),
    }
)


def estimate_input_tokens(
    members: Mapping[str, object] | None, body: bytes, model: str | None, counter: TokenCounter = QUICK
) -> int:
    """About the tokens a model will read of a request in any dialect.

    members: the parsed top-level members of a JSON body; None for another body, which is taken for one medium.
    Images, sounds and documents are guessed from their size, about 1,000 tokens each; what lies elsewhere, such as
    an earlier response or stored content, is not seen.
    """
    if members is None:
        return _medium(len(body)) if body else 0
    found = _Found()
    for name in _READ:
        if name in members:
            found.read(members[name])
    found.read_as_json(members[name] for name in _READ_AS_JSON if name in members)
    config = members.get("generationConfig")
    if isinstance(config, dict):
        found.read_as_json(config[name] for name in _READ_IN_CONFIG if name in config)
    return found.other_tokens + counter.count("\n".join(found.texts), model or "")


class _Found:
    """Gathers the texts of a request, and what counts without being text."""

    __slots__ = ("other_tokens", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.other_tokens = 0

    def read(self, value: object) -> None:
        """Take in a value and everything inside of it."""
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                self.texts.append(value)
            elif isinstance(value, list):
                waiting.extend(value)
            elif isinstance(value, dict):
                waiting.extend(self._members_to_read(value))
            elif type(value) is int:
                # Embeddings may be asked for in tokens.
                self.other_tokens += 1

    def read_as_json(self, values: Iterable[object]) -> None:
        for value in values:
            if value:
                self.texts.append(msgspec.json.encode(value).decode())

    def _members_to_read(self, said: Mapping[str, object]) -> list[object]:
        waiting: list[object] = []
        if "role" in said:
            self.other_tokens += _TOKENS_PER_MESSAGE
        for name, value in said.items():
            if isinstance(value, str):
                if name in _MEDIA and not (name == "data" and said.get("type") == "text"):
                    self.other_tokens += _medium(len(value))
                elif name not in _UNREAD:
                    self.texts.append(value)
            elif name in _JSON_PARTS and isinstance(value, dict):
                self.read_as_json((value,))
            elif isinstance(value, dict | list):
                waiting.append(value)
        return waiting


def _medium(length: int) -> int:
    """Tokens of an image, a sound or a document of so many bytes of base64. A rough guess, for no format tells."""
    return _TOKENS_PER_MEDIUM + length // _BYTES_PER_MEDIUM_TOKEN
