"""Embeddings: vectors that depend on the text alone."""

import math
import sys
from array import array
from base64 import b64encode
from hashlib import shake_256

import msgspec

from trueport.simulator.chat import with_usage
from trueport.simulator.reply import Reply
from trueport.simulator.requests import EmbeddingRequest
from trueport.simulator.script import Script
from trueport.simulator.usage import Usage, corrected, count_tokens

_DIMENSIONS = 1536


def answer(request: EmbeddingRequest, texts: list[str], script: Script) -> Reply:
    """The reply with one vector for each text, as numbers or as base64 of little-endian float32."""
    is_text = request.encoding_format == "base64"
    vectors = [vector(text, request.dimensions or _DIMENSIONS) for text in texts]
    body = msgspec.json.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _base64(one) if is_text else one.tolist()}
                for index, one in enumerate(vectors)
            ],
            "model": request.model,
        }
    )
    usage = corrected(Usage(sum(map(count_tokens, texts))), script.usage)
    if script.fault("usage") is not None:
        return Reply(body=with_usage(body, usage, script), usage=usage)
    told = msgspec.json.encode({"prompt_tokens": usage.prompt, "total_tokens": usage.prompt})
    return Reply(body=b'%b,"usage":%b}' % (body[:-1], told), usage=usage)


def vector(text: str, dimensions: int) -> "array[float]":
    """`dimensions` float32 numbers of length 1 together."""
    raw = array("i", shake_256(text.encode("utf-8", "surrogatepass")).digest(4 * dimensions))
    length = math.sqrt(math.fsum(number * number for number in raw)) or 1.0
    return array("f", [number / length for number in raw])


def _base64(numbers: "array[float]") -> str:
    if sys.byteorder == "big":
        numbers = array("f", numbers)
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()
