"""Content that stands inside JSON as base64 or as a data URL: what is text in it is read, the rest named by kind."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, Literal

MediaKind = Literal["image", "audio", "video", "file", "encrypted", "unknown"]

_DATA_URL: Final = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+*-]+)?((?:;[a-z0-9_.-]+=[^;,\"]*)*)(;base64)?,", re.I)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\r\n]*={0,2}[\r\n]*")
_TEXTUAL: Final = frozenset(
    {
        *("json", "xml", "csv", "yaml", "x-yaml", "javascript", "x-javascript", "typescript", "jsonl", "x-jsonl"),
        *("x-ndjson", "ndjson", "toml", "sql", "x-sh", "x-httpd-php", "rtf", "graphql", "x-subrip", "ecmascript"),
        *("x-www-form-urlencoded", "x-python", "ld+json"),
    }
)
_SNIFFED_CHARACTERS: Final = 1_024
_SHORTEST_CONTENT: Final = 64
# How base64 of common binary formats begins.
_BEGINNINGS: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "audio/wav"),
    ("JVBERi0", "application/pdf"),
    ("UEsDB", "application/zip"),
    ("SUQz", "audio/mpeg"),
    ("T2dnUw", "audio/ogg"),
    ("AAAAIGZ0eX", "video/mp4"),
    ("AAAAGGZ0eX", "video/mp4"),
)
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, slots=True)
class Encoded:
    """A data URL taken apart. `head` is everything before the payload."""

    head: str
    media_type: str
    is_base64: bool
    payload: str


def data_url(value: str) -> Encoded | None:
    """The data URL that `value` is, else None."""
    if value[:5].lower() != "data:":
        return None
    found = _DATA_URL.match(value)
    if found is None:
        return None
    return Encoded(found[0], (found[1] or "text/plain").lower(), found[3] is not None, value[found.end() :])


def kind_of(media_type: str) -> MediaKind:
    """What a content is called that cannot be read."""
    major = media_type.partition("/")[0].strip().lower()
    return major if major in ("image", "audio", "video") else "file"  # type: ignore[return-value]  # just compared


def is_textual(media_type: str) -> bool:
    """Whether content of this type is text by its own word."""
    major, _, minor = media_type.partition(";")[0].strip().lower().partition("/")
    return major == "text" or minor in _TEXTUAL or minor.endswith(("+json", "+xml", "+yaml"))


def is_base64(value: str) -> bool:
    return _BASE64.fullmatch(value) is not None


def sniffed(value: str) -> str | None:
    """The type of a binary content that a text is as base64 and nothing else; None for a text."""
    if len(value) < _SHORTEST_CONTENT:
        return None
    found = next((media_type for beginning, media_type in _BEGINNINGS if value.startswith(beginning)), None)
    return found if found is not None and " " not in value and is_base64(value) else None


def size_bytes(value: str) -> int:
    """About how long what `value` encodes is."""
    return len(value) * 3 // 4


def unbase64(value: str) -> bytes | None:
    """The bytes, in either alphabet, white space and missing padding allowed; None for what is not base64."""
    if not is_base64(value):
        return None
    plain = "".join(value.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4))
    except binascii.Error:
        return None


def rebase64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def text_of(content: bytes, *, is_declared: bool = False) -> tuple[str, str] | None:
    """The text and its codec, None for what is none.

    is_declared: it says of itself that it is text, and is then read even where it is not UTF-8.
    """
    for mark, codec in _MARKS:
        if content.startswith(mark):
            return _decoded(content, codec)
    found = _decoded(content, "utf-8")
    if found is not None and "\0" not in found[0]:
        return found
    return (content.decode("latin-1"), "latin-1") if is_declared else None


def looks_like_text(payload: str) -> bool:
    """Whether base64 that claims to be a picture or a sound begins like a text; its beginning is enough to tell."""
    head = "".join(payload[:_SNIFFED_CHARACTERS].split())
    content = unbase64(head[: len(head) // 4 * 4])
    if not content:
        return False
    # The cut may go through a character.
    return any(looks_plain(content[: len(content) - cut]) for cut in range(min(4, len(content))))


def looks_plain(content: bytes) -> bool:
    """Whether these are bytes of a text, by having no control characters."""
    found = text_of(content)
    return found is not None and all(character >= " " or character in "\t\r\n\f\x1b" for character in found[0])


def _decoded(content: bytes, codec: str) -> tuple[str, str] | None:
    try:
        return content.decode(codec), codec
    except UnicodeDecodeError:
        return None
