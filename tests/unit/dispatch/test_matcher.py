"""Which job goes to which miner: turns over all models, and other miners than those that failed."""

from __future__ import annotations

from itertools import islice

from aitbc_server.dispatch.live import CloseReason, Lease, LiveJob, Session
from aitbc_server.dispatch.matcher import Matcher
from aitbc_server.domain.tasks import ModelInfo, Task
from tests.factories import instant, live_job, session


def given(matcher: Matcher, count: int = 100, seconds: float = 0.0) -> list[tuple[LiveJob, str]]:
    """Returns what a match gives out, as the core would take it."""
    pairs = []
    for job, to in islice(matcher.pairs(instant(seconds)), count):
        lease_id = f"lease-{job.job_id}"
        to.leases[lease_id] = Lease(
            lease_id=lease_id, job=job, miner_id=to.miner_id, attempt=1, started_us=0
        )
        pairs.append((job, to.miner_id))
    return pairs


def opened(matcher: Matcher, miner_id: str, *models: str, window: int = 1) -> Session:
    """Returns a session that the matcher knows."""
    one = session(miner_id, models=models or ("m",), window=window)
    matcher.update(one)
    return one


def free(matcher: Matcher, one: Session) -> None:
    """Ends all leases of a session."""
    one.leases.clear()
    matcher.update(one)


def failed_by(*miners: str) -> LiveJob:
    """Returns a job that these miners had before, and that still prefers others."""
    until = instant(30).mono
    return live_job(attempt=len(miners), failed_miners=miners, prefers_until=until)


def test_a_flood_for_one_model_does_not_starve_anothers_job_for_another_model() -> None:
    matcher = Matcher()
    for _ in range(1000):
        matcher.push(live_job(owner="flood", model="a"))
    single = live_job(owner="single", model="b")
    matcher.push(single)
    miner = opened(matcher, "miner", "a", "b")
    taken = []
    for _ in range(2):
        taken += [job for job, _ in given(matcher)]
        free(matcher, miner)
    assert single in taken


def test_an_older_job_goes_first_when_its_owner_is_the_same() -> None:
    matcher = Matcher()
    older, newer = live_job(model="b"), live_job(model="a")
    matcher.push(newer)
    matcher.push(older)
    opened(matcher, "miner", "a", "b", window=2)
    assert [job for job, _ in given(matcher)] == [older, newer]


def test_a_poller_that_takes_the_first_job_each_time_gives_every_owner_a_turn() -> None:
    matcher = Matcher()
    for _ in range(100):
        matcher.push(live_job(owner="flood", model="a"))
    others = [live_job(owner="x", model="a"), live_job(owner="y", model="b")]
    for job in others:
        matcher.push(job)
    taken = []
    for _ in range(4):
        [first] = matcher.peek(["a", "b"], 1)
        matcher.take(first)
        taken.append(first)
    assert set(others) <= set(taken)


def test_what_is_shown_is_what_would_be_given() -> None:
    matcher = Matcher()
    for number in range(60):
        matcher.push(live_job(owner="abc"[number % 3], model="mn"[number % 2], priority=number % 2))
    shown = matcher.peek(["m", "n"], 100)
    opened(matcher, "miner", "m", "n", window=100)
    assert {job.job_id for job, _ in given(matcher)} == {job.job_id for job in shown}
    assert [job.priority for job in shown] == sorted((j.priority for j in shown), reverse=True)


def test_a_retry_waits_for_a_busy_miner_that_has_not_failed_it() -> None:
    matcher = Matcher()
    opened(matcher, "bad")
    good = opened(matcher, "good")
    good.leases["busy"] = None  # type: ignore[assignment]  # only counted
    matcher.update(good)
    job, other = failed_by("bad"), live_job()
    matcher.push(job)
    matcher.push(other)
    assert given(matcher) == [(other, "bad")]
    assert matcher.is_parked(job)
    assert matcher.peek(["m"], 10) == [job]
    free(matcher, good)
    assert given(matcher) == [(job, "good")]


def test_a_retry_does_not_wait_when_only_miners_that_failed_it_are_there() -> None:
    matcher = Matcher()
    opened(matcher, "bad", window=2)
    opened(matcher, "worse", "another-model")
    job = failed_by("bad", "gone")
    matcher.push(job)
    assert given(matcher) == [(job, "bad")]


def test_a_retry_stops_waiting_when_the_other_miner_leaves() -> None:
    matcher = Matcher()
    opened(matcher, "bad")
    good = opened(matcher, "good")
    good.leases["busy"] = None  # type: ignore[assignment]  # only counted
    matcher.update(good)
    job = failed_by("bad")
    matcher.push(job)
    assert given(matcher) == []
    good.window = 0
    matcher.update(good)
    assert given(matcher) == [(job, "bad")]


def test_a_retry_does_not_wait_for_ever() -> None:
    matcher = Matcher()
    opened(matcher, "bad")
    good = opened(matcher, "good")
    good.leases["busy"] = None  # type: ignore[assignment]  # only counted
    matcher.update(good)
    job = failed_by("bad")
    matcher.push(job)
    assert given(matcher) == []
    matcher.reconsider(job)
    assert given(matcher, seconds=31) == [(job, "bad")]


