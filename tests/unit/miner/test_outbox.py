from __future__ import annotations

import asyncio

import uvloop

from aitbc.v1.work_pb2 import Updates
from aitbc_miner._aio import Alarm
from aitbc_miner.engines.base import Chunk
from aitbc_miner.errors import Fault
from aitbc_miner.lease import Lease
from aitbc_miner.outbox import FLUSH_INTERVAL_S, Outbox
from tests.unit.miner.fakes import FakeClock


def talking(lease_id: str, text: str) -> Lease:
    lease = Lease(lease_id)
    lease.add(Chunk(text=text, tokens=1))
    return lease


def unsendable(lease: Lease, error: Exception) -> None:
    lease.fail("UNSENDABLE", type(error).__name__, fault=Fault.PASSING)


async def test_urgent_news_goes_at_once_with_all_that_waits() -> None:
    outbox = Outbox(Alarm(), FakeClock(), unsendable)
    first, second = talking("1", "a"), talking("2", "b")
    outbox.put(first, urgent=True)
    assert len(outbox.take()) == 1
    first.add(Chunk(text="c"))
    outbox.put(first, urgent=False)
    assert outbox.take() == []
    outbox.put(second, urgent=True)
    assert [update.lease_id for update in outbox.take()] == ["1", "2"]


async def test_other_news_waits_for_the_flush_interval_and_is_merged() -> None:
    clock = FakeClock()
    outbox, lease = Outbox(Alarm(), clock, unsendable), talking("1", "a")
    outbox.put(lease, urgent=True)
    outbox.take()
    for text in "bcd":
        lease.add(Chunk(text=text))
        outbox.put(lease, urgent=False)
    clock.now += FLUSH_INTERVAL_S / 2
    assert outbox.take() == []
    clock.now += FLUSH_INTERVAL_S / 2
    (update,) = outbox.take()
    assert update.delta.text == "bcd"
    assert outbox.take() == []


async def test_the_alarm_rings_when_the_interval_is_over() -> None:
    alarm = Alarm()
    outbox, lease = Outbox(alarm, asyncio.get_running_loop().time, unsendable), talking("1", "a")
    outbox.put(lease, urgent=True)
    await asyncio.wait_for(alarm.wait(), 5)
    outbox.take()
    lease.add(Chunk(text="b"))
    outbox.put(lease, urgent=False)
    assert outbox.take() == []
    await asyncio.wait_for(alarm.wait(), 5)
    assert len(outbox.take()) == 1


async def test_an_alarm_that_rang_too_early_rings_again() -> None:
    alarm, clock = Alarm(), FakeClock()
    outbox, lease = Outbox(alarm, clock, unsendable), talking("1", "a")
    outbox.put(lease, urgent=True)
    await asyncio.wait_for(alarm.wait(), 5)
    outbox.take()
    lease.add(Chunk(text="b"))
    outbox.put(lease, urgent=False)
    await asyncio.wait_for(alarm.wait(), 5)
    # By the outbox's clock it is not time yet.
    assert outbox.take() == []
    await asyncio.wait_for(alarm.wait(), 5)
    clock.now += FLUSH_INTERVAL_S
    assert len(outbox.take()) == 1


async def test_news_that_fills_a_message_leaves_the_rest_to_the_next_one() -> None:
    outbox = Outbox(Alarm(), FakeClock(), unsendable)
    for number in range(3):
        outbox.put(talking(str(number), "x" * 400_000), urgent=True)
    assert [update.lease_id for update in outbox.take()] == ["0", "1"]
    assert [update.lease_id for update in outbox.take()] == ["2"]
    assert outbox.take() == []


async def test_a_forgotten_lease_has_no_news() -> None:
    outbox, lease = Outbox(Alarm(), FakeClock(), unsendable), talking("1", "a")
    outbox.put(lease, urgent=True)
    outbox.discard(lease)
    assert outbox.take() == []


async def test_an_earlier_alarm_replaces_a_later_one_and_not_the_reverse() -> None:
    alarm = Alarm()
    alarm.ring_in(3600)
    alarm.ring_in(0.001)
    alarm.ring_in(3600)
    await asyncio.wait_for(alarm.wait(), 5)


def test_an_alarm_takes_delays_that_are_shorter_than_a_tick_of_uvloop() -> None:
    async def ring() -> None:
        alarm = Alarm()
        alarm.ring_in(0.0001)
        alarm.ring_in(0.00005)
        alarm.ring_in(3600)
        await asyncio.wait_for(alarm.wait(), 5)

    uvloop.run(ring())


def test_news_that_cannot_be_told_end_their_lease_and_no_other() -> None:
    outbox = Outbox(Alarm(), FakeClock(), unsendable)
    outbox.put(talking("1", "half a character: \ud800"), urgent=True)
    outbox.put(talking("2", "fine"), urgent=True)
    first, second = outbox.take()
    assert first.failure.code == "UNSENDABLE"
    assert second.delta.text == "fine"


async def test_what_does_not_fit_into_a_message_goes_with_the_next_one() -> None:
    outbox = Outbox(Alarm(), FakeClock(), unsendable)
    outbox.most_bytes = 300_000
    for number in range(5):
        outbox.put(talking(str(number), "x" * 200_000), urgent=True)
    told = []
    while updates := outbox.take():
        assert Updates(updates=updates).ByteSize() <= 300_000
        told += [update.lease_id for update in updates]
    assert told == ["0", "1", "2", "3", "4"]


async def test_an_answer_that_fits_into_no_message_ends_its_lease() -> None:
    outbox = Outbox(Alarm(), FakeClock(), unsendable)
    outbox.most_bytes = 300_000
    outbox.put(talking("1", "x" * 400_000), urgent=True)
    outbox.put(talking("2", "fits"), urgent=True)
    first, second = outbox.take()
    assert first.failure.message == "ResultTooLarge"
    # Nothing was sent before it: numbers have no gaps.
    assert first.sequence == 0
    assert second.delta.text == "fits"


async def test_a_whole_answer_that_fits_into_no_message_ends_its_lease() -> None:
    outbox, lease = Outbox(Alarm(), FakeClock(), unsendable), talking("1", "begun")
    outbox.most_bytes = 300_000
    outbox.put(lease, urgent=True)
    outbox.take()
    lease.add(Chunk(text="x" * 200_000))
    outbox.put(lease, urgent=True)
    outbox.take()
    lease.add(Chunk(text="x" * 200_000, finish_reason="stop"))
    lease.complete()
    outbox.put(lease, urgent=True)
    (update,) = outbox.take()
    assert (update.sequence, update.failure.message) == (2, "ResultTooLarge")


async def test_a_lease_that_is_forgotten_leaves_nothing_for_the_next_message() -> None:
    outbox = Outbox(Alarm(), FakeClock(), unsendable)
    outbox.most_bytes = 300_000
    leases = [talking(str(number), "x" * 200_000) for number in range(3)]
    for lease in leases:
        outbox.put(lease, urgent=True)
    assert [update.lease_id for update in outbox.take()] == ["0"]
    outbox.discard(leases[1])
    assert [update.lease_id for update in outbox.take()] == ["2"]
    assert outbox.take() == []
