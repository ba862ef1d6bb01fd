"""The explorer over HTTP: who gets pages, and what every answer carries."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.integration.server.harness import coordinator

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = "<script>alert('model')</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    data: Path = tmp_path_factory.mktemp("explorer")
    async with coordinator(data) as client:
        url = f"http://127.0.0.1:{client.coordinator.http_port}"
        async with httpx.AsyncClient(base_url=url) as web:
            for number in range(60):
                miner = {"miner_id": f"miner:{number:03}", "capabilities": [HOSTILE]}
                assert (await web.post("/v1/miners/register", json=miner)).status_code == 201
            yield web


@pytest.mark.parametrize("path", ["/", "/explorer", "/explorer/", "/explorer/miners"])
async def test_browsers_get_a_page(web: httpx.AsyncClient, path: str) -> None:
    page = await web.get(path, headers=BROWSER)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["vary"] == "Accept"
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


async def test_links_and_files_are_relative_to_the_page(web: httpx.AsyncClient) -> None:
    for path in ("/", "/explorer", "/explorer/miners", "/explorer/miners/", "/explorer/nothing"):
        page = await web.get(path, headers=BROWSER)
        links = re.findall(r'(?:href|src|action|data-hx-get)="([^"]*)"', page.text)
        assert links
        for link in links:
            assert not re.match(r"/|https?:", link), link
            at = page.url.join(link)
            if link != "#main" and at.path != path:
                assert (await web.get(at, headers=BROWSER)).status_code == 200, link


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


async def test_what_others_wrote_is_text(web: httpx.AsyncClient) -> None:
    for path in ("/explorer/miners", "/explorer/miners/miner:007"):
        page = await web.get(path, headers=BROWSER)
        assert HOSTILE not in page.text
        assert "&lt;script&gt;" in page.text


async def test_lists_go_on_until_their_end(web: httpx.AsyncClient) -> None:
    seen: list[str] = []
    path: str | None = "/explorer/miners"
    while path is not None:
        page = await web.get(path, headers=BROWSER)
        seen += re.findall(r'data-key="([^"]+)"', page.text)
        following = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = str(page.url.join(following[1])) if following else None
    assert seen == [f"miner:{number:03}" for number in range(60)]
