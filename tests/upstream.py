"""A scripted server that speaks the OpenAI API, well or in one of the ways in which servers do not.

What it does for a job is told by the job's prompt: `KIND: text`. So each attempt on a job meets the
same, and a test knows how the job must end.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

GOOD_TEXT = "fine \u2028 \u2029 \u0085 \U0001f600"
_TIMEOUT_S = 10.0


class Behaviour(NamedTuple):
    """What the server does, and what becomes of a job because of it."""

    # Bytes after the head of a 200, or a whole answer of another status.
    body: bytes = b""
    status: int = 200
    headers: str = ""
    # Whether the head is left out.
    is_raw: bool = False
    # Bytes sent at once.
    cut: int = 2**20
    # How the job ends: with a text, or failed with a code.
    text: str | None = None
    code: str = ""


def _event(**choice: Any) -> bytes:
    event = {"choices": [{"index": 0, **choice}]}
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def _says(content: Any, **more: Any) -> bytes:
    return _event(delta={"content": content, **more})


def _error(message: str, code: object) -> bytes:
    return json.dumps({"error": {"message": message, "code": code}}).encode()


_STOP = _event(delta={}, finish_reason="stop")
_DONE = b"data: [DONE]\n\n"
_END = _STOP + _DONE
_INVALID, _FAILED, _BUSY = "ENGINE_ANSWER_INVALID", "ENGINE_FAILED", "ENGINE_BUSY"
_REFUSED = "BAD_REQUEST"


def _good(content: Any, text: str = "hello", **more: Any) -> Behaviour:
    return Behaviour(_says(content, **more) + _END, text=text)


# By kind. What a server says in all its dialects, and in none.
BEHAVIOURS = {
    "plain": Behaviour(_says(GOOD_TEXT) + _END, text=GOOD_TEXT),
    "bytewise": Behaviour(_says(GOOD_TEXT) + _END, cut=1, text=GOOD_TEXT),
    "cr": Behaviour((_says("hello") + _END).replace(b"\n", b"\r"), cut=7, text="hello"),
    "crlf": Behaviour((_says("hello") + _END).replace(b"\n", b"\r\n"), cut=3, text="hello"),
    "comments": Behaviour(
        b"\xef\xbb\xbf: hi\n\n" + _says("hello") + b": hi\n" + _END, text="hello"
    ),
    "parts": _good([{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]),
    "halves": Behaviour(
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n' + _END,
        text="\U0001f600",
    ),
    "half": Behaviour(
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n' + _END, text="a\ufffd"
    ),
    "nulls": Behaviour(
        _event(delta=None, finish_reason=None)
        + _says(None, role="assistant")
        + _says("hello")
        + _END,
        text="hello",
    ),
    "whole": Behaviour(
        json.dumps(
            {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
        ).encode(),
        headers="content-type: application/json\r\n",
        text="hello",
    ),
    "no end": Behaviour(_says("hello") + _DONE, text="hello"),
    "odd end": Behaviour(_says("hello") + _event(delta={}, finish_reason="because"), text="hello"),
    "odd usage": Behaviour(
        _says("hello")
        + _STOP
        + b'data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":"x"}}\n\n',
        text="hello",
    ),
    "reasoning": _good("hello", reasoning_content="hm"),
    "others": Behaviour(
        b'data: {"choices":[{"index":3,"delta":{"content":"no"}}]}\n\n' + _says("hello") + _END,
        text="hello",
    ),
    "alive": Behaviour(b"data: ping\n\ndata: null\n\n" + _says("hello") + _END, text="hello"),
    "odd reasoning": _good("hello", reasoning=False),
    "number": Behaviour(_says(42) + _END, code=_INVALID),
    "list": Behaviour(b"data: [1]\n\n", code=_INVALID),
    "scalar": Behaviour(b"data: 7\n\n", code=_INVALID),
    "no json": Behaviour(b"data: hello\n\n", code=_INVALID),
    "deep": Behaviour(b"data: " + b"[" * 50_000 + b"\n\n", code=_INVALID),
    "odd choices": Behaviour(b'data: {"choices":"hello"}\n\n', code=_INVALID),
    "odd call": Behaviour(_event(delta={"tool_calls": ["f"]}) + _END, code=_INVALID),
    "no name": Behaviour(
        _event(delta={"tool_calls": [{"index": 0, "function": {"name": ["f"]}}]}), code=_INVALID
    ),
    "cut": Behaviour(_says("hello"), code=_FAILED),
    "empty": Behaviour(b"", code=_FAILED),
    "aborted": Behaviour(_says("x") + _event(delta={}, finish_reason="error"), code=_FAILED),
    "late error": Behaviour(_says("x") + b'data: {"error":"oh"}\n\n', code=_FAILED),
    "no http": Behaviour(b"\x00\x01\x02\r\n\r\n", is_raw=True, code=_FAILED),
    "silence": Behaviour(b"", is_raw=True, code=_FAILED),
    "too short": Behaviour(_says("hello"), headers="content-length: 99999\r\n", code=_FAILED),
    "500": Behaviour(b"oh", status=500, code=_FAILED),
    "503": Behaviour(b"{}", status=503, headers="retry-after: 0\r\n", code=_FAILED),
    "529": Behaviour(_error("full", "overloaded_error"), status=529, code=_FAILED),
    "429": Behaviour(_error("slow", "rate_limit_exceeded"), status=429, code=_BUSY),
    "408": Behaviour(b"", status=408, code=_BUSY),
    "409": Behaviour(b"", status=409, code=_FAILED),
    "400": Behaviour(_error("no such thing", "invalid_value"), status=400, code=_REFUSED),
    "413": Behaviour(b"too large", status=413, code=_REFUSED),
    "422": Behaviour(b'{"detail":[{"msg":"extra"}]}', status=422, code=_REFUSED),
    "too long": Behaviour(
        _error("maximum context length is 8", "context_length_exceeded"),
        status=400,
        code="CONTEXT_LENGTH_EXCEEDED",
    ),
    "flat error": Behaviour(
        _says("x") + b'event: error\ndata: {"message":"oh","code":500}\n\n', code=_FAILED
    ),
    "late refusal": Behaviour(b"data: " + _error("no", 400) + b"\n\n", code=_REFUSED),
    # The miner's fault: such a job ends well where another miner serves its model.
    "401": Behaviour(_error("no key", "invalid_api_key"), status=401, code="ENGINE_UNUSABLE"),
    "402": Behaviour(_error("pay", "insufficient_quota"), status=402, code="ENGINE_UNUSABLE"),
    "400 API_KEY_INVALID": Behaviour(
        b'[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid",'
        b'"details":[{"reason":"API_KEY_INVALID"}]}}]',
        status=400,
        code="ENGINE_UNUSABLE",
    ),
    "403": Behaviour(b"", status=403, code="ENGINE_UNUSABLE"),
    "404": Behaviour(_error("what?", "model_not_found"), status=404, code="ENGINE_UNUSABLE"),
    "moved nowhere": Behaviour(
        b"", status=307, headers="location: http://[bad\r\n", code="ENGINE_UNUSABLE"
    ),
    "page": Behaviour(b"<html>", headers="content-type: text/html\r\n", code="ENGINE_UNUSABLE"),
    "moved": Behaviour(b"", status=307, headers="location: /x\r\n", code="ENGINE_UNUSABLE"),
}
MINERS_FAULTS = [kind for kind, one in BEHAVIOURS.items() if one.code == "ENGINE_UNUSABLE"]


class Upstream:
    """One server. An `always` server does the same for each job, whatever its prompt says."""

    def __init__(self, always: str | None = None) -> None:
        self.url = ""
        # How often each kind was done.
        self.done: Counter[str] = Counter()
        # What each kind is; more may be added.
        self.behaviours = dict(BEHAVIOURS)
        self._always = always

    def repair(self) -> None:
        """Does what prompts say from now on."""
        self._always = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and closes the connection."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the miner went
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get "):  # its models
            writer.write(b"HTTP/1.1 404 x\r\nconnection: close\r\n\r\n")
            return
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        asked = json.loads(await reader.readexactly(length))
        kind = self._always or asked["messages"][-1]["content"].partition(":")[0]
        self.done[kind] += 1
        does = self.behaviours[kind]
        if not does.is_raw:
            start = f"HTTP/1.1 {does.status} x\r\nconnection: close\r\n{does.headers}\r\n"
            writer.write(start.encode())
        for begin in range(0, len(does.body), does.cut):
            writer.write(does.body[begin : begin + does.cut])
            await writer.drain()


@contextmanager
def upstream(always: str | None = None) -> Iterator[Upstream]:
    """Runs a server on a thread of its own."""
    server, ready, loop = Upstream(always), threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512)
        port = listening.sockets[0].getsockname()[1]
        server.url = f"http://127.0.0.1:{port}/v1"
        ready.set()
        async with listening:
            await stopped.wait()

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(_TIMEOUT_S)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()
