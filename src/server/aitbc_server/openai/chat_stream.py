"""One answer of a chat as it is made: the choices of its chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aitbc.v1 import jobs_pb2


class ChatStream:
    """What a client was told of one answer."""

    def __init__(self, index: int, *, has_logprobs: bool) -> None:
        """`index`: place of the answer among those of its request."""
        self._index = index
        self._has_logprobs = has_logprobs
        self._is_begun = False
        self._told_logprobs = 0
        # Of each call, the characters of its arguments.
        self._told_calls: list[int] = []

    def choices(self, event: jobs_pb2.JobEvent) -> Iterator[dict[str, Any]]:
        """Yields what chunks tell of an event, which is not one of a status."""
        if not self._is_begun:
            self._is_begun = True
            yield self._choice({"role": "assistant", "content": ""})
        logprobs = self._logprobs(event.logprobs)
        if event.text or (logprobs and not event.tool_calls):
            yield self._choice({"content": event.text}, logprobs)
            logprobs = None
        if event.tool_calls:
            yield self._choice({"tool_calls": self._calls(event.tool_calls)}, logprobs)
        if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
            yield from self._ending(event.job)

    def _ending(self, job: jobs_pb2.Job) -> Iterator[dict[str, Any]]:
        # The job has all of them.
        logprobs = self._logprobs(job.logprobs[self._told_logprobs :])
        if calls := self._calls(self._untold(job)):
            yield self._choice({"tool_calls": calls}, logprobs)
            logprobs = None
        yield self._choice({}, logprobs, job.finish_reason or "stop")

    def _untold(self, job: jobs_pb2.Job) -> Iterator[jobs_pb2.ToolCallPart]:
        for index, call in enumerate(job.tool_calls):
            if index >= len(self._told_calls):
                yield jobs_pb2.ToolCallPart(
                    index=index, id=call.id, name=call.name, arguments=call.arguments
                )
            elif rest := call.arguments[self._told_calls[index] :]:
                yield jobs_pb2.ToolCallPart(index=index, arguments=rest)

    def _calls(self, parts: Iterable[jobs_pb2.ToolCallPart]) -> list[dict[str, Any]]:
        told = []
        for part in parts:
            if part.index < len(self._told_calls):
                head, function = {}, {}
            else:
                self._told_calls.append(0)
                head, function = {"id": part.id, "type": "function"}, {"name": part.name}
            self._told_calls[part.index] += len(part.arguments)
            function["arguments"] = part.arguments
            told.append({"index": part.index, **head, "function": function})
        return told

    def _logprobs(self, logprobs: Iterable[jobs_pb2.TokenLogprob]) -> dict[str, Any] | None:
        if not self._has_logprobs or not (told := logprobs_of(logprobs)["content"]):
            return None
        self._told_logprobs += len(told)
        return {"content": told, "refusal": None}

    def _choice(
        self,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        return {
            "index": self._index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }


def calls_of(job: jobs_pb2.Job) -> list[dict[str, Any]]:
    """Returns the calls that a completed job asks for."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in job.tool_calls
    ]


def logprobs_of(logprobs: Iterable[jobs_pb2.TokenLogprob]) -> dict[str, Any]:
    """Returns how likely tokens were."""
    content = [
        {**_logprob(one), "top_logprobs": [_logprob(top) for top in one.top]} for one in logprobs
    ]
    return {"content": content, "refusal": None}


def _logprob(one: jobs_pb2.TokenLogprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.token.encode())}
