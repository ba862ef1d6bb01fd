"""What happens is shown without reloading."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.explorer.conftest import Visitor
from tests.e2e.jobs import submit


@pytest.mark.parametrize("path", ["/", "/explorer/blocks"])
def test_new_block_appears(visitor: Visitor, path: str) -> None:
    visitor.open(path)
    visitor.tab.evaluate("window.isSame = true")
    row = visitor.tab.locator("tr[id^='block-']").first
    newest = row.get_attribute("id")
    assert newest is not None
    height = int(newest.removeprefix("block-")) + 1
    # Who stands in a row stays in it, though another comes before it.
    row.locator("a").focus()
    with httpx.Client(base_url=visitor.url) as api:
        submit(api)
    visitor.tab.locator(f"#block-{height}").wait_for()
    assert visitor.tab.evaluate("document.activeElement.closest('tr').id") == newest
    visitor.tab.locator("#news", has_text=f"Block {height} was sealed.").wait_for()
    assert visitor.tab.evaluate("window.isSame")


def test_server_tells_of_a_new_block(visitor: Visitor) -> None:
    # No timer runs in this tab, so that it does not ask by itself.
    visitor.tab.clock.install()
    with visitor.tab.expect_response("**/explorer/blocks:watch"):
        visitor.open("/explorer/blocks")
    visitor.tab.evaluate(
        "document.body.addEventListener('block', () => document.body.classList.add('told'))"
    )
    with httpx.Client(base_url=visitor.url) as api:
        submit(api)
    visitor.tab.locator("body.told").wait_for()


def test_figures_follow(visitor: Visitor) -> None:
    visitor.open("/")
    figure = visitor.tab.locator("dt:has-text('Jobs completed') + dd")
    before = figure.inner_text()
    with httpx.Client(base_url=visitor.url) as api:
        submit(api)
    visitor.tab.locator(f"dt:has-text('Jobs completed') + dd:not(:text-is('{before}'))").wait_for()
