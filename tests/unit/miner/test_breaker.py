from __future__ import annotations

import random

from aitbc_miner.breaker import FIRST_S, LONGEST_S, Breaker
from aitbc_miner.errors import EngineUnusable
from tests.unit.miner.fakes import FakeClock

ERROR = EngineUnusable("the server refuses the miner's key")


def pause_s(breaker: Breaker, model: str = "m") -> float:
    told = {pause.model: pause.duration.ToMilliseconds() / 1000 for pause in breaker.pauses()}
    return told.get(model, 0.0)


def test_each_fault_after_a_pause_doubles_it_up_to_the_longest() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, random.Random(7))
    expected_s = FIRST_S
    for _ in range(40):
        assert breaker.open("m", ERROR)
        assert 0.79 * expected_s <= pause_s(breaker) <= expected_s
        clock.now += pause_s(breaker) + 0.002
        assert pause_s(breaker) == 0.0
        expected_s = min(2 * expected_s, LONGEST_S)


def test_jobs_that_fail_together_are_one_fault() -> None:
    breaker = Breaker(FakeClock(), random.Random(7))
    assert [breaker.open("m", ERROR) for _ in range(8)] == [True] + [False] * 7
    assert pause_s(breaker) <= FIRST_S


def test_an_answer_closes_the_circuit_of_its_model_only() -> None:
    breaker = Breaker(FakeClock(), random.Random(7))
    assert not breaker.close("m")
    breaker.open("m", ERROR)
    breaker.open("n", ERROR)
    assert breaker.close("m")
    assert [(pause.model, pause.code, pause.message) for pause in breaker.pauses()] == [
        ("n", "ENGINE_UNUSABLE", str(ERROR))
    ]


def test_a_server_that_says_for_how_long_is_spared_that_long() -> None:
    breaker = Breaker(FakeClock(), random.Random(7))
    breaker.open("m", EngineUnusable("pay", retry_after_s=60.0))
    assert pause_s(breaker) == 60.0
