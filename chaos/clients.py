"""Clients that submit, cancel and watch jobs over REST and gRPC, and record what they are told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import grpc
import httpx
from google.protobuf.json_format import MessageToDict

from aitbc.v1 import jobs_pb2, jobs_pb2_grpc
from aitbc_server.api.errors import from_rpc_error
from chaos.history import Acknowledged, Attempted, CancelAsked, Recorder, Refused, Seen, now
from chaos.miner import MODEL

MAX_ATTEMPTS = 10
# Why attempts end whose miner vanished.
_VANISHED = frozenset({"LEASE_EXPIRED", "MINER_RESTARTED"})
_FINAL = frozenset({"completed", "failed", "cancelled"})
# Longest wait for an answer; beyond it the outcome is unknown.
_PATIENCE_S = 5.0
_TRIES = 12
_MOST_AT_ONCE = 100
# Shares of what a client does after a submit.
_GIVE_UP = 0.1
_CANCEL = 0.1
_WATCH = 0.2
# Answers that mean what they say. Any other is a surprise, and fails the run.
_EXPECTED = frozenset(
    {
        "STARTING",
        "DRAINING",
        "STORAGE_UNAVAILABLE",
        "QUEUE_FULL",
        "STORAGE_BUSY",
        "JOB_ALREADY_FINAL",
    }
)


class NoAnswer(Exception):
    """The call may or may not have done something."""


class Refusal(Exception):
    """The coordinator said that it did nothing. The text is its `error_code`."""


class Api(Protocol):
    """One way to call a coordinator. Every method raises NoAnswer and Refusal."""

    async def submit(self, prompts: Sequence[str], request_id: str) -> list[str]:
        """Returns the ids of the new jobs."""
        ...

    async def job(self, job_id: str, wait_s: float) -> dict[str, Any]:
        """Returns the job in the form of the REST API."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Cancels the job."""
        ...


