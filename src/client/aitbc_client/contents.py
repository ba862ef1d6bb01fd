"""What a receipt covers of a job beside its two texts, as canonical JSON.

docs/reference/formats.md has the rules: numbers become texts, and what is not set is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from struct import pack
from typing import Any

ASKED = (
    *("model", "task", "params", "tools", "tool_choice", "response_format"),
    *("raw_prompt", "parallel_tool_calls", "prompt_options", "dimensions"),
    "use_activation",
)
ANSWERED = ("finish_reason", "reasoning", "tool_calls", "outputs", "stop_string", "stop_token_id")
# Of these only the number is told.
COUNTED = ("logprobs", "token_ids")
# Written as the hex digits of their 64 bits.
_FLOATING = {
    *("temperature", "top_p", "min_p", "score"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
}
# What says something also when it is false.
_MAY_BE_FALSE = {
    *("parallel_tool_calls", "skip_special_tokens", "spaces_between_special_tokens"),
    *("add_generation_prompt", "add_special_tokens", "strict", "use_activation"),
}


def asked_beside(job: Mapping[str, Any]) -> bytes:
    """Returns what is asked beside the prompt by a job as the REST API shows it."""
    asked = _members({name: job[name] for name in ASKED if name in job})
    if job.get("messages"):
        asked["conversation"] = True
    elif job.get("prompt_token_ids"):
        asked["tokens"] = True
    return canonical(asked)


def answered_beside(job: Mapping[str, Any]) -> bytes:
    """Returns what the answer of such a job has beside its text."""
    answered = _members({name: job[name] for name in ANSWERED if name in job})
    answered |= {name: len(job[name]) for name in COUNTED if job.get(name)}
    return canonical(answered)


def canonical(value: Any) -> bytes:
    """Returns the bytes of RFC 8785, for ASCII names and no fractions: all that is signed here."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _members(value: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: _plain(name, item) for name, item in value.items() if _is_told(name, item)}
    return {name: item for name, item in made.items() if item != {}}


def _is_told(name: str, value: Any) -> bool:
    return value not in ("", [], {}) and (value is not False or name in _MAY_BE_FALSE)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    if name == "logit_bias":
        return {token: pack(">d", bias).hex() for token, bias in value.items()}
    if name == "vector":
        return pack(f">{len(value)}f", *value).hex()
    if isinstance(value, list):
        return [_plain(name, item) for item in value]
    if isinstance(value, dict):
        return _members(value)
    return pack(">d", value).hex() if name in _FLOATING else str(value)
