"""Readers of calls and probabilities; tests/unit/test_streamed_parts.py has all that may happen."""

from __future__ import annotations

from aitbc_server.dispatch.extras import Extras, Place
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.transcripts import Transcripts
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


async def test_who_comes_back_gets_the_rest_of_the_reasoning_and_then_the_text() -> None:
    kept = Transcripts(100_000, {"j"})
    kept.extend("j", 0, "", 1, Parts(reasoning=b"hm "))
    first = kept.follow(JOB, START)
    news = first.news()
    assert news is not None
    assert (news.reasoning, news.text) == (b"hm ", b"")
    assert first.news() is None
    kept.extend("j", 1, "", 1, Parts(reasoning=b"yes"))
    kept.extend("j", 2, "A", 1)
    back = kept.follow(JOB, first.position).news()
    assert back is not None
    assert (back.reasoning, back.text, back.is_restarted) == (b"yes", b"A", False)


async def test_another_reasoning_is_another_answer() -> None:
    kept = Transcripts(100_000, {"j"})
    kept.extend("j", 0, "A", 2, Parts(reasoning=b"hm"))
    reader = kept.follow(JOB, START)
    assert reader.news() is not None
    elsewhere = kept.follow(JOB, START.advanced(b"A", b"oh")).news()
    assert elsewhere is not None
    assert (elsewhere.reasoning, elsewhere.text, elsewhere.is_restarted) == (b"hm", b"A", True)
    kept.extend("j", 0, "A", 2, Parts(reasoning=b"oh"))
    news = reader.news()
    assert news is not None
    assert (news.reasoning, news.text, news.is_restarted) == (b"oh", b"A", True)


async def test_who_comes_back_before_the_reasoning_is_told_again_waits_for_it() -> None:
    kept = Transcripts(100_000, {"j"})
    kept.extend("j", 0, "", 1, Parts(reasoning=b"hm"))
    back = kept.follow(JOB, START.advanced(b"", b"hm yes"))
    assert back.news() is None
    kept.extend("j", 1, "", 1, Parts(reasoning=b" yes, "))
    news = back.news()
    assert news is not None
    assert (news.reasoning, news.is_restarted) == (b", ", False)


async def test_ids_of_tokens_come_with_their_text_and_another_attempt_has_others() -> None:
    kept = Transcripts(100_000, {"j"})
    kept.extend("j", 0, "ab", 2, Parts(token_ids=(1, 2)))
    reader = kept.follow(JOB, START)
    news = reader.news()
    assert news is not None
    assert news.parts.token_ids == (1, 2)
    said = kept.find("j")
    assert said is not None
    assert not said.is_resumable
    # The same text, which another miner cut in another way.
    kept.extend("j", 0, "abc", 2, Parts(token_ids=(3, 4)))
    news = reader.news()
    assert news is not None
    assert (news.text, news.is_restarted, news.parts.token_ids) == (b"abc", True, (3, 4))
    kept.extend("j", 1, "d", 1, Parts(token_ids=(5,)))
    back = kept.follow(JOB, reader.position).news()
    assert back is not None
    assert (back.text, back.parts.token_ids) == (b"d", (5,))
    assert reader.place.beyond(Parts(token_ids=(3, 4, 5, 6))) == Parts(token_ids=(5, 6))
    assert reader.place.beyond(Parts(token_ids=(1, 2, 5, 6))) is None


async def test_an_id_without_a_text_comes_with_the_next_one_to_whoever_comes_back() -> None:
    kept = Transcripts(100_000, {"j"})
    kept.extend("j", 0, "a", 1, Parts(token_ids=(1,)))
    reader = kept.follow(JOB, START)
    assert reader.news() is not None
    # The first half of a character.
    kept.extend("j", 1, "", 1, Parts(token_ids=(2,)))
    back = kept.follow(JOB, reader.position)
    assert back.news() is None
    kept.extend("j", 2, "é", 1, Parts(token_ids=(3,)))
    for one in (reader, back):
        news = one.news()
        assert news is not None
        assert (news.text, news.parts.token_ids) == ("é".encode(), (2, 3))
    kept.extend("j", 3, "", 1, Parts(token_ids=(4,)))
    assert reader.news() is None
    assert reader.place.beyond(Parts(token_ids=(1, 2, 3, 4))) == Parts(token_ids=(4,))


async def test_an_answer_that_was_thought_about_is_not_gone_on_with() -> None:
    kept = Transcripts(100_000, {"j"})
    kept.extend("j", 0, "A", 2)
    said = kept.find("j")
    assert said is not None
    assert said.is_resumable
    kept.extend("j", 1, "B", 2, Parts(reasoning=b"hm"))
    assert not said.is_resumable


async def test_a_long_reasoning_is_told_in_pieces_before_the_text() -> None:
    kept = Transcripts(10**6, {"j"})
    thought = "ü".encode() * 100_001
    kept.extend("j", 0, "A", 2, Parts(reasoning=thought))
    reader, told = kept.follow(JOB, START), []
    while (news := reader.news()) is not None:
        told.append(news)
    assert [len(one.text) for one in told] == [0, 1]
    assert b"".join(one.reasoning for one in told) == thought
    for one in told:
        one.reasoning.decode()


async def test_memory_of_reasoning_is_bounded_and_given_back() -> None:
    live = {"j", "k"}
    kept = Transcripts(100, live)
    kept.extend("j", 0, "", 1, Parts(reasoning=b"x" * 90))
    kept.extend("k", 0, "", 1, Parts(reasoning=b"x" * 90))
    assert kept.find("k") is None
    live.clear()
    kept.tell(["j", "k"])
    live.add("l")
    kept.extend("l", 0, "", 1, Parts(reasoning=b"x" * 90))
    assert kept.find("l") is not None