def test_after_a_restart_a_retry_waits_for_miners_that_are_not_back_yet() -> None:
    matcher = Matcher()
    opened(matcher, "bad")
    job = failed_by("bad")
    job.awaits_miners = True
    matcher.push(job)
    assert given(matcher) == []
    opened(matcher, "good")
    assert given(matcher) == [(job, "good")]


def test_a_parked_job_that_is_withdrawn_is_gone() -> None:
    matcher = Matcher()
    opened(matcher, "bad")
    job = failed_by("bad")
    job.awaits_miners = True
    matcher.push(job)
    assert given(matcher) == []
    matcher.remove(job)
    opened(matcher, "good")
    assert given(matcher) == []
    assert matcher.peek(["m"], 10) == []


def test_jobs_that_begin_alike_go_to_the_miner_that_has_their_beginning() -> None:
    matcher = Matcher()
    miners = [opened(matcher, f"miner-{number}", window=4) for number in range(3)]
    matcher.push(live_job(affinity=(b"talk",)))
    [(_, first)] = given(matcher)
    for _ in range(6):
        for one in miners:
            free(matcher, one)
        matcher.push(live_job(affinity=(b"turn", b"talk")))
        assert [to for _, to in given(matcher)] == [first]


def test_a_preferred_miner_is_not_given_more_than_a_little_ahead_of_the_others() -> None:
    matcher = Matcher()
    miners = [opened(matcher, f"miner-{number}", window=8) for number in range(2)]
    for _ in range(12):
        matcher.push(live_job(affinity=(b"talk",)))
        given(matcher)
    assert sorted(len(one.leases) for one in miners) in ([5, 7], [6, 6])


def test_a_beginning_is_not_waited_for() -> None:
    matcher = Matcher()
    opened(matcher, "busy", window=1)
    matcher.push(live_job(affinity=(b"talk",)))
    assert [to for _, to in given(matcher)] == ["busy"]
    opened(matcher, "free", window=1)
    matcher.push(live_job(affinity=(b"talk",)))
    assert [to for _, to in given(matcher)] == ["free"]


def test_a_beginning_is_one_of_a_model() -> None:
    matcher = Matcher()
    opened(matcher, "a", "a", window=4)
    opened(matcher, "b", "b", window=4)
    matcher.push(live_job(model="a", affinity=(b"talk",)))
    matcher.push(live_job(model="b", affinity=(b"talk",)))
    assert {(job.model, to) for job, to in given(matcher)} == {("a", "a"), ("b", "b")}


def able(matcher: Matcher, miner_id: str, *tasks: Task, window: int = 1) -> Session:
    """Returns a session whose miner says what its model does."""
    one = session(miner_id, models=("m",), infos={"m": ModelInfo(tasks=tasks)}, window=window)
    matcher.update(one)
    return one


def test_a_job_goes_only_to_a_miner_whose_model_does_what_it_asks() -> None:
    matcher = Matcher()
    silent = opened(matcher, "silent", window=10)
    jobs = {task: live_job(task=task) for task in Task}
    for job in jobs.values():
        matcher.push(job)
    assert given(matcher) == [(jobs[Task.GENERATE], "silent")]
    able(matcher, "embedder", Task.EMBED, Task.TOKENIZE, window=10)
    assert given(matcher) == [(jobs[Task.EMBED], "embedder"), (jobs[Task.TOKENIZE], "embedder")]
    assert matcher.ahead_of(jobs[Task.SCORE]) == 0
    silent.closed = CloseReason.GONE
    matcher.update(silent)
    able(matcher, "scorer", Task.SCORE, Task.DETOKENIZE, window=10)
    assert {job for job, _ in given(matcher)} == {jobs[Task.SCORE], jobs[Task.DETOKENIZE]}


def test_priority_and_age_hold_between_what_is_asked_of_a_model() -> None:
    matcher = Matcher()
    old, new = live_job(task=Task.TOKENIZE), live_job()
    urgent = live_job(task=Task.EMBED, priority=1)
    for job in (new, old, urgent):
        matcher.push(job)
    able(matcher, "one", Task.GENERATE, Task.EMBED, Task.TOKENIZE, window=3)
    assert [job for job, _ in given(matcher)] == [urgent, old, new]


def test_a_job_that_a_miner_failed_waits_for_no_other_that_does_not_do_it() -> None:
    matcher = Matcher()
    job = live_job(task=Task.EMBED, attempt=1, failed_miners=("a",), prefers_until=1e9)
    matcher.push(job)
    opened(matcher, "generates")
    able(matcher, "a", Task.EMBED)
    assert not matcher.has_other(job, "a")
    assert given(matcher) == [(job, "a")]


def test_a_miner_that_polls_is_shown_only_what_it_can_claim() -> None:
    matcher = Matcher()
    asked = live_job(task=Task.EMBED)
    generates = live_job()
    for job in (asked, generates):
        matcher.push(job)
    assert matcher.peek(["m"], 10) == [generates]
