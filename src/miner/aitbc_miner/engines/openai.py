"""Drives any server that speaks the OpenAI API: vllm serve, Ollama, llama.cpp and others."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from aitbc_miner.engines.base import Chunk, EngineLoad, Job, Logprob, ToolCallPart
from aitbc_miner.engines.options import EngineOptions
from aitbc_miner.engines.tools import AUTO, NONE, REQUIRED, CallFeed
from aitbc_miner.errors import BadRequest, EngineBusy, EngineError, EngineFailed, Misconfigured

DEFAULT_SLOTS = 8
_CONNECT_TIMEOUT_S = 10.0
_DEFAULT_SILENCE_S = 300.0
_CHAT, _COMPLETIONS = "chat", "completions"
# Client errors that say "not now" rather than "never".
_TRANSIENT_STATUS = {408, 425, 429}
_DATA = "data:"


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
    # Longest silence of the server within an answer.
    timeout_s: float = _DEFAULT_SILENCE_S

    @classmethod
    def parse(cls, options: EngineOptions) -> OpenAIOptions:
        """Reads `base_url`, `api_key`, `endpoint`, `continues` and `timeout`."""
        base_url = options.text("base_url")
        if base_url is None or not base_url.startswith(("http://", "https://")):
            raise Misconfigured(
                "--engine-opt base_url: give the server's URL, such as"
                " base_url=http://127.0.0.1:8000/v1"
            )
        parsed = cls(
            base_url=base_url.rstrip("/"),
            api_key=options.text("api_key"),
            endpoint=options.choice("endpoint", _CHAT, _COMPLETIONS),
            continues=options.choice("continues", "false", "true") == "true",
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
        key = options.api_key
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(options.timeout_s, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=self.slots),
        )

    async def start(self) -> None:
        """Needs nothing: the server may start later than the miner."""

    async def generate(self, job: Job) -> AsyncGenerator[Chunk, None]:
        """Streams the answer. Closing the iterator closes the request."""
        url, body = self._request(job)
        try:
            async with self._client.stream("POST", url, json=body) as response:
                if response.status_code >= httpx.codes.BAD_REQUEST:
                    raise _refusal(response.status_code)
                async for chunk in _chunks(response.aiter_lines(), is_parallel=job.is_parallel):
                    yield chunk if job.resume is None else _counted(chunk, job.resume.tokens)
        except httpx.TransportError as error:
            raise EngineFailed(
                f"the OpenAI-compatible server did not answer: {type(error).__name__}"
            ) from error

    def _request(self, job: Job) -> tuple[str, dict[str, Any]]:
        """Returns the URL and the body; parameters beyond OpenAI's own travel beside them."""
        body: dict[str, Any] = {
            "model": self._sources[job.model],
            "stream": True,
            "stream_options": {"include_usage": True},
            **_asked(job),
        }
        said = job.resume.text if job.resume else ""
        if job.resume and "max_tokens" in job.params:
            body["max_tokens"] = max(1, job.params["max_tokens"] - job.resume.tokens)
        if self._is_raw(job):
            if "logprobs" in job.params:
                body["logprobs"] = job.params["logprobs"]
                del body["top_logprobs"]
            return f"{self._options.base_url}/completions", body | {"prompt": f"{job.prompt}{said}"}
        body["messages"] = list(job.messages) or [{"role": "user", "content": job.prompt}]
        if said:
            body["messages"].append({"role": "assistant", "content": said})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return f"{self._options.base_url}/chat/completions", body

    def can_resume(self, job: Job) -> bool:
        """Can where the server takes a prompt raw, or says that it goes on with a last message."""
        is_free = job.json_schema is None and not job.tools and "logprobs" not in job.params
        return is_free and (self._is_raw(job) or self._options.continues)

    def _is_raw(self, job: Job) -> bool:
        return not job.messages and (job.is_raw or self._options.endpoint == _COMPLETIONS)

    def load(self) -> EngineLoad:
        """Knows nothing that the agent does not."""
        return EngineLoad()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def _asked(job: Job) -> dict[str, Any]:
    """Returns what the job asks for beside its text, in OpenAI's words."""
    asked: dict[str, Any] = dict(job.params)
    if "logprobs" in job.params:
        asked |= {"logprobs": True, "top_logprobs": job.params["logprobs"]}
    if job.json_schema is not None:
        schema = {"name": "answer", "schema": job.json_schema}
        asked["response_format"] = (
            {"type": "json_schema", "json_schema": schema}
            if job.json_schema
            else {"type": "json_object"}
        )
    if job.tools:
        asked["tools"] = [tool.as_openai() for tool in job.tools]
        is_mode = job.tool_choice in (AUTO, NONE, REQUIRED)
        named = {"type": "function", "function": {"name": job.tool_choice}}
        asked["tool_choice"] = job.tool_choice if is_mode else named
        if not job.is_parallel:
            asked["parallel_tool_calls"] = False
    return asked


