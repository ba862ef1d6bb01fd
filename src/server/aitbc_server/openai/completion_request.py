"""The request of a completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Discriminator, Field, StringConstraints, Tag

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.engine_parameters import EngineParameters
from aitbc_server.openai.errors import OpenAIError, too_many_answers, unsupported
from aitbc_server.openai.made_jobs import MOST_BYTES, together
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.ruled import counted, ruled
from aitbc_server.openai.schema import LIST, TEXT, Prose, Several

_SUBMIT = jobs_pb2.SubmitJobRequest.DESCRIPTOR
# OpenAI's default: short on purpose.
_DEFAULT_MAX_TOKENS = 16
# Jobs of one batch.
_MOST_ANSWERS = 1000

_MAX_TOKENS = replace(ruled(jobs_pb2.GenerationParams.DESCRIPTOR, "max_tokens"), ge=0)
_Tokens = Annotated[
    tuple[Annotated[int, ruled(_SUBMIT, "prompt_token_ids")], ...],
    counted(_SUBMIT, "prompt_token_ids"),
    Field(min_length=1, fail_fast=True),
]
# A blank one is a prompt, too.
_Text = Annotated[Prose, StringConstraints(min_length=1)]
_Few = Field(min_length=1, max_length=_MOST_ANSWERS)


def _form_of(value: Any) -> str:
    if isinstance(value, str):
        return "(text)"
    first = value[0] if isinstance(value, list) and value else None
    if type(first) is int:
        return "(tokens)"
    return "(lists of tokens)" if isinstance(first, list) else "(list)"


class CompletionRequest(EngineParameters, table="completions"):
    """The body of a request."""

    prompt: Annotated[
        Annotated[_Text, TEXT]
        | Annotated[Several[_Text], _Few, LIST]
        | Annotated[_Tokens, Tag("(tokens)")]
        | Annotated[Several[_Tokens], _Few, Tag("(lists of tokens)")],
        Discriminator(_form_of),
    ]
    # None at all is asked for by those who want the prompt told again.
    max_tokens: Annotated[int, _MAX_TOKENS] = _DEFAULT_MAX_TOKENS
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> Sequence[str | tuple[int, ...]]:
        """The prompts, each of which is answered `n` times."""
        prompt: Any = self.prompt
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return (prompt,)
        return prompt  # type: ignore[no-any-return]  # as it was read

    @property
    def times(self) -> int:
        """How often at most its jobs repeat what it has."""
        return len(self.prompts) * self.n

    @property
    def is_only_echo(self) -> bool:
        """Whether nothing but the prompt is told."""
        return self.echo and self.max_tokens == 0

    def submissions(self, most_bytes: int = MOST_BYTES) -> list[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that it asks for. Raises OpenAIError."""
        each = "each answer has a job with all the parameters"
        return together(self._jobs(), most_bytes, self._many, each)

    @property
    def _many(self) -> str:
        """Of which parameter there may be too many."""
        return "n" if self.n > 1 else "prompt"

    def _jobs(self) -> Iterator[jobs_pb2.SubmitJobRequest]:
        if len(self.prompts) * self.n > _MOST_ANSWERS:
            raise too_many_answers(f"one request may ask for {_MOST_ANSWERS} answers in all")
        if self.stream and self.prompt_logprobs:
            raise unsupported("prompt_logprobs", "it does not go with stream: true")
        if self.max_tokens == 0 and not self.echo:
            raise OpenAIError(
                400,
                "Invalid 'max_tokens': must be at least 1, unless the prompt is told with echo.",
                code="invalid_value",
                param="max_tokens",
            )
        params: dict[str, Any] = {
            # Engines make one at least, which is then not told.
            "max_tokens": self.max_tokens or 1,
            "logprobs": self.logprobs,
            "return_token_ids": self._needs_ids,
        }
        if self.echo and self.prompt_logprobs is None:
            params["prompt_logprobs"] = self.logprobs
        for prompt in self.prompts:
            for job in self.jobs(**params):
                if isinstance(prompt, str):
                    job.prompt, job.raw_prompt = prompt, True
                else:
                    job.prompt_token_ids.extend(prompt)
                yield job

    def places(self, job: int) -> Places:
        """Returns where what a job has came from."""
        is_one = self.prompts == (self.prompt,)
        prompt: Path = ("prompt",) if is_one else ("prompt", job // self.n)
        return {
            **super().places(job),
            **{(name,): [prompt] for name in ("prompt", "prompt_token_ids")},
            ("jobs",): [(self._many,)],
        }

    @property
    def knows_echo(self) -> bool:
        """Whether what is echoed is known before the engine has read the prompt."""
        is_text = isinstance(self.prompts[0], str)
        return is_text and self.truncate_prompt_tokens is None and self.logprobs is None

    @property
    def _needs_ids(self) -> bool:
        # What tells the ids of a prompt's tokens tells its text, too.
        shows_ids = self.return_tokens_as_token_ids and self.logprobs is not None
        return self.return_token_ids or shows_ids or (self.echo and not self.knows_echo)
