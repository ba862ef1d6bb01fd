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
from aitbc_server.api.endpoint import Messages
from aitbc_server.api.errors import CallError, failure_of
from aitbc_server.auth.gate import key_in
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import (
    CoordinatorError,
    JobNotFound,
    PayloadTooLarge,
    PermissionDenied,
    TooManyCalls,
)
from aitbc_server.openai.errors import (
    AnswerRestarted,
    JobFailed,
    model_not_found,
    model_unserved,
    too_many_answers,
)
from aitbc_server.rest.backend import Backend
from aitbc_server.rest.errors import CoordinatorUnreachable, HttpError
from aitbc_server.rest.reader import Reader


@dataclass(slots=True)
class Client:
    """Who asks: what the methods need to know of a request over HTTP."""

    # By their lower-case names.
    headers: Mapping[str, str]
    # Address.
    peer: str
    # Of what it is answered.
    reader: Reader
    # Whether it came with some word where a key would be.
    has_word: bool = False
    # Who it is, once it was let in to submit: it is one call to its limits, whatever follows.
    caller: Caller | None = None

    def let_in(self, caller: Caller) -> Caller:
        """Notes for whom its answer counts; returns the caller."""
        self.reader.caller = caller
        return caller


_JOBS = jobs_pb2.DESCRIPTOR.services_by_name["JobService"].methods_by_name
_MINERS = miners_pb2.DESCRIPTOR.services_by_name["MinerService"].methods_by_name
_NETWORK = network_pb2.DESCRIPTOR.services_by_name["NetworkService"].methods_by_name

# One long poll, as GetJob offers it.
_WAIT_S = 60.0
# How often a model is looked for until it counts as gone, where that takes no longer than a poll.
_LOOKS = 4
_UNENDED = (jobs_pb2.JOB_STATUS_PENDING, jobs_pb2.JOB_STATUS_RUNNING)
# How long a model that some miner has is not asked for again.
_KNOWN_S = 1.0
# A model stays known for so long after the last of its miners went.
ABSENCE_S = 300.0


