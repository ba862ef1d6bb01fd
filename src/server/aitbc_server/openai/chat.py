"""Chat completions: `POST /v1/chat/completions`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.openai.call import Chunks
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.chat_stream import ChatStream, calls_of, logprobs_of, reasoning_of
from aitbc_server.openai.ending import (
    FINGERPRINT,
    finish_reason_of,
    prompt_logprobs_of,
    stop_reason_of,
)
from aitbc_server.openai.usage import total_usage, usage_before, usage_so_far


class Chat:
    """Tells the answers of one request."""

    schema = ChatRequest

    def __init__(self, request: ChatRequest, job_ids: Sequence[str], created: int) -> None:
        self._request = request
        self._echoed = request.echoed
        self._head = {
            "id": f"chatcmpl-{job_ids[0].removeprefix('job-')}",
            "created": created,
            "model": request.model,
        }

    def whole(self, jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
        """Returns the response of jobs that are completed."""
        asked = self._request
        told: dict[str, Any] = {
            **self._head,
            "object": "chat.completion",
            "choices": [self._choice(index, job) for index, job in enumerate(jobs)],
            "usage": total_usage(jobs),
            "system_fingerprint": FINGERPRINT,
        }
        details = jobs[0].prompt_details
        if asked.prompt_logprobs is not None:
            told["prompt_logprobs"] = prompt_logprobs_of(details)
        if asked.return_token_ids:
            told["prompt_token_ids"] = list(details.token_ids)
        if asked.return_prompt_text:
            told["prompt_text"] = details.text
        return told

    def _choice(self, index: int, job: jobs_pb2.Job) -> dict[str, Any]:
        asked = self._request
        content = self._echoed + job.result
        message: dict[str, Any] = {
            "role": asked.answering_role,
            "content": content if content or not job.tool_calls else None,
            "refusal": None,
        }
        # Of reasoning that is not told, its tokens are not told either, nor which are its.
        shows_tokens = asked.include_reasoning or not job.reasoning
        if job.reasoning and asked.include_reasoning:
            message |= reasoning_of(job.reasoning)
        if job.tool_calls:
            message["tool_calls"] = calls_of(job, asked.custom_tools)
        logprobs = None
        if asked.logprobs and shows_tokens:
            logprobs = logprobs_of(job.logprobs, as_ids=asked.return_tokens_as_token_ids)
        choice = {
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": finish_reason_of(job, names_tool=asked.names_tool),
            "stop_reason": stop_reason_of(job),
        }
        if asked.return_token_ids:
            choice["token_ids"] = list(job.token_ids) if shows_tokens else None
        return choice

    async def chunks(self, events: AsyncIterator[tuple[int, jobs_pb2.JobEvent]]) -> Chunks:
        """Yields the chunks of a stream."""
        head = {**self._head, "object": "chat.completion.chunk"}
        told: dict[int, ChatStream] = {}
        made: Counter[int] = Counter()
        ended: list[jobs_pb2.Job] = []
        async for index, event in events:
            if event.type == jobs_pb2.JOB_EVENT_TYPE_STATUS:
                continue
            # Chunks that are told before anything is made: of the role, and of what is echoed.
            heads = 0
            if index not in told:
                told[index] = ChatStream(index, self._request, self._echoed)
                heads = 2 if self._echoed else 1
            choices = told[index].choices(event)
            usage = self._usage(index, event, made)
            for place, choice in enumerate(await by_size(event.ByteSize(), list, choices)):
                chunk = {**head, "choices": [choice], **usage}
                if place < heads and self._request.has_usage_throughout:
                    chunk["usage"] = usage_before(usage["usage"])
                if choice["finish_reason"] is not None:
                    chunk |= self._ending(event.job)
                yield chunk
            if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
                ended.append(event.job)
        if self._request.includes_usage:
            yield {
                **head,
                "choices": [],
                "usage": total_usage(ended),
                "system_fingerprint": FINGERPRINT,
            }

    def _usage(self, index: int, event: jobs_pb2.JobEvent, made: Counter[int]) -> dict[str, Any]:
        """Returns what chunks tell of the usage up to an event."""
        if not self._request.includes_usage:
            return {}
        if not self._request.has_usage_throughout:
            return {"usage": None}
        return {"usage": usage_so_far(index, event, made)}

    def _ending(self, job: jobs_pb2.Job) -> dict[str, Any]:
        """Returns what the last chunk of an answer has beside it."""
        told: dict[str, Any] = {}
        if not self._request.includes_usage:
            told["system_fingerprint"] = FINGERPRINT
        if self._request.return_token_ids:
            told["prompt_token_ids"] = list(job.prompt_details.token_ids)
        if self._request.return_prompt_text:
            told["prompt_text"] = job.prompt_details.text
        return told
