"""Chat completions: `POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.call import Chunks
from aitbc_server.openai.chat_stream import ChatStream, calls_of, logprobs_of
from aitbc_server.openai.errors import unsupported
from aitbc_server.openai.schema import WHOLE, MaxTokens, Sampling, Schema, Several
from aitbc_server.openai.tools import (
    CHOICE_NEEDS_TOOLS,
    Function,
    FunctionName,
    JsonSchema,
    Mode,
    add_tools,
    form,
)
from aitbc_server.openai.usage import total_usage

_ROLES = {"developer": "system"}


class TextPart(Schema):
    """A part of a message."""

    type: Literal["text"]
    text: str


class CalledFunction(Schema):
    """What a call of a tool calls."""

    name: str
    arguments: str


class Call(Schema):
    """A call of a tool, as the assistant asked for it."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    # As some clients send it back to where it came from.
    index: Annotated[int, WHOLE] | None = None


class ChatMessage(Schema):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] = ""
    name: str = ""
    tool_calls: Several[Call] = ()
    tool_call_id: str = ""
    # What an assistant's message of this API has beside.
    refusal: str | None = None
    annotations: Several[Any] = ()

    def turn(self) -> jobs_pb2.ChatMessage:
        """Returns it as a job has it."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        return jobs_pb2.ChatMessage(
            role=_ROLES.get(self.role, self.role),
            content=text,
            name=self.name,
            tool_call_id=self.tool_call_id,
            tool_calls=[
                jobs_pb2.ToolCall(
                    id=call.id, name=call.function.name, arguments=call.function.arguments
                )
                for call in self.tool_calls
            ],
        )


class ChatTool(Schema):
    """A tool; only functions are."""

    type: Literal["function"]
    function: Function


class ChatToolChoice(Schema):
    """Names the tool to call."""

    type: Literal["function"]
    function: FunctionName


class PlainFormat(Schema):
    """A form without a schema."""

    type: Literal["text", "json_object"]


class SchemaFormat(Schema):
    """A form with a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class ChatRequest(Sampling):
    """The body of a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependentSchemas": {
                **CHOICE_NEEDS_TOOLS,
                "top_logprobs": {
                    "anyOf": [
                        {"properties": {"top_logprobs": {"type": "null"}}},
                        {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]},
                    ]
                },
            }
        }
    )

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: MaxTokens | None = None
    max_tokens: MaxTokens | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = (
        None
    )
    tools: Several[ChatTool] = ()
    tool_choice: Mode | ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    # Answers are kept as jobs, and not for anything that OpenAI keeps them for.
    store: Literal[False] = False

    def submissions(self) -> list[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that it asks for. Raises OpenAIError."""
        if self.top_logprobs is not None and not self.logprobs:
            raise unsupported("top_logprobs", "it goes with logprobs: true")
        jobs = self.jobs(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )
        choice = self.tool_choice
        name = choice.function.name if isinstance(choice, ChatToolChoice) else choice
        for job in jobs:
            job.messages.extend(message.turn() for message in self.messages)
            if isinstance(self.response_format, SchemaFormat):
                schema = self.response_format.json_schema.json_schema
                job.response_format.CopyFrom(form("json_schema", schema))
            elif self.response_format is not None:
                job.response_format.CopyFrom(form(self.response_format.type, {}))
            functions = [tool.function for tool in self.tools]
            add_tools(job, functions, name, is_parallel=self.parallel_tool_calls)
        return jobs


class Chat:
    """Tells the answers of one request."""

    schema = ChatRequest

    def __init__(self, request: ChatRequest, job_ids: Sequence[str], created: int) -> None:
        self._request = request
        self._head = {
            "id": f"chatcmpl-{job_ids[0].removeprefix('job-')}",
            "created": created,
            "model": request.model,
        }

    def whole(self, jobs: Sequence[jobs_pb2.Job]) -> dict[str, Any]:
        """Returns the response of jobs that are completed."""
        choices = []
        for index, job in enumerate(jobs):
            message: dict[str, Any] = {
                "role": "assistant",
                "content": job.result if job.result or not job.tool_calls else None,
                "refusal": None,
            }
            if job.tool_calls:
                message["tool_calls"] = calls_of(job)
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": logprobs_of(job.logprobs) if self._request.logprobs else None,
                    "finish_reason": job.finish_reason or "stop",
                }
            )
        head = {**self._head, "object": "chat.completion"}
        return {**head, "choices": choices, "usage": total_usage(jobs)}

    async def chunks(self, events: AsyncIterator[tuple[int, jobs_pb2.JobEvent]]) -> Chunks:
        """Yields the chunks of a stream."""
        head = {**self._head, "object": "chat.completion.chunk"}
        told: dict[int, ChatStream] = {}
        ended: list[jobs_pb2.Job] = []
        async for index, event in events:
            if event.type == jobs_pb2.JOB_EVENT_TYPE_STATUS:
                continue
            if index not in told:
                told[index] = ChatStream(index, has_logprobs=self._request.logprobs)
            for choice in told[index].choices(event):
                chunk = {**head, "choices": [choice]}
                if self._request.includes_usage:
                    chunk["usage"] = None
                yield chunk
            if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
                ended.append(event.job)
        if self._request.includes_usage:
            yield {**head, "choices": [], "usage": total_usage(ended)}
