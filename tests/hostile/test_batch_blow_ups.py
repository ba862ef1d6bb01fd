"""Batches whose lines ask for more than they have bytes, and file names that terminals obey."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from scripts.processes import Coordinator

from tests.hostile.test_uploads import CHAT, END, FILE, FORM, posted, victim
from tests.hostile.victim import cost_of

__all__ = ["victim"]

LINES = 400
# Jobs of one batch that are under way at once, by default, and of the line that reaches the bound.
MOST_JOBS = 1000 + 128
FEW_MIB = 96


async def many_jobs_of_each_line() -> AsyncIterator[bytes]:
    body = {"model": "m", "n": 128, "messages": [{"role": "user", "content": "hi"}]}
    yield FILE
    for number in range(LINES):
        line = {"custom_id": str(number), "method": "POST", "url": CHAT, "body": body}
        yield json.dumps(line).encode() + b"\n"
    yield END


@pytest.mark.timeout(240)
async def test_lines_that_are_many_jobs_each_wait_for_their_turn(victim: Coordinator) -> None:
    async with (
        httpx.AsyncClient(base_url=victim.url, timeout=60) as api,
        cost_of(victim) as cost,
    ):
        miner = {"miner_id": "polls", "capabilities": ["m"]}
        assert (await api.post("/v1/miners/register", json=miner)).status_code == 201
        answer = await posted(api, many_jobs_of_each_line())
        assert answer is not None
        asked = {"input_file_id": answer.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = (await api.post("/v1/batches", json=asked)).json()
        pending: list[int] = []
        # Until as many wait as may, for which nobody answers.
        async with asyncio.timeout(60):
            while len(pending) < 20 or pending[-20] != pending[-1] or not pending[-1]:
                pending.append((await api.get("/v1/stats")).json()["jobs"]["pending"])
                await asyncio.sleep(0.1)
        assert 500 < max(pending) <= MOST_JOBS
        assert cost.most_mib < FEW_MIB
        assert max(cost.health_s) < 5
        # A file is not deleted under the batch that reads it.
        deleted = await api.delete(f"/v1/files/{asked['input_file_id']}")
        assert deleted.status_code == 409
        await api.post(f"/v1/batches/{batch['id']}/cancel")
        until = time.monotonic() + 60
        while (await api.get(f"/v1/batches/{batch['id']}")).json()["status"] != "cancelled":
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        assert (await api.get("/v1/stats")).json()["jobs"]["pending"] == 0


@pytest.mark.parametrize("name", ["\x1b]0;pwned\x07", "a\tb", "a\x7f", "\x00"])
async def test_a_name_that_a_terminal_obeys_is_refused(name: str, victim: Coordinator) -> None:
    body = FILE.replace(b'filename="f"', f'filename="{name}"'.encode()) + b"{}\n" + END
    async with httpx.AsyncClient(base_url=victim.url) as api:
        answer = await api.post("/v1/files", content=body, headers={"content-type": FORM})
        assert answer.status_code == 400
        assert (await api.get("/v1/files")).json()["data"] == []
