"""The tokens of texts and conversations, and back: `POST /tokenize` and `POST /detokenize`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.openai.call import Call
from aitbc_server.openai.chat_messages import ChatMessage, part_places
from aitbc_server.openai.chat_tools import Tool
from aitbc_server.openai.errors import OpenAIError, missing
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.ruled import counted, ruled
from aitbc_server.openai.schema import FEW, WHOLE, Several, json_text
from aitbc_server.openai.task_jobs import Asking, TaskJobs, Words, outputs_of

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_INPUT = jobs_pb2.TaskInput.DESCRIPTOR


class TokenizeRequest(Asking, table="tokenize"):
    """The body of a request for tokens: of a prompt or of a conversation."""

    prompt: Words | None = None
    messages: Annotated[Several[ChatMessage], counted(_SUBMIT, "messages")] = ()
    tools: Annotated[Several[Tool], counted(_SUBMIT, "tools")] = ()
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: Annotated[dict[str, Any], FEW] | None = None
    return_token_strs: bool = False

    def submission(self, model: str) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for. Raises OpenAIError."""
        job = self.job(model, jobs_pb2.JOB_TASK_TOKENIZE)
        if self.return_token_strs:
            job.params.return_token_ids = True
        if self.prompt is None and not self.messages:
            raise missing("prompt")
        if self.prompt is not None and self.messages:
            raise OpenAIError(
                400,
                "Invalid 'messages': give either prompt or messages.",
                code="invalid_value",
                param="messages",
            )
        if self.prompt is not None:
            job.inputs.add(text=self.prompt)
            return job
        job.messages.extend(message.turn() for message in self.messages)
        job.tools.extend(tool.called.tool() for tool in self.tools)
        if self.continue_final_message:
            job.prompt_options.continue_final_message = True
        if self.continue_final_message or not self.add_generation_prompt:
            # Both together are refused, unless the one is the default.
            is_given = "add_generation_prompt" in self.model_fields_set
            job.prompt_options.add_generation_prompt = is_given and self.add_generation_prompt
        if self.chat_template_kwargs:
            job.prompt_options.chat_template_kwargs = json_text(self.chat_template_kwargs)
        return job

    def places(self, job: int) -> Places:
        """Returns where what the job has came from."""
        places: dict[Path, Sequence[Path]] = {("inputs", 0): [("prompt",)]}
        return {**super().places(job), **places, **part_places(self.messages)}


class DetokenizeRequest(Asking, table="detokenize"):
    """The body of a request for the text of tokens."""

    tokens: Annotated[
        tuple[Annotated[int, ruled(_INPUT, "token_ids"), WHOLE], ...],
        counted(_INPUT, "token_ids"),
        Field(strict=False, fail_fast=True),
    ]

    def submission(self, model: str) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for."""
        job = self.job(model, jobs_pb2.JOB_TASK_DETOKENIZE)
        job.inputs.add(token_ids=self.tokens)
        return job

    def places(self, job: int) -> Places:
        """Returns where what the job has came from."""
        return {**super().places(job), ("inputs", 0): [("tokens",)]}


class Tokens:
    """Answers the two."""

    def __init__(self, jobs: TaskJobs) -> None:
        self._jobs = jobs

    async def tokenize(self, call: Call, _: str) -> None:
        """Answers with tokens, and with how many a prompt may have."""
        request, model = await self._jobs.read(call, TokenizeRequest)
        submission = await by_size(call.asked_bytes, request.submission, model)
        (job,) = await self._jobs.run(call, [submission])
        (output,) = outputs_of([job])
        told = {
            "count": len(output.token_ids),
            "max_model_len": await self._jobs.max_model_len(call, model),
            "tokens": await by_size(job.ByteSize(), list, output.token_ids),
            "token_strs": list(output.tokens) if request.return_token_strs else None,
        }
        with call.holding([job]):
            await call.answer(told)

    async def detokenize(self, call: Call, _: str) -> None:
        """Answers with the text of tokens."""
        request, model = await self._jobs.read(call, DetokenizeRequest)
        submission = await by_size(call.asked_bytes, request.submission, model)
        (job,) = await self._jobs.run(call, [submission])
        (output,) = outputs_of([job])
        with call.holding([job]):
            await call.answer({"prompt": output.text})
