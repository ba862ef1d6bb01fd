"""Checks of what a job asks of its generation that no rule beside a single field can say."""

from __future__ import annotations

import hashlib
from array import array

from aitbc.v1 import jobs_pb2
from aitbc_server.api.json_texts import check_object
from aitbc_server.api.prompts import check_prompt
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument

# What a job puts before its model: one of these.
_PROMPTS = ("prompt", "messages", "prompt_token_ids", "inputs")
_MODES = frozenset({"", "auto", "none", "required"})
# Forms of an answer: each one's name, and the field that gives it.
_FORMS = (
    (jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, "json_schema", "json_schema"),
    (jobs_pb2.RESPONSE_FORMAT_TYPE_REGEX, "regex", "regex"),
    (jobs_pb2.RESPONSE_FORMAT_TYPE_CHOICE, "choice", "choices"),
    (jobs_pb2.RESPONSE_FORMAT_TYPE_GRAMMAR, "grammar", "grammar"),
    (jobs_pb2.RESPONSE_FORMAT_TYPE_STRUCTURAL_TAG, "structural_tag", "structural_tag"),
)
METADATA_KEY = 64
# What is there once does not repeat itself.
_FEWEST_REPETITIONS = 2
# What one token, of a few characters, and its probability count of a result: twice their bytes.
_LOGPROB_BYTES = 40
# What one number of a vector takes.
_SINGLE_BYTES = 4
# Characters by which prompts are told to begin alike: below, an engine's cache saves nothing. And
# tokens, of about as many.
PREFIX = 1024
_PREFIX_TOKENS = 256
# What a token counts of a prompt, in bytes: about as many as its text has.
_TOKEN_BYTES = 4


def check_generation(request: jobs_pb2.SubmitJobRequest) -> int:
    """Raises InvalidArgument for the first field that does not fit the others.

    Returns how many images and the like it has.
    """
    media = check_prompt(request)
    if request.HasField("params"):
        _check_params(request.params)
    if request.HasField("response_format"):
        _check_format(request.response_format)
    if request.tools or request.tool_choice:
        _check_tools(request)
    if request.metadata:
        _check_metadata(request)
    return media


def check_size(request: jobs_pb2.SubmitJobRequest, most: int) -> None:
    """Raises InvalidArgument when what is put before the model is larger than that."""
    texts = [request.prompt, *(message.content for message in request.messages)]
    tokens = len(request.prompt_token_ids)
    for message in request.messages:
        for part in message.parts:
            texts += (part.url, part.data)
    for one in request.inputs:
        texts += (one.text, one.text_pair)
        tokens += len(one.token_ids)
    if sum(len(text.encode()) for text in texts) + tokens * _TOKEN_BYTES > most:
        given = next((name for name in _PROMPTS if getattr(request, name)), "prompt")
        raise InvalidArgument(given, f"must be at most {most} bytes for this caller")


def check_answer_size(request: jobs_pb2.SubmitJobRequest, most: int) -> None:
    """Raises InvalidArgument when what is asked for could not be delivered in so many bytes."""
    params = request.params
    tokens = params.max_tokens
    if params.HasField("logprobs") and tokens * (params.logprobs + 1) * _LOGPROB_BYTES > most:
        raise InvalidArgument(
            "params.logprobs",
            f"{params.logprobs} for each of {tokens} tokens are more than one answer may hold: "
            "ask for fewer, or set a lower params.max_tokens",
        )
    tokens, each = len(request.prompt_token_ids), params.prompt_logprobs
    if params.HasField("prompt_logprobs") and tokens * (each + 1) * _LOGPROB_BYTES > most:
        raise InvalidArgument(
            "params.prompt_logprobs",
            f"{each} for each of {tokens} tokens are more than one answer may hold: ask for fewer",
        )
    inputs = len(request.inputs)
    if inputs * request.dimensions * _SINGLE_BYTES > most:
        raise InvalidArgument(
            "inputs",
            f"{inputs} vectors of {request.dimensions} numbers are more than one answer may hold: "
            "give fewer",
        )


