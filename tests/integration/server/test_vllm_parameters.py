"""What vLLM's own server takes is in the table of parameters: a new version shows what is new."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from scripts.processes import VLLM_BIN

from aitbc_server.openai.parameters import section

# Of each section of the table, what is read the same by vLLM, below its `entrypoints`.
REQUESTS = {
    "chat": "openai.chat_completion.protocol:ChatCompletionRequest",
    "completions": "openai.completion.protocol:CompletionRequest",
    "responses": "openai.responses.protocol:ResponsesRequest",
    "embeddings": "pooling.embed.protocol:EmbeddingRequest",
    "score": "pooling.scoring.protocol:ScoreRequest",
    "rerank": "pooling.scoring.protocol:RerankRequest",
    "tokenize": "serve.tokenize.protocol:TokenizeRequest",
    "detokenize": "serve.tokenize.protocol:DetokenizeRequest",
    "anthropic_messages": "anthropic.protocol:AnthropicMessagesRequest",
    "anthropic_prompt": "anthropic.protocol:AnthropicCountTokensRequest",
    "anthropic_turn": "anthropic.protocol:AnthropicMessage",
    "anthropic_tool": "anthropic.protocol:AnthropicTool",
    "anthropic_thinking": "anthropic.protocol:AnthropicThinkingConfig",
    "stream_options": "generate.base.protocol:StreamOptions",
    "structured_outputs": "generate.base.protocol:StructuredOutputsParams",
    "repetition_detection": "openai.chat_completion.protocol:RepetitionDetectionParams",
}
# Prints the names that each has: of one that may be one of several, those of all.
PROGRAM = """
import dataclasses, importlib, json, sys, typing

def names(kind):
    parts = typing.get_args(kind)
    if hasattr(kind, "__metadata__"):
        return names(parts[0])
    if parts:
        return set().union(*map(names, parts))
    if dataclasses.is_dataclass(kind):
        return {one.name for one in dataclasses.fields(kind) if one.init}
    fields = getattr(kind, "model_fields", {})
    return {field.alias or name for name, field in fields.items()}

told = {}
for section, place in json.loads(sys.argv[1]).items():
    module, _, name = place.partition(":")
    kind = getattr(importlib.import_module("vllm.entrypoints." + module), name)
    told[section] = sorted(names(kind))
print(json.dumps(told))
"""
START_S = 300


@pytest.mark.vllm
@pytest.mark.timeout(START_S)
@pytest.mark.skipif(
    not VLLM_BIN.exists() and "CI" not in os.environ,
    reason="vLLM is not installed: `make vllm` makes .venv-vllm. With CI set this is a failure",
)
def test_the_table_has_every_parameter_of_vllms_own_server() -> None:
    program = [str(VLLM_BIN / "python"), "-c", PROGRAM, json.dumps(REQUESTS)]
    run = subprocess.run(program, capture_output=True, text=True, timeout=START_S)
    assert run.returncode == 0, run.stderr
    taken: dict[str, list[str]] = json.loads(run.stdout.splitlines()[-1])
    assert all(taken.values())
    missing = {name: sorted(set(names) - section(name).keys()) for name, names in taken.items()}
    assert not any(missing.values()), missing
