"""What the served OpenAPI document says of bodies is what the endpoints take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema_rs import Draft202012Validator

from tests.integration.server.bodies import RIGHT, WRONG, Body
from tests.integration.server.harness import PATIENCE_S, coordinator
from tests.integration.server.test_openai_matrix import BASES, ROWS

_OF_ROWS = {
    "chat": "createChatCompletion",
    "completions": "createCompletion",
    "responses": "createResponse",
}
# Values that are read as what they look like, as vLLM does.
_LENIENT = {
    ("chat", "max_tokens '4'"),
    ("chat", "temperature '0.5'"),
    ("completions", "logprobs true"),
}


def rows() -> Iterator[tuple[str, Body]]:
    """Yields the requests that are compared with `vllm serve`, each with its operation."""
    for line in ROWS.read_text().splitlines():
        row = json.loads(line)
        name = row["operation"]
        if (name, row["name"]) not in _LENIENT:
            yield _OF_ROWS[name], {"model": "m", **BASES[name], **row["body"]}


def operations(document: dict[str, Any]) -> dict[str, tuple[str, Draft202012Validator]]:
    """Returns the path of each operation with a JSON body, and what tells if a body fits it."""
    found = {}
    for path, item in document["paths"].items():
        for told in (item[method] for method in item.keys() & {"post", "put", "patch"}):
            schema = told.get("requestBody", {}).get("content", {}).get("application/json")
            if schema is not None:
                found[told["operationId"]] = path, _of(document, schema["schema"])
    return found


async def test_bodies_fit_the_document_where_the_endpoints_take_them(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        known = operations((await http.get("/openapi.json")).json())
        wrong = []
        given: list[tuple[str, Body, bool | None]]
        given = [(name, body, True) for name, bodies in RIGHT.items() for body in bodies]
        given += [(name, body, False) for name, bodies in WRONG.items() for body in bodies]
        given += [(name, body, None) for name, body in rows()]
        for name, body, is_right in given:
            path, validator = known[name]
            # The model has no miner: what is right is not found.
            answer = await http.post(path, json=body)
            is_taken, fits = answer.status_code != 400, validator.is_valid(body)
            # Of the others some are wrong in ways that no schema says.
            as_said: dict[bool | None, bool] = {
                True: is_taken and fits,
                False: not (is_taken or fits),
            }
            as_said[None] = fits or not is_taken
            if not as_said[is_right]:
                wrong.append((name, body, is_taken, fits, answer.text[:200]))
        assert not wrong, "\n\n".join(map(str, wrong))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/v1/models?limit=1"])
async def test_models_fit_the_document_in_the_words_of_who_asks(tmp_path: Path, path: str) -> None:
    async with (
        coordinator(tmp_path) as client,
        client.miner(adapters=["n"]),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        document = (await http.get("/openapi.json")).json()
        described = document["paths"]["/v1/models/{model}" if path.endswith("/m") else "/v1/models"]
        schema = described["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        theirs, anthropics = schema["anyOf"]
        for headers, fits, other in (
            ({}, theirs, anthropics),
            ({"anthropic-version": "2023-06-01"}, anthropics, theirs),
        ):
            answer = (await http.get(path, headers=headers)).json()
            assert _of(document, fits).is_valid(answer)
            assert not _of(document, other).is_valid(answer)


def _of(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    # References lead from the root of the document.
    return Draft202012Validator({**schema, "components": document["components"]})


async def test_no_branch_of_the_document_excludes_what_another_takes(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        document = (await http.get("/openapi.json")).json()
    for name, schema in document["components"]["schemas"].items():
        for branches in _one_ofs(schema):
            # Each branch needs a field that is not set in any other.
            needed = {key for branch in branches for key in branch["required"]}
            assert len(needed) == len(branches), name
            for branch in branches:
                assert needed == branch["properties"].keys(), name


def _one_ofs(value: Any) -> Iterator[list[dict[str, Any]]]:
    if isinstance(value, dict):
        if "oneOf" in value:
            yield value["oneOf"]
        for held in value.values():
            yield from _one_ofs(held)
    elif isinstance(value, list):
        for held in value:
            yield from _one_ofs(held)
