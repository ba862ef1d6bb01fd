"""Asks a server that speaks the OpenAI API for what is no answer: vectors, scores and tokens.

OpenAI's API has vectors. Scores and rankings are vLLM's, Jina's and Cohere's, and tokens, beside
`/v1`, vLLM's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.border import tokens_in
from aitbc_miner.engines.openai_faults import MOST_BODY_BYTES, refusal, unreachable
from aitbc_miner.engines.openai_requests import options_of, turn_of
from aitbc_miner.engines.tasks import Input, Made, Output, Task
from aitbc_miner.errors import BadRequest, EngineAnswerInvalid, EngineError, Misconfigured

# Of a server that nobody says more of.
DEFAULT_TASKS = (Task.GENERATE, Task.TOKENIZE, Task.DETOKENIZE)
# What a server says that has no such path.
_ABSENT_STATUS = {404, 405, 501}


def parse_tasks(text: str | None) -> tuple[Task, ...]:
    """Reads the option that says what a server does. Raises Misconfigured."""
    if text is None:
        return DEFAULT_TASKS
    known = {task.value: task for task in Task}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise Misconfigured(
                f"--engine-opt tasks={text}: {name!r} is none of {', '.join(known)}"
            )
    return tuple(task for name, task in known.items() if name in names)


class _Absent(BadRequest):
    """The server has no such path."""


class OpenAITasks:
    """Asks one server, with its own names of the models."""

    def __init__(self, client: httpx.AsyncClient, base_url: str) -> None:
        self._client = client
        self._base_url = base_url
        self._root = base_url.removesuffix("/v1")
        # Whether the server scores pairs, as far as is known: else it may order documents.
        self._has_scores = True

    async def perform(self, job: Job, model: str) -> Made:
        """Does what the job asks. Raises an EngineError."""
        does: dict[Task, Callable[[Job, str], Awaitable[Made]]] = {
            Task.EMBED: self._embed,
            Task.SCORE: self._score,
            Task.TOKENIZE: self._tokenize,
            Task.DETOKENIZE: self._detokenize,
        }
        try:
            return await does[job.task](job, model)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(error) from error

    async def _embed(self, job: Job, model: str) -> Made:
        if job.messages:
            given: Any = [turn_of(turn, None) for turn in job.messages]
            (vector,), count = await self._vectors(job, model, {"messages": given}, 1)
            return _made([Output(vector=vector)], [count], job)
        outputs: dict[int, Output] = {}
        counts = []
        # A request has either texts or tokens.
        for has_tokens in (False, True):
            chosen = {
                place: one
                for place, one in enumerate(job.inputs)
                if bool(one.token_ids) == has_tokens
            }
            if not chosen:
                continue
            given = [list(one.token_ids) if has_tokens else one.text for one in chosen.values()]
            vectors, count = await self._vectors(job, model, {"input": given}, len(given))
            outputs |= {
                place: Output(vector=one) for place, one in zip(chosen, vectors, strict=True)
            }
            counts.append(count)
        return _made([outputs[place] for place in sorted(outputs)], counts, job)

    async def _vectors(
        self, job: Job, model: str, given: dict[str, Any], count: int
    ) -> tuple[list[Any], int | None]:
        """Returns so many vectors, and the tokens read where the server counts them."""
        body = {"model": model, **given, "encoding_format": "float", **_pooling_of(job)}
        if job.dimensions is not None:
            body["dimensions"] = job.dimensions
        told = await self._post(f"{self._base_url}/embeddings", body)
        return _in_order(told.get("data"), "embedding", count), _counted(told)

    async def _score(self, job: Job, model: str) -> Made:
        if self._has_scores:
            try:
                return await self._score_pairs(job, model)
            except _Absent:
                made = await self._rank(job, model)
                self._has_scores = False
                return made
        return await self._rank(job, model)

    async def _score_pairs(self, job: Job, model: str) -> Made:
        body = {
            "model": model,
            **_pooling_of(job),
            "text_1": [one.text for one in job.inputs],
            "text_2": [one.text_pair for one in job.inputs],
        }
        told = await self._post(f"{self._base_url}/score", body)
        scores = _in_order(told.get("data"), "score", len(job.inputs))
        return _made([Output(score=score) for score in scores], [_counted(told)], job)

    async def _rank(self, job: Job, model: str) -> Made:
        outputs, counts = [], []
        for query, documents in _by_query(job.inputs):
            body = {"model": model, "query": query, "documents": documents, **_pooling_of(job)}
            body["top_n"] = len(documents)
            told = await self._post(f"{self._base_url}/rerank", body)
            scores = _in_order(told.get("results"), "relevance_score", len(documents))
            outputs += [Output(score=score) for score in scores]
            counts.append(_counted(told))
        return _made(outputs, counts, job)

    async def _tokenize(self, job: Job, model: str) -> Made:
        if job.messages:
            turns = [turn_of(turn, None) for turn in job.messages]
            return Made(outputs=[await self._tokens_of(job, {"messages": turns}, model)])
        prompts = [{"prompt": one.text} for one in job.inputs]
        return Made(outputs=[await self._tokens_of(job, prompt, model) for prompt in prompts])

    async def _tokens_of(self, job: Job, asked: dict[str, Any], model: str) -> Output:
        body = {"model": model, **asked, **options_of(job)}
        if has_texts := job.params.get("return_token_ids", False):
            body["return_token_strs"] = True
        if job.tools:
            body["tools"] = [tool.as_openai() for tool in job.tools]
        told = await self._post(f"{self._root}/tokenize", body)
        tokens, texts = told.get("tokens"), told.get("token_strs")
        if not isinstance(tokens, list) or not (texts is None or isinstance(texts, list)):
            raise EngineAnswerInvalid("the server told tokens that are no list")
        return Output(token_ids=tokens, tokens=texts or () if has_texts else ())

    async def _detokenize(self, job: Job, model: str) -> Made:
        outputs = []
        for one in job.inputs:
            body = {"model": model, "tokens": list(one.token_ids)}
            told = await self._post(f"{self._root}/detokenize", body)
            outputs.append(Output(text=told.get("prompt", "")))
        return Made(outputs=outputs)

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """Returns what the server answers. Raises an EngineError."""
        response = await self._client.post(url, json=body)
        if not response.is_success:
            raise _refusal(response)
        try:
            answer = response.json()
        except ValueError as error:
            raise EngineAnswerInvalid("the server answered what is no JSON") from error
        if not isinstance(answer, dict):
            raise EngineAnswerInvalid("the server answered what is no object")
        return answer


def _pooling_of(job: Job) -> dict[str, Any]:
    activation = {} if job.use_activation is None else {"use_activation": job.use_activation}
    return {**options_of(job), **activation}


def _refusal(response: httpx.Response) -> EngineError:
    told = response.content[:MOST_BODY_BYTES]
    # A server says so too of a model that it does not have, and names it.
    if response.status_code in _ABSENT_STATUS and b"model" not in told:
        path = response.request.url.path
        return _Absent(
            f"the OpenAI-compatible server has no {path}: it answered {response.status_code}"
        )
    return refusal(response.status_code, response.headers, told)


def _by_query(pairs: Sequence[Input]) -> Iterator[tuple[str, list[str]]]:
    """Yields each query with the documents that follow each other with it."""
    begin = 0
    for end in range(1, len(pairs) + 1):
        if end == len(pairs) or pairs[end].text != pairs[begin].text:
            yield pairs[begin].text, [one.text_pair for one in pairs[begin:end]]
            begin = end


def _in_order(told: object, name: str, count: int) -> list[Any]:
    """Returns what a server tells of each input, in the order of the inputs."""
    values: dict[int, Any] = {}
    for place, one in enumerate(told if isinstance(told, list) else ()):
        index = one.get("index", place) if isinstance(one, dict) else None
        if not isinstance(index, int):
            raise EngineAnswerInvalid(f"the server told an {name} that is no object of an input")
        values[index] = one.get(name)
    if values.keys() != set(range(count)):
        raise EngineAnswerInvalid(f"the server told the {name} of other inputs than were given")
    return [values[place] for place in range(count)]


def _counted(told: dict[str, Any]) -> int | None:
    """Returns how many tokens a server read; None where it does not count."""
    usage = told.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    count = usage.get("prompt_tokens", usage.get("total_tokens"))
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None


def _made(outputs: Sequence[Output], counts: Sequence[int | None], job: Job) -> Made:
    if None not in counts:
        return Made(outputs=outputs, prompt_tokens=sum(count or 0 for count in counts))
    texts = sum(tokens_in(one.text) + tokens_in(one.text_pair) for one in job.inputs)
    tokens = sum(len(one.token_ids) for one in job.inputs)
    return Made(outputs=outputs, prompt_tokens=texts + tokens, is_estimated=True)
