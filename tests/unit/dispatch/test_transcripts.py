"""Readers of transcripts against a model: whatever happens, each has the result at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.transcripts import Follower, News, Transcripts
from aitbc_server.domain.positions import START, Position

DEADLINE_S = 20
JOB = LiveJob(
    job_id="j", owner="o", model="m", priority=0, created_us=0, max_attempts=3, max_tokens=None
)


def transcripts(budget: int = 1000) -> Transcripts:
    return Transcripts(budget, {"j"})


class Reader:
    """Keeps what it was told, and comes back from where it was."""

    def __init__(self) -> None:
        self.text = b""
        self.position = START
        self.follower: Follower | None = None

    def connect(self, to: Transcripts) -> None:
        self.disconnect()
        # What a client keeps is the text of an id.
        self.follower = to.follow(JOB, Position.parse(str(self.position)))

    def disconnect(self) -> None:
        if self.follower is not None:
            self.follower.close()
            self.follower = None

    def read(self) -> None:
        if self.follower is not None and (news := self.follower.news()) is not None:
            self.take(news)

    def take(self, news: News) -> None:
        if news.is_restarted:
            self.text = b""
        assert news.position.offset == len(self.text)
        self.text += news.text
        self.position = news.position.advanced(news.text)

    def end(self, result: bytes) -> None:
        """Gets the rest as the end of a job gives it."""
        self.read()
        found = self.position.within(result)
        begin = found or START
        self.take(News(result[begin.offset :], begin, is_restarted=found is None))


_READERS = st.integers(0, 1)
_STEPS = st.one_of(
    st.tuples(st.just("say"), st.text(alphabet="ab é€🙂\u200d", max_size=5)),
    st.tuples(st.just("begin anew"), st.text(alphabet="ab🙂", min_size=1, max_size=5)),
    st.tuples(st.just("tell again"), st.just("")),
    st.tuples(st.just("restart the coordinator"), st.just("")),
    st.tuples(st.sampled_from(["read", "connect", "disconnect"]), _READERS),
)


@given(st.lists(_STEPS, max_size=40), st.sampled_from([0, 8, 1000]))
def test_each_reader_ends_with_the_result(steps: list[tuple[str, str | int]], budget: int) -> None:
    async def run() -> None:
        said, sequence = "", 0
        kept, readers = transcripts(budget), (Reader(), Reader())
        for step, argument in steps:
            if isinstance(argument, int):
                reader = readers[argument]
                if step == "connect":
                    reader.connect(kept)
                elif step == "disconnect":
                    reader.disconnect()
                else:
                    reader.read()
                continue
            if step == "restart the coordinator":
                for reader in readers:
                    reader.disconnect()
                kept, sequence, argument = transcripts(budget), 0, said
            elif step == "tell again":
                sequence, argument = 0, said
            elif step == "begin anew":
                said, sequence = "", 0
            if step in ("say", "begin anew"):
                said += argument
            kept.extend("j", sequence, argument, tokens=1)
            sequence += 1
        for reader in readers:
            reader.end(said.encode())
            assert reader.text.decode() == said

    asyncio.run(run())


async def test_who_waits_is_woken_by_the_first_word_and_by_later_ones() -> None:
    kept = transcripts()
    follower = kept.follow(JOB, START)
    for sequence, text in enumerate(("a", "b", "c")):
        waiting = asyncio.create_task(follower.wait())
        await asyncio.sleep(0)
        kept.extend("j", sequence, text, tokens=1)
        async with asyncio.timeout(DEADLINE_S):
            await waiting
        news = follower.news()
        assert news is not None
        assert news.text == text.encode()
        assert follower.news() is None


async def test_a_slow_reader_gets_what_came_meanwhile_at_once() -> None:
    kept = transcripts()
    follower = kept.follow(JOB, START)
    for sequence in range(100):
        kept.extend("j", sequence, "x", tokens=1)
    news = follower.news()
    assert news is not None
    assert news.text == b"x" * 100


async def test_memory_is_given_back_when_jobs_end() -> None:
    live = {"j", "k"}
    kept = Transcripts(10, live)
    for job_id in ("j", "k"):
        kept.extend(job_id, 0, "12345", tokens=1)
    live.clear()
    kept.tell(["j", "k"])
    kept.extend("l", 0, "1234567890", tokens=1)
    found = kept.find("l")
    assert found is not None
    assert found.text == b"1234567890"


async def test_a_text_beyond_the_budget_is_left_to_the_result() -> None:
    kept = transcripts(budget=5)
    follower = kept.follow(JOB, START)
    kept.extend("j", 0, "12345", tokens=1)
    assert follower.news() is not None
    kept.extend("j", 1, "6", tokens=1)
    assert follower.news() is None
    assert kept.find("j") is None


async def test_a_reader_that_leaves_before_the_first_word_leaves_nothing() -> None:
    kept = transcripts()
    kept.follow(JOB, START).close()
    assert kept.find("j") is None


async def test_all_are_woken_at_the_end_of_the_process() -> None:
    kept = transcripts()
    waiting = [asyncio.create_task(kept.follow(JOB, START).wait()) for _ in range(2)]
    await asyncio.sleep(0)
    kept.close()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*waiting)
    await kept.follow(JOB, START).wait()


@pytest.mark.parametrize("texts", [("ab", "abc"), ("ab", "ab")])
async def test_a_text_told_again_from_its_beginning_is_not_a_new_one(texts: Iterable[str]) -> None:
    kept = transcripts()
    first, again = texts
    kept.extend("j", 0, first, tokens=2)
    follower = kept.follow(JOB, START.advanced(first.encode()))
    assert follower.news() is None
    kept.extend("j", 0, again, tokens=3)
    news = follower.news()
    rest = again.removeprefix(first).encode()
    assert (news.text if news else b"") == rest
    assert news is None or not news.is_restarted
    found = kept.find("j")
    assert found is not None
    assert found.tokens == 3


async def test_long_news_comes_in_parts_cut_between_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aitbc_server.dispatch.transcripts._MOST_NEWS", 5)
    text = "aé🙂" * 10
    said = transcripts()
    said.extend("j", 0, text, 1)
    follower = said.follow(JOB, START)
    parts = []
    while (news := follower.news()) is not None:
        parts.append(news.text.decode())
    follower.close()
    assert "".join(parts) == text
    assert max(len(part.encode()) for part in parts) <= 5


async def test_a_miner_that_talks_without_end_silences_its_own_jobs_alone() -> None:
    jobs = {f"job-{number}" for number in range(6)}
    transcripts = Transcripts(1_000, jobs)
    transcripts.extend("job-0", 0, "honest", 1, miner_id="honest")
    for number in range(1, 5):
        transcripts.extend(f"job-{number}", 0, "x" * 240, 1, miner_id="loud")
    # There is room for what an honest miner says, and none for more noise.
    transcripts.extend("job-5", 0, "x" * 240, 1, miner_id="loud")
    assert transcripts.find("job-5") is None
    transcripts.extend("job-0", 1, "!" * 200, 1, miner_id="honest")
    kept = transcripts.find("job-0")
    assert kept is not None
    assert kept.text == b"honest" + b"!" * 200


async def test_what_came_before_a_failure_is_nothing_to_go_on_from() -> None:
    transcripts = Transcripts(1_000, {"job"})
    transcripts.extend("job", 0, "evil", 1, miner_id="first")
    said = transcripts.find("job")
    assert said is not None
    assert said.is_resumable
    transcripts.distrust("job")
    assert not said.is_resumable
    transcripts.extend("job", 0, "good", 1, miner_id="second")
    assert said.is_resumable
