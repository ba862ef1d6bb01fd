"""One answer of a chat as it is made: the choices of its chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.json_lists import json_list
from aitbc_server.openai.chat_request import ChatRequest
from aitbc_server.openai.custom_tools import InputReader, input_of
from aitbc_server.openai.ending import finish_reason_of, stop_reason_of, token_of


class _ToldCall:
    """What was told of one call."""

    def __init__(self, first: jobs_pb2.ToolCallPart, *, is_custom: bool) -> None:
        self.head = {"id": first.id, "type": "custom" if is_custom else "function"}
        # Characters of its arguments, and of what was told of the input in them.
        self.length = 0
        self.told = 0
        self._name = first.name
        self._reader = InputReader() if is_custom else None

    def more(self, arguments: str) -> dict[str, Any] | None:
        """Returns what more of its arguments tells; None when that is nothing."""
        self.length += len(arguments)
        if self._reader is None:
            return self._telling({"arguments": arguments})
        text = self._reader.more(arguments)
        is_first = bool(self._name)
        return self._telling({"input": text}) if text or is_first else None

    def rest(self, arguments: str) -> dict[str, Any] | None:
        """Returns what is left to tell of the input in its arguments, which are whole."""
        text = input_of(arguments)[self.told :] if self._reader is not None else ""
        return self._telling({"input": text}) if text else None

    def _telling(self, said: dict[str, str]) -> dict[str, Any]:
        kind, name = self.head["type"], self._name
        self._name = ""
        self.told += len(said.get("input", ""))
        return {kind: {"name": name, **said} if name else said}


class ChatStream:
    """What a client was told of one answer."""

    def __init__(self, index: int, request: ChatRequest, echoed: str = "") -> None:
        """`index`: place of the answer among those of its request, which begin with `echoed`."""
        self._index = index
        self._request = request
        self._echoed = echoed
        self._has_logprobs = request.logprobs
        self._has_ids = request.return_token_ids
        self._is_begun = False
        self._told_logprobs = 0
        self._told_ids = 0
        self._custom = request.custom_tools
        self._told_calls: list[_ToldCall] = []

    def choices(self, event: jobs_pb2.JobEvent) -> Iterator[dict[str, Any]]:
        """Yields what chunks tell of an event, which is not one of a status."""
        if not self._is_begun:
            self._is_begun = True
            yield self._choice({"role": self._request.answering_role, "content": ""})
            if self._echoed:
                yield self._choice({"content": self._echoed})
        if event.reasoning and not self._request.include_reasoning:
            # Its tokens are not told either, nor which are its.
            self._has_logprobs = self._has_ids = False
        tokens = self._tokens(event.logprobs, event.token_ids)
        if event.reasoning and self._request.include_reasoning:
            yield self._choice(reasoning_of(event.reasoning), tokens)
            tokens = {}
        if event.text or (tokens and not event.tool_calls):
            yield self._choice({"content": event.text}, tokens)
            tokens = {}
        if event.tool_calls:
            calls = self._calls(event.tool_calls)
            if calls or tokens:
                yield self._choice({"tool_calls": calls} if calls else {}, tokens)
        if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
            yield from self._ending(event.job)

    def _ending(self, job: jobs_pb2.Job) -> Iterator[dict[str, Any]]:
        # The job has all of them.
        tokens = self._tokens(job.logprobs[self._told_logprobs :], job.token_ids[self._told_ids :])
        calls = self._calls(self._untold(job))
        for index, (told, call) in enumerate(zip(self._told_calls, job.tool_calls, strict=False)):
            if rest := told.rest(call.arguments):
                calls.append({"index": index, **rest})
        if calls:
            yield self._choice({"tool_calls": calls}, tokens)
            tokens = {}
        ending = {
            "finish_reason": finish_reason_of(job, names_tool=self._request.names_tool),
            "stop_reason": stop_reason_of(job),
        }
        yield {**self._choice({}, tokens), **ending}

    def _untold(self, job: jobs_pb2.Job) -> Iterator[jobs_pb2.ToolCallPart]:
        for index, call in enumerate(job.tool_calls):
            if index >= len(self._told_calls):
                yield jobs_pb2.ToolCallPart(
                    index=index, id=call.id, name=call.name, arguments=call.arguments
                )
            elif rest := call.arguments[self._told_calls[index].length :]:
                yield jobs_pb2.ToolCallPart(index=index, arguments=rest)

    def _calls(self, parts: Iterable[jobs_pb2.ToolCallPart]) -> list[dict[str, Any]]:
        told = []
        for part in parts:
            head = {}
            if part.index >= len(self._told_calls):
                call = _ToldCall(part, is_custom=part.name in self._custom)
                self._told_calls.append(call)
                head = call.head
            said = self._told_calls[part.index].more(part.arguments)
            if said is not None:
                told.append({"index": part.index, **head, **said})
        return told

    def _tokens(
        self, logprobs: Sequence[jobs_pb2.TokenLogprob], ids: Sequence[int]
    ) -> dict[str, Any]:
        """Returns what a choice tells of tokens beside their text."""
        told: dict[str, Any] = {}
        if self._has_logprobs and logprobs:
            self._told_logprobs += len(logprobs)
            as_ids = self._request.return_tokens_as_token_ids
            told["logprobs"] = logprobs_of(logprobs, as_ids=as_ids)
        if self._has_ids and ids:
            self._told_ids += len(ids)
            told["token_ids"] = list(ids)
        return told

    def _choice(
        self, delta: dict[str, Any], tokens: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**choice, **tokens} if tokens else choice


def reasoning_of(reasoning: str) -> dict[str, str]:
    """Returns what a message or a delta tells of the reasoning: OpenAI's API has no word for it.

    DeepSeek's has `reasoning_content`, which most clients read, and vLLM's `reasoning`.
    """
    return {"reasoning_content": reasoning, "reasoning": reasoning}


def calls_of(job: jobs_pb2.Job, custom: frozenset[str]) -> list[dict[str, Any]]:
    """Returns the calls that a completed job asks for. `custom`: names of custom tools."""
    return [_call(call, is_custom=call.name in custom) for call in job.tool_calls]


def _call(call: jobs_pb2.ToolCall, *, is_custom: bool) -> dict[str, Any]:
    if is_custom:
        said = {"name": call.name, "input": input_of(call.arguments)}
        return {"id": call.id, "type": "custom", "custom": said}
    said = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": said}


def logprobs_of(
    logprobs: Iterable[jobs_pb2.TokenLogprob], *, as_ids: bool = False
) -> dict[str, Any]:
    """Returns how likely tokens were. `as_ids`: whether they are named by their ids."""
    content = (
        {
            **_logprob(one, as_ids=as_ids),
            "top_logprobs": [_logprob(top, as_ids=as_ids) for top in one.top],
        }
        for one in logprobs
    )
    return {"content": json_list(content), "refusal": None}


def _logprob(one: jobs_pb2.TokenLogprob, *, as_ids: bool) -> dict[str, Any]:
    told = one.bytes or one.token.encode()
    return {"token": token_of(one, as_ids=as_ids), "logprob": one.logprob, "bytes": list(told)}
