"""Texts read together with others: what one text says piece by piece shows only when the pieces are put together.

An attack can be spread over turns, tool results, members of JSON and the names of members; the tokens of log
probabilities and the deltas of a stream are pieces by nature. What is found in a joined text is told of the parts
it stands in.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from trueport.detection.types import Finding, Passage, Role
from trueport.gateway.texts.model import Part

_SPOKEN: Final[frozenset[Role]] = frozenset(
    {"user", "assistant", "tool_call", "tool_result", "document", "metadata", "reasoning"}
)
_EDGE: Final = 512  # code points on either side of a seam; patterns and phrases are shorter


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` code points of the part numbered `part`, from `start` in it, that stand at `at` in the joined text."""

    part: int
    start: int
    length: int
    at: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Pieces of parts as one passage.

    `kind`: a "group" is the only reading of its parts; a "transcript" is the conversation turn by turn, and "seams"
    are the places where a word or an address may go on in the next part.
    """

    kind: Literal["group", "transcript", "seams"]
    passage: Passage
    pieces: tuple[Piece, ...]

    def in_parts(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The part, and the beginning and end in it, of everything between `start` and `end` of the joined text."""
        for piece in self.pieces:
            first, last = max(start, piece.at), min(end, piece.at + piece.length)
            if first < last:
                yield piece.part, piece.start + first - piece.at, piece.start + last - piece.at

    def crosses(self, finding: Finding) -> bool:
        """Whether it stands in more than one part, so that no part alone shows it."""
        return len({part for part, _, _ in self.in_parts(finding.start, finding.end)}) > 1


def alone(parts: Sequence[Part]) -> list[int]:
    """The numbers of the parts that are read by themselves."""
    return [index for index, part in enumerate(parts) if not part.group]


def joined(parts: Sequence[Part]) -> list[Joined]:
    """Everything that is read together."""
    return [*_groups(parts), *_conversation(parts)]


def _groups(parts: Sequence[Part]) -> Iterator[Joined]:
    members: dict[str, list[int]] = {}
    for index, part in enumerate(parts):
        if part.group:
            members.setdefault(part.group, []).append(index)
    for group, indices in members.items():
        whole = [(index, 0, len(parts[index].passage.text)) for index in indices]
        yield _join("group", parts, whole, "" if group.startswith("+") else "\n", parts[indices[0]].passage.role)


def _conversation(parts: Sequence[Part]) -> Iterator[Joined]:
    spoken = [index for index in alone(parts) if parts[index].passage.role in _SPOKEN]
    if len(spoken) < 2:
        return
    yield _join("transcript", parts, ((i, 0, len(parts[i].passage.text)) for i in spoken), "\n", "user")
    edges = []
    for before, after in pairwise(spoken):
        if not (parts[before].passage.text[-1:].isspace() or parts[after].passage.text[:1].isspace()):
            edges.append((before, after))
    if edges:
        yield _join("seams", parts, _edges(parts, edges), "", "user")


def _edges(parts: Sequence[Part], edges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Every part's beginning and end as far as they touch another, a short part once and whole."""
    begins, ends = {after for _, after in edges}, {before for before, _ in edges}
    for index in sorted(begins | ends):
        length = len(parts[index].passage.text)
        if length <= 2 * _EDGE and index in begins and index in ends:
            yield index, 0, length
            continue
        if index in begins:
            yield index, 0, min(_EDGE, length)
        if index in ends:
            yield index, max(0, length - _EDGE), min(_EDGE, length)


def _join(
    kind: Literal["group", "transcript", "seams"],
    parts: Sequence[Part],
    spans: Iterable[tuple[int, int, int]],
    separator: str,
    role: Role,
) -> Joined:
    texts, pieces, at = [], [], 0
    for index, start, length in spans:
        texts.append(parts[index].passage.text[start : start + length])
        pieces.append(Piece(index, start, length, at))
        at += length + len(separator)
    return Joined(kind, Passage(separator.join(texts), role), tuple(pieces))
