"""The embedded model: one encoder with several heads, from a folder that is checked before anything is believed.

The folder has an ONNX file, `tokenizer.json` and `meta.json`:

    inputs   input_ids, attention_mask   int64    [batch, length]
    outputs  one for each head           float32  [batch]                  logits
             pii                         float32  [batch, length, labels]  logits of BIO labels
             embedding                   float32  [batch, size]            mean of the tokens, length 1

A calibrated probability is sigmoid(logit / temperature + bias). A head that `meta.json` does not list is not served.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # the package ships no types
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trueport.detection.artefact import BrokenArtefact, Calibration, Meta
from trueport.detection.base import DetectorFailed
from trueport.detection.entities import BioLabels, Entity
from trueport.detection.windows import TokenIds

Logits = NDArray[np.float32]
Outputs = Mapping[str, Logits]

_INPUTS: Final = ("input_ids", "attention_mask")
_FLOAT: Final = "tensor(float)"
_WHOLE: Final = "tensor(int64)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model says of one window. It follows from the token ids alone, so that it can be remembered by them.

    `entities` count tokens of the window; `embedding` is float32 as bytes, empty where the model gives none.
    """

    probabilities: Mapping[str, float]
    entities: tuple[Entity, ...]
    embedding: bytes


class Guard:
    """The loaded model. `run` may be called from several threads at once."""

    def __init__(self, folder: Path, meta: Meta) -> None:
        """Load and check; about 0.2 s. Raises BrokenArtefact."""
        self._meta = meta
        contents = {name: _read_file(folder / name, sha256) for name, sha256 in meta.files.items()}
        # The tokenizer's own threads would take cores from the gateway, and complain in processes forked later.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            # From the very bytes that were checked: the files may be replaced at any time.
            self.tokenizer = Tokenizer.from_buffer(contents["tokenizer.json"])
            self._session = _open_session(contents[meta.model_file])
        except Exception as error:
            # Both libraries raise bare Exceptions for files they cannot read.
            raise BrokenArtefact(f"The model in {folder} cannot be loaded: {type(error).__name__}") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        _check_contract(self._session, meta)
        # What the tokenizer puts around a text: [CLS] and [SEP].
        around = self.tokenizer.encode("").ids
        self._before, self._after = around[: (len(around) + 1) // 2], around[(len(around) + 1) // 2 :]
        self.window_tokens = meta.max_tokens - len(around)
        self._outputs = [*meta.heads, *(["pii"] if meta.pii_labels else [])]
        self._outputs += [one.name for one in self._session.get_outputs() if one.name == "embedding"]
        self._labels = BioLabels(meta.pii_labels or ("O",))
        vocabulary = self.tokenizer.get_vocab()
        self._goes_on = np.zeros(max(vocabulary.values(), default=0) + 1, np.bool_)
        self._goes_on[[number for token, number in vocabulary.items() if token.startswith("##")]] = True
        self._shrink = onnxruntime.RunOptions()
        # Memory of a long window goes back when the run is over; a worker holds the model and little else.
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, window: TokenIds) -> tuple[Verdict, float]:
        """The verdict on one window of 1 to `window_tokens` ids, without special ones, and the seconds of a core.

        One at a time: activations are quantised with one scale for everything in a run, so that a window would get
        another score beside other windows (up to 0.2 away with this model), and one tenant's text would move
        another's verdict. Running eight together would save a third of the time at 16 tokens and nothing from 100 on.

        Raises DetectorFailed("contract") for an answer of another shape or with a number that is none, and
        DetectorFailed("unavailable") when the runtime gives up.
        """
        started_s = time.thread_time()
        ids = np.concatenate((self._before, window, self._after)).astype(np.int64)[np.newaxis]
        given = dict(zip(_INPUTS, (ids, np.ones_like(ids)), strict=True))
        try:
            answers = self._session.run(self._outputs, given, run_options=self._shrink)
        except Exception as error:
            raise DetectorFailed("unavailable") from error
        outputs = check_outputs(dict(zip(self._outputs, answers, strict=True)), self._meta, ids.shape)
        return self._verdict(outputs, window), time.thread_time() - started_s

    def _verdict(self, outputs: Outputs, window: TokenIds) -> Verdict:
        probabilities = {
            head: float(probability(calibration, outputs[head])[0]) for head, calibration in self._meta.heads.items()
        }
        entities: tuple[Entity, ...] = ()
        if self._meta.pii_labels:
            first = len(self._before)
            logits = outputs["pii"][0, first : first + len(window)] / self._meta.pii_temperature
            entities = self._labels.runs(softmax(logits), self._goes_on[window])
        embedding = outputs["embedding"][0].tobytes() if "embedding" in outputs else b""
        return Verdict(probabilities, entities, embedding)


def check_outputs(outputs: Mapping[str, Any], meta: Meta, shape: tuple[int, ...]) -> Outputs:
    """The outputs, once all have the shape that goes with inputs of `shape` (batch, length) and finite numbers.

    Raises DetectorFailed("contract"): a NaN is below every threshold, so that it would pass as nothing found.
    """
    batch, length = shape
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(meta.heads, (batch,))
    if meta.pii_labels:
        expected["pii"] = (batch, length, len(meta.pii_labels))
    for name, value in outputs.items():
        is_sound = (
            isinstance(value, np.ndarray)
            and value.dtype == np.float32
            and (value.shape == expected[name] if name in expected else value.shape[:1] == (batch,) and value.ndim == 2)
            and bool(np.isfinite(value).all())
        )
        if not is_sound:
            raise DetectorFailed("contract")
    return outputs


def probability(calibration: Calibration, logits: Logits) -> NDArray[np.float64]:
    """Calibrated, of the same shape."""
    scaled = logits.astype(np.float64) / calibration.temperature + calibration.bias
    return 1.0 / (1.0 + np.exp(-np.clip(scaled, -60.0, 60.0)))


def softmax(logits: Logits) -> NDArray[np.float64]:
    """Probabilities along the last axis."""
    powers = np.exp((logits - logits.max(axis=-1, keepdims=True)).astype(np.float64))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _read_file(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BrokenArtefact(f"{path} cannot be read: {error.strerror}") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise BrokenArtefact(f"{path} is not the file that meta.json names: its SHA-256 begins {actual[:16]}")
    return content


def _open_session(model: bytes) -> Any:  # onnxruntime has no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _check_contract(session: Any, meta: Meta) -> None:  # onnxruntime has no types
    """Raises BrokenArtefact when names, types or ranks are not those of the contract."""
    inputs = {one.name: one for one in session.get_inputs()}
    if set(inputs) != set(_INPUTS) or any(one.type != _WHOLE or len(one.shape) != 2 for one in inputs.values()):
        raise BrokenArtefact("The model's inputs are not input_ids and attention_mask, int64 [batch, length]")
    outputs = {one.name: one for one in session.get_outputs()}
    ranks = dict.fromkeys(meta.heads, 1) | ({"pii": 3} if meta.pii_labels else {})
    ranks |= {"embedding": 2} if "embedding" in outputs else {}
    for name, rank in ranks.items():
        if name not in outputs or outputs[name].type != _FLOAT or len(outputs[name].shape) != rank:
            raise BrokenArtefact(f"The model has no output {name!r} of float32 with {rank} dimensions")
    if meta.pii_labels:
        labels = outputs["pii"].shape[2]
        if isinstance(labels, int) and labels != len(meta.pii_labels):
            raise BrokenArtefact(f"The model gives {labels} labels to a token, meta.json names {len(meta.pii_labels)}")
