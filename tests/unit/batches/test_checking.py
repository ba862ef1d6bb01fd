"""Which files a batch can run, and what is said of the others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aitbc_server import slices
from aitbc_server.batches.checking import Checked, FileCheck
from aitbc_server.batches.lines import LineReader
from aitbc_server.batches.requests import LineFault, Request, read_request

URL = "/v1/completions"


def line(custom_id: Any = "1", **fields: Any) -> bytes:
    asked = {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"model": "m"}}
    return json.dumps({**asked, **fields}).encode()


async def checked(*lines: bytes, most_lines: int = 10) -> Checked:
    content = b"\n".join(lines)

    async def read(start: int) -> bytes:
        return content[start : start + 100]

    check = FileCheck(URL, most_lines=most_lines, most_line_bytes=1000)
    return await check.check(LineReader(read, most_bytes=1000), asyncio.Semaphore(1))


async def test_lines_that_are_wrong_alone_do_not_matter() -> None:
    good = await checked(line("a"), b"{", line("b"), b"x" * 2000, line(None), b"[]", b"", b"7")
    assert good == Checked(7, ())


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([], "empty_file", None),
        ([b"{", b"["], "invalid_json_line", 1),
        ([line(None)], "invalid_request", 1),
        ([line("a"), line("a")], "duplicate_custom_id", 2),
        # The name of a line that is wrong is taken, too.
        ([line("a", method="GET"), line("b"), line("a")], "duplicate_custom_id", 3),
        ([line("a"), line("b", url="/v1/chat/completions")], "url_mismatch", 2),
        ([line(str(number)) for number in range(11)], "too_many_tasks", None),
    ],
)
async def test_a_file_that_is_wrong_as_a_whole_is_told_why(
    lines: list[bytes], code: str, number: int | None
) -> None:
    first = (await checked(*lines)).faults[0]
    assert (first.code, first.line) == (code, number)


async def test_few_of_many_faults_are_told() -> None:
    assert len((await checked(*[b"{"] * 500, most_lines=1000)).faults) == 100


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b'{"custom_id": "a", "custom_id": "b"}', "invalid_json_line", None),
        (b"[" * 100 + b"]" * 100, "invalid_json_line", None),
        (b'"text"', "invalid_json_line", None),
        (line(7), "invalid_request", "custom_id"),
        (line(""), "invalid_request", "custom_id"),
        (line("x" * 600), "invalid_request", "custom_id"),
        (line(method="post"), "invalid_request", "method"),
        (line(url=None), "invalid_request", "url"),
        (line(body="text"), "invalid_request", "body"),
        (line(boddy={}), "invalid_request", "boddy"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(text: bytes, code: str, param: str | None) -> None:
    with pytest.raises(LineFault) as caught:
        read_request(text, 2, 1000)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_mark_of_the_byte_order_is_passed_over() -> None:
    assert read_request(b"\xef\xbb\xbf" + line(), 1, 1000) == Request("1", URL, b'{"model":"m"}')


async def test_others_have_their_turns_while_short_lines_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    found = await checked(*[b"{"] * 20_000, most_lines=20_000)
    counting.cancel()
    assert found.total == 20_000
    # One for each time that some lines were looked at.
    assert turns >= 50
