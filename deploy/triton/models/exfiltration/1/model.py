"""Signs that data is on its way out: links that carry data away, and long stretches of encoded data.

Needs no model, only numpy. Runs in Triton's Python backend and imports nothing of the gateway.

Input  TEXT    BYTES  [rows, 1]
Output SCORES  FP32   [rows, 2]  link_with_data, encoded_data
       READ    INT32  [rows, 1]  every code point of the row
"""

import math
import re
from collections import Counter
from urllib.parse import unquote, urlsplit

import numpy as np
import triton_python_backend_utils as triton

# Plain character classes without repetition inside of repetition: time grows with the length and no faster.
LINK = re.compile(r"(!\[[^\]\n]{0,200}\]\(\s?)?https?://[^\s<>\"'`)\]]{4,2000}", re.IGNORECASE)
ENCODED = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")
HEX = re.compile(r"[0-9A-Fa-f]+")


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "TEXT").as_numpy()) for request in requests]

    def answer(self, rows):
        texts = [row[0].decode("utf-8", "replace") for row in rows]
        scores = np.array([[link_with_data(text), encoded_data(text)] for text in texts], np.float32)
        read = np.array([[len(text)] for text in texts], np.int32)
        tensors = [triton.Tensor("SCORES", scores.reshape(-1, 2)), triton.Tensor("READ", read.reshape(-1, 1))]
        return triton.InferenceResponse(output_tensors=tensors)


def link_with_data(text):
    """How likely a link hands data to its host: an image that a client fetches unasked weighs more than a link."""
    highest = 0.0
    for link in LINK.finditer(text):
        is_image = link.group(1) is not None
        try:
            parts = urlsplit(link.group(0)[len(link.group(1) or "") :])
        except ValueError:
            # Not an address that a client would follow.
            continue
        values = [pair.partition("=")[2] or pair for pair in parts.query.split("&") if pair]
        carried = max([*values, *parts.path.split("/"), parts.netloc.partition(".")[0]], key=len, default="")
        carried = unquote(carried)
        score = 0.0
        if len(carried) >= 16 and entropy(carried) >= 3.0:
            score = 0.35 + min(len(carried), 200) / 1_000 + 0.05 * (entropy(carried) >= 4.0)
        if values and is_image:
            score = max(score, 0.5) + 0.3
        highest = max(highest, min(score, 0.99))
    return highest


def encoded_data(text):
    """How likely a stretch is encoded data, by its length and the entropy of its characters."""
    highest = 0.0
    for stretch in ENCODED.finditer(text):
        run = stretch.group(0)
        bits = entropy(run)
        enough = 3.0 if HEX.fullmatch(run) else 4.5
        if bits >= enough:
            highest = max(highest, min(0.4 + len(run) / 1_000, 0.95))
    return highest


def entropy(text):
    """Shannon entropy in bits a character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
