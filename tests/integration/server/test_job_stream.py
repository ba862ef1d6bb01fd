"""Streams of jobs over REST and gRPC, with a miner whose every word the test says."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest

from aitbc.v1 import jobs_pb2, receipts_pb2
from aitbc_client import Outcome, Receipt
from aitbc_client.documents import document_of
from aitbc_server.rest.gateway import run_gateway
from tests.integration.server.harness import PATIENCE_S, Client, coordinator

DELTA, FINAL = jobs_pb2.JOB_EVENT_TYPE_DELTA, jobs_pb2.JOB_EVENT_TYPE_FINAL
# Multi-byte characters, and emoji made of several.
TEXT = ["Gr", "üß", " dich 🙂", "👩‍👩‍👧", " — ende"]


class Event(NamedTuple):
    name: str
    event_id: str
    data: dict[str, Any]


class Stream:
    """A reader of Server-Sent Events."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self.text = ""
        self._lines = response.aiter_lines()

    async def next(self) -> Event | None:
        """Returns the next event, or None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                if line.startswith(":"):
                    continue
                if line:
                    key, _, value = line.partition(": ")
                    fields[key] = value
                elif fields:
                    event = Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
                    if event.name != "error":
                        self._take(event)
                    return event
        return None

    async def expect(self, name: str) -> Event:
        """Returns the next event, which must have this name."""
        event = await self.next()
        assert event is not None, f"the stream ended before {name}"
        assert event.name == name, event
        return event

    async def expect_text(self, text: str) -> None:
        """Reads until the whole text is this; deltas may have been merged."""
        while self.text != text:
            assert text.startswith(self.text)
            await self.expect("delta")

    def _take(self, event: Event) -> None:
        assert event.data["type"] == event.name
        assert event.data["event_id"] == event.event_id
        self.last_id = event.event_id
        if event.name == "restarted":
            self.text = ""
        self.text += event.data.get("text", "")
        assert event.data.get("offset", 0) == len(self.text.encode())


@asynccontextmanager
async def reading(
    client: Client, job_id: str, *, after: str = "", base: str = ""
) -> AsyncIterator[Stream]:
    headers = {"last-event-id": after} if after else {}
    url = f"{base or client.url}/v1/jobs/{job_id}/stream"
    async with (
        httpx.AsyncClient(timeout=PATIENCE_S) as http,
        http.stream("GET", url, headers=headers) as response,
    ):
        yield Stream(response)


async def test_a_reader_sees_the_whole_life_of_a_job(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with reading(client, job_id) as stream:
            assert stream.response.status_code == 200
            pending = await stream.expect("status")
            assert (pending.data["job"]["status"], pending.event_id) == ("pending", "0-00000000")
            async with client.miner() as miner:
                [assignment] = await miner.assignments()
                running = await stream.expect("status")
                assert running.data["job"]["status"] == "running"
                assert running.data["job"]["miner_id"] == "miner-1"
                for sequence, text in enumerate(TEXT):
                    await miner.say(assignment.lease_id, text, sequence)
                await stream.expect_text("".join(TEXT))
                await miner.complete(assignment.lease_id, "".join(TEXT), len(TEXT))
                final = await stream.expect("final")
                assert final.data["job"]["status"] == "completed"
                assert "result" not in final.data["job"]
                assert await stream.next() is None
        assert stream.text == (await client.job(job_id)).result


async def test_one_request_submits_and_streams(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        async with (
            httpx.AsyncClient(timeout=PATIENCE_S) as http,
            http.stream(
                "POST",
                f"{client.url}/api/v1/jobs?stream=true",
                json={"prompt": "p", "model": "m"},
                headers={"accept": "application/x-ndjson"},
            ) as response,
        ):
            assert response.status_code == 201
            assert response.headers["content-type"] == "application/x-ndjson"
            lines = response.aiter_lines()
            begin = json.loads(await anext(lines))
            [assignment] = await miner.assignments()
            assert begin["job"]["job_id"] == assignment.job.job_id
            await miner.complete(assignment.lease_id, "ok")
            rest = [json.loads(line) async for line in lines]
        assert [event["text"] for event in rest if event["type"] == "delta"] == ["ok"]
        assert rest[-1]["type"] == "final"


async def test_many_readers_come_at_any_time_and_all_get_the_same(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        async with reading(client, job_id) as first:
            await miner.say(assignment.lease_id, TEXT[0], 0)
            await first.expect("status")
            await first.expect_text(TEXT[0])
            async with reading(client, job_id) as second:
                await second.expect("status")
                await second.expect_text(TEXT[0])
                await miner.complete(assignment.lease_id, "".join(TEXT), 1)
                for stream in (first, second):
                    while await stream.next():
                        pass
        async with reading(client, job_id) as late:
            await late.expect("delta")
            await late.expect("final")
        assert {first.text, second.text, late.text} == {"".join(TEXT)}


async def test_a_reader_comes_back_with_its_last_event_also_after_the_end(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await miner.say(assignment.lease_id, TEXT[0], 0)
        async with reading(client, job_id) as stream:
            await stream.expect("status")
            await stream.expect_text(TEXT[0])
        for sequence, text in enumerate(TEXT[1:4], 1):
            await miner.say(assignment.lease_id, text, sequence)
        async with reading(client, job_id, after=stream.last_id) as back:
            back.text = stream.text
            await back.expect("status")
            await back.expect_text("".join(TEXT[:4]))
        await miner.complete(assignment.lease_id, "".join(TEXT), 4)
        await client.job(job_id, wait=10)
        async with reading(client, job_id, after=back.last_id) as again:
            again.text = back.text
            await again.expect("delta")
            await again.expect("final")
        assert again.text == "".join(TEXT)
        async with reading(client, job_id, after=again.last_id) as over:
            assert over.response.status_code == 204
            assert await over.response.aread() == b""


async def test_bad_readers_are_told_what_is_wrong(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        client.miner() as miner,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, "ü")
        await client.job(job_id, wait=10)
        path = f"/v1/jobs/{job_id}/stream"

        for last in ("x", "1", "-1-00000000", "1-zzzzzzzz"):
            answer = await http.get(path, headers={"last-event-id": last})
            assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_ARGUMENT")
            assert "Last-Event-ID" in answer.json()["detail"]
        for offset in ("1", "3", "-1", "x"):
            answer = await http.get(path, params={"from_offset": offset})
            assert answer.status_code == 400
            assert "from_offset" in answer.json()["detail"]
        whole = await http.get(path, params={"from_offset": "2"})
        assert [line for line in whole.text.splitlines() if line.startswith("event")] == [
            "event: final"
        ]
        # An EventSource that comes back repeats its query, and says in the header where it is now.
        [last] = [line[4:] for line in whole.text.splitlines() if line.startswith("id: ")]
        begin = {"after_event_id": "0-00000000"}
        answer = await http.get(path, params=begin, headers={"last-event-id": last})
        assert answer.status_code == 204
        for unknown in ("job-01jzzzzzzzzzzzzzzzzzzzzzzz", "x"):
            answer = await http.get(f"/v1/jobs/{unknown}/stream")
            assert (answer.status_code, answer.json()["error_code"]) == (404, "JOB_NOT_FOUND")


async def test_grpc_readers_get_the_same(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        call = client.jobs.RunJob(jobs_pb2.SubmitJobRequest(prompt="p", model="m"))
        begin = await call.read()
        assert isinstance(begin, jobs_pb2.JobEvent)
        [assignment] = await miner.assignments()
        await miner.say(assignment.lease_id, "a", 0)
        await miner.complete(assignment.lease_id, "ab", 1)
        events = []
        while isinstance(event := await call.read(), jobs_pb2.JobEvent):
            events.append(event)
        assert "".join(event.text for event in events if event.type == DELTA) == "ab"
        assert events[-1].type == FINAL
        assert events[-1].job.status == jobs_pb2.JOB_STATUS_COMPLETED

        unknown = client.jobs.StreamJob(jobs_pb2.StreamJobRequest(job_id="nope"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unknown.read()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_next_miner_goes_on_where_the_lost_one_was(tmp_path: Path) -> None:
    async with coordinator(tmp_path, lease_seconds=3, heartbeat_seconds=0.5) as client:
        job_id = await client.submit()
        async with reading(client, job_id) as stream:
            async with client.miner("first") as miner:
                [assignment] = await miner.assignments()
                assert not assignment.HasField("resume")
                await miner.say(assignment.lease_id, TEXT[0], 0)
                await miner.say(assignment.lease_id, TEXT[1], 1)
                while stream.text != TEXT[0] + TEXT[1]:
                    await stream.next()
            # Its lease is over: nobody came back.
            await stream.expect("status")
            async with client.miner("second") as miner:
                [assignment] = await miner.assignments()
                assert assignment.resume.text == TEXT[0] + TEXT[1]
                assert assignment.resume.tokens == 2
                await miner.say(assignment.lease_id, TEXT[2], 1)
                names = []
                while stream.text != "".join(TEXT[:3]):
                    event = await stream.next()
                    assert event is not None
                    names.append(event.name)
                assert names == ["status", "delta"]
                await miner.complete(assignment.lease_id, "".join(TEXT), 2)
                await stream.expect("delta")
                await stream.expect("final")
        job = await client.job(job_id)
        assert stream.text == job.result
        asked = receipts_pb2.GetReceiptRequest(receipt_id=job.receipt_id)
        receipt = await client.receipts.GetReceipt(asked)
        assert receipt.miner_id == "second"
        assert [(part.miner_id, part.characters) for part in receipt.resumed.parts] == [
            ("first", len(TEXT[0] + TEXT[1]))
        ]
        key = receipt.signature.public_key
        for is_changed in (False, True):
            if is_changed:
                receipt.resumed.parts[0].miner_id = "another"
            checked = receipts_pb2.VerifyReceiptRequest(receipt=receipt)
            assert (await client.receipts.VerifyReceipt(checked)).valid is not is_changed
            made = Receipt(document_of(receipt)).check([key], signature_only=True)
            assert any(one.outcome is Outcome.FAILED for one in made) is is_changed


@pytest.mark.parametrize("tells", [True, False])
async def test_who_begins_anew_has_said_all_of_it(tmp_path: Path, tells: bool) -> None:
    async with coordinator(tmp_path, lease_seconds=3, heartbeat_seconds=0.5) as client:
        job_id = await client.submit()
        async with reading(client, job_id) as stream:
            async with client.miner("first") as miner:
                [assignment] = await miner.assignments()
                await miner.say(assignment.lease_id, TEXT[0], 0)
                while stream.text != TEXT[0]:
                    await stream.next()
            await stream.expect("status")
            async with client.miner("second") as miner:
                [assignment] = await miner.assignments()
                assert assignment.resume.text == TEXT[0]
                if tells:
                    await miner.say(assignment.lease_id, TEXT[0], 0)
                await miner.complete(assignment.lease_id, "".join(TEXT), int(tells))
                job = await client.job(job_id, wait=10)
        asked = receipts_pb2.GetReceiptRequest(receipt_id=job.receipt_id)
        receipt = await client.receipts.GetReceipt(asked)
        assert receipt.miner_id == "second"
        assert not receipt.HasField("resumed")


async def test_no_miner_goes_on_from_one_that_failed(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with reading(client, job_id) as stream:
            async with client.miner("first") as miner:
                [assignment] = await miner.assignments()
                await miner.say(assignment.lease_id, "It is DE00 EVIL 0000. ", 0)
                while not stream.text:
                    await stream.next()
                await miner.fail(assignment.lease_id, sequence=1)
                await miner.expect("acks")
            async with client.miner("second") as miner:
                [assignment] = await miner.assignments()
                assert not assignment.HasField("resume")


async def test_a_reader_is_told_when_an_attempt_begins_anew(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with reading(client, job_id) as stream:
            async with client.miner("first") as miner:
                [assignment] = await miner.assignments()
                await miner.say(assignment.lease_id, "one answer", 0)
                while stream.text != "one answer":
                    await stream.next()
                await miner.fail(assignment.lease_id, sequence=1)
                await miner.expect("acks")
            async with client.miner("second") as miner:
                [assignment] = await miner.assignments()
                await miner.say(assignment.lease_id, "another", 0)
                while (await stream.next() or Event("", "", {})).name != "restarted":
                    pass
                await stream.expect_text("another")
                await miner.complete(assignment.lease_id, "another one", 1)
                await stream.expect("delta")
                await stream.expect("final")
        assert stream.text == (await client.job(job_id)).result
        # One who missed that is told when it comes back.
        async with reading(client, job_id, after="10-5e9d0f0a") as back:
            await back.expect("restarted")
            await back.expect("delta")
            assert back.text == "another one"


async def test_a_stream_goes_on_over_a_restart_of_the_coordinator(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with reading(client, job_id) as stream, client.miner() as miner:
            [assignment] = await miner.assignments()
            await miner.say(assignment.lease_id, TEXT[0], 0)
            while stream.text != TEXT[0]:
                await stream.next()
            stopping = asyncio.create_task(_stop(client))
            error = await stream.expect("error")
            assert error.data["error_code"] == "DRAINING"
            assert await stream.next() is None
            await stopping
    async with coordinator(tmp_path) as client:
        # Back before its miner is.
        async with reading(client, job_id, after=stream.last_id) as back:
            back.text = stream.text
            await back.expect("status")
            async with client.miner(held=[assignment.lease_id]) as miner:
                [ack] = miner.welcome.acks
                assert ack.next_sequence == 0
                await miner.say(assignment.lease_id, TEXT[0] + TEXT[1], 0)
                await back.expect_text(TEXT[0] + TEXT[1])
                await miner.complete(assignment.lease_id, "".join(TEXT), 1)
                await back.expect("delta")
                await back.expect("final")
        assert back.text == "".join(TEXT)


async def test_the_gateway_passes_streams_on_as_they_come(tmp_path: Path) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with coordinator(tmp_path) as client, client.miner() as miner:
        target = f"127.0.0.1:{client.coordinator.grpc_port}"
        running = asyncio.create_task(
            run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
        )
        base = f"http://127.0.0.1:{await ready}"
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        async with reading(client, job_id, base=base) as stream:
            await stream.expect("status")
            await miner.say(assignment.lease_id, "ü", 0)
            await stream.expect_text("ü")
            await miner.complete(assignment.lease_id, "üß", 1)
            await stream.expect("delta")
            await stream.expect("final")
        async with reading(client, job_id, base=base, after=stream.last_id) as over:
            assert over.response.status_code == 204
        async with reading(client, "nope", base=base) as unknown:
            assert unknown.response.status_code == 404
        async with reading(client, job_id, base=base, after="nope") as bad:
            assert bad.response.status_code == 400
        stop.set()
        await running


async def _stop(client: Client) -> None:
    await client.coordinator.drain()
    await client.coordinator.stop()


async def test_a_slow_reader_gets_larger_deltas_and_no_gap(tmp_path: Path) -> None:
    parts = [f"{number:05d} " + "ü" * 10_000 for number in range(200)]
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", client.coordinator.http_port))
            raw.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=raw, limit=2**24)
            path = f"/v1/jobs/{job_id}/stream"
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            transport: Any = writer.transport
            transport.pause_reading()
            for sequence, part in enumerate(parts):
                await miner.say(assignment.lease_id, part, sequence)
            await miner.complete(assignment.lease_id, "".join(parts), len(parts))
            await miner.expect("acks")
            transport.resume_reading()
            deltas = []
            async with asyncio.timeout(PATIENCE_S):
                while b"event: final" not in (event := await reader.readuntil(b"\n\n")):
                    if b"event: delta" in event:
                        deltas.append(json.loads(event.split(b"data: ")[1].split(b"\n")[0]))
            writer.close()
    assert "".join(delta["text"] for delta in deltas) == "".join(parts)
    assert len(deltas) < len(parts)
