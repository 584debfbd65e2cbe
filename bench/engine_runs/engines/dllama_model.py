"""Write a model and a tokenizer for distributed-llama with random q40 weights: `python dllama_model.py CONFIG.JSON
MODEL.M TOKENIZER.T`.

The layout is that of the engine's converter (converter/writer.py, convert-hf.py, tokenizer-writer.py). Tokens are words
without meaning: what goes in is token ids.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

MODEL_MAGIC, TOKENIZER_MAGIC = 0xA00ABCD, 0x567124
LLAMA, SILU, Q40 = 0xABCD00, 1, 2
BLOCK = 32  # elements; a 16-bit scale and two elements a byte


def write_model(config: dict[str, object], target: Path) -> None:
    number = {name: int(value) for name, value in config.items() if isinstance(value, int | float)}
    hidden, inner, vocab = number["hidden_size"], number["intermediate_size"], number["vocab_size"]
    keys = hidden // number["num_attention_heads"] * number["num_key_value_heads"]
    header = {
        0: 0, 1: LLAMA, 2: hidden, 3: inner, 4: number["num_hidden_layers"], 5: number["num_attention_heads"],
        6: number["num_key_value_heads"], 7: 0, 8: 0, 9: vocab, 10: number["max_position_embeddings"], 11: SILU,
        12: number["rope_theta"], 13: Q40,
    }  # fmt: skip
    rng = np.random.default_rng(0)

    def quantized(file: BinaryIO, rows: int, columns: int) -> None:
        blocks = np.zeros(rows * columns // BLOCK, [("scale", "<f2"), ("pairs", "u1", BLOCK // 2)])
        blocks["scale"] = 0.25 / columns**0.5
        blocks["pairs"] = rng.integers(0, 256, blocks["pairs"].shape, np.uint8)
        file.write(blocks.tobytes())

    ones = np.ones(hidden, np.float32).tobytes()
    with target.open("wb") as file:
        _write_header(file, MODEL_MAGIC, header)
        file.write(rng.standard_normal((vocab, hidden), np.float32).tobytes())
        for _ in range(number["num_hidden_layers"]):
            for rows, columns in ((hidden, hidden), (keys, hidden), (keys, hidden), (hidden, hidden)):
                quantized(file, rows, columns)
            for rows, columns in ((inner, hidden), (hidden, inner), (inner, hidden)):
                quantized(file, rows, columns)
            file.write(2 * ones)
        file.write(ones)
        quantized(file, vocab, hidden)


def write_tokenizer(vocab: int, target: Path) -> None:
    words = [f"t{number:04d}".encode() for number in range(vocab)]
    with target.open("wb") as file:
        _write_header(file, TOKENIZER_MAGIC, {3: vocab - 2, 0: 1, 1: vocab, 2: len(words[0]), 9: 1, 10: 1})
        file.write(struct.pack("<i", vocab - 1))  # the end of a text
        for word in words:
            file.write(struct.pack("<fI", 0.0, len(word)) + word)


def _write_header(file: BinaryIO, magic: int, values: dict[int, int]) -> None:
    pairs = b"".join(struct.pack("<ii", *pair) for pair in values.items())
    file.write(struct.pack("<ii", magic, 8 + len(pairs)) + pairs)


if __name__ == "__main__":
    written = json.loads(Path(sys.argv[1]).read_text())
    write_model(written, Path(sys.argv[2]))
    write_tokenizer(int(written["vocab_size"]), Path(sys.argv[3]))
