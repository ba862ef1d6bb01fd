"""Every page, as a browser shows it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.e2e.explorer.axe import violations
from tests.e2e.explorer.conftest import Visitor
from tests.e2e.explorer.ledger import Ledger

PAGES = {
    "/": "Overview",
    "/explorer/blocks": "Blocks",
    "/explorer/blocks/{height}": "Block {height}",
    "/explorer/transactions": "Transactions",
    "/explorer/transactions/{transaction}": "Transaction",
    "/explorer/receipts": "Receipts",
    "/explorer/receipts/{receipt}": "Receipt",
    "/explorer/miners": "Miners",
    "/explorer/miners/{miner}": "{miner}",
    "/explorer/addresses/{address}": "Address",
    "/explorer/verify": "Verify a receipt",
}


@pytest.mark.parametrize("path", PAGES)
def test_page_is_for_everybody(visitor: Visitor, ledger: Ledger, path: str) -> None:
    tab = visitor.tab
    assert visitor.open(ledger.fill(path)) == 200
    assert tab.title().startswith(ledger.fill(PAGES[path]))
    assert tab.locator("h1").count() == 1
    assert violations(tab) == []
    # On a phone, in the dark.
    tab.set_viewport_size({"width": 360, "height": 720})
    tab.emulate_media(color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert violations(tab) == []


@pytest.mark.parametrize("path", PAGES)
def test_page_says_the_same_without_javascript(
    browser: Browser, explorer: str, ledger: Ledger, path: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(explorer + ledger.fill(path))
    assert page.locator("h1").count() == 1
    assert page.locator("main button:visible").count() == 0
    page.fill("input[name=q]", ledger.receipt)
    page.press("input[name=q]", "Enter")
    page.wait_for_url(f"**/explorer/receipts/{ledger.receipt}")
    context.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/explorer/blocks/999999", 404),
        ("/explorer/blocks/twelve", 400),
        ("/explorer/transactions/" + "0" * 64, 404),
        ("/explorer/transactions/abc", 400),
        ("/explorer/receipts/rcpt-nothing", 404),
        ("/explorer/addresses/ait1nothing", 400),
        ("/explorer/miners/nobody", 404),
        ("/explorer/nothing", 404),
    ],
)
def test_errors_are_pages(visitor: Visitor, path: str, status: int) -> None:
    assert visitor.open(path) == status
    assert f"{status} · " in visitor.text()
    assert violations(visitor.tab) == []
    # The browser reports the status of the page itself.
    (reported,) = visitor.errors
    assert str(status) in reported
    visitor.errors.clear()


def test_keyboard_gets_past_the_head(visitor: Visitor) -> None:
    visitor.open("/explorer/blocks")
    visitor.tab.keyboard.press("Tab")
    assert visitor.tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    visitor.tab.keyboard.press("Enter")
    visitor.tab.keyboard.press("Tab")
    assert visitor.tab.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_ids_are_copied(visitor: Visitor, ledger: Ledger) -> None:
    visitor.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.open(f"/explorer/transactions/{ledger.transaction}")
    visitor.tab.get_by_role("button", name="Copy the hash of the transaction").click()
    assert visitor.tab.evaluate("navigator.clipboard.readText()") == ledger.transaction


def test_older_pages_are_reached_and_left(visitor: Visitor) -> None:
    visitor.open("/explorer/transactions")
    newest = visitor.tab.locator("tbody tr").first.get_attribute("id")
    visitor.tab.get_by_role("link", name="Older").click()
    visitor.tab.wait_for_url("**/explorer/transactions?page_token=*")
    assert visitor.tab.locator("tbody tr").first.get_attribute("id") != newest
    visitor.tab.get_by_role("link", name="Newest").click()
    visitor.tab.wait_for_url("**/explorer/transactions")
