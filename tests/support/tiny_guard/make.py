"""Makes the files beside it: a model of a few kilobytes with the contract of the embedded one, and no training.

A head's logit is that of the loudest token: 6 for a word in `LOUD`, else -6. Run it where `onnx` is installed:
`python tests/support/tiny_guard/make.py`. The same files come out each time.
"""

import hashlib
import json
import string
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx  # type: ignore[import-not-found]  # needed to make the files, not to use them
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

FOLDER: Final = Path(__file__).parent
LOUD: Final = {
    "injection": ["ignore", "jailbreak"],
    "indirect": ["assistant"],
    "toxicity": ["idiot"],
    "bias": ["women"],
}
NAMES: Final = {
    "marie": "B-PERSON",
    "curie": "I-PERSON",
    "berlin": "B-LOCATION",
    "acme": "B-ORG",
    "elm": "B-ADDRESS",
    "street": "I-ADDRESS",
}
PLAIN: Final = ["hello", "previous", "instructions", "the", "weather", "is", "fine", "in", "says", "of", "please"]
LABELS: Final = ["O", *(f"{mark}-{kind}" for kind in ("PERSON", "LOCATION", "ADDRESS", "ORG") for mark in "BI")]
SIZE: Final = 8


def main() -> None:
    words = [*PLAIN, *(word for loud in LOUD.values() for word in loud), *NAMES]
    letters = string.ascii_lowercase + string.digits
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *letters, *(f"##{one}" for one in letters), *".,:;!?-'\"()"]
    numbers = {token: number for number, token in enumerate(tokens)}
    write_tokenizer(numbers)
    write_model(numbers)
    names = ("guard.int8.onnx", "tokenizer.json")
    meta = {
        "version": 1,
        "files": {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in names},
        "max_tokens": 256,
        "heads": {head: {"temperature": 2.0, "bias": 0.5, "bands": {"flag": 0.5, "block": 0.9}} for head in LOUD},
        "pii_labels": LABELS,
        "pii_temperature": 1.0,
    }
    (FOLDER / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def write_tokenizer(numbers: dict[str, int]) -> None:
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=special
    )
    # As shipped tokenizers often do; a reader has to undo it, or the end of a text goes missing.
    tokenizer.enable_truncation(max_length=128)
    tokenizer.save(str(FOLDER / "tokenizer.json"))


def write_model(numbers: dict[str, int]) -> None:
    heads = np.full((len(numbers), len(LOUD)), -6.0, np.float32)
    for column, loud in enumerate(LOUD.values()):
        heads[[numbers[word] for word in loud], column] = 6.0
    labels = np.zeros((len(numbers), len(LABELS)), np.float32)
    labels[:, 0] = 6.0
    for name, label in NAMES.items():
        labels[numbers[name]] = [8.0 if one == label else 0.0 for one in LABELS]
    vectors = np.random.default_rng(7).normal(size=(len(numbers), SIZE)).astype(np.float32)
    nodes = [
        node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], "wide"),
        node("Gather", ["heads", "input_ids"], "loudness"),
        node("Sub", ["wide", "one"], "unread"),
        node("Mul", ["unread", "much"], "away"),
        node("Add", ["loudness", "away"], "heard"),
        node("ReduceMax", ["heard"], "loudest", axes=[1], keepdims=0),
        *(node("Gather", ["loudest", f"column_{at}"], head, axis=1) for at, head in enumerate(LOUD)),
        node("Gather", ["labels", "input_ids"], "pii"),
        node("Gather", ["vectors", "input_ids"], "places"),
        node("Mul", ["places", "wide"], "kept"),
        node("ReduceSum", ["kept", "second"], "sum", keepdims=0),
        node("ReduceL2", ["sum"], "length", axes=[1], keepdims=1),
        node("Div", ["sum", "length"], "embedding"),
    ]
    constants = {
        "heads": heads,
        "labels": labels,
        "vectors": vectors,
        "last": np.array([2], np.int64),
        "second": np.array([1], np.int64),
        "one": np.array(1.0, np.float32),
        "much": np.array(100.0, np.float32),
        **{f"column_{at}": np.array(at, np.int64) for at in range(len(LOUD))},
    }
    whole, real = TensorProto.INT64, TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny_guard",
        [value(name, whole, ["batch", "length"]) for name in ("input_ids", "attention_mask")],
        [
            *(value(head, real, ["batch"]) for head in LOUD),
            value("pii", real, ["batch", "length", len(LABELS)]),
            value("embedding", real, ["batch", SIZE]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tiny_guard")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    (FOLDER / "guard.int8.onnx").write_bytes(model.SerializeToString(deterministic=True))


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], name=output, **attributes)


def value(name: str, kind: int, shape: list[str | int]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


if __name__ == "__main__":
    main()
