"""The body of `POST /v1/responses`, and the job that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.engine_parameters import EngineSampling
from aitbc_server.openai.errors import OpenAIError, unsupported
from aitbc_server.openai.forms import StructuredOutputs
from aitbc_server.openai.origins import Places
from aitbc_server.openai.response_input import PlainItem
from aitbc_server.openai.response_items import LOGPROBS
from aitbc_server.openai.response_notes import Notes
from aitbc_server.openai.response_prompt import ResponsePrompt
from aitbc_server.openai.schema import WHOLE, Includable, MaxTokens, Several
from aitbc_server.openai.tools import CHOICE_NEEDS_TOOLS


class ResponseRequest(EngineSampling, ResponsePrompt, table="responses"):
    """The body of a request."""

    model_config = ConfigDict(json_schema_extra={"dependentSchemas": CHOICE_NEEDS_TOOLS})

    max_output_tokens: MaxTokens | None = None
    background: bool = False
    include: Several[Includable] = ()
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] = 0
    store: bool = True
    # Told again: it counts calls of tools that run at OpenAI.
    max_tool_calls: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    # There is one tier, whichever is asked for.
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    # vLLM's: the form of the answer in other words, and whether reasoning is told.
    structured_outputs: StructuredOutputs | None = None
    include_reasoning: bool = True

    @property
    def includes(self) -> frozenset[str]:
        """What is told beside what always is."""
        return frozenset(self.include)

    def submission(
        self, earlier: Sequence[jobs_pb2.ChatMessage], items: Sequence[PlainItem]
    ) -> jobs_pb2.SubmitJobRequest:
        """Returns the job that it asks for: see `add_prompt`. Raises OpenAIError."""
        if self.background and not self.store:
            raise OpenAIError(
                400,
                "Invalid 'background': what is not stored cannot be read later.",
                code="invalid_value",
                param="background",
            )
        has_logprobs = LOGPROBS in self.include
        job = self.job(
            max_tokens=self.max_output_tokens,
            logprobs=self.top_logprobs if has_logprobs else None,
        )
        if not self.store:
            job.store = False
        noted = self.add_prompt(job, earlier, items)
        self._add_form(job)
        job.api_notes = self._notes(noted).text()
        return job

    def _add_form(self, job: jobs_pb2.SubmitJobRequest) -> None:
        forms = [] if self.structured_outputs is None else list(self.structured_outputs.forms())
        has_form = self.text.format is not None and self.text.format.type != "text"
        if len(forms) + has_form > 1:
            raise unsupported("structured_outputs", "an answer has one form")
        if forms:
            job.response_format.CopyFrom(forms[0])

    def places(self, job: int) -> Places:
        """Returns where what the job has came from."""
        places = super().places(job)
        if self.structured_outputs is None or not any(self.structured_outputs.forms()):
            return places
        return {**places, ("response_format",): [("structured_outputs",)]}

    def _notes(self, noted: Notes) -> Notes:
        shown: dict[str, Any] = {
            "background": self.background,
            "max_tool_calls": self.max_tool_calls,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "safety_identifier": self.safety_identifier,
            "top_logprobs": self.top_logprobs,
            "truncation": self.truncation,
            "user": self.user,
        }
        shown = {name: value for name, value in shown.items() if value}
        return noted.model_copy(
            update={
                "hides_reasoning": not self.include_reasoning,
                "shown": {**shown, **noted.shown},
            }
        )
