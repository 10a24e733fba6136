"""Reading the JSON of OpenAI's requests: each member with the path that an error or a warning points at."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from trueport.gateway.translate.model import JsonObject, Media, Sampling
from trueport.kit.errors import InvalidRequest

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+")
_BY_SUFFIX: Final = {
    "txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "json": "application/json", "html": "text/html",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notes:
    """What comes up while a request is read: `features` it uses, and the paths of members nobody knows."""

    features: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Members:
    """An object of a request and its path, "" for the request itself. Null counts as absent everywhere."""

    values: Mapping[str, object]
    path: str = ""

    def at(self, name: str) -> str:
        """The path of a member, as OpenAI's errors write it: `messages[0].content`."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def needed_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise self.wrong(name, "a string")
        return value

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self.wrong(name, "a number")
        return value

    def count(self, name: str) -> int | None:
        """A whole number of at least 0."""
        value = self.integer(name)
        if value is not None and value < 0:
            raise self.wrong(name, "a whole number of at least 0")
        return value

    def integer(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(name, "a whole number")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def json(self, name: str) -> JsonObject | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return value

    def inner(self, name: str) -> "Members | None":
        value = self.json(name)
        return None if value is None else Members(value, self.at(name))

    def needed_inner(self, name: str) -> "Members":
        value = self.inner(name)
        if value is None:
            raise self.wrong(name, "an object")
        return value

    def items(self, name: str) -> list[object]:
        """A list's elements, none when it is absent."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return value

    def objects(self, name: str) -> "list[Members]":
        """The objects in a list, none when it is absent."""
        found = []
        for index, item in enumerate(self.items(name)):
            if not isinstance(item, dict):
                raise self.wrong(f"{name}[{index}]", "an object")
            found.append(Members(item, self.at(f"{name}[{index}]")))
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A string or a list of strings."""
        value = self.values.get(name)
        if isinstance(value, str):
            return (value,)
        found = self.items(name)
        texts = tuple(item for item in found if isinstance(item, str))
        if len(texts) != len(found):
            raise self.wrong(name, "a string or a list of strings")
        return texts

    def note_others(self, known: frozenset[str], notes: Notes) -> None:
        """Note every member that is neither null nor among the `known`."""
        notes.unknown.extend(
            self.at(name) for name, value in self.values.items() if value is not None and name not in known
        )

    def wrong(self, name: str, wanted: str) -> InvalidRequest:
        """The refusal of a member that is not what it has to be."""
        path = self.at(name)
        return InvalidRequest(f"{path} must be {wanted}.", param=path)


def sampling(members: Members, *, max_tokens: tuple[str, ...], logprobs: bool | None = None) -> Sampling:
    """The members that chat completions and the two other forms name alike; the first of `max_tokens` counts."""
    most = next((value for name in max_tokens if (value := members.count(name)) is not None), None)
    return Sampling(
        max_tokens=most,
        temperature=members.number("temperature"),
        top_p=members.number("top_p"),
        stop=members.texts("stop"),
        seed=members.integer("seed"),
        frequency_penalty=members.number("frequency_penalty"),
        presence_penalty=members.number("presence_penalty"),
        candidates=members.count("n"),
        logprobs=logprobs,
        top_logprobs=members.count("top_logprobs"),
    )


def image(part: Members, name: str, address: str, detail: str | None) -> Media:
    """An image from its address: a data URL, http(s), or another scheme (gs://…) that is a provider's reference."""
    if address.startswith("data:"):
        media_type, data = data_url(part, name, address)
        return Media("image", media_type=media_type, data=data, detail=detail)
    if address.lower().startswith(("https://", "http://")):
        return Media("image", url=address, detail=detail)
    if _SCHEME.match(address):
        return Media("image", reference=address, detail=detail)
    raise part.wrong(name, "an http(s) or data URL")


def document(part: Members) -> Media:
    """A file from `file_data` (a data URL or plain base64), `file_url` or `file_id`, with its `filename`."""
    name, data = part.text("filename"), part.text("file_data")
    if data is not None:
        if data.startswith("data:"):
            media_type, data = data_url(part, "file_data", data)
        else:
            # Without a media type a PDF is meant: the only document that was ever sent in this way.
            media_type = _BY_SUFFIX.get((name or "").rpartition(".")[2].lower(), "application/pdf")
            check_base64(part, "file_data", data)
        kind = "image" if media_type.startswith("image/") else "document"
        return Media("image" if kind == "image" else "document", media_type=media_type, data=data, name=name)
    url, reference = part.text("file_url"), part.text("file_id")
    if url is None and reference is None:
        raise part.wrong("file_data", "given, or file_id")
    return Media("document", url=url, reference=reference, name=name)


def sound(part: Members) -> Media:
    """The sound in an `input_audio` part."""
    audio = part.needed_inner("input_audio")
    data, form = audio.needed_text("data"), audio.needed_text("format")
    if form not in ("wav", "mp3"):
        raise audio.wrong("format", "wav or mp3")
    check_base64(audio, "data", data)
    return Media("audio", media_type="audio/mpeg" if form == "mp3" else "audio/wav", data=data)


def data_url(part: Members, name: str, url: str) -> tuple[str, str]:
    """Media type and base64 data of a data URL (RFC 2397), which may also be percent-encoded."""
    head, comma, data = url[5:].partition(",")
    media_type, *parameters = head.split(";")
    if not comma or not _MEDIA_TYPE.fullmatch(media_type):
        raise part.wrong(name, "a data URL with a media type")
    if "base64" not in parameters:
        return media_type.lower(), base64.b64encode(unquote_to_bytes(data)).decode()
    check_base64(part, name, data)
    return media_type.lower(), data


def check_base64(part: Members, name: str, data: str) -> None:
    try:
        base64.b64decode(data, validate=True)
    except ValueError as error:
        raise part.wrong(name, "base64") from error
