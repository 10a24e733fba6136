"""Several detectors' readings of one passage, checked and put together. Pure."""

import math
from collections.abc import Sequence

from trueport.detection.base import DetectorFailed
from trueport.detection.types import CATEGORIES, Category, Failure, Finding, Passage, Reading


def check_readings(
    readings: Sequence[Reading], passages: Sequence[Passage], asked: frozenset[Category]
) -> Sequence[Reading]:
    """The readings, once they are known to answer `passages`: one each, with a score for every category asked.

    A category named in a reading's failures needs no score, nor does `custom`, which is answered by the embedding.
    Raises DetectorFailed("contract"): a NaN is below every threshold, so that a broken model would find nothing.
    """
    if len(readings) != len(passages):
        raise DetectorFailed("contract")
    for reading, passage in zip(readings, passages, strict=True):
        excused = {"custom", *(category for failure in reading.failures for category in failure.categories)}
        is_sound = (
            asked - excused <= reading.scores.keys()
            and all(_is_score(score) for score in reading.scores.values())
            and all(_is_sound(finding, len(passage.text)) for finding in reading.findings)
            and (reading.embedding is None or all(map(math.isfinite, reading.embedding)))
        )
        if not is_sound:
            raise DetectorFailed("contract")
    return readings


def merge(readings: Sequence[Reading], failures: tuple[Failure, ...]) -> Reading:
    """One reading: the highest score of each category, every finding in the order of the text, `failures` as given."""
    scores: dict[Category, float] = {}
    for reading in readings:
        for category, score in reading.scores.items():
            scores[category] = max(score, scores.get(category, 0.0))
    findings = sorted(
        {finding for reading in readings for finding in reading.findings},
        key=lambda one: (one.start, one.end, one.category, one.type, one.detector, -one.score, one.reason),
    )
    embedding = next((reading.embedding for reading in readings if reading.embedding is not None), None)
    return Reading(scores=scores, findings=tuple(findings), embedding=embedding, failures=failures)


def _is_score(score: float) -> bool:
    # Comparisons with NaN are false, so this also asks for a number.
    return 0.0 <= score <= 1.0


def _is_sound(finding: Finding, length: int) -> bool:
    return (
        finding.category in CATEGORIES
        and _is_score(finding.score)
        and 0 <= finding.start <= finding.end <= length
        and bool(finding.type)
    )
