"""The Merkle tree against the definitions of RFC 6962, written out a second time and slowly."""

import hashlib
import random

import pytest

from trueport.audit.canonical import leaf_hash
from trueport.audit.tree import (
    EMPTY_ROOT,
    Edge,
    Node,
    complete_nodes,
    is_consistent,
    is_included,
    node_hash,
    prove_consistency,
    prove_inclusion,
)

# The test vectors of the Certificate Transparency project: eight leaves, and the root of each prefix.
LEAVES = [bytes.fromhex(one) for one in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MOST = 70


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it stands there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(by_definition(leaves[:k]), by_definition(leaves[k:]))


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(count)]


class Kept:
    """The hashes of complete subtrees, made from the leaves."""

    def __init__(self, leaves: list[bytes]) -> None:
        self._leaves = leaves

    def __getitem__(self, node: Node) -> bytes:
        assert node.end <= len(self._leaves)
        return by_definition(self._leaves[node.first : node.end])


@pytest.mark.parametrize("size", range(1, 9))
def test_the_root_is_that_of_the_published_vectors(size: int) -> None:
    assert Edge().extend(leaf_hash(leaf) for leaf in LEAVES[:size]).root.hex() == ROOTS[size - 1]


def test_an_edge_grown_in_any_pieces_has_the_root_of_the_definition() -> None:
    leaves = hashes(MOST)
    draw = random.Random(6962)
    for size in range(MOST + 1):
        edge = Edge()
        while edge.size < size:
            edge = edge.extend(leaves[edge.size : min(size, edge.size + draw.randint(1, 9))])
        assert edge.root == by_definition(leaves[:size])


def test_an_empty_tree_has_the_root_of_no_bytes() -> None:
    assert Edge().root == EMPTY_ROOT


@pytest.mark.parametrize(("size", "count"), [(1, 0), (3, 1), (4, 2), (-1, 1)])
def test_an_edge_that_does_not_fit_its_size_is_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="a hash for each bit"):
        Edge(size, tuple(hashes(count)))


def test_complete_subtrees_cover_a_range_once_and_in_order() -> None:
    for lo in range(40):
        for hi in range(lo, 60):
            covered = [leaf for node in complete_nodes(lo, hi) for leaf in range(node.first, node.end)]
            assert covered == list(range(lo, hi))


def test_every_leaf_is_proved_in_every_tree_and_nowhere_else() -> None:
    leaves = hashes(MOST)
    nodes = Kept(leaves)
    for size in range(1, 34):
        root = by_definition(leaves[:size])
        for index in range(size):
            proof = prove_inclusion(nodes, index, size)
            assert is_included(leaves[index], index, size, proof, root)
            for other in range(size + 2):
                if other != index:
                    assert not is_included(leaves[index], other, size, proof, root)
            assert not is_included(leaves[index - 1], index, size, proof, root) or size == 1


def test_every_older_tree_is_proved_to_be_the_beginning_of_every_newer_one() -> None:
    leaves = hashes(MOST)
    nodes = Kept(leaves)
    roots = [by_definition(leaves[:size]) for size in range(34)]
    for new in range(34):
        for old in range(new + 1):
            proof = prove_consistency(nodes, old, new)
            assert is_consistent(old, new, roots[old], roots[new], proof)
            if 0 < old < new:
                assert not is_consistent(old, new, roots[old - 1], roots[new], proof)
                assert not is_consistent(old, new, roots[old], roots[new - 1], proof)


def test_no_change_of_a_proof_is_taken_for_one() -> None:
    leaves = hashes(MOST)
    nodes = Kept(leaves)
    draw = random.Random(9162)
    root = by_definition(leaves)
    for _ in range(400):
        index, old = draw.randrange(MOST), draw.randrange(1, MOST)
        included = prove_inclusion(nodes, index, MOST)
        consistent = prove_consistency(nodes, old, MOST)
        assert not is_included(leaves[index], index, MOST, changed(included, draw), root)
        assert not is_consistent(old, MOST, by_definition(leaves[:old]), root, changed(consistent, draw))


def changed(proof: list[bytes], draw: random.Random) -> list[bytes]:
    other = list(proof)
    at = draw.randrange(len(other))
    match draw.randrange(4):
        case 0:
            other[at] = bytes(32)
        case 1:
            del other[at]
        case 2:
            other.insert(at, draw.randbytes(32))
        case _:
            other.append(draw.randbytes(32))
    return other


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 4)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        prove_inclusion(Kept([]), index, size)
    assert not is_included(EMPTY_ROOT, index, size, [], EMPTY_ROOT)


def test_a_tree_that_shrank_has_no_proof() -> None:
    with pytest.raises(ValueError, match="only grows"):
        prove_consistency(Kept([]), 2, 1)
    assert not is_consistent(2, 1, EMPTY_ROOT, EMPTY_ROOT, [])
