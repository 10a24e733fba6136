"""What is measured, on which texts, and beside which target. A figure has a name such as `injection.dev_ood.auc`."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trueport.detection.evaluation.metrics import (
    Estimate,
    Labels,
    Metric,
    Scores,
    auc,
    calibration_error,
    estimate,
    f1,
    recall_at,
    share_over,
)
from trueport.detection.evaluation.model import Answer, Bands, HeadMeta, Model, ModelMeta
from trueport.detection.evaluation.rows import Row, Side, Span, read_rows


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure is to reach: `value` at least, or at most."""

    value: float
    is_least: bool

    def is_met_by(self, value: float) -> bool:
        """NaN meets nothing."""
        return value >= self.value if self.is_least else value <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {self.value:g}"


def _least(value: float) -> Aim:
    return Aim(value, is_least=True)


def _most(value: float) -> Aim:
    return Aim(value, is_least=False)


_OF_ATTACKS: Final[Mapping[str, Aim]] = {
    "injection.dev_ood.auc": _least(0.985),
    "injection.dev_ood.f1": _least(0.90),
    "injection.dev_ood.false_positives": _most(0.02),
    "injection.dev_ood.recall_at_1_percent": _least(0.85),
    "injection.dev_ood.false_positives.trigger_words": _most(0.04),
    "injection.dev_ood.false_positives.other_scripts": _most(0.02),
    "indirect.dev.auc": _least(0.97),
    "toxicity.dev.auc": _least(0.93),
}
AIMS: Final[Mapping[str, Aim]] = {
    **_OF_ATTACKS,
    **{f"product.{name}": aim for name, aim in _OF_ATTACKS.items()},
    "product.pii.dev.f1": _least(0.88),
    "product.pii.dev_ood.false_positives.clean_prompts": _most(0.02),
    "product.secrets.dev.f1": _least(0.90),
    "product.secrets.dev.false_positives": _most(0.003),
    "speed.cpu_ms_per_100_tokens": _most(3.0),
}
"""What we aim at. Where a figure has no aim, none was set."""

