"""The bodies of requests, and the jobs that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from aitbc.v1 import jobs_pb2
from aitbc_server.anthropic.blocks import Texts
from aitbc_server.anthropic.turns import Turn, places_of, turns_of
from aitbc_server.openai.errors import OpenAIError, missing
from aitbc_server.openai.origins import Places
from aitbc_server.openai.ruled import counted, ruled, sized
from aitbc_server.openai.schema import (
    WHOLE,
    Asked,
    MaxTokens,
    Name,
    Noted,
    Schema,
    Several,
    conversation_id,
    json_text,
)

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_PARAMS = jobs_pb2.GenerationParams.DESCRIPTOR
_MODES = {"auto": "auto", "any": "required", "none": "none"}
# What is said of an answer, and not of its prompt.
_OF_ANSWERS: tuple[Literal["response_format", "tool_choice", "parallel_tool_calls"], ...] = (
    "response_format",
    "tool_choice",
    "parallel_tool_calls",
)
# What a model does that does not think.
_NO_EFFORT = "none"


class Tool(Schema, table="anthropic_tool"):
    """A tool of the client's."""

    # Anthropic's own tools, which its servers run or its models know, have other types.
    type: Literal["custom"] = "custom"
    name: Name
    description: Annotated[str, sized(jobs_pb2.Tool.DESCRIPTOR, "description")] = ""
    input_schema: dict[str, Any]
    strict: bool | None = None

    def tool(self) -> jobs_pb2.Tool:
        """Returns it as a job has it."""
        return jobs_pb2.Tool(
            name=self.name,
            description=self.description,
            parameters=json_text({"type": "object", **self.input_schema}),
            strict=self.strict,
        )


class ToolChoice(Schema):
    """Whether tools are called, and which."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "tool"}}},
            "then": {
                "properties": {"name": {"type": "string", "minLength": 1}},
                "required": ["name"],
            },
        }
    )

    type: Literal["auto", "any", "tool", "none"]
    name: Name = ""
    disable_parallel_tool_use: bool = False


class Thinking(Schema, table="anthropic_thinking"):
    """Whether the model thinks before it answers."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, ruled(_PARAMS, "thinking_token_budget"), WHOLE] | None = None


class JsonFormat(Schema):
    """JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(Schema):
    """What the answer is like."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Metadata(Schema):
    """About the request."""

    user_id: Noted = ""


# What JSON Schema says of requests with a choice: without tools there is none.
_CHOICE_NEEDS_TOOLS: dict[str, Any] = {
    "tool_choice": {
        "anyOf": [
            {
                "properties": {
                    "tool_choice": {
                        "anyOf": [
                            {"type": "null"},
                            {"properties": {"type": {"enum": ["auto", "none"]}}},
                        ]
                    }
                }
            },
            {"properties": {"tools": {"type": "array", "minItems": 1}}, "required": ["tools"]},
        ]
    }
}


