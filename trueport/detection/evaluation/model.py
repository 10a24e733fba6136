"""The embedded model's raw answers: logits of whole texts, labels of tokens. One session on one thread."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # the package ships no types
from numpy.typing import NDArray
from tokenizers import Tokenizer

STRIDE: Final = 192
_BATCH_TOKENS: Final = 4_096

Logits = NDArray[np.float64]


class Bands(msgspec.Struct, frozen=True):
    """Calibrated probabilities from which a text is flagged, and from which a block is safe."""

    flag: float
    block: float


class HeadMeta(msgspec.Struct, frozen=True):
    """How one head's logits are read: probability = sigmoid(logit / temperature + bias)."""

    temperature: float
    bias: float
    bands: Bands

    def probability(self, logits: Logits) -> Logits:
        return 1.0 / (1.0 + np.exp(-np.clip(logits / self.temperature + self.bias, -60.0, 60.0)))


class ModelMeta(msgspec.Struct, frozen=True):
    """`meta.json`, as far as measuring needs it."""

    files: dict[str, str]
    max_tokens: int
    heads: dict[str, HeadMeta]
    pii_labels: tuple[str, ...] = ()
    pii_temperature: float = 1.0
    metrics: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one text.

    logits: of each head, the highest over the text's windows. embedding: shape (384,), of the first window.
    tags: shape (tokens, labels), BIO logits. offsets: shape (tokens, 2), code points.
    """

    logits: Mapping[str, float]
    embedding: NDArray[np.float32]
    tags: NDArray[np.float32]
    offsets: NDArray[np.int64]


class Model:
    """An artefact folder, or any file of the same contract, ready to answer."""

    def __init__(self, model: Path, tokenizer: Path, heads: Sequence[str], max_tokens: int = 256) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.heads = tuple(heads)
        self._window = max_tokens - 2
        self._cls, self._sep = self.tokenizer.encode("").ids
        self.cpu_s = 0.0
        self.tokens = 0

    @classmethod
    def from_folder(cls, folder: Path) -> "tuple[Model, ModelMeta]":
        meta = read_meta(folder)
        return cls(folder / "guard.int8.onnx", folder / "tokenizer.json", tuple(meta.heads), meta.max_tokens), meta

    def answers(self, texts: Sequence[str]) -> list[Answer]:
        """An answer for each text, in order. Long texts are read in windows; every token is read."""
        encoded = [one for at in range(0, len(texts), 1_000) for one in self._encode(texts[at : at + 1_000])]
        windows = [
            (text, start) for text, one in enumerate(encoded) for start in window_starts(len(one.ids), self._window)
        ]
        # Windows of like length together, so that little is padded.
        order = sorted(range(len(windows)), key=lambda at: self._length(encoded, windows[at]))
        logits = np.full((len(texts), len(self.heads)), -np.inf)
        embeddings: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(texts)
        tags: list[dict[int, NDArray[np.float32]]] = [{} for _ in texts]
        at = 0
        while at < len(order):
            longest = self._length(encoded, windows[order[at]])
            size = max(1, _BATCH_TOKENS // (longest + 2))
            # Sorted upwards: the last of the batch may be longer than its first.
            part = [windows[one] for one in order[at : at + size]]
            at += len(part)
            outputs = self.run([encoded[text].ids[start : start + self._window] for text, start in part])
            for row, (text, start) in enumerate(part):
                logits[text] = np.maximum(logits[text], [float(outputs[head][row]) for head in self.heads])
                length = min(self._window, len(encoded[text].ids) - start)
                tags[text][start] = outputs["pii"][row, 1 : 1 + length]
                if start == 0:
                    embeddings[text] = outputs["embedding"][row]
        return [
            Answer(
                dict(zip(self.heads, logits[text].tolist(), strict=True)),
                embeddings[text],
                _joined(tags[text]),
                np.array(one.offsets, np.int64).reshape(-1, 2),
            )
            for text, one in enumerate(encoded)
        ]

    def logits(self, texts: Sequence[str]) -> dict[str, Logits]:
        """For each head, a logit for each text: float64, shape (len(texts),)."""
        answers = self.answers(texts)
        return {head: np.array([one.logits[head] for one in answers]) for head in self.heads}

    def run(self, windows: Sequence[Sequence[int]]) -> Mapping[str, NDArray[np.float32]]:
        """The outputs by name for windows of token ids without special ones."""
        longest = max(map(len, windows)) + 2
        ids = np.zeros((len(windows), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window) + 2] = [self._cls, *window, self._sep]
            mask[row, : len(window) + 2] = 1
        names = [*self.heads, "pii", "embedding"]
        began_s = time.thread_time()
        values = self._session.run(names, {"input_ids": ids, "attention_mask": mask})
        self.cpu_s += time.thread_time() - began_s
        self.tokens += int(mask.sum())
        return dict(zip(names, values, strict=True))

    def _encode(self, texts: Sequence[str]) -> Sequence[Any]:  # tokenizers.Encoding
        return self.tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def _length(self, encoded: Sequence[Any], window: tuple[int, int]) -> int:
        return min(self._window, len(encoded[window[0]].ids) - window[1])


def read_meta(folder: Path) -> ModelMeta:
    """Raises FileNotFoundError or msgspec.ValidationError."""
    return msgspec.json.decode((folder / "meta.json").read_bytes(), type=ModelMeta)


def window_starts(length: int, window: int) -> list[int]:
    """Where windows of `window` tokens begin so that every one of `length` tokens is in one; one window of nothing."""
    return [0, *range(STRIDE, max(0, length - window) + STRIDE, STRIDE)] if length > window else [0]


def _joined(parts: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Token logits of overlapping windows as one: a token is taken from the window that begins last before it."""
    starts = sorted(parts)
    cut = [
        parts[start][: following - start]
        for start, following in zip(starts, [*starts[1:], None], strict=True)
        if following is not None
    ]
    return np.concatenate([*cut, parts[starts[-1]]])