_KINDS: Final = {"PERSON": "PERSON", "LOCATION": "LOCATION", "ADDRESS": "ADDRESS", "ORGANIZATION": "ORG"}
_GROUPS: Final = ("HannahKirk/Hatemoji", "microsoft/TOXIGEN", "t-davidson")
_TRIGGERS: Final = re.compile(
    r"\b(ignore|disregard|forget|bypass|override|system prompt|instructions?|jailbreak|pretend|reveal|unrestricted)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure over `texts` texts."""

    name: str
    estimate: Estimate
    texts: int

    @property
    def aim(self) -> Aim | None:
        return AIMS.get(self.name)

    @property
    def is_met(self) -> bool | None:
        """None where there is no aim."""
        return None if self.aim is None else self.aim.is_met_by(self.estimate.value)

    @property
    def target(self) -> str:
        """The aim and whether it is met, such as `>= 0.9, missed`; empty without one."""
        return "" if self.aim is None else f"{self.aim}, {'met' if self.is_met else 'missed'}"


Say = Callable[[str], None]
"""Told what is being measured: it takes minutes."""


def _silently(_: str) -> None:
    pass


def measure_model(model: Model, meta: ModelMeta, folder: Path, say: Say = _silently) -> list[Measure]:
    """Every figure of the model's heads on the dev files in `folder`, and how fast it was."""
    sets: list[tuple[str, Side]] = [
        ("injection", "dev"),
        ("injection", "dev_ood"),
        ("indirect", "dev"),
        ("toxicity", "dev"),
    ]
    found: list[Measure] = []
    for name, side in sets:
        if name not in meta.heads:
            continue
        rows = read_rows(folder, name, side)
        say(f"model: {name}.{side}, {len(rows)} texts")
        logits = model.logits([row.text for row in rows])
        head = meta.heads[name]
        # Ranks by logits: probabilities near 1 run together.
        found += of_scores(f"{name}.{side}", rows, head.probability(logits[name]), head.bands, ranks=logits[name])
        if name == "injection":
            found += by_kind(f"{name}.{side}", rows, head.probability(logits[name]), head.bands)
        if name == "toxicity" and "bias" in meta.heads:
            found += _of_bias(rows, logits["bias"], meta.heads["bias"])
    say("model: names")
    found += _of_names(model, meta, folder)
    say("model: topics")
    found += _of_topics(model, folder)
    say("model: speed")
    return [*found, _speed(model)]


def table(measures: Iterable[Measure]) -> str:
    """The figures as lines: name, value, 95 percent interval, number of texts, target."""
    lines = [f"{'figure':<76} {'value':>7}  {'95 % interval':<15} {'texts':>6}  target"]
    for one in measures:
        middle = one.estimate
        lines.append(
            f"{one.name:<76} {middle.value:7.4f}  {middle.low:.4f}-{middle.high:.4f}  {one.texts:7d}  {one.target}"
        )
    return "\n".join(lines)


def of_scores(
    name: str, rows: Sequence[Row], scores: Scores, bands: Bands, *, ranks: Scores | None = None
) -> list[Measure]:
    """How well `scores`, which are probabilities, tell the rows' labels. ranks: what to rank by instead of them."""
    labels = labels_of(rows)
    ranks = scores if ranks is None else ranks
    flag, block = bands.flag, bands.block
    return [
        measure(f"{name}.auc", auc, ranks, labels),
        measure(f"{name}.recall_at_1_percent", recall_at, ranks, labels),
        measure(f"{name}.f1", f1_from(flag), scores, labels),
        measure(f"{name}.recall", over_positives(flag), scores, labels),
        measure(f"{name}.false_positives", over_negatives(flag), scores, labels),
        measure(f"{name}.recall_when_blocking", over_positives(block), scores, labels),
        measure(f"{name}.false_positives_when_blocking", over_negatives(block), scores, labels),
        measure(f"{name}.calibration_error", calibration_error, scores, labels),
    ]


def by_kind(name: str, rows: Sequence[Row], scores: Scores, bands: Bands) -> list[Measure]:
    """False positives where detectors are known to have them, and recall by source of attacks."""
    kinds: dict[str, Callable[[Row], bool]] = {
        "trigger_words": lambda row: bool(_TRIGGERS.search(row.text)),
        "security_and_hard": lambda row: row.category == "benign_hard",
        "other_scripts": lambda row: row.is_in_another_script,
        "long": lambda row: len(row.text) > 1_200,
    }
    found: list[Measure] = []
    for kind, belongs in kinds.items():
        picked = np.array([row.label == 0 and belongs(row) for row in rows])
        if picked.sum() >= 20:
            for when, threshold in (("", bands.flag), ("_when_blocking", bands.block)):
                negatives = np.zeros(int(picked.sum()), np.bool_)
                found.append(
                    measure(
                        f"{name}.false_positives{when}.{kind}", over_negatives(threshold), scores[picked], negatives
                    )
                )
    for source in sorted({row.source for row in rows}):
        for label, kind, rate in ((0, "false_positives", over_negatives), (1, "recall", over_positives)):
            picked = np.array([row.source == source and row.label == label for row in rows])
            if picked.sum() >= 15:
                labels = np.full(int(picked.sum()), label == 1)
                found.append(measure(f"{name}.{kind}.source.{source}", rate(bands.flag), scores[picked], labels))
    return found


def _of_bias(rows: Sequence[Row], logits: Scores, head: HeadMeta) -> list[Measure]:
    """Hatred and prejudice against groups, told from all else, in the sources that say which it is."""
    picked = np.array([row.source.startswith(_GROUPS) for row in rows])
    labels = np.array([row.category in {"hate", "implicit_hate"} for row in rows])[picked]
    scores = head.probability(logits[picked])
    return [
        measure("bias.dev.auc", auc, logits[picked], labels),
        measure("bias.dev.recall", over_positives(head.bands.flag), scores, labels),
        measure("bias.dev.false_positives", over_negatives(head.bands.flag), scores, labels),
    ]


def _of_names(model: Model, meta: ModelMeta, folder: Path) -> list[Measure]:
    """Names found by the token head alone: each true span against the spans found, overlap and kind being enough."""
    rows = read_rows(folder, "pii", "dev")
    answers = model.answers([row.text for row in rows])
    found: list[Measure] = []
    for theirs, ours in _KINDS.items():
        hits: list[bool] = []
        flags: list[bool] = []
        for row, answer in zip(rows, answers, strict=True):
            true = [span for span in row.spans if span.type == theirs]
            named = [span for span in named_spans(answer, meta) if span.type == ours]
            # One entry for each span of either side: right ones are flagged and true, the others one of the two.
            for span in true:
                hits.append(True)
                flags.append(any(_overlap(span, one) for one in named))
            wrong = sum(not any(_overlap(one, span) for span in true) for one in named)
            hits += [False] * wrong
            flags += [True] * wrong
        found.append(
            measure(f"names.dev.f1.{ours}", f1_from(0.5), np.array(flags, np.float64), np.array(hits, np.bool_))
        )
    return found


def _of_topics(model: Model, folder: Path) -> list[Measure]:
    """How well ten examples tell a topic's texts from those of all others, by the nearest example's embedding.

    The value is the mean AUC over topics, its interval that of the mean.
    """
    examples: defaultdict[str, list[str]] = defaultdict(list)
    for row in read_rows(folder, "topics", "train"):
        if row.label == 1 and len(examples[row.category]) < 10:
            examples[row.category].append(row.text)
    rows = read_rows(folder, "topics", "dev")
    texts = np.stack([one.embedding for one in model.answers([row.text for row in rows])])
    aucs: list[float] = []
    for topic, known in examples.items():
        labels = np.array([row.category == topic for row in rows])
        if labels.any():
            nearest = (texts @ np.stack([one.embedding for one in model.answers(known)]).T).max(axis=1)
            aucs.append(auc(nearest.astype(np.float64), labels))
    spread = 1.96 * float(np.std(aucs)) / max(1, len(aucs)) ** 0.5
    mean = float(np.mean(aucs)) if aucs else float("nan")
    return [Measure("topics.dev.auc_from_ten_examples", Estimate(mean, mean - spread, mean + spread), len(rows))]


def named_spans(answer: Answer, meta: ModelMeta) -> list[Span]:
    """The names in a text by the likeliest label of each token, with code points of the text."""
    spans: list[Span] = []
    labels = [meta.pii_labels[at] for at in answer.tags.argmax(axis=1).tolist()]
    for label, (start, end) in zip(labels, answer.offsets.tolist(), strict=True):
        kind = label[2:]
        follows = bool(spans) and spans[-1].type == kind and start - spans[-1].end <= 1
        if label.startswith("I-") and follows:
            spans[-1] = Span(spans[-1].start, end, kind)
        elif kind:
            spans.append(Span(start, end, kind))
    return spans


def _speed(model: Model) -> Measure:
    """CPU time of the calling thread, which does all the work, for windows of 100 tokens one at a time.

    A busy machine takes the thread off its core without that being counted.
    """
    random = np.random.default_rng(3)
    window: list[int] = random.integers(2_000, 20_000, 98).tolist()
    for _ in range(5):
        model.run([window])
    times: list[float] = []
    for _ in range(200):
        began_s = time.thread_time()
        model.run([window])
        times.append((time.thread_time() - began_s) * 1_000.0)
    low, middle, high = np.percentile(times, [2.5, 50.0, 97.5])
    return Measure("speed.cpu_ms_per_100_tokens", Estimate(float(middle), float(low), float(high)), len(times))


def measure(name: str, metric: Metric, scores: NDArray[np.float64], labels: Labels) -> Measure:
    return Measure(name, estimate(metric, scores, labels), len(labels))


def f1_from(threshold: float) -> Metric:
    return partial(_f1_at, threshold=threshold)


def over_negatives(threshold: float) -> Metric:
    return partial(_share_of, wanted=False, threshold=threshold)


def over_positives(threshold: float) -> Metric:
    return partial(_share_of, wanted=True, threshold=threshold)


def _f1_at(scores: Scores, labels: Labels, threshold: float) -> float:
    return f1(scores >= threshold, labels)


def _share_of(scores: Scores, labels: Labels, wanted: bool, threshold: float) -> float:
    return share_over(scores[labels == wanted], threshold)


def labels_of(rows: Iterable[Row]) -> Labels:
    return np.array([row.label == 1 for row in rows])


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end
