"""Checks of what a job puts before its model: what each task takes, and the parts of messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aitbc.v1 import jobs_pb2
from aitbc_server.api.json_texts import check_object, check_objects
from aitbc_server.domain.errors import InvalidArgument

GENERATES = frozenset({jobs_pb2.JOB_TASK_UNSPECIFIED, jobs_pb2.JOB_TASK_GENERATE})
_TASKS = {
    jobs_pb2.JOB_TASK_EMBED: "embed",
    jobs_pb2.JOB_TASK_SCORE: "score",
    jobs_pb2.JOB_TASK_TOKENIZE: "tokenize",
    jobs_pb2.JOB_TASK_DETOKENIZE: "detokenize",
}
# Fields that say how an answer is generated.
_OF_GENERATION = ("response_format", "raw_prompt", "tool_choice", "parallel_tool_calls")
# Tasks that take a conversation.
_OF_MESSAGES = frozenset({jobs_pb2.JOB_TASK_EMBED, jobs_pb2.JOB_TASK_TOKENIZE})
_POOLS = frozenset({jobs_pb2.JOB_TASK_EMBED, jobs_pb2.JOB_TASK_SCORE})
_OF_SCORES = ("max_tokens_per_query", "max_tokens_per_document")
# What only a chat template reads.
_VARIABLES = "chat_template_kwargs"
_OF_TEMPLATES = (_VARIABLES, "documents", "continue_final_message", "reasoning_effort")

# Fields that a part has, by its type: all of them are required, but for the text, which may be
# empty.
_OF_PARTS = {
    "text": ("text",),
    "image_url": ("url",),
    "video_url": ("url",),
    "audio_url": ("url",),
    "input_audio": ("data", "format"),
}
_SCHEMES = ("https://", "http://", "data:")
_LONGEST_SCHEME = max(map(len, _SCHEMES))
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def check_prompt(request: jobs_pb2.SubmitJobRequest) -> int:
    """Raises InvalidArgument for the first field that the task or the prompt does not take.

    Returns how many images and the like there are.
    """
    if request.task in GENERATES:
        _check_generating(request)
    else:
        _check_task(request)
    if request.HasField("use_activation") and request.task not in _POOLS:
        raise InvalidArgument("use_activation", "goes with the tasks embed and score: set task")
    if request.HasField("prompt_options"):
        _check_options(request)
    media = 0
    for place, message in enumerate(request.messages):
        if message.parts:
            media += _settle_parts(message, f"messages[{place}]")
    return media


def _check_generating(request: jobs_pb2.SubmitJobRequest) -> None:
    if request.inputs:
        names = ", ".join(_TASKS.values())
        raise InvalidArgument("inputs", f"go with one of the tasks {names}: set task")
    if request.HasField("dimensions"):
        raise InvalidArgument("dimensions", "go with the task embed: set task")
    if request.HasField("prompt"):
        text = request.prompt
        if not text or (text.isspace() and not request.raw_prompt):
            raise InvalidArgument("prompt", "must not be empty")
    if request.raw_prompt and request.messages:
        raise InvalidArgument("raw_prompt", "goes with prompt, not with messages")


def _check_task(request: jobs_pb2.SubmitJobRequest) -> None:
    task = _TASKS[request.task]
    takes_messages = request.task in _OF_MESSAGES
    fields = {field.name for field, _ in request.ListFields()}
    for name in ("prompt", "prompt_token_ids", "messages"):
        if name in fields and not (takes_messages and name == "messages"):
            given = "inputs or messages" if takes_messages else "inputs"
            raise InvalidArgument(name, f"is not what the task {task} takes: give {given}")
    for name in _OF_GENERATION:
        # Whether a tool may be called can change whether the prompt has it.
        if name in fields and not (name == "tool_choice" and request.tools):
            raise InvalidArgument(name, f"goes with the task generate, not with {task}")
    if request.tools and request.task != jobs_pb2.JOB_TASK_TOKENIZE:
        raise InvalidArgument("tools", f"are not what the task {task} takes")
    if request.tools and not request.messages:
        raise InvalidArgument("tools", f"go with messages, not with the inputs of {task}")
    if request.HasField("dimensions") and request.task != jobs_pb2.JOB_TASK_EMBED:
        raise InvalidArgument("dimensions", f"go with the task embed, not with {task}")
    for place, one in enumerate(request.inputs):
        _check_input(one, request.task, f"inputs[{place}]")


def _check_input(one: jobs_pb2.TaskInput, task: int, path: str) -> None:
    if task == jobs_pb2.JOB_TASK_SCORE:
        if one.token_ids:
            raise InvalidArgument(f"{path}.token_ids", "are not compared: give text and text_pair")
        # Either may be empty, as a document may.
        if not (one.text or one.text_pair):
            problem = f"is required, unless {path}.text_pair is given"
            raise InvalidArgument(f"{path}.text", problem)
        return
    if one.text_pair:
        raise InvalidArgument(f"{path}.text_pair", "goes with the task score")
    if one.text and one.token_ids:
        raise InvalidArgument(f"{path}.token_ids", "give either text or token_ids, not both")
    if one.token_ids and task == jobs_pb2.JOB_TASK_TOKENIZE:
        raise InvalidArgument(f"{path}.token_ids", "are tokens already: give text")
    if one.text and task == jobs_pb2.JOB_TASK_DETOKENIZE:
        raise InvalidArgument(f"{path}.text", "is a text already: give token_ids")


def _check_options(request: jobs_pb2.SubmitJobRequest) -> None:
    options = request.prompt_options
    if request.raw_prompt or request.prompt_token_ids or request.inputs:
        for name in _OF_TEMPLATES:
            # Pairs have a template of their own, which reads its variables, too.
            is_of_pairs = request.task == jobs_pb2.JOB_TASK_SCORE and name == _VARIABLES
            if getattr(options, name) and not is_of_pairs:
                raise InvalidArgument(
                    f"prompt_options.{name}", "goes with messages or a prompt that is not raw"
                )
    if options.chat_template_kwargs:
        check_object("prompt_options.chat_template_kwargs", options.chat_template_kwargs)
    for name in _OF_SCORES:
        if getattr(options, name) and request.task != jobs_pb2.JOB_TASK_SCORE:
            raise InvalidArgument(f"prompt_options.{name}", "goes with the task score")
    if options.documents:
        check_objects("prompt_options.documents", options.documents)
    if options.continue_final_message and options.add_generation_prompt:
        raise InvalidArgument(
            "prompt_options.add_generation_prompt", "must be false with continue_final_message"
        )


def _settle_parts(message: jobs_pb2.ChatMessage, path: str) -> int:
    """Checks the parts of a message, and gives it the content that they are.

    Returns how many are no texts.
    """
    for place, part in enumerate(message.parts):
        _check_part(part, f"{path}.parts[{place}]")
    content = "".join(part.text for part in message.parts)
    if not message.HasField("content"):
        message.content = content
    elif message.content != content:
        raise InvalidArgument(
            f"{path}.content", "must be the texts of parts, one after the other, or absent"
        )
    return sum(part.type != "text" for part in message.parts)


def _check_part(part: jobs_pb2.ContentPart, path: str) -> None:
    own = _OF_PARTS[part.type]
    for name in ("text", "url", "data", "format"):
        is_given = bool(getattr(part, name))
        if is_given and name not in own:
            raise InvalidArgument(f"{path}.{name}", f"goes with {_types_with(name)}")
        if name in own and not is_given and name != "text":
            raise InvalidArgument(f"{path}.{name}", f"is required for {part.type}")
    if part.detail and part.type != "image_url":
        raise InvalidArgument(f"{path}.detail", "goes with image_url")
    if part.url and not part.url[:_LONGEST_SCHEME].lower().startswith(_SCHEMES):
        raise InvalidArgument(f"{path}.url", "must be an https:, http: or data: URL")
    if part.data and not _BASE64.fullmatch(part.data):
        raise InvalidArgument(f"{path}.data", "must be Base64")


def _types_with(name: str) -> str:
    return " or ".join(_names_with(name))


def _names_with(name: str) -> Iterable[str]:
    return (kind for kind, fields in _OF_PARTS.items() if name in fields)
