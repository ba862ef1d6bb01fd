"""How many tokens the prompt of a response would have: `POST /v1/responses/input_tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import by_size
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import missing
from aitbc_server.openai.jobs import Jobs
from aitbc_server.openai.response_input import PlainItem
from aitbc_server.openai.response_prompt import Input, ResponsePrompt
from aitbc_server.openai.response_references import conversation_before, resolved
from aitbc_server.openai.task_jobs import Asking, TaskJobs, outputs_of


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class InputTokensRequest(Asking, ResponsePrompt, table="input_tokens"):
    """The body of a request."""

    # There may be a response before alone. An empty list, which that is, may not be given.
    input: Annotated[Input, Field(json_schema_extra=_without_default)] = ()

    def submission(
        self, model: str, earlier: Sequence[jobs_pb2.ChatMessage], items: Sequence[PlainItem]
    ) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for: see `add_prompt`. Raises OpenAIError."""
        job = self.job(model, jobs_pb2.JOB_TASK_TOKENIZE)
        self.add_prompt(job, earlier, items)
        if not job.messages:
            raise missing("input")
        # What is of the answer, and not of the prompt: which may lack tools that may not be called.
        if job.tool_choice != "none":
            job.ClearField("tool_choice")
        job.ClearField("parallel_tool_calls")
        job.ClearField("response_format")
        job.prompt_options.ClearField("truncate_prompt_tokens")
        return job


class InputTokens:
    """Answers the requests."""

    def __init__(self, jobs: Jobs, task_jobs: TaskJobs) -> None:
        self._jobs = jobs
        self._task_jobs = task_jobs

    async def count(self, call: Call, _: str) -> None:
        """Answers with the number of tokens."""
        request, model = await self._task_jobs.read(call, InputTokensRequest)
        name = request.previous_response_id
        earlier, _ = await conversation_before(name, self._jobs, call.client)
        items = await resolved(request.items, self._jobs, call.client)
        submission = await by_size(call.asked_bytes, request.submission, model, earlier, items)
        (made,) = await self._task_jobs.run(call, [submission])
        (output,) = outputs_of([made])
        count = len(output.token_ids)
        await call.answer({"object": "response.input_tokens", "input_tokens": count})
