"""The jobs of one owner that wait in one lane at one priority, in the order of their turns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import takewhile

from aitbc_server.dispatch.live import LiveJob

# Jobs in a chunk: to find a job's place, chunks are counted as a whole, and one is walked.
_CHUNK = 512


class Line:
    """A queue from which jobs may also leave in the middle. Every operation takes constant time.

    A job's `ticket` says where it stands, and that it does.
    """

    def __init__(self) -> None:
        # By ticket // _CHUNK, in order.
        self._chunks: OrderedDict[int, OrderedDict[str, LiveJob]] = OrderedDict()
        self._first = 0
        self._next = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[LiveJob]:
        for chunk in self._chunks.values():
            yield from chunk.values()

    def push(self, job: LiveJob) -> None:
        """Adds a job at the end."""
        job.ticket = self._next
        self._next += 1
        self._chunk(job.ticket, last=True)[job.job_id] = job
        self._size += 1

    def push_first(self, job: LiveJob) -> None:
        """Adds a job at the front."""
        self._first -= 1
        job.ticket = self._first
        chunk = self._chunk(job.ticket, last=False)
        chunk[job.job_id] = job
        chunk.move_to_end(job.job_id, last=False)
        self._size += 1

    def head(self) -> LiveJob:
        """Returns the next job."""
        return next(iter(next(iter(self._chunks.values())).values()))

    def remove(self, job: LiveJob) -> None:
        """Removes a job that stands here."""
        assert job.ticket is not None  # noqa: S101 - it stands here
        number = job.ticket // _CHUNK
        chunk = self._chunks[number]
        del chunk[job.job_id]
        if not chunk:
            del self._chunks[number]
        job.ticket = None
        self._size -= 1

    def ahead_of(self, job: LiveJob) -> int:
        """Returns how many stand before a job that stands here."""
        assert job.ticket is not None  # noqa: S101 - it stands here
        number = job.ticket // _CHUNK
        before = takewhile(lambda item: item[0] != number, self._chunks.items())
        walked = takewhile(lambda other: other is not job, self._chunks[number].values())
        return sum(len(chunk) for _, chunk in before) + sum(1 for _ in walked)

    def _chunk(self, ticket: int, *, last: bool) -> OrderedDict[str, LiveJob]:
        number = ticket // _CHUNK
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = OrderedDict()
            self._chunks.move_to_end(number, last=last)
        return chunk