def affinity_of(request: jobs_pb2.SubmitJobRequest, caller: Caller) -> tuple[bytes, ...]:
    """Returns keys that a job shares with its owner's that begin alike, the closest first."""
    # All of an owner's own: who could see that a job went where another's like it had gone would
    # know what others ask.
    keys = []
    if request.conversation_id:
        keys.append(_key(f"{caller.owner} {request.conversation_id}"))
    text = request.prompt
    for message in request.messages:
        if len(text) >= PREFIX:
            break
        text += f"\0{message.role}\0{message.content}"
    if len(text) >= PREFIX:
        keys.append(_key(f"{caller.owner}\0{text[:PREFIX]}"))
    if len(request.prompt_token_ids) >= _PREFIX_TOKENS:
        tokens = array("i", request.prompt_token_ids[:_PREFIX_TOKENS]).tobytes()
        keys.append(_digest(f"{caller.owner}\0\0".encode() + tokens))
    return tuple(keys)


def _key(text: str) -> bytes:
    return _digest(text.encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _check_params(params: jobs_pb2.GenerationParams) -> None:
    has_both = params.HasField("min_tokens") and params.HasField("max_tokens")
    if has_both and params.min_tokens > params.max_tokens:
        raise InvalidArgument("params.min_tokens", "must be at most params.max_tokens")
    if params.HasField("repetition_detection"):
        _check_repetition(params.repetition_detection)
    if params.extra_args:
        check_object("params.extra_args", params.extra_args)
    if params.logit_bias and (least := min(params.logit_bias)) < 0:
        raise InvalidArgument(f"params.logit_bias[{least}]", "is no token: must be at least 0")


def _check_repetition(asked: jobs_pb2.RepetitionDetection) -> None:
    path = "params.repetition_detection"
    if asked.min_pattern_size > asked.max_pattern_size:
        raise InvalidArgument(f"{path}.min_pattern_size", "must be at most max_pattern_size")
    if asked.max_pattern_size and not asked.min_count:
        raise InvalidArgument(path, f"requires min_count, at least {_FEWEST_REPETITIONS}")
    if asked.max_pattern_size and asked.min_count < _FEWEST_REPETITIONS:
        raise InvalidArgument(f"{path}.min_count", f"must be at least {_FEWEST_REPETITIONS}")


def _check_format(form: jobs_pb2.ResponseFormat) -> None:
    for number, word, name in _FORMS:
        is_given = bool(getattr(form, name))
        if form.type != number and is_given:
            raise InvalidArgument(f"response_format.{name}", f"goes with the type {word}")
        if form.type == number and not is_given:
            raise InvalidArgument(f"response_format.{name}", f"is required for the type {word}")
    if form.json_schema:
        check_object("response_format.json_schema", form.json_schema)
    if form.structural_tag:
        check_object("response_format.structural_tag", form.structural_tag)


def _check_tools(request: jobs_pb2.SubmitJobRequest) -> None:
    if request.raw_prompt or request.prompt_token_ids:
        raise InvalidArgument("tools", "go with messages or a prompt that is not raw")
    # Some may have the same: whoever made them knows which one a call means.
    names = {tool.name for tool in request.tools}
    for index, tool in enumerate(request.tools):
        if tool.parameters:
            schema = check_object(f"tools[{index}].parameters", tool.parameters)
            if schema.get("type", "object") != "object":
                raise InvalidArgument(f"tools[{index}].parameters", "must have the type object")
    choice = request.tool_choice
    if choice not in _MODES and choice not in names:
        known = f"one of the tools: {', '.join(sorted(names))}" if names else "a tool"
        raise InvalidArgument("tool_choice", f"must be auto, none, required or {known}")
    if choice == "required" and not names:
        raise InvalidArgument("tool_choice", "requires a tool, and there are none")


def _check_metadata(request: jobs_pb2.SubmitJobRequest) -> None:
    for key in request.metadata:
        if not 0 < len(key) <= METADATA_KEY:
            raise InvalidArgument("metadata", f"keys must have 1 to {METADATA_KEY} characters")
