"""A model that says what it is told to, in vLLM: real parsers and grammars read a known answer.

Its tokens are the bytes, and the markers that models were taught. What a prompt has up to the first
`<|im_start|>` is the script of the answer, word for word. There, markers are written in brackets:
vLLM's parsers look for the others in prompts, too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

MARKERS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
# How a script has the last four.
WRITTEN = ("[think]", "[/think]", "[tool_call]", "[/tool_call]")
# The last message is the script. A system message `think` has the prompt begin the reasoning, as
# the chat templates of many models do.
TEMPLATE = (
    "{{ messages[-1]['content'] }}<|im_start|>"
    "{% for message in messages %}{{ message.reasoning or '' }}{% endfor %}"
    "{% if messages[0]['content'] == 'think' %}<think>{% endif %}{# tools #}"
)
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}


# What vLLM is given beside it, and the environment in which its processes find the script.
OPTIONS = {"load_format": "dummy", "logits_processors": '["scripted_logits:Script"]'}
_PATHS = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(filter(None, _PATHS))}


def write_model(directory: Path) -> Path:
    """Writes the model, whose weights are random."""
    directory.mkdir()
    vocabulary = {token: place for place, token in enumerate([*MARKERS, *WRITTEN, *_bytes()])}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": place,
                "content": token,
                "special": token.startswith("<|"),
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for place, token in enumerate([*MARKERS, *WRITTEN])
        ],
        "pre_tokenizer": _BYTE_LEVEL,
        "decoder": _BYTE_LEVEL,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE,
    }
    for name, content in (
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
    ):
        (directory / name).write_text(json.dumps(content))
    return directory


def _bytes() -> list[str]:
    """Returns the bytes as the characters that stand for them in such vocabularies."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + place) for place in range(len(hidden))]
