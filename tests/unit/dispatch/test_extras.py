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
