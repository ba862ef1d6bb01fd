"""Drives any server that speaks the OpenAI API: vllm serve, Ollama, llama.cpp and others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from aitbc_miner.engines.base import Chunk, EngineLoad, Job
from aitbc_miner.engines.openai_answers import AnswerReader
from aitbc_miner.engines.openai_details import lengths_of
from aitbc_miner.engines.openai_faults import MOST_BODY_BYTES, may_refuse, refusal, unreachable
from aitbc_miner.engines.openai_requests import CACHE_SALT, body_of, hints_of
from aitbc_miner.engines.openai_tasks import DEFAULT_TASKS, OpenAITasks, parse_tasks
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.engines.resuming import is_resumable
from aitbc_miner.engines.tasks import Made, ModelInfo, Task
from aitbc_miner.errors import BadRequest, EngineUnusable, Misconfigured

DEFAULT_SLOTS = 8
_CONNECT_TIMEOUT_S = 10.0
_DEFAULT_SILENCE_S = 300.0
_CHAT, _COMPLETIONS = "chat", "completions"
# How long an answer that is whole waits for the usage.
_USAGE_S = 5.0
# How long the start waits for what the server says of its models.
_MODELS_S = 2.0
_JSON = {"content-type": "application/json"}
# What no server refuses as unknown.
_NEEDED = {"model", "messages", "prompt", "stream"}
# Success that has nothing to say.
_EMPTY_STATUS = {204, 205}
# How a server refuses a field that it does not know.
_REFUSED_STATUS = {400, 422, 501}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIOptions:
    """Where the server is and how to ask it."""

    base_url: str
    api_key: str | None = None
    # `completions` sends a prompt raw; conversations go to the chat endpoint in any case.
    endpoint: str = _CHAT
    # Whether the chat endpoint goes on with a last message of the assistant, as vLLM and SGLang do
    # when `continue_final_message` says so.
    continues: bool = False
    # Whether it is sent `cache_salt`, which vLLM takes, and others refuse or pass over.
    is_salted: bool = False
    # What it does.
    tasks: tuple[Task, ...] = DEFAULT_TASKS
    # Longest silence of the server within an answer.
    timeout_s: float = _DEFAULT_SILENCE_S

    @classmethod
    def parse(cls, options: EngineOptions) -> OpenAIOptions:
        """Reads the options of this engine, and refuses others."""
        base_url = options.text("base_url")
        if base_url is None or not base_url.startswith(("http://", "https://")):
            raise Misconfigured(
                "--engine-opt base_url: give the server's URL, such as"
                " base_url=http://127.0.0.1:8000/v1"
            )
        parsed = cls(
            base_url=base_url.rstrip("/"),
            api_key=_key(options),
            endpoint=options.choice("endpoint", _CHAT, _COMPLETIONS),
            continues=options.choice("continues", "false", "true") == "true",
            is_salted=options.choice("cache_salt", "true", "false") == "true",
            tasks=parse_tasks(options.text("tasks")),
            timeout_s=options.number("timeout", minimum=0.001) or _DEFAULT_SILENCE_S,
        )
        options.finish()
        return parsed


class OpenAIEngine:
    """Forwards each job as one streaming request."""

    def __init__(
        self, sources: Mapping[str, str], slots: int | None, options: OpenAIOptions
    ) -> None:
        self.models = tuple(sources)
        self.slots = slots or DEFAULT_SLOTS
        # The server's own name of each model.
        self._sources = dict(sources)
        self._options = options
        # Hints that the server refuses as unknown, as far as it ever did.
        self._unknown: set[str] = set()
        # What the server calls the reasoning, as far as it ever told one.
        self._reasoning_word: str | None = None
        # Tokens that each of the server's models takes, as far as it said.
        self._lengths: dict[str, int] = {}
        key = options.api_key
        # What no client is told, in a server's own words either.
        where = options.base_url.partition("://")[2].partition("/")[0]
        self._private = [text for text in (key, options.base_url, where) if text]
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(options.timeout_s, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=self.slots),
            event_hooks={"response": [_stay]},
        )
        self._tasks = OpenAITasks(self._client, options.base_url)

    async def start(self) -> None:
        """Asks what the server's models take, if it is there: it may start later than the miner."""
        url = f"{self._options.base_url}/models"
        with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            async with asyncio.timeout(_MODELS_S), self._client.stream("GET", url) as response:
                if response.is_success:
                    self._lengths = lengths_of(await _read_some(response))

    async def generate(self, job: Job) -> AsyncGenerator[Chunk, None]:
        """Streams the answer. Closing the iterator closes the request."""
        try:
            async with contextlib.AsyncExitStack() as requests:
                response = await self._ask(job, requests)
                reader = AnswerReader(job)
                async with contextlib.aclosing(_pieces(reader, response)) as pieces:
                    async for piece in pieces:
                        for chunk in reader.feed(piece):
                            yield _said(chunk, job)
                self._reasoning_word = reader.reasoning_word or self._reasoning_word
                for chunk in reader.end():
                    yield _said(chunk, job)
        except BadRequest as error:
            raise self._discreet(error) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(error) from error

    def _discreet(self, error: BadRequest) -> BadRequest:
        """Returns an error that its client may read."""
        text = str(error)
        for private in self._private:
            text = text.replace(private, "...")
        return type(error)(text, reason=error.reason)

    async def _ask(self, job: Job, requests: contextlib.AsyncExitStack) -> httpx.Response:
        """Returns an answer that has begun. Raises an EngineError for a refusal."""
        url, body = self._request(job)
        response = await self._post(url, body, requests)
        left_out: set[str] = set()
        while not _is_answer(response):
            told = await _read_some(response)
            hints = (
                _refused_hints(job, body, told)
                if response.status_code in _REFUSED_STATUS
                else set()
            )
            if not hints:
                raise refusal(response.status_code, response.headers, told)
            # Without `stream_options`, for one, a server tells no usage.
            body = {name: value for name, value in body.items() if name not in hints}
            left_out |= hints
            response = await self._post(url, body, requests)
        self._unknown |= left_out
        return response

    async def _post(
        self, url: str, body: dict[str, Any], requests: contextlib.AsyncExitStack
    ) -> httpx.Response:
        try:
            # In ASCII, so that any text can be sent.
            content = json.dumps(body, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise BadRequest("the job cannot be written as JSON") from error
        asking = self._client.stream("POST", url, content=content, headers=_JSON)
        return await requests.enter_async_context(asking)

    def _request(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Returns the URL and the body; parameters beyond OpenAI's own travel beside them."""
        is_raw = self._is_raw(job)
        body = body_of(
            job, self._sources[job.model], is_raw=is_raw, reasoning_word=self._reasoning_word
        )
        if self._options.is_salted and job.cache_salt:
            body[CACHE_SALT] = job.cache_salt
        for hint in self._unknown & hints_of(job).keys():
            body.pop(hint, None)
        path = "completions" if is_raw else "chat/completions"
        return f"{self._options.base_url}/{path}", body

    async def perform(self, job: Job) -> Made:
        """Asks the server what is no answer of a model."""
        return await self._tasks.perform(job, self._sources[job.model])

    def describe(self, model: str) -> ModelInfo:
        """Says what the options say, and how much the server said that the model takes."""
        length = self._lengths.get(self._sources[model])
        return ModelInfo(tasks=self._options.tasks, max_model_len=length)

    def can_resume(self, job: Job) -> bool:
        """Can where the server takes a prompt raw, or says that it goes on with a last message."""
        if not is_resumable(job) or "logprobs" in job.params or job.tools:
            return False
        if job.prompt_token_ids or job.options.continue_final_message:
            return False
        return self._is_raw(job) or self._options.continues

    def _is_raw(self, job: Job) -> bool:
        if job.prompt_token_ids:
            return True
        return not job.messages and (job.is_raw or self._options.endpoint == _COMPLETIONS)

    def load(self) -> EngineLoad:
        """Knows nothing that the agent does not."""
        return EngineLoad()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def _key(options: EngineOptions) -> str | None:
    """Returns the server's key, which others see on a command line and not in a file."""
    key, file = options.text("api_key"), options.text("api_key_file")
    if file is None:
        return key
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"--engine-opt api_key_file={file}: cannot read it: {error}") from error


def _refused_hints(job: Job, body: Mapping[str, Any], told: bytes) -> set[str]:
    """Returns those of a body that a refusal may be about."""
    others = body.keys() - _NEEDED
    return {
        hint
        for hint, names in hints_of(job).items()
        if hint in body and may_refuse(names, others - {hint}, told)
    }


async def _stay(response: httpx.Response) -> None:
    """Forgets where a server sends the miner: nobody goes there, and it may be no address."""
    response.headers.pop("location", None)


def _is_answer(response: httpx.Response) -> bool:
    """Raises EngineUnusable for a page: the address is not that of an API."""
    if not response.is_success or response.status_code in _EMPTY_STATUS:
        return False
    if response.headers.get("content-type", "").startswith("text/html"):
        raise EngineUnusable(
            "the OpenAI-compatible server answers with a page: correct --engine-opt base_url"
        )
    return True


async def _pieces(reader: AnswerReader, response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yields what comes until the server has said all.

    What comes after a whole answer, such as its usage, is waited for but a while, and a failure
    there is no loss.
    """
    pieces = response.aiter_bytes()
    async for piece in pieces:
        yield piece
        if reader.is_finished or reader.is_done:
            break
    loop, said, ends_at = asyncio.get_running_loop(), -1, 0.0
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        while not reader.is_done:
            if said != reader.pieces_said:  # it was not whole yet
                said, ends_at = reader.pieces_said, loop.time() + _USAGE_S
            async with asyncio.timeout_at(ends_at):
                piece = await anext(pieces, b"")
            if not piece:
                return
            yield piece


async def _read_some(response: httpx.Response) -> bytes:
    """Returns the beginning of a refusal, or of what of it came."""
    told = b""
    with contextlib.suppress(httpx.HTTPError):
        async for piece in response.aiter_bytes():
            told += piece
            if len(told) >= MOST_BODY_BYTES:
                break
        # Its connection is free for what is asked next.
        await response.aclose()
    return told[:MOST_BODY_BYTES]


def _said(chunk: Chunk, job: Job) -> Chunk:
    """Returns the chunk as a part of the answer that the job asks for."""
    if job.params.get("max_tokens") == 0:
        return chunk.without_answer()
    resumed = job.resume.tokens if job.resume else 0
    if resumed and chunk.prompt_tokens is not None:
        chunk = replace(chunk, prompt_tokens=max(0, chunk.prompt_tokens - resumed))
    if resumed and chunk.completion_tokens is not None:
        chunk = replace(chunk, completion_tokens=chunk.completion_tokens + resumed)
    return chunk
