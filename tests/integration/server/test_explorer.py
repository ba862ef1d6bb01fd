"""The explorer over HTTP: who gets pages, and what every answer carries."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.integration.server.harness import PATIENCE_S, coordinator

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = "<script>alert('model')</script>"


PROMPT, RESULT = "what nobody else may read", "what nobody else may know"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    data: Path = tmp_path_factory.mktemp("explorer")
    async with coordinator(data, ledger_block_seconds=0.1) as client:
        url = f"http://127.0.0.1:{client.coordinator.http_port}"
        async with httpx.AsyncClient(base_url=url) as web:
            for number in range(60):
                miner = {"miner_id": f"miner:{number:03}", "capabilities": [HOSTILE]}
                assert (await web.post("/v1/miners/register", json=miner)).status_code == 201
            sealed = await web.send(
                web.build_request("GET", "/explorer/blocks:watch", params={"after_height": -1}),
                stream=True,
            )
            async with client.miner("miner:000", window=30) as worker:
                for _ in range(30):
                    await client.submit(PROMPT)
                for assignment in await worker.assignments(30):
                    await worker.complete(assignment.lease_id, RESULT)
                async with asyncio.timeout(PATIENCE_S):
                    await anext(sealed.aiter_lines())
            await sealed.aclose()
            yield web


@pytest.mark.parametrize("path", ["/", "/explorer", "/explorer/", "/explorer/miners"])
async def test_browsers_get_a_page(web: httpx.AsyncClient, path: str) -> None:
    page = await web.get(path, headers=BROWSER)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Accept" in page.headers["vary"].split(", ")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    head = await web.head(path, headers=BROWSER)
    assert head.status_code == 200
    assert head.content == b""


@pytest.mark.parametrize("path", ["/", "/explorer/miners", "/explorer/nothing", "/api/explorer"])
async def test_programs_get_json_where_browsers_get_pages(
    web: httpx.AsyncClient, path: str
) -> None:
    answer = await web.get(path)
    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code == 404
    assert answer.json()["error_code"] == "ROUTE_NOT_FOUND"


async def test_every_page_leads_only_to_pages_and_shows_nothing_private(
    web: httpx.AsyncClient,
) -> None:
    start = httpx.URL(web.base_url)
    to_visit, seen = [start], {start}
    while to_visit:
        page = await web.get(to_visit.pop(), headers=BROWSER)
        assert page.status_code == 200, page.url
        assert PROMPT not in page.text
        assert RESULT not in page.text
        assert HOSTILE not in page.text
        if page.url.path == "/docs":
            # Of another part.
            continue
        for link in re.findall(r'(?:href|src|data-hx-get)="([^"#]+)"', page.text):
            if link.startswith("https://c2sp.org/"):
                continue
            # Relative, so that a proxy may serve all of it below any path.
            assert not re.match(r"/|[a-z]+:", link), link
            at = page.url.join(html.unescape(link))
            if at not in seen and "html" in page.headers["content-type"]:
                seen.add(at)
                to_visit.append(at)
    kinds = {re.sub(r"/[^/]*$", "/", url.path) for url in seen}
    below = ("", "blocks/", "transactions/", "receipts/", "miners/", "addresses/")
    assert {"/explorer/" + kind for kind in below} <= kinds


async def test_files_are_kept_for_ever_under_their_version(web: httpx.AsyncClient) -> None:
    page = await web.get("/", headers=BROWSER)
    match = re.search(r'href="([^"]+style\.css)"', page.text)
    assert match is not None
    path = match[1]
    style = await web.get(path)
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in style.headers["cache-control"]
    again = await web.get(path, headers={"if-none-match": style.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    older = await web.get("/explorer/static/0123456789abcdef/style.css")
    assert older.content == style.content
    assert older.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["nothing.css", "", "../explorer.py", "..%2fexplorer.py"])
async def test_other_files_are_not_served(web: httpx.AsyncClient, name: str) -> None:
    assert (await web.get(f"/explorer/static/v/{name}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "error_code"),
    [
        ("/explorer/nothing", 404, "ROUTE_NOT_FOUND"),
        ("/explorer/miners/nobody", 404, "MINER_NOT_FOUND"),
        ("/explorer/miners/%zz", 400, "INVALID_ARGUMENT"),
        ("/explorer/blocks/" + "9" * 5000, 400, "INVALID_ARGUMENT"),
        ("/explorer/blocks/-1", 400, "INVALID_ARGUMENT"),
        ("/explorer/search", 400, "INVALID_ARGUMENT"),
        ("/explorer/miners?page_token=%FF", 400, "INVALID_ARGUMENT"),
    ],
)
async def test_errors_are_pages_with_their_code(
    web: httpx.AsyncClient, path: str, status: int, error_code: str
) -> None:
    page = await web.get(path, headers=BROWSER)
    assert page.status_code == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert error_code in page.text


@pytest.mark.parametrize("path", ["/explorer/consistency?from_height=0", "/explorer/stats"])
async def test_data_without_a_page_is_shown_as_data(web: httpx.AsyncClient, path: str) -> None:
    assert (await web.get(path)).headers["content-type"] == "application/json"
    kind = (await web.get(path, headers=BROWSER)).headers["content-type"]
    assert kind.startswith("text/html" if path.endswith("stats") else "application/json")


async def test_search_leads_on_from_wherever_it_is_served(web: httpx.AsyncClient) -> None:
    found = await web.get("/explorer/search", params={"q": "0"}, headers=BROWSER)
    assert found.status_code == 303
    assert found.headers["location"] == "../explorer/blocks/0"


async def test_documented_paths_stay_json_for_programs(web: httpx.AsyncClient) -> None:
    for name in ("blocks", "transactions", "receipts"):
        for path in (f"/explorer/{name}", f"/api/explorer/{name}"):
            for accept in ("*/*", "application/json"):
                answer = await web.get(path, headers={"accept": accept})
                assert answer.status_code == 200
                assert answer.json()[name]


async def test_lists_go_on_until_their_end(web: httpx.AsyncClient) -> None:
    seen: list[str] = []
    path: str | None = "/explorer/miners"
    while path is not None:
        page = await web.get(path, headers=BROWSER)
        seen += re.findall(r'id="miner-(miner:[^"]+)"', page.text)
        following = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = str(page.url.join(following[1])) if following else None
    assert seen == [f"miner:{number:03}" for number in range(60)]


async def test_pages_need_no_key_but_count(tmp_path: Path) -> None:
    async with coordinator(
        tmp_path, auth="required", limit_requests_per_second=1, limit_burst=3
    ) as client:
        url = f"http://127.0.0.1:{client.coordinator.http_port}"
        async with httpx.AsyncClient(base_url=url, headers=BROWSER) as web:
            answers = [await web.get("/explorer/miners") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) >= 1
    assert "RATE_LIMITED" in answers[3].text
