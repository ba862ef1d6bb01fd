"""Reads cost the same however long the ledger is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import orjson
import pytest

from aitbc_server.domain.receipts import ReceiptRecord
from aitbc_server.ledger.merkle import is_consistent, root_by_path
from aitbc_server.ledger.signing import RECEIPTS, covers
from aitbc_server.store.ledger_reads import END, LedgerReads
from aitbc_server.store.statements import statements
from tests.integration.ledger.books import Book

# Small whatever happens, or ended by the first row.
SHORT = {"origin", "keys", "last_block", "cosignatures"}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    """Receipts of many commits in three blocks, and some in none."""
    book = Book(tmp_path_factory.mktemp("book"))
    for commits in (5, 1, 9):
        for number in range(commits):
            book.add(1 + 37 * number % 100)
        book.seal()
    book.add(3)
    yield book
    book.close()


@pytest.fixture
def reads(book: Book) -> LedgerReads:
    return LedgerReads(book.connection)


@pytest.mark.parametrize(("name", "sql"), statements("ledger_reads.sql").items())
def test_no_read_scans_or_sorts(book: Book, name: str, sql: str) -> None:
    named = dict.fromkeys(re.findall(r":(\w+)", sql))
    values = named or [None] * max([int(n) for n in re.findall(r"\?(\d)", sql)], default=0)
    plan = [row[3] for row in book.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert name in SHORT or not [step for step in plan if step.startswith("SCAN")], plan
    assert not [step for step in plan if "TEMP B-TREE" in step], plan


def everything(reads: LedgerReads) -> list[ReceiptRecord]:
    return reads.receipts(first=0, before=END, limit=10**6, client=None, miner=None)


def test_every_receipt_has_its_signature_and_its_proof(reads: LedgerReads) -> None:
    records = everything(reads)
    last = reads.last_block()
    assert last is not None
    assert [record.leaf_index for record in records] == list(range(reads.size() - 1, -1, -1))
    roots: dict[int, bytes] = {}
    for record in records:
        assert covers(reads.signature(record.leaf_index), RECEIPTS, record.leaf_hash)
        block = reads.block_of(record.leaf_index)
        if block is None:
            assert record.leaf_index >= last.tree_size
            continue
        assert (record.block_height, record.block_hash) == (block.height, block.hash)
        path = reads.inclusion(record.leaf_index, block.tree_size)
        root = root_by_path(record.leaf_hash, record.leaf_index, block.tree_size, path)
        assert root is not None
        assert roots.setdefault(block.tree_size, root) == root
    sizes = sorted(roots)
    for old, new in pairwise(sizes):
        assert is_consistent(old, roots[old], new, roots[new], reads.consistency(old, new))


def test_pages_hold_what_an_address_pays_or_is_paid(reads: LedgerReads) -> None:
    records = everything(reads)
    parties = [(b'"client":"%s"', "client"), (b'"miner":"%s"', "miner")]
    for form, name in parties:
        address = orjson.loads(records[0].body)[name]
        expected = [r.leaf_index for r in records if form % address.encode() in r.body]
        found = reads.receipts_of(address, first=0, before=END, limit=10**6)
        assert [record.leaf_index for record in found] == expected
        page = reads.receipts_of(address, first=0, before=expected[2], limit=2)
        assert [record.leaf_index for record in page] == expected[3:5]
