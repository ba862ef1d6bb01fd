"""Readers of calls and probabilities: whatever happens, each has those of the result at the end."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.dispatch.extras import Extras, Place
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.transcripts import News, Transcripts
from aitbc_server.domain.parts import NO_PARTS, CallPart, Parts
from aitbc_server.domain.positions import START

JOB = LiveJob(
    job_id="j", owner="o", model="m", priority=0, created_us=0, max_attempts=3, max_tokens=None
)


class Answer:
    """What one attempt says, whole and in the parts of a delta."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.text = ""
        self.calls: list[list[str]] = []
        self.logprobs: list[bytes] = []

    def say(self, text: str, call: tuple[int, str] | None) -> Parts:
        """Says more; a token for each character of the text."""
        logprobs = tuple(f"{self.attempt}{one}".encode() for one in text)
        self.text += text
        self.logprobs += logprobs
        if call is None:
            return Parts((), logprobs)
        number = min(call[0], len(self.calls))
        is_first = number == len(self.calls)
        if is_first:
            self.calls.append([f"{self.attempt}-{number}", "f", ""])
        call_id, name, _ = self.calls[number] if is_first else ("", "", "")
        self.calls[number][2] += call[1]
        return Parts((CallPart(number, call_id, name, call[1]),), logprobs)

    @property
    def whole(self) -> Parts:
        """All of it, as a result has it and a miner tells it again."""
        calls = (
            CallPart(number, call_id, name, arguments)
            for number, (call_id, name, arguments) in enumerate(self.calls)
        )
        return Parts(tuple(calls), tuple(self.logprobs))


class Reader:
    """Keeps what it was told, as a client does."""

    def __init__(self) -> None:
        self.text = b""
        self.calls: list[list[str]] = []
        self.logprobs: list[bytes] = []

    def take(self, news: News) -> None:
        if news.is_restarted:
            self.text, self.calls, self.logprobs = b"", [], []
        self.text += news.text
        self.take_parts(news.parts)

    def take_parts(self, parts: Parts) -> None:
        self.logprobs += parts.logprobs
        for number, call_id, name, arguments in parts.calls:
            assert bool(call_id) == (number == len(self.calls))
            if call_id:
                self.calls.append([call_id, name, ""])
            self.calls[number][2] += arguments


_STEPS = st.one_of(
    st.tuples(
        st.just("say"),
        st.text(alphabet="ab🙂", max_size=3),
        st.none() | st.tuples(st.integers(0, 2), st.text(alphabet="{é}", max_size=3)),
    ),
    st.tuples(st.sampled_from(["read", "tell again", "begin anew"]), st.just(""), st.none()),
)


@given(
    st.lists(_STEPS, max_size=40),
    st.booleans(),
    st.sampled_from([0, 300, 100_000]),
)
def test_who_stays_has_the_calls_and_the_probabilities_of_the_result(
    steps: list[tuple[str, str, tuple[int, str] | None]], is_changed: bool, budget: int
) -> None:
    async def run() -> None:
        answer, sequence = Answer(0), 0
        kept, reader = Transcripts(budget, {"j"}), Reader()
        follower = kept.follow(JOB, START)
        for step, text, call in steps:
            if step == "read":
                if (news := follower.news()) is not None:
                    reader.take(news)
            elif step == "say":
                before = len(answer.text)
                parts = answer.say(text, call)
                said = answer.text[before:]
                kept.extend("j", sequence, said, len(text), parts)
                sequence += 1
            elif step == "tell again":
                kept.extend("j", 0, answer.text, len(answer.text), answer.whole)
                sequence = 1
            else:
                answer, sequence = Answer(answer.attempt + 1), 0
        if is_changed:
            # The last attempt gave its result without a delta.
            answer = Answer(answer.attempt + 1)
            answer.say("ab", (0, "{}"))
        rest = follower.place.beyond(answer.whole)
        found = follower.position.within(answer.text.encode())
        if rest is None or found is None:
            reader, rest, found = Reader(), answer.whole, START
        reader.text += answer.text.encode()[found.offset :]
        reader.take_parts(rest)
        assert reader.text.decode() == answer.text
        assert reader.calls == answer.calls
        assert reader.logprobs == answer.logprobs

    asyncio.run(run())


async def test_who_comes_back_gets_the_calls_again_and_no_probability_twice() -> None:
    kept = Transcripts(100_000, {"j"})
    answer = Answer(0)
    kept.extend("j", 0, "a", 1, answer.say("a", (0, "{")))
    first = kept.follow(JOB, START)
    assert first.news() is not None
    kept.extend("j", 1, "b", 1, answer.say("b", (0, "}")))
    back = kept.follow(JOB, first.position).news()
    assert back is not None
    assert (back.text, back.parts.logprobs) == (b"b", (b"0b",))
    assert back.parts.calls == (CallPart(0, "0-0", "f", "{}"),)


async def test_memory_of_calls_and_probabilities_is_given_back() -> None:
    live = {"j"}
    kept = Transcripts(400, live)
    kept.extend("j", 0, "ab", 2, Answer(0).say("ab", (0, "{}")))
    live.clear()
    kept.tell(["j"])
    live.add("k")
    kept.extend("k", 0, "x" * 400, 1)
    found = kept.find("k")
    assert found is not None
    assert found.is_resumable


async def test_an_answer_that_began_a_call_is_not_resumed() -> None:
    kept = Transcripts(400, {"j"})
    kept.extend("j", 0, "a", 1, Parts((CallPart(0, "c", "f", ""),), ()))
    found = kept.find("j")
    assert found is not None
    assert not found.is_resumable


def test_most_answers_have_nothing_beside_their_text() -> None:
    assert Place().take(Extras(), 5) is NO_PARTS
    assert Extras().beyond(NO_PARTS) == NO_PARTS
