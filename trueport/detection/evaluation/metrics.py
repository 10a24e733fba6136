"""Measures of a detector over scores and labels. Pure; every score may occur more than once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]
Metric = Callable[[Scores, Labels], float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with the ends of its 95 percent bootstrap interval. NaN where it is not defined."""

    value: float
    low: float
    high: float


def auc(scores: Scores, labels: Labels) -> float:
    """The probability that a positive scores higher than a negative, ties counting half. NaN without one of each."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of the ranks they take up.
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2.0)[group]
    return float((ranks[labels].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def threshold_at(negatives: Scores, rate: float) -> float:
    """The lowest threshold that at most `rate` of the negatives reach. A score is over it when it is >= threshold.

    Infinite when `rate` is below zero negatives' worth and every score ties at the top.
    """
    allowed = int(rate * len(negatives) + 1e-9)
    descending = np.sort(negatives)[::-1]
    if allowed >= len(descending):
        return float("-inf")
    # Just above the first score that may not pass; those equal to it stay out as well.
    return float(np.nextafter(descending[allowed], np.inf))


def recall_at(scores: Scores, labels: Labels, rate: float = 0.01) -> float:
    """The share of positives found where at most `rate` of the negatives are flagged. NaN without one of each."""
    if not labels.any() or labels.all():
        return float("nan")
    return share_over(scores[labels], threshold_at(scores[~labels], rate))


def share_over(scores: Scores, threshold: float) -> float:
    """The share of scores that reach the threshold. NaN of none."""
    return float((scores >= threshold).mean()) if len(scores) else float("nan")


def f1(flagged: Labels, labels: Labels) -> float:
    """The harmonic mean of precision and recall; 0 when nothing right is flagged."""
    right = int((flagged & labels).sum())
    return 2.0 * right / max(1, int(flagged.sum()) + int(labels.sum()))


def calibration_error(probabilities: Scores, labels: Labels, bins: int = 15) -> float:
    """The expected calibration error over `bins` equal bins of [0, 1]. NaN of none."""
    if not len(probabilities):
        return float("nan")
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    gaps = [
        abs(probabilities[place == at].mean() - labels[place == at].mean()) * (place == at).sum()
        for at in range(bins)
        if (place == at).any()
    ]
    return float(np.sum(gaps) / len(probabilities))


def estimate(metric: Metric, scores: Scores, labels: Labels, *, resamples: int = 300, seed: int = 7) -> Estimate:
    """The metric with its interval: the middle 95 percent of its values over resamples, positives and negatives apart.

    Resampling apart keeps the share of positives, which recall at a rate and F1 depend on.
    """
    value = metric(scores, labels)
    random = np.random.default_rng(seed)
    positives, negatives = np.flatnonzero(labels), np.flatnonzero(~labels)
    values: list[float] = []
    for _ in range(resamples):
        picked = np.concatenate(
            [random.choice(part, len(part)) for part in (positives, negatives) if len(part)] or [positives]
        )
        values.append(metric(scores[picked], labels[picked]))
    if not np.isfinite(values).any():
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