def _refusal(status: int) -> EngineError:
    if status in _TRANSIENT_STATUS:
        return EngineBusy(f"the OpenAI-compatible server answered {status}")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return EngineFailed(f"the OpenAI-compatible server answered {status}")
    # The body may quote the prompt: only the status is told.
    return BadRequest(f"the OpenAI-compatible server refused the job with {status}")


async def _chunks(lines: AsyncIterator[str], *, is_parallel: bool) -> AsyncIterator[Chunk]:
    """Turns server-sent events into chunks; the last one waits for the usage, which comes late."""
    finish_reason: str | None = None
    usage: dict[str, Any] = {}
    calls = CallFeed(is_parallel=is_parallel)
    async for line in lines:
        if not line.startswith(_DATA):
            continue
        data = line.removeprefix(_DATA).strip()
        if data == "[DONE]":
            break
        event = _event(data)
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text = delta.get("content") or choice.get("text") or ""
            parts = tuple(_parts(calls, delta.get("tool_calls") or ()))
            finish_reason = choice.get("finish_reason") or finish_reason
            logprobs = _logprobs(choice.get("logprobs") or {})
            if text or parts or logprobs:
                # A server sends about a token at a time; the usage corrects the sum.
                yield Chunk(text=text, tokens=1, tool_calls=parts, logprobs=logprobs)
    if finish_reason is None:
        raise EngineFailed("the OpenAI-compatible server ended the answer before its end")
    ending = "tool_calls" if calls.has_calls else "stop"
    yield Chunk(
        finish_reason="length" if finish_reason == "length" else ending,
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
    )


def _parts(calls: CallFeed, told: Iterable[dict[str, Any]]) -> Iterator[ToolCallPart]:
    for part in told:
        function = part.get("function") or {}
        yield from calls.take(
            part.get("index"), part.get("id"), function.get("name"), function.get("arguments")
        )


def _logprobs(told: dict[str, Any]) -> tuple[Logprob, ...]:
    if "tokens" in told:  # as the completions endpoint tells them
        tops = told.get("top_logprobs") or [{}] * len(told["tokens"])
        return tuple(
            Logprob(token, logprob, tuple(Logprob(*item) for item in (top or {}).items()))
            for token, logprob, top in zip(
                told["tokens"], told["token_logprobs"], tops, strict=True
            )
        )
    return tuple(
        Logprob(
            one["token"],
            one["logprob"],
            tuple(Logprob(top["token"], top["logprob"]) for top in one.get("top_logprobs") or ()),
        )
        for one in told.get("content") or ()
    )


def _counted(chunk: Chunk, resumed: int) -> Chunk:
    """Returns the chunk with tokens counted as if the answer had not been resumed."""
    if chunk.prompt_tokens is not None:
        chunk = replace(chunk, prompt_tokens=max(0, chunk.prompt_tokens - resumed))
    if chunk.completion_tokens is not None:
        chunk = replace(chunk, completion_tokens=chunk.completion_tokens + resumed)
    return chunk


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict) or "error" in event:
        raise EngineFailed("the OpenAI-compatible server failed within the answer")
    return event
