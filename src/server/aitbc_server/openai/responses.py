"""Responses: `POST /v1/responses`, and what may be asked of one later.

A response is a job under another name, and so all of them can be retrieved, however they began.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import orjson
from pydantic import ConfigDict, Field

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import OpenAIError, unsupported
from aitbc_server.openai.jobs import Client, Jobs
from aitbc_server.openai.response_events import response_events
from aitbc_server.openai.response_object import job_id_of, response_object
from aitbc_server.openai.schema import MaxTokens, Schema, Several, Shared, read
from aitbc_server.openai.tools import (
    CHOICE_NEEDS_TOOLS,
    Function,
    FunctionName,
    JsonSchema,
    Mode,
    add_tools,
    form,
)

_ROLES = {"developer": "system"}


class Part(Schema):
    """A part of a message."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: Several[Any] = ()
    logprobs: Several[Any] = ()


class MessageItem(Schema):
    """One turn of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    id: str | None = None
    status: str | None = None

    def turn(self) -> jobs_pb2.ChatMessage:
        """Returns it as a job has it."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        return jobs_pb2.ChatMessage(role=_ROLES.get(self.role, self.role), content=text)


class CallItem(Schema):
    """A call that the model asked for."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None

    def turn(self) -> jobs_pb2.ChatMessage:
        """Returns it as a job has it."""
        call = jobs_pb2.ToolCall(id=self.call_id, name=self.name, arguments=self.arguments)
        return jobs_pb2.ChatMessage(role="assistant", content="", tool_calls=[call])


class OutputItem(Schema):
    """What a called function returned."""

    type: Literal["function_call_output"]
    call_id: str
    output: str
    id: str | None = None
    status: str | None = None

    def turn(self) -> jobs_pb2.ChatMessage:
        """Returns it as a job has it."""
        return jobs_pb2.ChatMessage(role="tool", content=self.output, tool_call_id=self.call_id)


class TextFormat(Schema):
    """A form without a schema."""

    type: Literal["text", "json_object"]


class SchemaTextFormat(JsonSchema):
    """A form with a schema."""

    type: Literal["json_schema"]


class Text(Schema):
    """What the text is to be like."""

    format: Annotated[TextFormat | SchemaTextFormat, Field(discriminator="type")] | None = None


class ResponseTool(Function):
    """A tool; only functions are."""

    type: Literal["function"]


class ResponseToolChoice(FunctionName):
    """Names the tool to call."""

    type: Literal["function"]


class ResponseRequest(Shared):
    """The body of a request."""

    model_config = ConfigDict(json_schema_extra={"dependentSchemas": CHOICE_NEEDS_TOOLS})

    input: str | Annotated[list[MessageItem | CallItem | OutputItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    previous_response_id: str | None = None
    background: bool = False
    text: Text | None = None
    tools: Several[ResponseTool] = ()
    tool_choice: Mode | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] = "disabled"
    # A response is a job, which is kept.
    store: Literal[True] = True

    def submission(self, earlier: list[jobs_pb2.ChatMessage]) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for, after an earlier conversation."""
        job = self.job(max_tokens=self.max_output_tokens)
        if self.instructions is not None:
            job.messages.add(role="system", content=self.instructions)
            # Those of the response before do not count any more.
            earlier = [turn for turn in earlier if turn.role != "system"]
        job.messages.extend(earlier)
        if isinstance(self.input, str):
            job.messages.add(role="user", content=self.input)
        else:
            job.messages.extend(item.turn() for item in self.input)
        if self.text is not None and self.text.format is not None:
            asked = self.text.format
            schema = asked.json_schema if isinstance(asked, SchemaTextFormat) else {}
            job.response_format.CopyFrom(form(asked.type, schema))
        choice = self.tool_choice
        name = choice.name if isinstance(choice, ResponseToolChoice) else choice
        add_tools(job, self.tools, name, is_parallel=self.parallel_tool_calls)
        return job


