"""Turns a GGUF file of a Llama-like model into the directory that Hugging Face would hold.

vLLM does not load GGUF on a CPU, so the weights are de-quantised to safetensors. In float32: fewer
bits would round what the file says, and so small a model answers by the rounding. Needs the
`weights` extra.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from gguf.gguf_reader import ReaderTensor

# Where llama.cpp's names of a layer's tensors are in Hugging Face's.
_LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
# `tokenizer.ggml.token_type` of tokens that stand for no text.
_CONTROL_TOKEN = 3

Fields = dict[str, Any]


def convert(gguf_file: Path, target: Path, on_tensor: Callable[[int, int], None]) -> None:
    """Writes weights, configuration, tokenizer and chat template into a new directory.

    `on_tensor` hears, after each tensor, how many of how many are done.
    """
    reader = GGUFReader(gguf_file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    if fields["general.architecture"] != "llama":
        raise ValueError(f"{gguf_file.name} is no Llama model: {fields['general.architecture']}")
    target.mkdir()
    with (target / "model.safetensors").open("wb") as file:
        file.write(safetensors_header({_name(tensor): _shape(tensor) for tensor in reader.tensors}))
        for done, tensor in enumerate(reader.tensors, start=1):
            file.write(_values(tensor, fields).astype("<f4").tobytes())
            on_tensor(done, len(reader.tensors))
    is_tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    for file_name, content in {
        "config.json": model_config(fields, is_tied=is_tied),
        "generation_config.json": _token_ids(fields),
        "tokenizer.json": tokenizer(fields),
        "tokenizer_config.json": tokenizer_config(fields),
    }.items():
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (target / file_name).write_text(text, encoding="utf-8")


def _name(tensor: ReaderTensor) -> str:
    return hugging_face_name(tensor.name)


def _shape(tensor: ReaderTensor) -> tuple[int, ...]:
    # GGUF names the fastest axis first.
    return tuple(int(size) for size in reversed(tensor.shape))


def _values(tensor: ReaderTensor, fields: Fields) -> np.ndarray:
    values = dequantize(tensor.data, tensor.tensor_type).reshape(_shape(tensor))
    if tensor.name.endswith(".attn_q.weight"):
        return unpermute(values, fields["llama.attention.head_count"])
    if tensor.name.endswith(".attn_k.weight"):
        return unpermute(values, fields["llama.attention.head_count_kv"])
    return values


def hugging_face_name(name: str) -> str:
    """Returns the name that Hugging Face's Llama gives to a tensor of llama.cpp."""
    if name in _MODEL_NAMES:
        return _MODEL_NAMES[name]
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[kind]}.{suffix}"


def safetensors_header(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """Returns what precedes the float32 tensors, in this order, in a safetensors file.

    Written here because tensors can then be streamed, one in memory at a time.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def unpermute(values: np.ndarray, heads: int) -> np.ndarray:
    """Undoes llama.cpp's interleaving of the two rotary halves of each attention head."""
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def model_config(fields: Fields, *, is_tied: bool) -> Fields:
    """Returns config.json."""
    theta = fields["llama.rope.freq_base"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": fields["llama.vocab_size"],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields["llama.rope.dimension_count"],
        "max_position_embeddings": fields["llama.context_length"],
        "hidden_act": "silu",
        # Written as a float32: 9.99999975e-06 means 1e-05.
        "rms_norm_eps": float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        # transformers 4 reads the first, 5 the second.
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": is_tied,
        **_token_ids(fields),
    }


def _token_ids(fields: Fields) -> Fields:
    kinds = {"bos": "bos", "eos": "eos", "pad": "padding"}
    ids = {to: fields.get(f"tokenizer.ggml.{kind}_token_id") for to, kind in kinds.items()}
    return {f"{to}_token_id": token_id for to, token_id in ids.items() if token_id is not None}


def tokenizer(fields: Fields) -> Fields:
    """Returns tokenizer.json: byte-level BPE that splits digits, as SmolLM's does."""
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token_id, "content": token, "special": True, **plain}
            for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind == _CONTROL_TOKEN
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {**byte_level, "use_regex": True},
            ],
        },
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: token_id for token_id, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]],
        },
    }


def tokenizer_config(fields: Fields) -> Fields:
    """Returns tokenizer_config.json, the chat template in it."""
    tokens = fields["tokenizer.ggml.tokens"]
    names = {name.replace("_id", ""): tokens[index] for name, index in _token_ids(fields).items()}
    return {
        # Takes tokenizer.json as it is; named classes build their own pre-tokenizer.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": fields["tokenizer.chat_template"],
        **names,
    }
