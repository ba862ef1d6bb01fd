"""Files over OpenAI's API: whose they are, what is refused, and what goes with them."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from typer.testing import CliRunner

from aitbc.v1 import miners_pb2
from aitbc_server.cli import cli
from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import key_address, key_id_of, new_key
from aitbc_server.rest.gateway import run_gateway
from aitbc_server.store.backup import back_up, restore
from aitbc_server.store.directory import FILE_NAME
from aitbc_server.store.key_file import open_keys
from tests.factories import key_record
from tests.integration.server.harness import PATIENCE_S, Client, coordinator

CHAT: Any = "/v1/chat/completions"
FINAL = ("completed", "failed", "expired", "cancelled")
SECRET = b"what she asked for"
SMALL = {
    "file_max_bytes": 1_000_000,
    "file_max_bytes_per_owner": 2_500_000,
    "file_max_per_owner": 4,
    "batch_max_per_owner": 2,
}


def make_key(data: Path, role: Role = Role.CLIENT) -> str:
    """Stores a new key."""
    text = new_key(secrets.randbelow)
    with open_keys(data) as file:
        file.create(key_record(text, role=role))
    return text


async def register_miner(running: Client, data: Path) -> None:
    """Registers a miner that never comes: the jobs of its model wait."""
    request = miners_pb2.RegisterMinerRequest(miner_id="away", capabilities=["m"])
    metadata = (("x-api-key", make_key(data, Role.MINER)),)
    await running.miners.RegisterMiner(request, metadata=metadata)


def revoke(data: Path, key: str) -> None:
    with open_keys(data) as file:
        file.revoke(key_id_of(key), time.time_ns() // 1000)


def client_of(url: str, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=PATIENCE_S)


@asynccontextmanager
async def two_owners(
    data: Path, **settings: Any
) -> AsyncIterator[tuple[Client, openai.AsyncOpenAI, openai.AsyncOpenAI, str]]:
    """Gives a coordinator, two clients of it, and the key of the first one."""
    async with coordinator(data, auth="required", **(SMALL | settings)) as running:
        keys = make_key(data), make_key(data)
        async with client_of(running.url, keys[0]) as hers, client_of(running.url, keys[1]) as his:
            yield running, hers, his, keys[0]


def line(custom_id: str = "1", model: str = "m") -> bytes:
    messages = [{"role": "user", "content": SECRET.decode()}]
    body = {"model": model, "messages": messages}
    asked = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}
    return json.dumps(asked).encode() + b"\n"


async def upload(client: openai.AsyncOpenAI, content: bytes = line()) -> str:
    file = await client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    return file.id


async def begin(client: openai.AsyncOpenAI, content: bytes = line()) -> str:
    batch = await client.batches.create(
        input_file_id=await upload(client, content), endpoint=CHAT, completion_window="24h"
    )
    return batch.id


async def ended(client: openai.AsyncOpenAI, batch_id: str) -> Any:
    """Returns a batch once it has ended."""

    async def look() -> Any:
        batch = await client.batches.retrieve(batch_id)
        return batch if batch.status in FINAL else None

    return await found(look)


async def found(look: Callable[[], Awaitable[Any]]) -> Any:
    """Returns what a look finds, once it finds something."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if seen := await look():
                return seen
            await asyncio.sleep(0.01)