class Responses:
    """Answers the requests about responses."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def create(self, call: Call) -> None:
        """Generates a response: at once, as a stream, or in the background."""
        self._jobs.admit(call.client)
        request = read(ResponseRequest, await call.body())
        earlier, conversation = await self._earlier(request.previous_response_id, call.client)
        submission = request.submission(earlier)
        submission.conversation_id = submission.conversation_id or conversation
        await self._jobs.check_model(request.model, call.client)
        call.job_ids = await self._jobs.submit([submission], call.client)
        (job_id,) = call.job_ids
        shown = _shown(request)
        if request.background and not request.stream:
            await call.answer(response_object(await self._jobs.get(job_id, call.client), shown))
        elif request.background:
            await self._stream(call, job_id, -1, shown)
        else:
            async with self._jobs.cancelled_with_client([job_id], call.client):
                if request.stream:
                    await self._stream(call, job_id, -1, shown)
                    return
                async with call.watched():
                    (job,) = await self._jobs.results([job_id], call.client)
            await call.answer(response_object(job, shown))

    async def get(self, call: Call, response_id: str) -> None:
        """Answers with a response as it is now, or streams it from where its reader was."""
        job_id = job_id_of(response_id)
        call.job_ids = [job_id]
        query = dict(parse_qsl(call.query.decode("latin-1")))
        after = _starting_after(query.pop("starting_after", None))
        is_stream = query.pop("stream", "false").lower() == "true"
        for name in query:
            if name not in ("include", "include[]", "include_obfuscation"):
                raise unsupported(name, "it is no parameter of this request")
        job = await self._jobs.get(job_id, call.client)
        if is_stream:
            await self._stream(call, job_id, after, {})
        else:
            await call.answer(response_object(job, {}))

    async def delete(self, call: Call, response_id: str) -> None:
        """Deletes a response that has ended."""
        job_id = job_id_of(response_id)
        call.job_ids = [job_id]
        await self._jobs.delete(job_id, call.client)
        await call.answer({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, call: Call, response_id: str) -> None:
        """Cancels a response that is not complete."""
        job_id = job_id_of(response_id)
        call.job_ids = [job_id]
        await call.answer(response_object(await self._jobs.cancel(job_id, call.client), {}))

    async def _stream(self, call: Call, job_id: str, after: int, shown: dict[str, Any]) -> None:
        events = response_events(self._jobs, job_id, call.client, shown, after)
        await call.stream(events, _event)

    async def _earlier(
        self, response_id: str | None, client: Client
    ) -> tuple[list[jobs_pb2.ChatMessage], str]:
        """Returns the conversation up to a response and the name of it."""
        if response_id is None:
            return [], ""
        job = await self._jobs.get(job_id_of(response_id), client)
        if job.status != jobs_pb2.JOB_STATUS_COMPLETED:
            raise OpenAIError(
                400,
                f"The response '{response_id}' is not completed.",
                code="previous_response_not_completed",
                param="previous_response_id",
            )
        turns = list(job.messages)
        if job.HasField("prompt"):
            turns.append(jobs_pb2.ChatMessage(role="user", content=job.prompt))
        turns.append(
            jobs_pb2.ChatMessage(role="assistant", content=job.result, tool_calls=job.tool_calls)
        )
        return turns, job.conversation_id or job.job_id


def _shown(request: ResponseRequest) -> dict[str, Any]:
    """Returns what a response repeats of its request and a job does not keep."""
    return {
        "background": request.background,
        "instructions": request.instructions,
        "previous_response_id": request.previous_response_id,
    }


def _starting_after(text: str | None) -> int:
    if text is None:
        return -1
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise OpenAIError(
            400,
            "Invalid 'starting_after': must be the sequence_number of an event.",
            code="invalid_value",
            param="starting_after",
        )
    return int(text)


def _event(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))
