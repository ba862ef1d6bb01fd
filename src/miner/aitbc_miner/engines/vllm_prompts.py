"""What a model in vLLM is asked: prompts and conversations as tokens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from aitbc_miner.engines import hermes
from aitbc_miner.engines.base import Job, Message
from aitbc_miner.engines.tools import is_calling
from aitbc_miner.errors import BadRequest, Misconfigured

# Ends the prompt where the assistant begins to speak.
_ARGUMENTS = {"add_generation_prompt": True}
# Variable of a chat template that has a place for tools.
_PLACE_FOR_TOOLS = re.compile(r"\btools\b")


class Prompts:
    """How one model is asked."""

    def __init__(self, llm: Any, template_path: str | None, tool_parser: str | None) -> None:
        """`template_path`: of a chat template instead of the model's. Raises Misconfigured."""
        self._renderer = llm.renderer
        self._template = _read(template_path) if template_path else None
        template = _resolved(llm, self._template)
        self._is_chat = template != ""
        # None: formats of vLLM's own, which have.
        self._has_place_for_tools = template is None or bool(_PLACE_FOR_TOOLS.search(template))
        if tool_parser not in (None, hermes.PARSER) and not self._has_place_for_tools:
            raise Misconfigured(
                f"--engine-opt tool_parser={tool_parser}: the model's chat template has no place"
                " for tools: give one that has, with --engine-opt chat_template=FILE"
            )

    async def render(self, job: Job) -> Any:
        """Returns the tokens, through the chat template where there is one. Raises BadRequest."""
        try:
            if job.messages or (self._is_chat and not job.is_raw):
                return await self._render_chat(job)
            (rendered,) = await self._renderer.render_cmpl_async([{"prompt": job.prompt}])
        except ValueError as error:
            field = "messages" if job.messages else "prompt"
            message = f"{field}: the model's tokenizer or chat template refuses it"
            raise BadRequest(message) from error
        return rendered

    async def _render_chat(self, job: Job) -> Any:
        from vllm.renderers.params import ChatParams

        messages = list(job.messages) or [Message(role="user", content=job.prompt or "")]
        tools = job.tools if is_calling(job) else ()
        arguments: dict[str, Any] = dict(_ARGUMENTS)
        if self._has_place_for_tools:
            if tools:
                arguments["tools"] = [tool.as_openai() for tool in tools]
        elif tools or hermes.has_tools(messages):
            messages = hermes.in_texts(messages, tools)
        params = ChatParams(chat_template=self._template, chat_template_kwargs=arguments)
        _, (rendered,) = await self._renderer.render_chat_async([messages], params)
        return rendered


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(
            f"--engine-opt chat_template={path}: cannot read it: {error}"
        ) from error


def _resolved(llm: Any, template: str | None) -> str | None:
    """Returns the chat template for tools; "" when there is none, None when it is no template."""
    from vllm.renderers.hf import HfRenderer, resolve_chat_template

    if not isinstance(llm.renderer, HfRenderer):
        return None
    found: str | None = resolve_chat_template(
        llm.get_tokenizer(), chat_template=template, tools=[], model_config=llm.model_config
    )
    return found or ""
