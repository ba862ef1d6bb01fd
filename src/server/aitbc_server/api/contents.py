"""What a job asks and answers beside its two texts, as the canonical JSON that receipts cover.

Numbers become texts, so that any language writes the same bytes: integers their decimal digits,
floating-point numbers the hex digits of their 64 bits, and a vector those of 32 bits for each
number. docs/reference/formats.md has the rules.
"""

from __future__ import annotations

from functools import lru_cache
from struct import pack
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.api.convert import prompt_text
from aitbc_server.ledger.canonical import canonical
from aitbc_server.ledger.contents import Asked, Contents

_TASKS = jobs_pb2.JobTask.DESCRIPTOR
# Parameters that are larger are not remembered.
_REMEMBERED_BYTES = 4096


def asked_beside(job: jobs_pb2.Job | jobs_pb2.SubmitJobRequest) -> bytes:
    """Returns what is asked of the model beside the prompt."""
    asked: dict[str, Any] = {"model": job.model}
    if job.messages:
        asked["conversation"] = True
    elif job.prompt_token_ids:
        asked["tokens"] = True
    if job.task:
        asked["task"] = _name(_TASKS, job.task)
    if job.HasField("prompt_options") and (options := _plain(job.prompt_options)):
        asked["prompt_options"] = options
    if job.HasField("dimensions"):
        asked["dimensions"] = str(job.dimensions)
    if job.HasField("use_activation"):
        asked["use_activation"] = job.use_activation
    if job.HasField("params") and (params := _params_of(job.params)):
        asked["params"] = params
    if job.tools:
        asked["tools"] = [_plain(tool) for tool in job.tools]
    if job.tool_choice:
        asked["tool_choice"] = job.tool_choice
    if job.HasField("parallel_tool_calls"):
        asked["parallel_tool_calls"] = job.parallel_tool_calls
    if job.HasField("response_format") and (form := _plain(job.response_format)):
        asked["response_format"] = form
    if job.raw_prompt:
        asked["raw_prompt"] = True
    return canonical(asked)


def answered_beside(answer: jobs_pb2.Job | work_pb2.Completion, finish_reason: str) -> bytes:
    """Returns what an answer has beside its text."""
    answered: dict[str, Any] = {}
    if finish_reason:
        answered["finish_reason"] = finish_reason
    if answer.reasoning:
        answered["reasoning"] = answer.reasoning
    if answer.tool_calls:
        answered["tool_calls"] = [_plain(call) for call in answer.tool_calls]
    if answer.logprobs:
        answered["logprobs"] = len(answer.logprobs)
    if answer.token_ids:
        answered["token_ids"] = len(answer.token_ids)
    if answer.outputs:
        answered["outputs"] = [_plain(output) for output in answer.outputs]
    if answer.stop_string:
        answered["stop_string"] = answer.stop_string
    if answer.HasField("stop_token_id"):
        answered["stop_token_id"] = str(answer.stop_token_id)
    if len(answered) == bool(finish_reason) and finish_reason in _PLAIN:
        return _PLAIN[finish_reason]
    return canonical(answered)


# Most answers are a text and a reason.
_PLAIN = {
    reason: canonical({"finish_reason": reason} if reason else {})
    for reason in ("", "stop", "length", "content_filter")
}


def _asked(spec: bytes) -> Asked:
    try:
        job = jobs_pb2.Job.FromString(spec)
    except DecodeError as error:
        raise ValueError("it is no job") from error
    return Asked(prompt_text(job), asked_beside(job))


def _params_of(params: jobs_pb2.GenerationParams) -> dict[str, Any]:
    serialized = params.SerializeToString()
    return _params(serialized) if len(serialized) < _REMEMBERED_BYTES else _plain(params)


@lru_cache(maxsize=256)
def _params(serialized: bytes) -> dict[str, Any]:
    # Jobs mostly ask for the same as others did.
    return _plain(jobs_pb2.GenerationParams.FromString(serialized))


def _answered(details: bytes, finish_reason: str) -> bytes:
    if not details and finish_reason in _PLAIN:
        return _PLAIN[finish_reason]
    try:
        return answered_beside(jobs_pb2.Job.FromString(details), finish_reason)
    except DecodeError as error:
        raise ValueError("it is no part of a job") from error


# Reads jobs as they are stored.
CONTENTS = Contents(_asked, _answered)


def _plain(message: Message) -> dict[str, Any]:
    plain = {field.name: _value(field, value) for field, value in message.ListFields()}
    # A message that says nothing is the same as none.
    return {name: value for name, value in plain.items() if value != {}}


def _value(field: FieldDescriptor, value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is bool:
        return value
    if kind is float:
        return pack(">d", value).hex()
    if kind is int:
        return str(value) if field.enum_type is None else _name(field.enum_type, value)
    if not field.is_repeated:
        return _plain(value)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        held = field.message_type.fields_by_name["value"]
        return {str(key): _value(held, value[key]) for key in value}
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return pack(f">{len(value)}f", *value).hex()
    return [item if type(item) is str else _item(field, item) for item in value]


def _item(field: FieldDescriptor, item: Any) -> Any:
    return _plain(item) if field.message_type is not None else _value(field, item)


def _name(enum: EnumDescriptor, number: int) -> str:
    """Returns the name of a value as the REST API has it."""
    names = enum.values_by_number
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    # A number that this version does not know stays one.
    return names[number].name.removeprefix(prefix).lower() if number in names else str(number)
