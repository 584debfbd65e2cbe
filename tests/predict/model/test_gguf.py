"""GGUF files written by the `gguf` package: shapes and exact bytes, whatever is in the file; damaged ones a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.gguf import from_gguf
from swarm_predict.model.gguf_header import BLOCK_SIZES, read_header
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import UnknownModel

gguf = pytest.importorskip("gguf")
Q4, Q6, F32 = gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.Q6_K, gguf.GGMLQuantizationType.F32
HIDDEN, WIDTH, VOCAB = 256, 512, 1024


def tensor(writer: Any, name: str, shape: tuple[int, ...], kind: Any = F32) -> int:
    """Adds a tensor of zeros; its bytes."""
    if kind is F32:
        writer.add_tensor(name, np.zeros(shape, np.float32))
        return int(np.prod(shape)) * 4
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    data = np.zeros((*shape[:-1], shape[-1] // per_block * block_bytes), np.uint8)
    writer.add_tensor(name, data, raw_dtype=kind)
    return data.size


def written(path: Path, arch: str = "llama", layers: int = 4, experts: int = 0, **more: Any) -> dict[str, int]:
    """A small model; the bytes of each layer (by its number) and of the rest (by name)."""
    writer = gguf.GGUFWriter(str(path), arch, **more)
    writer.add_block_count(layers)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(8)
    writer.add_head_count_kv(4)
    writer.add_file_type(15)
    writer.add_token_list([f"token {i}" for i in range(VOCAB)])
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    held = {"embedding": tensor(writer, "token_embd.weight", (VOCAB, HIDDEN), Q4)}
    for i in range(layers):
        kind = Q6 if i == layers - 1 else Q4
        held[str(i)] = sum(
            [
                tensor(writer, f"blk.{i}.attn_norm.weight", (HIDDEN,)),
                tensor(writer, f"blk.{i}.attn_q.weight", (HIDDEN, HIDDEN), Q4),
                tensor(writer, f"blk.{i}.attn_k.weight", (HIDDEN // 2, HIDDEN), Q4),
                tensor(writer, f"blk.{i}.attn_v.weight", (HIDDEN // 2, HIDDEN), kind),
                tensor(writer, f"blk.{i}.attn_output.weight", (HIDDEN, HIDDEN), Q4),
            ]
        )
        each = (experts,) if experts else ()
        end = "_exps" if experts else ""
        held[f"mlp {i}"] = sum(
            [
                tensor(writer, f"blk.{i}.ffn_gate{end}.weight", (*each, WIDTH, HIDDEN), Q4),
                tensor(writer, f"blk.{i}.ffn_up{end}.weight", (*each, WIDTH, HIDDEN), Q4),
                tensor(writer, f"blk.{i}.ffn_down{end}.weight", (*each, HIDDEN, WIDTH), kind),
            ]
        )
    held["head"] = tensor(writer, "output.weight", (VOCAB, HIDDEN), Q6)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def test_bytes_are_those_of_each_tensor(tmp_path):
    held = written(tmp_path / "m.gguf")
    model = from_gguf([(tmp_path / "m.gguf").read_bytes()], "m")
    assert model.weights == "q4_k_m"
    for i in range(4):
        assert model.stage_bytes(i, i, "q4_k_m") == held[str(i)] + held[f"mlp {i}"]
    assert model.stage_bytes(3, 3, "q4_k_m") > model.stage_bytes(0, 0, "q4_k_m")
    assert (model.embedding_bytes("q4_k_m"), model.head_bytes("q4_k_m")) == (held["embedding"], held["head"])
    assert (model.layers, model.hidden, model.heads, model.kv_heads, model.vocab) == (4, HIDDEN, 8, 4, VOCAB)
    assert model.kv_bytes_per_token() == 2 * 4 * 32 * 2
    assert model.stage_bytes(0, 3, "fp16") == pytest.approx(2 * (model.params - 2 * VOCAB * HIDDEN))
    assert model.notes == ()


def test_a_step_reads_the_experts_that_it_wakes(tmp_path):
    held = written(tmp_path / "m.gguf", experts=8)
    model = from_gguf([(tmp_path / "m.gguf").read_bytes()], "m")
    assert model.layer.experts == 8
    assert model.weights_touched("q4_k_m", 1) == pytest.approx(
        sum(held[str(i)] + held[f"mlp {i}"] / 4 for i in range(4)) / 4
    )
    assert model.weights_touched("q4_k_m", 1000) == pytest.approx(model.layer_bytes("q4_k_m"))


def test_parts_of_a_split_file_are_one_model(tmp_path):
    held = written(tmp_path / "m.gguf", split_max_tensors=9)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) > 2
    model = from_gguf([part.read_bytes() for part in parts], "m")
    assert model.stage_bytes(0, 3, "q4_k_m") == sum(held[str(i)] + held[f"mlp {i}"] for i in range(4))
    with pytest.raises(UnknownModel, match=rf"m is one part of {len(parts)}; put all parts beside each other"):
        from_gguf([parts[0].read_bytes()], "m")


def test_a_file_without_its_layers_says_so(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    writer.add_block_count(4)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(688)
    writer.add_head_count(8)
    writer.add_head_count_kv(4)
    writer.add_vocab_size(1024)
    writer.add_file_type(15)
    size = tensor(writer, "token_embd.weight", (1024, 256))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = from_gguf([(tmp_path / "m.gguf").read_bytes()], "m")
    assert model.embedding_bytes("q4_k_m") == size
    assert model.layer.intermediate == 688
    assert model.notes == ("m has no tensors of 4 of 4 layers: they are counted by q4_k_m",)


def test_an_unfinished_download_says_so(tmp_path):
    written(tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    assert "unfinished download" in from_gguf([data[:-5000]], "m").notes[0]


def test_block_sizes_are_those_of_ggml():
    assert {int(kind): tuple(size) for kind, size in gguf.GGML_QUANT_SIZES.items()}.items() <= BLOCK_SIZES.items()


def test_our_reader_and_the_package_agree(tmp_path):
    written(tmp_path / "m.gguf", experts=4)
    header = read_header((tmp_path / "m.gguf").read_bytes(), "m")
    theirs = gguf.GGUFReader(str(tmp_path / "m.gguf")).tensors
    assert [(t.name, t.elements, t.size_bytes) for t in header.tensors] == [
        (t.name, int(t.n_elements), int(t.n_bytes)) for t in theirs
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a GGUF file"),
        (b"GGML....", "is not a GGUF file: it does not begin with GGUF"),
        (b"GGUF", "is not a complete GGUF file"),
        (b"GGUF\x09\0\0\0" + b"\0" * 16, "is GGUF version 9; 1 to 3 are understood"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "it is damaged"),
        (b"GGUF\x03\0\0\0" + b"\0" * 16, "has no general.architecture"),
    ],
)
def test_what_is_no_gguf_is_reported_in_one_line(data, said):
    with pytest.raises(UnknownModel) as caught:
        from_gguf([data], "m")
    assert said in str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    written(path, layers=2)
    return path.read_bytes()


@given(data=st.data())
def test_damaged_files_give_a_model_or_one_line(whole, data):
    """Within the header: every byte may be wrong, and the file may end anywhere."""
    end = data.draw(st.integers(0, 40_000))
    broken = bytearray(whole[:end])
    for _ in range(data.draw(st.integers(0, 4))):
        if broken:
            at = data.draw(st.integers(0, min(len(broken), 30_000) - 1))
            broken[at] = data.draw(st.integers(0, 255))
    found = _read(bytes(broken))
    assert "\n" not in str(found) if isinstance(found, UnknownModel) else found.layers > 0


def _read(data: bytes) -> ModelShape | UnknownModel:
    try:
        return from_gguf([data], "m")
    except UnknownModel as error:
        return error
