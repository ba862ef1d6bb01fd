"""Completions of raw prompts: `POST /v1/completions`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.call import Chunks
from aitbc_server.openai.schema import WHOLE, MaxTokens, Sampling
from aitbc_server.openai.usage import total_usage

# OpenAI's default: short on purpose.
_DEFAULT_MAX_TOKENS = 16


class CompletionRequest(Sampling):
    """The body of a request."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=128)]
    max_tokens: MaxTokens = _DEFAULT_MAX_TOKENS
    logprobs: Annotated[int, Field(ge=0, le=5), WHOLE] | None = None
    echo: Literal[False] = False
    best_of: Literal[1] = 1
    suffix: Literal[""] = ""

    @property
    def prompts(self) -> list[str]:
        """The prompts, each of which is answered `n` times."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def submissions(self) -> list[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that it asks for. Raises OpenAIError."""
        jobs = []
        for prompt in self.prompts:
            for job in self.jobs(max_tokens=self.max_tokens, logprobs=self.logprobs):
                job.prompt, job.raw_prompt = prompt, True
                jobs.append(job)
        return jobs


class Completions:
    """Tells the answers of one request."""

    schema = CompletionRequest

    def __init__(self, request: CompletionRequest, job_ids: Sequence[str], created: int) -> None:
        self._request = request
        self._head = {
            "id": f"cmpl-{job_ids[0].removeprefix('job-')}",
            "object": "text_completion",
            "created": created,
            "model": request.model,
        }

    def whole(self, jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
        """Returns the response of jobs that are completed."""
        choices = [
            self._choice(
                index, job.result, job.finish_reason or "stop", self._logprobs(job.logprobs)
            )
            for index, job in enumerate(jobs)
        ]
        return {**self._head, "choices": choices, "usage": self._usage(jobs)}

    async def chunks(self, events: AsyncIterator[tuple[int, jobs_pb2.JobEvent]]) -> Chunks:
        """Yields the chunks of a stream."""
        ended: dict[int, jobs_pb2.Job] = {}
        # Of each answer, how many tokens were told with their probabilities, and their characters.
        told: Counter[int] = Counter()
        characters: Counter[int] = Counter()
        async for index, event in events:
            reason, logprobs = None, event.logprobs[:]
            if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
                ended[index] = event.job
                reason = event.job.finish_reason or "stop"
                # The job has all of them.
                logprobs = event.job.logprobs[told[index] :]
            elif not event.text and not logprobs:
                continue
            likely = self._logprobs(logprobs, characters[index]) if logprobs else None
            told[index] += len(logprobs)
            characters[index] += sum(len(one.token) for one in logprobs)
            yield self._chunk(self._choice(index, event.text, reason, likely))
        if self._request.includes_usage:
            jobs = [ended[index] for index in sorted(ended)]
            yield {**self._head, "choices": [], "usage": self._usage(jobs)}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        chunk = {**self._head, "choices": [choice]}
        if self._request.includes_usage:
            chunk["usage"] = None
        return chunk

    def _choice(
        self, index: int, text: str, finish_reason: str | None, logprobs: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }

    def _usage(self, jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
        n = self._request.n
        each = [total_usage(jobs[begin : begin + n]) for begin in range(0, len(jobs), n)]
        return {key: sum(usage[key] for usage in each) for key in each[0]}

    def _logprobs(
        self, logprobs: Sequence[jobs_pb2.TokenLogprob], begin: int = 0
    ) -> dict[str, Any] | None:
        """Returns how likely tokens were, the first of which begins there in the answer."""
        if self._request.logprobs is None:
            return None
        tokens = [one.token for one in logprobs]
        return {
            "tokens": tokens,
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [{top.token: top.logprob for top in one.top} for one in logprobs],
            "text_offset": list(accumulate(map(len, tokens[:-1]), initial=begin)) if tokens else [],
        }
