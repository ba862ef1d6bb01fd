"""Everything that is served over HTTP is in the OpenAPI document, but for what people look at."""

from __future__ import annotations

from pathlib import Path

import httpx
from openapi_spec_validator import validate

from aitbc_server.described import PARTS
from tests.integration.server.harness import coordinator

PAGES = {"/", "/explorer", "/explorer/", "/explorer/static/"}
# The document itself, and the page that shows it.
DOCUMENT = {"/openapi.json", "/docs"}
# The methods as Connect and gRPC-Web call them: their document is the protos.
METHODS = {"/aitbc.v1."}


async def test_every_mount_is_described(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        document = (await http.get("/openapi.json")).json()
        validate(document)
        mounts = client.coordinator.mounts
        parts = {mount.part for mount in mounts} - {None}
        # What the command prints is what is served.
        assert parts == set(PARTS)
        assert {part.name for part in parts if part} <= {tag["name"] for tag in document["tags"]}
        for mount in mounts:
            path = mount.path.removeprefix("/api")
            if path in PAGES | DOCUMENT | METHODS or path.startswith("/docs/"):
                assert mount.part is None
                continue
            described = [
                one
                for one in document["paths"]
                if one == path or (path.endswith("/") and one.startswith(path))
            ]
            assert described, f"{path} is not in the document"


async def test_every_described_path_is_there(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, httpx.AsyncClient(base_url=client.url) as http:
        document = (await http.get("/openapi.json")).json()
        for path, item in document["paths"].items():
            # None of them is an unknown path: a method that no operation has is refused as such.
            filled = path.replace("{index}", "000").replace("{level}", "0")
            answer = await http.request("DELETE" if "delete" not in item else "PUT", filled)
            assert answer.status_code == 405, f"{path}: {answer.text}"
