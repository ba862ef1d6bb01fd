"""Completions of raw prompts: `POST /v1/completions`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.json_lists import json_list
from aitbc_server.openai.call import Chunks
from aitbc_server.openai.completion_request import CompletionRequest
from aitbc_server.openai.ending import FINGERPRINT, prompt_logprobs_of, stop_reason_of, token_of
from aitbc_server.openai.usage import total_usage, usage_so_far

_COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")


class _Told:
    """What a client was told of one answer of a stream."""

    __slots__ = ("characters", "held", "ids", "is_begun", "logprobs")

    def __init__(self) -> None:
        self.is_begun = False
        # How many tokens were told with their probabilities and with their ids, and their
        # characters.
        self.logprobs = 0
        self.ids = 0
        self.characters = 0
        # The text that waits until the prompt is known.
        self.held = ""


class Completions:
    """Tells the answers of one request."""

    schema = CompletionRequest

    def __init__(self, request: CompletionRequest, job_ids: Sequence[str], created: int) -> None:
        self._request = request
        # Whether answers wait until the engine has told the prompt that they begin with.
        self._holds = request.echo and not request.knows_echo
        self._head = {
            "id": f"cmpl-{job_ids[0].removeprefix('job-')}",
            "object": "text_completion",
            "created": created,
            "model": request.model,
        }

    def whole(self, jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
        """Returns the response of jobs that are completed."""
        return {
            **self._head,
            "choices": [self._whole(index, job, job.result) for index, job in enumerate(jobs)],
            "usage": self._usage(jobs),
            "system_fingerprint": FINGERPRINT,
        }

    async def chunks(self, events: AsyncIterator[tuple[int, jobs_pb2.JobEvent]]) -> Chunks:
        """Yields the chunks of a stream."""
        ended: dict[int, jobs_pb2.Job] = {}
        told: dict[int, _Told] = {}
        made: Counter[int] = Counter()
        async for index, event in events:
            if event.type == jobs_pb2.JOB_EVENT_TYPE_STATUS:
                continue
            state = told.setdefault(index, _Told())
            usage = self._usage_so_far(index, event, made)
            if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
                ended[index] = event.job
            for choice in await by_size(event.ByteSize(), list, self._choices(index, event, state)):
                chunk = {**self._head, "choices": [choice], **usage}
                if choice["finish_reason"] is not None and not self._request.includes_usage:
                    chunk["system_fingerprint"] = FINGERPRINT
                yield chunk
        if self._request.includes_usage:
            jobs = [ended[index] for index in sorted(ended)]
            usage = {"usage": self._usage(jobs), "system_fingerprint": FINGERPRINT}
            yield {**self._head, "choices": [], **usage}

    def _choices(
        self, index: int, event: jobs_pb2.JobEvent, told: _Told
    ) -> Iterator[dict[str, Any]]:
        """Yields what chunks tell of an event, which is not one of a status."""
        is_final = event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL
        if self._holds:
            told.held += event.text
            if is_final:
                yield self._whole(index, event.job, told.held)
            return
        if self._request.is_only_echo:
            # A token that nobody asked for.
            if is_final:
                yield self._whole(index, event.job, "")
            return
        logprobs, ids = event.logprobs[:], event.token_ids[:]
        if is_final:
            # The job has all of them.
            logprobs, ids = event.job.logprobs[told.logprobs :], event.job.token_ids[told.ids :]
        text = event.text
        if not told.is_begun and self._request.echo:
            text = self._echoed(index, event.job) + text
        if not (is_final or text or logprobs or ids):
            return
        told.is_begun = True
        choice = self._choice(index, text, self._logprobs(logprobs, told.characters))
        told.logprobs += len(logprobs)
        told.ids += len(ids)
        told.characters += sum(len(one.token) for one in logprobs)
        if self._request.return_token_ids:
            choice["token_ids"] = list(ids)
        yield {**choice, **self._ending(event.job)} if is_final else choice

    def _whole(self, index: int, job: jobs_pb2.Job, text: str) -> dict[str, Any]:
        """Returns an answer as one choice."""
        asked = self._request
        tokens: Iterable[jobs_pb2.TokenLogprob] = job.logprobs
        if asked.echo:
            text = self._echoed(index, job) + ("" if asked.is_only_echo else text)
            tokens = chain(job.prompt_details.logprobs, () if asked.is_only_echo else tokens)
        choice = self._choice(index, text, self._logprobs(list(tokens), has_prompt=asked.echo))
        if asked.return_token_ids:
            choice["token_ids"] = list(job.token_ids)
        if asked.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs_of(job.prompt_details)
        return {**choice, **self._ending(job)}

    def _ending(self, job: jobs_pb2.Job) -> dict[str, Any]:
        ending: dict[str, Any] = {
            "finish_reason": job.finish_reason or "stop",
            "stop_reason": stop_reason_of(job),
        }
        if self._request.return_token_ids:
            ending["prompt_token_ids"] = list(job.prompt_details.token_ids)
        return ending

    def _choice(self, index: int, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}

    def _echoed(self, index: int, job: jobs_pb2.Job) -> str:
        """Returns the text of the prompt that an answer begins with."""
        if self._request.return_token_ids:
            # As in vLLM: the tokens tell it.
            return ""
        prompt = self._request.prompts[index // self._request.n]
        if isinstance(prompt, str) and self._request.truncate_prompt_tokens is None:
            return prompt
        return job.prompt_details.text

    def _usage(self, jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
        n = self._request.n
        each = [total_usage(jobs[begin : begin + n]) for begin in range(0, len(jobs), n)]
        usage: dict[str, Any] = {key: sum(one[key] for one in each) for key in _COUNTED}
        details = [one["prompt_tokens_details"] for one in each if "prompt_tokens_details" in one]
        if details:
            cached = sum(one["cached_tokens"] for one in details)
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return usage

    def _usage_so_far(
        self, index: int, event: jobs_pb2.JobEvent, made: Counter[int]
    ) -> dict[str, Any]:
        """Returns what chunks tell of the usage up to an event."""
        if not self._request.includes_usage:
            return {}
        if not self._request.has_usage_throughout:
            return {"usage": None}
        return {"usage": usage_so_far(index, event, made)}

    def _logprobs(
        self,
        logprobs: Sequence[jobs_pb2.TokenLogprob],
        begin: int = 0,
        *,
        has_prompt: bool = False,
    ) -> dict[str, Any] | None:
        """Returns how likely tokens were, the first of which begins there in the answer.

        `has_prompt`: whether they are those of the prompt first, of which one follows nothing.
        """
        if self._request.logprobs is None or not logprobs:
            return None
        as_ids = self._request.return_tokens_as_token_ids
        tokens = [token_of(one, as_ids=as_ids) for one in logprobs]
        known: list[float | None] = [one.logprob for one in logprobs]
        top = (
            {token_of(each, as_ids=as_ids): each.logprob for each in (one, *one.top)}
            for one in logprobs[has_prompt:]
        )
        if has_prompt:
            known[0] = None
        lengths = (len(one.token) for one in logprobs[:-1])
        return {
            "tokens": tokens,
            "token_logprobs": known,
            "top_logprobs": json_list(chain([None] if has_prompt else [], top)),
            "text_offset": list(accumulate(lengths, initial=begin)),
        }
