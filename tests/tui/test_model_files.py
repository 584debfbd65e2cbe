"""--model as people have it: folders, Hugging Face's cache, GGUF in parts, [model] in a swarm file; its own format."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import PredictError, UnknownModel
from swarmtop.errors import CommandError
from swarmtop.parsed_options import load_model, open_question
from swarmtop.shared_options import Parser, add_question, add_source

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 1000,
    "intermediate_size": 512,
}  # fmt: skip
PACKED = {**CONFIG, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}


def options(*words: str) -> argparse.Namespace:
    parser = Parser("x", "x", "x")
    add_source(parser)
    add_question(parser)
    return parser.parse_args(list(words))


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def test_a_folder_is_its_config_json(tmp_path):
    put(tmp_path / "my-model" / "config.json", CONFIG)
    assert load_model(str(tmp_path / "my-model")).name == "my-model"
    assert load_model(str(tmp_path / "my-model" / "config.json")).name == "my-model"
    assert load_model(str(put(tmp_path / "org--their-model_config.json", CONFIG))).name == "org/their-model"


def test_an_unknown_id_is_looked_for_in_the_cache(cache):
    entry = cache / "models--someone--their-own"
    put(entry / "snapshots" / ("a" * 40) / "config.json", {**CONFIG, "num_hidden_layers": 9})
    put(entry / "snapshots" / ("b" * 40) / "config.json", CONFIG)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("b" * 40)
    found = load_model("someone/their-own")
    assert (found.name, found.layers) == ("someone/their-own", 4)
    assert load_model(str(entry)).layers == 4
    with pytest.raises(UnknownModel):
        load_model("someone/their-other")


def test_the_cache_knows_a_fine_tune_better_than_its_name(cache):
    put(cache / "models--someone--Tuned-Llama-3.1-8B" / "snapshots" / "a" / "config.json", CONFIG)
    assert load_model("someone/Tuned-Llama-3.1-8B").layers == 4
    assert load_model("someone/Else-Llama-3.1-8B").layers == 32


def test_model_optimizer_says_the_format_in_a_file_beside(tmp_path):
    put(tmp_path / "m" / "config.json", CONFIG)
    put(
        tmp_path / "m" / "hf_quant_config.json", {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    )
    assert load_model(str(tmp_path / "m")).weights == "fp8"


def test_gguf_in_parts_and_in_a_folder(tmp_path):
    gguf = pytest.importorskip("gguf")
    import numpy as np

    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama", split_max_tensors=2)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_file_type(1)
    writer.add_tensor("token_embd.weight", np.zeros((100, 64), np.float16))
    for i in range(2):
        for name in ("attn_q", "attn_k", "ffn_up"):
            writer.add_tensor(f"blk.{i}.{name}.weight", np.zeros((64, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) > 1
    for given in (parts[0], parts[-1], tmp_path):
        found = load_model(str(given))
        assert (found.name, found.layers, found.stage_bytes(0, 1, "fp16")) == ("m", 2, 6 * 64 * 64 * 2)
    parts[-1].unlink()
    with pytest.raises(CommandError, match=r"is not there; put all parts of the model beside each other"):
        load_model(str(parts[0]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.gguf", "missing.gguf is not there; correct --model"),
        ("./missing/config.json", "cannot read missing/config.json (No such file or directory); correct --model"),
        ("empty.gguf", "is not a GGUF file"),
        ("folder", "holds neither a config.json nor a GGUF file; correct --model"),
        ("two", "holds 2 GGUF models; give one, as two/a.gguf"),
    ],
)
def test_what_cannot_be_read_is_reported_in_one_line(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.gguf").touch()
    Path("folder").mkdir()
    Path("two").mkdir()
    Path("two/a.gguf").touch()
    Path("two/b.gguf").touch()
    with pytest.raises(CommandError) as caught:
        load_model(name)
    assert said in str(caught.value)


def model_of(args: argparse.Namespace) -> ModelShape:
    model = open_question(args).model
    assert model is not None
    return model


def test_the_checkpoints_own_format_is_the_default(tmp_path):
    path = str(put(tmp_path / "m" / "config.json", PACKED))
    assert open_question(options("--model", path)).workload.weights == "awq"
    assert open_question(options("--model", path, "--weights", "Q8_0")).workload.weights == "q8_0"
    assert open_question(options("--model", "gpt-oss-20b")).workload.weights == "mxfp4"
    assert open_question(options("--model", "llama-2-70b")).workload.weights == "fp16"
    assert open_question(options()).model is None  # left open: what runs, or the largest that fits
    with pytest.raises(PredictError, match="weights 'fp12' is not a known format"):
        open_question(options("--weights", "fp12"))


def test_the_swarm_files_own_model_is_meant_unless_another_is_named(tmp_path):
    swarm = tmp_path / "s.toml"
    swarm.write_text(
        '[[node]]\nname = "a"\n[model]\nname = "odd"\nlayers = 4\nlayer_bytes = 1e8\nkv_bytes_per_token = 4096\n'
        "hidden = 256\nvocab = 1000\n"
    )
    assert model_of(options("--swarm", str(swarm))).stage_bytes(0, 3, "fp16") == 4e8
    assert model_of(options("--swarm", str(swarm), "--model", "odd")).name == "odd"
    assert model_of(options("--swarm", str(swarm), "--model", "tiny")).name == "tiny"
    swarm.write_text(swarm.read_text().replace("vocab", "vokab"))
    with pytest.raises(CommandError, match=r"s\.toml: .*vokab"):
        open_question(options("--swarm", str(swarm)))


def test_a_swarm_file_may_name_a_known_model_and_its_format(tmp_path):
    swarm = tmp_path / "s.toml"
    swarm.write_text('[[node]]\nname = "a"\n[model]\nname = "llama-2-7b"\nweights = "Q4_K_M"\n')
    assert model_of(options("--swarm", str(swarm))).name == "llama-2-7b"
    assert open_question(options("--swarm", str(swarm))).workload.weights == "q4_k_m"
    assert open_question(options("--swarm", str(swarm), "--weights", "int8")).workload.weights == "int8"
    other = open_question(options("--swarm", str(swarm), "--model", "tiny"))
    assert other.model is not None
    assert (other.model.name, other.workload.weights) == ("tiny", "fp16")
    swarm.write_text('[[node]]\nname = "a"\n[model]\nweights = "int8"\n')
    with pytest.raises(CommandError, match=r"s\.toml: .*\[model\]: name is missing"):
        open_question(options("--swarm", str(swarm)))
