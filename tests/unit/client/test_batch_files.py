"""What a batch run takes as input, and what it finds in an output that was cut short."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aitbc.v1 import jobs_pb2
from aitbc_client.aio import AsyncClient
from aitbc_client.batch import run_batch
from aitbc_client.batch_lines import BatchFileError, Line, WrongLine, read_lines


def jobs_in(source: Path) -> list[Line]:
    """Returns the lines of a file that are jobs."""
    return [line for line in read_lines(source, "m") if isinstance(line, Line)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[]", "line 2: must be a JSON object"),
        ('{"prompt": "x", "modle": "m"}', "line 2: unknown field modle"),
        ('{"model": "m"}', "line 2: give either prompt or messages"),
        ('{"prompt": "x", "messages": []}', "line 2: give either prompt or messages"),
        ("{", "line 2: is not JSON: .* at column 2"),
        ("null", "line 2: must be a JSON object"),
        ('"text"', "line 2: must be a JSON object"),
        ('{"prompt": "x"} {"prompt": "y"}', "line 2: is not JSON: extra data at column 17"),
        ('{"prompt": "x", "metadata": NaN}', "line 2: is not JSON: it has no number NaN"),
        ('{"prompt": "x", "metadata": 1e999}', "line 2: the number 1e999 is too large"),
        ('{"prompt": "x", "prompt": "y"}', "line 2: prompt: is given twice"),
        ('{"prompt": "x", "metadata": {"a": 1, "a": 2}}', "line 2: a: is given twice"),
        ('{"prompt": "x", "metadata": "\\ud800"}', "line 2: metadata: holds half"),
        ('{"prompt": "\\ud800"}', "line 2: prompt: holds half"),
        ("[" * 100_000, "line 2: is nested too deeply"),
        ('{"prompt": null}', "line 2: give either prompt or messages"),
        ('{"prompt": 3}', "line 2: prompt: must be a string, or a list of text parts"),
        ('{"prompt": true}', "line 2: prompt: must be a string"),
        ('{"prompt": {"text": "x"}}', "line 2: prompt: must be a string"),
        ('{"prompt": [1]}', r"line 2: prompt\[0\]: must be a text part"),
        (
            '{"prompt": [{"role": "user", "content": "x"}]}',
            r"line 2: prompt\[0\].type: must be text",
        ),
        ('{"messages": "x"}', "line 2: messages: must be a list; a text is given as prompt"),
        ('{"messages": {"role": "user"}}', "line 2: messages: must be a list"),
        ('{"messages": ["x"]}', r"line 2: messages\[0\]: must be an object"),
        ('{"messages": [null]}', r"line 2: messages\[0\]: must be an object"),
        ('{"messages": [{"role": 1}]}', r"line 2: messages\[0\].role: must be a string"),
        ('{"messages": [{"rolle": "user"}]}', r"line 2: messages\[0\].rolle: unknown field"),
        ('{"messages": [{"content": 42}]}', r"line 2: messages\[0\].content: must be a string"),
        ('{"messages": [{"content": [null]}]}', r"line 2: messages\[0\].content\[0\]: must be"),
        (
            '{"messages": [{"content": [{"type": "text", "text": 1}]}]}',
            r"line 2: messages\[0\].content\[0\].text: must be a string",
        ),
        (
            '{"messages": [{"content": [{"type": "image_url", "image_url": 7}]}]}',
            r"line 2: messages\[0\].content\[0\].image_url: must be an object",
        ),
        (
            '{"messages": [{"content": [{"type": "image_url", "image_url": {"uri": "x"}}]}]}',
            r"line 2: messages\[0\].content\[0\].image_url.uri: unknown field",
        ),
        (
            '{"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": 1}}]}]}',
            r"line 2: messages\[0\].content\[0\].input_audio.data: must be a string",
        ),
        (
            '{"messages": [{"content": [{"type": "file", "file": {}}]}]}',
            r"line 2: messages\[0\].content\[0\].type: must be text: no 'file' part",
        ),
        (
            '{"prompt": [{"type": "image_url", "image_url": {"url": "x"}}]}',
            r"line 2: prompt\[0\].type: must be text: no 'image_url' part",
        ),
        (
            '{"messages": [{"tool_calls": [{"arguments": {}}]}]}',
            r"line 2: messages\[0\].tool_calls\[0\].arguments: must be a string",
        ),
        ('{"prompt": "x", "params": []}', "line 2: params: must be an object"),
        ('{"prompt": "x", "params": {"nope": 1}}', "line 2: params.nope: unknown field"),
        ('{"prompt": "x", "params": {"stop": "end"}}', "line 2: params.stop: must be a list"),
        ('{"prompt": "x", "params": {"stop": [1]}}', r"line 2: params.stop\[0\]: must be a string"),
        ('{"prompt": "x", "params": {"max_tokens": "9"}}', "line 2: params.max_tokens: must be an"),
        (
            '{"prompt": "x", "params": {"max_tokens": true}}',
            "line 2: params.max_tokens: must be an",
        ),
        ('{"prompt": "x", "params": {"max_tokens": 1.5}}', "line 2: params.max_tokens: must be an"),
        (
            '{"prompt": "x", "params": {"seed": 1e30}}',
            "line 2: params.seed: must be an integer from",
        ),
        ('{"prompt": "x", "params": {"top_p": "1"}}', "line 2: params.top_p: must be a number"),
        (
            '{"prompt": "x", "params": {"logit_bias": [1]}}',
            "line 2: params.logit_bias: must be an object",
        ),
        (
            '{"prompt": "x", "params": {"logit_bias": {"a": 1}}}',
            r"line 2: params.logit_bias\[a\]: must be an integer",
        ),
        (
            '{"prompt": "x", "params": {"logit_bias": {"5": "1"}}}',
            r"line 2: params.logit_bias\[5\]: must be a number",
        ),
        ('{"prompt": "x", "priority": "high"}', "line 2: priority: must be an integer"),
        ('{"prompt": "x", "priority": 3000000000}', "line 2: priority: must be an integer from"),
        ('{"prompt": "x", "timeout_seconds": [1]}', "line 2: timeout_seconds: must be an integer"),
        ('{"prompt": "x", "model": ["m"]}', "line 2: model: must be a string"),
        ('{"prompt": "x", "model": 0}', "line 2: model: must be a string"),
        ('{"prompt": "x", "model": ""}', "line 2: names no model"),
    ],
)
async def test_a_wrong_line_fails_alone_and_what_is_wrong_is_named(
    tmp_path: Path, line: str, problem: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(f'{{"prompt": "fine"}}\n{line}\n{{"prompt": "fine"}}\n')
    first, wrong, last = read_lines(source, "m")
    assert isinstance(first, Line)
    assert isinstance(last, Line)
    assert isinstance(wrong, WrongLine)
    assert re.match(problem, f"line {wrong.number}: {wrong.problem}")


async def test_a_file_without_a_job_is_refused_before_anything_is_submitted(
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {}}
    source.write_text(f"{json.dumps(asked)}\n[]\n")
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(BatchFileError, match="line 1: is a line of OpenAI's batches"):
            await run_batch(client, source, target, model="m")
    assert not target.exists()


async def test_wrong_lines_are_in_the_output_with_what_they_carry(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "fine"}\n{"custom_id": "b", "prompt": 3}\n{\n')
    target.write_text('{"line": 1, "status": "completed"}\n')
    # Nobody listens there: a call would fail.
    async with AsyncClient("127.0.0.1:1", timeout_s=0.1) as client:
        progress = await run_batch(client, source, target, model="m")
    assert (progress.total, progress.done, progress.unsuccessful) == (3, 3, 2)
    told = {one["line"]: one for one in map(json.loads, target.read_text().splitlines())}
    assert told[2]["custom_id"] == "b"
    assert told[2]["status"] == told[3]["status"] == "failed"
    assert told[2]["error"]["code"] == "INVALID_LINE"
    assert told[2]["error"]["message"].startswith("prompt: must be a string")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"prompt": "caf\xe9"}', "line 1: byte 16 is not UTF-8; save the file as UTF-8"),
        ('{"prompt": "x"}'.encode("utf-16"), "line 1: is UTF-16; save the file as UTF-8"),
    ],
)
async def test_a_file_in_another_encoding_is_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(content)
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(BatchFileError, match=problem):
            await run_batch(client, source, tmp_path / "out.jsonl", model="m")


def test_lines_are_numbered_whatever_ends_them(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a", "custom_id": null}\r\n\r\n  \n{"prompt": "b\xe2\x80\xa8"}'
    )
    lines = jobs_in(source)
    assert [(line.number, line.request.prompt) for line in lines] == [(1, "a"), (4, "b\u2028")]
    assert lines[0].carried == {"custom_id": None}


def test_text_parts_are_taken_as_the_text_that_they_are(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    source = tmp_path / "in.jsonl"
    asked = [{"messages": [{"role": "user", "content": parts}]}, {"prompt": parts}]
    source.write_text("\n".join(map(json.dumps, asked)))
    first, second = (line.request for line in jobs_in(source))
    assert [(turn.role, turn.content) for turn in first.messages] == [("user", "one two")]
    assert second.prompt == "one two"


def test_parts_that_are_no_texts_are_taken_as_parts(tmp_path: Path) -> None:
    content = [
        {"type": "text", "text": "What is "},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
        {"type": "video_url", "video_url": "data:video/mp4;base64,QQ=="},
        {"type": "text", "text": "this?"},
    ]
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": content}]}))
    [line] = jobs_in(file)
    [turn] = line.request.messages
    assert turn.content == "What is this?"
    assert list(turn.parts) == [
        jobs_pb2.ContentPart(type="text", text="What is "),
        jobs_pb2.ContentPart(type="image_url", url="https://x.example/a.png", detail="low"),
        jobs_pb2.ContentPart(type="input_audio", data="QQ==", format="wav"),
        jobs_pb2.ContentPart(type="video_url", url="data:video/mp4;base64,QQ=="),
        jobs_pb2.ContentPart(type="text", text="this?"),
    ]


def test_what_is_null_is_absent(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    line = {"prompt": "x", "messages": None, "model": None, "params": {"seed": None}}
    source.write_text(json.dumps({**line, "priority": None, "max_attempts": None}))
    (read,) = jobs_in(source)
    assert read.request == jobs_pb2.SubmitJobRequest(
        prompt="x", model="m", params=jobs_pb2.GenerationParams()
    )


async def test_an_output_of_something_else_is_not_appended_to(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "fine"}\n')
    target.write_text("precious\n")
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(BatchFileError, match=r"out.jsonl, line 1: was not written by a batch"):
            await run_batch(client, source, target, model="m")
    assert target.read_text() == "precious\n"


async def test_a_finished_run_asks_for_nothing_more(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "fine"}\n\n{"prompt": "too"}\n')
    done = '{"line": 1, "status": "completed"}\n{"line": 3, "status": "failed"}\n'
    target.write_text(done)
    # Nobody listens there: a call would fail.
    async with AsyncClient("127.0.0.1:1", timeout_s=0.1) as client:
        progress = await run_batch(client, source, target, model="m")
    assert (progress.total, progress.done, progress.unsuccessful) == (2, 2, 1)
    assert target.read_text() == done
