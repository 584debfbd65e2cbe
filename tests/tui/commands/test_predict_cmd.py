"""Claims about `swarmtop predict`: what it prints, the keys scripts rely on, and one line for each wrong placement."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from cli_golden import PREDICTION, golden

from swarmtop import cli
from swarmtop.text import quantities
from swarmtop.text.prediction import prediction_text

ROOT = Path(__file__).parents[3]
GARAGE = ROOT / "examples" / "garage.toml"
KEYS = [
    "model", "weights", "engine", "client", "placement", "fits", "measured", "observed_runs", "tpot_ms", "tokens_per_s",
    "throughput_tokens_per_s", "ttft_ms", "breakdown_ms", "stages", "limited_by", "prompt_limited_by", "notes",
    "verdicts", "sensitivity", "batch", "trust", "baselines", "watched", "launch",
]  # fmt: skip
TWO = "attic-3090:0-21,lab-a4000:22-31"


def run(capsys: pytest.CaptureFixture[str], placement: str, *words: str) -> tuple[int, str, str]:
    code = cli.main(["predict", "--swarm", str(GARAGE), "--placement", placement, *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_has_exactly_the_keys_that_scripts_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, TWO, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == KEYS
    assert found["placement"] == [
        {"node": "attic-3090", "first": 0, "last": 21},
        {"node": "lab-a4000", "first": 22, "last": 31},
    ]
    assert list(found["tpot_ms"]) == ["mean", "p5", "p50", "p95"]
    assert list(found["tokens_per_s"]) == ["p5", "p50", "p95"]
    assert list(found["ttft_ms"]) == ["p50", "p95"]
    assert list(found["breakdown_ms"]) == ["compute", "network", "overhead", "head"]
    stage_keys = ["node", "layers", "compute_ms", "hop_ms", "memory_gib", "memory_free_gib"]
    assert [list(stage) for stage in found["stages"]] == [stage_keys] * 2
    assert found["fits"] is True


def test_launch_lines_come_with_the_placement_that_was_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, TWO, "--engine", "petals", "--launch")
    assert code == 0
    assert "--block_indices 22:32" in out.split("\nlaunch\n")[1]
    asked = json.loads(run(capsys, TWO, "--engine", "petals", "--launch", "--json")[1])
    assert any("--block_indices 0:22" in line for line in asked["launch"])
    assert json.loads(run(capsys, TWO, "--json")[1])["launch"] is None


def _rounding(value: float) -> float:
    """The most that writing a value with six significant digits can take off or add."""
    return 0.5 * 10.0 ** (math.floor(math.log10(value)) - 5) if value else 0.0


def test_the_parts_of_a_token_add_up_to_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, TWO, "--json")[1])
    whole, parts = found["tpot_ms"]["mean"], found["breakdown_ms"].values()
    assert abs(sum(parts) - whole) <= sum(_rounding(value) for value in (whole, *parts))
    assert found["tokens_per_s"]["p5"] <= found["tokens_per_s"]["p50"] <= found["tokens_per_s"]["p95"]


@pytest.mark.parametrize(
    ("placement", "words", "code"),
    [
        ("attic-3091:0-31", (), 2),
        ("attic-3090:0-21,lab-a4000:20-31", (), 2),
        ("attic-3090:0-21", (), 2),
        ("attic-3090:0-99", (), 2),
        ("attic-3090", (), 2),
        ("", (), 2),
        ("home:0-31", (), 2),
        (TWO, ("--model", "llama-99b"), 2),
        (TWO, ("--model", "no/config.json"), 2),
        (TWO, ("--weights", "fp17"), 2),
        (TWO, ("--client", "nobody"), 2),
        ("barn-3060:0-31", (), 4),
    ],
)
def test_a_placement_without_an_answer_is_one_line_with_the_right_exit_code(
    placement: str, words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, placement, *words)
    assert found == code
    assert err.count("\n") == 1
    assert err.startswith("swarmtop: ")
    assert out == ""


def test_a_placement_that_does_not_fit_names_the_node_and_shows_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "barn-3060:0-31")
    assert (code, out) == (4, "")
    assert err == (
        "swarmtop: barn-3060 needs 15.5 GiB for layers 0-31, has 11.2; give it fewer layers, or smaller --weights\n"
    )
    code, out, _ = run(capsys, "barn-3060:0-31", "--json")
    assert (code, json.loads(out)["fits"]) == (4, False)


def test_the_model_that_the_swarm_file_names_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = tmp_path / "garage.toml"
    named.write_text('[model]\nname = "llama-2-7b"\nweights = "q4_k_m"\n' + GARAGE.read_text())
    assert cli.main(["predict", "--swarm", str(named), "--placement", TWO, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["weights"]) == ("llama-2-7b", "q4_k_m")


def test_a_hugging_face_config_is_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
                "tie_word_embeddings": False,
            }
        )
    )
    same = [json.loads(run(capsys, TWO, "--json", "--model", str(m))[1]) for m in (folder, folder / "config.json")]
    assert same[0] == same[1]
    assert [stage["layers"] for stage in same[0]["stages"]] == [22, 10]


def test_the_answer_reads_as_it_did() -> None:
    golden("predict.txt", prediction_text(PREDICTION, 100))


def test_no_line_is_longer_than_the_page() -> None:
    for width in (80, 100):
        assert max(quantities.width(line) for line in prediction_text(PREDICTION, width).splitlines()) <= width
