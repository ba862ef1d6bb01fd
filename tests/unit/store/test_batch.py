"""Operations that share a batch share nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import pytest

from aitbc_server.domain.errors import BlockNotFound, StorageUnavailable
from aitbc_server.store.batch import BatchThread, OperationBroke
from aitbc_server.store.reader import run_reads


def broken(error: BaseException) -> NoReturn:
    """Raises the error."""
    raise error


@pytest.fixture
async def reads() -> AsyncIterator[BatchThread]:
    thread = BatchThread("reader", run_reads)
    yield thread
    await thread.close()


async def told(*futures: asyncio.Future[Any]) -> list[Any]:
    """Returns results and exceptions."""
    async with asyncio.timeout(10):
        return await asyncio.gather(*futures, return_exceptions=True)


@pytest.mark.parametrize(
    "error",
    [
        BlockNotFound(),
        StorageUnavailable(),
        OverflowError("too large"),
        MemoryError(),
        KeyError("x"),
    ],
    ids=repr,
)
async def test_what_a_read_raises_is_told_to_its_caller_alone(
    reads: BatchThread, error: Exception
) -> None:
    answers = await told(
        reads.put(lambda: 1), reads.put(partial(broken, error)), reads.put(lambda: 3)
    )
    assert answers == [1, error, 3]


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
    ],
    ids=repr,
)
async def test_what_would_end_more_than_a_call_becomes_an_error_of_it(
    reads: BatchThread, error: BaseException
) -> None:
    bad, good = await told(reads.put(partial(broken, error)), reads.put(lambda: 2))
    assert good == 2
    assert isinstance(bad, OperationBroke)
    assert bad.__cause__ is error
    assert type(error).__name__ in str(bad)


@pytest.mark.parametrize(
    "run",
    [
        lambda operations: broken(MemoryError("all of it")),
        lambda operations: broken(SystemExit(1)),
        lambda operations: operations[1:],
    ],
)
async def test_a_batch_that_breaks_gives_each_caller_an_error_of_its_own(
    run: Callable[[Sequence[Any]], Sequence[Any]],
) -> None:
    thread = BatchThread("broken", run)
    errors = await told(*(thread.put(n) for n in range(4)))
    assert all(isinstance(error, OperationBroke) for error in errors)
    assert len({id(error) for error in errors}) == 4
    # The thread goes on.
    assert len(await told(*(thread.put(n) for n in range(2)))) == 2
    await thread.close()


async def test_callbacks_and_watchers_that_raise_strand_nobody(reads: BatchThread) -> None:
    watched: list[tuple[int, bool]] = []
    reads.watchers.append(lambda *_: broken(RuntimeError("a watcher")))
    reads.watchers.append(lambda size, _, was_run: watched.append((size, was_run)))
    then = reads.put(lambda: 1, lambda _: broken(RuntimeError("a callback")))
    assert await told(then, reads.put(lambda: 2)) == [1, 2]
    assert watched == [(2, True)]
    assert await told(reads.put(lambda: 3)) == [3]


async def test_a_watcher_hears_of_a_refusal_wherever_in_the_batch_it_is(
    reads: BatchThread,
) -> None:
    watched: list[bool] = []
    reads.watchers.append(lambda size, seconds, was_run: watched.append(was_run))
    await told(reads.put(lambda: 1), reads.put(partial(broken, StorageUnavailable())))
    assert watched == [False]


async def test_the_callback_hears_of_an_operation_whose_caller_has_gone(
    reads: BatchThread,
) -> None:
    heard: list[Any] = []
    future = reads.put(lambda: 1, heard.append)
    future.cancel()
    assert await told(reads.put(lambda: 2)) == [2]
    assert heard == [1]
