"""Reasoning and calls of tools in the language of the model, read with vLLM's parsers.

They take the answer as it is made and tell what of it is reasoning, what is text and what calls a
tool. They also say what the generation is to be held to, so that a call that must be made is made.
All of it is done as vLLM's own server does it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

from aitbc_miner.engines.base import Job, Params, ToolCallPart
from aitbc_miner.engines.tools import AUTO, CallFeed, is_calling
from aitbc_miner.engines.vllm_refusals import form_field, refusing
from aitbc_miner.errors import BadRequest, Misconfigured

TOOLS, REASONING = "tool_parser", "reasoning_parser"
_BUDGET = "thinking_token_budget"
# Of an answer that they cannot read, they tell a part.
_LOGGERS = ("vllm.tool_parsers", "vllm.reasoning", "vllm.parser")


class Parser(Protocol):
    """What is used of vLLM's `Parser`. One reads one answer."""

    def parse_delta(
        self,
        delta_text: str,
        delta_token_ids: list[int],
        request: Any,
        prompt_token_ids: list[int] | None,
        *,
        finished: bool,
    ) -> Any:
        """Returns what is new as a DeltaMessage, or None."""

    def parse(
        self,
        model_output: str,
        request: Any,
        enable_auto_tools: bool,
        model_output_token_ids: Sequence[int],
    ) -> tuple[str | None, str | None, list[Any] | None]:
        """Returns the reasoning, the text and the calls of a whole answer."""

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Returns how many tokens of an answer are reasoning; 0 where it cannot tell."""


class Read(NamedTuple):
    """A piece of an answer, told apart."""

    reasoning: str
    text: str
    calls: tuple[ToolCallPart, ...]
    # Of the whole answer, in the last piece, when the parser can tell.
    reasoning_tokens: int | None = None


class AnswerParser:
    """Tells what of one answer is reasoning, what is text and what calls tools."""

    def __init__(
        self,
        make_parser: Callable[[], Parser],
        request: Any,
        prompt_token_ids: Sequence[int],
        *,
        variables: Mapping[str, Any],
        is_calling: bool,
        is_reasoning: bool,
        is_parallel: bool,
    ) -> None:
        """`request`: the ChatCompletionRequest that is answered, as a parser adjusted it.

        `variables`: of the chat template.

        `is_calling`, `is_reasoning`: whether the answer may call tools, and begin with reasoning.
        """
        self._make_parser = make_parser
        self._parser = make_parser()
        self._request = request
        self._prompt = list(prompt_token_ids)
        self._variables = dict(variables)
        self._is_calling = is_calling
        self._is_reasoning = is_reasoning
        self._feed = CallFeed(is_parallel=is_parallel)
        # What the model wrote, and what of it was told as text.
        self._written = ""
        self._token_ids: list[int] = []
        self._told = ""

    @property
    def request(self) -> Any:
        """The request that is answered, with what the parser wants of the generation."""
        return self._request

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """What vLLM's engine is told of the reasoning, after which only it holds to a form."""
        if not self._is_reasoning:
            return {}
        return {
            "reasoning_ended": self._request.resolve_reasoning_ended(self._parser, self._prompt),
            "reasoning_parser_kwargs": {"chat_template_kwargs": self._variables},
        }

    @property
    def has_calls(self) -> bool:
        """Whether the answer called a tool so far."""
        return self._feed.has_calls

    def read(self, text: str, token_ids: Sequence[int], *, is_last: bool) -> Read:
        """Takes more of the answer; returns what is new."""
        self._written += text
        self._token_ids += token_ids
        delta = self._parser.parse_delta(
            text, list(token_ids), self._request, self._prompt, finished=is_last
        )
        reasoning, content, parts = "", "", list[ToolCallPart]()
        if delta is not None:
            reasoning, content = delta.reasoning or "", delta.content or ""
            for call in delta.tool_calls or ():
                function = call.function
                name, arguments = (function.name, function.arguments) if function else (None, None)
                parts += self._feed.take(call.index, call.id, name, arguments)
        self._told += content
        if is_last and self._is_calling and not self._feed.has_calls:
            rest, parts = self._read_whole()
            content += rest
        return Read(reasoning, content, tuple(parts), self._counted() if is_last else None)

    def _counted(self) -> int | None:
        # Where the chat template begins the reasoning, many parsers count none of it.
        return self._parser.count_reasoning_tokens(self._token_ids) or None

    def _read_whole(self) -> tuple[str, list[ToolCallPart]]:
        """Returns what only the whole answer tells.

        Some parsers cannot read calls while they are made; others wait for the end of one that
        turns out to be none.
        """
        _, content, calls = self._make_parser().parse(
            self._written, self._request, True, self._token_ids
        )
        parts: list[ToolCallPart] = []
        for number, call in enumerate(calls or ()):
            parts += self._feed.take(number, call.id, call.name, call.arguments)
        text = content or ""
        return text[len(self._told) :] if text.startswith(self._told) else "", parts


