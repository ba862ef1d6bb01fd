"""Rows for set-based statements: one JSON array, and one blob that its rows point into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson


def json_rows(rows: Sequence[Any]) -> str:
    """Returns what a statement reads with `json_each`."""
    return orjson.dumps(rows).decode()


def packed(blobs: Iterable[bytes]) -> tuple[list[tuple[int, int]], bytes]:
    """Returns the blobs as one, and the offset and length of each."""
    offsets, start, parts = [], 0, []
    for blob in blobs:
        parts.append(blob)
        offsets.append((start, len(blob)))
        start += len(blob)
    return offsets, b"".join(parts)
