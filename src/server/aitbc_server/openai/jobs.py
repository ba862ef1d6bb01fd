"""The jobs behind a request: submitted, followed, and cancelled when its client goes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc.v1 import jobs_pb2, miners_pb2, network_pb2
from aitbc_server.api.errors import CallError
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.openai.errors import AnswerRestarted, JobFailed, model_not_found
from aitbc_server.rest.backend import Backend
from aitbc_server.rest.errors import HttpError


@dataclass(slots=True)
class Client:
    """Who asks: what the methods need to know of a request over HTTP."""

    # By their lower-case names.
    headers: Mapping[str, str]
    # Address.
    peer: str
    # Who it is, once it was let in to submit: it is one call to its limits, whatever follows.
    caller: Caller | None = None


_JOBS = jobs_pb2.DESCRIPTOR.services_by_name["JobService"].methods_by_name
_MINERS = miners_pb2.DESCRIPTOR.services_by_name["MinerService"].methods_by_name
_NETWORK = network_pb2.DESCRIPTOR.services_by_name["NetworkService"].methods_by_name

# One long poll, as GetJob offers it.
_WAIT_S = 60.0
# How long a model that some miner has is not asked for again.
_KNOWN_S = 1.0
# A model stays known for so long after the last of its miners went.
_ABSENCE_S = 300.0


class Jobs:
    """Calls the methods for one application."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._known_until: dict[str, float] = {}
        # Cancellations under way, which outlive their requests.
        self._cancelling: set[asyncio.Task[None]] = set()

    def admit(self, client: Client) -> None:
        """Lets a client submit jobs, before the body of its request is read."""
        client.caller = self._admitted(_JOBS["SubmitJob"], client)

    async def check_model(self, model: str, client: Client) -> None:
        """Raises OpenAIError when no miner has the model, nor had it a moment ago."""
        now = time.monotonic()
        if self._known_until.get(model, 0.0) > now:
            return
        if not await self._is_known(model, client):
            raise model_not_found(model, await self.models(client))
        self._known_until[model] = now + _KNOWN_S

    async def models(self, client: Client) -> dict[str, str]:
        """Returns the models that are served now; of adapters also the model that each changes."""
        request = network_pb2.GetStatsRequest()
        stats = cast(
            "network_pb2.GetStatsResponse",
            await self._call(_NETWORK["GetStats"], request, client),
        )
        return {model.model: model.parent for model in stats.models if model.miners}

    async def submit(
        self, requests: Sequence[jobs_pb2.SubmitJobRequest], client: Client
    ) -> list[str]:
        """Stores the jobs, all or none; returns their ids."""
        request_id = client.headers.get("idempotency-key", "")
        if len(requests) == 1:
            requests[0].request_id = request_id
            submitted = cast(
                "jobs_pb2.SubmitJobResponse",
                await self._call(_JOBS["SubmitJob"], requests[0], client),
            )
            return [submitted.job_id]
        batch = jobs_pb2.BatchSubmitJobsRequest(jobs=requests, request_id=request_id)
        made = cast(
            "jobs_pb2.BatchSubmitJobsResponse",
            await self._call(_JOBS["BatchSubmitJobs"], batch, client),
        )
        return [job.job_id for job in made.jobs]

    @contextlib.asynccontextmanager
    async def cancelled_with_client(
        self, job_ids: Sequence[str], client: Client
    ) -> AsyncIterator[None]:
        """Cancels the jobs when the request ends before they do."""
        try:
            yield
        except BaseException:
            task = asyncio.create_task(self._cancel(job_ids, client))
            self._cancelling.add(task)
            task.add_done_callback(self._cancelling.discard)
            raise

    async def cancel(self, job_id: str, client: Client) -> jobs_pb2.Job:
        """Cancels a job; returns it."""
        request = jobs_pb2.CancelJobRequest(job_id=job_id)
        job = await self._call(_JOBS["CancelJob"], request, client)
        return cast("jobs_pb2.Job", job)

    async def delete(self, job_id: str, client: Client) -> None:
        """Deletes a job."""
        request = jobs_pb2.DeleteJobRequest(job_id=job_id)
        await self._call(_JOBS["DeleteJob"], request, client)

    async def get(self, job_id: str, client: Client, wait_s: float = 0.0) -> jobs_pb2.Job:
        """Returns a job."""
        request = jobs_pb2.GetJobRequest(job_id=job_id, wait=wait_s)
        return cast("jobs_pb2.Job", await self._call(_JOBS["GetJob"], request, client))

    async def results(self, job_ids: Sequence[str], client: Client) -> list[jobs_pb2.Job]:
        """Returns the jobs when all are completed. Raises JobFailed."""
        return [await self._result(job_id, client) for job_id in job_ids]

    async def events(
        self, job_ids: Sequence[str], client: Client
    ) -> AsyncGenerator[tuple[int, jobs_pb2.JobEvent], None]:
        """Yields the events of the jobs as they come, each with the job's place.

        Raises JobFailed, and AnswerRestarted.
        """
        streams = [self._follow(job_id, client) for job_id in job_ids]
        if len(streams) == 1:
            async with contextlib.aclosing(streams[0]) as events:
                async for event in events:
                    yield 0, event
            return
        pending = {_next(stream): place for place, stream in enumerate(streams)}
        try:
            while pending:
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    place = pending.pop(task)
                    if (news := task.result()) is not None:
                        yield place, news
                        pending[_next(streams[place])] = place
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for stream in streams:
                await stream.aclose()

    async def _follow(self, job_id: str, client: Client) -> AsyncGenerator[jobs_pb2.JobEvent, None]:
        request = jobs_pb2.StreamJobRequest(job_id=job_id)
        method = _JOBS["StreamJob"]
        caller = self._admitted(method, client)
        opened = await self._backend.open(method, request, client.headers, caller)
        async with contextlib.aclosing(opened) as messages:
            async for message in messages:
                event = cast("jobs_pb2.JobEvent", message)
                if event.type == jobs_pb2.JOB_EVENT_TYPE_RESTARTED:
                    raise AnswerRestarted
                if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
                    _check_completed(event.job)
                yield event

    async def _call(self, method: MethodDescriptor, request: Message, client: Client) -> Message:
        caller = self._admitted(method, client)
        return await self._backend.call(method, request, client.headers, caller)

    def _admitted(self, method: MethodDescriptor, client: Client) -> Caller:
        return client.caller or self._backend.admit(method, client.headers, client.peer)

    async def _result(self, job_id: str, client: Client) -> jobs_pb2.Job:
        while True:
            job = await self.get(job_id, client, _WAIT_S)
            if job.status not in (jobs_pb2.JOB_STATUS_PENDING, jobs_pb2.JOB_STATUS_RUNNING):
                _check_completed(job)
                return job

    async def _cancel(self, job_ids: Sequence[str], client: Client) -> None:
        for job_id in job_ids:
            try:
                await self.cancel(job_id, client)
            except (CoordinatorError, CallError, HttpError):
                # It is final already, or the coordinator stops: its miner is told when it is back.
                continue

    async def _is_known(self, model: str, client: Client) -> bool:
        request = miners_pb2.ListMinersRequest(model=model, limit=100)
        listed = cast(
            "miners_pb2.ListMinersResponse",
            await self._call(_MINERS["ListMiners"], request, client),
        )
        horizon_s = time.time() - _ABSENCE_S
        return any(
            miner.status != miners_pb2.MINER_STATUS_OFFLINE
            # Not heard of since the coordinator started, which may be a moment ago.
            or not miner.HasField("last_seen")
            or miner.last_seen.seconds > horizon_s
            for miner in listed.miners
        )


def _next(
    stream: AsyncGenerator[jobs_pb2.JobEvent, None],
) -> asyncio.Task[jobs_pb2.JobEvent | None]:
    async def read() -> jobs_pb2.JobEvent | None:
        return await anext(stream, None)

    return asyncio.create_task(read())


def _check_completed(job: jobs_pb2.Job) -> None:
    if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
        raise JobFailed(job)
