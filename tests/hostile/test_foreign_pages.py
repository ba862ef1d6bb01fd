"""Pages of other sites, in a real browser, against a coordinator that asks nobody for a key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.browser import chromium

# The names that an attacker owns lead here.
RULES = "MAP evil.test 127.0.0.1, MAP rebind.test 127.0.0.1"
JOB = '{"prompt":"from a page","model":"m"}'
HOOK = '{"url":"https://example.com/collect","events":["job.completed"]}'
MINER = '{"miner_id":"evil-page","capabilities":["m"]}'
# Every way to send a body without a preflight, and some with.
ATTACK = """
async (target) => {
  const said = [];
  const told = async (answer) => {
    const kind = answer.headers.get("content-type") || "";
    if (!kind.includes("grpc-web")) return answer.status;
    const text = await answer.text();
    return (kind.includes("text") ? atob(text) : text).includes("grpc-status: 7") ? 403 : 200;
  };
  const bytes = (text) => new TextEncoder().encode(text);
  const bodies = (text) => [
    new Blob([text]), bytes(text).buffer, text, new URLSearchParams(text),
    ...["json", "connect+json", "grpc-web+json", "grpc-web-text+json"].map(
      (kind) => new Blob([text], {type: "application/" + kind})),
  ];
  for (const [path, text] of %s)
    for (const body of bodies(text))
      for (const mode of ["no-cors", "cors"]) {
        try {
          const answer = await fetch(target + path, {method: "POST", mode, body});
          said.push(await told(answer));
        } catch (error) { said.push(0); }
      }
  for (const path of %s) {
    try { said.push((await fetch(target + path)).status); } catch (error) { said.push(0); }
  }
  navigator.sendBeacon(target + "/v1/jobs", new Blob(['%s']));
  return said;
}
"""
ATTACKS = [
    *(["/v1/jobs", JOB], ["/v1/webhooks", HOOK], ["/v1/miners/register", MINER]),
    ["/aitbc.v1.JobService/SubmitJob", JOB],
    ["/aitbc.v1.WebhookService/CreateWebhook", HOOK],
    ["/aitbc.v1.MinerService/RegisterMiner", MINER],
]
QUERY = "?connect=v1&encoding=json&message={}"
READS = [
    *("/v1/jobs", "/v1/miners", "/v1/webhooks"),
    *(
        f"/aitbc.v1.{name}{QUERY}"
        for name in ("JobService/ListJobs", "WebhookService/ListWebhooks")
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Returns a browser for which the names of attackers lead to this machine."""
    with chromium(f"--host-resolver-rules={RULES}") as launched:
        yield launched


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>evil</title>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """Returns the port of an attacker's site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def attack(browser: Browser, page: str, target: str) -> list[int]:
    """Returns the statuses that a page is told, 0 where it is told nothing."""
    tab = browser.new_context().new_page()
    tab.goto(page)
    said: list[int] = tab.evaluate(ATTACK % (str(ATTACKS), str(READS), JOB), target)
    tab.close()
    return said


def assert_untouched(coordinator: Coordinator) -> None:
    with httpx.Client(base_url=coordinator.url) as api:
        assert api.get("/v1/jobs").json()["jobs"] == []
        assert api.get("/v1/miners").json()["miners"] == []
        assert api.get("/v1/webhooks").json()["webhooks"] == []


def test_a_page_of_another_site_can_do_nothing(
    launcher: Launcher, browser: Browser, site: int
) -> None:
    coordinator = launcher.coordinator()
    for name in ("evil.test", "localhost", "127.0.0.1"):
        said = attack(browser, f"http://{name}:{site}/", coordinator.url)
        assert set(said) == {0}, said
    assert_untouched(coordinator)


def test_a_name_that_leads_here_now_can_do_nothing(launcher: Launcher, browser: Browser) -> None:
    coordinator = launcher.coordinator()
    own = f"http://rebind.test:{coordinator.http.rpartition(':')[2]}"
    said = attack(browser, f"{own}/health", own)
    assert set(said) <= {0, 403}, said
    assert said[-len(READS) :] == [403] * len(READS)
    assert_untouched(coordinator)


def test_pages_of_sites_that_are_named_may_submit_but_not_listen_in(
    launcher: Launcher, browser: Browser, site: int
) -> None:
    page = f"http://evil.test:{site}"
    coordinator = launcher.coordinator(env=CLEAN_ENV | {"AITBC_CORS_ORIGINS": page})
    tab = browser.new_context().new_page()
    tab.goto(page)
    post = """([url, body]) => fetch(url, {method: "POST", body,
        headers: {"content-type": "application/json"}}).then(answer => answer.status)"""
    assert tab.evaluate(post, [f"{coordinator.url}/v1/jobs", JOB]) == 201
    assert tab.evaluate(post, [f"{coordinator.url}/v1/webhooks", HOOK]) == 403
    service = f"{coordinator.url}/aitbc.v1."
    assert tab.evaluate(post, [f"{service}JobService/SubmitJob", JOB]) == 200
    assert tab.evaluate(post, [f"{service}WebhookService/CreateWebhook", HOOK]) == 403
    tab.close()


def test_a_body_needs_a_type(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()

    with httpx.Client(base_url=coordinator.url) as api:
        typed = {"content-type": "application/json"}
        submitted = api.post("/v1/jobs", content=JOB, headers=typed)
        assert submitted.status_code == 201
        assert api.post("/v1/jobs", content=JOB).status_code == 415
        # There is nothing to have a type.
        assert api.post(f"/v1/jobs/{submitted.json()['job_id']}/cancel").status_code == 200
