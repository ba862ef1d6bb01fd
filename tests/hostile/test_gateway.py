"""A gateway asks its coordinator who may call, before it reads what a stranger sends."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from scripts.processes import Coordinator

from tests.conftest import Launcher
from tests.e2e.keys import create_key, revoke_key
from tests.e2e.test_gateway import start_gateway
from tests.hostile.test_http_requests import Socket

PATHS = ("/v1/jobs", "/v1/jobs?stream=true", "/v1/jobs:batch", "/v1/chat/completions")
MORE_PATHS = ("/v1/completions", "/v1/responses", "/v1/miners/register", "/v1/webhooks")
CONNECT_PATHS = ("/aitbc.v1.JobService/SubmitJob", "/aitbc.v1.MinerService/RegisterMiner")
JOB = {"prompt": "hello", "model": "m"}


@pytest.fixture
def gateway(guarded: Coordinator, launcher: Launcher, tmp_path: Path) -> str:
    """Returns where a gateway listens that stands before a coordinator which requires keys."""
    return start_gateway(guarded, launcher, tmp_path / "gateway.log")


@pytest.mark.parametrize("path", [*PATHS, *MORE_PATHS, *CONNECT_PATHS])
@pytest.mark.parametrize("key", ["", "x-api-key: aitbc_wrong_wrong\r\n"])
async def test_a_stranger_is_refused_before_its_body_comes(
    gateway: str, path: str, key: str
) -> None:
    async with Socket(gateway) as one:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{key}"
        declared = "content-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
        one.writer.write((head + declared).encode())
        # Nothing of the body is sent.
        status, _ = await one.answer()
    assert status == 401


def test_a_key_that_is_revoked_is_refused_at_the_gateway_too(
    gateway: str, guarded: Coordinator
) -> None:
    key = create_key(guarded.data, "client")
    with httpx.Client(base_url=f"http://{gateway}", headers={"x-api-key": key}) as api:
        assert api.post("/v1/jobs", json=JOB).status_code == 201
        assert api.post("/v1/miners/register", json={"miner_id": "m"}).status_code == 403
        revoke_key(guarded.data, key)
        while api.get("/v1/jobs").status_code != 401:
            pass
        assert api.post("/v1/jobs", json=JOB).status_code == 401


def test_a_foreign_page_is_refused_at_a_gateway_to_an_open_coordinator(
    launcher: Launcher, tmp_path: Path
) -> None:
    gateway = start_gateway(launcher.coordinator(), launcher, tmp_path / "gateway.log")
    with httpx.Client(base_url=f"http://{gateway}") as api:
        assert api.post("/v1/jobs", json=JOB).status_code == 201
        for headers in ({"host": "rebind.test"}, {"origin": "http://evil.test"}):
            assert api.post("/v1/jobs", json=JOB, headers=headers).status_code == 403
            assert api.get("/v1/jobs", headers=headers).status_code == 403
            assert api.get("/v1/stats", headers=headers).status_code == 200
