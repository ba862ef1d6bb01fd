"""Reads an assignment: the job as engines take it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc.v1.jobs_pb2 import ChatMessage, ContentPart, TokenLogprob
from aitbc.v1.jobs_pb2 import Job as JobMessage
from aitbc.v1.work_pb2 import Assignment
from aitbc_miner.engines.base import (
    Form,
    Job,
    Logprob,
    Message,
    Params,
    PromptOptions,
    Resume,
    Tool,
)
from aitbc_miner.engines.tasks import Input, ModelInfo, Task
from aitbc_miner.errors import BadRequest

_TASKS = {
    jobs_pb2.JOB_TASK_UNSPECIFIED: Task.GENERATE,
    **{jobs_pb2.JobTask.Value(f"JOB_TASK_{task.name}"): task for task in Task},
}


def read_job(assignment: Assignment) -> Job:
    """Returns the job. Raises BadRequest for one that cannot be read."""
    if not assignment.HasField("job"):
        raise BadRequest("the assignment has no job")
    job, resume = assignment.job, assignment.resume
    task = _TASKS.get(job.task)
    if task is None:
        raise BadRequest(f"the job asks for the task {job.task}, which this miner does not know")
    if not (job.HasField("prompt") or job.messages or job.prompt_token_ids or job.inputs):
        raise BadRequest("the job has neither a prompt nor messages nor inputs")
    return Job(
        request_id=assignment.lease_id,
        model=job.model,
        task=task,
        inputs=tuple(
            Input(text=one.text, token_ids=tuple(one.token_ids), text_pair=one.text_pair)
            for one in job.inputs
        ),
        dimensions=job.dimensions if job.HasField("dimensions") else None,
        use_activation=job.use_activation if job.HasField("use_activation") else None,
        prompt=job.prompt if job.HasField("prompt") else None,
        prompt_token_ids=tuple(job.prompt_token_ids),
        messages=tuple(_message(message) for message in job.messages),
        params=_params(job),
        options=_options(job.prompt_options),
        is_raw=job.raw_prompt,
        cache_salt=job.cache_salt,
        form=_form(job.response_format),
        tools=tuple(
            Tool(
                tool.name,
                tool.description,
                _object(f"tools[{place}].parameters", tool.parameters) if tool.parameters else None,
                tool.strict if tool.HasField("strict") else None,
            )
            for place, tool in enumerate(job.tools)
        ),
        tool_choice=job.tool_choice or "auto",
        is_parallel=job.parallel_tool_calls or not job.HasField("parallel_tool_calls"),
        resume=(
            Resume(resume.text, resume.tokens, tuple(map(_logprob, resume.logprobs)))
            if resume.text
            else None
        ),
    )


def model_info(model: str, info: ModelInfo) -> work_pb2.ModelInfo:
    """Returns what the coordinator is told of a model."""
    tasks = [number for number, task in _TASKS.items() if number and task in info.tasks]
    return work_pb2.ModelInfo(model=model, max_model_len=info.max_model_len, tasks=tasks)


def _logprob(one: TokenLogprob) -> Logprob:
    return Logprob(
        one.token,
        one.logprob,
        tuple(map(_logprob, one.top)),
        one.bytes,
        one.token_id if one.HasField("token_id") else None,
        one.rank,
    )


def _message(message: ChatMessage) -> Message:
    turn = Message(role=message.role, content=message.content)
    if message.parts:
        turn["parts"] = list(map(_part, message.parts))
    if message.name:
        turn["name"] = message.name
    if message.reasoning:
        turn["reasoning"] = message.reasoning
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return turn


def _part(part: ContentPart) -> dict[str, Any]:
    """Returns a part as the OpenAI API and chat templates have it."""
    if part.type == "text":
        return {"type": "text", "text": part.text}
    if part.type == "input_audio":
        audio = {"data": part.data, "format": part.format}
        return {"type": "input_audio", "input_audio": audio}
    source = {"url": part.url}
    if part.detail:
        source["detail"] = part.detail
    return {"type": part.type, part.type: source}


def _form(form: jobs_pb2.ResponseFormat) -> Form | None:
    if form.type == jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT:
        return Form()
    if form.type == jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
        return Form(json_schema=_object("response_format", form.json_schema))
    if form.type == jobs_pb2.RESPONSE_FORMAT_TYPE_REGEX:
        return Form(regex=form.regex)
    if form.type == jobs_pb2.RESPONSE_FORMAT_TYPE_CHOICE:
        return Form(choices=tuple(form.choices))
    if form.type == jobs_pb2.RESPONSE_FORMAT_TYPE_GRAMMAR:
        return Form(grammar=form.grammar)
    if form.type == jobs_pb2.RESPONSE_FORMAT_TYPE_STRUCTURAL_TAG:
        return Form(structural_tag=_object("response_format", form.structural_tag))
    if form.type in (
        jobs_pb2.RESPONSE_FORMAT_TYPE_UNSPECIFIED,
        jobs_pb2.RESPONSE_FORMAT_TYPE_TEXT,
    ):
        return None
    # Unheld, the answer would be taken for what it is not.
    raise BadRequest(f"response_format: this miner does not know type {form.type}")


def _options(options: jobs_pb2.PromptOptions) -> PromptOptions:
    """Returns the options that are set, and only them."""
    given = {field.name: value for field, value in options.ListFields()}
    if "chat_template_kwargs" in given:
        field = "chat_template_kwargs"
        given[field] = _object(field, given[field])
    if "documents" in given:
        given["documents"] = _documents("documents", given["documents"])
    return PromptOptions(**given)


def _documents(field: str, text: str) -> list[dict[str, str]]:
    documents = _json(field, text)
    if not isinstance(documents, list) or not all(map(_is_of_texts, documents)):
        raise BadRequest(f"{field}: it is no list of objects of texts")
    return documents


def _is_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _object(field: str, text: str) -> dict[str, Any]:
    value = _json(field, text)
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: it is no object")
    return value


def _json(field: str, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise BadRequest(f"{field}: it is nested too deeply") from None
    except ValueError:
        raise BadRequest(f"{field}: it is no JSON") from None


def _params(job: JobMessage) -> Params:
    """Returns the parameters that are set, and only them."""
    params: dict[str, Any] = {}
    for field, value in job.params.ListFields():
        if isinstance(value, Mapping):
            value = dict(value)
        elif field.is_repeated:
            value = list(value)
        elif field.message_type is not None:
            value = {one.name: number for one, number in value.ListFields()}
        params[field.name] = value
    if "extra_args" in params:
        params["extra_args"] = _object("extra_args", params["extra_args"])
    return cast("Params", params)
