"""Clients in other languages and generated stubs, made from the protos alone."""

from __future__ import annotations

import grpc
from scripts.processes import ROOT, Coordinator

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc
from tests.e2e.node_client import run_node


def test_node_client_submits_waits_and_lists(coordinator: Coordinator) -> None:
    printed = run_node("client.mjs", coordinator.grpc, "hello from Node", str(ROOT / "protos"))
    assert printed["submitted"]["status"] == "JOB_STATUS_PENDING"
    assert printed["job"]["status"] == "JOB_STATUS_COMPLETED"
    assert printed["job"]["result"] == "hello from Node"
    assert printed["job"]["job_id"] in printed["listed"]


async def test_python_stub_submits_waits_and_lists(coordinator: Coordinator) -> None:
    async with grpc.aio.insecure_channel(coordinator.grpc) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        submitted = await stub.SubmitJob(
            jobs_pb2.SubmitJobRequest(prompt="hello from a stub", model="llama3.2")
        )
        job = await stub.GetJob(jobs_pb2.GetJobRequest(job_id=submitted.job_id, wait=60))
        listed = await stub.ListJobs(jobs_pb2.ListJobsRequest(limit=100))
    assert job.status == jobs_pb2.JOB_STATUS_COMPLETED
    assert job.result == "hello from a stub"
    assert submitted.job_id in [one.job_id for one in listed.jobs]