class Jobs:
    """Calls the methods for one application."""

    def __init__(
        self, backend: Backend, max_message_bytes: int, absence_s: float = ABSENCE_S
    ) -> None:
        """`absence_s`: how long a model is waited for that has no miner."""
        self._backend = backend
        self._absence_s = absence_s
        self.max_message_bytes = max_message_bytes
        self._known_until: dict[str, float] = {}
        # What is said for requests that have ended.
        self._leaving: set[asyncio.Task[None]] = set()

    async def admit(self, client: Client) -> None:
        """Lets a client submit jobs, before the body of its request is read."""
        method = _JOBS["SubmitJob"]
        caller = self._admitted(method, client)
        await self._backend.confirm(method, client.headers, caller)
        client.caller = client.let_in(caller)

    def let_in_reader(self, client: Client) -> None:
        """Lets a client read what may be large. Raises TooMuchUnread for who has to read first."""
        client.caller = self._admitted(_JOBS["GetJob"], client)
        client.reader.check()

    async def check_key(self, client: Client) -> None:
        """Raises Unauthenticated when the client sent a key that is none.

        A word that cannot be a key is one only where keys are asked for.
        """
        if not client.has_word and key_in(client.headers) is None:
            return
        try:
            await self.admit(client)
        except (CoordinatorError, CallError) as error:
            # A key of another role is one.
            if failure_of(error).reason != PermissionDenied.reason:
                raise

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
        return {name: model.parent for name, model in (await self.served(client)).items()}

    async def served(self, client: Client) -> dict[str, network_pb2.ModelStats]:
        """Returns what is known of the models that are served now."""
        return {model.model: model for model in (await self.stats(client)).models if model.miners}

    async def stats(self, client: Client) -> network_pb2.GetStatsResponse:
        """Returns what anybody may know of the network."""
        request = network_pb2.GetStatsRequest()
        stats = await self._call(_NETWORK["GetStats"], request, client)
        return cast("network_pb2.GetStatsResponse", stats)

    async def check_health(self, client: Client) -> None:
        """Raises CoordinatorError or CallError unless the coordinator serves."""
        await self._call(_NETWORK["GetHealth"], network_pb2.GetHealthRequest(), client)

    async def submit(
        self, requests: Sequence[jobs_pb2.SubmitJobRequest], client: Client
    ) -> list[str]:
        """Stores the jobs, all or none; returns their ids.

        A request that comes again with its key finds the same jobs, unless these were cancelled
        because nobody waited for them.
        """
        # A conversation grows by every response that goes on with it.
        if sum(request.ByteSize() for request in requests) > self.max_message_bytes:
            raise PayloadTooLarge(self.max_message_bytes)
        request_id = client.headers.get("idempotency-key", "")
        if len(requests) == 1:
            requests[0].request_id = request_id
            submitted = await self._call(_JOBS["SubmitJob"], requests[0], client)
            return [cast("jobs_pb2.SubmitJobResponse", submitted).job_id]
        batch = jobs_pb2.BatchSubmitJobsRequest(jobs=requests, request_id=request_id)
        made = await self._call(_JOBS["BatchSubmitJobs"], batch, client)
        return [job.job_id for job in cast("jobs_pb2.BatchSubmitJobsResponse", made).jobs]

    @contextlib.asynccontextmanager
    async def cancelled_with_client(
        self, job_ids: Sequence[str], client: Client
    ) -> AsyncIterator[None]:
        """Cancels the jobs when the request ends before they do, and no other waits for them."""
        try:
            yield
        except CoordinatorUnreachable:
            # Nobody is there to hear it, nor remembers that this one waited.
            raise
        except BaseException:
            task = asyncio.create_task(self._abandon(job_ids, client))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
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

    async def find(self, job_id: str, client: Client) -> jobs_pb2.Job | None:
        """Returns a job, or None when the caller has none with this id."""
        try:
            return await self.get(job_id, client)
        except (JobNotFound, CallError) as error:
            if not is_absent(error):
                raise
            return None

    async def results(
        self, job_ids: Sequence[str], client: Client, asked_bytes: int = 0
    ) -> list[jobs_pb2.Job]:
        """Returns the jobs when all are completed. Raises JobFailed, and OpenAIError.

        Beside what was asked, `asked_bytes`, several may have no more together than one message.
        """
        done: list[jobs_pb2.Job] = []
        left = asked_bytes + self.max_message_bytes
        for job_id in job_ids:
            job = await self._result(job_id, client)
            left -= job.ByteSize()
            if left < 0 and done:
                why = f"the answers have more than {self.max_message_bytes:,} bytes together"
                raise too_many_answers(f"{why}: ask for fewer at once, or have them streamed")
            done.append(job)
        return done

    async def events(
        self, job_ids: Sequence[str], client: Client
    ) -> AsyncGenerator[tuple[int, jobs_pb2.JobEvent], None]:
        """Yields the events of the jobs as they come, each with the job's place.

        Of more jobs than the client may have streams of, the others follow when those have ended.
        Raises JobFailed, and AnswerRestarted.
        """
        streams = [self._follow(job_id, client) for job_id in job_ids]
        if len(streams) == 1:
            async with contextlib.aclosing(streams[0]) as events:
                async for event in events:
                    yield 0, event
            return
        pending = {_next(stream): place for place, stream in enumerate(streams)}
        # Places of those that there is no room for.
        later: list[int] = []
        try:
            while pending:
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    place = pending.pop(task)
                    try:
                        news = task.result()
                    except (CoordinatorError, CallError) as error:
                        # Nothing makes room where none of its own does.
                        if failure_of(error).reason != TooManyCalls.reason or not pending:
                            raise
                        later.append(place)
                        continue
                    if news is not None:
                        yield place, news
                    elif later:
                        place = later.pop(0)
                        streams[place] = self._follow(job_ids[place], client)
                    else:
                        continue
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
            is_waiting = True
            while True:
                # Who waits for a miner may wait in vain.
                if is_waiting:
                    message = await self._next_patiently(messages, job_id, client)
                else:
                    message = await anext(messages, None)
                if message is None:
                    return
                event = cast("jobs_pb2.JobEvent", message)
                is_waiting = (
                    event.type == jobs_pb2.JOB_EVENT_TYPE_STATUS
                    and event.job.status == jobs_pb2.JOB_STATUS_PENDING
                )
                if event.type == jobs_pb2.JOB_EVENT_TYPE_RESTARTED:
                    raise AnswerRestarted
                if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
                    _check_completed(event.job)
                yield event

    async def _call(self, method: MethodDescriptor, request: Message, client: Client) -> Message:
        caller = self._admitted(method, client)
        return await self._backend.call(method, request, client.headers, caller)

    def _admitted(self, method: MethodDescriptor, client: Client) -> Caller:
        return client.caller or client.let_in(
            self._backend.admit(method, client.headers, client.peer)
        )

    async def _result(self, job_id: str, client: Client) -> jobs_pb2.Job:
        while True:
            job = await self.get(job_id, client, self._patience_s)
            if job.status not in _UNENDED:
                _check_completed(job)
                return job
            await self._check_served(job, client)

    @property
    def _patience_s(self) -> float:
        """How long a job is waited for before its model is looked for."""
        return min(_WAIT_S, self._absence_s / _LOOKS)

    async def _next_patiently(
        self, messages: Messages, job_id: str, client: Client
    ) -> Message | None:
        """Returns the next message of a job that waits. Raises OpenAIError."""
        reading = asyncio.ensure_future(anext(messages, None))
        try:
            while not (await asyncio.wait({reading}, timeout=self._patience_s))[0]:
                await self._check_served(await self.get(job_id, client), client)
            return reading.result()
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _check_served(self, job: jobs_pb2.Job, client: Client) -> None:
        """Raises OpenAIError when a job waits for a model that has had no miner for too long."""
        if job.status == jobs_pb2.JOB_STATUS_PENDING and not await self._is_known(
            job.model, client
        ):
            raise model_unserved(job.model, self._absence_s)

    async def _abandon(self, job_ids: Sequence[str], client: Client) -> None:
        """Says that a request waits no longer for these jobs."""
        for job_id in job_ids:
            request = jobs_pb2.CancelJobRequest(job_id=job_id, abandoned=True)
            # It is final already, or the coordinator stops: its miner is told when it is back.
            with contextlib.suppress(CoordinatorError, CallError, HttpError):
                await self._call(_JOBS["CancelJob"], request, client)

    async def _is_known(self, model: str, client: Client) -> bool:
        request = miners_pb2.ListMinersRequest(model=model, limit=100)
        listed = cast(
            "miners_pb2.ListMinersResponse",
            await self._call(_MINERS["ListMiners"], request, client),
        )
        horizon_s = time.time() - self._absence_s
        return any(
            # That it holds a stream.
            miner.HasField("max_outstanding_jobs")
            # Not heard of since the coordinator started, which may be a moment ago.
            or not miner.HasField("last_seen")
            or miner.last_seen.seconds > horizon_s
            for miner in listed.miners
        ) or (bool(listed.miners) and model in await self.served(client))


def is_absent(error: Exception) -> bool:
    """Says whether a call failed because its job is not there."""
    return failure_of(error).reason == JobNotFound.reason


def _next(
    stream: AsyncGenerator[jobs_pb2.JobEvent, None],
) -> asyncio.Task[jobs_pb2.JobEvent | None]:
    async def read() -> jobs_pb2.JobEvent | None:
        return await anext(stream, None)

    return asyncio.create_task(read())


def _check_completed(job: jobs_pb2.Job) -> None:
    if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
        raise JobFailed(job)
