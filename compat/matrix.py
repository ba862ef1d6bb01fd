"""One request for each parameter, in every spelling that clients send: both servers answer it.

matrix.jsonl has the requests. A row with a `reason` may differ, and the reason is published; why
statuses differ is said in the table of parameters.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from scripts.vllm_serve import MODEL

from aitbc_server.openai.parameters import differences

_ROWS = Path(__file__).parent / "matrix.jsonl"
_QUESTION = "What is the capital of Japan?"
_PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
}
_COMMON = {"model": MODEL, "temperature": 0, "max_tokens": 8, "seed": 7}
_BASES: dict[str, dict[str, Any]] = {
    "chat": {**_COMMON, "messages": [{"role": "user", "content": _QUESTION}]},
    "completions": {**_COMMON, "prompt": "The capital of Japan is"},
    "responses": {"model": MODEL, "temperature": 0, "max_output_tokens": 8, "input": _QUESTION},
}
_TIMEOUT_S = 120
# Why statuses differ, from the table of parameters.
_REASONS = {one.request: one.why for one in differences()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A request, and what the two servers answered."""

    name: str
    # Statuses: here, and of `vllm serve`.
    ours: int
    theirs: int
    # What was said; None where it was no success.
    our_text: str | None
    their_text: str | None
    # Why they may differ.
    reason: str
    # What was complained of, here and there, where it was.
    error: str

    @property
    def is_same(self) -> bool:
        """Whether the statuses are alike and, of successes, what was said."""
        return self.ours == self.theirs and self.our_text == self.their_text

    @property
    def is_unexplained(self) -> bool:
        """Whether they differ, and nobody says why."""
        return not self.is_same and not self.reason


def compare(ours: str, theirs: str) -> list[Row]:
    """Asks both servers, at these base URLs, for every row."""
    return asyncio.run(_compare(ours, theirs))


async def _compare(ours: str, theirs: str) -> list[Row]:
    rows = []
    async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
        for line in _ROWS.read_text().splitlines():
            row = json.loads(line)
            operation = row["operation"]
            # A null takes a parameter of the base away.
            asked = {**_BASES[operation], **row["body"]}
            body = {key: value for key, value in asked.items() if value is not None}
            ours_told, theirs_told = await asyncio.gather(
                *(_ask(client, base + _PATHS[operation], body) for base in (ours, theirs))
            )
            rows.append(
                Row(
                    name=f"{operation}: {row['name']}",
                    ours=ours_told[0],
                    theirs=theirs_told[0],
                    our_text=ours_told[1],
                    their_text=theirs_told[1],
                    reason=row.get("reason") or _REASONS.get(f"{operation}: {row['name']}", ""),
                    error=" / ".join(filter(None, (ours_told[2], theirs_told[2]))),
                )
            )
    return rows


async def _ask(
    client: httpx.AsyncClient, url: str, body: dict[str, Any]
) -> tuple[int, str | None, str]:
    answer = await client.post(url, json=body)
    if answer.is_success:
        return answer.status_code, said(answer.json()), ""
    return answer.status_code, None, answer.text[:300]


def said(answer: dict[str, Any]) -> str:
    """Returns what the same seed makes the same: texts, calls, tokens, and the prompt's length.

    A prompt that differs shows in its length before it shows in an answer of a few tokens.
    """
    usage = answer.get("usage") or {}
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    return f"{_answered(answer)} after {prompt} tokens"


def _answered(answer: dict[str, Any]) -> str:
    if "choices" in answer:
        return json.dumps([_choice(choice) for choice in answer["choices"]], sort_keys=True)
    items = [
        item.get("content") or f"{item.get('name')} {item.get('arguments')}"
        for item in answer["output"]
    ]
    return json.dumps(
        [[part.get("text") for part in item] if isinstance(item, list) else item for item in items]
    )


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message", {})
    logprobs = choice.get("logprobs") or {}
    return {
        "finish_reason": choice["finish_reason"],
        "text": choice.get("text", message.get("content")),
        "calls": [call["function"] for call in message.get("tool_calls") or ()],
        "tokens": logprobs.get("tokens") or [one["token"] for one in logprobs.get("content") or ()],
    }
