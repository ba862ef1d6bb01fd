"""The embedded model answers alike on processors of different abilities."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scripts.processes import ROOT, VLLM_BIN

from tests.conftest import CLEAN_ENV
from tests.model import (
    ANSWER,
    CITY,
    FOUND,
    LOOK_UP,
    NEXT_ANSWER,
    NEXT_QUESTION,
    QUESTION,
    RAW_ANSWER,
    RAW_PROMPT,
    TOOL,
    conversation,
)

PROGRAM = Path(__file__).with_name("answering.py")
# What a processor without AVX-512 and AMX has: torch, oneDNN and, through the program, vLLM use it.
ONLY_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
# By which the probability of each token is above that of the second likeliest one, at the least.
# Measured in float32: 0.44 and 0.36 for the questions, 0.22 for the raw prompt, 0.43 beside a tool,
# 0.62 and 0.99 when it is called and has answered. With and without AVX-512 these differ by less
# than 0.00001.
LEAD = 0.2
SAME = 0.001


def jobs() -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = [
        {"prompt": QUESTION},
        {"prompt": NEXT_QUESTION},
        {"prompt": RAW_PROMPT, "is_raw": True, "max_tokens": len(RAW_ANSWER)},
    ]
    called = {"name": TOOL["name"], "arguments": json.dumps({"city": CITY})}
    turns = [
        *conversation(LOOK_UP),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call", "type": "function", "function": called}],
        },
        {"role": "tool", "tool_call_id": "call", "content": FOUND},
    ]
    for messages in ([{"role": "user", "content": QUESTION}], conversation(LOOK_UP), turns):
        texts = [{**message, "content": message["content"] or ""} for message in messages]
        asked.append({"messages": texts, "tools": [TOOL]})
    return asked


def answers(environment: dict[str, str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [VLLM_BIN / "python", PROGRAM],
        input=json.dumps(jobs()),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**CLEAN_ENV, **environment},
        timeout=290,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.vllm
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not VLLM_BIN.exists() and "CI" not in os.environ,
    reason="vLLM is not installed: `make vllm` makes .venv-vllm. With CI set this is a failure",
)
def test_answers_and_their_certainty_are_the_same_without_avx512_and_amx() -> None:
    limited, unlimited = answers(ONLY_AVX2), answers({})
    for told in (limited, unlimited):
        assert [one["text"] for one in told] == [ANSWER, NEXT_ANSWER, RAW_ANSWER, ANSWER, "", FOUND]
        assert json.loads(told[4]["calls"]) == {"city": CITY}
        for one in told:
            assert all(lead > LEAD for _, lead in one["leads"]), one
    for one, other in zip(limited, unlimited, strict=True):
        assert [token for token, _ in one["leads"]] == [token for token, _ in other["leads"]]
        for (_, lead), (_, same) in zip(one["leads"], other["leads"], strict=True):
            assert lead == pytest.approx(same, abs=SAME)
