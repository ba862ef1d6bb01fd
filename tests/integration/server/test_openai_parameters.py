"""What becomes of parameters that nobody knows: told in a header, counted, refused where wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.v1 import jobs_pb2
from aitbc_server.rest.gateway import run_gateway
from tests.integration.server.harness import PATIENCE_S, coordinator

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
UNKNOWN: dict[str, Any] = {"bogus": 1, "mirostat": 2, "store": True}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "m", "prompt": "hi"},
    "/v1/responses": {"model": "m", "input": "hi", "background": True},
}


@pytest.mark.parametrize("path", BODIES)
async def test_what_is_ignored_is_told_and_changes_no_answer(tmp_path: Path, path: str) -> None:
    async with (
        coordinator(tmp_path) as client,
        client.miner() as miner,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        told: list[str | None] = []
        specs: list[jobs_pb2.Job] = []
        for more in ({}, {"bogus": 1}):
            asking = asyncio.create_task(http.post(path, json={**BODIES[path], **more}))
            [assignment] = await miner.assignments()
            await miner.complete(assignment.lease_id, "hello")
            await miner.expect("acks")
            told.append((await asking).headers.get("x-aitbc-ignored"))
            spec = assignment.job
            for name in ("job_id", "created_at"):
                spec.ClearField(name)
            specs.append(spec)
        assert told == [None, "bogus"]
        assert specs[0] == specs[1]


async def test_errors_and_streams_tell_what_is_ignored_too(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        client.miner() as miner,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        body = {**CHAT, **UNKNOWN, "model": "none"}
        refused = await http.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.headers["x-aitbc-ignored"]) == (404, "bogus, mirostat")
        body = {**CHAT, **UNKNOWN, "stream": True}
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, "hello")
        assert (await asking).headers["x-aitbc-ignored"] == "bogus, mirostat"
        counted = (await http.get("/metrics")).text
        assert 'aitbc_openai_ignored_parameters_total{parameter="mirostat"} 2.0' in counted
        assert 'aitbc_openai_ignored_parameters_total{parameter="(other)"} 2.0' in counted


@pytest.mark.parametrize("path", BODIES)
async def test_strict_endpoints_refuse_what_they_do_not_know(tmp_path: Path, path: str) -> None:
    async with (
        coordinator(tmp_path, openai_strict=True) as client,
        client.miner(),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        refused = await http.post(path, json={**BODIES[path], "bogus": 1})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == ("unsupported_parameter", "bogus")
        assert "it is not known" in error["message"]


async def test_strict_endpoints_say_why_what_they_know_has_no_effect(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, openai_strict=True) as client,
        client.miner(),
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        for path, body, param, why in (
            ("/v1/chat/completions", {**CHAT, "num_ctx": 2048}, "num_ctx", "choose the context"),
            (
                "/v1/responses",
                {"model": "m", "input": "hi", "tools": [{"type": "web_search"}]},
                "tools[0].type",
                "no tools run here",
            ),
        ):
            error = (await http.post(path, json=body)).json()["error"]
            assert (error["code"], error["param"]) == ("unsupported_parameter", param)
            assert f"{why}; AITBC_OPENAI_STRICT" in error["message"]
        error = (await http.get("/v1/models", params={"limit": 5})).json()["error"]
        assert (error["param"], "one page" in error["message"]) == ("limit", True)


async def test_a_gateway_may_be_strict(tmp_path: Path) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with coordinator(tmp_path) as client, client.miner():
        target = f"127.0.0.1:{client.coordinator.grpc_port}"
        running = asyncio.create_task(
            run_gateway(
                target,
                "127.0.0.1",
                0,
                stop=stop,
                on_ready=ready.set_result,
                is_openai_strict=True,
            )
        )
        url = f"http://127.0.0.1:{await ready}/v1/chat/completions"
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            refused = await http.post(url, json={**CHAT, "bogus": 1})
        assert refused.json()["error"]["param"] == "bogus"
        stop.set()
        await running
