"""What keeps owners apart in the caches of engines: secret, told to miners, the same for ever."""

from __future__ import annotations

import secrets
from pathlib import Path

from aitbc.v1 import jobs_pb2, miners_pb2
from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import KeyRecord, digest_of, key_id_of, new_key
from aitbc_server.store.key_file import open_keys
from tests.integration.server.harness import Client, coordinator


def client_keys(data: Path, count: int) -> list[str]:
    """Makes keys of clients."""
    keys = [new_key(secrets.randbelow) for _ in range(count)]
    with open_keys(data) as file:
        for text in keys:
            file.create(
                KeyRecord(
                    key_id=key_id_of(text),
                    digest=digest_of(text),
                    role=Role.CLIENT,
                    name="test",
                    created_us=1,
                )
            )
    return keys


async def submitted(client: Client, key: str | None) -> str:
    metadata = (("x-api-key", key),) if key else ()
    request = jobs_pb2.SubmitJobRequest(prompt="hello", model="m")
    return (await client.jobs.SubmitJob(request, metadata=metadata)).job_id


async def salts(client: Client, keys: list[str | None]) -> dict[str | None, str]:
    """Returns what a miner is told of the jobs of each caller."""
    found = {}
    async with client.miner(window=1) as miner:
        for key in keys:
            job_id = await submitted(client, key)
            [assignment] = await miner.assignments()
            assert assignment.job.job_id == job_id
            found[key] = assignment.job.cache_salt
            await miner.complete(assignment.lease_id)
            await miner.expect("acks")
    return found


async def test_each_owner_has_its_own_for_ever_and_keyless_callers_share_one(
    tmp_path: Path,
) -> None:
    callers: list[str | None] = [*client_keys(tmp_path, 2), None]
    async with coordinator(tmp_path) as client:
        first = await salts(client, callers)
        assert await salts(client, callers[::-1]) == first
    assert len(set(first.values())) == 3
    assert all(len(salt) == 32 for salt in first.values())
    async with coordinator(tmp_path) as client:
        assert await salts(client, callers) == first


async def test_what_a_request_names_keeps_it_from_others_of_its_owner_and_of_all(
    tmp_path: Path,
) -> None:
    keys = client_keys(tmp_path, 2)
    found = []
    async with coordinator(tmp_path) as client, client.miner(window=1) as miner:
        for key, named in ((0, ""), (0, "x"), (0, "y"), (1, "x"), (0, "x")):
            request = jobs_pb2.SubmitJobRequest(prompt="hello", model="m", cache_salt=named)
            metadata = (("x-api-key", keys[key]),)
            job_id = (await client.jobs.SubmitJob(request, metadata=metadata)).job_id
            [assignment] = await miner.assignments()
            found.append(assignment.job.cache_salt)
            await miner.complete(assignment.lease_id)
            await miner.expect("acks")
            asked = jobs_pb2.GetJobRequest(job_id=job_id)
            assert not (await client.jobs.GetJob(asked, metadata=metadata)).cache_salt
    assert len(set(found[:4])) == 4
    assert found[4] == found[1]


async def test_another_coordinator_has_others_and_the_secret_is_its_owners_alone(
    tmp_path: Path,
) -> None:
    found = []
    for name in ("a", "b"):
        async with coordinator(tmp_path / name) as client:
            found.append((await salts(client, [None]))[None])
        assert (tmp_path / name / "cache-salt.key").stat().st_mode & 0o777 == 0o600
    assert found[0] != found[1]


async def test_a_miner_that_claims_is_told_and_the_client_is_not(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        await client.miners.RegisterMiner(
            miners_pb2.RegisterMinerRequest(miner_id="poller", capabilities=["m"])
        )
        job_id = await client.submit()
        claimed = await client.jobs.ClaimJob(
            jobs_pb2.ClaimJobRequest(job_id=job_id, miner_id="poller")
        )
        assert claimed.cache_salt
        assert not (await client.job(job_id)).cache_salt
