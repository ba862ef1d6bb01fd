"""Answers jobs with the embedded model in vLLM, and says how sure it was of each token.

A program for the Python of .venv-vllm. Reads a list of jobs as JSON from standard input; writes for
each its text, the arguments of its calls, and its tokens with how far the probability of each was
above that of the next one.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from typing import Any

import torch

from aitbc_miner.engines.base import Job, Message, Tool
from aitbc_miner.engines.vllm import VllmEngine

if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2":
    # By these vLLM chooses its kernels. The processes that it spawns import this program, too.
    for feature in ("avx512", "avx512_bf16", "vnni", "amx_tile", "amx_fp16"):
        setattr(torch.cpu, f"_is_{feature}_supported", lambda: False)


async def main() -> None:
    """Answers all of them, one after the other."""
    engine = VllmEngine(("smollm2",), "smollm2", 4, {"tool_parser": "hermes"}, is_offline=True)
    await engine.start()
    told = [
        await answer(engine, number, asked) for number, asked in enumerate(json.load(sys.stdin))
    ]
    await engine.close()
    json.dump(told, sys.stdout)


async def answer(engine: VllmEngine, number: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Answers a job, greedily."""
    messages: tuple[Message, ...] = tuple(asked.pop("messages", ()))
    tools = tuple(Tool(**tool) for tool in asked.pop("tools", ()))
    job = Job(
        request_id=str(number),
        model="smollm2",
        messages=messages,
        tools=tools,
        params={"temperature": 0.0, "max_tokens": asked.pop("max_tokens", 48), "logprobs": 2},
        **asked,
    )
    text, calls, leads = "", "", []
    async for chunk in engine.generate(job):
        text += chunk.text
        calls += "".join(part.arguments for part in chunk.tool_calls)
        for token in chunk.logprobs:
            first, second = (math.exp(one.logprob) for one in token.top)
            leads.append((token.token, first - second))
    return {"text": text, "calls": calls, "leads": leads}


if __name__ == "__main__":
    asyncio.run(main())