class Prompt(Asked, table="anthropic_prompt"):
    """What a prompt is made of."""

    model_config = ConfigDict(json_schema_extra={"dependentSchemas": _CHOICE_NEEDS_TOOLS})

    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    messages: Annotated[Several[Turn], counted(_SUBMIT, "messages"), Field(min_length=1)]
    system: Texts = ""
    tools: Annotated[Several[Tool], counted(_SUBMIT, "tools")] = ()
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    # The same, as it was called before.
    output_format: JsonFormat | None = None
    # vLLM's.
    chat_template_kwargs: dict[str, Any] | None = None

    def submission(self) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for. Raises OpenAIError."""
        job = jobs_pb2.SubmitJobRequest(model=self.model)
        job.messages.extend(turn.message for turn in turns_of(self.system, self.messages))
        if not job.messages:
            raise _wrong("messages", "none of them is for the model")
        self._add_tools(job)
        self._add_options(job)
        return job

    def places(self, job: int) -> Places:
        """Returns where what the job has came from."""
        places = {**super().places(job), **places_of(turns_of(self.system, self.messages))}
        if self.thinking and self.thinking.type == "disabled":
            places["prompt_options", "reasoning_effort"] = [("thinking", "type")]
        return places

    def _add_tools(self, job: jobs_pb2.SubmitJobRequest) -> None:
        job.tools.extend(tool.tool() for tool in self.tools)
        choice = self.tool_choice
        if choice is None:
            return
        if choice.type == "tool" and not choice.name:
            raise missing("tool_choice.name")
        if choice.type in ("any", "tool") and not self.tools:
            raise _wrong("tool_choice", "there are no tools to choose from")
        if choice.type == "tool" and choice.name not in {tool.name for tool in self.tools}:
            raise _wrong("tool_choice.name", "must be the name of one of the tools")
        # Without tools, to leave the choice to the model and to forbid it are the same.
        if self.tools:
            job.tool_choice = _MODES.get(choice.type, choice.name)
            job.parallel_tool_calls = not choice.disable_parallel_tool_use

    def _add_options(self, job: jobs_pb2.SubmitJobRequest) -> None:
        config = self.output_config
        effort: str = config.effort if config and config.effort else ""
        if self.thinking and self.thinking.type == "disabled":
            effort = _NO_EFFORT
        options = jobs_pb2.PromptOptions(reasoning_effort=effort)
        if self.chat_template_kwargs:
            options.chat_template_kwargs = json_text(self.chat_template_kwargs)
        if _is_begun(job.messages):
            options.continue_final_message, options.add_generation_prompt = True, False
        if options.ByteSize():
            job.prompt_options.CopyFrom(options)
        form = (config and config.format) or self.output_format
        if form:
            job.response_format.CopyFrom(
                jobs_pb2.ResponseFormat(
                    type=jobs_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
                    json_schema=json_text(form.json_schema),
                )
            )


def _wrong(param: str, why: str) -> OpenAIError:
    return OpenAIError(400, f"Invalid '{param}': {why}", code="invalid_value", param=param)


def _is_begun(turns: Sequence[jobs_pb2.ChatMessage]) -> bool:
    """Returns whether the client has begun the answer, which then goes on with that."""
    if not turns:
        return False
    last = turns[-1]
    return last.role == "assistant" and bool(last.content) and not last.tool_calls


class MessagesRequest(Prompt, table="anthropic_messages"):
    """Asks for a message."""

    max_tokens: MaxTokens
    stream: bool = False
    stop_sequences: Annotated[
        Several[Annotated[str, sized(_PARAMS, "stop"), StringConstraints(min_length=1)]],
        counted(_PARAMS, "stop"),
    ] = ()
    temperature: Annotated[float, ruled(_PARAMS, "temperature")] | None = None
    top_p: Annotated[float, ruled(_PARAMS, "top_p")] | None = None
    top_k: Annotated[int, ruled(_PARAMS, "top_k"), WHOLE] | None = None
    metadata: Metadata | None = None
    # vLLM's.
    cache_salt: Annotated[str, sized(_SUBMIT, "cache_salt")] = ""
    vllm_xargs: dict[str, Any] | None = None

    @property
    def tells_thinking(self) -> bool:
        """Whether the answer tells what the model thought."""
        return self.thinking is None or self.thinking.type != "disabled"

    def submission(self) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for. Raises OpenAIError."""
        job = super().submission()
        job.params.CopyFrom(
            jobs_pb2.GenerationParams(
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                stop=self.stop_sequences,
                extra_args=json_text(self.vllm_xargs) if self.vllm_xargs else "",
            )
        )
        if self.thinking and self.thinking.type == "enabled" and self.thinking.budget_tokens:
            job.params.thinking_token_budget = self.thinking.budget_tokens
            # Clients send one to every model: one that does not think keeps to it.
            job.params.is_thinking_token_budget_optional = True
        job.cache_salt = self.cache_salt
        if self.metadata and self.metadata.user_id:
            job.user = self.metadata.user_id
            # Clients that talk at length name their sessions with it.
            job.conversation_id = conversation_id(self.metadata.user_id)
        return job


class CountRequest(Prompt):
    """Asks how many tokens a prompt has."""

    def submission(self) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for. Raises OpenAIError."""
        job = super().submission()
        job.task = jobs_pb2.JOB_TASK_TOKENIZE
        is_none = job.tool_choice == "none"
        for name in _OF_ANSWERS:
            job.ClearField(name)
        if is_none:
            # A miner may keep them from the prompt then.
            job.tool_choice = "none"
        return job
