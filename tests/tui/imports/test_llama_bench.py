"""What llama-bench measured, as layer times: a prediction of the same model on that machine gives the rate back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from swarmtop import cli
from swarmtop.imports.detect_format import kind_of
from swarmtop.imports.findings import Found, ImportProblem
from swarmtop.imports.llama_bench import layers
from swarmtop.imports.llama_bench.models import weights_of
from swarmtop.imports.llama_bench.rows import read as rows_of

SAMPLES = Path(__file__).parent / "samples"
JSON = (SAMPLES / "llama-bench.json").read_text("utf-8")
TABLE = (SAMPLES / "llama-bench.md").read_text("utf-8")


def bench() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(JSON)
    return found


def with_(**changes: Any) -> str:
    return json.dumps([test | changes for test in bench()])


def as_csv() -> str:
    out = io.StringIO()
    tests = [{k: v for k, v in test.items() if not k.startswith("samples")} for test in bench()]
    writer = csv.DictWriter(out, list(tests[0]), quoting=csv.QUOTE_ALL)
    out.write(",".join(tests[0]) + "\n")
    writer.writerows(tests)
    return out.getvalue()


def read(text: str, **given: Any) -> Found:
    return layers.read(text, given.get("node"), given.get("model"), given.get("gpu"))


FORMS = {
    "json": JSON,
    "jsonl": "\n".join(json.dumps(test) for test in bench()),
    "csv": as_csv(),
    "table": "\n".join(line for line in TABLE.splitlines() if "@" not in line),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_form_is_recognised_and_read_alike(text: str) -> None:
    assert kind_of(text) == "llama-bench"
    found = read(text).nodes[0]
    assert found.device == "NVIDIA GeForce RTX 4080"
    assert found.vram_gib == 16
    decode = next(layer for layer in found.layers if layer.phase == "decode")
    prompt = next(layer for layer in found.layers if layer.phase == "prefill")
    assert (decode.tokens, prompt.tokens) == (64, 512)
    assert decode.dtype == prompt.dtype == "q4_k_m"
    assert decode.ms == pytest.approx(1e3 / 118.8816 / 35.26, rel=0.01)  # 32 layers and a head of 3.26
    assert decode.ms_p95 == pytest.approx(decode.ms * (1 + 1.645 * 1.0418 / 118.88), rel=0.001)
    assert prompt.ms == pytest.approx((512 / 7.1 - 3.26 * decode.ms) / 32, rel=0.001)


CASES = [
    ("llama-3.1-8b", "q4_k_m", "Q4_K - Medium", "NVIDIA GeForce RTX 4080", 118.88, 7100.0),
    ("qwen2.5-0.5b", "q8_0", "Q8_0", "NVIDIA GeForce RTX 3090", 410.0, 21000.0),  # its head is a quarter of it
    ("gemma-2-9b", "q6_k", "Q6_K", "NVIDIA GeForce RTX 4090", 80.0, 6000.0),
    ("qwen3-30b-a3b", "q4_k_m", "Q4_K - Medium", "NVIDIA GeForce RTX 3090, NVIDIA GeForce RTX 3090", 130.0, 2400.0),
    ("gpt-oss-20b", "mxfp4_moe", "MXFP4 MoE", "NVIDIA GeForce RTX 5090", 280.0, 9000.0),
    ("llama-3.2-1b", "fp16", "F16", "Radeon RX 7900 XTX", 210.0, 15000.0),
    ("llama-3.2-1b", "q8_0", "Q8_0", "a card of nobody", 210.0, 15000.0),
]


@pytest.mark.parametrize("engine", ["chain", "llama.cpp"])
@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{case[1]}-{case[3][:18]}" for case in CASES])
def test_a_prediction_gives_the_measured_rates_back(
    case: tuple[str, str, str, str, float, float], engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, weights, written, device, decoded, prompted = case
    pp, tg = bench()
    common = {"model_type": f"x {written}", "model_filename": "m.gguf", "model_n_params": 0, "gpu_info": device}
    file, swarm = tmp_path / "bench.json", tmp_path / "swarm.toml"
    file.write_text(json.dumps([pp | common | {"avg_ts": prompted}, tg | common | {"avg_ts": decoded}]))
    assert cli.main(["import", str(file), "--node", "a", "--model", model, "--out", str(swarm)]) == 0
    if "nobody" in device:
        swarm.write_text(swarm.read_text().replace('name = "a"', 'name = "a"\nvram_gib = 24'))
    ask = ["--swarm", str(swarm), "--model", model, "--weights", weights, "--engine", engine, "--json"]
    capsys.readouterr()
    assert cli.main(["plan", *ask, "--context", "64", "--prompt", "512"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["tokens_per_s"]["p50"] == pytest.approx(decoded, rel=0.02)
    if "nobody" not in device:  # without bandwidth the head of a prompt is not known
        assert answer["ttft_ms"]["p50"] == pytest.approx(512e3 / prompted, rel=0.02)


@pytest.mark.parametrize(
    ("model_type", "weights"),
    [
        ("llama 8B Q4_K - Medium", "q4_k_m"), ("llama 8B Q4_K - Small", "q4_k_s"), ("llama 7B mostly Q4_0", "q4_0"),
        ("qwen2 7B Q3_K - Large", "q3_k_l"), ("gemma3 4B BF16", "bf16"), ("llama 1B all F32", "fp32"),
        ("llama 1B F16", "fp16"), ("llama 70B IQ2_XXS - 2.0625 bpw", "iq2_xxs"),
        ("llama 8B IQ3_S mix - 3.66 bpw", "iq3_m"),
        ("llama 8B IQ3_S - 3.4375 bpw", "iq3_s"), ("gpt-oss 20B MXFP4 MoE", "mxfp4_moe"), ("qwen3 8B Q6_K", "q6_k"),
        ("llama 8B IQ4_XS - 4.25 bpw", "iq4_xs"), ("llama 8B Q2_K - Medium", "q2_k"),
        ("llama 8B Q8_0 (guessed)", "q8_0"),
        ("bitnet 3B TQ1_0 - 1.69 bpw ternary", "tq1_0"),
    ],
)  # fmt: skip
def test_the_weights_of_a_type(model_type: str, weights: str) -> None:
    assert weights_of(rows_of(with_(model_type=model_type))[0]) == weights


def test_a_model_that_cannot_be_determined_is_requested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = with_(model_filename="my-own.gguf", model_n_params=5_555_555_555, model_type="llama ?B Q8_0")
    with pytest.raises(ImportProblem, match=r"no known model has the 5\.56 billion.*--model"):
        read(unknown)
    file = tmp_path / "bench.json"
    file.write_text(unknown)
    assert cli.main(["import", str(file), "--model", "llama-2-70b"]) != 0
    assert "5.56 billion parameters, and llama-2-70b 68.98" in capsys.readouterr().err


def test_a_file_named_for_another_model_is_not_used() -> None:
    found = read(with_(model_filename="llama-2-70b.Q4_K_M.gguf"))
    assert {layer.model for layer in found.nodes[0].layers} <= {"llama-3.1-8b", "llama-3-8b"}


def test_what_is_not_one_machine_in_one_phase_is_left_out_and_said() -> None:
    pp, tg = bench()
    both = pp | {"n_gen": 64}
    deep = pp | {"n_depth": 4096}
    found = read(json.dumps([tg, tg | {"n_depth": 4096, "avg_ts": 90.0}, both, deep, tg | {"backends": "CUDA,RPC"}]))
    assert [layer.tokens for layer in found.nodes[0].layers] == [64, 4160]
    said = " ".join(found.notes)
    for why in ("pp+tg", "behind others", "over RPC"):
        assert why in said
    with pytest.raises(ImportProblem, match="over RPC"):
        read(json.dumps([tg | {"backends": "RPC"}]))


def test_layers_on_the_processor_are_the_processors() -> None:
    assert read(with_(n_gpu_layers=0)).nodes[0].device == "AMD Ryzen 7 7800X3D 8-Core Processor"
    assert "mean of both" in " ".join(read(with_(n_gpu_layers=20)).notes)


def test_of_one_test_with_several_options_the_fastest_counts() -> None:
    tg = bench()[1]
    quantised = tg | {"avg_ts": 140.0, "type_k": "q8_0", "type_v": "q8_0"}
    found = read(json.dumps([tg, tg | {"avg_ts": 125.0, "flash_attn": True}, quantised]))
    assert len(found.nodes[0].layers) == 1
    assert found.nodes[0].layers[0].ms * 35.26 == pytest.approx(1e3 / 125, rel=0.01)
    assert "fastest" in " ".join(found.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"avg_ts": 0},
        {"avg_ts": "nan"},
        {"avg_ts": -1},
        {"n_gen": 1.5},
        {"n_prompt": 10**12},
        {"avg_ts": 10**400},
        {"n_gen": [1]},
        {"avg_ts": True},
    ],
)
def test_figures_that_are_none_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ImportProblem, match="test 1"):
        read(with_(**changes))


def test_a_machine_that_is_there_keeps_its_figures_and_other_layers(tmp_path: Path) -> None:
    swarm, file = tmp_path / "swarm.toml", tmp_path / "bench.json"
    swarm.write_text(
        '[[node]]\nname = "a"\nvram_gib = 11.5  # the screen takes some\n[[node.layer]]\nmodel = "llama-2-7b"\n'
        'ms = 0.3\ndtype = "q4_0"\n'
    )
    file.write_text(JSON)
    for _ in range(2):
        assert cli.main(["import", "llama-bench", str(file), "--node", "a", "--into", str(swarm)]) == 0
    text = swarm.read_text()
    assert "vram_gib = 11.5  # the screen takes some" in text
    assert "mem_gbps = 716.8" in text
    assert text.count("[[node.layer]]") == 3
    assert text.count('"llama-2-7b"') == 1


@pytest.mark.parametrize(
    ("lines", "device"),
    [
        ("ggml_vulkan: 0 = AMD Radeon RX 7900 XTX (RADV NAVI31) (radv) | uma: 0 | fp16: 1", "Radeon RX 7900 XTX"),
        ("ggml_metal_init: found device: Apple M2 Ultra\nggml_metal_init: GPU name:   Apple M2 Ultra", "M2 Ultra"),
        ("  Device 0: NVIDIA H100, compute capability 9.0\n  Device 1: NVIDIA H100, compute capability 9.0", "H100"),
    ],
)
def test_a_table_names_its_device_in_the_lines_before_it(lines: str, device: str) -> None:
    table = TABLE.replace("  Device 0: NVIDIA GeForce RTX 4080, compute capability 8.9, VMM: yes", lines)
    assert kind_of(table) == "llama-bench"
    found = read(table).nodes[0]
    assert device in (found.device or "")
    assert found.mem_gbps is not None


def test_without_a_device_it_is_asked_for_or_given() -> None:
    table = "\n".join(line for line in TABLE.splitlines() if line.startswith("|")).replace("±", "┬▒")
    found = read(table)
    assert found.nodes[0].device is None
    assert "--gpu" in " ".join(found.notes)
    assert read(table, gpu="RTX 4080").nodes[0].vram_gib == 16


def test_names_of_a_file_cannot_write_lines_of_the_swarm_file(tmp_path: Path) -> None:
    file, swarm = tmp_path / "bench.json", tmp_path / "swarm.toml"
    file.write_text(with_(model_type='llama 8B Q8_0\n[[node]]\nname = "evil"', gpu_info='x"\n[[node]]\nname = "y"'))
    assert cli.main(["import", str(file), "--node", "a", "--out", str(swarm)]) == 0
    names = [line for line in swarm.read_text().splitlines() if line.startswith("name =")]
    assert len(names) == 1
    assert swarm.read_text().count("\n[[node]]") == 1
