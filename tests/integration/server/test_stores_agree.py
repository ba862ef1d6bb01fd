"""The store in memory, which the dispatcher's simulation runs on, answers as the real one does.

Both are given the same operations, in any order and also ones that come too late or twice, and must
give the same answers and hold the same jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc_server.dispatch.effects import Effects
from aitbc_server.domain.jobs import JobStatus, LiveRecord
from aitbc_server.store.sqlite import SqliteStore
from tests.factories import START_US, begin, completion, ending, new_job, submission
from tests.unit.dispatch.memory_store import MemoryStore

JOBS = [new_job(max_attempts=3) for _ in range(3)]
IDS = [job.job_id for job in JOBS]
NEXT = [JobStatus.PENDING, JobStatus.FAILED, JobStatus.CANCELLED]

_ids, _attempts = st.sampled_from(IDS), st.integers(1, 3)
_begins = st.builds(begin, _ids, _attempts, st.sampled_from(["miner-1", "miner-2"]))
_completions = st.builds(completion, _ids, _attempts)
_endings = st.builds(
    ending,
    _ids,
    st.sampled_from(NEXT),
    _attempts,
    not_before_us=st.sampled_from([None, START_US + 9]),
    vanishes=st.integers(0, 2),
)
_waits = st.builds(
    ending, _ids, st.sampled_from([JobStatus.FAILED, JobStatus.CANCELLED]), st.none()
)
_flags = st.tuples(_ids, st.just(START_US + 5), st.booleans())
# One of each job: a batch names a job once, as the dispatcher's do.
_steps = st.lists(
    st.one_of(
        *(
            st.lists(items, min_size=1, max_size=3, unique_by=lambda one: one[0]).map(
                lambda batch, kind=kind: (kind, batch)  # type: ignore[misc]  # bound at once
            )
            for kind, items in [
                ("begin", _begins),
                ("complete", _completions),
                ("end", _endings),
                ("end", _waits),
                ("flag", _flags),
            ]
        )
    ),
    max_size=25,
)


class Memory:
    """The store in memory, asked as the real one is."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        for job in JOBS:
            self.store.submit(job)

    async def ask(self, kind: str, batch: Sequence[Any]) -> frozenset[str]:
        effects = Effects()
        lists: dict[str, list[Any]] = {
            "begin": effects.begins,
            "complete": effects.completions,
            "end": effects.endings,
            "flag": effects.flags,
        }
        lists[kind].extend(batch)
        begun, done, ended = self.store.apply(effects)
        return begun | done | ended

    async def live(self) -> list[LiveRecord]:
        return self.store.live()


class Real:
    """SQLite."""

    def __init__(self, directory: Path) -> None:
        self.store = SqliteStore(directory)

    async def ask(self, kind: str, batch: Sequence[Any]) -> frozenset[str]:
        if kind == "flag":
            await self.store.flag_cancels(batch)
            return frozenset()
        ask: Any = {"begin": self.store.begin, "complete": self.store.complete}
        done: frozenset[str] = await ask.get(kind, self.store.end)(batch)
        return done

    async def live(self) -> list[LiveRecord]:
        return await self.store.live()


async def _agree(directory: Path, steps: Sequence[tuple[str, Sequence[Any]]]) -> None:
    memory, real = Memory(), Real(directory)
    for job in JOBS:
        await real.store.submit(submission(job))
    try:
        for step in steps:
            assert await memory.ask(*step) == await real.ask(*step), step
            # When a lease began is not kept in memory: nothing there asks for it.
            held = [one._replace(started_us=None) for one in await real.live()]
            assert await memory.live() == held, step
    finally:
        await real.store.close()


@settings(deadline=None, max_examples=60)
@given(steps=_steps)
def test_both_stores_answer_the_same(steps: list[tuple[str, list[Any]]]) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(_agree(Path(directory), steps))


@pytest.mark.parametrize("repeated", ["begin", "complete", "end"])
async def test_both_stores_answer_the_same_to_a_repetition(tmp_path: Path, repeated: str) -> None:
    first = begin(IDS[0])
    step: dict[str, Any] = {
        "begin": first,
        "complete": completion(IDS[0]),
        "end": ending(IDS[0], JobStatus.PENDING),
    }
    await _agree(tmp_path, [("begin", [first]), *[(repeated, [step[repeated]])] * 2])
