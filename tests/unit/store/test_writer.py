"""Writes share a commit, and fail alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aitbc_server.domain.errors import BlockNotFound, StorageUnavailable
from aitbc_server.store.connection import connect, sqlite3
from aitbc_server.store.writer import EmptyLog, Writer, Writes


@dataclass(frozen=True)
class Keep:
    """Stores a number, or raises what stands in its place."""

    value: Any


class Kept:
    """The part that stores them; all or nothing, in the middle of a set."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value INTEGER PRIMARY KEY) STRICT")
        self._connection = connection
        self.writes: Writes = {Keep: self._keep}
        self.batches: list[int] = []

    def _keep(self, operations: Sequence[Keep]) -> Sequence[Any]:
        self.batches.append(len(operations))
        for operation in operations:
            if isinstance(operation.value, BaseException):
                raise operation.value
            self._connection.execute("INSERT INTO kept VALUES (?)", (operation.value,))
        return [operation.value for operation in operations]


class Bench:
    """A writer, and what is on disk."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self.connection = connection
        self.part = Kept(connection)
        self.writer = Writer(connection, [self.part])

    def keep(self, *values: Any) -> Sequence[Any]:
        """Writes in one batch; returns the answers."""
        return self.writer.run([Keep(value) for value in values])

    @property
    def kept(self) -> list[int]:
        """What another process reads."""
        with closing(connect(self._path, read_only=True)) as other:
            return [row[0] for row in other.execute("SELECT value FROM kept ORDER BY value")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    path = tmp_path / "kept.db"
    with closing(connect(path)) as connection:
        yield Bench(path, connection)


@pytest.mark.parametrize(
    "bad",
    [
        BlockNotFound(),
        ValueError("a bug"),
        KeyboardInterrupt(),
        10**30,
        "no number",
        # Twice the same.
        1,
    ],
    ids=repr,
)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_that_cannot_be_applied_fails_alone(bench: Bench, bad: object, place: int) -> None:
    bench.keep(1)
    good = [2, 3, 4, 5, 6, 7]
    answers = bench.keep(*good[:place], bad, *good[place:])
    assert isinstance(answers[place], BaseException)
    assert not isinstance(answers[place], StorageUnavailable)
    assert [*answers[:place], *answers[place + 1 :]] == good
    assert bench.kept == [1, *good]


def test_what_two_bad_ones_raise_does_not_mix(bench: Bench) -> None:
    answers = bench.keep(ValueError("one"), 2, KeyError("two"))
    assert [str(answer) for answer in answers] == ["one", "2", "'two'"]
    assert answers[0].__context__ is None
    assert answers[2].__context__ is None
    assert bench.kept == [2]


def test_a_bad_one_is_found_in_few_commits(bench: Bench) -> None:
    answers = bench.keep(*range(500), ValueError("bad"), *range(500, 1000))
    assert sum(isinstance(answer, ValueError) for answer in answers) == 1
    assert len(bench.part.batches) < 25
    assert bench.kept == list(range(1000))


def test_for_want_of_memory_it_may_be_tried_again(bench: Bench) -> None:
    bad, good = bench.keep(MemoryError(), 1)
    assert isinstance(bad, StorageUnavailable)
    assert (good, bench.kept) == (1, [1])


def test_a_full_disk_refuses_the_whole_batch_each_with_its_own_error(bench: Bench) -> None:
    pages = bench.connection.execute("PRAGMA page_count").fetchone()[0]
    bench.connection.execute(f"PRAGMA max_page_count = {pages}")
    answers = bench.keep(*range(2000))
    assert all(isinstance(answer, StorageUnavailable) for answer in answers)
    assert len({id(answer) for answer in answers}) == 2000
    # Not tried again in parts.
    assert bench.part.batches == [2000]
    assert bench.kept == []
    bench.connection.execute("PRAGMA max_page_count = 1000000")
    assert bench.keep(1) == [1]


def test_what_is_committed_is_not_refused_because_the_log_cannot_be_copied(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Writer, "_checkpoint", fails)
    monkeypatch.setattr("aitbc_server.store.writer.empty_log", fails)
    assert bench.keep(1, 2) == [1, 2]
    assert bench.writer.run([Keep(3), EmptyLog()]) == [3, False]
    assert bench.kept == [1, 2, 3]


def test_a_transaction_that_was_left_open_does_not_block_the_next(bench: Bench) -> None:
    bench.connection.execute("BEGIN IMMEDIATE")
    bench.connection.execute("INSERT INTO kept VALUES (7)")
    assert bench.keep(1) == [1]
    assert bench.kept == [1]
