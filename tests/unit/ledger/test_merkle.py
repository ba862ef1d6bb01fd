import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.ledger import merkle

# The inputs and roots with which Certificate Transparency's implementations are tested.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
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


# RFC 9162, section 2.1, word for word and at no speed: independent of the code under test.


def mth(data: Sequence[bytes]) -> bytes:
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = largest_power_of_two_below(len(data))
    return hashlib.sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


def path(m: int, data: Sequence[bytes]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = largest_power_of_two_below(len(data))
    if m < k:
        return [*path(m, data[:k]), mth(data[k:])]
    return [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: Sequence[bytes], b: bool) -> list[bytes]:
    if m == len(data):
        return [] if b else [mth(data)]
    k = largest_power_of_two_below(len(data))
    if m <= k:
        return [*subproof(m, data[:k], b), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


def largest_power_of_two_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


class StoredTree:
    """Keeps what a coordinator would: leaf hashes, and the nodes that the tree gives out."""

    def __init__(self) -> None:
        self.growing = merkle.GrowingTree()
        self.levels: dict[int, dict[int, bytes]] = {0: {}}

    def append(self, data: Sequence[bytes]) -> None:
        leaves = [merkle.leaf_hash(item) for item in data]
        for offset, leaf in enumerate(leaves):
            self.levels[0][self.growing.size + offset] = leaf
        for level, position, node in self.growing.append(leaves):
            assert position not in self.levels.setdefault(level, {})
            self.levels[level][position] = node

    def nodes(self, level: int, start: int, count: int) -> list[bytes]:
        return [self.levels[level][at] for at in range(start, start + count)]


def stored(data: Sequence[bytes], batch: int = 100) -> StoredTree:
    tree = StoredTree()
    for start in range(0, len(data), batch):
        tree.append(data[start : start + batch])
    return tree


def numbers(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_roots_are_those_of_certificate_transparency() -> None:
    for size, root in enumerate(ROOTS, 1):
        assert merkle.root_of([merkle.leaf_hash(data) for data in INPUTS[:size]]).hex() == root


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.GrowingTree().root() == mth([]) == merkle.EMPTY_ROOT


@given(st.lists(st.binary(max_size=8), max_size=700), st.integers(1, 300))
def test_a_tree_that_grows_has_the_root_of_its_leaves(data: list[bytes], batch: int) -> None:
    tree = stored(data, batch)
    assert tree.growing.root() == mth(data)
    assert merkle.stored_root(tree.nodes, len(data)) == mth(data)


@given(st.integers(1, 700), st.data())
def test_inclusion_proofs_are_those_of_the_definition(size: int, draw: st.DataObject) -> None:
    data = numbers(size)
    index = draw.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_path(stored(data).nodes, index, size)
    leaves = [merkle.leaf_hash(item) for item in data]
    assert proof == path(index, data) == merkle.path_in(merkle.levels_of(leaves), index)
    assert merkle.root_by_path(leaves[index], index, size, proof) == mth(data)


@given(st.integers(1, 700), st.data())
def test_consistency_proofs_are_those_of_the_definition(size: int, draw: st.DataObject) -> None:
    data = numbers(size)
    old = draw.draw(st.integers(1, size))
    proof = merkle.consistency_path(stored(data).nodes, old, size)
    assert proof == subproof(old, data, True)
    assert merkle.is_consistent(old, mth(data[:old]), size, mth(data), proof)


@given(st.integers(2, 300), st.data())
def test_a_proof_with_any_part_changed_leads_nowhere(size: int, draw: st.DataObject) -> None:
    data = numbers(size)
    index = draw.draw(st.integers(0, size - 1))
    proof = path(index, data)
    leaf = merkle.leaf_hash(data[index])
    at = draw.draw(st.integers(0, len(proof) - 1))
    bent = [*proof[:at], bytes([proof[at][0] ^ 1]) + proof[at][1:], *proof[at + 1 :]]
    for wrong in (
        merkle.root_by_path(leaf, index, size, bent),
        merkle.root_by_path(leaf, index, size, proof[:-1]),
        merkle.root_by_path(leaf, index, size, [*proof, leaf]),
        merkle.root_by_path(leaf, size, size, proof),
        merkle.root_by_path(leaf, -1, size, proof),
    ):
        assert wrong != mth(data)


@given(st.integers(2, 300), st.data())
def test_a_tree_that_was_changed_is_not_consistent(size: int, draw: st.DataObject) -> None:
    data = numbers(size)
    old = draw.draw(st.integers(1, size - 1))
    proof = subproof(old, data, True)
    changed = [b"changed", *data[1:]]
    assert not merkle.is_consistent(old, mth(changed[:old]), size, mth(data), proof)
    assert not merkle.is_consistent(old, mth(data[:old]), size, mth(changed), proof)
    assert not merkle.is_consistent(old, mth(data[:old]), size, mth(data), proof[:-1])
    assert not merkle.is_consistent(old, mth(data[:old]), size, mth(data), [*proof, mth(data)])


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 65_535, 65_536, 65_700])
def test_a_tree_goes_on_where_the_stored_one_ends(size: int) -> None:
    tree = stored(numbers(size), 5000)
    again = merkle.GrowingTree(size, tree.nodes)
    more = [merkle.leaf_hash(data) for data in numbers(300)]
    assert again.root() == tree.growing.root()
    assert again.append(more) == tree.growing.append(more)
    assert again.root() == tree.growing.root()