class RestApi:
    """The documented REST API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=_PATIENCE_S)

    async def submit(self, prompts: Sequence[str], request_id: str) -> list[str]:
        headers = {"Idempotency-Key": request_id}
        jobs = [_job(prompt) for prompt in prompts]
        if len(jobs) == 1:
            answer = await self._call("POST", "/v1/jobs", json=jobs[0], headers=headers)
            return [answer["job_id"]]
        answer = await self._call("POST", "/v1/jobs:batch", json={"jobs": jobs}, headers=headers)
        return [job["job_id"] for job in answer["jobs"]]

    async def job(self, job_id: str, wait_s: float) -> dict[str, Any]:
        return await self._call("GET", f"/v1/jobs/{job_id}", params={"wait": wait_s})

    async def cancel(self, job_id: str) -> None:
        await self._call("POST", f"/v1/jobs/{job_id}/cancel")

    async def _call(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **what)
        except httpx.TransportError as error:
            raise NoAnswer from error
        answer: dict[str, Any] = response.json()
        if response.is_error:
            raise Refusal(answer["error_code"])
        return answer


class GrpcApi:
    """The gRPC API."""

    def __init__(self, address: str) -> None:
        # A channel would wait ever longer before it looks for a coordinator that was away.
        options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.keepalive_time_ms", 10_000)]
        self._jobs = jobs_pb2_grpc.JobServiceStub(
            grpc.aio.insecure_channel(address, options=options)
        )

    async def submit(self, prompts: Sequence[str], request_id: str) -> list[str]:
        jobs = [jobs_pb2.SubmitJobRequest(**_job(prompt)) for prompt in prompts]
        if len(jobs) == 1:
            jobs[0].request_id = request_id
            return [(await self._call(self._jobs.SubmitJob, jobs[0])).job_id]
        batch = jobs_pb2.BatchSubmitJobsRequest(jobs=jobs, request_id=request_id)
        return [job.job_id for job in (await self._call(self._jobs.BatchSubmitJobs, batch)).jobs]

    async def job(self, job_id: str, wait_s: float) -> dict[str, Any]:
        request = jobs_pb2.GetJobRequest(job_id=job_id, wait=wait_s)
        job = MessageToDict(
            await self._call(self._jobs.GetJob, request), preserving_proto_field_name=True
        )
        job["status"] = job["status"].removeprefix("JOB_STATUS_").lower()
        return job

    async def cancel(self, job_id: str) -> None:
        await self._call(self._jobs.CancelJob, jobs_pb2.CancelJobRequest(job_id=job_id))

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=_PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            # Without a reason of its own it is gRPC that speaks, and it cannot know.
            if failure.reason == error.code().name:
                raise NoAnswer from error
            raise Refusal(failure.reason) from error


class Client:
    """Submits jobs until it is told to stop."""

    def __init__(self, name: str, api: Api, recorder: Recorder, rng: random.Random) -> None:
        self._name = name
        self._api = api
        self._recorder = recorder
        self._rng = rng
        self._number = 0
        self.submitted = 0
        # Answers that no fault explains.
        self.surprises: Counter[str] = Counter()

    async def run(self, pace: asyncio.Semaphore, stop: asyncio.Event) -> None:
        """Submits whenever the pace allows."""
        while not stop.is_set():
            await pace.acquire()
            count = self._rng.choice([1, self._rng.randint(2, _MOST_AT_ONCE)])
            keys = [f"{self._name}.{self._number + offset}" for offset in range(count)]
            self._number += count
            job_ids = await self._submit(keys)
            if job_ids and self._rng.random() < _CANCEL:
                await self._cancel(self._rng.choice(job_ids))
            if job_ids and self._rng.random() < _WATCH:
                await self._watch(self._rng.choice(job_ids))

    async def _submit(self, keys: Sequence[str]) -> list[str]:
        prompts = [f"{key} says hello" for key in keys]
        for _ in range(_TRIES):
            self._recorder.record(*(Attempted(at=now(), key=key) for key in keys))
            try:
                job_ids = await self._api.submit(prompts, keys[0])
            except NoAnswer:
                if self._rng.random() < _GIVE_UP:
                    return []
            except Refusal as refusal:
                self._refused(str(refusal), keys)
            else:
                self._acknowledged(keys, job_ids)
                return job_ids
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
        return []

    def _acknowledged(self, keys: Sequence[str], job_ids: Sequence[str]) -> None:
        self.submitted += len(job_ids)
        pairs = zip(keys, job_ids, strict=True)
        self._recorder.record(
            *(Acknowledged(at=now(), key=key, job_id=job_id) for key, job_id in pairs)
        )

    def _refused(self, reason: str, keys: Sequence[str] = ()) -> None:
        if reason not in _EXPECTED:
            # It may have done something: as good as no answer, but worth a word.
            self.surprises[reason] += 1
        elif keys:
            self._recorder.record(*(Refused(at=now(), key=key, reason=reason) for key in keys))

    async def _cancel(self, job_id: str) -> None:
        self._recorder.record(CancelAsked(at=now(), job_id=job_id))
        try:
            await self._api.cancel(job_id)
        except NoAnswer:
            pass
        except Refusal as refusal:
            self._refused(str(refusal))

    async def _watch(self, job_id: str) -> None:
        try:
            job = await self._api.job(job_id, wait_s=_PATIENCE_S / 2)
        except NoAnswer:
            return
        except Refusal as refusal:
            self._refused(str(refusal))
            return
        if job["status"] in _FINAL:
            self._recorder.record(seen(job))


def seen(job: dict[str, Any], *, is_last: bool = False) -> Seen:
    """Returns the sight of a job that the REST API gave."""
    return Seen(
        at=now(),
        key=job.get("prompt", "").split(" ", 1)[0],
        job_id=job["job_id"],
        status=job["status"],
        attempt=job.get("attempt", 0),
        miner_id=job.get("miner_id", ""),
        result=job.get("result", ""),
        error_code=job.get("error", {}).get("code", ""),
        is_last=is_last,
        prompt=job.get("prompt", ""),
        vanished=sum(
            attempt.get("error", {}).get("code") in _VANISHED for attempt in job.get("attempts", ())
        ),
    )


def _job(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "model": MODEL, "max_attempts": MAX_ATTEMPTS}
