"""From logits to probabilities, and the bands of a head, on sources that were not trained on."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from trueport.detection.evaluation.metrics import Labels, Scores, calibration_error, threshold_at

FLAG_RATE: Final = 0.05
BLOCK_RATE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Fitted:
    """probability = sigmoid(logit / temperature + bias), with the probabilities that the bands begin at."""

    temperature: float
    bias: float
    flag: float
    block: float
    error: float


def fit(logits: Scores, labels: Labels, hard: Scores) -> Fitted:
    """Fit a temperature by likelihood, positives and negatives weighing the same; and a bias where one helps.

    Where positives are few among the texts, a bias that balances them makes every score too high: of the two fits
    the one with the smaller calibration error on the texts as they are is taken.

    hard: logits of harmless texts that are easily taken for attacks; at most 1 percent of them reach `block` and at
    most 5 percent `flag`.
    """
    fits = (_logistic(logits, labels, has_bias=has_bias) for has_bias in (True, False))
    slope, bias = min(fits, key=lambda one: calibration_error(_probability(logits, *one), labels))

    def probability(values: Scores) -> Scores:
        return _probability(values, slope, bias)

    # Rounded upwards: a band must not let more through than its rate for want of digits.
    flag, block = (
        math.ceil(float(probability(np.array([threshold_at(hard, rate)]))[0]) * 1e6) / 1e6
        for rate in (FLAG_RATE, BLOCK_RATE)
    )
    return Fitted(1.0 / slope, bias, flag, max(flag, block), calibration_error(probability(logits), labels))


def _probability(logits: Scores, slope: float, bias: float) -> Scores:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits * slope + bias, -60.0, 60.0))))


def _logistic(logits: Scores, labels: Labels, *, has_bias: bool) -> tuple[float, float]:
    """Slope and bias of the balanced logistic regression of labels on logits, by Newton's method; slope > 0.

    Without a bias that of the result is 0.
    """
    weights = np.where(labels, 0.5 / max(1, labels.sum()), 0.5 / max(1, (~labels).sum()))
    # On a scale of one, where a full step from nothing seldom goes too far.
    scale = max(float(logits.std()), 1e-6)
    inputs = np.stack([logits / scale, np.full_like(logits, float(has_bias))], axis=1)
    signs = np.where(labels, 1.0, -1.0)

    def loss(theta: Scores) -> float:
        # A trace of a prior keeps separable data from making every answer certain.
        return float((weights * np.logaddexp(0.0, -signs * (inputs @ theta))).sum() + 0.0005 * (theta @ theta))

    theta = np.zeros(2)
    for _ in range(50):
        predicted = 1.0 / (1.0 + np.exp(-np.clip(inputs @ theta, -60.0, 60.0)))
        gradient = inputs.T @ (weights * (predicted - labels)) + 0.001 * theta
        curvature = (inputs * (weights * predicted * (1.0 - predicted))[:, None]).T @ inputs + 0.001 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(theta - step) > loss(theta) and np.abs(step).max() > 1e-9:
            step = step / 2.0
        theta = theta - step
    return max(float(theta[0]), 1e-3) / scale, float(theta[1])
