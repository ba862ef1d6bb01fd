"""Whatever happens to transactions and processes, what is stored is a ledger that verifies."""

from __future__ import annotations

import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc_server.ledger.audit import audit
from aitbc_server.ledger.keys import DIRECTORY, LedgerKeyMissingError
from aitbc_server.store.ledger_file import LedgerFile
from tests.integration.ledger.books import Book

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "add", "add", "add undone", "seal", "seal undone", "restart", "rotate"]
        ),
        st.integers(1, 300),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_any_course_of_events_leaves_a_ledger_that_verifies(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as directory:
        book = Book(Path(directory), block_receipts=400)
        stored = 0
        for number, (step, count) in enumerate(steps):
            if step == "add":
                book.add(count)
                stored += count
            elif step == "add undone":
                book.add(count, undone=True)
            elif step == "rotate":
                book.rotate()
            elif step == "restart":
                book.close()
                book = Book(Path(directory), block_receipts=400, seed=number + 2)
            else:
                book.seal(undone=step == "seal undone")
        book.seal()
        done = audit(LedgerFile(book.connection))
        assert (done.receipts, done.pending) == (stored, 0)
        book.close()


def test_the_first_start_makes_a_key_for_its_owner_alone(tmp_path: Path) -> None:
    book = Book(tmp_path)
    keys = tmp_path / DIRECTORY
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert [(file.name, stat.S_IMODE(file.stat().st_mode)) for file in keys.iterdir()] == [
        ("0001.pem", 0o600)
    ]
    name = book.writes.origin
    book.close()
    again = Book(tmp_path)
    assert again.writes.origin == name
    assert len(list(keys.iterdir())) == 1
    again.close()


def test_a_ledger_without_its_key_is_not_continued(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.add(1)
    book.close()
    (tmp_path / DIRECTORY / "0001.pem").rename(tmp_path / "away.pem")
    with pytest.raises(LedgerKeyMissingError, match="ledger-keys"):
        Book(tmp_path)
    # Nor is another key made that would stand in the way of the right one.
    assert list((tmp_path / DIRECTORY).iterdir()) == []
    (tmp_path / "away.pem").rename(tmp_path / DIRECTORY / "0001.pem")
    Book(tmp_path).close()
