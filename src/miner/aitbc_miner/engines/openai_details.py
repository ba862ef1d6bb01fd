"""What servers tell of tokens, in vLLM's words: those of the prompt, and what ended an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from aitbc_miner.engines.base import Job, Logprob, PromptDetails
from aitbc_miner.engines.border import MOST_TOKENS
from aitbc_miner.errors import EngineAnswerInvalid

# What servers call the tokens that a prompt and its answer may have together: vLLM, and others.
_LENGTHS = ("max_model_len", "context_length", "context_window", "max_context_length")


class Stop(NamedTuple):
    """What ended an answer."""

    string: str = ""
    token_id: int | None = None


class Prompt:
    """Gathers what is told of a prompt, with the answer or with the first piece of it."""

    def __init__(self, job: Job) -> None:
        self._is_asked = job.wants_details
        self._text = job.prompt or ""
        self._token_ids = job.prompt_token_ids
        self._ranked: list[Any] = []
        self._is_told = False

    def take(self, told: Mapping[str, Any]) -> None:
        """Looks at an event, or at one of its choices. Raises EngineAnswerInvalid."""
        if not self._is_asked:
            return
        if isinstance(text := told.get("prompt_text"), str):
            self._text, self._is_told = text, True
        if ids := token_ids(told.get("prompt_token_ids")):
            self._token_ids, self._is_told = ids, True
        if isinstance(ranked := told.get("prompt_logprobs"), list):
            self._ranked, self._is_told = ranked, True

    @property
    def details(self) -> PromptDetails | None:
        """What was told; None when nothing was. Raises EngineAnswerInvalid."""
        if not self._is_told:
            return None
        ids = list(self._token_ids)
        missing = [None] * (len(self._ranked) - len(ids))
        pairs = zip([*ids, *missing], self._ranked, strict=False)
        return PromptDetails(
            text=self._text,
            token_ids=self._token_ids,
            logprobs=tuple(_ranked(token_id, ranked) for token_id, ranked in pairs),
        )


def lengths_of(body: bytes) -> dict[str, int]:
    """Returns how many tokens models take, of a list of models; of those that say so."""
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    models = listed.get("data") if isinstance(listed, dict) else listed
    lengths: dict[str, int] = {}
    for model in models if isinstance(models, list) else ():
        if isinstance(model, dict) and isinstance(name := model.get("id"), str):
            told = (model.get(word) for word in _LENGTHS)
            length = next((one for one in told if type(one) is int and 0 < one <= MOST_TOKENS), 0)
            if length:
                lengths[name] = length
    return lengths


def token_ids(told: object) -> tuple[int, ...]:
    """Returns the tokens of a list of them; none of what is no list."""
    return tuple(told) if isinstance(told, list) else ()


def stop_of(choice: Mapping[str, Any]) -> Stop:
    """Returns what ended an answer, as far as the server says."""
    reason = choice.get("stop_reason")
    if isinstance(reason, str):
        return Stop(string=reason)
    is_token = isinstance(reason, int) and not isinstance(reason, bool) and reason >= 0
    return Stop(token_id=reason if is_token else None)


def cached_tokens(usage: Mapping[str, Any]) -> object:
    """Returns how much of the prompt was in the server's cache, as it says."""
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    return details.get("cached_tokens") if isinstance(details, dict) else None


def _ranked(token_id: int | None, ranked: object) -> Logprob:
    """Reads one place: by the ids of tokens, with that of the prompt first."""
    if ranked is None:  # the first one follows nothing
        return Logprob("", 0.0, token_id=token_id)
    if not isinstance(ranked, dict) or not ranked:
        raise EngineAnswerInvalid("the server told probabilities of a prompt that are no objects")
    read = {name: _logprob(name, one) for name, one in ranked.items()}
    own = read.get(str(token_id), next(iter(read.values())))
    others = sorted(read.values(), key=lambda one: one.rank)
    return Logprob(own.token, own.logprob, tuple(others), b"", own.token_id, own.rank)


def _logprob(name: str, told: object) -> Logprob:
    if not isinstance(told, dict) or not name.isdecimal():
        raise EngineAnswerInvalid("the server told a probability of a prompt without its token")
    token, value, rank = told.get("decoded_token"), told.get("logprob"), told.get("rank")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EngineAnswerInvalid("the server told a probability of a prompt that is no number")
    return Logprob(
        token if isinstance(token, str) else "",
        value,
        token_id=int(name),
        rank=rank if isinstance(rank, int) else 0,
    )
