"""From a miner's lease to a reader: calls and probabilities over miners that are lost."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_miner.engines.base import Chunk, Logprob, Resume, ToolCallPart
from aitbc_miner.lease import Lease
from aitbc_server.api.work_messages import parts_of, resume_of
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.transcripts import Transcripts
from aitbc_server.domain.parts import CallPart, Parts
from aitbc_server.domain.positions import START

JOB = LiveJob(
    job_id="j", owner="o", model="m", priority=0, created_us=0, max_attempts=3, max_tokens=None
)
# Texts of the tokens of every answer: words, and characters that take two tokens.
TOKENS = ["a", "b ", "", "🙂", "c", "", "é", " d", "", "漢", "e"]


class Attempt:
    """An engine that says the same tokens as all others, as likely as its own number."""

    def __init__(self, number: int, resume: Resume | None) -> None:
        self.lease = Lease("l", resume=resume)
        self._number = number
        # As engines do, it goes on after the text.
        self._said = _tokens_of(resume.text) if resume else 0

    def say(self, count: int, argument: str) -> None:
        """Says the next tokens in one chunk, and more of a call."""
        texts = TOKENS[self._said : self._said + count]
        calls = (ToolCallPart(0, "c", "f", f"{argument}{self._number}"),) if argument else ()
        chunk = Chunk(
            text="".join(texts),
            tokens=len(texts),
            tool_calls=calls,
            logprobs=tuple(Logprob(text, -self._number) for text in texts),
        )
        self._said += len(texts)
        self.lease.add(chunk)

    def finish(self) -> work_pb2.Completion:
        """Says the rest."""
        self.say(len(TOKENS), "")
        self.lease.add(Chunk(finish_reason="stop"))
        self.lease.complete()
        return self.lease.take_updates()[-1].completion


class Reader:
    """Keeps what it was told, as a client does."""

    def __init__(self, kept: Transcripts) -> None:
        self.follower = kept.follow(JOB, START)
        self.text = b""
        self.parts: list[Parts] = []
        # Whether the next that it is told may be another answer's.
        self.may_restart = False

    def read(self, *, is_void: bool) -> None:
        """Takes what there is. `is_void`: it is of an attempt that another began anew."""
        news = self.follower.news()
        if news is None:
            return
        if news.is_restarted:
            assert self.may_restart
            self.text, self.parts, self.may_restart = b"", [], is_void
        self.text += news.text
        self.parts.append(news.parts)

    def end(self, completion: work_pb2.Completion) -> None:
        """Gets the rest as the end of a job gives it."""
        result, whole = completion.result.encode(), _whole(completion)
        position = self.follower.position.within(result)
        rest = self.follower.place.beyond(whole)
        if position is None or rest is None:
            assert self.may_restart
            self.text, self.parts, position, rest = b"", [], START, whole
        self.text += result[position.offset :]
        self.parts.append(rest)
        logprobs = tuple(one for part in self.parts for one in part.logprobs)
        arguments = "".join(call.arguments for part in self.parts for call in part.calls)
        assert self.text == result
        assert logprobs == whole.logprobs
        assert arguments == "".join(call.arguments for call in completion.tool_calls)


_STEPS = st.tuples(
    st.sampled_from(["say", "tell", "read", "tell and read", "tell again", "lose"]),
    st.integers(0, 3),
    st.sampled_from(["", "", "{"]),
)


@settings(max_examples=400)
@given(st.lists(_STEPS, max_size=12))
def test_a_reader_has_what_the_job_keeps(steps: list[tuple[str, int, str]]) -> None:
    async def run() -> None:
        kept, attempt, number = Transcripts(100_000, {"j"}), Attempt(0, None), 0
        reader, is_void = Reader(kept), False
        for step, count, argument in steps:
            if step == "lose":
                number += 1
                resume = _resume(kept)
                attempt = Attempt(number, resume)
                is_void |= resume is None
                reader.may_restart |= is_void
                continue
            if step == "tell again":
                attempt.lease.rewind(0)
            elif step != "read":
                attempt.say(count, argument)
            if step.startswith("tell"):
                for update in attempt.lease.take_updates():
                    delta = update.delta
                    kept.extend("j", update.sequence, delta.text, delta.tokens, parts_of(delta))
                    is_void = False
            if step.endswith("read"):
                reader.read(is_void=is_void)
        completion = attempt.finish()
        assert completion.result == "".join(TOKENS)
        assert [one.token for one in completion.logprobs] == TOKENS
        reader.end(completion)

    asyncio.run(run())


def _tokens_of(text: str) -> int:
    said = ""
    for number, token in enumerate(TOKENS):
        if said == text:
            return number
        said += token
    return len(TOKENS)


def _resume(kept: Transcripts) -> Resume | None:
    """Returns what the next miner goes on from, as its agent decides."""
    said = kept.find("j")
    if said is None or not said.is_resumable:
        return None
    told = resume_of(said)
    resume = Resume(
        told.text, told.tokens, tuple(Logprob(one.token, one.logprob) for one in told.logprobs)
    )
    return resume if resume.is_exact else None


def _whole(completion: work_pb2.Completion) -> Parts:
    calls = (CallPart(0, call.id, call.name, call.arguments) for call in completion.tool_calls)
    likely: list[jobs_pb2.TokenLogprob] = list(completion.logprobs)
    return Parts(tuple(calls), tuple(one.SerializeToString() for one in likely))