class Parsing:
    """How the answers of one model are read."""

    def __init__(self, llm: Any, tools: str | None, reasoning: str | None) -> None:
        """`tools`, `reasoning`: of vLLM's parsers of the model's own language.

        Raises Misconfigured.
        """
        for logger in _LOGGERS:
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._tokenizer = llm.get_tokenizer()
        self._model_config = llm.model_config
        self._has_language = tools is not None
        # Whether the model thinks before it answers.
        self.has_reasoning = reasoning is not None
        thinking = llm.vllm_config.reasoning_config
        # Whether vLLM knows the tokens that begin and end what it thinks.
        self._bounds_reasoning = thinking is not None and thinking.enabled
        self._parser: Any = self._named(tools, reasoning)
        if tools is None:
            self._parser = _json_parser(self._parser)

    def _named(self, tools: str | None, reasoning: str | None) -> Any:
        from vllm.parser import ParserManager

        try:
            return ParserManager.get_parser(
                tool_parser_name=tools,
                reasoning_parser_name=reasoning,
                enable_auto_tools=tools is not None,
                model_name=self._model_config.model,
                is_harmony=self._model_config.hf_config.model_type == "gpt_oss",
                tokenizer=self._tokenizer,
            )
        except TypeError as error:
            given = {TOOLS: tools, REASONING: reasoning}
            options = " ".join(f"--engine-opt {key}={name}" for key, name in given.items() if name)
            raise Misconfigured(f"{options}: {error}") from error

    def accepted(self, job: Job) -> Job:
        """Returns the job as it can be answered. Raises BadRequest for one that cannot."""
        if is_calling(job) and job.tool_choice == AUTO and not self._has_language:
            raise BadRequest(
                "tools: the miner was started without a parser of this model's calls"
                f" (--engine-opt {TOOLS}=NAME): set tool_choice to required, or to one tool"
            )
        if _BUDGET not in job.params or self._bounds_reasoning:
            return job
        if not job.params.get("is_thinking_token_budget_optional", False):
            raise BadRequest(
                f"{_BUDGET}: the miner was started without a parser that tells where this model's"
                f" reasoning ends (--engine-opt {REASONING}=NAME)"
            )
        params = {name: value for name, value in job.params.items() if name != _BUDGET}
        return replace(job, params=cast("Params", params))

    def reader(
        self,
        job: Job,
        request: Any,
        prompt_token_ids: Sequence[int],
        variables: Mapping[str, Any],
        *,
        is_chat: bool,
    ) -> AnswerParser | None:
        """Returns what reads a job's answer; None when it is all text. Raises BadRequest.

        `variables`: of the chat template; `is_chat`: whether it was asked through it. What is not
        is not thought about.
        """
        is_reasoning = is_chat and self.has_reasoning
        if not is_reasoning and not is_calling(job):
            return None
        request.messages = list(job.messages)
        try:
            with refusing(job):
                # As vLLM's server does: the parser that adjusts is not the one that reads.
                request = self._make(request, variables).adjust_request(request)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            message = f"{form_field(job)}: vLLM cannot take it as it is described"
            raise BadRequest(message) from error
        return AnswerParser(
            lambda: self._make(request, variables),
            request,
            prompt_token_ids,
            variables=variables,
            is_calling=is_calling(job),
            is_reasoning=is_reasoning,
            is_parallel=job.is_parallel,
        )

    def _make(self, request: Any, variables: Mapping[str, Any]) -> Any:
        return self._parser(
            self._tokenizer,
            request.tools,
            chat_template_kwargs=dict(variables),
            model_config=self._model_config,
        )


def check_parsers(options: Mapping[str, str]) -> None:
    """Raises Misconfigured for a name of no parser of vLLM's: it needs no model for that."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    for option, manager in ((TOOLS, ToolParserManager), (REASONING, ReasoningParserManager)):
        name, known = options.get(option), manager.list_registered()
        if name is not None and name not in known:
            raise Misconfigured(
                f"--engine-opt {option}={name}: vLLM has no such parser; it has {', '.join(known)}"
            )


def _json_parser(parser: Any) -> Any:
    """Returns a parser with that of calls that must be made, which are JSON whatever is spoken."""
    from vllm.parser.abstract_parser import DelegatingParser
    from vllm.tool_parsers import ToolParser

    return type("_JsonParser", (parser or DelegatingParser,), {"tool_parser_cls": ToolParser})
