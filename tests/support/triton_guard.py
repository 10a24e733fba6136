"""A guard model of a dozen words, made from nothing: for the real server, without the real model's size and moods.

The logit of a head is the largest that any word of the text has for it, so what the model says is known beforehand.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

HEADS: Final = ("injection", "indirect", "toxicity", "bias")
PII_LABELS: Final = ("O", "B-PERSON", "I-PERSON")
WORDS: Final[Mapping[str, Mapping[str, float]]] = {
    "ignore": {"injection": 4.0},
    "forward": {"indirect": 4.0},
    "idiot": {"toxicity": 4.0},
    "they": {"bias": 4.0},
}
NAMES: Final = ("alice", "jörg", "bob")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_VOCABULARY: Final = (
    *_SPECIAL,
    *WORDS,
    *NAMES,
    "hello",
    "world",
    "please",
    "!",
    *_LETTERS,
    *map("##".__add__, _LETTERS),
)
_USUAL: Final = -4.0
_FLOAT, _INT64 = 1, 7


def write(folder: Path, *, shift: float = 0.0, max_tokens: int = 64) -> str:
    """Put a guard artefact into `folder` and return the SHA-256 of its model. Another `shift` makes another model."""
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer(_VOCABULARY).save(str(folder / "tokenizer.json"))
    (folder / "guard.int8.onnx").write_bytes(_onnx(_VOCABULARY, shift))
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("guard.int8.onnx", "tokenizer.json")
    }
    meta = {
        "version": 1,
        "files": files,
        "max_tokens": max_tokens,
        "heads": {head: {"temperature": 1.0, "bias": 0.0} for head in HEADS},
        "pii_labels": PII_LABELS,
        "pii_temperature": 1.0,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return files["guard.int8.onnx"]


def write_named(folder: Path, labels: Sequence[str], *, gives_tokens: bool) -> None:
    """A repository of the model hub: `model.onnx` with logits, `tokenizer.json`, `config.json`.

    For each text the last label has the logit 9.0 where one of WORDS is in it; for tokens, where it is one of NAMES.
    """
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    _tokenizer(_VOCABULARY).save(str(folder / "tokenizer.json"))
    table = np.full((len(_VOCABULARY), len(labels)), _USUAL, np.float32)
    if labels[0] in ("O", "SAFE"):
        table[:, 0] = 4.0
    for word in NAMES if gives_tokens else WORDS:
        table[_VOCABULARY.index(word)] = [*table[0, :-1], 9.0]
    nodes = [_node("Gather", ["table", "input_ids"], ["each"])]
    if gives_tokens:
        nodes += [*_masked("each", "logits")]
    else:
        nodes += [*_masked("each", "real"), _node("ReduceMax", ["real"], ["logits"], axes=[1], keepdims=0)]
    shape: list[str | int] = ["batch", "length", len(labels)] if gives_tokens else ["batch", len(labels)]
    constants = [_tensor("table", table), *_CONSTANTS]
    (folder / "onnx" / "model.onnx").write_bytes(_model(nodes, constants, {"logits": shape}))
    config = {"id2label": {str(at): label for at, label in enumerate(labels)}, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))


def _tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _onnx(vocabulary: Sequence[str], shift: float) -> bytes:
    scores = np.full((len(vocabulary), len(HEADS)), _USUAL, np.float32)
    entities = np.tile(np.array([4.0, -4.0, -4.0], np.float32), (len(vocabulary), 1))
    for word, heads in WORDS.items():
        for head, logit in heads.items():
            scores[vocabulary.index(word), HEADS.index(head)] = logit + shift
    for name in NAMES:
        entities[vocabulary.index(name)] = [-4.0, 4.0, -4.0]
    nodes = [
        _node("Gather", ["scores", "input_ids"], ["each"]),
        _node("ReduceMax", ["each"], ["highest"], axes=[1], keepdims=0),
        *(_node("Gather", ["highest", f"column_{head}"], [head], axis=1) for head in HEADS),
        _node("Gather", ["entities", "input_ids"], ["labelled"]),
        *_masked("labelled", "pii"),
    ]
    constants = [
        _tensor("scores", scores),
        _tensor("entities", entities),
        *_CONSTANTS,
        *(_tensor(f"column_{head}", np.array(at, np.int64)) for at, head in enumerate(HEADS)),
    ]
    outputs: dict[str, list[str | int]] = {head: ["batch"] for head in HEADS}
    return _model(nodes, constants, outputs | {"pii": ["batch", "length", len(PII_LABELS)]})


def _masked(each: str, masked: str) -> list[bytes]:
    """As real models do: what the mask hides can never be the largest."""
    return [
        _node("Cast", ["attention_mask"], ["mask"], to=_FLOAT),
        _node("Unsqueeze", ["mask", "last"], ["column"]),
        _node("Sub", ["column", "one"], ["hidden"]),
        _node("Mul", ["hidden", "hundred"], ["depth"]),
        _node("Add", [each, "depth"], [masked]),
    ]


def _model(nodes: Sequence[bytes], constants: Sequence[bytes], outputs: Mapping[str, Sequence[str | int]]) -> bytes:
    graph = b"".join(
        [
            *(_message(1, node) for node in nodes),
            _message(2, b"guard"),
            *(_message(5, constant) for constant in constants),
            *(_message(11, _value(name, _INT64, ["batch", "length"])) for name in ("input_ids", "attention_mask")),
            *(_message(12, _value(name, _FLOAT, shape)) for name, shape in outputs.items()),
        ]
    )
    return _number(1, 8) + _message(8, _message(1, b"") + _number(2, 13)) + _message(7, graph)


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | list[int]) -> bytes:
    node = b"".join(_message(1, name.encode()) for name in inputs)
    node += b"".join(_message(2, name.encode()) for name in outputs) + _message(4, kind.encode())
    for name, value in attributes.items():
        if isinstance(value, list):
            numbers = b"".join(_number(8, one) for one in value) + _number(20, 7)
        else:
            numbers = _number(3, value) + _number(20, 2)
        node += _message(5, _message(1, name.encode()) + numbers)
    return node


def _tensor(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    kind = _FLOAT if values.dtype == np.float32 else _INT64
    dims = b"".join(_number(1, size) for size in values.shape)
    return dims + _number(2, kind) + _message(8, name.encode()) + _message(9, values.tobytes())


def _value(name: str, kind: int, dims: Sequence[str | int]) -> bytes:
    sizes = b"".join(
        _message(1, _number(1, size) if isinstance(size, int) else _message(2, size.encode())) for size in dims
    )
    return _message(1, name.encode()) + _message(2, _message(1, _number(1, kind) + _message(2, sizes)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_CONSTANTS: Final = (
    _tensor("last", np.array([2], np.int64)),
    _tensor("one", np.array(1, np.float32)),
    _tensor("hundred", np.array(100, np.float32)),
)
