"""What callers see of jobs that are deleted, and of those that are forgotten for their age."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from aitbc_server import retention
from aitbc_server.domain.receipts import receipt_id_of
from tests.integration.server.harness import PATIENCE_S, Client, coordinator
from tests.integration.server.test_webhooks import cancel_one, create, serving, settled
from tests.receiver import Receiver, status

Json = dict[str, Any]


async def completed(client: Client, count: int = 1, **fields: Any) -> list[str]:
    """Has a miner answer jobs; returns their ids."""
    ids = [await client.submit(**fields) for _ in range(count)]
    async with client.miner(window=count) as miner:
        for assignment in await miner.assignments(count):
            await miner.complete(assignment.lease_id, "the answer", tokens=2)
        stored = 0
        while stored < count:
            stored += len((await miner.expect("acks")).acks.acks)
    return ids


async def sealed(http: httpx.AsyncClient, receipt_id: str) -> Json:
    """Returns a receipt with its proof."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            receipt: Json = (await http.get(f"/v1/receipts/{receipt_id}")).json()
            if receipt["status"] == "sealed":
                return receipt
            await asyncio.sleep(0.02)


async def gone(http: httpx.AsyncClient, job_id: str) -> None:
    """Waits until a job is unknown."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await http.get(f"/v1/jobs/{job_id}")).status_code == 404:
                return
            await asyncio.sleep(0.02)


def files(data: Path) -> bytes:
    """Returns what the files of the database hold."""
    return b"".join(file.read_bytes() for file in data.glob("coordinator.db*"))


async def erased(data: Path, *texts: str) -> None:
    """Waits until the files of the database hold none of the texts."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            content = files(data)
            if not any(text.encode() in content for text in texts):
                return
            await asyncio.sleep(0.05)


async def test_a_deleted_job_is_unknown_and_its_receipt_holds(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, ledger_block_seconds=0.1) as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        kept, job_id = await completed(client, 2, prompt="a secret")
        receipt_id = (await http.get(f"/v1/jobs/{job_id}")).json()["receipt_id"]
        receipt = await sealed(http, receipt_id)
        disclosure = receipt.pop("disclosure")
        public = ["/explorer/receipts", "/explorer/transactions", "/explorer/blocks", "/v1/stats"]
        public += [f"/explorer/receipts/{receipt_id}", "/explorer/stats", "/checkpoint"]
        before = [(await http.get(path)).content for path in public]

        deleted = await http.delete(f"/v1/jobs/{job_id}")
        assert (deleted.status_code, deleted.content) == (204, b"")
        for again in (
            await http.delete(f"/v1/jobs/{job_id}"),
            await http.get(f"/v1/jobs/{job_id}"),
        ):
            assert (again.status_code, again.json()["error_code"]) == (404, "JOB_NOT_FOUND")
        stream = await http.get(f"/v1/jobs/{job_id}/stream")
        assert stream.status_code == 404
        page = (await http.get("/v1/jobs")).json()
        assert [job["job_id"] for job in page["jobs"]] == [kept]
        assert [(await http.get(path)).content for path in public] == before

        assert await sealed(http, receipt_id) == receipt
        assert (await http.get("/v1/receipts", params={"job_id": job_id})).json()["receipts"]
        checked = (await http.post("/v1/receipts/verify", json={"receipt": receipt})).json()
        assert checked["valid"] is True, checked
        # Who kept the salts can still show what was asked.
        shown = {"receipt": {**receipt, "disclosure": disclosure}, "prompt": "a secret"}
        checks = (await http.post("/v1/receipts/verify", json=shown)).json()["checks"]
        assert {"name": "prompt", "outcome": "passed", "detail": "it has the hash"} in checks


async def test_a_job_is_deleted_only_after_its_end(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        waiting, running = await client.submit(model="unserved"), await client.submit()
        async with client.miner() as miner:
            await miner.assignments()
            for job_id in (waiting, running):
                refused = await http.delete(f"/v1/jobs/{job_id}")
                assert (refused.status_code, refused.json()["error_code"]) == (409, "JOB_NOT_FINAL")
        await http.post(f"/v1/jobs/{waiting}/cancel", json={})
        assert (await http.delete(f"/v1/jobs/{waiting}")).status_code == 204


async def test_a_list_goes_on_while_its_jobs_vanish(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        ids = [await cancel_one(client) for _ in range(6)][::-1]
        first = (await http.get("/v1/jobs", params={"limit": 2})).json()
        assert [job["job_id"] for job in first["jobs"]] == ids[:2]
        for job_id in (ids[1], ids[2], ids[4]):
            assert (await http.delete(f"/v1/jobs/{job_id}")).status_code == 204
        found = []
        token = first["next_page_token"]
        while token:
            query = {"limit": 2, "page_token": token}
            page = (await http.get("/v1/jobs", params=query)).json()
            found += [job["job_id"] for job in page["jobs"]]
            token = page.get("next_page_token")
        assert found == [ids[3], ids[5]]


async def test_a_message_about_a_deleted_job_is_given_up(tmp_path: Path) -> None:
    receiver = Receiver(*[status(500)] * 9)
    async with (
        serving(tmp_path, webhook_retry_seconds="0.5,1,2,4,8,16,32") as client,
        httpx.AsyncClient(base_url=client.url) as http,
    ):
        webhook = await create(client, receiver.url)
        job_id = await cancel_one(client)
        await asyncio.to_thread(receiver.next)
        assert (await http.delete(f"/v1/jobs/{job_id}")).status_code == 204
        (delivery,) = await settled(client, webhook.webhook_id)
    receiver.close()
    assert delivery.attempts[-1].error == "its job is no more"
    assert len(delivery.attempts) < 7


async def test_old_jobs_are_forgotten_and_nothing_of_them_is_in_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ERASE_S", 0.1)
    with structlog.testing.capture_logs() as logs:
        async with (
            coordinator(tmp_path, job_retention="1s", ledger_block_seconds=0.1) as client,
            httpx.AsyncClient(base_url=client.url) as http,
        ):
            waiting = await client.submit(model="unserved")
            request_id, prompt = "name-of-a-request", "a prompt that is a secret"
            ids = await completed(client, 1, prompt=prompt, request_id=request_id)
            ids += await completed(client, 100)
            for job_id in ids:
                await gone(http, job_id)
            assert (await client.job(waiting)).job_id == waiting
            receipt = await sealed(http, receipt_id_of(ids[0]))
            assert "disclosure" not in receipt
            assert (await http.post("/v1/receipts/verify", json={"receipt": receipt})).json()[
                "valid"
            ]
            assert (await http.get("/v1/stats")).json()["jobs"]["completed"] == 101
            assert "aitbc_jobs_forgotten_total 101.0" in (await http.get("/metrics")).text
            await erased(tmp_path, prompt, request_id)
            # The name is free again.
            assert await client.submit(prompt=prompt, request_id=request_id) not in ids
    swept = [line for line in logs if line["event"] == "retention.swept"]
    assert sum(line["jobs"] for line in swept) == 101
    assert prompt not in repr(logs)
