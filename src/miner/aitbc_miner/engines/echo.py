"""Answers with the prompt: for load tests, and to try a coordinator without any model."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from aitbc_miner.engines import echo_tasks
from aitbc_miner.engines.base import Answer, Chunk, EngineLoad, Job, Params, PromptDetails
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.engines.tasks import Made, ModelInfo, Task
from aitbc_miner.errors import BadRequest, Misconfigured

DEFAULT_SLOTS = 64
# Shortest pause between chunks: faster rates put more tokens into each.
_TICK_S = 0.01
_WORD = re.compile(r"\s*\S+")
_THOUGHT = "hm let me think"


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
    # Words that it thinks before it answers.
    reasoning: int = 0

    @classmethod
    def parse(cls, options: EngineOptions) -> EchoOptions:
        """Reads `tokens`, `tokens_per_second`, `latency`, `stamps` and `reasoning`."""
        parsed = cls(
            tokens=options.count("tokens"),
            tokens_per_second=options.number("tokens_per_second", minimum=0.001),
            latency_s=options.number("latency") or 0.0,
            stamps=options.choice("stamps", "false", "true") == "true",
            reasoning=options.count("reasoning") or 0,
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
        asked = {
            "response_format": job.form is not None,
            "tools": bool(job.tools),
            "logprobs": "logprobs" in job.params,
        }
        for name, is_asked in asked.items():
            if is_asked:
                raise BadRequest(f"{name}: an echo has none")
        answer = self._answer(job)
        if self._options.latency_s or self._options.tokens_per_second:
            return self._slowly(answer, len(job.resume.text) if job.resume else 0)
        if job.resume is not None:
            answer = replace(
                _rest(answer, len(job.resume.text)), tokens=answer.tokens - job.resume.tokens
            )
        return answer

    async def perform(self, job: Job) -> Made:
        """Does it at once."""
        return echo_tasks.perform(job)

    def describe(self, model: str) -> ModelInfo:
        """Does all that can be asked, of prompts of any length."""
        return ModelInfo(tasks=tuple(Task))

    def can_resume(self, job: Job) -> bool:
        """Can when the text is the beginning of the echo, and nothing was thought before it."""
        return (
            not (self._options.stamps or self._options.reasoning)
            and job.resume is not None
            and self._answer(job).text.startswith(job.resume.text)
        )

    def _answer(self, job: Job) -> Chunk:
        prompt = _prompt(job)
        prompt_tokens = len(prompt.split())
        wanted, thought = self._options.tokens or prompt_tokens, self._options.reasoning
        wanted = max(wanted, job.params.get("min_tokens", 0) - thought)
        most = job.params.get("max_tokens", thought + wanted)
        if job.params.get("ignore_eos"):
            wanted = max(wanted, most - thought)
        # Who may say little thinks all the same, as models do.
        thought = min(thought, most)
        tokens = min(wanted, most - thought)
        text, stop = _stopped(
            prompt if tokens == prompt_tokens else _words(prompt, tokens), job.params
        )
        if stop:
            wanted = tokens = len(text.split())
        return Chunk(
            text=text,
            reasoning=_words(_THOUGHT, thought),
            tokens=thought + tokens,
            finish_reason="stop" if tokens == wanted else "length",
            prompt_tokens=prompt_tokens,
            reasoning_tokens=thought or None,
            token_ids=_ids(job, tokens),
            prompt_details=_details(job, prompt),
            stop_string=stop,
        )

    async def _slowly(self, answer: Chunk, position: int) -> AsyncGenerator[Chunk, None]:
        """Yields the answer after some characters at the rate asked for."""
        await asyncio.sleep(self._options.latency_s)
        rate = self._options.tokens_per_second
        if rate is None:
            yield _rest(answer, position)
            return
        async for words, count in _paced(answer.reasoning, 0, rate):
            yield Chunk(reasoning=words, tokens=count)
        ids = answer.token_ids
        async for words, count in _paced(answer.text, position, rate):
            position += len(words)
            text = words
            if self._options.stamps:
                text = f"{time.monotonic() * 1000:.0f} " * count
            yield Chunk(text=text, tokens=count, token_ids=ids[:count])
            ids = ids[count:]
        yield replace(_rest(answer, position), reasoning="", tokens=0, token_ids=ids)

    def load(self) -> EngineLoad:
        """Knows nothing that the agent does not."""
        return EngineLoad()

    async def close(self) -> None:
        """Has nothing to free."""


async def _paced(text: str, position: int, rate: float) -> AsyncGenerator[tuple[str, int], None]:
    """Yields the words after some characters when they are due, and how many they are."""
    clock = asyncio.get_running_loop().time
    ends = [word.end() for word in _WORD.finditer(text) if word.end() > position]
    begin, said = clock(), 0
    while said < len(ends):
        await asyncio.sleep(max(_TICK_S, begin + (said + 1) / rate - clock()))
        due = min(len(ends), int((clock() - begin) * rate))
        if due > said:
            yield text[position : ends[due - 1]], due - said
            said, position = due, ends[due - 1]


def _prompt(job: Job) -> str:
    if job.prompt_token_ids:
        return " ".join(map(str, job.prompt_token_ids))
    return job.prompt if job.prompt is not None else job.messages[-1]["content"]


def _stopped(text: str, params: Params) -> tuple[str, str]:
    """Returns the text up to the first of the strings that end an answer, and that string."""
    ends = [(text.find(stop), stop) for stop in params.get("stop", ()) if stop in text]
    if not ends:
        return text, ""
    place, stop = min(ends)
    kept = len(stop) if params.get("include_stop_str_in_output") else 0
    return text[: place + kept], stop


def _ids(job: Job, count: int) -> tuple[int, ...]:
    """Returns the tokens of the answer, where the prompt had some."""
    if not job.params.get("return_token_ids"):
        return ()
    return tuple(itertools.islice(itertools.cycle(job.prompt_token_ids), count))


def _details(job: Job, prompt: str) -> PromptDetails | None:
    if not job.wants_details:
        return None
    return PromptDetails(text=prompt, token_ids=job.prompt_token_ids)


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
