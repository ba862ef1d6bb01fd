"""Calls of tools in the language of the model, read with vLLM's parsers as its own server does.

vLLM's parsers take the answer as it is made and tell what of it is text and what calls a tool. They
also say what the generation is to be held to, so that a call that must be made is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from aitbc_miner.engines.base import Job, ToolCallPart
from aitbc_miner.engines.tools import AUTO, REQUIRED, CallFeed, is_calling
from aitbc_miner.errors import BadRequest, Misconfigured

_OPTION = "--engine-opt tool_parser"
# Of an answer that they cannot read, they tell a part.
_LOGGERS = ("vllm.tool_parsers", "vllm.parser")


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


class CallReader:
    """Tells what of one answer is text and what calls tools."""

    def __init__(
        self,
        make_parser: Callable[[], Parser],
        request: Any,
        prompt_token_ids: Sequence[int],
        *,
        is_parallel: bool,
    ) -> None:
        """`request`: the ChatCompletionRequest that is answered, as a parser adjusted it."""
        self._make_parser = make_parser
        self._parser = make_parser()
        self._request = request
        self._prompt = list(prompt_token_ids)
        self._feed = CallFeed(is_parallel=is_parallel)
        # What the model wrote, and what of it was told as text.
        self._written = ""
        self._token_ids: list[int] = []
        self._told = ""

    @property
    def sampling(self) -> dict[str, Any]:
        """What the parser wants of the generation: arguments of SamplingParams."""
        return {
            "structured_outputs": self._request.extract_structured_outputs(),
            "skip_special_tokens": self._request.skip_special_tokens,
            "spaces_between_special_tokens": self._request.spaces_between_special_tokens,
        }

    @property
    def has_calls(self) -> bool:
        """Whether the answer called a tool so far."""
        return self._feed.has_calls

    def read(
        self, text: str, token_ids: Sequence[int], *, is_last: bool
    ) -> tuple[str, tuple[ToolCallPart, ...]]:
        """Takes more of the answer; returns more of its text, and of its calls."""
        self._written += text
        self._token_ids += token_ids
        delta = self._parser.parse_delta(
            text, list(token_ids), self._request, self._prompt, finished=is_last
        )
        content, parts = "", list[ToolCallPart]()
        if delta is not None:
            content = delta.content or ""
            for call in delta.tool_calls or ():
                function = call.function
                name, arguments = (function.name, function.arguments) if function else (None, None)
                parts += self._feed.take(call.index, call.id, name, arguments)
        self._told += content
        if is_last and not self._feed.has_calls:
            rest, parts = self._read_whole()
            content += rest
        return content, tuple(parts)

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


class ToolParsing:
    """How the answers of one model are read."""

    def __init__(self, llm: Any, name: str | None) -> None:
        """`name`: of vLLM's parser of the model's own language. Raises Misconfigured."""
        for logger in _LOGGERS:
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._tokenizer = llm.get_tokenizer()
        self._model_config = llm.model_config
        self._has_language = name is not None
        self._parser: Any = self._named(name) if name is not None else _json_parser()

    def _named(self, name: str) -> Any:
        from vllm.parser import ParserManager

        try:
            return ParserManager.get_parser(
                tool_parser_name=name,
                enable_auto_tools=True,
                model_name=self._model_config.model,
                is_harmony=self._model_config.hf_config.model_type == "gpt_oss",
                tokenizer=self._tokenizer,
            )
        except TypeError as error:
            raise Misconfigured(f"{_OPTION}={name}: {error}") from error

    def check(self, job: Job) -> None:
        """Raises BadRequest for a job whose answer could not be read."""
        if is_calling(job) and job.tool_choice == AUTO and not self._has_language:
            raise BadRequest(
                "tools: the miner was started without a parser of this model's calls"
                f" ({_OPTION}=NAME): set tool_choice to required, or to one tool"
            )

    def reader(self, job: Job, prompt_token_ids: Sequence[int]) -> CallReader | None:
        """Returns what reads a job's answer; None when it calls no tools. Raises BadRequest."""
        if not is_calling(job):
            return None
        try:
            request = self._request(job)
            # As vLLM's server does: the parser that adjusts is not the one that reads.
            request = self._make(request).adjust_request(request)
        except ValueError as error:
            # Its text may show the tools.
            raise BadRequest("tools: vLLM cannot take them as they are described") from error
        return CallReader(
            lambda: self._make(request), request, prompt_token_ids, is_parallel=job.is_parallel
        )

    def _request(self, job: Job) -> Any:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        is_mode = job.tool_choice in (AUTO, REQUIRED)
        tools = job.tools
        if job.tool_choice != AUTO:
            # A call that must be made is held to its schema in any case.
            tools = tuple(replace(tool, is_strict=True) for tool in tools)
        named = {"type": "function", "function": {"name": job.tool_choice}}
        return ChatCompletionRequest(
            model=job.model,
            messages=list(job.messages) or [{"role": "user", "content": job.prompt or ""}],
            tools=[tool.as_openai() for tool in tools],
            tool_choice=job.tool_choice if is_mode else named,
            parallel_tool_calls=job.is_parallel,
        )

    def _make(self, request: Any) -> Any:
        return self._parser(
            self._tokenizer,
            request.tools,
            chat_template_kwargs={},
            model_config=self._model_config,
        )


def check_parser(name: str) -> None:
    """Raises Misconfigured for a name of no parser of vLLM's: it needs no model for that."""
    from vllm.tool_parsers import ToolParserManager

    known = ToolParserManager.list_registered()
    if name not in known:
        raise Misconfigured(f"{_OPTION}={name}: vLLM has no such parser; it has {', '.join(known)}")


def _json_parser() -> Any:
    """Returns the parser of calls that must be made, which are JSON whatever the model speaks."""
    from vllm.parser.abstract_parser import DelegatingParser
    from vllm.tool_parsers import ToolParser

    return type("_JsonParser", (DelegatingParser,), {"tool_parser_cls": ToolParser})
