"""Each row of the matrix is answered with the status of `vllm serve`, or a difference says why.

What the engine decides is not told here: a miner that answers everything stands for it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.openai.parameters import differences
from tests.integration.server.harness import PATIENCE_S, FakeMiner, coordinator

ROWS = Path(__file__).parents[3] / "compat" / "matrix.jsonl"
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
}
BASES: dict[str, dict[str, Any]] = {
    "chat": {"max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]},
    "completions": {"max_tokens": 8, "prompt": "hi"},
    "responses": {"max_output_tokens": 8, "input": "hi"},
}
# What vLLM 0.32.0 answers with 400, as it was recorded. It answers all other rows with 200.
REFUSED_BY_VLLM = {
    'chat: stream_options={"include_usage": true}',
    "chat: tools=[]",
    'chat: tool_choice="auto"',
    "chat: max_tokens 32768",
    "chat: stop ''",
    "chat: stream_options w/o stream",
    "chat: tools []+tool_choice auto",
    "chat: tools []+tool_choice none",
    "chat: tool_choice auto no tools",
    "chat: schema missing",
    "chat: msg content null user",
    "chat: image_url part",
    "chat: temperature=3",
    "chat: top_p=0",
    "chat: max_tokens=0",
    "chat: bad schema",
    'completions: stream_options={"include_usage": true}',
    "completions: suffix",
    "completions: many stops",
    "chat: repetition_detection without min_count",
    "chat: thinking_token_budget=5, no reasoning parser",
    'chat: mm_processor_kwargs={"a": 1}',
    'chat: media_io_kwargs={"image": {"a": 1}}',
    'chat: chat_template="{{ messages }}"',
    "responses: background=true",
}
# Rows that an engine refuses, after the coordinator has taken them.
REFUSED_BY_ENGINES = {
    "chat: guided_grammar=\"root ::= 'a'\"",
    "chat: max_tokens 32768",
    "chat: image_url part",
    "chat: bad schema",
    "chat: thinking_token_budget=5, no reasoning parser",
}


async def answer_everything(miner: FakeMiner) -> None:
    while True:
        message = await miner.call.read()
        if not isinstance(message, work_pb2.CoordinatorMessage):
            return
        for assignment in message.assignments.assignments:
            completion = work_pb2.Completion(
                result="x",
                finish_reason="stop",
                usage=jobs_pb2.Usage(prompt_tokens=1, completion_tokens=1),
            )
            update = work_pb2.Update(
                lease_id=assignment.lease_id, sequence=0, completion=completion
            )
            await miner.send(updates=work_pb2.Updates(updates=[update]))


async def test_statuses_are_those_of_vllm_serve_or_the_table_says_why(tmp_path: Path) -> None:
    known = {one.request: one for one in differences()}
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    async with (
        coordinator(tmp_path) as client,
        client.miner(window=200) as miner,
        httpx.AsyncClient(base_url=client.url, timeout=PATIENCE_S) as http,
    ):
        answering = asyncio.create_task(answer_everything(miner))
        wrong, met = [], set()
        for row in rows:
            name = f"{row['operation']}: {row['name']}"
            asked = {"model": "m", **BASES[row["operation"]], **row["body"]}
            answered = await http.post(PATHS[row["operation"]], json=asked)
            expected = theirs = 400 if name in REFUSED_BY_VLLM else 200
            if name in known:
                met.add(name)
                expected = known[name].status
                assert theirs == known[name].vllm_status
                assert theirs != expected, f"{name} is no difference"
            if name in REFUSED_BY_ENGINES:
                expected = 200
            if answered.status_code != expected:
                wrong.append((name, answered.status_code, expected, answered.text[:300]))
        answering.cancel()
        assert not wrong, "\n".join(map(str, wrong))
        assert met == known.keys()
        assert {f"{row['operation']}: {row['name']}" for row in rows} >= REFUSED_BY_VLLM
