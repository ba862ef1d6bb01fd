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
    rows = visitor.tab.locator("[data-key^='block ']")
    newest = rows.first.get_attribute("data-key")
    assert newest is not None
    height = int(newest.removeprefix("block ")) + 1
    with httpx.Client(base_url=visitor.url) as api:
        submit(api)
    visitor.tab.locator(f"[data-key='block {height}']").wait_for()
    visitor.tab.locator("#news", has_text=f"Block {height} was sealed.").wait_for()
    assert visitor.tab.evaluate("window.isSame")


def test_figures_follow(visitor: Visitor) -> None:
    visitor.open("/")
    figure = visitor.tab.locator("dt:has-text('Jobs completed') + dd")
    before = figure.inner_text()
    with httpx.Client(base_url=visitor.url) as api:
        submit(api)
    visitor.tab.locator(f"dt:has-text('Jobs completed') + dd:not(:text-is('{before}'))").wait_for()
