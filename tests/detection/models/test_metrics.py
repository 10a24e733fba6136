"""The measures against slow definitions of themselves."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trueport.detection.evaluation.metrics import (
    auc,
    calibration_error,
    estimate,
    f1,
    recall_at,
    share_over,
    threshold_at,
)

# Few different values, so that ties are common.
scored = st.lists(st.tuples(st.integers(0, 6).map(float), st.booleans()), min_size=2, max_size=40)


def arrays(pairs: list[tuple[float, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return np.array([score for score, _ in pairs]), np.array([label for _, label in pairs], np.bool_)


@given(scored)
def test_auc_is_the_share_of_pairs_that_are_ranked_right(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = arrays(pairs)
    compared = [
        1.0 if one > other else 0.5 if one == other else 0.0
        for one, other in itertools.product(scores[labels], scores[~labels])
    ]

    if compared:
        assert auc(scores, labels) == pytest.approx(sum(compared) / len(compared))
    else:
        assert np.isnan(auc(scores, labels))


@given(scored, st.sampled_from([0.0, 0.01, 0.1, 0.34, 0.5, 1.0]))
def test_recall_at_a_rate_is_the_best_that_any_threshold_within_the_rate_gives(
    pairs: list[tuple[float, bool]], rate: float
) -> None:
    scores, labels = arrays(pairs)
    if not labels.any() or labels.all():
        assert np.isnan(recall_at(scores, labels, rate))
        return
    thresholds = [*scores.tolist(), float("inf")]
    allowed = [one for one in thresholds if (scores[~labels] >= one).mean() <= rate + 1e-12]

    assert recall_at(scores, labels, rate) == max((scores[labels] >= one).mean() for one in allowed)


@given(scored, st.sampled_from([0.0, 0.05, 0.2, 0.9]))
def test_a_threshold_at_a_rate_lets_no_more_negatives_over_it(pairs: list[tuple[float, bool]], rate: float) -> None:
    scores, _ = arrays(pairs)

    assert share_over(scores, threshold_at(scores, rate)) <= rate + 1e-12


def test_scores_that_tie_at_the_threshold_stay_out_together() -> None:
    negatives = np.array([1.0, 1.0, 1.0, 0.0])

    assert share_over(negatives, threshold_at(negatives, 0.5)) == 0.0


@given(scored, st.integers(0, 6))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(pairs: list[tuple[float, bool]], threshold: int) -> None:
    scores, labels = arrays(pairs)
    flagged = scores >= threshold
    right = int((flagged & labels).sum())

    if right:
        precision, recall = right / int(flagged.sum()), right / int(labels.sum())
        assert f1(flagged, labels) == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert f1(flagged, labels) == 0.0


def test_a_sure_and_wrong_model_has_the_greatest_calibration_error() -> None:
    assert calibration_error(np.array([1.0, 1.0, 0.0]), np.array([False, False, True])) == 1.0


def test_probabilities_that_come_true_as_often_as_they_say_have_no_calibration_error() -> None:
    assert calibration_error(np.full(4, 0.25), np.array([True, False, False, False])) == pytest.approx(0.0)


def test_an_interval_holds_the_value_and_narrows_with_more_texts() -> None:
    random = np.random.default_rng(1)
    few_labels = np.arange(60) % 2 == 0
    many_labels = np.arange(3_000) % 2 == 0
    few = estimate(auc, random.normal(size=60) + few_labels, few_labels)
    many = estimate(auc, random.normal(size=3_000) + many_labels, many_labels)

    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low


def test_the_interval_of_a_share_is_near_that_of_the_binomial_distribution() -> None:
    scores = np.array([1.0] * 30 + [0.0] * 270)
    labels = np.zeros(300, np.bool_)
    deviation = (0.1 * 0.9 / 300) ** 0.5

    found = estimate(lambda values, _: share_over(values, 0.5), scores, labels, resamples=2_000)

    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 1.96 * deviation, abs=0.01)
    assert found.high == pytest.approx(0.1 + 1.96 * deviation, abs=0.01)


def test_the_same_scores_have_the_same_interval() -> None:
    scores, labels = np.linspace(0, 1, 50), np.arange(50) % 3 == 0

    assert estimate(auc, scores, labels) == estimate(auc, scores, labels)
