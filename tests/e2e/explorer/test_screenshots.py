"""The pictures of the documentation are of the explorer as it is.

`pytest tests/e2e/explorer/test_screenshots.py --screenshots` writes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, ViewportSize
from scripts.processes import ROOT

from tests.e2e.explorer.ledger import Ledger

IMAGES = ROOT / "docs" / "images"
MAX_BYTES = 150_000
DESKTOP = ViewportSize(width=1200, height=900)
PHONE = ViewportSize(width=390, height=844)


def verified(page: Page) -> None:
    """Presses the button of a receipt, and waits for the verdict."""
    page.get_by_role("button", name="Verify in your browser").click()
    page.locator(".verdict.passed").wait_for()
    page.mouse.move(0, 0)


class Shot(NamedTuple):
    path: str
    size: ViewportSize = DESKTOP
    scheme: Literal["light", "dark"] = "light"
    prepare: Callable[[Page], None] = lambda page: None


SHOTS = {
    "explorer-overview": Shot("/"),
    "explorer-receipt": Shot("/explorer/receipts/{receipt}", prepare=verified),
    "explorer-phone": Shot("/", size=PHONE, scheme="dark"),
}


@pytest.mark.parametrize("name", SHOTS)
def test_picture_is_of_the_explorer_as_it_is(
    browser: Browser,
    explorer: str,
    ledger: Ledger,
    pytestconfig: pytest.Config,
    tmp_path: Path,
    name: str,
) -> None:
    shot = SHOTS[name]
    folder = IMAGES if pytestconfig.getoption("screenshots") else tmp_path
    context = browser.new_context(viewport=shot.size, color_scheme=shot.scheme)
    page = context.new_page()
    page.goto(explorer + ledger.fill(shot.path))
    page.evaluate("document.fonts.ready")
    shot.prepare(page)
    file = folder / f"{name}.png"
    page.screenshot(path=file, animations="disabled")
    context.close()
    assert file.stat().st_size < MAX_BYTES


def test_every_picture_is_shown() -> None:
    pictures = {file.name for file in IMAGES.glob("explorer-*.png")}
    assert pictures == {f"{name}.png" for name in SHOTS}
    shown = (ROOT / "docs/how-to/explore.md").read_text()
    assert all(f"../images/{name}" in shown for name in pictures)
