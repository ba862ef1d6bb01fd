from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors import safe_open

from aitbc_miner import gguf_llama

HEADS, KV_HEADS, HEAD_SIZE = 2, 1, 4
WIDTH = HEADS * HEAD_SIZE
TOKENS = ["<|end|>", "a", "b", "ab"]


def permuted_like_llama_cpp(values: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's own converter does to Q and K."""
    rows, columns = values.shape
    halves = values.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """One layer, by Hugging Face's names."""
    shapes = {
        "model.embed_tokens.weight": (len(TOKENS), WIDTH),
        "model.norm.weight": (WIDTH,),
        "model.layers.0.self_attn.q_proj.weight": (WIDTH, WIDTH),
        "model.layers.0.self_attn.k_proj.weight": (KV_HEADS * HEAD_SIZE, WIDTH),
        "model.layers.0.mlp.down_proj.weight": (WIDTH, 12),
    }
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def gguf_file(tmp_path: Path, weights: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_vocab_size(len(TOKENS))
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(12)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_rope_freq_base(100000.0)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    names = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
        "blk.0.attn_q.weight": permuted_like_llama_cpp(
            weights["model.layers.0.self_attn.q_proj.weight"], HEADS
        ),
        "blk.0.attn_k.weight": permuted_like_llama_cpp(
            weights["model.layers.0.self_attn.k_proj.weight"], KV_HEADS
        ),
        "blk.0.ffn_down.weight": weights["model.layers.0.mlp.down_proj.weight"],
    }
    for name, values in names.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_converted_model_has_the_weights_it_was_made_from(
    gguf_file: Path, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    heard: list[tuple[int, int]] = []
    gguf_llama.convert(gguf_file, tmp_path / "model", lambda *progress: heard.append(progress))
    assert heard == [(done, 5) for done in range(1, 6)]
    path = tmp_path / "model" / "model.safetensors"
    with safe_open(path, framework="numpy") as file:  # checks the layout of the file
        assert set(file.keys()) == set(weights)
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    for name, values in weights.items():
        begin, end = header[name]["data_offsets"]
        stored = np.frombuffer(content[8 + length + begin : 8 + length + end], dtype="<f4")
        assert header[name]["dtype"] == "F32"
        np.testing.assert_array_equal(stored.reshape(values.shape), values)


def test_a_converted_model_has_its_configuration_and_tokenizer(
    gguf_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "model"
    gguf_llama.convert(gguf_file, target, lambda *_: None)
    config = json.loads((target / "config.json").read_text())
    assert config["rms_norm_eps"] == 1e-5
    assert config["tie_word_embeddings"] is True
    assert (config["head_dim"], config["num_key_value_heads"]) == (HEAD_SIZE, KV_HEADS)
    tokenizer = json.loads((target / "tokenizer.json").read_text())
    assert tokenizer["model"]["vocab"] == {token: index for index, token in enumerate(TOKENS)}
    assert tokenizer["model"]["merges"] == [["a", "b"]]
    assert [token["content"] for token in tokenizer["added_tokens"]] == ["<|end|>"]
    tokenizer_config = json.loads((target / "tokenizer_config.json").read_text())
    assert tokenizer_config["chat_template"] == "{{ messages }}"
    assert tokenizer_config["eos_token"] == "<|end|>"  # noqa: S105 - a token of text
    generation = json.loads((target / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 0, "eos_token_id": 0}


def test_a_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "other.gguf", "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="gpt2"):
        gguf_llama.convert(tmp_path / "other.gguf", tmp_path / "model", lambda *_: None)
