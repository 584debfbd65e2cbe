"""Writes a llama of random weights, two layers and 450 kB, that llama.cpp loads: `python tiny_gguf.py FILE`.

Run by an interpreter that has `gguf`; what it answers is noise, at the pace of a real engine's streaming.
"""

import sys

import gguf
import numpy as np

HIDDEN, HEADS, KV_HEADS, INNER, LAYERS = 64, 4, 2, 128, 2


def write(path: str) -> None:
    rng = np.random.default_rng(0)
    words = [f" {chr(97 + i)}" for i in range(26)]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words]
    kinds = [2, 3, 3, *([6] * 256), *([1] * len(words))]  # unknown, control, byte, normal
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(512)
    out.add_embedding_length(HIDDEN)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(HIDDEN // HEADS)
    out.add_vocab_size(len(tokens))
    out.add_tokenizer_model("llama")
    out.add_token_list(tokens)
    out.add_token_scores([0.0] * len(tokens))
    out.add_token_types(kinds)
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    shapes = {"token_embd": (len(tokens), HIDDEN), "output": (len(tokens), HIDDEN), "output_norm": (HIDDEN,)}
    narrow = HIDDEN // HEADS * KV_HEADS
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm": (HIDDEN,), f"blk.{i}.ffn_norm": (HIDDEN,),
            f"blk.{i}.attn_q": (HIDDEN, HIDDEN), f"blk.{i}.attn_output": (HIDDEN, HIDDEN),
            f"blk.{i}.attn_k": (narrow, HIDDEN), f"blk.{i}.attn_v": (narrow, HIDDEN),
            f"blk.{i}.ffn_gate": (INNER, HIDDEN), f"blk.{i}.ffn_up": (INNER, HIDDEN),
            f"blk.{i}.ffn_down": (HIDDEN, INNER),
        }  # fmt: skip
    for name, shape in shapes.items():
        weights = np.ones(shape) if len(shape) == 1 else rng.standard_normal(shape) * 0.05
        out.add_tensor(f"{name}.weight", weights.astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write(sys.argv[1])
