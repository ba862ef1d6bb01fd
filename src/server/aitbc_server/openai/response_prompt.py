"""What a model is put before for a response: a conversation, and how its answer is to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.response_input import (
    Item,
    PlainItem,
    by_type,
    is_unfinished,
    turn_places,
    turns,
)
from aitbc_server.openai.response_notes import Notes
from aitbc_server.openai.response_tools import (
    ResponseTool,
    ResponseToolChoice,
    add_response_tools,
    tool_places,
)
from aitbc_server.openai.ruled import counted
from aitbc_server.openai.schema import (
    BY_FORM,
    LIST,
    TEXT,
    Asked,
    Name,
    Prose,
    Schema,
    Several,
    few,
    json_text,
)
from aitbc_server.openai.tools import JsonSchema, form

# OpenAI's words. No template has to know all of them.
_Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
# What keeps as many tokens of a prompt as the context takes.
_AS_MANY_AS_FIT = -1


class PlainTextFormat(Schema):
    """A form without a schema."""

    type: Literal["text", "json_object"]


class SchemaTextFormat(JsonSchema):
    """A form with a schema."""

    type: Literal["json_schema"]

    def told(self) -> dict[str, Any]:
        """Returns what it has beside its schema."""
        return {
            "name": self.name,
            "description": self.description or None,
            "strict": self.strict,
        }


class Text(Schema, table="response_text"):
    """What the text is to be like."""

    format: (
        Annotated[
            Annotated[PlainTextFormat, Tag("(plain)")]
            | Annotated[SchemaTextFormat, Tag("(schema)")],
            by_type({"text": "(plain)", "json_object": "(plain)", "json_schema": "(schema)"}),
        ]
        | None
    ) = None
    # Told again.
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Schema, table="response_reasoning"):
    """How the model is to think."""

    effort: _Effort | None = None
    # Told again: what the model thinks is told as it is.
    summary: Literal["auto", "concise", "detailed"] | None = None


Input = Annotated[
    Annotated[Prose, TEXT]
    | Annotated[Several[Item], counted(_SUBMIT, "messages"), Field(min_length=1), LIST],
    BY_FORM,
]


class ResponsePrompt(Asked):
    """What requests that put a model before something have in common."""

    # Of the conversation before that its job has, how many turns; and the items of its input, with
    # those that are named alone.
    _earlier: int = 0
    _resolved: Sequence[PlainItem] | None = None

    input: Input
    instructions: Prose | None = None
    previous_response_id: Name | None = None
    text: Text = Text()
    reasoning: Reasoning = Reasoning()
    tools: Annotated[Several[ResponseTool], counted(_SUBMIT, "tools")] = ()
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled", "auto"] = "disabled"
    # vLLM's.
    chat_template_kwargs: Annotated[dict[str, Any], few(1000)] = Field(default={})

    @property
    def items(self) -> Sequence[Item]:
        """The items of the input, some of which may be named alone."""
        return () if isinstance(self.input, str) else self.input

    def add_prompt(
        self,
        job: jobs_pb2.SubmitJobRequest,
        earlier: Sequence[jobs_pb2.ChatMessage],
        items: Sequence[PlainItem],
    ) -> Notes:
        """Adds the prompt to a job; returns what is to be noted of it. Raises OpenAIError.

        `earlier`: the conversation before; `items`: those of the input, none of them named alone.
        """
        self._earlier, self._resolved = len(earlier), items
        if self.instructions is not None:
            job.messages.add(role="system", content=self.instructions)
        job.messages.extend(earlier)
        if isinstance(self.input, str):
            job.messages.add(role="user", content=self.input)
        else:
            job.messages.extend(turn.message for turn in turns(items))
        self._add_options(job, items)
        noted = add_response_tools(
            job, self.tools, self.tool_choice, is_parallel=self.parallel_tool_calls
        )
        asked = self.text.format
        shown: dict[str, Any] = {}
        if self.reasoning.model_fields_set:
            shown["reasoning"] = self.reasoning.model_dump(include={"effort", "summary"})
        return noted.model_copy(
            update={
                "has_instructions": self.instructions is not None,
                "form": asked.told() if isinstance(asked, SchemaTextFormat) else {},
                "verbosity": self.text.verbosity,
                "shown": {**shown, **noted.shown},
            }
        )

    def places(self, job: int) -> Places:
        """Returns where what the job has came from."""
        before: list[Path] = [] if self.instructions is None else [("instructions",)]
        before += [("previous_response_id",)] * self._earlier
        places: dict[Path, Sequence[Path]] = {
            **super().places(job),
            **{("messages", number): [path] for number, path in enumerate(before)},
            **tool_places(self.tools, self.tool_choice),
        }
        if isinstance(self.input, str):
            return {**places, ("messages", len(before)): [("input",)]}
        items: Any = self.items if self._resolved is None else self._resolved
        for number, turn in enumerate(turns(items), start=len(before)):
            places |= turn_places(turn, number)
        return places

    def _add_options(self, job: jobs_pb2.SubmitJobRequest, items: Sequence[PlainItem]) -> None:
        if self.text.format is not None:
            asked = self.text.format
            schema = asked.json_schema if isinstance(asked, SchemaTextFormat) else {}
            job.response_format.CopyFrom(form(asked.type, schema))
        options = job.prompt_options
        if self.truncation == "auto":
            options.truncate_prompt_tokens = _AS_MANY_AS_FIT
        if self.reasoning.effort is not None:
            options.reasoning_effort = self.reasoning.effort
        if self.chat_template_kwargs:
            options.chat_template_kwargs = json_text(self.chat_template_kwargs)
        if items and is_unfinished(items):
            options.continue_final_message = True
            options.add_generation_prompt = False
