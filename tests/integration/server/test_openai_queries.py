"""Queries and forms are dealt with as bodies are: what is unknown is told, or refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from aitbc_server.openai.operations import OPERATIONS
from tests.integration.server.harness import PATIENCE_S, coordinator

ANTHROPIC = {"anthropic-version": "2023-06-01", "x-api-key": "unused"}
ROUTES: list[tuple[str, str, dict[str, str]]] = [
    *((one.http_method, re.sub(r"\{\w+\}", "some", one.path), {}) for one in OPERATIONS),
    ("POST", "/v1/messages", ANTHROPIC),
    ("POST", "/v1/messages/count_tokens", ANTHROPIC),
    ("GET", "/v1/models", ANTHROPIC),
    ("GET", "/v1/models/some", ANTHROPIC),
]


async def test_every_route_tells_what_it_passes_over_of_a_query(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        for prefix in ("", "/api"):
            for method, path, headers in ROUTES:
                # Whatever becomes of the request itself.
                answer = await http.request(
                    method,
                    f"{prefix}{path}?bogus=1&api-version=2025-01-01&beta=true&other[]=2&other[]=3",
                    headers=headers,
                )
                told = answer.headers.get("x-aitbc-ignored")
                assert told == "bogus, other", (method, path, answer.text)
                plain = await http.request(method, f"{prefix}{path}?beta=true", headers=headers)
                assert "x-aitbc-ignored" not in plain.headers
                assert plain.status_code == answer.status_code


async def test_strict_routes_refuse_what_they_do_not_know_of_a_query(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, openai_strict=True) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        for method, path, headers in ROUTES:
            answer = await http.request(method, f"{path}?bogus=1", headers=headers)
            assert answer.status_code == 400, (method, path, answer.text)
            error = answer.json()["error"]
            assert "'bogus'" in error["message"]
            if headers:
                assert error["details"]["error_code"] == "unsupported_parameter"
            else:
                assert (error["code"], error["param"]) == ("unsupported_parameter", "bogus")


async def test_what_a_query_and_a_body_have_is_told_together(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        body = {"model": "m", "input": "hi", "b": 1, "c": {"d": 1}}
        answer = await http.post("/v1/responses?a=1&b=2", json=body)
        assert answer.headers["x-aitbc-ignored"] == "a, b, c"


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/files?limit=0", "limit"),
        ("/v1/files?limit=10001", "limit"),
        ("/v1/files?limit=many", "limit"),
        ("/v1/files?limit=", "limit"),
        ("/v1/files?order=up", "order"),
        (f"/v1/files?after={'f' * 65}", "after"),
        ("/v1/batches?limit=101", "limit"),
        ("/v1/batches?limit=1.5", "limit"),
        ("/v1/models?limit=0", "limit"),
        ("/v1/responses/resp_1?stream=maybe", "stream"),
        ("/v1/responses/resp_1?starting_after=-1", "starting_after"),
        ("/v1/responses/resp_1/input_items?limit=101", "limit"),
        ("/v1/responses/resp_1/input_items?order=up", "order"),
    ],
)
async def test_a_wrong_value_is_refused_by_its_name(path: str, param: str, tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        answer = await http.get(path)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_value", param)


FILE = {"file": ("f.jsonl", b"{}\n")}


@pytest.mark.parametrize("is_strict", [False, True])
async def test_unknown_fields_of_a_form_are_told_or_refused(
    tmp_path: Path, *, is_strict: bool
) -> None:
    async with (
        coordinator(tmp_path, openai_strict=is_strict) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        fields = {
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": "3600",
            "expires_after[hours]": "1",
            "colour": "red",
        }
        answer = await http.post("/v1/files", data=fields, files=FILE)
        listed = (await http.get("/v1/files")).json()["data"]
        if is_strict:
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "colour"
            assert listed == []
        else:
            assert answer.headers["x-aitbc-ignored"] == "colour, expires_after.hours"
            assert answer.json()["expires_at"] - answer.json()["created_at"] == 3600
            assert len(listed) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "vision"}, "purpose"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "3599",
            },
            "expires_after.seconds",
        ),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "opened_at",
                "expires_after[seconds]": "3600",
            },
            "expires_after.anchor",
        ),
        ({"purpose": "batch", "expires_after": "3600"}, "expires_after"),
    ],
)
async def test_a_wrong_field_of_a_form_is_refused_by_its_name(
    fields: dict[str, str], param: str, tmp_path: Path
) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        answer = await http.post("/v1/files", data=fields, files=FILE)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert (await http.get("/v1/files")).json()["data"] == []


def shown(page: Any) -> tuple[list[str], bool]:
    """Returns the names on a page, and whether there are more."""
    assert page.first_id == (page.data[0].id if page.data else None)
    assert page.last_id == (page.data[-1].id if page.data else None)
    return [model.id for model in page.data], page.has_more


async def test_models_come_in_pages_in_anthropics_words(tmp_path: Path) -> None:
    names = ["a", "b", "c", "m", "z"]
    async with (
        coordinator(tmp_path) as client,
        client.miner(adapters=["z", "b", "c", "a"]),
        anthropic.AsyncAnthropic(base_url=client.url, api_key="unused", max_retries=0) as api,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        models = api.models
        assert shown(await models.list()) == (names, False)
        assert [model.id async for model in models.list(limit=2)] == names
        assert shown(await models.list(limit=2)) == (["a", "b"], True)
        assert shown(await models.list(limit=3, after_id="b")) == (["c", "m", "z"], False)
        assert shown(await models.list(limit=2, before_id="m")) == (["b", "c"], True)
        assert shown(await models.list(limit=2, before_id="c")) == (["a", "b"], False)
        # One that has gone since leads to its place.
        assert shown(await models.list(after_id="bb")) == (["c", "m", "z"], False)
        assert shown(await models.list(after_id="z")) == ([], False)
        assert shown(await models.list(after_id="", before_id="")) == (names, False)
        assert shown(await models.list(after_id="a", before_id="z", limit=2)) == (["b", "c"], True)
        for limit in (0, 1001):
            with pytest.raises(anthropic.BadRequestError):
                await models.list(limit=limit)
        # To OpenAI's clients all are told at once, and that nothing else was done.
        answer = await http.get("/v1/models?limit=2&after_id=a")
        assert len(answer.json()["data"]) == 5
        assert answer.headers["x-aitbc-ignored"] == "after_id, limit"


async def test_a_wrong_key_lists_no_models(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, auth="required") as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        for path in ("/v1/models", "/v1/models/m"):
            answer = await http.get(path, headers=ANTHROPIC)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"
