"""One job that the miner holds: what it said so far, and what of that the coordinator was told.

Sans I/O. Updates are numbered from 0 without gaps. A coordinator that restarted may have forgotten
some, and asks for them again by number; what is sent then may be cut differently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from aitbc.v1 import jobs_pb2
from aitbc.v1.work_pb2 import (
    FAULT_JOB,
    FAULT_MINER,
    FAULT_PASSING,
    FAULT_UNSPECIFIED,
    Completion,
    Delta,
    Failure,
    Update,
)
from aitbc_miner.engines.base import Chunk, Engine, Logprob, PromptDetails, Resume
from aitbc_miner.engines.tasks import Made
from aitbc_miner.errors import Fault

_FAULTS = {
    None: FAULT_UNSPECIFIED,
    Fault.JOB: FAULT_JOB,
    Fault.MINER: FAULT_MINER,
    Fault.PASSING: FAULT_PASSING,
}


class _Mark(NamedTuple):
    """How much of an answer was told."""

    characters: int = 0
    tokens: int = 0
    logprobs: int = 0
    # Of each call, the characters of its arguments.
    calls: tuple[int, ...] = ()
    # Characters of the reasoning.
    reasoning: int = 0
    token_ids: int = 0


_BEGIN = _Mark()


class _Said:
    """A text as far as it was said, and how much of it was told."""

    __slots__ = ("told", "untold")

    def __init__(self, told: str = "") -> None:
        self.told = [told]
        self.untold: list[str] = []

    def take(self) -> str:
        """Returns what was not told, and counts it as told."""
        text = "".join(self.untold)
        self.told.append(text)
        self.untold.clear()
        return text

    def rewind(self, characters: int) -> None:
        """Counts only so many characters as told."""
        text = self.whole()
        self.told = [text[:characters]]
        self.untold = [text[characters:]] if characters < len(text) else []

    def whole(self) -> str:
        """Returns all of it."""
        return "".join([*self.told, *self.untold])


class Lease:
    """Lives from the assignment until the coordinator has stored how it ended."""

    __slots__ = (
        "_cached_tokens",
        "_completion_tokens",
        "_ending",
        "_finish_reason",
        "_is_ending_told",
        "_is_estimated",
        "_logprobs",
        "_marks",
        "_prompt_details",
        "_prompt_tokens",
        "_reasoning",
        "_reasoning_tokens",
        "_stop_string",
        "_stop_token_id",
        "_text",
        "_token_ids",
        "_tokens",
        "_tool_calls",
        "engine",
        "job_id",
        "lease_id",
        "task",
    )

    def __init__(
        self,
        lease_id: str,
        engine: Engine | None = None,
        resume: Resume | None = None,
        *,
        job_id: str = "",
    ) -> None:
        """`resume`: what the coordinator has already, which counts as update 0."""
        self.lease_id = lease_id
        self.job_id = job_id
        # What runs the job, and the task that listens to it, when there is one.
        self.engine = engine
        self.task: asyncio.Task[None] | None = None
        self._text = _Said(resume.text if resume else "")
        # Most answers have none.
        self._reasoning: _Said | None = None
        self._tokens = resume.tokens if resume else 0
        self._reasoning_tokens = 0
        self._prompt_tokens: int | None = None
        self._cached_tokens: int | None = None
        self._completion_tokens: int | None = None
        self._is_estimated = False
        self._finish_reason: str | None = None
        self._stop_string = ""
        self._stop_token_id: int | None = None
        self._prompt_details: PromptDetails | None = None
        self._token_ids: list[int] = []
        self._tool_calls: list[jobs_pb2.ToolCall] = []
        self._logprobs = [_logprob(one) for one in resume.logprobs] if resume else []
        # What was told by the end of each delta: the way back to any of them.
        self._marks = (
            [_Mark(len(resume.text), resume.tokens, len(resume.logprobs))] if resume else []
        )
        self._ending: Completion | Failure | None = None
        self._is_ending_told = False

    @property
    def is_ended(self) -> bool:
        """Whether it has a result or a failure. Nothing changes it any more."""
        return self._ending is not None

    @property
    def is_answered(self) -> bool:
        """Whether the engine said its last."""
        return self._finish_reason is not None

    @property
    def is_untold(self) -> bool:
        """Whether no update of it was ever made."""
        return not self._marks and not self._is_ending_told

    @property
    def next_sequence(self) -> int:
        """Number of the next update."""
        return len(self._marks) + self._is_ending_told

    def add(self, chunk: Chunk) -> None:
        """Takes in what the engine said."""
        if chunk.text:
            self._text.untold.append(chunk.text)
        self._tokens += chunk.tokens
        if chunk.reasoning:
            self._add_reasoning(chunk)
        if chunk.prompt_tokens is not None:
            self._prompt_tokens = chunk.prompt_tokens
        if chunk.cached_tokens is not None:
            self._cached_tokens = chunk.cached_tokens
        if chunk.prompt_details is not None:
            self._prompt_details = chunk.prompt_details
        if chunk.token_ids:
            self._token_ids += chunk.token_ids
        if chunk.logprobs:
            self._logprobs.extend(_logprob(one) for one in chunk.logprobs)
        for part in chunk.tool_calls:
            if part.index == len(self._tool_calls):
                self._tool_calls.append(jobs_pb2.ToolCall(id=part.call_id, name=part.name))
            self._tool_calls[part.index].arguments += part.arguments
        if chunk.finish_reason is not None:
            self._finish_reason = chunk.finish_reason
            self._completion_tokens = chunk.completion_tokens
            self._is_estimated = chunk.is_estimated
            self._stop_string, self._stop_token_id = chunk.stop_string, chunk.stop_token_id
            if chunk.reasoning_tokens is not None:
                self._reasoning_tokens = chunk.reasoning_tokens

    def _add_reasoning(self, chunk: Chunk) -> None:
        if self._reasoning is None:
            self._reasoning = _Said()
        self._reasoning.untold.append(chunk.reasoning)
        # Where an answer begins within a chunk, its tokens are divided as its characters are.
        characters = len(chunk.reasoning) + len(chunk.text)
        self._reasoning_tokens += chunk.tokens * len(chunk.reasoning) // characters

    def complete(self) -> None:
        """Ends it with the whole answer."""
        tokens = self._tokens if self._completion_tokens is None else self._completion_tokens
        usage = jobs_pb2.Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=tokens,
            is_estimated=self._is_estimated,
            cached_tokens=self._cached_tokens,
        )
        reasoning = self._reasoning
        if reasoning is not None or self._reasoning_tokens:
            usage.reasoning_tokens = min(self._reasoning_tokens, tokens)
        self._ending = Completion(
            result=self._text.whole(),
            reasoning=reasoning.whole() if reasoning is not None else "",
            usage=usage,
            finish_reason=self._finish_reason or "stop",
            tool_calls=self._tool_calls,
            logprobs=self._logprobs,
            token_ids=self._token_ids,
            stop_string=self._stop_string,
            stop_token_id=self._stop_token_id,
            prompt_details=_details(self._prompt_details),
        )

    def stop(self) -> None:
        """Aborts what its engine does, unless it is the very task that asks."""
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def deliver(self, made: Made) -> None:
        """Ends it with what a task made."""
        self._finish_reason = "stop"
        self._ending = Completion(
            finish_reason=self._finish_reason,
            usage=jobs_pb2.Usage(
                prompt_tokens=made.prompt_tokens,
                completion_tokens=0,
                is_estimated=made.is_estimated,
            ),
            outputs=[
                jobs_pb2.TaskOutput(
                    vector=output.vector,
                    score=output.score,
                    token_ids=output.token_ids,
                    tokens=output.tokens,
                    text=output.text,
                )
                for output in made.outputs
            ],
        )

    def fail(
        self, code: str, message: str, *, fault: Fault | None, retry_after_s: float | None = None
    ) -> None:
        """Ends it without an answer. Without a fault, the client wanted it so."""
        failure = Failure(
            code=code,
            message=message,
            retryable=fault in (Fault.MINER, Fault.PASSING),
            fault=_FAULTS[fault],
        )
        if retry_after_s is not None:
            failure.retry_after.FromMilliseconds(int(retry_after_s * 1000))
        self._ending = failure

    def take_updates(self) -> list[Update]:
        """Returns what was not told yet, and counts it as told."""
        updates = []
        # The completion holds the whole text: no delta precedes it unless somebody already follows.
        if self._has_news() and (self._ending is None or self._marks_precede_completion()):
            updates.append(self._take_delta())
        if self._ending is not None and not self._is_ending_told:
            updates.append(self._ending_update(self._ending))
            self._is_ending_told = True
        return updates

    def _marks_precede_completion(self) -> bool:
        return bool(self._marks) and isinstance(self._ending, Completion)

    @property
    def _mark(self) -> _Mark:
        return self._marks[-1] if self._marks else _BEGIN

    def _has_news(self) -> bool:
        if self._text.untold or (self._reasoning is not None and self._reasoning.untold):
            return True
        told = self._mark
        if self._tool_calls and self._call_lengths() != told.calls:
            return True
        # Tokens without a text too: they are progress.
        return self._ending is None and self._tokens > told.tokens

    def _call_lengths(self) -> tuple[int, ...]:
        return tuple(len(call.arguments) for call in self._tool_calls)

    def _take_delta(self) -> Update:
        text = self._text.take()
        told = self._mark
        characters, tokens = told.characters + len(text), self._tokens
        delta = Delta(text=text, tokens=tokens - told.tokens)
        if self._tool_calls or self._logprobs or self._token_ids or self._reasoning is not None:
            mark = _Mark(characters, tokens, *self._add_parts(delta, told))
        else:
            mark = _Mark(characters, tokens)
        update = Update(lease_id=self.lease_id, sequence=len(self._marks), delta=delta)
        self._marks.append(mark)
        return update

    def _add_parts(self, delta: Delta, told: _Mark) -> tuple[int, tuple[int, ...], int, int]:
        """Adds what is new beside the text; returns how much of it is told then."""
        logprobs, calls = told.logprobs, self._call_lengths()
        if self._reasoning is not None:
            delta.reasoning = self._reasoning.take()
        if calls != told.calls:
            delta.tool_calls.extend(_parts(self._tool_calls, told.calls))
        # Those of tokens whose text is not there yet wait for it.
        if delta.text or delta.reasoning or calls != told.calls:
            delta.logprobs.extend(self._logprobs[logprobs:])
            logprobs = len(self._logprobs)
        delta.token_ids.extend(self._token_ids[told.token_ids :])
        return logprobs, calls, told.reasoning + len(delta.reasoning), len(self._token_ids)

    def _ending_update(self, ending: Completion | Failure) -> Update:
        sequence = len(self._marks)
        if isinstance(ending, Completion):
            return Update(lease_id=self.lease_id, sequence=sequence, completion=ending)
        return Update(lease_id=self.lease_id, sequence=sequence, failure=ending)

    def is_settled_by(self, next_sequence: int) -> bool:
        """Whether an acknowledgement covers the ending, so that the lease is over."""
        return self._is_ending_told and next_sequence > len(self._marks)

    def rewind(self, next_sequence: int) -> bool:
        """Makes the update of this number the next one; returns whether there is news to tell.

        What was told from there on is told again, as one delta.
        """
        self._is_ending_told = False
        if next_sequence < len(self._marks):
            del self._marks[next_sequence:]
            told = self._mark
            self._text.rewind(told.characters)
            if self._reasoning is not None:
                self._reasoning.rewind(told.reasoning)
        # Ahead of what was ever sent: nothing of the text is missing, only the numbers move on.
        while len(self._marks) < next_sequence:
            self._marks.append(self._mark)
        return self._has_news() or self._ending is not None


def _parts(
    calls: list[jobs_pb2.ToolCall], told: tuple[int, ...]
) -> Iterator[jobs_pb2.ToolCallPart]:
    """Yields what the calls have beyond what was told of them."""
    for index, call in enumerate(calls):
        if index >= len(told):
            yield jobs_pb2.ToolCallPart(
                index=index, id=call.id, name=call.name, arguments=call.arguments
            )
        elif rest := call.arguments[told[index] :]:
            yield jobs_pb2.ToolCallPart(index=index, arguments=rest)


def _details(details: PromptDetails | None) -> jobs_pb2.PromptDetails | None:
    if details is None:
        return None
    return jobs_pb2.PromptDetails(
        text=details.text,
        token_ids=details.token_ids,
        logprobs=[_logprob(one) for one in details.logprobs],
    )


def _logprob(one: Logprob) -> jobs_pb2.TokenLogprob:
    return jobs_pb2.TokenLogprob(
        token=one.token,
        logprob=one.logprob,
        top=[_logprob(other) for other in one.top],
        bytes=one.token_bytes,
        token_id=one.token_id,
        rank=one.rank,
    )
