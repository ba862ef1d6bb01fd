"""The document of the API is made when it is first asked for, and stops nobody meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc_server.rest.openapi import site
from aitbc_server.rest.openapi.document import document
from tests.integration.server.harness import coordinator


async def test_the_document_is_made_once_and_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: list[int] = []

    def noting(*methods: Any, **options: Any) -> dict[str, Any]:
        makers.append(threading.get_ident())
        return document(*methods, **options)

    monkeypatch.setattr(site, "document", noting)
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url, timeout=60) as api,
    ):
        answers = await asyncio.gather(*[api.get("/openapi.json") for _ in range(8)])
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(makers) == 1
    assert makers[0] != threading.get_ident()
