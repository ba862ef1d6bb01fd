"""What a model in vLLM is asked: prompts and conversations as tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from aitbc_miner.engines import hermes
from aitbc_miner.engines.base import Job, Message
from aitbc_miner.engines.media import Media
from aitbc_miner.engines.tools import is_calling
from aitbc_miner.engines.vllm_refusals import prompt_field, refusing
from aitbc_miner.errors import BadRequest, Misconfigured

# What a template is told beside the conversation, and the client does not choose: names of the
# arguments on the way to it.
_RESERVED = (
    "chat_template",
    "conversation",
    "conversations",
    "max_length",
    "messages",
    "model_config",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "self",
    "tokenize",
    "tokenizer",
    "tokenizer_kwargs",
    "tools",
    "truncation",
)
# Variable of a chat template that has a place for tools.
_PLACE_FOR_TOOLS = re.compile(r"\btools\b")


class Prompts:
    """How one model is asked."""

    def __init__(
        self,
        llm: Any,
        template_path: str | None,
        tool_parser: str | None,
        media: Media,
        *,
        hides_tools: bool = False,
    ) -> None:
        """Raises Misconfigured.

        `template_path`: of a chat template instead of the model's; `hides_tools`: whether a prompt
        has no tools where none may be called.
        """
        self._hides_tools = hides_tools
        self._media = media
        from vllm.utils.mistral import is_mistral_tokenizer

        self._renderer = llm.renderer
        self._model_config = llm.model_config
        # Whether the template makes the tokens itself.
        self._is_whole = is_mistral_tokenizer(llm.get_tokenizer())
        # What is used instead of the model's own.
        self.template = _read(template_path) if template_path else None
        template = _resolved(llm, self.template)
        self._is_chat = template != ""
        # None: formats of vLLM's own, which have.
        self._has_place_for_tools = template is None or bool(_PLACE_FOR_TOOLS.search(template))
        if tool_parser not in (None, hermes.PARSER) and not self._has_place_for_tools:
            raise Misconfigured(
                f"--engine-opt tool_parser={tool_parser}: the model's chat template has no place"
                " for tools: give one that has, with --engine-opt chat_template=FILE"
            )

    async def render(self, job: Job, request: Any, limits: Any = None) -> Any:
        """Returns the tokens, through the chat template where there is one. Raises BadRequest.

        `request`: the job as vLLM's server is asked; `limits`: TokenizeParams other than those of a
        prompt that is answered.
        """
        try:
            with refusing(job, prompt_field(job)):
                limits = limits or request.build_tok_params(self._model_config)
                if self.is_chat(job):
                    return await self._render_chat(job, request, limits)
                if job.prompt_token_ids:
                    self._check_ids(job.prompt_token_ids)
                    asked: dict[str, Any] = {"prompt_token_ids": list(job.prompt_token_ids)}
                else:
                    asked = {"prompt": job.prompt}
                (rendered,) = await self._renderer.render_cmpl_async([asked], limits)
        except (ValueError, TypeError) as error:
            field = prompt_field(job)
            message = f"{field}: the model's tokenizer or chat template refuses it"
            raise BadRequest(message) from error
        return rendered

    def is_chat(self, job: Job) -> bool:
        """Says whether it is asked through the chat template."""
        if job.prompt_token_ids:
            return False
        return bool(job.messages) or (self._is_chat and not job.is_raw)

    def variables(self, job: Job, request: Any) -> dict[str, Any]:
        """Returns the variables of the chat template, for the parsers of the answer."""
        if not self.is_chat(job):
            return {}
        made: dict[str, Any] = self._chat_params(request).chat_template_kwargs
        return made

    def _chat_params(self, request: Any) -> Any:
        return request.build_chat_params(self.template, "auto")

    def _modalities(self) -> list[str]:
        """Returns what the model takes beside text."""
        if not self._model_config.supports_multimodal_inputs:
            return []
        limits = self._renderer.get_mm_processor().info.allowed_mm_limits
        return [modality for modality, most in limits.items() if most]

    def _check_ids(self, ids: Sequence[int]) -> None:
        # vLLM takes those of its tokenizer too, which the model may lack: they end its process.
        size = self._model_config.get_vocab_size()
        if max(ids) >= size:
            raise BadRequest(
                f"prompt_token_ids: token {max(ids)} is none of the model's, which has {size}"
            )

    async def _render_chat(self, job: Job, request: Any, limits: Any) -> Any:
        for name in _RESERVED:
            if name in (job.options.chat_template_kwargs or {}):
                raise BadRequest(f"chat_template_kwargs: a job may not set {name}")
        messages = await self._media.fetch(job.messages, self._modalities())
        messages = messages or [Message(role="user", content=job.prompt or "")]
        told: dict[str, Any] = {}
        if self._has_place_for_tools:
            # As by vLLM's server, they are there when none may be called, too.
            if job.tools and (is_calling(job) or not self._hides_tools):
                told["tools"] = [tool.as_in_templates() for tool in job.tools]
        elif is_calling(job) or hermes.has_tools(messages):
            messages = hermes.in_texts(messages, job.tools if is_calling(job) else ())
        params = self._chat_params(request).with_defaults({**told, "tokenize": self._is_whole})
        turns = [_turn(message) for message in messages]
        _, (rendered,) = await self._renderer.render_chat_async([turns], params, limits)
        return rendered


def _turn(message: Message) -> Message:
    """Returns a turn as chat templates have it."""
    if "parts" not in message:
        return message
    turn = cast("dict[str, Any]", dict(message))
    turn["content"] = turn.pop("parts")
    return cast("Message", turn)


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
