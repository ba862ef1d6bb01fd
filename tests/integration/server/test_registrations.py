"""Registrations of miners are few for each key, can be removed, and go by themselves at last."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import httpx

from aitbc.v1 import explorer_pb2, jobs_pb2, miners_pb2, network_pb2, work_pb2
from aitbc_server.app import Coordinator
from aitbc_server.dispatch.live import CloseReason
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Role
from aitbc_server.domain.miners import MinerRecord
from tests.factories import session
from tests.integration.server.harness import Client, FakeMiner, coordinator
from tests.integration.server.test_limits import make_key, rest

DAY_US = 86_400_000_000


async def register(api: httpx.AsyncClient, miner_id: str, *models: str) -> httpx.Response:
    body = {"miner_id": miner_id, "capabilities": models or ["m"]}
    return await api.post("/v1/miners/register", json=body)


async def ids(api: httpx.AsyncClient, **query: str) -> list[str]:
    """Returns the ids of all pages."""
    found: list[str] = []
    token = ""
    while True:
        page = (await api.get("/v1/miners", params={**query, "page_token": token})).json()
        found += [miner["miner_id"] for miner in page["miners"]]
        token = page.get("next_page_token", "")
        if not token:
            return found


async def test_a_miner_is_removed_for_good(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, rest(client) as api:
        for miner_id in ("a", "b"):
            await register(api, miner_id)
        gone = await api.delete("/v1/miners/a")
        assert (gone.status_code, gone.content) == (204, b"")
        again = await api.delete("/v1/miners/a")
        assert (again.status_code, again.json()["error_code"]) == (404, "MINER_NOT_FOUND")
        assert await ids(api) == ["b"]
        available = await api.get("/v1/jobs/available?miner_id=a")
        assert available.json()["error_code"] == "MINER_NOT_FOUND"
    async with coordinator(tmp_path) as client, rest(client) as api:
        assert await ids(api) == ["b"]
        assert (await register(api, "a")).status_code == 201


async def test_only_its_owner_and_an_administrator_remove_a_miner(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required") as client:
        mine, other = make_key(tmp_path, Role.MINER), make_key(tmp_path, Role.MINER)
        user, admin = make_key(tmp_path, Role.CLIENT), make_key(tmp_path, Role.ADMIN)
        async with rest(client, mine) as api:
            for miner_id in ("a", "b"):
                assert (await register(api, miner_id)).status_code == 201
        outcomes = []
        for key, miner_id in ((other, "a"), (user, "a"), (mine, "a"), (admin, "b")):
            async with rest(client, key) as api:
                answer = await api.delete(f"/v1/miners/{miner_id}")
                outcomes.append(answer.status_code)
        assert outcomes == [403, 403, 204, 204]


async def test_a_miner_that_works_is_not_removed(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, rest(client) as api:
        async with client.miner("streams"):
            refused = await api.delete("/v1/miners/streams")
            assert (refused.status_code, refused.json()["error_code"]) == (409, "MINER_IN_USE")
        await register(api, "polls")
        job_id = await client.submit()
        claimed = await api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": "polls"})
        assert claimed.status_code == 200
        refused = await api.delete("/v1/miners/polls")
        assert (refused.status_code, refused.json()["error_code"]) == (409, "MINER_IN_USE")
        done = {"miner_id": "polls", "result": "done"}
        assert (await api.post(f"/v1/jobs/{job_id}/complete", json=done)).status_code == 200
        assert (await api.delete("/v1/miners/polls")).status_code == 204
        # What it did stays.
        assert (await client.job(job_id)).receipt_id


async def test_a_miner_that_is_about_to_stream_is_not_removed(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, rest(client) as api:
        dispatcher = _dispatcher(client)
        await dispatcher.register(_record("m-1"))
        refused = []

        async def remove() -> None:
            while "m-1" not in dispatcher.core.sessions.by_miner:
                answer = await api.delete("/v1/miners/m-1")
                refused.append(answer.status_code)
                if answer.status_code == 204:
                    return

        opened = session("m-1")
        opening = dispatcher.open_session(opened, _record("m-1"), ["lease-unknown-1"])
        # Before anything of it is stored.
        task = asyncio.ensure_future(opening)
        await asyncio.sleep(0)
        await asyncio.gather(remove(), task)
        assert set(refused) <= {409}
        assert dispatcher.registry.find("m-1") is not None
        dispatcher.close_session(opened, CloseReason.GONE)


async def test_a_key_registers_so_many_ids_and_is_told_what_to_do(tmp_path: Path) -> None:
    async with coordinator(tmp_path, auth="required", limit_miners=2) as client:
        key, other = make_key(tmp_path, Role.MINER), make_key(tmp_path, Role.MINER)
        large = make_key(tmp_path, Role.MINER, miners=4)
        async with rest(client, key) as api:
            answers = await asyncio.gather(*(register(api, f"a-{n}") for n in range(8)))
            codes = sorted(answer.status_code for answer in answers)
            assert codes == [201] * 2 + [409] * 6
            refused = next(answer.json() for answer in answers if answer.status_code == 409)
            assert refused["error_code"] == "TOO_MANY_MINERS"
            assert "DELETE /v1/miners/{miner_id}" in refused["detail"]
            # What it has it may change, and what it removes makes room.
            [first, *_] = await ids(api)
            assert (await register(api, first, "n")).status_code == 200
            assert (await api.delete(f"/v1/miners/{first}")).status_code == 204
            assert (await register(api, "a-new")).status_code == 201
        call = client.miners.Work(metadata=(("x-api-key", key),))
        assert await _hello(call, "a-stream") == (grpc.StatusCode.ABORTED, "TOO_MANY_MINERS")
        async with rest(client, other) as api:
            assert (await register(api, "b")).status_code == 201
        async with rest(client, large) as api:
            answers = [await register(api, f"c-{n}") for n in range(5)]
            assert [answer.status_code for answer in answers] == [201] * 4 + [409]


async def test_callers_without_a_key_share_one_number(tmp_path: Path) -> None:
    async with coordinator(tmp_path, limit_miners=1) as client, rest(client) as api:
        assert (await register(api, "a")).status_code == 201
        assert (await register(api, "b")).json()["error_code"] == "TOO_MANY_MINERS"
        async with client.miner("a"):
            pass


async def test_the_names_of_a_miners_models_have_a_size(tmp_path: Path) -> None:
    names = [f"{number}-" + "x" * 240 for number in range(70)]
    async with coordinator(tmp_path) as client, rest(client) as api:
        refused = await register(api, "a", *names)
        assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_ARGUMENT")
        assert "capabilities" in refused.json()["detail"]
        assert (await register(api, "a", *names[:60])).status_code == 201
        call = client.miners.Work()
        status, _ = await _hello(call, "b", *names)
        assert status is grpc.StatusCode.INVALID_ARGUMENT


async def test_pages_of_miners_go_by_key_and_look_at_a_thousand(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, rest(client) as api:
        everybody = [f"miner-{number:04}" for number in range(1_500)]
        dispatcher = _dispatcher(client)
        await asyncio.gather(*(dispatcher.register(_record(one)) for one in everybody))
        assert await ids(api, limit="100") == everybody
        even = [one for one in everybody if int(one[-1]) % 2 == 0]
        assert await ids(api, limit="100", model="even") == even
        assert await ids(api, limit="100", model="none") == []
        page = (await api.get("/v1/miners?status=draining&limit=5")).json()
        assert page["miners"] == []
        assert page["next_page_token"] == f"at-{everybody[999]}"
        assert await ids(api, status="draining") == []
        exact = (await api.get(f"/v1/miners?limit=10&page_token=at-{everybody[-11]}")).json()
        assert len(exact["miners"]) == 10
        assert "next_page_token" not in exact


async def test_who_is_not_heard_of_for_long_goes_also_over_restarts(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, rest(client) as api:
        for miner_id in ("silent", "polls"):
            await register(api, miner_id)
        now_us = int(time.time() * 1e6)
        dispatcher = _dispatcher(client)
        # Both were heard of a moment ago.
        assert await dispatcher.expire_miners(now_us - DAY_US) == 0
    async with coordinator(tmp_path) as client, rest(client) as api:
        await api.get("/v1/jobs/available?miner_id=polls")
        dispatcher = _dispatcher(client)
        async with client.miner("streams"):
            # As if it were a day later for all that is not there.
            before_us = dispatcher.registry.last_seen_us("polls", dispatcher.now())
            assert before_us is not None
            assert await dispatcher.expire_miners(before_us) == 1
            assert await ids(api) == ["polls", "streams"]
    async with coordinator(tmp_path, miner_retention="1s") as client, rest(client) as api:
        # They expire by themselves, and what is registered now does not.
        async with asyncio.timeout(20):
            while "polls" in await ids(api):
                pass


async def test_models_are_told_of_that_somebody_serves_and_no_others(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, rest(client) as api:
        for number in range(50):
            await client.submit(model=f"secret-{number}")
        await register(api, "polls", "polled")
        async with client.miner("streams", adapters=["tuned"]):
            await client.submit(model="polled")
            stats = await client.network.GetStats(network_pb2.GetStatsRequest())
            told = {one.model: (one.pending, one.miners, one.parent) for one in stats.models}
            assert told == {"m": (0, 1, ""), "polled": (1, 1, ""), "tuned": (0, 1, "m")}
            assert stats.jobs.pending == 51
            shown = await client.explorer.GetExplorerStats(explorer_pb2.GetExplorerStatsRequest())
            assert [one.model for one in shown.models] == ["m", "polled", "tuned"]
            page = await api.get("/", headers={"accept": "text/html"})
            assert "secret-" not in page.text


async def test_a_client_still_learns_why_its_own_job_waits(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit(model="secret")
        wait = await client.queue(job_id)
        assert wait.reason == jobs_pb2.WAIT_REASON_NO_MINER


def _record(miner_id: str) -> MinerRecord:
    return MinerRecord(
        miner_id=miner_id,
        models=("even" if int(miner_id[-1]) % 2 == 0 else "odd",),
        gpu_info=None,
        public_key=b"",
        agent_version="",
        registered_us=1,
    )


def _dispatcher(client: Client) -> Dispatcher:
    running: Coordinator = client.coordinator
    return running._dispatcher


async def _hello(call: Any, miner_id: str, *models: str) -> tuple[grpc.StatusCode, str]:
    miner = FakeMiner(call)
    await miner.send(hello=work_pb2.Hello(miner_id=miner_id, models=models or ["m"]))
    return await miner.end()


async def test_a_miner_is_offline_as_soon_as_its_stream_has_ended(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        asked = miners_pb2.GetMinerRequest(miner_id="miner-1")
        async with client.miner() as miner:
            there = await client.miners.GetMiner(asked)
            assert there.status == miners_pb2.MINER_STATUS_ONLINE
            # A newer session of it ends the older one, and is there.
            async with client.miner() as newer:
                assert (await miner.end())[1] == "SESSION_SUPERSEDED"
                told = await client.miners.GetMiner(asked)
                assert told.status == miners_pb2.MINER_STATUS_ONLINE
                await newer.send(capacity=work_pb2.Capacity(max_outstanding_jobs=0))
                await newer.call.done_writing()
                assert await newer.end() == (grpc.StatusCode.OK, "")
        told = await client.miners.GetMiner(asked)
        assert told.status == miners_pb2.MINER_STATUS_OFFLINE
        assert told.last_seen.ToMicroseconds() >= there.last_seen.ToMicroseconds() > 0
        status = miners_pb2.MINER_STATUS_ONLINE
        listed = await client.miners.ListMiners(miners_pb2.ListMinersRequest(status=status))
        assert not listed.miners
