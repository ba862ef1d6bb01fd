"""The audit finds whatever was changed in a ledger, and names it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from aitbc_server.ledger.audit import Audited, audit
from aitbc_server.ledger.canonical import canonical
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.merkle import leaf_hash
from aitbc_server.store.ledger_file import LedgerFile, open_ledger
from tests.integration.ledger.books import Book

# Everything that is stored of a ledger and of the jobs that it is about, by table.
COLUMNS = {
    "jobs": (
        *("job_id", "owner", "model", "status", "attempt", "miner_id", "started_us"),
        *("finished_us", "prompt_tokens", "completion_tokens", "finish_reason"),
    ),
    "specs": ("job_id", "spec", "prompt_salt"),
    "results": ("job_id", "result", "result_salt", "details"),
    "forgotten": ("leaf_index",),
    "totals": ("jobs", "forgotten"),
    "receipts": ("leaf_index", "job_id", "client", "miner", "leaf_hash", "body"),
    "receipt_batches": ("first_index", "size", "stored_us", "key_number", "signature"),
    "blocks": ("height", "tree_size", "hash", "note"),
    "ledger_keys": ("public_key", "endorsement"),
    "ledger": ("origin",),
}
# What finds a row of a table that has no rowid.
KEYS = {"jobs": "job_id", "totals": "status"}
FLIPS = 2_000


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    """Three blocks by two keys, receipts that no block holds yet, some of forgotten jobs."""
    book = Book(tmp_path_factory.mktemp("book"))
    for number, counts in enumerate([(1, 5), (4,), (3, 1)]):
        for count in counts:
            book.add(count, signed=number != 1)
        book.seal()
        if number == 0:
            book.rotate()
    book.add(2)
    book.forget(2, 7, 8, 15)
    yield book
    book.close()


def audited(book: Book) -> Audited:
    return audit(LedgerFile(book.connection))


@contextmanager
def undone(book: Book) -> Iterator[None]:
    """Takes back what is done to the ledger meanwhile."""
    book.connection.execute("BEGIN")
    try:
        yield
    finally:
        book.connection.execute("ROLLBACK")


def wrong(book: Book) -> str:
    with pytest.raises(LedgerWrong) as caught:
        audited(book)
    return str(caught.value)


def test_an_honest_ledger_is_right(book: Book) -> None:
    done = audited(book)
    assert (done.receipts, done.blocks, done.keys, done.pending) == (16, 3, 2, 2)
    assert done.forgotten == 4
    with open_ledger(book.directory) as ledger:
        assert audit(ledger) == done


def test_any_byte_that_is_flipped_is_found(book: Book) -> None:
    rng = random.Random(20261124)
    book.connection.text_factory = lambda data: data.decode(errors="surrogateescape")
    places = [(table, column) for table, columns in COLUMNS.items() for column in columns]
    for number in range(FLIPS):
        table, column = places[number % len(places)]
        key = KEYS.get(table, "rowid")
        rows = book.connection.execute(
            f"SELECT {key}, CAST({column} AS BLOB), typeof({column}) FROM {table} "
            f"WHERE {column} IS NOT NULL"
        ).fetchall()
        rowid, value, kind = rng.choice(rows)
        with undone(book):
            book.connection.execute("PRAGMA ignore_check_constraints = ON")
            where = f"UPDATE OR IGNORE {table} SET {column} = {{}} WHERE {key} = ?1"
            if kind == "integer":
                flipped: object = int(value) ^ 1 << rng.randrange(24)
                book.connection.execute(where.format("?2"), (rowid, flipped))
            else:
                at = rng.randrange(len(value))
                flipped = value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
                cast = "CAST(?2 AS TEXT)" if kind == "text" else "?2"
                book.connection.execute(where.format(cast), (rowid, flipped))
            (changes,) = book.connection.execute("SELECT changes()").fetchone()
            if changes == 0:
                continue  # it would be the key of another row
            try:
                audited(book)
            except LedgerWrong:
                continue
            pytest.fail(f"{table}.{column} of row {rowid}: {value!r} became {flipped!r}")


def body_of(book: Book, index: int) -> dict[str, object]:
    (body,) = book.connection.execute(
        "SELECT body FROM receipts WHERE leaf_index = ?1", (index,)
    ).fetchone()
    return dict(orjson.loads(body))


def put(book: Book, index: int, body: dict[str, object]) -> None:
    """Replaces a receipt as somebody would who knows the format, but has no key."""
    data = canonical(body)
    book.connection.execute(
        "UPDATE receipts SET body = ?2, leaf_hash = ?3 WHERE leaf_index = ?1",
        (index, data, leaf_hash(data)),
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("completed_at", "2026-01-01T00:00:00Z"),
        ("completed_at", "2100-01-01T00:00:00Z"),
        ("price", "0"),
        ("units", 1),
        ("model", "another"),
    ],
)
def test_a_receipt_that_was_written_anew_is_named(book: Book, field: str, value: object) -> None:
    with undone(book):
        put(book, 3, {**body_of(book, 3), field: value})
        assert wrong(book).startswith("receipts 1 to 5: the coordinator's signature")


def test_a_miners_statement_that_was_changed_is_named(book: Book) -> None:
    with undone(book):
        put(book, 2, {**body_of(book, 2), "result_hash": "00" * 32})
        assert wrong(book) == "receipt 2: the miner's signature does not hold"


def test_a_receipt_that_was_removed_is_named(book: Book) -> None:
    for index in range(16):
        with undone(book):
            book.connection.execute("DELETE FROM receipts WHERE leaf_index = ?1", (index,))
            assert wrong(book).startswith(f"receipt {index}: ")


def test_a_receipt_that_was_removed_and_its_place_closed_is_named(book: Book) -> None:
    with undone(book):
        book.connection.execute("DELETE FROM receipts WHERE leaf_index = 2")
        for index in range(3, 16):
            book.connection.execute(
                "UPDATE receipts SET leaf_index = ?1 - 1 WHERE leaf_index = ?1", (index,)
            )
        assert wrong(book).startswith("receipts 1 to 5: ")


def test_receipts_that_changed_places_are_named(book: Book) -> None:
    with undone(book):
        for old, new in ((1, 99), (3, 1), (99, 3)):
            book.connection.execute(
                "UPDATE receipts SET leaf_index = ?2 WHERE leaf_index = ?1", (old, new)
            )
        assert wrong(book).startswith("receipts 1 to 5: ")


def test_a_receipt_that_stands_twice_is_named(book: Book) -> None:
    with undone(book):
        book.connection.execute(
            "INSERT INTO receipts (leaf_index, job_id, client, miner, leaf_hash, body) "
            "SELECT 16, job_id || 'x', client, miner, zeroblob(32), body FROM receipts "
            "WHERE leaf_index = 0"
        )
        assert wrong(book) == "receipt 16: the coordinator did not sign it"


def test_a_block_that_was_removed_is_named(book: Book) -> None:
    for height in (0, 1):
        with undone(book):
            book.connection.execute("DELETE FROM blocks WHERE height = ?1", (height,))
            assert wrong(book).startswith(f"block {height + 1}: block {height} should come next")


def test_a_block_without_its_receipts_is_named(book: Book) -> None:
    with undone(book):
        for table, column in (("receipts", "leaf_index"), ("receipt_batches", "first_index")):
            book.connection.execute(f"DELETE FROM {table} WHERE {column} >= 10")
        assert wrong(book) == "block 2: the ledger lacks the receipts that it seals"


def test_a_ledger_that_was_cut_off_lacks_the_receipts_of_completed_jobs(book: Book) -> None:
    with undone(book):
        (job_id,) = book.connection.execute(
            "SELECT job_id FROM receipts WHERE leaf_index = 14"
        ).fetchone()
        for table, column in (("receipts", "leaf_index"), ("receipt_batches", "first_index")):
            book.connection.execute(f"DELETE FROM {table} WHERE {column} >= 14")
        assert wrong(book) == f"job {job_id}: it is completed, but has no receipt"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DELETE FROM {table} WHERE job_id = ?1", "its job is missing, and was not forgotten"),
        ("UPDATE jobs SET model = 'n' WHERE job_id = ?1", "its job has another model"),
        ("DELETE FROM specs WHERE job_id = ?1", "its job has no prompt"),
        ("UPDATE specs SET spec = x'78' WHERE job_id = ?1", "its job has another prompt"),
        ("DELETE FROM results WHERE job_id = ?1", "its job has no result"),
        ("UPDATE results SET result = 'x' WHERE job_id = ?1", "its job has another result"),
        ("UPDATE results SET details = NULL WHERE job_id = ?1", "its job has another answer"),
        ("UPDATE jobs SET finish_reason = 'x' WHERE job_id = ?1", "its job has another answer"),
    ],
)
def test_a_job_that_is_not_what_its_receipt_tells_is_named(
    book: Book, change: str, problem: str
) -> None:
    with undone(book):
        (job_id,) = book.connection.execute(
            "SELECT job_id FROM receipts WHERE leaf_index = 5"
        ).fetchone()
        for table in ("jobs", "specs", "results") if "{table}" in change else ("",):
            book.connection.execute(change.format(table=table), (job_id,))
        assert wrong(book) == f"receipt 5: {problem}"


def test_a_ledger_of_before_goes_on_with_receipts_of_version_2(tmp_path: Path) -> None:
    book = Book(tmp_path / "mixed")
    with book.before_version_2():
        book.add(3)
    book.add(2)
    book.seal()
    assert [body_of(book, index).get("version") for index in range(5)] == [None] * 3 + [2] * 2
    assert audited(book).receipts == 5
    change = (
        "UPDATE results SET details = x'78' WHERE job_id = "
        "(SELECT job_id FROM receipts WHERE leaf_index = ?1)"
    )
    with undone(book):
        book.connection.execute(change, (3,))
        assert wrong(book) == "receipt 3: its job has another answer"
    with undone(book):
        # A receipt of version 1 covers the texts alone.
        book.connection.execute(change, (1,))
        assert audited(book).receipts == 5
    early: list[tuple[int, dict[str, object], str]] = [
        (1, {"version": 2}, "answer_hash is missing"),
        (1, {"answer_hash": "00" * 32}, "answer_hash is not of its version"),
        (4, {"miner_signature": {"version": 3}}, "its miner's signature is of another version"),
        (4, {"version": 3}, "it is of version 3, which is not known here"),
    ]
    for index, fields, problem in early:
        with undone(book):
            put(book, index, {**body_of(book, index), **fields})
            assert wrong(book) == f"receipt {index}: {problem}"
    book.close()


def test_what_says_that_a_job_was_forgotten_is_believed_of_no_other(book: Book) -> None:
    with undone(book):
        book.connection.execute("INSERT INTO forgotten VALUES (6)")
        assert wrong(book) == "receipt 6: its job was forgotten, and is there"
    with undone(book):
        book.connection.execute("DELETE FROM forgotten WHERE leaf_index = 7")
        assert wrong(book) == "receipt 7: its job is missing, and was not forgotten"
    with undone(book):
        book.connection.execute("INSERT INTO forgotten VALUES (16)")
        assert wrong(book) == "receipts of forgotten jobs: there are 4, and should be 5"


def test_a_job_without_a_receipt_that_is_missing_is_counted(book: Book) -> None:
    with undone(book):
        book.connection.execute("UPDATE totals SET jobs = 2 WHERE status = 'failed'")
        assert wrong(book) == "failed jobs: there are 0, and should be 2"


def test_a_key_that_nobody_endorsed_is_named(book: Book, tmp_path: Path) -> None:
    other = Book(tmp_path / "other")
    with undone(book):
        book.connection.execute(
            "UPDATE ledger_keys SET public_key = ?1 WHERE number = 1",
            (other.connection.execute("SELECT public_key FROM ledger_keys").fetchone()[0],),
        )
        assert wrong(book) == "key 1: it is not endorsed by the key before it"
    other.close()


def test_a_node_of_a_large_tree_that_was_changed_is_named(tmp_path: Path) -> None:
    book = Book(tmp_path / "large")
    book.add(700)
    book.seal()
    assert audited(book).receipts == 700
    with undone(book):
        book.connection.execute(
            "UPDATE ledger_nodes SET hash = zeroblob(32) WHERE level = 1 AND position = 1"
        )
        assert wrong(book) == "node 1 of level 1: it is wrong"
    with undone(book):
        book.connection.execute("DELETE FROM ledger_nodes WHERE position = 0")
        assert wrong(book) == "node 0 of level 1: it is wrong"
    book.close()
