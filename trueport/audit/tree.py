"""The Merkle tree over a tenant's records: roots and proofs as in RFC 6962, section 2.1. Pure.

`MTH(lo, hi)` is the hash of the leaves [lo, hi). A subtree is *complete* when it has 2^level leaves and begins at a
multiple of that; its hash never changes again, so complete subtrees are what is kept, and everything else is folded
from them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash above two others: 0x01 before them keeps a node from passing for a leaf."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree of `size` leaves: the hashes of its largest complete subtrees, from left to right.

    There is one for each bit that is set in `size`; they are all that is needed to go on and to know the root.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError("an edge has a hash for each bit of its size")

    def extend(self, leaves: Iterable[bytes]) -> "Edge":
        """The edge with the hashes of further leaves."""
        size, hashes = self.size, list(self.hashes)
        for leaf in leaves:
            grown, complete = leaf, size
            while complete & 1:
                grown = node_hash(hashes.pop(), grown)
                complete >>= 1
            hashes.append(grown)
            size += 1
        return Edge(size, tuple(hashes))

    @property
    def root(self) -> bytes:
        return fold(self.hashes) if self.hashes else EMPTY_ROOT


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash over complete subtrees that lie side by side and become smaller to the right. Not empty."""
    above = hashes[-1]
    for left in reversed(hashes[:-1]):
        above = node_hash(left, above)
    return above


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """The complete subtree over the leaves [index << level, (index + 1) << level)."""

    level: int
    index: int

    @property
    def first(self) -> int:
        return self.index << self.level

    @property
    def end(self) -> int:
        return (self.index + 1) << self.level


class Nodes(Protocol):
    """Where the hashes of complete subtrees are."""

    def __getitem__(self, node: Node) -> bytes: ...


def complete_nodes(lo: int, hi: int) -> Iterator[Node]:
    """The fewest complete subtrees that cover [lo, hi), from left to right."""
    while lo < hi:
        level = min((lo & -lo).bit_length() - 1 if lo else hi.bit_length(), (hi - lo).bit_length() - 1)
        yield Node(level, lo >> level)
        lo += 1 << level


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The ranges [lo, hi) whose hashes prove that leaf `index` is in the tree of `size` leaves, from the leaf upwards.

    Raises ValueError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError("there is no such leaf in a tree of this size")
    ranges: list[tuple[int, int]] = []
    lo, hi = 0, size
    while hi - lo > 1:
        middle = lo + _split(hi - lo)
        if index < middle:
            ranges.append((middle, hi))
            hi = middle
        else:
            ranges.append((lo, middle))
            lo = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """The ranges [lo, hi) whose hashes prove that the tree of `new` leaves begins with that of `old`.

    None are needed for an empty tree or an equal one. Raises ValueError unless 0 <= old <= new.
    """
    if not 0 <= old <= new:
        raise ValueError("a tree only grows")
    if old in (0, new):
        return []
    ranges: list[tuple[int, int]] = []
    lo, hi = 0, new
    is_whole_old_tree = True
    while hi != old:
        middle = lo + _split(hi - lo)
        if old <= middle:
            ranges.append((middle, hi))
            hi = middle
        else:
            ranges.append((lo, middle))
            lo = middle
            is_whole_old_tree = False
    # Whoever checks knows the old root already where the old tree is one complete subtree.
    return ([] if is_whole_old_tree else [(lo, hi)]) + ranges[::-1]


def hash_of(nodes: Nodes, lo: int, hi: int) -> bytes:
    """MTH(lo, hi) of a range that a proof names."""
    return fold([nodes[node] for node in complete_nodes(lo, hi)])


def prove_inclusion(nodes: Nodes, index: int, size: int) -> list[bytes]:
    return [hash_of(nodes, lo, hi) for lo, hi in inclusion_ranges(index, size)]


def prove_consistency(nodes: Nodes, old: int, new: int) -> list[bytes]:
    return [hash_of(nodes, lo, hi) for lo, hi in consistency_ranges(old, new)]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows that a leaf hash is the one at `index` under `root`: RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for beside in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(beside, found)
            while at and not at & 1:
                at >>= 1
                last >>= 1
        else:
            found = node_hash(found, beside)
        at >>= 1
        last >>= 1
    return last == 0 and found == root


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the new tree begins with the old one: RFC 9162, section 2.1.4.2."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and (old_root == new_root if old == new else old_root == EMPTY_ROOT)
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    was = now = path[0]
    for beside in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            was, now = node_hash(beside, was), node_hash(beside, now)
            while at and not at & 1:
                at >>= 1
                last >>= 1
        else:
            now = node_hash(now, beside)
        at >>= 1
        last >>= 1
    return last == 0 and was == old_root and now == new_root


def _split(leaves: int) -> int:
    """The largest power of two below `leaves`, which is where RFC 6962 parts a tree of more than one."""
    return 1 << ((leaves - 1).bit_length() - 1)
