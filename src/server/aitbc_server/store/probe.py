"""A write that changes nothing, to learn whether the disk takes writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aitbc_server.store.connection import sqlite3
from aitbc_server.store.writer import Writes

# "aitb": marks the file as ours, and is written again by every probe.
_APPLICATION_ID = 0x61697462


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks for such a write."""


class ProbeWrites:
    """The part of the writer that probes are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.writes: Writes = {Probe: self._probe}

    def _probe(self, operations: Sequence[Probe]) -> Sequence[None]:
        self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        return [None] * len(operations)
