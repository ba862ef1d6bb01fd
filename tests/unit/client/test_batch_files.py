"""What a batch run takes as input, and what it finds in an output that was cut short."""

from __future__ import annotations

from pathlib import Path

import pytest

from aitbc_client.aio import AsyncClient
from aitbc_client.batch import BatchFileError, run_batch


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: must be a JSON object"),
        ('{"prompt": "x", "modle": "m"}', "line 2: unknown field modle"),
        ('{"model": "m"}', "line 2: give either prompt or messages"),
        ('{"prompt": "x", "messages": []}', "line 2: give either prompt or messages"),
        ('{"prompt": 3}', "line 2: "),
        ('{"prompt": "x", "params": {"nope": 1}}', "line 2: "),
        ('{"prompt": "x", "model": ""}', "line 2: names no model"),
    ],
)
async def test_a_wrong_line_is_named_before_anything_is_submitted(
    tmp_path: Path, line: str, problem: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(f'{{"prompt": "fine"}}\n{line}\n')
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(BatchFileError, match=problem):
            await run_batch(client, source, tmp_path / "out.jsonl", model="m")
    assert not (tmp_path / "out.jsonl").exists()


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
