"""The Work stream against a real coordinator: what a miner of any language may rely on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from aitbc.v1 import jobs_pb2, miners_pb2, work_pb2
from tests.integration.server.harness import FakeMiner, coordinator

PENDING, RUNNING = jobs_pb2.JOB_STATUS_PENDING, jobs_pb2.JOB_STATUS_RUNNING
COMPLETED, FAILED = jobs_pb2.JOB_STATUS_COMPLETED, jobs_pb2.JOB_STATUS_FAILED
CANCELLED = jobs_pb2.JOB_STATUS_CANCELLED
ATTEMPT_FAILED = jobs_pb2.ATTEMPT_OUTCOME_FAILED


async def test_a_job_goes_to_the_miner_and_its_result_is_acknowledged(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        params = jobs_pb2.GenerationParams(max_tokens=7)
        job_id = await client.submit("ping", params=params, timeout_seconds=60)
        [assignment] = await miner.assignments()
        job = assignment.job
        assert (job.job_id, job.prompt, job.params) == (job_id, "ping", params)
        assert assignment.deadline.seconds == job.created_at.seconds + 60
        await miner.complete(assignment.lease_id, "pong 🙂", sequence=3)
        [ack] = (await miner.expect("acks")).acks.acks
        assert (ack.lease_id, ack.next_sequence) == (assignment.lease_id, 4)
        stored = await client.job(job_id, wait=10)
        assert (stored.status, stored.result, stored.attempt) == (COMPLETED, "pong 🙂", 1)


async def test_a_backlog_is_given_out_in_order_and_never_beyond_the_window(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        jobs = [await client.submit(str(number)) for number in range(6)]
        async with client.miner(window=2) as miner:
            first = await miner.assignments(2)
            assert [a.job.job_id for a in first] == jobs[:2]
            await miner.complete(first[0].lease_id)
            await miner.expect("acks")
            [third] = await miner.assignments()
            assert third.job.job_id == jobs[2]
            await miner.send(capacity=work_pb2.Capacity(max_outstanding_jobs=4))
            assert [a.job.job_id for a in await miner.assignments(2)] == jobs[3:5]


async def test_a_window_of_zero_takes_nothing(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        client.miner("closed", window=0),
        client.miner("open") as miner,
    ):
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        assert assignment.job.job_id == job_id


@pytest.mark.parametrize(
    ("hello", "field"),
    [
        (work_pb2.Hello(models=["m"]), "miner_id"),
        (work_pb2.Hello(miner_id="a b", models=["m"]), "miner_id"),
        (work_pb2.Hello(miner_id="a"), "models"),
        (work_pb2.Hello(miner_id="a", models=["m", ""]), "models"),
        (
            work_pb2.Hello(
                miner_id="a",
                models=["m"],
                capacity=work_pb2.Capacity(max_outstanding_jobs=-1),
            ),
            "capacity.max_outstanding_jobs",
        ),
        (work_pb2.Hello(miner_id="a", models=["m"], parents={"n": "m"}), "parents"),
        (work_pb2.Hello(miner_id="a", models=["m"], parents={"m": "n"}), "parents"),
        (work_pb2.Hello(miner_id="a", models=["m"], parents={"m": "m"}), "parents"),
    ],
)
async def test_a_wrong_hello_is_refused_by_field(
    tmp_path: Path, hello: work_pb2.Hello, field: str
) -> None:
    async with coordinator(tmp_path) as client:
        miner = FakeMiner(client.miners.Work())
        await miner.send(hello=hello)
        assert await miner.end() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert field in await miner.call.details()


async def test_hello_comes_first_and_once(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        early = FakeMiner(client.miners.Work())
        await early.send(heartbeat=work_pb2.Heartbeat())
        assert (await early.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
        async with client.miner() as miner:
            await miner.send(hello=work_pb2.Hello(miner_id="miner-1", models=["m"]))
            assert (await miner.end())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_new_session_ends_the_older_one(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as older:
        job_id = await client.submit()
        [assignment] = await older.assignments()
        async with client.miner(held=[assignment.lease_id]) as newer:
            assert await older.end() == (grpc.StatusCode.ABORTED, "SESSION_SUPERSEDED")
            assert list(newer.welcome.lost_lease_ids) == []
            await newer.complete(assignment.lease_id)
            assert (await client.job(job_id, wait=10)).attempt == 1


async def test_a_process_that_was_superseded_cannot_come_back(tmp_path: Path) -> None:
    def hello(process_id: str) -> work_pb2.Hello:
        return work_pb2.Hello(miner_id="miner-1", models=["m"], process_id=process_id)

    async with coordinator(tmp_path) as client:
        older, newer, again, same = (FakeMiner(client.miners.Work()) for _ in range(4))
        await older.send(hello=hello("a"))
        await older.expect("welcome")
        await newer.send(hello=hello("b"))
        await newer.expect("welcome")
        # It may not have learnt why its stream ended: a write that is cut off hides the reason.
        await again.send(hello=hello("a"))
        assert await again.end() == (grpc.StatusCode.ABORTED, "SESSION_SUPERSEDED")
        # A process that lost its connection takes over from itself.
        await same.send(hello=hello("b"))
        await same.expect("welcome")
        assert await newer.end() == (grpc.StatusCode.ABORTED, "SESSION_SUPERSEDED")
        same.call.cancel()


async def test_a_job_of_a_process_that_a_newer_one_takes_over_from_is_not_set_aside(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit(max_attempts=4)
        processes = [FakeMiner(client.miners.Work()) for _ in range(4)]
        for number, process in enumerate(processes):
            hello = work_pb2.Hello(
                miner_id="miner-1",
                models=["m"],
                process_id=f"process-{number}",
                capacity=work_pb2.Capacity(max_outstanding_jobs=1),
            )
            await process.send(hello=hello)
            await process.expect("welcome")
            [assignment] = await process.assignments()
        await processes[-1].complete(assignment.lease_id)
        job = await client.job(job_id, wait=10)
        codes = [attempt.error.code for attempt in job.attempts]
        assert (job.status, codes) == (COMPLETED, ["MINER_RESTARTED"] * 3 + [""])
        processes[-1].call.cancel()


async def test_bytes_that_are_no_message_are_the_miners_fault(tmp_path: Path) -> None:
    hello = work_pb2.MinerMessage(hello=work_pb2.Hello(miner_id="m", models=["m"]))
    async with (
        coordinator(tmp_path) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{client.coordinator.grpc_port}") as channel,
    ):
        for before in ([], [hello.SerializeToString()]):
            miner = FakeMiner(channel.stream_stream("/aitbc.v1.MinerService/Work")())
            for message in [*before, b"\x0a\xff"]:
                await miner.call.write(message)
            assert await miner.end() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def test_a_miner_that_comes_back_goes_on_with_what_it_holds(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with client.miner() as miner:
            [assignment] = await miner.assignments()
        async with client.miner(held=[assignment.lease_id, "lease-unknown"]) as miner:
            assert list(miner.welcome.lost_lease_ids) == ["lease-unknown"]
            assert [ack.next_sequence for ack in miner.welcome.acks] == [0]
            await miner.complete(assignment.lease_id, "kept")
            job = await client.job(job_id, wait=10)
            assert (job.result, job.attempt) == ("kept", 1)


async def test_a_restarted_coordinator_takes_back_what_its_miners_run(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        running, finished = await client.submit(), await client.submit()
        leases = {a.job.job_id: a.lease_id for a in await miner.assignments(2)}
        await miner.complete(leases[finished], "stored")
        await client.job(finished, wait=10)
    async with (
        coordinator(tmp_path) as client,
        client.miner(held=list(leases.values())) as miner,
    ):
        assert list(miner.welcome.lost_lease_ids) == []
        acks = {ack.lease_id: ack.next_sequence for ack in miner.welcome.acks}
        assert acks[leases[running]] == 0
        assert acks[leases[finished]] > 1000
        assert (await client.job(running)).status == RUNNING
        await miner.complete(leases[running], "later")
        job = await client.job(running, wait=10)
        assert (job.result, job.attempt) == ("later", 1)
        assert (await client.job(finished)).result == "stored"


async def test_a_miner_that_comes_back_without_its_job_loses_it(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit()
        async with client.miner() as miner:
            [first] = await miner.assignments()
        async with client.miner() as miner:
            [second] = await miner.assignments()
            assert (second.job.job_id, second.attempt) == (job_id, 2)
            assert second.lease_id != first.lease_id


async def test_what_reaches_a_miner_that_has_left_goes_to_another_at_once(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner("leaving") as leaving:
        job_id = await client.submit()
        [unread] = await leaving.assignments()
        await leaving.send(capacity=work_pb2.Capacity(max_outstanding_jobs=0))
        await leaving.call.done_writing()
        assert await leaving.end() == (grpc.StatusCode.OK, "")
        async with client.miner("other") as other:
            [assignment] = await other.assignments()
            assert (assignment.job.job_id, assignment.attempt) == (job_id, unread.attempt + 1)


async def test_a_silent_miner_loses_its_jobs_and_its_stream(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, lease_seconds=1.0) as client,
        client.miner("silent", window=1) as silent,
    ):
        job_id = await client.submit()
        [lost] = await silent.assignments()
        async with client.miner("other") as other:
            beats = asyncio.create_task(_beat(other))
            [assignment] = await other.assignments()
            assert (assignment.job.job_id, assignment.attempt) == (job_id, 2)
            assert await silent.end() == (grpc.StatusCode.UNAVAILABLE, "SESSION_SILENT")
            async with client.miner("silent", held=[lost.lease_id]) as back:
                assert list(back.welcome.lost_lease_ids) == [lost.lease_id]
                await back.complete(lost.lease_id, "too late")
                [cancelled] = (await back.expect("cancellations")).cancellations.cancellations
                assert cancelled.reason == work_pb2.CANCEL_REASON_LEASE_LOST
            await other.complete(assignment.lease_id, "in time")
            assert (await client.job(job_id, wait=10)).result == "in time"
            beats.cancel()


async def _beat(miner: FakeMiner) -> None:
    # The pace of a live miner, not a wait for anything.
    while True:
        await miner.send(heartbeat=work_pb2.Heartbeat())
        await asyncio.sleep(0.2)


async def test_a_repeated_result_is_acknowledged_again_and_changes_nothing(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, "first")
        await miner.expect("acks")
        await miner.complete(assignment.lease_id, "second")
        [ack] = (await miner.expect("acks")).acks.acks
        assert ack.lease_id == assignment.lease_id
        assert (await client.job(job_id)).result == "first"


async def test_a_cancelled_job_is_stopped_and_its_slot_is_free(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner(window=1) as miner:
        job_id, next_id = await client.submit(), await client.submit()
        [assignment] = await miner.assignments()
        cancelling = asyncio.ensure_future(
            client.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id))
        )
        [told] = (await miner.expect("cancellations")).cancellations.cancellations
        assert (told.lease_id, told.reason) == (
            assignment.lease_id,
            work_pb2.CANCEL_REASON_REQUESTED,
        )
        await miner.fail(assignment.lease_id, "CANCELLED", retryable=False)
        assert (await cancelling).status == CANCELLED
        await miner.expect("acks")
        [following] = await miner.assignments()
        assert following.job.job_id == next_id


async def test_a_completion_that_comes_before_the_stop_wins(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        cancelling = asyncio.ensure_future(
            client.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id))
        )
        await miner.expect("cancellations")
        await miner.complete(assignment.lease_id, "just made it")
        with pytest.raises(grpc.aio.AioRpcError, match="completed already"):
            await cancelling
        assert (await client.job(job_id)).result == "just made it"


async def test_a_failure_that_can_be_retried_goes_to_another_miner(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        client.miner("bad", window=1) as bad,
    ):
        job_id = await client.submit()
        [first] = await bad.assignments()
        async with client.miner("good") as good:
            await bad.fail(first.lease_id)
            [second] = await good.assignments()
            assert (second.job.job_id, second.attempt) == (job_id, 2)


async def test_a_job_fails_when_its_attempts_are_used_up(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit(max_attempts=2)
        for _ in range(2):
            [assignment] = await miner.assignments()
            await miner.fail(assignment.lease_id)
            await miner.expect("acks")
        job = await client.job(job_id, wait=10)
        assert (job.status, job.error.code, job.attempt) == (FAILED, "OOM", 2)


async def test_a_final_failure_is_not_retried(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await miner.fail(assignment.lease_id, "BAD_REQUEST", retryable=False)
        job = await client.job(job_id, wait=10)
        assert (job.status, job.error.message, job.attempt) == (FAILED, "it broke", 1)


async def test_the_deadline_ends_running_and_waiting_jobs(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner(window=1) as miner:
        running = await client.submit(timeout_seconds=1)
        [assignment] = await miner.assignments()
        waiting = await client.submit(timeout_seconds=1)
        [told] = (await miner.expect("cancellations")).cancellations.cancellations
        assert (told.lease_id, told.reason) == (
            assignment.lease_id,
            work_pb2.CANCEL_REASON_DEADLINE_PASSED,
        )
        for job_id in (running, waiting):
            job = await client.job(job_id, wait=10)
            assert (job.status, job.error.code) == (FAILED, "DEADLINE_EXCEEDED")


async def test_a_drain_is_announced_and_the_stream_then_unavailable(tmp_path: Path) -> None:
    async with coordinator(tmp_path, drain_seconds=0.3) as client, client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        draining = asyncio.create_task(client.coordinator.drain())
        assert (await miner.expect("drain")).drain.grace_period.nanos == 300_000_000
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.submit()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await draining
        stopping = asyncio.create_task(client.coordinator.stop())
        assert await miner.end() == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        await stopping
    async with coordinator(tmp_path) as client, client.miner(held=[assignment.lease_id]) as miner:
        assert [ack.lease_id for ack in miner.welcome.acks] == [assignment.lease_id]
        await miner.complete(assignment.lease_id)
        assert (await client.job(job_id, wait=10)).attempt == 1


async def test_a_result_that_comes_during_the_drain_is_stored(tmp_path: Path) -> None:
    async with coordinator(tmp_path, drain_seconds=10.0) as client, client.miner() as miner:
        await client.submit()
        [assignment] = await miner.assignments()
        draining = asyncio.create_task(client.coordinator.drain())
        await miner.expect("drain")
        await miner.complete(assignment.lease_id)
        await miner.expect("acks")
        async with asyncio.timeout(5):
            await draining


async def test_an_idle_stream_has_data_both_ways(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path, heartbeat_seconds=0.2) as client,
        client.miner() as miner,
        asyncio.timeout(10),
    ):
        for _ in range(3):
            message = await miner.call.read()
            assert message.WhichOneof("message") == "heartbeat"


async def test_big_assignments_are_cut_into_messages_a_receiver_takes(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        prompt = "x" * 1_000_000
        jobs = [await client.submit(prompt) for _ in range(6)]
        async with client.miner(window=10) as miner:
            assigned = await miner.assignments(6)
            assert [a.job.job_id for a in assigned] == jobs
            assert {len(a.job.prompt) for a in assigned} == {len(prompt)}


async def test_a_job_that_kills_miners_is_set_aside_with_each_reason_listed(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path, lease_seconds=1.0) as client:
        job_id = await client.submit()
        async with client.miner("killed-1") as miner:
            await miner.assignments()
        async with client.miner("killed-2") as miner:
            beats = asyncio.create_task(_beat(miner))
            [assignment] = await miner.assignments()
            beats.cancel()
            await miner.fail(assignment.lease_id, "OOM")
            await miner.expect("acks")
            running = await client.job(job_id)
            assert [a.outcome for a in running.attempts] == [ATTEMPT_FAILED] * 2
        async with client.miner("killed-3") as miner:
            await miner.assignments()
            running = await client.job(job_id)
            assert running.attempts[2].outcome == jobs_pb2.ATTEMPT_OUTCOME_RUNNING
            assert not running.attempts[2].HasField("ended_at")
        job = await client.job(job_id, wait=10)
        assert (job.status, job.error.code) == (FAILED, "POISON")
        assert "2 miner processes vanished while they had the job" in job.error.message
        assert [(a.attempt, a.miner_id, a.error.code) for a in job.attempts] == [
            (1, "killed-1", "LEASE_EXPIRED"),
            (2, "killed-2", "OOM"),
            (3, "killed-3", "LEASE_EXPIRED"),
        ]
        assert all(a.outcome == ATTEMPT_FAILED and a.HasField("ended_at") for a in job.attempts)
        listed = await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())
        assert [list(one.attempts) for one in listed.jobs] == [[]]


async def test_a_retry_goes_to_a_miner_that_has_not_failed_it_also_after_a_restart(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path) as client, client.miner("bad") as bad:
        job_id = await client.submit()
        [first] = await bad.assignments()
        await bad.fail(first.lease_id)
        await bad.expect("acks")
    # The other one comes back later.
    async with (
        coordinator(tmp_path) as client,
        client.miner("bad"),
        client.miner("good") as good,
    ):
        [second] = await good.assignments()
        assert second.job.job_id == job_id


async def test_what_was_never_begun_on_does_not_count_also_after_a_restart(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path) as client:
        job_id = await client.submit(max_attempts=1)
        async with client.miner("leaving") as leaving:
            await leaving.assignments()
            await leaving.send(capacity=work_pb2.Capacity(max_outstanding_jobs=0))
            await leaving.call.done_writing()
            assert await leaving.end() == (grpc.StatusCode.OK, "")
    async with coordinator(tmp_path) as client:
        async with client.miner("leaving") as miner:
            [assignment] = await miner.assignments()
            await miner.fail(assignment.lease_id)
            await miner.expect("acks")
        job = await client.job(job_id, wait=10)
        assert [a.error.code for a in job.attempts] == ["NOT_DELIVERED", "OOM"]
        assert job.status == FAILED


async def test_a_miner_that_beats_but_makes_no_progress_loses_the_job_and_is_told(
    tmp_path: Path,
) -> None:
    async with (
        coordinator(tmp_path, progress_seconds=0.2) as client,
        client.miner("stuck", window=1) as stuck,
    ):
        params = jobs_pb2.GenerationParams(max_tokens=10)
        for _ in range(3):
            await client.submit(params=params)
            [assignment] = await stuck.assignments()
            await stuck.complete(assignment.lease_id, tokens=10)
            await stuck.expect("acks")
        job_id = await client.submit(params=params)
        [first] = await stuck.assignments()
        beats = asyncio.create_task(_beat(stuck))
        [told] = (await stuck.expect("cancellations")).cancellations.cancellations
        assert (told.lease_id, told.reason) == (
            first.lease_id,
            work_pb2.CANCEL_REASON_NO_PROGRESS,
        )
        async with client.miner("other") as other:
            [second] = await other.assignments()
            assert (second.job.job_id, second.attempt) == (job_id, 2)
            await stuck.complete(first.lease_id, "too late")
            [told] = (await stuck.expect("cancellations")).cancellations.cancellations
            assert told.reason == work_pb2.CANCEL_REASON_LEASE_LOST
            await other.complete(second.lease_id, "in time")
            job = await client.job(job_id, wait=10)
            assert (job.result, job.attempts[0].error.code) == ("in time", "NO_PROGRESS")
        beats.cancel()


async def test_a_miner_shows_how_busy_it_said_that_it_is(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner() as miner:
        load = work_pb2.Load(running_jobs=2, waiting_jobs=1, kv_cache_usage=0.5)
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await miner.send(heartbeat=work_pb2.Heartbeat(load=load))
        await miner.complete(assignment.lease_id)
        await client.job(job_id, wait=10)
        shown = await client.miners.GetMiner(miners_pb2.GetMinerRequest(miner_id="miner-1"))
        assert shown.load == load
