"""The shipped model is the one that was measured."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from trueport.detection.evaluation.metrics import auc, share_over
from trueport.detection.evaluation.model import Model, ModelMeta, window_starts
from trueport.detection.evaluation.rows import Side, read_rows
from trueport.detection.training.examples import read_examples
from trueport.detection.training.generated.documents import documents
from trueport.detection.training.generated.hatred import hatred
from trueport.detection.training.generated.injections import injections

ROOT = Path(__file__).parents[3]
GUARD = ROOT / "trueport" / "detection" / "models" / "guard"
SAMPLE = Path(__file__).parent / "sample.jsonl"
DATA = Path(os.environ.get("TRUEPORT_DETECTION_DATA", ROOT.parent / "shared" / "data" / "detection"))


@pytest.fixture(scope="module")
def opened() -> tuple[Model, ModelMeta]:
    return Model.from_folder(GUARD)


def test_every_file_is_the_one_that_meta_json_names(opened: tuple[Model, ModelMeta]) -> None:
    _, meta = opened

    assert set(meta.files) == {"guard.int8.onnx", "tokenizer.json"}
    for name, sha256 in meta.files.items():
        assert hashlib.sha256((GUARD / name).read_bytes()).hexdigest() == sha256


def test_the_whole_folder_stays_below_sixty_megabytes() -> None:
    assert sum(path.stat().st_size for path in GUARD.iterdir()) < 60_000_000


def test_the_card_and_the_notices_are_there_and_name_the_model(opened: tuple[Model, ModelMeta]) -> None:
    _, meta = opened

    assert meta.files["guard.int8.onnx"][:16] in (GUARD / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "CC-BY" in (GUARD / "NOTICES.md").read_text(encoding="utf-8")


def test_outputs_have_the_names_and_shapes_of_the_contract(opened: tuple[Model, ModelMeta]) -> None:
    model, meta = opened
    everything = Model(
        GUARD / "guard.int8.onnx", GUARD / "tokenizer.json", ("injection", "indirect", "toxicity", "bias")
    )

    outputs = everything.run([[2_000, 2_001, 2_002], [2_003]])

    assert model.heads == tuple(meta.heads)
    for head in everything.heads:
        assert outputs[head].shape == (2,)
    assert outputs["pii"].shape == (2, 5, len(meta.pii_labels))
    assert outputs["embedding"].shape == (2, 384)
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in outputs.values())
    assert np.linalg.norm(outputs["embedding"], axis=1) == pytest.approx(1.0, abs=1e-4)


def test_padding_changes_an_answer_no_more_than_rounding_does(opened: tuple[Model, ModelMeta]) -> None:
    model, meta = opened
    window = list(range(2_000, 2_030))

    alone = model.run([window])
    padded = model.run([window, list(range(3_000, 3_200))])

    for head in meta.heads:
        # Activations share one scale over a batch, so int8 answers differ a little.
        assert padded[head][0] == pytest.approx(alone[head][0], abs=0.8)


def test_bands_are_probabilities_and_a_block_asks_for_more_than_a_flag(opened: tuple[Model, ModelMeta]) -> None:
    _, meta = opened

    assert {"injection", "indirect", "toxicity"} <= set(meta.heads)
    for head in meta.heads.values():
        assert 0.0 < head.bands.flag <= head.bands.block < 1.0
        assert head.temperature > 0.0


def test_labels_of_tokens_are_pairs_of_begin_and_inside(opened: tuple[Model, ModelMeta]) -> None:
    _, meta = opened

    kinds = ("PERSON", "LOCATION", "ADDRESS", "ORG")
    assert meta.pii_labels == ("O", *(f"{mark}-{kind}" for kind in kinds for mark in "BI"))


@pytest.mark.parametrize("head", ["injection", "indirect"])
def test_recorded_quality_is_reproduced_on_the_sample(opened: tuple[Model, ModelMeta], head: str) -> None:
    model, meta = opened
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    known = [row for row in rows if row[head] is not None]

    logits = model.logits([row["text"] for row in known])[head]

    found = auc(logits, np.array([row[head] == 1.0 for row in known]))
    assert found == pytest.approx(meta.metrics[f"{head}.sample.auc"], abs=0.01)


@pytest.mark.skipif(not DATA.is_dir(), reason="the labelled data is not beside the checkout")
def test_recorded_quality_is_reproduced_on_other_sources(opened: tuple[Model, ModelMeta]) -> None:
    model, meta = opened
    # An eighth of the texts: enough to notice another model, and a few seconds.
    rows = read_rows(DATA, "injection", "dev_ood")[::8]
    labels = np.array([row.label == 1 for row in rows])

    logits = model.logits([row.text for row in rows])["injection"]

    head = meta.heads["injection"]
    benign = share_over(head.probability(logits[~labels]), head.bands.block)
    assert auc(logits, labels) == pytest.approx(meta.metrics["injection.dev_ood.auc"], abs=0.04)
    assert benign == pytest.approx(meta.metrics["injection.dev_ood.false_positives_when_blocking"], abs=0.03)


@pytest.mark.skipif(not DATA.is_dir(), reason="the labelled data is not beside the checkout")
def test_every_source_of_the_labelled_data_is_in_the_notices() -> None:
    notices = (GUARD / "NOTICES.md").read_text(encoding="utf-8")
    noticed = {line.split("|")[1].strip() for line in notices.splitlines() if line.startswith("| ")}
    names = ("injection", "indirect", "toxicity", "pii", "topics")
    sides: tuple[Side, ...] = ("train", "dev")
    sources = {row.source for name in names for side in sides for row in read_rows(DATA, name, side)}

    # A text put together of two has both sources in its name.
    assert {part for source in sources for part in source.split(" + ")} <= noticed


@pytest.mark.skipif(not DATA.is_dir(), reason="the labelled data is not beside the checkout")
def test_no_text_of_the_gate_is_trained_on() -> None:
    gate = {row.text.strip().lower() for row in read_rows(DATA, "injection", "dev_ood")}
    taught = [one.text for one in (*read_examples(DATA), *injections(1), *documents(1), *hatred(1))]

    assert gate
    assert not [text for text in taught if text.strip().lower() in gate]


@pytest.mark.parametrize("length", [0, 1, 254, 255, 446, 447, 1_000, 5_000])
def test_windows_leave_no_token_out(length: int) -> None:
    covered = {at for start in window_starts(length, 254) for at in range(start, min(start + 254, length))}

    assert covered == set(range(length))
