"""One box for everything that has a name."""

from __future__ import annotations

import pytest

from tests.e2e.explorer.axe import violations
from tests.e2e.explorer.conftest import Visitor
from tests.e2e.explorer.ledger import Ledger


def search(visitor: Visitor, query: str) -> None:
    """Looks for something with the box of the overview."""
    visitor.open("/")
    box = visitor.tab.get_by_role("searchbox", name="Id, hash, height or address")
    box.fill(query)
    with visitor.tab.expect_navigation():
        box.press("Enter")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("{height}", "/explorer/blocks/{height}"),
        ("#{height}", "/explorer/blocks/{height}"),
        ("{block}", "/explorer/blocks/{height}"),
        (" {transaction} ", "/explorer/transactions/{transaction}"),
        ("0x{transaction}", "/explorer/transactions/{transaction}"),
        ("{receipt}", "/explorer/receipts/{receipt}"),
        ("{job}", "/explorer/receipts/{receipt}"),
        ("{miner}", "/explorer/miners/{miner}"),
        ("{address}", "/explorer/addresses/{address}"),
    ],
)
def test_what_is_there_is_found(visitor: Visitor, ledger: Ledger, query: str, path: str) -> None:
    search(visitor, ledger.fill(query))
    assert visitor.tab.url == visitor.url + ledger.fill(path)


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("987654321", 404, "no block of this height"),
        ("f" * 64, 404, "no transaction of this hash"),
        ("job-01m85yht0y2ms01gd3xc59pr0r", 404, "no receipt of this job"),
        ("<b>nobody</b>", 404, "no miner of this id"),
        ("ait1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq", 400, "a character is wrong"),
    ],
)
def test_what_is_not_there_is_said(visitor: Visitor, query: str, status: int, told: str) -> None:
    search(visitor, query)
    assert told in visitor.text()
    assert visitor.tab.locator("input[name=q]").input_value() == query
    assert violations(visitor.tab) == []
    (reported,) = visitor.errors
    assert str(status) in reported
    visitor.errors.clear()
