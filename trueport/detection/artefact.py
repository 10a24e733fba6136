"""What a model folder says of itself, as far as it can be known without loading a model library.

See trueport.detection.guard for the form of the folder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from trueport.detection.types import Category

NAME: Final = "onnx"
"""What findings and failures of the embedded model call their detector."""
HEADS: Final[Mapping[Category, str]] = {
    "prompt_injection": "injection",
    "jailbreak": "injection",
    "indirect_injection": "indirect",
    "toxicity": "toxicity",
    "bias": "bias",
}
"""Which head answers for a category. The injection head does not tell an injection from a jailbreak."""


class BrokenArtefact(Exception):
    """A model folder is not what its `meta.json` says, or not what this program can read. The message says how."""


class Calibration(msgspec.Struct, frozen=True):
    """Of one head: probability = sigmoid(logit / temperature + bias). `bands` are the probabilities worth acting on."""

    temperature: float
    bias: float = 0.0
    bands: dict[str, float] = {}


class Meta(msgspec.Struct, frozen=True):
    """`meta.json`, as far as reading needs it. `files` has the SHA-256 of each file in hex."""

    files: dict[str, str]
    heads: dict[str, Calibration]
    max_tokens: int = 256
    pii_labels: tuple[str, ...] = ()
    pii_temperature: float = 1.0

    @property
    def model_file(self) -> str:
        return next(name for name in self.files if name.endswith(".onnx"))

    @property
    def version(self) -> str:
        """The first 16 hex digits of the model's SHA-256."""
        return self.files[self.model_file][:16]

    @property
    def categories(self) -> frozenset[Category]:
        """Those of the heads that are listed; and `custom`, whose answer is the embedding that topics need."""
        of_heads = {category for category, head in HEADS.items() if head in self.heads}
        return frozenset[Category]({"custom"}) | of_heads | ({"pii"} if self.pii_labels else set())

    @property
    def bands(self) -> Mapping[Category, Mapping[str, float]]:
        """By category, the score from which a finding is worth flagging and from which blocking, as trained."""
        return {category: self.heads[head].bands for category, head in HEADS.items() if head in self.heads}


def read_meta(folder: Path) -> Meta:
    """The description of the model in `folder`. Raises BrokenArtefact."""
    try:
        meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=Meta)
    except OSError as error:
        raise BrokenArtefact(f"{folder / 'meta.json'} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise BrokenArtefact(f"{folder / 'meta.json'} is not a model's description: {error}") from error
    if not any(name.endswith(".onnx") for name in meta.files) or "tokenizer.json" not in meta.files:
        raise BrokenArtefact(f"{folder / 'meta.json'} names no .onnx file or no tokenizer.json")
    try:
        entity_types(meta.pii_labels or ("O",))
    except ValueError as error:
        raise BrokenArtefact(f"pii_labels in {folder / 'meta.json'}: {error}") from error
    if meta.max_tokens < 8 or any(one.temperature <= 0 for one in meta.heads.values()) or meta.pii_temperature <= 0:
        raise BrokenArtefact(f"{folder / 'meta.json'} has a window or a temperature that is too small")
    return meta


def entity_types(labels: Sequence[str]) -> tuple[str, ...]:
    """The types that a token head's BIO labels are of. Raises ValueError for labels of another form."""
    types = tuple(dict.fromkeys(label[2:] for label in labels if label != "O"))
    if sorted(labels) != sorted(["O", *(f"{mark}-{kind}" for kind in types for mark in "BI")]):
        raise ValueError("token labels are O and a pair of B-… and I-… for each type")
    return types
