"""Write a GGUF file with random weights from a Llama config.json: `python gguf_model.py CONFIG.JSON OUT.GGUF`.

Runs in the environment of the engine (numpy and gguf), not in swarmtop's. No tokenizer: what goes in is token ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np


def write(config_file: Path, target: Path) -> None:
    config = json.loads(config_file.read_text())
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    keys = hidden // heads * kv_heads
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(target), "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("none")

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(name, rng.standard_normal((rows, columns), np.float32) / np.sqrt(columns, dtype=np.float32))

    matrix("token_embd.weight", vocab, hidden)
    for k in range(config["num_hidden_layers"]):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{k}.{norm}.weight", np.ones(hidden, np.float32))
        matrix(f"blk.{k}.attn_q.weight", hidden, hidden)
        matrix(f"blk.{k}.attn_k.weight", keys, hidden)
        matrix(f"blk.{k}.attn_v.weight", keys, hidden)
        matrix(f"blk.{k}.attn_output.weight", hidden, hidden)
        matrix(f"blk.{k}.ffn_gate.weight", inner, hidden)
        matrix(f"blk.{k}.ffn_up.weight", inner, hidden)
        matrix(f"blk.{k}.ffn_down.weight", hidden, inner)
    writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
    matrix("output.weight", vocab, hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
