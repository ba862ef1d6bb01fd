"""Merkle trees by RFC 9162, section 2.1: hashes, roots, proofs, and a tree that grows.

Of a large tree only some nodes are kept: those whose height is a multiple of 8, the levels of
https://c2sp.org/tlog-tiles. Any proof needs at most 255 hashes of each level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

_sha256 = hashlib.sha256
EMPTY_ROOT = _sha256().digest()
# Height of a tile, and the hashes in a whole one.
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT

# Hashes of a level, from a position, so many: level 0 are leaves, a node of level n covers
# 256**n of them.
Nodes = Callable[[int, int, int], Sequence[bytes]]


def leaf_hash(data: bytes) -> bytes:
    """Returns the hash of a leaf."""
    return _sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns the hash of an inner node."""
    return _sha256(b"\1" + left + right).digest()


def levels_of(hashes: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Returns every level of a small tree, from its leaf hashes to its root."""
    levels = [hashes]
    while len(hashes) > 1:
        above = [
            _sha256(b"\1" + hashes[at] + hashes[at + 1]).digest()
            for at in range(0, len(hashes) - 1, 2)
        ]
        if len(hashes) % 2:
            above.append(hashes[-1])
        levels.append(above)
        hashes = above
    return levels


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Returns the root of a small tree from its leaf hashes."""
    return levels_of(hashes)[-1][0] if hashes else EMPTY_ROOT


def path_in(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """Returns the inclusion proof of a leaf in a small tree."""
    path = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index >>= 1
    return path


def root_by_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Returns the root that an inclusion proof leads to, or None when it does not fit the tree."""
    if not 0 <= index < size:
        return None
    last, root = size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            root = node_hash(sibling, root)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        index >>= 1
        last >>= 1
    return root if last == 0 else None


def is_consistent(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Says whether a consistency proof shows that the new tree begins with the old one."""
    if not 0 < old_size <= new_size:
        return False
    if old_size == new_size:
        return not path and old_root == new_root
    nodes = list(path)
    if old_size & (old_size - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at >>= 1
        last >>= 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            new = node_hash(new, node)
        at >>= 1
        last >>= 1
    return last == 0 and old == old_root and new == new_root


def inclusion_path(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """Returns the inclusion proof of a leaf of a stored tree."""
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_root_between(nodes, middle, end))
            end = middle
        else:
            path.append(_root_between(nodes, start, middle))
            start = middle
    return path[::-1]


def consistency_path(nodes: Nodes, old_size: int, new_size: int) -> list[bytes]:
    """Returns the proof that a stored tree of the new size begins with that of the old one."""
    if not 0 < old_size <= new_size:
        raise ValueError(f"no tree of {old_size} leaves precedes one of {new_size}")
    path, start, end = [], 0, new_size
    while end > old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_root_between(nodes, middle, end))
            end = middle
        else:
            path.append(_root_between(nodes, start, middle))
            start = middle
    if start > 0:
        path.append(_root_between(nodes, start, end))
    return path[::-1]


def stored_root(nodes: Nodes, size: int) -> bytes:
    """Returns the root of a stored tree."""
    return _root_between(nodes, 0, size) if size else EMPTY_ROOT


def _split(size: int) -> int:
    """Returns the largest power of two smaller than the size."""
    return 1 << (size - 1).bit_length() - 1


def _root_between(nodes: Nodes, start: int, end: int) -> bytes:
    size = end - start
    if size & (size - 1):
        middle = start + _split(size)
        return node_hash(_root_between(nodes, start, middle), _root_between(nodes, middle, end))
    level, rest = divmod(size.bit_length() - 1, TILE_HEIGHT)
    return root_of(nodes(level, start >> level * TILE_HEIGHT, 1 << rest))


class GrowingTree:
    """The right edge of a tree: what is needed to append to it and to know its root."""

    def __init__(self, size: int = 0, nodes: Nodes | None = None) -> None:
        """Begins empty, or where a stored tree of that size ends."""
        self.size = size
        # Of each level, the hashes of its last tile that is not whole.
        self._edge: list[list[bytes]] = []
        while nodes is not None and size:
            count = size % TILE_WIDTH
            self._edge.append(list(nodes(len(self._edge), size - count, count)) if count else [])
            size >>= TILE_HEIGHT

    def append(self, leaves: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
        """Appends leaf hashes; returns (level, position, hash) of each new node to be kept."""
        made = list(self._grow(0, self.size, leaves))
        self.size += len(leaves)
        return made

    def root(self) -> bytes:
        """Returns the root."""
        root: bytes | None = None
        for hashes in self._edge:
            for peak in _peaks(hashes):
                root = peak if root is None else node_hash(peak, root)
        return EMPTY_ROOT if root is None else root

    def _grow(
        self, level: int, start: int, hashes: Sequence[bytes]
    ) -> Iterator[tuple[int, int, bytes]]:
        if level == len(self._edge):
            self._edge.append([])
        edge = self._edge[level]
        position = start - len(edge) >> TILE_HEIGHT
        edge.extend(hashes)
        whole = len(edge) // TILE_WIDTH
        if not whole:
            return
        above = [root_of(edge[at * TILE_WIDTH : (at + 1) * TILE_WIDTH]) for at in range(whole)]
        del edge[: whole * TILE_WIDTH]
        for offset, hash_ in enumerate(above):
            yield level + 1, position + offset, hash_
        yield from self._grow(level + 1, position, above)


def _peaks(hashes: Sequence[bytes]) -> Iterator[bytes]:
    """Yields the roots of the perfect trees that the hashes fall into, from the right."""
    end = len(hashes)
    while end:
        size = end & -end
        yield root_of(hashes[end - size : end])
        end -= size
