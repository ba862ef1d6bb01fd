"""From a miner's lease to a reader: what is beside the text, over miners that are lost."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_miner.engines.base import Chunk, Logprob, Resume, ToolCallPart
from aitbc_miner.lease import Lease
from aitbc_server.api.work_messages import beside_text, resume_of
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

    def __init__(self, number: int, resume: Resume | None, *, has_ids: bool) -> None:
        self._has_ids = has_ids
        self.lease = Lease("l", resume=resume)
        self._number = number
        # As engines do, it goes on after the text.
        self._said = _tokens_of(resume.text) if resume else 0

    def say(self, count: int, argument: str, thought: str) -> None:
        """Says the next tokens in one chunk, and more of a call and of its reasoning."""
        texts = TOKENS[self._said : self._said + count]
        calls = (ToolCallPart(0, "c", "f", f"{argument}{self._number}"),) if argument else ()
        chunk = Chunk(
            text="".join(texts),
            reasoning=f"{thought}{self._number}" if thought else "",
            tokens=len(texts),
            tool_calls=calls,
            logprobs=tuple(Logprob(text, -self._number) for text in texts),
            # Each attempt has others for the same text.
            token_ids=tuple(100 * self._number + self._said + place for place in range(len(texts)))
            if self._has_ids
            else (),
        )
        self._said += len(texts)
        self.lease.add(chunk)

    def finish(self) -> work_pb2.Completion:
        """Says the rest."""
        self.say(len(TOKENS), "", "")
        self.lease.add(Chunk(finish_reason="stop"))
        self.lease.complete()
        return self.lease.take_updates()[-1].completion


class Reader:
    """Keeps what it was told, as a client does."""

    def __init__(self, kept: Transcripts) -> None:
        self.follower = kept.follow(JOB, START)
        self.text = b""
        self.reasoning = b""
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
            self.text, self.reasoning, self.parts, self.may_restart = b"", b"", [], is_void
        self.text += news.text
        self.reasoning += news.reasoning
        self.parts.append(news.parts)

    def end(self, completion: work_pb2.Completion) -> None:
        """Gets the rest as the end of a job gives it."""
        result, whole = completion.result.encode(), _whole(completion)
        position = self.follower.position.within(result, whole.reasoning)
        rest = self.follower.place.beyond(whole)
        if position is None or rest is None:
            assert self.may_restart
            self.text, self.reasoning, self.parts, position, rest = b"", b"", [], START, whole
        self.text += result[position.offset :]
        self.reasoning += whole.reasoning[position.reasoning_offset :]
        self.parts.append(rest)
        logprobs = tuple(one for part in self.parts for one in part.logprobs)
        arguments = "".join(call.arguments for part in self.parts for call in part.calls)
        assert self.text == result
        assert self.reasoning == whole.reasoning
        assert logprobs == whole.logprobs
        token_ids = tuple(one for part in self.parts for one in part.token_ids)
        assert token_ids == whole.token_ids
        assert arguments == "".join(call.arguments for call in completion.tool_calls)


_STEPS = st.tuples(
    st.sampled_from(["say", "tell", "read", "tell and read", "tell again", "lose"]),
    st.integers(0, 3),
    st.sampled_from(["", "", "{"]),
    st.sampled_from(["", "", "hm 🙂"]),
)


@settings(max_examples=400)
@given(st.lists(_STEPS, max_size=12), st.booleans())
def test_a_reader_has_what_the_job_keeps(
    steps: list[tuple[str, int, str, str]],
    has_ids: bool,
) -> None:
    async def run() -> None:
        kept, number = Transcripts(100_000, {"j"}), 0
        attempt = Attempt(0, None, has_ids=has_ids)
        reader, is_void = Reader(kept), False
        for step, count, argument, thought in steps:
            if step == "lose":
                number += 1
                resume = _resume(kept)
                attempt = Attempt(number, resume, has_ids=has_ids)
                is_void |= resume is None
                reader.may_restart |= is_void
                continue
            if step == "tell again":
                attempt.lease.rewind(0)
            elif step != "read":
                attempt.say(count, argument, thought)
            if step.startswith("tell"):
                for update in attempt.lease.take_updates():
                    delta = update.delta
                    kept.extend(
                        "j",
                        update.sequence,
                        delta.text,
                        delta.tokens,
                        beside_text(update).parts,
                    )
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
    return Parts(
        tuple(calls),
        tuple(one.SerializeToString() for one in likely),
        completion.reasoning.encode(),
        tuple(completion.token_ids),
    )
