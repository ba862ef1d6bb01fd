"""One job that the miner holds: what it said so far, and what of that the coordinator was told.

Sans I/O. Updates are numbered from 0 without gaps. A coordinator that restarted may have forgotten
some, and asks for them again by number; what is sent then may be cut differently.
"""

from __future__ import annotations

import asyncio

from aitbc.v1.jobs_pb2 import TokenLogprob, Usage
from aitbc.v1.jobs_pb2 import ToolCall as ToolCallMessage
from aitbc.v1.work_pb2 import Completion, Delta, Failure, Update
from aitbc_miner.engines.base import Chunk, Engine, Logprob, Resume, ToolCall


class Lease:
    """Lives from the assignment until the coordinator has stored how it ended."""

    __slots__ = (
        "_completion_tokens",
        "_ending",
        "_finish_reason",
        "_is_ending_told",
        "_logprobs",
        "_marks",
        "_prompt_tokens",
        "_tokens",
        "_told",
        "_tool_calls",
        "_untold",
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
        self._told: list[str] = [resume.text] if resume else []
        self._untold: list[str] = []
        self._tokens = resume.tokens if resume else 0
        # Characters and tokens told by the end of each delta: the way back to any of them.
        self._marks: list[tuple[int, int]] = [(len(resume.text), resume.tokens)] if resume else []
        self._prompt_tokens: int | None = None
        self._completion_tokens: int | None = None
        self._finish_reason: str | None = None
        self._tool_calls: tuple[ToolCall, ...] = ()
        self._logprobs: list[Logprob] = []
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
            self._untold.append(chunk.text)
        self._tokens += chunk.tokens
        if chunk.prompt_tokens is not None:
            self._prompt_tokens = chunk.prompt_tokens
        self._logprobs.extend(chunk.logprobs)
        if chunk.finish_reason is not None:
            self._tool_calls = chunk.tool_calls
            self._finish_reason = chunk.finish_reason
            self._completion_tokens = chunk.completion_tokens

    def complete(self) -> None:
        """Ends it with the whole answer."""
        tokens = self._tokens if self._completion_tokens is None else self._completion_tokens
        usage = Usage(prompt_tokens=self._prompt_tokens, completion_tokens=tokens)
        self._ending = Completion(
            result=self._text(),
            usage=usage,
            finish_reason=self._finish_reason or "stop",
            tool_calls=[
                ToolCallMessage(id=call.call_id, name=call.name, arguments=call.arguments)
                for call in self._tool_calls
            ],
            logprobs=[_logprob(one) for one in self._logprobs],
        )

    def fail(self, code: str, message: str, *, retryable: bool) -> None:
        """Ends it without an answer."""
        self._ending = Failure(code=code, message=message, retryable=retryable)

    def take_updates(self) -> list[Update]:
        """Returns what was not told yet, and counts it as told."""
        updates = []
        # The completion holds the whole text: no delta precedes it unless somebody already follows.
        if self._untold and (self._ending is None or self._marks_precede_completion()):
            updates.append(self._take_delta())
        if self._ending is not None and not self._is_ending_told:
            updates.append(self._ending_update(self._ending))
            self._is_ending_told = True
        return updates

    def _marks_precede_completion(self) -> bool:
        return bool(self._marks) and isinstance(self._ending, Completion)

    def _take_delta(self) -> Update:
        text = "".join(self._untold)
        characters, tokens = self._marks[-1] if self._marks else (0, 0)
        delta = Delta(text=text, tokens=self._tokens - tokens)
        update = Update(lease_id=self.lease_id, sequence=len(self._marks), delta=delta)
        self._marks.append((characters + len(text), self._tokens))
        self._told.append(text)
        self._untold.clear()
        return update

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
            text = self._text()
            characters = self._marks[next_sequence - 1][0] if next_sequence else 0
            del self._marks[next_sequence:]
            self._told, self._untold = [text[:characters]], [text[characters:]]
        # Ahead of what was ever sent: nothing of the text is missing, only the numbers move on.
        while len(self._marks) < next_sequence:
            self._marks.append(self._marks[-1] if self._marks else (0, 0))
        return bool(self._untold) or self._ending is not None

    def _text(self) -> str:
        return "".join([*self._told, *self._untold])


def _logprob(one: Logprob) -> TokenLogprob:
    return TokenLogprob(
        token=one.token, logprob=one.logprob, top=[_logprob(other) for other in one.top]
    )
