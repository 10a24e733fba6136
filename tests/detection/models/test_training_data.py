"""What the network learns from: labels, windows, held-out texts, contrast."""

import gzip
import json
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest

from trueport.detection.training import batches, calibration, contract
from trueport.detection.training.examples import Example, Span, read_examples
from trueport.detection.training.generated.documents import documents
from trueport.detection.training.generated.grammar import fill, texts
from trueport.detection.training.generated.hatred import hatred
from trueport.detection.training.generated.injections import injections
from trueport.detection.training.generated.languages import LANGUAGES
from trueport.detection.training.generated.obfuscations import OBFUSCATIONS
from trueport.detection.training.generated.roles import roles

MAKERS = {"injections": injections, "documents": documents, "hatred": hatred, "roles": roles}


@cache
def made_by(name: str, seed: int = 1) -> list[Example]:
    return MAKERS[name](seed)


def encoded(length: int, place: tuple[int, int] | None = None, *, is_positive: bool = False) -> batches.Encoded:
    return batches.Encoded(np.arange(length, dtype=np.int32), None, np.full(4, np.nan, np.float32), place, is_positive)


@pytest.mark.parametrize("place", [(0, 10), (300, 320), (990, 1_000), (100, 600)])
def test_a_window_of_a_long_text_holds_what_makes_it_what_it_is(place: tuple[int, int]) -> None:
    for seed in range(50):
        part = batches.window(encoded(1_000, place), np.random.default_rng(seed))

        assert part.stop - part.start == batches.WINDOW
        assert part.start >= 0
        assert part.stop <= 1_000
        if place[1] - place[0] <= batches.WINDOW:
            assert part.start <= place[0]
            assert place[1] <= part.stop


def test_an_attack_without_a_place_is_learned_from_its_beginning() -> None:
    assert batches.window(encoded(900, is_positive=True), np.random.default_rng(1)).start == 0


def test_labels_of_tokens_begin_where_the_entity_does() -> None:
    offsets = [(0, 2), (3, 6), (6, 9), (10, 12)]
    names = [contract.PII_LABELS[at] for at in batches.bio(offsets, [Span(3, 9, "PERSON"), Span(10, 12, "ORG")])]

    assert names == ["O", "B-PERSON", "I-PERSON", "B-ORG"]


def test_padding_and_special_tokens_have_no_label() -> None:
    long, short = (
        batches.Encoded(np.full(size, 7, np.int32), np.zeros(size, np.int32), np.zeros(4, np.float32), None, False)
        for size in (5, 2)
    )

    batch = batches.collate([(long, slice(0, 5)), (short, slice(0, 2))], None)

    assert batch.input_ids[1].tolist() == [batches.CLS, 7, 7, batches.SEP, 0, 0, 0]
    assert batch.mask[1].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert batch.labels[1].tolist() == [-100, 0, 0, -100, -100, -100, -100]


def test_batches_keep_to_their_tokens() -> None:
    texts_ = [encoded(length) for length in (3, 40, 200, 600)] * 20
    drawn = batches.draw_batches(texts_, [(list(range(80)), 1.0)], tokens=1_024, seed=1)

    for batch in (next(drawn) for _ in range(40)):
        assert batch.input_ids.size <= 1_024 + batch.input_ids.shape[1]


def test_a_large_source_does_not_drown_a_small_one() -> None:
    examples = [Example("x", "large", injection=0.0)] * 10_000 + [Example("x", "small", injection=0.0)] * 100

    shares = {len(indices): weight for indices, weight in batches.groups(examples, {})}

    assert shares[10_000] / shares[100] == pytest.approx(10.0)


def test_dev_rows_are_never_read_and_held_out_sources_are_known(tmp_path: Path) -> None:
    row = {"text": "t", "label": 0, "category": "benign", "licence": "x"}
    for name in ("injection", "indirect", "toxicity", "pii", "topics"):
        for side in ("train", "dev", "dev_ood"):
            with gzip.open(tmp_path / f"{name}.{side}.jsonl.gz", "wt", encoding="utf-8") as file:
                sources = ("good", "suzgunmirac/BIG-Bench-Hard") if side == "train" else ("never",)
                for source in sources:
                    file.write(json.dumps({**row, "source": source, "spans": []}) + "\n")

    examples = read_examples(tmp_path)

    assert {one.family for one in examples if one.is_held_out and "placed" not in one.family} == {
        "suzgunmirac/BIG-Bench-Hard"
    }
    assert not any("never" in one.family for one in examples)


@pytest.mark.parametrize("name", MAKERS)
def test_generated_texts_are_the_same_for_the_same_seed_and_filled(name: str) -> None:
    made = made_by(name)

    assert made == MAKERS[name](1)
    assert len({one.text for one in made}) > 0.9 * len(made)
    assert not any(
        slot in one.text for one in made for slot in ("{topic}", "{override}", "{group}", "{body}", "{order}")
    )


