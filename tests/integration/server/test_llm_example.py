"""The example of a configuration of `llm`: with it, schemas and tools work."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from aitbc.v1 import jobs_pb2
from tests.integration.server.harness import PATIENCE_S, Client, coordinator
from tests.integration.server.test_openai_api import finish

EXAMPLE = Path(__file__).parents[3] / "examples" / "llm" / "extra-openai-models.yaml"


def configure(home: Path, client: Client) -> None:
    """Gives `llm` the example, for the model `m`."""
    text = EXAMPLE.read_text().replace("http://127.0.0.1:8080", client.url)
    home.mkdir()
    (home / EXAMPLE.name).write_text(text.replace("llama3.2", "m"))


async def llm(home: Path, *options: str) -> asyncio.subprocess.Process:
    """Starts `llm`."""
    command = [sys.executable, "-m", "llm", "-m", "aitbc", "--no-log", "--no-stream", *options]
    env = {**os.environ, "LLM_USER_PATH": str(home), "OPENAI_API_KEY": "unused"}
    return await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def said(process: asyncio.subprocess.Process) -> str:
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, errors.decode()
    return out.decode()


@pytest.mark.timeout(180)
async def test_schemas_and_tools_work_with_the_example(tmp_path: Path) -> None:
    # `llm` takes its time to start, and this miner says nothing meanwhile.
    settings = {"lease_seconds": 120}
    async with coordinator(tmp_path / "data", **settings) as client, client.miner() as miner:
        configure(tmp_path / "llm", client)
        asking = await llm(tmp_path / "llm", "--schema", "city, country", "Where?")
        [assignment] = await miner.assignments()
        assert '"city"' in assignment.job.response_format.json_schema
        await finish(
            miner,
            assignment.lease_id,
            0,
            result='{"city": "Wien", "country": ""}',
            finish_reason="stop",
        )
        await miner.expect("acks")
        assert "Wien" in await said(asking)

        tool = "def temperature(city: str) -> str:\n    return '5 degrees in ' + city"
        asking = await llm(tmp_path / "llm", "--functions", tool, "How warm?")
        [assignment] = await miner.assignments()
        assert [one.name for one in assignment.job.tools] == ["temperature"]
        call = jobs_pb2.ToolCall(id="call_1", name="temperature", arguments='{"city": "Wien"}')
        await finish(miner, assignment.lease_id, 0, finish_reason="tool_calls", tool_calls=[call])
        await miner.expect("acks")
        [assignment] = await miner.assignments()
        assert assignment.job.messages[-1].content == "5 degrees in Wien"
        await finish(miner, assignment.lease_id, 0, result="It is cold.", finish_reason="stop")
        await miner.expect("acks")
        assert "It is cold." in await said(asking)
