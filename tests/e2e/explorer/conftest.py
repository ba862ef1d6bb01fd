"""A browser, and a coordinator with an hour of history for it to look at."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    sync_playwright,
)
from scripts.processes import READY, Coordinator, Program

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.explorer.ledger import Ledger
from tests.e2e.explorer.miners import MINERS

# What a page may take to do something that a test waits for.
PATIENCE_MS = 20_000


class Visitor:
    """A tab of the browser, which notes what must not happen in it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.tab: Page = context.new_page()
        self.tab.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.requested: list[str] = []
        self.tab.on("console", self._heard)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("request", self._saw)

    def open(self, path: str) -> int:
        """Goes to a page; returns its HTTP status."""
        response = self.tab.goto(self.url + path)
        assert response is not None
        return response.status

    def text(self) -> str:
        """Returns the visible text of the page's main part."""
        return self.tab.inner_text("main")

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.text} at {message.location['url']}")

    def _saw(self, request: Request) -> None:
        self.requested.append(request.url)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Not kept longer: no other event loop runs while its library is there."""
    program = shutil.which("chromium")
    assert program is not None, "chromium is missing: `make test` installs it"
    with sync_playwright() as library:
        browser = library.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a coordinator with an hour of history, three miners, and blocks within a moment."""
    directory = tmp_path_factory.mktemp("explorer")
    launcher = Launcher(directory)
    demo = [sys.executable, "-m", "tests.e2e.explorer.demo", "--data", str(directory / "data")]
    program = launcher.own(Program(demo, log=directory / "demo.log", env=CLEAN_ENV))
    try:
        ready = program.wait_for_line(READY, timeout_s=60)
        coordinator = Coordinator(
            program=program, http=ready["http"], grpc=ready["grpc"], data=directory / "data"
        )
        for miner_id, models in MINERS.items():
            launcher.miner(coordinator, miner_id=miner_id, models=models)
        program.wait_for_line("history written", timeout_s=120)
        yield coordinator.url
    finally:
        launcher.close()


@pytest.fixture(scope="package")
def ledger(explorer: str) -> Ledger:
    """What the ledger holds when the tests begin."""
    return Ledger.of(explorer)


@pytest.fixture
def visitor(browser: Browser, explorer: str) -> Iterator[Visitor]:
    """A visitor in whose tab no error may happen, and from whose tab nothing may go elsewhere."""
    context = browser.new_context()
    visitor = Visitor(context, explorer)
    yield visitor
    context.close()
    assert visitor.errors == []
    elsewhere = [url for url in visitor.requested if not url.startswith(f"{explorer}/")]
    assert elsewhere == []