def test_both_sides_of_every_language_are_taught() -> None:
    made = made_by("injections")

    for code in LANGUAGES:
        attacks = sum(one.injection == 1.0 for one in made if one.family.endswith(f" in {code}"))
        requests = sum(one.injection == 0.0 for one in made if one.family.endswith(f" in {code}"))
        assert attacks >= 10
        assert requests >= 10


def test_every_disguise_is_worn_by_attacks_and_by_harmless_texts() -> None:
    worn = {
        (one.injection, one.family.rpartition(", ")[2].removesuffix(" (held out)")) for one in made_by("injections")
    }

    assert {(label, name) for name, _ in OBFUSCATIONS for label in (0.0, 1.0)} <= worn


def test_neither_length_nor_words_tell_an_attack_by_a_persona_from_a_harmless_role() -> None:
    made = made_by("roles")
    attacks, harmless = ([one.text for one in made if one.injection == label] for label in (1.0, 0.0))

    assert len(attacks) == pytest.approx(len(harmless), rel=0.1)
    shortest, longest = np.percentile([len(text) for text in attacks], [5, 50])
    assert sum(shortest <= len(text) for text in harmless) > len(harmless) / 2
    assert sum(len(text) >= longest for text in harmless) > len(harmless) / 5
    for word in ("you are", "never", "rules", "character", "do not", "ignore"):
        assert sum(word in text.lower() for text in attacks) > 20
        assert sum(word in text.lower() for text in harmless) > 20


def test_no_generated_text_is_on_both_sides() -> None:
    made = [one for name in MAKERS for one in made_by(name)]
    for head in ("injection", "indirect", "toxicity"):
        sides = [{one.text.lower() for one in made if getattr(one, head) == label} for label in (0.0, 1.0)]

        assert not sides[0] & sides[1]


def test_a_document_with_an_order_says_where_the_order_is() -> None:
    ordered = [one for one in made_by("documents") if one.place is not None]

    assert ordered
    for one in ordered:
        assert one.place is not None
        assert 0 <= one.place[0] < one.place[1] <= len(one.text)


def test_held_out_templates_are_other_templates() -> None:
    templates = [f"template {at} {{word}}" for at in range(14)]
    made = texts(templates, {"word": ("a", "b", "c")}, 42, Random(1))

    held = {text.split()[1] for text, is_held in made if is_held}
    taught = {text.split()[1] for text, is_held in made if not is_held}
    assert held == {"6", "13"}
    assert not held & taught


def test_an_unknown_slot_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("{nothing}", {}, Random(1))


def test_calibration_finds_the_temperature_that_logits_were_stretched_by() -> None:
    random = np.random.default_rng(1)
    true = random.normal(size=20_000) * 2.0
    labels = random.random(20_000) < 1.0 / (1.0 + np.exp(-true))

    fitted = calibration.fit(true * 3.0, labels, hard=true[~labels] * 3.0)

    assert fitted.temperature == pytest.approx(3.0, rel=0.1)
    assert fitted.bias == pytest.approx(0.0, abs=0.15)
    assert fitted.error < 0.02


def test_few_positives_among_the_texts_do_not_raise_every_score() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(20_000) % 16 == 0
    # Many easy negatives, and as many hard ones as there are positives.
    is_easy = ~labels & (np.arange(20_000) % 8 != 1)
    logits = random.normal(size=20_000) * 3.0 + np.where(labels, 1.0, np.where(is_easy, -10.0, -1.0))

    fitted = calibration.fit(logits, labels, hard=logits[~labels])

    assert fitted.bias == 0.0


def test_a_bias_is_kept_where_it_is_needed() -> None:
    random = np.random.default_rng(1)
    true = random.normal(size=20_000) * 2.0
    labels = random.random(20_000) < 1.0 / (1.0 + np.exp(-true))

    fitted = calibration.fit(true + 3.0, labels, hard=true[~labels] + 3.0)

    assert fitted.bias == pytest.approx(-3.0, abs=0.15)
    assert fitted.error < 0.02


def test_bands_keep_to_their_rates_on_the_hard_texts() -> None:
    random = np.random.default_rng(2)
    labels = np.arange(4_000) % 2 == 0
    logits = random.normal(size=4_000) + 2.0 * labels

    fitted = calibration.fit(logits, labels, hard=logits[~labels])

    scores = 1.0 / (1.0 + np.exp(-(logits[~labels] / fitted.temperature + fitted.bias)))
    assert (scores >= fitted.block).mean() <= 0.01
    assert 0.04 <= (scores >= fitted.flag).mean() <= 0.05
