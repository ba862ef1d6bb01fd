"""Answers with the prompt: for load tests, and to try a coordinator without any model."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from aitbc_miner.engines.base import Answer, Chunk, EngineLoad, Job
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.errors import BadRequest, Misconfigured

DEFAULT_SLOTS = 64
# Shortest pause between chunks: faster rates put more tokens into each.
_TICK_S = 0.01
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoOptions:
    """How the echo sounds."""

    # Words to answer with, repeating or cutting the prompt. None: the prompt as it is.
    tokens: int | None = None
    # None: all at once.
    tokens_per_second: float | None = None
    # Time before the first token.
    latency_s: float = 0.0
    # Whether each word is the time when it was said, in milliseconds of the monotonic clock: so can
    # a reader on the same machine tell how late it is.
    stamps: bool = False

    @classmethod
    def parse(cls, options: EngineOptions) -> EchoOptions:
        """Reads `tokens`, `tokens_per_second`, `latency` and `stamps`."""
        parsed = cls(
            tokens=options.count("tokens"),
            tokens_per_second=options.number("tokens_per_second", minimum=0.001),
            latency_s=options.number("latency") or 0.0,
            stamps=options.choice("stamps", "false", "true") == "true",
        )
        options.finish()
        if parsed.stamps and parsed.tokens_per_second is None:
            raise Misconfigured("--engine-opt stamps=true: goes with tokens_per_second")
        return parsed


class EchoEngine:
    """Counts a word as a token."""

    def __init__(
        self, models: tuple[str, ...], slots: int | None = None, options: EchoOptions | None = None
    ) -> None:
        self.models = models
        self.slots = slots or DEFAULT_SLOTS
        self._options = options or EchoOptions()

    async def start(self) -> None:
        """Has nothing to load."""

    def generate(self, job: Job) -> Answer:
        """Answers at once, unless a rate or a latency is set."""
        if job.json_schema is not None or job.tools or "logprobs" in job.params:
            raise BadRequest("an echo has no response_format, tools or logprobs")
        answer = self._answer(job)
        if self._options.latency_s or self._options.tokens_per_second:
            return self._slowly(answer, len(job.resume.text) if job.resume else 0)
        if job.resume is not None:
            answer = replace(
                _rest(answer, len(job.resume.text)), tokens=answer.tokens - job.resume.tokens
            )
        return answer

    def can_resume(self, job: Job) -> bool:
        """Can when the text is the beginning of the echo."""
        return (
            not self._options.stamps
            and job.resume is not None
            and self._answer(job).text.startswith(job.resume.text)
        )

    def _answer(self, job: Job) -> Chunk:
        prompt = job.prompt if job.prompt is not None else job.messages[-1]["content"]
        prompt_tokens = len(prompt.split())
        wanted = self._options.tokens or prompt_tokens
        tokens = min(wanted, job.params.get("max_tokens", wanted))
        return Chunk(
            text=prompt if tokens == prompt_tokens else _words(prompt, tokens),
            tokens=tokens,
            finish_reason="stop" if tokens == wanted else "length",
            prompt_tokens=prompt_tokens,
        )

    async def _slowly(self, answer: Chunk, position: int) -> AsyncGenerator[Chunk, None]:
        """Yields the answer after some characters at the rate asked for."""
        await asyncio.sleep(self._options.latency_s)
        rate = self._options.tokens_per_second
        if rate is None:
            yield _rest(answer, position)
            return
        clock = asyncio.get_running_loop().time
        ends = [word.end() for word in _WORD.finditer(answer.text) if word.end() > position]
        begin, said = clock(), 0
        while said < len(ends):
            await asyncio.sleep(max(_TICK_S, begin + (said + 1) / rate - clock()))
            due = min(len(ends), int((clock() - begin) * rate))
            if due > said:
                text = answer.text[position : ends[due - 1]]
                if self._options.stamps:
                    text = f"{time.monotonic() * 1000:.0f} " * (due - said)
                yield Chunk(text=text, tokens=due - said)
                said, position = due, ends[due - 1]
        yield replace(_rest(answer, position), tokens=0)

    def load(self) -> EngineLoad:
        """Knows nothing that the agent does not."""
        return EngineLoad()

    async def close(self) -> None:
        """Has nothing to free."""


def _rest(answer: Chunk, position: int) -> Chunk:
    return replace(answer, text=answer.text[position:])


def _words(text: str, count: int) -> str:
    """Returns exactly this many words of the text, going round it as often as needed."""
    words = _WORD.findall(text) or [" echo"]
    rounds, rest = divmod(count, len(words))
    first_gap = "" if words[0][0].isspace() else " "
    once = "".join(words)
    parts = [once] * rounds + (["".join(words[:rest])] if rest else [])
    return first_gap.join(parts)
