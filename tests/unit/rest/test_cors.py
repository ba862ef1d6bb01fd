"""Pages of other origins may call the API where the operator says so."""

from __future__ import annotations

from collections.abc import Collection

import httpx
import pytest

from aitbc_server.rest.app import RestApp
from aitbc_server.rest.cors import Cors
from tests.unit.rest.serving import FakeBackend

APP = "https://app.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}


def client(origins: Collection[str] | None) -> httpx.AsyncClient:
    """Returns a client of an API that these origins may call; None leaves CORS out."""
    app = RestApp(FakeBackend())
    site = app if origins is None else Cors(app, origins)
    return httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://api.example")


def allowing(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-")}


async def test_without_it_nobody_is_allowed() -> None:
    async with client(None) as api:
        for response in (
            await api.get("/things/a", headers={"origin": APP}),
            await api.options("/things/a", headers={"origin": APP, **PREFLIGHT}),
        ):
            assert allowing(response) == {}


async def test_an_allowed_origin_may_call_and_read_the_headers() -> None:
    async with client([APP]) as api:
        response = await api.get("/things/a", headers={"origin": APP})
    assert response.status_code == 200
    assert allowing(response) == {
        "access-control-allow-origin": APP,
        "access-control-expose-headers": "*",
    }
    assert response.headers["vary"] == "origin"


async def test_an_error_can_be_read_too() -> None:
    async with client([APP]) as api:
        response = await api.get("/nothing", headers={"origin": APP})
    assert response.status_code == 404
    assert response.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize(
    "asked",
    [
        "authorization,content-type,x-stainless-arch,x-stainless-retry-count",
        "Authorization, Anthropic-Version, anthropic-dangerous-direct-browser-access",
        "x-whatever",
    ],
)
async def test_a_preflight_allows_the_headers_that_it_asks_for(asked: str) -> None:
    asking = {**PREFLIGHT, "access-control-request-headers": asked}
    async with client([APP]) as api:
        response = await api.options("/things", headers={"origin": APP, **asking})
        assert response.headers["access-control-allow-headers"] == asked
        assert "access-control-request-headers" in response.headers["vary"]
        other = await api.options("/things", headers={"origin": "https://other", **asking})
        assert allowing(other) == {}


@pytest.mark.parametrize("asked", ["a b\x01", "x:y", "\xe9", "a" * 5000, "<x>"])
async def test_a_preflight_repeats_nothing_but_names(asked: str) -> None:
    asking = [("origin", APP), ("access-control-request-method", "POST")]
    headers = httpx.Headers([*asking, ("access-control-request-headers", asked)], "latin-1")
    async with client([APP]) as api:
        response = await api.options("/things", headers=headers)
    assert response.status_code == 204
    assert "access-control-allow-headers" not in response.headers


async def test_a_preflight_says_what_may_be_sent() -> None:
    async with client([APP]) as api:
        response = await api.options("/things", headers={"origin": APP, **PREFLIGHT})
    assert response.status_code == 204
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "x-api-key" in response.headers["access-control-allow-headers"]
    assert response.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize(
    "origin", ["https://other.example", "https://app.example.evil", "http://app.example", "null"]
)
async def test_another_origin_is_not_allowed(method: str, origin: str) -> None:
    async with client([APP]) as api:
        response = await api.request(method, "/things/a", headers={"origin": origin, **PREFLIGHT})
    assert allowing(response) == {}
    # Or a cache would give the answer to a page that may read it.
    assert response.headers["vary"] == "origin"


async def test_a_star_allows_all_and_nobody_with_credentials() -> None:
    async with client(["*"]) as api:
        response = await api.get("/things/a", headers={"origin": "null"})
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers


async def test_a_request_without_an_origin_is_answered_as_ever() -> None:
    async with client([APP]) as api:
        response = await api.get("/things/a")
    assert response.status_code == 200
    assert allowing(response) == {}
