"""Asks axe (https://github.com/dequelabs/axe-core) what of a page some people cannot use."""

from __future__ import annotations

from playwright.sync_api import Page
from scripts.processes import ROOT

_AXE = (ROOT / "tests/e2e/node/node_modules/axe-core/axe.min.js").read_text


def violations(page: Page) -> list[str]:
    """Returns what axe finds wrong with the page as it is now."""
    if not page.evaluate("'axe' in window"):
        # Evaluated by the debugger, which the page's content policy does not bind.
        page.evaluate(_AXE())
    # What passes is not looked at, which saves most of the time.
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{violation['id']}: {violation['help']}: {node['html']}: {node['failureSummary']}"
        for violation in found
        for node in violation["nodes"]
    ]
