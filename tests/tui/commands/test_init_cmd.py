"""`swarmtop init`, `--nodes` and `--with` by name, and what is left out of a plan, as people see them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.commands.data import init
from swarmtop.errors import CommandError
from swarmtop.local import detect_machine
from swarmtop.local.swarm_file_wizard import written

LEFT_OUT = """
[[node]]
name = "known"
vram_gib = 24.0
mem_gbps = 936.0
[[node]]
name = "novram"
mem_gbps = 1008.0
[[node]]
name = "nospeed"
vram_gib = 24.0
[[link]]
from = "*"
to = "*"
rtt_ms = 1.0
"""


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def answering(*answers: str) -> Callable[[str], str]:
    left = list(answers)

    def ask(question: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return ask


def test_five_answers_make_a_file_that_can_be_planned(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answers = init.ask_questions(None, answering("4090, attic=2x3060", "Utrecht, Berlin", "fiber", "", "attic"))
    text = written(answers, "home.toml")
    swarm = parse_swarm(text)
    assert (swarm.names, swarm.client) == (("4090", "attic"), "attic")
    assert list(swarm.nodes["vram_bytes"] / 2**30) == [24, 24]
    file = tmp_path / "home.toml"
    file.write_text(text)
    assert run(capsys, "plan", "--swarm", str(file), "--model", answers.model)[0] == 0


def test_a_line_is_a_kind_or_rates_or_both(capsys: pytest.CaptureFixture[str]) -> None:
    given = answering("4090, 3060, 3090 dsl, 4060", "", "250/40, fiber, 5g, 100/20 cable", "", "")
    nodes = init.ask_questions(None, given).nodes
    assert [(node.access, node.down_mbps, node.up_mbps) for node in nodes] == [
        (None, 250, 40),
        ("fiber", None, None),
        ("dsl", None, None),  # as it was written with the machine
        ("cable", 100, 20),
    ]
    up_mbps = parse_swarm(written(init.ask_questions(None, answering("4090", "", "250/40", "", "")), "x.toml")).nodes[
        "up_mbps"
    ]
    assert list(up_mbps) == [40]
    init.ask_questions(None, answering("4090", "", "40", "0/40", "fiber", "", ""))
    said = capsys.readouterr().err
    assert "there is no line '40'; there are " in said
    assert "a rate of 0 Mbit/s sends nothing" in said


def test_a_wrong_answer_is_asked_again_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    answers = init.ask_questions(
        None, answering("4091", "4090", "Atlantis", "Berlin", "fibber", "cable", "nope-7b", "", "x", "")
    )
    (node,) = answers.nodes
    assert (node.device, node.city, node.access, answers.model) == ("4090", "Berlin", "cable", "llama-3.1-8b")
    said = capsys.readouterr().err
    for line in ("no data sheet of '4091'", "no round trips of 'Atlantis'", "there is no line 'fibber'", "nope-7b"):
        assert line in said


def test_questions_without_an_answer_end() -> None:
    with pytest.raises(CommandError, match="--detect asks none"):
        init.ask_questions(None, answering("4090"))
    with pytest.raises(CommandError, match="no usable answer in 5 tries"):
        init.ask_questions(None, lambda question: "4091")


def test_without_a_terminal_this_machine_is_described(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"name, memory.total [MiB], memory.free [MiB]\nNVIDIA GeForce RTX 3090, 24576 MiB, 24000 MiB\n"
    monkeypatch.setattr(detect_machine, "output_of", lambda command: table if command[0] == "nvidia-smi" else None)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    file = tmp_path / "s.toml"
    code, _, err = run(capsys, "init", str(file))
    assert (code, "nvidia-smi names NVIDIA GeForce RTX 3090" in err) == (0, True)
    swarm = parse_swarm(file.read_text())
    assert swarm.nodes["mem_gbps"][0] == 936
    assert run(capsys, "init", str(file))[0] == 2  # never overwrites


@pytest.mark.parametrize(
    ("files", "device", "gbps"),
    [
        ({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}, "Raspberry Pi 5 Model B Rev 1.0", 17.1),
        (
            {"proc/cpuinfo": "model name\t: AMD Ryzen 9 7950X 16-Core Processor\n"},
            "AMD Ryzen 9 7950X 16-Core Processor",
            83.2,
        ),
        ({"proc/cpuinfo": "model name\t: Something Else\n"}, "Something Else", None),
    ],
)
def test_a_machine_without_a_gpu_is_its_chip(
    tmp_path: Path, files: dict[str, str], device: str, gbps: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def nothing(command: Sequence[str]) -> None:
        return None

    found = detect_machine.detect(nothing, tmp_path)
    assert (found.node.device, found.node.mem_gbps) == (device, gbps)
    assert found.node.vram_gib


def test_a_plan_names_who_it_could_not_consider(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(LEFT_OUT)
    code, out, _ = run(capsys, "plan", "--swarm", str(file), "--model", "llama-3.1-8b")
    assert code == 0
    assert "the optimum on the only machine with enough data, proven" in out
    assert "  novram: no memory is known" in out
    found = json.loads(run(capsys, "plan", "--swarm", str(file), "--model", "llama-3.1-8b", "--json")[1])
    assert [each["node"] for each in found["left_out"]] == ["novram", "nospeed"]


def test_machines_are_named_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = "4090@Utrecht fiber, 3090@Berlin cable"
    ask = ("--nodes", nodes, "--model", "llama-3.1-70b", "--weights", "q4_k_m")
    planned = json.loads(run(capsys, "plan", *ask, "--json")[1])
    placement = ",".join(f"{stage['node']}:{stage['first']}-{stage['last']}" for stage in planned["placement"])
    predicted = json.loads(run(capsys, "predict", *ask, "--placement", placement, "--json")[1])
    assert planned["tpot_ms"] == predicted["tpot_ms"]
    assert any("data sheet of GeForce RTX 4090" in note for note in planned["notes"])


def test_a_machine_is_added_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("plan", "--nodes", "4090@Utrecht fiber", "--model", "llama-3.1-70b", "--weights", "q4_k_m", "--json")
    assert run(capsys, *ask)[0] == 4  # does not fit
    more = json.loads(run(capsys, *ask, "--with", "4090@Berlin fiber")[1])
    assert [stage["node"] for stage in more["placement"]] == ["4090", "4090-2"] or len(more["placement"]) == 2
    code, _, err = run(capsys, *ask, "--with", "4091")
    assert (code, "no data sheet of '4091'" in err) == (2, True)
