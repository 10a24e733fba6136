"""Images: always the same single pixel, billed as if it were a picture."""

import struct
import zlib
from base64 import b64encode
from typing import Annotated, Final, Literal

import msgspec

from trueport.simulator.answers import CREATED
from trueport.simulator.calls import Answer, Call
from trueport.simulator.errors import filtered, missing_model
from trueport.simulator.multipart import read_form
from trueport.simulator.reply import Reply
from trueport.simulator.requests import decode
from trueport.simulator.script import Script
from trueport.simulator.usage import Usage, UsageForm, corrected, count_tokens, reported

# What pictures are billed, in tokens: one read, one made in each quality.
_TOKENS_PER_PICTURE_READ: Final = 194
_TOKENS_PER_PICTURE: Final = {"low": 272, "medium": 1056, "high": 4160}
_USUAL_QUALITY: Final = "medium"


class ImageRequest(msgspec.Struct):
    prompt: str
    model: str = "dall-e-2"
    n: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None
    quality: str | None = None
    size: str | None = None
    background: str | None = None
    output_format: str | None = None
    response_format: Literal["url", "b64_json"] | None = None


_IMAGE: Final = msgspec.json.Decoder(ImageRequest)
_FROM_FIELDS: Final = ("prompt", "model", "quality", "size", "background", "output_format", "response_format")


def generate(call: Call) -> Answer:
    """`POST images/generations`."""
    return _made(call, decode(call.request.body, _IMAGE), 0)


def edit(call: Call) -> Answer:
    """`POST images/edits`, as a form or as JSON."""
    if call.request.headers.get("content-type", "").startswith("application/json"):
        return _made(call, decode(call.request.body, _IMAGE), 1)
    form = read_form(call.request)
    form.file("image")
    form.required("prompt")
    fields: dict[str, object] = {name: form.fields[name] for name in _FROM_FIELDS if name in form.fields}
    if form.fields.get("n", "").isdigit():
        fields["n"] = int(form.fields["n"])
    if call.model is not None:
        fields["model"] = call.model
    pictures = sum(name.removesuffix("[]") == "image" for name, _ in form.files)
    return _made(call, decode(msgspec.json.encode(fields), _IMAGE), pictures)


def _made(call: Call, asked: ImageRequest, pictures: int) -> Answer:
    script = call.script([asked.prompt], asked.model)
    if asked.model.startswith("missing-"):
        return Answer(missing_model(asked.model), script, asked.model)
    if script.filtered is not None:
        return Answer(filtered(), script, asked.model)
    return Answer(_reply(asked, pictures, script), script, asked.model)


def _reply(asked: ImageRequest, pictures: int, script: Script) -> Reply:
    number = asked.n or 1
    quality = asked.quality if asked.quality in _TOKENS_PER_PICTURE else _USUAL_QUALITY
    if asked.model.startswith("dall-e"):
        usage = corrected(Usage(images=number), script.usage)
        as_url = asked.response_format != "b64_json"
        return Reply(
            body=msgspec.json.encode({"created": CREATED, "data": [_datum(as_url=as_url)] * number}), usage=usage
        )
    text = count_tokens(asked.prompt)
    seen = pictures * _TOKENS_PER_PICTURE_READ
    counted = Usage(text + seen, number * _TOKENS_PER_PICTURE[quality], images=number)
    usage = corrected(counted, script.usage)
    body = msgspec.json.encode(
        {
            "created": CREATED,
            "background": asked.background or "opaque",
            "data": [_datum(as_url=False)] * number,
            "output_format": asked.output_format or "png",
            "quality": quality,
            "size": asked.size if asked.size and "x" in asked.size else "1024x1024",
        }
    )
    told = reported(usage, script.usage_shape, _form(seen))
    return Reply(body=b"%b%b}" % (body[:-1], b"".join(b',"usage":%b' % one for one in told)), usage=usage)


def _datum(*, as_url: bool) -> dict[str, str]:
    return {"url": "https://images.invalid/simulated.png"} if as_url else {"b64_json": b64encode(PIXEL).decode()}


def _form(seen: int) -> UsageForm:
    """How the usage is worded when `seen` of the prompt's tokens are pictures."""

    def whole(usage: Usage) -> dict[str, object]:
        return {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"image_tokens": seen, "text_tokens": usage.prompt - seen},
            "output_tokens": usage.completion,
            "output_tokens_details": {"image_tokens": usage.completion, "text_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        }

    return UsageForm(whole, "input_tokens", "output_tokens", "total_tokens")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PIXEL: Final = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\x00\x20\x60\xa0"))
    + _chunk(b"IEND", b"")
)
