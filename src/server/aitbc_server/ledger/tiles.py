"""The paths of tiles (https://c2sp.org/tlog-tiles): which hashes or entries each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from aitbc_server.ledger.merkle import TILE_HEIGHT, TILE_WIDTH

_TILE = re.compile(
    r"/tile/(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<number>(?:x[0-9]{3}/){0,4}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)
# Level of a path that asks for entries instead of hashes.
ENTRIES = "entries"


class Tile(NamedTuple):
    """A tile, whole or of its first hashes."""

    # Level of its hashes; None for one of entries, which stand at level 0.
    level: int | None
    number: int
    width: int

    @property
    def start(self) -> int:
        """Position of its first hash in its level."""
        return self.number * TILE_WIDTH

    def is_in(self, tree_size: int) -> bool:
        """Says whether a tree of that size has all of it."""
        return self.start + self.width <= tree_size >> TILE_HEIGHT * (self.level or 0)


def parse_tile(path: str) -> Tile | None:
    """Returns the tile at a path, or None."""
    match = _TILE.fullmatch(path)
    if match is None:
        return None
    number = int(match["number"].replace("x", "").replace("/", ""))
    width = int(match["width"]) if match["width"] else TILE_WIDTH
    is_whole = match["width"] is None
    if (not is_whole and width >= TILE_WIDTH) or tile_number(number) != match["number"]:
        return None
    return Tile(None if match["level"] == ENTRIES else int(match["level"]), number, width)


def tile_path(level: int | str, number: int, width: int = TILE_WIDTH) -> str:
    """Returns the path of a tile."""
    path = f"/tile/{level}/{tile_number(number)}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def tile_number(number: int) -> str:
    """Returns a number as paths write it, such as `x001/x234/067`."""
    parts = [f"{number % 1000:03}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03}")
    return "/".join(reversed(parts))


def bundle(entries: Iterable[bytes]) -> bytes:
    """Returns entries as a bundle holds them: each after its length in two bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unbundle(data: bytes) -> list[bytes]:
    """Returns the entries of a bundle. Raises ValueError when it is cut off."""
    entries, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or at + 2 > len(data):
            raise ValueError("is cut off")
        entries.append(data[at + 2 : end])
        at = end
    return entries
