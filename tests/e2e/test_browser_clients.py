"""A page of another origin, in a real browser, with the clients that people install for pages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.browser import chromium, site
from tests.e2e.keys import create_key
from tests.e2e.test_connect_clients import SEEN, TEXT, described
from tests.e2e.test_gateway import start_gateway

MODELS = {"model": "fast", "slowModel": "slow"}
PATIENCE_S = 20


class App:
    """A page, and whom it calls."""

    def __init__(self, page: Page, url: str, key: str) -> None:
        self._page = page
        self.url = url
        self.key = key

    def run(self, name: str, *arguments: Any) -> Any:
        """Returns what a function of the page's script does."""
        script = f"async (given) => (await import('/browser_clients.mjs')).{name}(...given)"
        return self._page.evaluate(script, [self.url, self.key, *arguments])


@pytest.fixture(scope="module", params=["coordinator", "gateway"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    directory = tmp_path_factory.mktemp("app")
    launcher = Launcher(directory)
    described(directory)
    with site(directory) as origin, chromium() as browser:
        named = {"AITBC_CORS_ORIGINS": origin}
        coordinator = launcher.coordinator("--auth", "required", env=CLEAN_ENV | named)
        miners = create_key(coordinator.data, "miner")
        slow = ("--engine-opt", "tokens_per_second=5")
        launcher.miner(coordinator, "--api-key", miners, miner_id="fast", models=["fast"])
        launcher.miner(coordinator, "--api-key", miners, *slow, miner_id="slow", models=["slow"])
        url = coordinator.url
        if request.param == "gateway":
            url = "http://" + start_gateway(
                coordinator, launcher, directory / "gateway.log", **named
            )
        page = browser.new_page()
        page.goto(origin)
        yield App(page, url, create_key(coordinator.data, "client"))
        launcher.close()


def test_a_page_calls_over_connect_and_grpc_web(app: App) -> None:
    seen = app.run("connect", MODELS)
    assert len(seen) == 3
    for name, one in seen.items():
        assert one == SEEN, name


@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_page_calls_with_googles_client(app: App, form: str) -> None:
    seen = app.run("grpcWeb", "fast", form)
    assert seen == {"text": TEXT, "result": TEXT, "code": 5, "message": "Job not found"}


def test_a_page_calls_with_openais_client(app: App) -> None:
    seen = app.run("openai", MODELS)
    answer = "one two three"
    assert seen["whole"] == seen["streamed"] == answer
    assert seen["models"] == ["fast", "slow"]
    assert seen["wrong"] == [404, "model_not_found"]
    # What the page left behind it is over.
    with httpx.Client(base_url=app.url, headers={"x-api-key": app.key}) as api:
        ends = time.monotonic() + PATIENCE_S
        while api.get("/v1/jobs", params={"status": "running"}).json()["jobs"]:
            assert time.monotonic() < ends, "a stream that was left still runs"


def test_a_page_without_the_right_key_is_told_so(app: App) -> None:
    stranger = App(app._page, app.url, "aitbc_wrong_wrong")
    with pytest.raises(Exception, match="unauthenticated"):
        stranger.run("connect", MODELS)
