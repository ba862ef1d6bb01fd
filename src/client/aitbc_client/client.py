"""The client for threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

import grpc
import tenacity

from aitbc.v1 import jobs_pb2
from aitbc_client import operations, streams
from aitbc_client.connection import (
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT_S,
    Connection,
)
from aitbc_client.errors import DeadlineExceeded, ended_well
from aitbc_client.failures import error_of
from aitbc_client.models import Job, JobEvent, JobStatus, Message, Miner, Params, Submitted
from aitbc_client.operations import JobFilter, Operation, Page, job_request
from aitbc_client.receipts import Receipt
from aitbc_client.retrying import may_succeed_later, retries
from aitbc_client.streams import Reading

T = TypeVar("T")


class Client:
    """Calls a coordinator. Safe to use from several threads; close it, or use it in a `with`.

        with Client("127.0.0.1:50051") as client:
            print(client.run("Explain quantum computing", model="llama3.2").result)

    Every method raises AitbcError. Calls are repeated while that may help, until `timeout_s`.
    """

    def __init__(
        self,
        coordinator: str | Connection = DEFAULT_TARGET,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """`coordinator`: HOST:PORT, or a Connection where there is TLS. Raises OSError."""
        connection = Connection.of(coordinator, api_key)
        self._metadata = connection.metadata
        self._timeout_s = timeout_s
        self._channel = connection.open()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and every call on it."""
        self._channel.close()

    def submit(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str,
        params: Params | None = None,
        priority: int = 0,
        timeout_seconds: int | None = None,
        max_attempts: int | None = None,
        request_id: str = "",
        store: bool | None = None,
    ) -> Submitted:
        """Stores a job: a prompt, or a conversation. The same `request_id` gives the same job.

        With `store=False` it is forgotten a minute after its end: wait for it, or stream it.
        """
        request = job_request(
            prompt,
            model=model,
            params=params,
            priority=priority,
            timeout_seconds=timeout_seconds,
            max_attempts=max_attempts,
            request_id=request_id,
            store=store,
        )
        return self.call(operations.submit(request))

    def run(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str,
        params: Params | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Submits a job and returns it completed. Raises JobUnsuccessful, DeadlineExceeded."""
        submitted = self.submit(prompt, model=model, params=params)
        return ended_well(self.wait(submitted.job_id, timeout_s))

    def get(self, job_id: str) -> Job:
        """Returns a job."""
        return self.call(operations.get(job_id))

    def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Returns a job when it is final. Raises DeadlineExceeded when that takes longer."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = operations.MAX_WAIT_S if until is None else until - time.monotonic()
            job = self.call(operations.get(job_id, left_s))
            if job.status.is_final:
                return job
            if until is not None and time.monotonic() >= until:
                raise DeadlineExceeded(
                    f"{job_id} is {job.status} still", error_code="DEADLINE_EXCEEDED"
                )

    def cancel(self, job_id: str) -> Job:
        """Cancels a job. Raises Conflict when it is final."""
        return self.call(operations.cancel(job_id))

    def delete(self, job_id: str) -> None:
        """Deletes a job, its prompt and its result. Raises Conflict unless it is final."""
        self.call(operations.delete(job_id))

    def stream(self, job_id: str, after_event_id: str = "") -> Iterator[JobEvent]:
        """Yields what a job produced so far, then the rest as it is made, and its end.

        Connects again when the connection is lost. A reader that comes back later gives the
        `event_id` of the last event that it has.
        """
        reading = Reading(job_id, after_event_id)
        while not reading.is_over:
            retrying = tenacity.Retrying(**retries(self._timeout_s))
            call, first = retrying(self._open_stream, reading)
            try:
                if first is None:
                    return
                yield reading.take(first)
                for message in call:
                    yield reading.take(message)
            except grpc.RpcError as error:
                if not may_succeed_later(failure := error_of(error)):
                    raise failure from error
            finally:
                call.cancel()

    def jobs(
        self,
        *,
        status: JobStatus | str | None = None,
        model: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        brief: bool = False,
    ) -> Iterator[Job]:
        """Yields the caller's jobs, the newest first.

        Those stored at `created_after` or later, and before `created_before`; a time without a
        zone is UTC. With `brief` without what was asked and answered: that makes long lists fast.
        """
        which = JobFilter(
            status=status,
            model=model,
            created_after=created_after,
            created_before=created_before,
            brief=brief,
        )
        return self._each(lambda token: operations.jobs(which, token))

    def miners(self, *, model: str | None = None) -> Iterator[Miner]:
        """Yields the miners."""
        return self._each(lambda token: operations.miners(model, token))

    def receipt(self, receipt_id: str) -> Receipt:
        """Returns a receipt, with its proof once its block is sealed."""
        return self.call(operations.receipt(receipt_id))

    def receipts(
        self, *, client: str = "", miner_id: str = "", job_id: str = ""
    ) -> Iterator[Receipt]:
        """Yields receipts, the newest first, without their proofs."""
        return self._each(lambda token: operations.receipts(client, miner_id, job_id, token))

    def ledger_keys(self) -> tuple[str, ...]:
        """Returns the ledger's keys as the coordinator tells them; pin them to trust it less."""
        return self.call(operations.ledger_keys())

    def call(self, operation: Operation[T]) -> T:
        """Makes a call, and repeats it while that may help."""
        timeout_s = self._timeout_s + operation.patience_s
        retrying = tenacity.Retrying(**retries(timeout_s))
        until = time.monotonic() + timeout_s
        response = retrying(self._attempt, operation, until)
        return operation.read(response)

    def _attempt(self, operation: Operation[Any], until: float) -> Any:
        method = self._channel.unary_unary(
            operation.path,
            request_serializer=operation.serialize,
            response_deserializer=operation.response_class.FromString,
        )
        left_s = max(0.0, until - time.monotonic())
        try:
            return method(operation.request, timeout=left_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error) from error

    def _open_stream(self, reading: Reading) -> tuple[Any, jobs_pb2.JobEvent | None]:
        method = self._channel.unary_stream(
            streams.PATH,
            request_serializer=Operation.serialize,
            response_deserializer=jobs_pb2.JobEvent.FromString,
        )
        call = method(reading.request, metadata=self._metadata)
        try:
            # The first event comes at once, and shows that the call was taken.
            return call, next(call, None)
        except grpc.RpcError as error:
            raise error_of(error) from error

    def _each(self, page_of: Callable[[str | None], Operation[Page[T]]]) -> Iterator[T]:
        page = self.call(page_of(None))
        yield from page.items
        while page.next_token is not None:
            page = self.call(page_of(page.next_token))
            yield from page.items
