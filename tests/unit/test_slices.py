from __future__ import annotations

import asyncio
import time

from aitbc_server import slices


def work() -> None:
    until = time.monotonic() + slices.SLICE_S / 2
    while time.monotonic() < until:
        pass


async def test_work_that_comes_all_at_once_is_done_over_several_turns() -> None:
    turns = 0
    done: list[int] = []

    async def one() -> None:
        if slices.is_spent():
            await slices.next_turn()
        done.append(turns)
        work()

    tasks = [asyncio.create_task(one()) for _ in range(12)]
    while not all(task.done() for task in tasks):
        turns += 1
        await asyncio.sleep(0)
    # Two fit into a slice, and a third begins in what is left of it.
    assert max(done.count(turn) for turn in done) <= 3
    assert len(done) == 12


async def test_a_turn_that_took_long_does_not_count_for_the_next() -> None:
    assert not slices.is_spent()
    work()
    work()
    assert slices.is_spent()
    await slices.next_turn()
    assert not slices.is_spent()


def test_another_loop_begins_anew() -> None:
    async def spend() -> None:
        assert not slices.is_spent()
        work()
        work()

    asyncio.run(spend())
    asyncio.run(spend())
