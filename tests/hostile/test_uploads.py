"""Uploads that do not end, or are made to be dear, and files that are bombs: all cost little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.hostile.victim import MIB, cost_of

FORM = "multipart/form-data; boundary=xyz"
FILE = (
    b'--xyz\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--xyz\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
)
END = b"\r\n--xyz--\r\n"
CHAT = "/v1/chat/completions"
LINE = b'{"custom_id": "%d", "method": "POST", "url": "/v1/chat/completions", "body": %b}\n'
GIB = 1024 * MIB
# Beside what it takes for any request.
FEW_MIB = 96


@pytest.fixture
def victim(launcher: Launcher) -> Coordinator:
    settings = {"AITBC_FILE_MAX_BYTES": str(64 * MIB), "AITBC_HTTP_BODY_SECONDS": "300"}
    return launcher.coordinator(env={**CLEAN_ENV, **settings})


async def pieces(begin: bytes, piece: bytes, most: int, end: bytes = b"") -> AsyncIterator[bytes]:
    yield begin
    sent = 0
    while sent < most:
        yield piece
        sent += len(piece)
    yield end


async def posted(api: httpx.AsyncClient, body: AsyncIterator[bytes]) -> httpx.Response | None:
    """Returns the answer; None where the connection was closed on the way."""
    try:
        return await api.post("/v1/files", content=body, headers={"content-type": FORM})
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return None


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (FILE, bytes(MIB)),
        # Nearly the boundary, again and again.
        (FILE, b"\r\n--xy" * 20_000),
        (FILE, b"\r" * 100_000),
        # Before the first boundary, and after the last one.
        (b"", b"-" * 100_000),
        (FILE + b"z" + END, b"z" * 100_000),
        # A header that does not end, and more of them than anybody sends.
        (b"--xyz\r\nx: ", b"y" * 100_000),
        (b"--xyz\r\n", b"x: y\r\n" * 20_000),
        # Fields without end, and one field without end.
        (b"", b'--xyz\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 2_000),
        (b'--xyz\r\ncontent-disposition: form-data; name="a"\r\n\r\n', b"1" * 100_000),
    ],
    ids=["zeros", "nearly", "returns", "before", "after", "header", "headers", "fields", "field"],
)
async def test_an_upload_without_end_is_refused(
    begin: bytes, piece: bytes, victim: Coordinator
) -> None:
    async with (
        httpx.AsyncClient(base_url=victim.url, timeout=200) as api,
        cost_of(victim) as cost,
    ):
        answer = await posted(api, pieces(begin, piece, GIB))
        assert answer is None or answer.status_code in (400, 413), answer.text
        assert cost.most_mib < FEW_MIB
        # Others are answered meanwhile.
        assert max(cost.health_s) < 5
        assert (await api.get("/v1/files")).json()["data"] == []


async def run(api: httpx.AsyncClient, body: AsyncIterator[bytes]) -> Any:
    """Uploads a file and runs it; returns its batch once it has ended."""
    answer = await posted(api, body)
    assert answer is not None
    asked = {"input_file_id": answer.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    made = (await api.post("/v1/batches", json=asked)).json()
    until = time.monotonic() + 200
    while time.monotonic() < until:
        batch = (await api.get(f"/v1/batches/{made['id']}")).json()
        if batch["status"] in ("completed", "failed"):
            return batch
        await asyncio.sleep(0.1)
    raise AssertionError(batch)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "bomb",
    [
        # One line as long as a file may be.
        b"x",
        # Lists within lists, texts of escapes, names of one object: lines of some MiB each.
        LINE[:-4] % 1 + b"[" * 4 * MIB + b"\n",
        b'{"custom_id": "1", "body": {"a": [' + b"{}," * MIB + b"{}]}}\n",
        b'{"custom_id": "' + b"\\u0000" * MIB + b'"}\n',
        # Nothing but lines.
        b"\n" * MIB,
    ],
    ids=["one line", "depth", "parts", "name", "blank"],
)
async def test_a_file_that_is_a_bomb_costs_little(bomb: bytes, victim: Coordinator) -> None:
    async with (
        httpx.AsyncClient(base_url=victim.url, timeout=200) as api,
        cost_of(victim) as cost,
    ):
        piece = bomb if len(bomb) > 1 else bomb * MIB
        batch = await run(api, pieces(FILE, piece, 40 * MIB, END))
        assert batch["status"] == "failed"
        assert batch["errors"]["data"][0]["code"] in (
            "line_too_long",
            "invalid_json_line",
            "invalid_request",
            "empty_file",
        )
        assert cost.most_mib < 2 * FEW_MIB
        assert max(cost.health_s) < 5


@pytest.mark.timeout(240)
async def test_bombs_among_good_lines_fail_alone(victim: Coordinator) -> None:
    good = b'{"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}'

    async def body() -> AsyncIterator[bytes]:
        yield FILE
        for number in range(4):
            yield LINE % (number, good)
            yield b"x" * 9 * MIB + b"\n"
            yield b'{"custom_id": "deep", "body": ' + b"[" * 100_000 + b"\n"
        yield END

    async with (
        httpx.AsyncClient(base_url=victim.url, timeout=200) as api,
        cost_of(victim) as cost,
    ):
        batch = await run(api, body())
        assert batch["status"] == "completed"
        assert batch["request_counts"] == {"total": 12, "completed": 0, "failed": 12}
        errors = (await api.get(f"/v1/files/{batch['error_file_id']}/content")).text
        assert errors.count("model_not_found") == 4
        assert errors.count("line_too_long") == 4
        assert cost.most_mib < 2 * FEW_MIB
