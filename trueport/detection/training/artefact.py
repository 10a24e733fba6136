"""Writes the folder that the product ships: the model, its tokenizer, how to read its logits, and its card."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from trueport.detection.evaluation.measures import Measure, measure_model
from trueport.detection.evaluation.metrics import auc, estimate
from trueport.detection.evaluation.model import Answer, Model
from trueport.detection.training.batches import bio
from trueport.detection.training.calibration import Fitted, fit
from trueport.detection.training.card import card
from trueport.detection.training.contract import HEADS, PII_LABELS
from trueport.detection.training.encoder import PINNED
from trueport.detection.training.examples import Example

MODEL: Final = "guard.int8.onnx"
_LEAST_AUC: Final = 0.75
"""A head that ranks the held-out sources worse than this is not served."""


@dataclass(frozen=True, slots=True)
class Run:
    """What made the model: the arguments and sizes that its card and `meta.json` tell."""

    seed: int
    steps: int
    tokens_each: int
    minutes: float
    examples: int
    generated: int


def write_artefact(
    folder: Path, exported: Path, tokenizer: Path, held_out: Sequence[Example], data: Path, sample: Path, run: Run
) -> list[Measure]:
    """Calibrate the exported model on held-out sources, measure it on the dev files, and write the folder.

    data: the labelled texts. sample: the texts that tests measure it on, see `sample.py`.
    Returns what was measured. Everything is made in a folder of its own and moved when it is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        measures = _make(Path(made), exported, tokenizer, held_out, data, sample, run)
        # `meta.json` names the hashes of the others: it is moved last.
        for path in sorted(Path(made).iterdir(), key=lambda path: path.name == "meta.json"):
            path.replace(folder / path.name)
    return measures


def _make(
    folder: Path, exported: Path, tokenizer: Path, held_out: Sequence[Example], data: Path, sample: Path, run: Run
) -> list[Measure]:
    shutil.copyfile(exported, folder / MODEL)
    _write_tokenizer(tokenizer, folder / "tokenizer.json")
    model = Model(folder / MODEL, folder / "tokenizer.json", HEADS)
    answers = model.answers([one.text for one in held_out])
    heads: dict[str, Fitted] = {}
    for head in HEADS:
        fitted = _fit_head(head, held_out, answers)
        if fitted is not None:
            heads[head] = fitted
    meta: dict[str, Any] = {  # JSON
        "version": 1,
        "files": {name: _sha256(folder / name) for name in (MODEL, "tokenizer.json")},
        "max_tokens": 256,
        "heads": {
            name: {
                "temperature": round(one.temperature, 6),
                "bias": round(one.bias, 6),
                "bands": {"flag": one.flag, "block": one.block},
            }
            for name, one in heads.items()
        },
        "pii_labels": list(PII_LABELS),
        "pii_temperature": round(_tag_temperature(held_out, answers), 4),
        "data": {
            **{path.name: _sha256(path) for path in sorted(data.glob("*.jsonl.gz"))},
            "encoder": PINNED["model.safetensors"],
        },
        "run": {name: getattr(run, name) for name in Run.__dataclass_fields__},
        "held_out": {name: round(one.error, 4) for name, one in heads.items()},
        "metrics": {},
    }
    _write_json(folder / "meta.json", meta)
    reopened, read = Model.from_folder(folder)
    measures = [*measure_model(reopened, read, data), *_on_sample(reopened, sample)]
    meta["metrics"] = {one.name: round(one.estimate.value, 4) for one in measures if ".source." not in one.name}
    _write_json(folder / "meta.json", meta)
    (folder / "MODEL_CARD.md").write_text(card(meta, measures), encoding="utf-8")
    return measures


def _on_sample(model: Model, path: Path) -> list[Measure]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    measures: list[Measure] = []
    for head in ("injection", "indirect"):
        known = [row for row in rows if row[head] is not None]
        labels = np.array([row[head] == 1.0 for row in known])
        logits = model.logits([row["text"] for row in known])[head]
        measures.append(Measure(f"{head}.sample.auc", estimate(auc, logits, labels), len(known)))
    return measures


def _fit_head(head: str, held_out: Sequence[Example], answers: Sequence[Answer]) -> Fitted | None:
    """None when the head is too weak to be served."""
    known = [at for at, one in enumerate(held_out) if getattr(one, head) is not None]
    logits = np.array([answers[at].logits[head] for at in known])
    labels = np.array([getattr(held_out[at], head) == 1.0 for at in known])
    if not auc(logits, labels) >= _LEAST_AUC:
        return None
    return fit(logits, labels, hard=logits[~labels])


def _tag_temperature(held_out: Sequence[Example], answers: Sequence[Answer]) -> float:
    """The temperature, out of a grid, at which held-out tokens with marked names are likeliest."""
    tags: list[Any] = []  # float32 arrays (tokens, labels)
    wanted: list[Any] = []  # int32 arrays (tokens,)
    for one, answer in zip(held_out, answers, strict=True):
        if one.entities is not None and len(answer.tags):
            tags.append(answer.tags)
            wanted.append(bio([(start, end) for start, end in answer.offsets.tolist()], one.entities))
    if not tags:
        return 1.0
    logits, labels = np.concatenate(tags).astype(np.float64), np.concatenate(wanted)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        totals = np.log(np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)) + scaled.max(axis=1)
        return float((totals - scaled[np.arange(len(labels)), labels]).mean())

    grid: list[float] = np.linspace(0.5, 4.0, 71).tolist()
    return min(grid, key=loss)


def _write_tokenizer(source: Path, target: Path) -> None:
    """The tokenizer without the truncation and padding that its package sets: windows are cut by the reader."""
    tokenizer = json.loads(source.read_text(encoding="utf-8"))
    tokenizer["truncation"] = None
    tokenizer["padding"] = None
    target.write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
