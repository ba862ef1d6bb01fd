"""Submits a job, waits for its result and prints it, by stubs of grpclib's.

Usage: grpclib_client.py HOST:PORT PROMPT
"""

import asyncio
import sys

from grpclib.client import Channel

from aitbc.v1 import jobs_grpc, jobs_pb2


async def main(address: str, prompt: str) -> None:
    host, port = address.rsplit(":", 1)
    async with Channel(host, int(port)) as channel:
        jobs = jobs_grpc.JobServiceStub(channel)
        made = await jobs.SubmitJob(jobs_pb2.SubmitJobRequest(prompt=prompt, model="llama3.2"))
        job = await jobs.GetJob(jobs_pb2.GetJobRequest(job_id=made.job_id, wait=60))
    sys.stdout.write(job.result + "\n")


asyncio.run(main(*sys.argv[1:]))
