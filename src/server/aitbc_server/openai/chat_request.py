"""The request of a chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.chat_messages import ChatMessage, part_places
from aitbc_server.openai.chat_tools import (
    ChatCustomChoice,
    ChatCustomTool,
    ChatToolChoice,
    Tool,
    ToolChoice,
    chosen,
    tool_places,
)
from aitbc_server.openai.engine_parameters import EngineParameters
from aitbc_server.openai.errors import unsupported
from aitbc_server.openai.made_jobs import MOST_BYTES, together
from aitbc_server.openai.origins import Places
from aitbc_server.openai.ruled import counted, sized
from aitbc_server.openai.schema import MaxTokens, Several, few, json_text
from aitbc_server.openai.tools import (
    CHOICE_NEEDS_TOOLS,
    add_tools,
)

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
_OPTIONS = jobs_pb2.PromptOptions.DESCRIPTOR
_SAME = frozenset({"add_generation_prompt", "continue_final_message", "reasoning_effort"})
_OF_PROMPTS = _SAME | {"chat_template_kwargs", "documents"}


class ChatRequest(EngineParameters, table="chat"):
    """The body of a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependentSchemas": {
                **CHOICE_NEEDS_TOOLS,
                "top_logprobs": {
                    "anyOf": [
                        {"properties": {"top_logprobs": {"enum": [None, 0]}}},
                        {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]},
                    ]
                },
            }
        }
    )

    messages: Annotated[Several[ChatMessage], counted(_SUBMIT, "messages"), Field(min_length=1)]
    max_completion_tokens: MaxTokens | None = None
    max_tokens: MaxTokens | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    tools: Annotated[Several[Tool], counted(_SUBMIT, "tools")] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    # vLLM's: how the prompt is made, and what of the answer is told.
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: Annotated[dict[str, Any], few(1000)] = Field(default={})
    documents: Several[
        Annotated[
            dict[str, Annotated[str, sized(_OPTIONS, "documents")]],
            Field(max_length=1000),
            few(1000),
        ]
    ] = ()
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    include_reasoning: bool = True
    return_prompt_text: bool = False

    def submissions(self, most_bytes: int = MOST_BYTES) -> list[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that it asks for. Raises OpenAIError."""
        return together(self._jobs(), most_bytes, "n", "each answer has a job with the messages")

    def _jobs(self) -> Iterator[jobs_pb2.SubmitJobRequest]:
        if self.top_logprobs and not self.logprobs:
            raise unsupported("top_logprobs", "it goes with logprobs: true")
        if self.stream and self.prompt_logprobs:
            raise unsupported("prompt_logprobs", "it does not go with stream: true")
        shows_ids = self.return_tokens_as_token_ids and self.logprobs
        jobs = self.jobs(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            logprobs=self.top_logprobs if self.logprobs else None,
            return_token_ids=self.return_token_ids or self.return_prompt_text or shows_ids,
        )
        options = None if self.model_fields_set.isdisjoint(_OF_PROMPTS) else self._prompt_options()
        turns = [message.turn() for message in self.messages]
        functions, choice = chosen(self.tools, self.tool_choice)
        for job in jobs:
            job.messages.extend(turns)
            if options is not None and options.ListFields():
                job.prompt_options.MergeFrom(options)
            add_tools(job, functions, choice, is_parallel=self.parallel_tool_calls)
            yield job

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        tools = tool_places(self.tools, self.tool_choice)
        return {**super().places(job), **tools, **part_places(self.messages)}

    @property
    def custom_tools(self) -> frozenset[str]:
        """Names of the tools whose input is a free text."""
        tools = (tool for tool in self.tools if isinstance(tool, ChatCustomTool))
        return frozenset(tool.custom.name for tool in tools)

    @property
    def names_tool(self) -> bool:
        """Whether it names the tool to call."""
        return isinstance(self.tool_choice, ChatToolChoice | ChatCustomChoice)

    @property
    def answering_role(self) -> str:
        """Who speaks in the answer."""
        return "assistant" if self.add_generation_prompt else self.messages[-1].role

    @property
    def echoed(self) -> str:
        """What an answer begins with: what its speaker said last, if that is to be told again."""
        last = self.messages[-1]
        is_echoed = self.echo and last.role == self.answering_role
        return last.turn().content if is_echoed else ""

    def _prompt_options(self) -> jobs_pb2.PromptOptions:
        given = _SAME & self.model_fields_set
        options = jobs_pb2.PromptOptions(**{name: getattr(self, name) for name in given})
        if options.add_generation_prompt and not options.continue_final_message:
            options.ClearField("add_generation_prompt")
        if self.chat_template_kwargs:
            options.chat_template_kwargs = json_text(self.chat_template_kwargs)
        if self.documents:
            options.documents = json_text(self.documents)
        return options
