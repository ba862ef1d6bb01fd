"""Jobs that ask a model for something else than an answer: to whom they go, and what comes back."""

from __future__ import annotations

from pathlib import Path

import grpc
import httpx
import pytest

from aitbc.v1 import jobs_pb2, miners_pb2, network_pb2, work_pb2
from aitbc_server.api.errors import from_rpc_error
from tests.integration.server.harness import Client, coordinator

EMBED, TOKENIZE = jobs_pb2.JOB_TASK_EMBED, jobs_pb2.JOB_TASK_TOKENIZE
GENERATE = jobs_pb2.JOB_TASK_GENERATE
EMBEDS = work_pb2.ModelInfo(model="m", max_model_len=512, tasks=[EMBED, TOKENIZE])
INPUTS = [jobs_pb2.TaskInput(text="one"), jobs_pb2.TaskInput(token_ids=[2, 3])]
OUTPUTS = [jobs_pb2.TaskOutput(vector=[0.5, -1.0]), jobs_pb2.TaskOutput(vector=[0.25, 3e38])]


def asking(task: jobs_pb2.JobTask.ValueType = EMBED) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(model="m", task=task, inputs=INPUTS[:1])


async def refused(client: Client, request: jobs_pb2.SubmitJobRequest) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await client.jobs.SubmitJob(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return from_rpc_error(raised.value).reason, raised.value.details() or ""


async def test_a_job_to_embed_goes_to_a_miner_that_does_and_its_vectors_come_back(
    tmp_path: Path,
) -> None:
    async with coordinator(tmp_path) as client, client.miner(infos=[EMBEDS]) as miner:
        request = jobs_pb2.SubmitJobRequest(model="m", task=EMBED, inputs=INPUTS, dimensions=2)
        job_id = (await client.jobs.SubmitJob(request)).job_id
        [assignment] = await miner.assignments()
        asked = assignment.job
        assert (asked.task, list(asked.inputs), asked.dimensions) == (EMBED, INPUTS, 2)
        completion = work_pb2.Completion(
            usage=jobs_pb2.Usage(prompt_tokens=4, completion_tokens=0),
            finish_reason="stop",
            outputs=OUTPUTS,
        )
        update = work_pb2.Update(lease_id=assignment.lease_id, completion=completion)
        await miner.send(updates=work_pb2.Updates(updates=[update]))
        job = await client.job(job_id, wait=20)
        assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
        assert list(job.outputs) == OUTPUTS
        assert (job.usage.prompt_tokens, job.usage.completion_tokens) == (4, 0)
        assert job.receipt_id
        [listed] = (await client.jobs.ListJobs(jobs_pb2.ListJobsRequest())).jobs
        assert not listed.outputs


async def test_what_no_miner_of_the_model_does_is_refused_at_once(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        # One that is not there yet may do it.
        waiting = (await client.jobs.SubmitJob(asking())).job_id
        async with client.miner(infos=[work_pb2.ModelInfo(model="m")]):
            reason, problem = await refused(client, asking())
            assert reason == "TASK_NOT_SERVED"
            assert problem == "task: the model m does not embed: its miners generate"
            queue = await client.queue(waiting)
            assert queue.explanation == ("no miner that takes work serves the model m, to embed")
        async with client.miner("miner-2", infos=[EMBEDS]) as miner:
            request = jobs_pb2.SubmitJobRequest(model="m", prompt="hi")
            _, problem = await refused(client, request)
            assert problem.endswith("m does not generate: its miners embed and tokenize")
            [assignment] = await miner.assignments()
            assert assignment.job.job_id == waiting


async def test_one_job_of_a_batch_that_none_does_refuses_it_all(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client, client.miner():
        batch = jobs_pb2.BatchSubmitJobsRequest(
            jobs=[jobs_pb2.SubmitJobRequest(model="m", prompt="hi"), asking()]
        )
        with pytest.raises(grpc.aio.AioRpcError, match=r"jobs\[1\].task: the model m does not"):
            await client.jobs.BatchSubmitJobs(batch)


async def test_a_job_that_waits_is_of_its_task_after_a_restart(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = (await client.jobs.SubmitJob(asking())).job_id
    async with (
        coordinator(tmp_path) as client,
        client.miner("generates"),
        client.miner("embeds", infos=[EMBEDS]) as miner,
    ):
        [assignment] = await miner.assignments()
        assert assignment.job.job_id == job_id


async def test_a_miner_that_polls_may_not_claim_it(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = (await client.jobs.SubmitJob(asking())).job_id
        await client.miners.RegisterMiner(
            miners_pb2.RegisterMinerRequest(miner_id="polls", capabilities=["m"])
        )
        available = jobs_pb2.ListAvailableJobsRequest(miner_id="polls")
        assert not (await client.jobs.ListAvailableJobs(available)).jobs
        with pytest.raises(grpc.aio.AioRpcError, match="takes no job to embed"):
            await client.jobs.ClaimJob(jobs_pb2.ClaimJobRequest(job_id=job_id, miner_id="polls"))


async def test_what_models_do_and_how_much_they_take_is_told(tmp_path: Path) -> None:
    async with (
        coordinator(tmp_path) as client,
        client.miner(infos=[EMBEDS]),
        client.miner("miner-2", infos=[work_pb2.ModelInfo(model="m", max_model_len=2048)]),
    ):
        miner = await client.miners.GetMiner(miners_pb2.GetMinerRequest(miner_id="miner-1"))
        assert list(miner.model_infos) == [EMBEDS]
        async with httpx.AsyncClient(base_url=client.url, headers={"accept": "text/html"}) as http:
            page = (await http.get("/explorer/miners/miner-1")).text
        assert "embed, tokenize" in page
        assert "with up to 512 tokens" in page
        [model] = (await client.network.GetStats(network_pb2.GetStatsRequest())).models
        assert list(model.tasks) == [GENERATE, EMBED, TOKENIZE]
        assert model.max_model_len == 2048


async def test_a_hello_speaks_of_its_own_models(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        with pytest.raises(grpc.aio.AioRpcError, match="must name models of `models`"):
            async with client.miner(infos=[work_pb2.ModelInfo(model="other")]):
                pass


async def test_the_outputs_of_a_job_that_ran_through_a_restart_are_taken(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        job_id = (await client.jobs.SubmitJob(asking())).job_id
        async with client.miner(infos=[EMBEDS]) as miner:
            [assignment] = await miner.assignments()
    async with (
        coordinator(tmp_path) as client,
        client.miner(infos=[EMBEDS], held=[assignment.lease_id]) as miner,
    ):
        completion = work_pb2.Completion(finish_reason="stop", outputs=OUTPUTS[:1])
        update = work_pb2.Update(lease_id=assignment.lease_id, completion=completion)
        await miner.send(updates=work_pb2.Updates(updates=[update]))
        job = await client.job(job_id, wait=20)
        assert list(job.outputs) == OUTPUTS[:1]
        assert job.attempt == 1
