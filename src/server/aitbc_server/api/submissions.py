"""Makes jobs of what clients ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from aitbc.v1 import jobs_pb2
from aitbc_server.api.contents import asked_beside
from aitbc_server.api.convert import prompt_text, set_timestamp
from aitbc_server.api.generation import (
    PREFIX,
    affinity_of,
    check_answer_size,
    check_generation,
    check_size,
)
from aitbc_server.api.tasks import task_of
from aitbc_server.api.told import asks_of
from aitbc_server.api.validation import below
from aitbc_server.aside import LARGE_BYTES, aside
from aitbc_server.domain.asks import Asks
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.domain.ids import IdSource
from aitbc_server.domain.jobs import DEFAULT_MAX_ATTEMPTS, NewJob, Submission
from aitbc_server.domain.tasks import Task
from aitbc_server.ledger.contents import salted_hash, whole_hash

# Jobs that are made aside: a few milliseconds' work.
_MANY = 64
# What says nothing that other fields could contradict, where there is a prompt that is not blank.
_SIMPLE = frozenset({"prompt", "model", "params", "priority", "timeout_seconds", "max_attempts"})
# Parameters that are larger are not remembered.
_REMEMBERED_BYTES = 4096
# What a request says of its job, the job has under the same names.
_NAMES = {
    field: field.name
    for field in jobs_pb2.SubmitJobRequest.DESCRIPTOR.fields
    if field.name != "request_id"
}


class _Asked(NamedTuple):
    """What follows from a request but for its prompt."""

    task: Task
    asks: Asks
    max_tokens: int | None
    # As receipts cover it.
    beside: bytes


# What a job has of the coordinator alone: when it came, its id and its salt.
_Draft = tuple[int, str, bytes]


class Submissions:
    """Makes submissions of requests, which are checked here against each other's fields."""

    def __init__(self, clock: Clock, ids: IdSource, max_answer_bytes: int) -> None:
        """`max_answer_bytes`: what a result may have."""
        self._clock = clock
        self._ids = ids
        self._max_answer_bytes = max_answer_bytes

    async def of_one(self, request: jobs_pb2.SubmitJobRequest, caller: Caller) -> Submission:
        """Returns the submission of a job of any size. Raises InvalidArgument."""
        return await self._made(request, (request,), caller, request.request_id)

    def of_small(self, request: jobs_pb2.SubmitJobRequest, caller: Caller) -> Submission:
        """Returns the same of a job that is not large, without a coroutine."""
        return Submission(
            (self._job(request, self._draft(self._clock.wall_us()), caller),),
            request.request_id or None,
            _fingerprint(request) if request.request_id else b"",
            caller.account,
            caller.limits.stored_bytes,
        )

    async def of_batch(
        self, request: jobs_pb2.BatchSubmitJobsRequest, caller: Caller
    ) -> Submission:
        """Returns the submission of a batch. Raises InvalidArgument."""
        # Apart from the names of single jobs, which have no space.
        name = f"batch {request.request_id}" if request.request_id else ""
        return await self._made(request, request.jobs, caller, name)

    async def _made(
        self,
        request: jobs_pb2.SubmitJobRequest | jobs_pb2.BatchSubmitJobsRequest,
        jobs: Sequence[jobs_pb2.SubmitJobRequest],
        caller: Caller,
        request_id: str,
    ) -> Submission:
        # Ids count up, and so are given out by the loop alone.
        now_us = self._clock.wall_us()
        drafts = [self._draft(now_us) for _ in jobs]
        # Many small ones take as long as a large one.
        is_large = len(jobs) > _MANY or request.ByteSize() > LARGE_BYTES
        is_batch = isinstance(request, jobs_pb2.BatchSubmitJobsRequest)
        made = (
            await aside(self._jobs, jobs, drafts, caller, is_batch=is_batch)
            if is_large
            else self._jobs(jobs, drafts, caller, is_batch=is_batch)
        )
        fingerprint = b""
        if request_id:
            fingerprint = await aside(_fingerprint, request) if is_large else _fingerprint(request)
        return Submission(
            made, request_id or None, fingerprint, caller.account, caller.limits.stored_bytes
        )

    def _draft(self, now_us: int) -> _Draft:
        return now_us, self._ids.job_id(now_us), self._ids.salt()

    def _jobs(
        self,
        requests: Iterable[jobs_pb2.SubmitJobRequest],
        drafts: Iterable[_Draft],
        caller: Caller,
        *,
        is_batch: bool,
    ) -> tuple[NewJob, ...]:
        made: list[NewJob] = []
        for request, draft in zip(requests, drafts, strict=True):
            try:
                made.append(self._job(request, draft, caller))
            except InvalidArgument as error:
                raise below(f"jobs[{len(made)}]", error) if is_batch else error from None
        return tuple(made)

    def _job(self, request: jobs_pb2.SubmitJobRequest, draft: _Draft, caller: Caller) -> NewJob:
        now_us, job_id, salt = draft
        said = {_NAMES[f]: value for f, value in request.ListFields() if f in _NAMES}
        text = request.prompt
        is_plain = bool(text) and said.keys() <= _SIMPLE and not text.isspace()
        if is_plain:
            params = request.params.SerializeToString()
            settle = _settle_params if len(params) <= _REMEMBERED_BYTES else _settle_params_anew
            asked = settle(request.model, params, self._max_answer_bytes)
        else:
            asked = _settle(request, self._max_answer_bytes)
            text = prompt_text(request)
        if caller.limits.prompt_bytes:
            check_size(request, caller.limits.prompt_bytes)
        max_attempts = said.get("max_attempts") or DEFAULT_MAX_ATTEMPTS
        timeout_s = said.get("timeout_seconds")
        spec = jobs_pb2.Job(**said)
        spec.job_id = job_id
        spec.max_attempts = max_attempts
        set_timestamp(spec.created_at, now_us)
        prompt_hash = salted_hash(salt, text)
        return NewJob(
            job_id=job_id,
            owner=caller.owner,
            model=request.model,
            priority=request.priority,
            max_attempts=max_attempts,
            max_tokens=asked.max_tokens,
            created_us=now_us,
            deadline_us=None if timeout_s is None else now_us + timeout_s * 1_000_000,
            spec=spec.SerializeToString(),
            # A short prompt alone begins like no other.
            affinity=() if is_plain and len(text) < PREFIX else affinity_of(request, caller),
            prompt_salt=salt,
            prompt_hash=prompt_hash,
            request_hash=whole_hash(salt, prompt_hash, asked.beside),
            task=asked.task,
            asks=asked.asks,
            is_kept=said.get("store", True),
        )


def _settle(request: jobs_pb2.SubmitJobRequest, most_answer_bytes: int) -> _Asked:
    """Checks what a request asks, and says what follows. Raises InvalidArgument."""
    media = check_generation(request)
    check_answer_size(request, most_answer_bytes)
    task, params = task_of(request), request.params
    max_tokens = params.max_tokens if params.HasField("max_tokens") else None
    return _Asked(
        task,
        asks_of(request, task, media),
        max_tokens if task is Task.GENERATE else 0,
        asked_beside(request),
    )


def _settle_params_anew(model: str, params: bytes, most_answer_bytes: int) -> _Asked:
    """Does the same for a request of which only the parameters need a look."""
    request = jobs_pb2.SubmitJobRequest(model=model)
    request.params.MergeFromString(params)
    return _settle(request, most_answer_bytes)


# Jobs mostly ask for the same as others did.
_settle_params = lru_cache(maxsize=256)(_settle_params_anew)


def _fingerprint(request: jobs_pb2.SubmitJobRequest | jobs_pb2.BatchSubmitJobsRequest) -> bytes:
    """Returns what tells this request from another one under the same request_id."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
