"""Examples as tensors: tokenised once, drawn with every source having its say, batched by length."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trueport.detection.training.contract import HEADS, PII_LABELS
from trueport.detection.training.examples import Example, Span, family_of

WINDOW: Final = 254
"""Tokens of a window without [CLS] and [SEP]."""
CLS: Final = 101
SEP: Final = 102
MASK: Final = 103
IGNORED: Final = -100
_LABEL_IDS: Final = {label: at for at, label in enumerate(PII_LABELS)}

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as tokens without special ones.

    ids: shape (n,). labels: shape (n,), indices of PII_LABELS or IGNORED. targets: shape (4,), NaN where unknown.
    place: tokens that a window has to hold, if any. is_positive: some label of the text is 1.
    """

    ids: Ids
    labels: Ids | None
    targets: NDArray[np.float32]
    place: tuple[int, int] | None
    is_positive: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """input_ids, mask: int64 (batch, length). targets: float32 (batch, 4), NaN unknown. labels: int64 as input_ids."""

    input_ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    targets: NDArray[np.float32]
    labels: NDArray[np.int64]


def encode(tokenizer: Tokenizer, examples: Sequence[Example]) -> list[Encoded]:
    """The examples as tokens; every one keeps its place."""
    encoded: list[Encoded] = []
    for start in range(0, len(examples), 2_000):
        part = examples[start : start + 2_000]
        # Six characters a token are common; more than 8,000 characters only cost time here.
        outputs = tokenizer.encode_batch([one.text[:8_000] for one in part], add_special_tokens=False)
        encoded += [_encoded(one, output.ids, output.offsets) for one, output in zip(part, outputs, strict=True)]
    return encoded


def _encoded(example: Example, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Encoded:
    targets = [getattr(example, head) for head in HEADS]
    return Encoded(
        ids=np.array(ids, np.int32),
        labels=None if example.entities is None else bio(offsets, example.entities),
        targets=np.array([math.nan if value is None else value for value in targets], np.float32),
        place=None if example.place is None else _tokens_between(offsets, *example.place),
        is_positive=1.0 in targets,
    )


def bio(offsets: Sequence[tuple[int, int]], entities: Sequence[Span]) -> Ids:
    """BIO labels of tokens. offsets: code points of each token, end exclusive. Returns indices of PII_LABELS."""
    labels = np.zeros(len(offsets), np.int32)
    for entity in entities:
        first, stop = _tokens_between(offsets, entity.start, entity.end)
        if first < stop:
            labels[first] = _LABEL_IDS[f"B-{entity.type}"]
            labels[first + 1 : stop] = _LABEL_IDS[f"I-{entity.type}"]
    return labels


def _tokens_between(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    inside = [at for at, (begins, ends) in enumerate(offsets) if begins < end and ends > start]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def groups(examples: Sequence[Example], shares: Mapping[str, float]) -> list[tuple[list[int], float]]:
    """Indices of examples with the probability that a draw falls on them, group by group.

    shares: by the beginning of a family's name, the multiple of its natural weight; 1 where none fits. A group is a
    source with one label; its natural weight is the square root of its size, so that no large source drowns a small
    one and no small one is learned by heart.
    """
    members: defaultdict[tuple[str, float | None, float | None, float | None], list[int]] = defaultdict(list)
    for at, example in enumerate(examples):
        members[family_of(example)].append(at)
    weights = [
        math.sqrt(len(indices)) * next((share for prefix, share in shares.items() if family[0].startswith(prefix)), 1.0)
        for family, indices in members.items()
    ]
    total = sum(weights)
    return [(indices, weight / total) for indices, weight in zip(members.values(), weights, strict=True)]


def draw_batches(
    encoded: Sequence[Encoded], drawn_from: Sequence[tuple[list[int], float]], tokens: int, seed: int
) -> Iterator[Batch]:
    """Batches without end, each of about `tokens` tokens with padding.

    Texts are drawn 2,048 at a time and sorted by length, so that little is padded; the batches of one draw come in a
    random order.
    """
    random = np.random.default_rng(seed)
    probabilities = np.array([weight for _, weight in drawn_from])
    waiting = [random.permutation(indices).tolist() for indices, _ in drawn_from]
    while True:
        drawn: list[tuple[Encoded, slice]] = []
        for group in random.choice(len(drawn_from), size=2_048, p=probabilities).tolist():
            # Without replacement until a group is used up.
            if not waiting[group]:
                waiting[group] = random.permutation(drawn_from[group][0]).tolist()
            one = encoded[waiting[group].pop()]
            drawn.append((one, window(one, random)))
        drawn.sort(key=lambda pair: pair[1].stop - pair[1].start)
        batches = list(_cut(drawn, tokens))
        for at in random.permutation(len(batches)).tolist():
            yield collate(batches[at], random)


def window(one: Encoded, random: np.random.Generator) -> slice:
    """The tokens of a text that are learned from.

    Of a long text: a window that holds its `place`; of an attack without one, its beginning, since a later part may
    be harmless; of anything else, any part.
    """
    length = len(one.ids)
    if length <= WINDOW:
        return slice(0, length)
    if one.place is not None:
        earliest = max(0, min(one.place[1], length) - WINDOW)
        start = int(random.integers(min(earliest, one.place[0]), max(one.place[0], earliest) + 1))
    elif one.is_positive:
        start = 0
    else:
        start = int(random.integers(0, length - WINDOW + 1))
    start = min(start, length - WINDOW)
    return slice(start, start + WINDOW)


def _cut(drawn: Sequence[tuple[Encoded, slice]], tokens: int) -> Iterator[Sequence[tuple[Encoded, slice]]]:
    start = 0
    for at, (_, part) in enumerate(drawn):
        if (at - start + 1) * (part.stop - part.start + 2) > tokens and at > start:
            yield drawn[start:at]
            start = at
    yield drawn[start:]


def collate(drawn: Sequence[tuple[Encoded, slice]], random: np.random.Generator | None, masked: float = 0.06) -> Batch:
    """One batch, padded with 0. With `random`, a share of the tokens is masked, so that no single word decides."""
    longest = max(part.stop - part.start for _, part in drawn) + 2
    input_ids = np.zeros((len(drawn), longest), np.int64)
    mask = np.zeros_like(input_ids)
    labels = np.full_like(input_ids, IGNORED)
    for row, (one, part) in enumerate(drawn):
        ids = one.ids[part].astype(np.int64)
        if random is not None and one.labels is None and len(ids) > 4:
            ids[random.random(len(ids)) < masked] = MASK
        stop = len(ids) + 1
        input_ids[row, 0], input_ids[row, 1:stop], input_ids[row, stop] = CLS, ids, SEP
        mask[row, : stop + 1] = 1
        if one.labels is not None:
            labels[row, 1:stop] = one.labels[part]
    return Batch(input_ids, mask, np.stack([one.targets for one, _ in drawn]), labels)