async def test_a_file_comes_back_byte_for_byte(tmp_path: Path) -> None:
    async with two_owners(
        tmp_path, file_max_bytes=3_000_000, file_max_bytes_per_owner=9_000_000
    ) as (_, hers, _, _):
        content = secrets.token_bytes(2_500_000) + b"\r\n--boundary--\r\n"
        file = await hers.files.create(
            file=('wörter "a".jsonl', io.BytesIO(content)),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert file.bytes == len(content)
        assert file.expires_at == file.created_at + 3600
        assert file.status == "processed"
        assert file.filename == 'wörter "a".jsonl'
        told = await hers.files.content(file.id)
        assert told.content == content
        assert told.response.headers["content-disposition"] == (
            'attachment; filename="w_rter _a_.jsonl"; '
            "filename*=UTF-8''w%C3%B6rter%20%22a%22.jsonl"
        )
        assert await hers.files.retrieve(file.id) == file
        listed = [one async for one in hers.files.list()]
        assert listed == [file]
        assert (await hers.files.delete(file.id)).deleted
        assert [one async for one in hers.files.list()] == []
        with pytest.raises(openai.NotFoundError):
            await hers.files.content(file.id)


async def test_lists_go_page_by_page_either_way(tmp_path: Path) -> None:
    async with two_owners(tmp_path) as (_, hers, his, _):
        ids = [await upload(hers) for _ in range(3)]
        await upload(his)
        assert [file.id async for file in hers.files.list(limit=1)] == ids[::-1]
        assert [file.id async for file in hers.files.list(limit=2, order="asc")] == ids
        assert [file.id async for file in hers.files.list(purpose="fine-tune")] == []
        batches = [await begin(hers), await begin(his)]
        assert [batch.id async for batch in hers.batches.list(limit=1)] == batches[:1]


async def test_nobody_else_sees_or_changes_files_and_batches(tmp_path: Path) -> None:
    async with two_owners(tmp_path) as (_, hers, his, _):
        batch_id = await begin(hers)
        file_id = (await hers.batches.retrieve(batch_id)).input_file_id
        for refused in (
            lambda: his.files.retrieve(file_id),
            lambda: his.files.content(file_id),
            lambda: his.files.delete(file_id),
            lambda: his.batches.retrieve(batch_id),
            lambda: his.batches.cancel(batch_id),
            lambda: his.files.list(after=file_id),
            lambda: his.batches.list(after=batch_id),
            lambda: his.batches.create(
                input_file_id=file_id, endpoint=CHAT, completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                await refused()
        assert [one async for one in his.files.list()] == []
        assert [one async for one in his.batches.list()] == []


async def test_limits_of_an_owner_are_told(tmp_path: Path) -> None:
    async with two_owners(tmp_path) as (running, hers, his, _):
        with pytest.raises(openai.APIStatusError) as caught:
            await upload(hers, bytes(1_000_001))
        assert caught.value.status_code == 413
        for _ in range(2):
            await upload(hers, bytes(1_000_000))
        with pytest.raises(openai.ConflictError, match="2500000 bytes together"):
            await upload(hers, bytes(600_000))
        # What was refused is not kept, and not counted.
        for _ in range(2):
            await upload(hers)
        with pytest.raises(openai.ConflictError, match="4 files already"):
            await upload(hers)
        await register_miner(running, tmp_path)
        for _ in range(2):
            await begin(his, line())
        with pytest.raises(openai.ConflictError, match="have not ended"):
            await begin(his, line())


async def test_a_file_in_use_stays_until_its_batch_has_ended(tmp_path: Path) -> None:
    async with two_owners(tmp_path) as (running, hers, _, _):
        await register_miner(running, tmp_path)
        batch_id = await begin(hers)
        file_id = (await hers.batches.retrieve(batch_id)).input_file_id
        with pytest.raises(openai.ConflictError):
            await hers.files.delete(file_id)
        await hers.batches.cancel(batch_id)
        assert (await ended(hers, batch_id)).status == "cancelled"
        assert (await hers.files.delete(file_id)).deleted


async def test_a_revoked_key_ends_its_batches(tmp_path: Path) -> None:
    async with two_owners(tmp_path, batch_jobs_at_once=1) as (running, hers, _, key):
        await register_miner(running, tmp_path)
        batch_id = await begin(hers, line("1") + line("2"))
        jobs = running.coordinator._dispatcher.core.jobs
        store = running.coordinator._store.batches

        async def queued() -> list[str]:
            return list(jobs)

        async def ended_batch() -> Any:
            batch = await store.batch(batch_id)
            return batch if batch is not None and batch.status.is_final else None

        (job_id,) = await found(queued)
        revoke(tmp_path, key)
        # The first of its jobs ends, and no other one begins.
        running.coordinator._dispatcher.cancel(job_id)
        batch = await found(ended_batch)
        assert batch.status == "cancelled"
        assert [fault.code for fault in batch.faults] == ["invalid_api_key"]
        assert batch.failed == 2


async def test_a_callers_files_are_forgotten_with_its_jobs(tmp_path: Path) -> None:
    async with two_owners(tmp_path) as (_, hers, his, key):
        await upload(hers)
        kept = await upload(his)
        assert (await ended(hers, await begin(hers))).request_counts.failed == 1
        address = key_address(key_id_of(key))
        command = ["forget", address, "--data", str(tmp_path), "--yes"]
        done = await asyncio.to_thread(CliRunner().invoke, cli, command)
        assert "3 files" in done.output
        assert [one async for one in hers.files.list()] == []
        assert [one async for one in hers.batches.list()] == []
        assert [one.id async for one in his.files.list()] == [kept]
        await his.files.delete(kept)
    # The last file is deleted at the next start, where it was not before.
    async with coordinator(tmp_path, auth="required"):
        pass
    assert SECRET not in (tmp_path / FILE_NAME).read_bytes()


async def test_a_backup_has_files_and_batches(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    async with two_owners(data) as (_, hers, _, key):
        batch = await ended(hers, await begin(hers))
        content = (await hers.files.content(batch.error_file_id)).content
        await asyncio.to_thread(back_up, data, tmp_path / "copy")
    restore(tmp_path / "copy", other, replace=False)
    async with coordinator(other, auth="required") as again, client_of(again.url, key) as hers:
        assert await hers.batches.retrieve(batch.id) == batch
        assert (await hers.files.content(batch.error_file_id)).content == content


async def test_files_go_away_when_their_time_is_over(tmp_path: Path) -> None:
    async with two_owners(tmp_path, file_retention="1s") as (running, hers, _, _):
        batch = await ended(hers, await begin(hers))
        store = running.coordinator._store.batches

        async def are_gone() -> bool:
            # The next look is at once, not after half a minute.
            running.coordinator._files.dropped()
            files = [one async for one in hers.files.list()]
            return not files and await store.batch(batch.id) is None

        await found(are_gone)


async def test_what_is_not_there_is_named_by_its_parameter(tmp_path: Path) -> None:
    async with (
        two_owners(tmp_path, limit_requests_per_second=0) as (running, hers, _, key),
        gateway(running) as url,
        client_of(url, key) as through,
    ):
        for api in (hers, through):
            for asking, param in (
                (api.files.retrieve("file-x"), "file_id"),
                (api.files.delete("file-x"), "file_id"),
                (api.files.content("file-x"), "file_id"),
                (api.files.list(after="file-x"), "after"),
                (api.batches.retrieve("batch_x"), "batch_id"),
                (api.batches.cancel("batch_x"), "batch_id"),
                (api.batches.list(after="batch_x"), "after"),
                (
                    api.batches.create(
                        input_file_id="file-x", endpoint=CHAT, completion_window="24h"
                    ),
                    "input_file_id",
                ),
            ):
                with pytest.raises(openai.NotFoundError) as caught:
                    await asking
                assert caught.value.param == param


@asynccontextmanager
async def gateway(running: Client) -> AsyncIterator[str]:
    """Gives the base URL of a gateway."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    target = f"127.0.0.1:{running.coordinator.grpc_port}"
    serving = asyncio.create_task(
        run_gateway(target, "127.0.0.1", 0, stop=stop, on_ready=ready.set_result)
    )
    try:
        yield f"http://127.0.0.1:{await ready}"
    finally:
        stop.set()
        await serving


async def test_it_is_the_same_through_a_gateway(tmp_path: Path) -> None:
    async with (
        two_owners(tmp_path, limit_requests_per_second=0) as (running, hers, _, key),
        gateway(running) as url,
        client_of(url, key) as through,
    ):
        content = line() + b" " * 999_000
        file_id = await upload(through, content)
        assert (await hers.files.content(file_id)).content == content
        assert (await through.files.content(file_id)).content == content
        batch = await through.batches.create(
            input_file_id=file_id, endpoint=CHAT, completion_window="24h"
        )
        done = await ended(through, batch.id)
        assert done == await hers.batches.retrieve(batch.id)
        assert done.status == "completed"
        with pytest.raises(openai.NotFoundError):
            await through.files.retrieve("file-none")
        with pytest.raises(openai.APIStatusError) as caught:
            await upload(through, bytes(1_000_001))
        assert caught.value.status_code == 413


async def test_the_parts_of_an_upload_through_a_gateway_go_no_faster_than_they_may(
    tmp_path: Path,
) -> None:
    settings = {"limit_requests_per_second": 20, "limit_burst": 3}
    async with (
        two_owners(tmp_path, **settings) as (running, _, _, key),
        gateway(running) as url,
        client_of(url, key) as through,
    ):
        # Six calls of the coordinator.
        await upload(through, bytes(1_000_000))


NAMED = (
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a%b"\r\n\r\nz\r\n'
    b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--'
)


@pytest.mark.parametrize(
    ("content_type", "body", "param"),
    [
        ("application/json", b"{}", None),
        ("multipart/form-data", b"", None),
        ("multipart/form-data; boundary=", b"", None),
        (f"multipart/form-data; boundary={'b' * 300}", b"", None),
        ("multipart/form-data; boundary=x", b"", None),
        ("multipart/form-data; boundary=x", b"--y\r\n", None),
        ("multipart/form-data; boundary=x", b"--x--\r\n", "file"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
            "file",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nz\r\n--x--',
            "purpose",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nz\r\n'
            b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nvision\r\n--x--',
            "purpose",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nnever ends',
            None,
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\na\r\n'
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="g"\r\n\r\nb\r\n--x--',
            "file",
        ),
        *(
            (
                "multipart/form-data; boundary=x",
                NAMED % name,
                "file",
            )
            for name in (b"%0D%0Ax: y", b"\t", b"\x7f", b"\0")
        ),
    ],
)
async def test_forms_that_are_wrong_are_refused_and_leave_nothing(
    content_type: str, body: bytes, param: str | None, tmp_path: Path
) -> None:
    async with coordinator(tmp_path) as running, httpx.AsyncClient() as http:
        answer = await http.post(
            f"{running.url}/v1/files", content=body, headers={"content-type": content_type}
        )
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param
        assert (await http.get(f"{running.url}/v1/files")).json()["data"] == []
        connection = running.coordinator._store._read_connection
        count = "SELECT count(*) FROM files WHERE NOT is_gone"
        assert connection.execute(count).fetchone() == (0,)
