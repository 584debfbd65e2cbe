"""Claims about `swarmtop import`: figures of other tools arrive with their meaning, and anything else is one line.

The samples beside this file are what the tools write; where each is from stands in samples/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.catalogue import model_named
from swarm_protocol.devices.names import find
from swarm_protocol.snapshot.swarm import Kind, Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.imports import detect_format, gpu_monitors, iperf3, irtt, perfsonar, petals, pings, rtt_matrix
from swarmtop.imports.findings import Found, ImportProblem, LinkFound, Names, NodeFound
from swarmtop.imports.swarm_file_writer import written

SAMPLES = Path(__file__).parent / "samples"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["import", *words])
    out, err = capsys.readouterr()
    return code, out, err


def imported(capsys: pytest.CaptureFixture[str], *words: str) -> Swarm:
    code, out, _ = run(capsys, *words)
    assert code == 0
    return parse_swarm(out)


def link(swarm: Swarm, column: str, src: str, dst: str) -> float:
    return float(swarm.links[column][swarm.index(src), swarm.index(dst)])


# ---------------------------------------------------------------- Petals


def test_servers_of_petals_become_nodes_with_their_own_layer_times(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = imported(capsys, "petals", str(SAMPLES / "petals-state.json"))
    assert swarm.names == ("basement-3090s", "31mred-0m", "peer-cdC003")  # online ones; a hostile name is made harmless
    decode, prefill = swarm.facts[0].layers
    assert (decode.phase, decode.dtype, decode.ms) == ("decode", "nf4", pytest.approx(1000 / 812.25, rel=1e-3))
    assert (prefill.phase, prefill.context, prefill.ms) == ("prefill", 1024, pytest.approx(1024e3 / 24100.5, rel=1e-3))
    assert swarm.facts[2].layers[0].dtype == "bf16"  # quant_type none: what torch_dtype says
    assert link(swarm, "rtt_p50_ms", "basement-3090s", "31mred-0m") == pytest.approx(41.2)
    assert link(swarm, "kind", "31mred-0m", "basement-3090s") == Kind.NONE  # nobody pinged that way


def test_a_failed_speed_test_of_petals_is_no_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    """Petals then says 100 Mbit/s: 762.94 activations of 8192 values a second."""
    code, out, err = run(capsys, "petals", str(SAMPLES / "petals-state.json"))
    assert code == 0
    swarm = parse_swarm(out)
    assert swarm.nodes["up_kind"][0] == Kind.NONE
    assert swarm.nodes["up_mbps"][1] == pytest.approx(228.8818359375 * 8192 * 16 / 1e6)
    assert "servers whose rate is exactly Petals' default (100 Mbit/s) have none here: their speed test failed" in err


def test_the_route_is_the_one_that_a_client_of_petals_takes() -> None:
    """0-39 then the fast server: 40/812 + 119/2 ms + 40/1321 beats the near one with 41/2 ms + 40/571."""
    served = petals.read(
        (SAMPLES / "petals-state.json").read_bytes(), "petals-team/StableBeluga2", model_named("llama-2-70b")
    )
    near, far = 41.2 / 2 + 40e3 / 571.4, 118.7 / 2 + 40e3 / 1320.9
    assert far < near
    assert served.route == "basement-3090s:0-39,peer-cdC003:40-79"


def test_what_is_imported_from_petals_can_be_planned_and_predicted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "petals.toml"
    code, printed, err = run(capsys, "petals", str(SAMPLES / "petals-state.json"), "--out", str(out))
    assert (code, printed) == (0, "")
    offered = [line.split(": ", 1)[1] for line in err.splitlines() if ": swarmtop p" in line]
    assert len(offered) == 2
    for command in offered:  # the very lines that are printed
        words = [word.strip("'") for word in command.split()[1:]]
        assert cli.main([*words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["fits"] is True


def test_a_monitor_without_the_model_says_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "petals", str(SAMPLES / "petals-state.json"), "--model", "gpt2")
    assert code == 2
    assert "no model there has the 12 layers of gpt2; there are petals-team/StableBeluga2 (80 blocks)" in err


def test_a_monitor_that_cannot_be_reached_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "petals", "http://127.0.0.1:1/api/v1/state")
    assert code == 3
    assert err.startswith("swarmtop: cannot reach http://127.0.0.1:1/api/v1/state (refused)")
    assert len(err.splitlines()) == 1


# ---------------------------------------------------------------- paths


def test_irtt_gives_median_loss_and_jitter_to_both_directions(capsys: pytest.CaptureFixture[str]) -> None:
    file = json.loads((SAMPLES / "irtt-0.9.json").read_text())
    trips = sorted(trip["delay"]["rtt"] / 1e6 for trip in file["round_trips"])
    swarm = imported(capsys, "irtt", str(SAMPLES / "irtt-0.9.json"), "--from", "attic", "--to", "lab")
    for pair in (("attic", "lab"), ("lab", "attic")):
        assert link(swarm, "rtt_p50_ms", *pair) == pytest.approx(file["stats"]["rtt"]["median"] / 1e6, rel=1e-3)
        assert link(swarm, "jitter_ms", *pair) == pytest.approx(trips[18] - trips[0], rel=1e-3)  # 19th of 20 is p95
        assert link(swarm, "loss", *pair) == 0


def test_iperf3_backwards_is_the_rate_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = imported(capsys, "iperf3", str(SAMPLES / "iperf-3.12-reverse.json"), "--from", "attic", "--to", "lab")
    assert link(swarm, "mbps", "lab", "attic") == pytest.approx(20.97, rel=1e-3)
    assert link(swarm, "mbps_kind", "lab", "attic") == Kind.MEASURED
    assert link(swarm, "mbps_kind", "attic", "lab") == Kind.NONE


def test_iperf3_over_udp_says_what_its_rate_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "iperf3", str(SAMPLES / "iperf-3.12-udp.json"))
    assert code == 0
    assert "sends at the rate it was told" in err


def test_perfsonar_round_trips_take_names_from_the_test(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = imported(capsys, "perfsonar", str(SAMPLES / "perfsonar-rtt.json"))
    assert swarm.names == ("ps-ams.example.net", "ps-nyc.example.net")
    assert link(swarm, "rtt_p50_ms", *swarm.names) == pytest.approx(81.5)
    assert link(swarm, "loss", *swarm.names) == pytest.approx(0.2)


def test_perfsonar_latency_keeps_what_does_not_depend_on_clocks(capsys: pytest.CaptureFixture[str]) -> None:
    """Its delays are negative here: two clocks disagree. How much they vary is right all the same."""
    swarm = imported(capsys, "perfsonar", str(SAMPLES / "perfsonar-latency.json"), "--from", "a", "--to", "b")
    assert link(swarm, "kind", "a", "b") == Kind.NONE
    assert link(swarm, "jitter_ms", "a", "b") == pytest.approx(0.13)  # 95 of 100 are at most -0.20, the least is -0.33
    assert link(swarm, "loss", "a", "b") == pytest.approx(2 / 102, rel=1e-3)


def test_perfsonar_throughput_is_a_rate_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = imported(capsys, "perfsonar", str(SAMPLES / "perfsonar-throughput.json"))
    assert link(swarm, "mbps", "ps-ams.example.net", "ps-nyc.example.net") == pytest.approx(936.5, rel=1e-3)


def test_a_square_keeps_its_gaps_and_its_two_directions(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = imported(capsys, "matrix", str(SAMPLES / "square.csv"))
    assert (link(swarm, "rtt_p50_ms", "ams", "nyc"), link(swarm, "rtt_p50_ms", "nyc", "ams")) == (81.2, 80.9)
    assert link(swarm, "kind", "nyc", "fra") == Kind.NONE


def test_a_pair_without_its_way_back_gets_the_same_one(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = imported(capsys, "matrix", str(SAMPLES / "pairs.csv"))
    assert (link(swarm, "rtt_p50_ms", "ams", "fra"), link(swarm, "rtt_p50_ms", "fra", "ams")) == (9.1, 9.1)
    assert (link(swarm, "rtt_p50_ms", "nyc", "ams"), link(swarm, "loss", "ams", "nyc")) == (80.9, 0.001)


def test_a_matrix_in_seconds() -> None:
    assert rtt_matrix.read("x,a,b\na,0,0.08\nb,0.09,0\n", "s").links[0] == LinkFound("a", "b", rtt_ms=80.0)


# ---------------------------------------------------------------- machines


def test_free_memory_of_all_cards_is_what_layers_may_take(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = imported(capsys, "gpus", str(SAMPLES / "nvidia-smi.csv"), "--node", "attic")
    assert swarm.nodes["vram_bytes"][0] == pytest.approx((23870 + 20112) * 2**20, rel=1e-3)
    assert (swarm.facts[0].device, swarm.nodes["mem_gbps"][0]) == ("2× NVIDIA GeForce RTX 3090", 936)


def test_all_smi_names_its_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "gpus", str(SAMPLES / "all-smi.prom"))
    swarm = parse_swarm(out)
    assert (code, swarm.names) == (0, ("rack-1", "studio", "odd"))
    assert list(swarm.nodes["vram_bytes"] / 2**30) == pytest.approx([14, 192, 8])
    assert "no bandwidth is known of Mystery 9" in err


@pytest.mark.parametrize(
    ("device", "gbps"),
    [
        ("NVIDIA GeForce RTX 3090 Ti", 1008), ("NVIDIA GeForce RTX 3090", 936), ("NVIDIA H100 80GB HBM3", 3350),
        ("NVIDIA H100 PCIe", 2039), ("NVIDIA A100-SXM4-80GB", 2039), ("NVIDIA A100-SXM4-40GB", 1555),
        ("NVIDIA A10", 600), ("NVIDIA L4", 300), ("Tesla T4", 320), ("GeForce GT 710", None),
    ],
)  # fmt: skip
def test_a_card_is_known_by_all_words_of_its_name(device: str, gbps: float | None) -> None:
    found = find(device)
    assert (None if found is None else found.mem_gbps) == gbps


# ---------------------------------------------------------------- files

MINE = """# my swarm
[[node]]
name = "attic"  # under the roof
vram_gib = 24.0

[client]
node = "attic"
"""


def test_hand_written_parts_stay_when_something_is_added(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "swarm.toml"
    file.write_text(MINE)
    assert run(capsys, "gpus", str(SAMPLES / "nvidia-smi.csv"), "--node", "attic", "--into", str(file))[0] == 0
    path = ("--from", "attic", "--to", "lab")
    assert run(capsys, "irtt", str(SAMPLES / "irtt-0.9.json"), *path, "--into", str(file))[0] == 0
    assert run(capsys, "irtt", str(SAMPLES / "irtt-0.9.json"), *path, "--into", str(file))[0] == 0  # renews, no twin
    text = file.read_text()
    assert text.startswith('# my swarm\n[[node]]\nname = "attic"  # under the roof\nvram_gib = 42.95\n')
    assert text.count("[[link]]") == 2
    swarm = parse_swarm(text)
    assert (swarm.names, swarm.client) == (("attic", "lab"), "attic")


def test_a_new_file_never_overwrites(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "swarm.toml"
    file.write_text(MINE)
    code, _, err = run(capsys, "matrix", str(SAMPLES / "square.csv"), "--out", str(file))
    assert (code, file.read_text()) == (2, MINE)
    assert err.endswith("exists already; take another --out, or add to it with --into\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("irtt", "FILE"), "irtt does not name the machines; give --from NODE --to NODE"),
        (("gpus", "nvidia-smi.csv"), "nvidia-smi does not say which machine this is; give --node NAME"),
        (("irtt", "square.csv", "--from", "a", "--to", "b"), "this is not a result of irtt ("),
        (("iperf3", "petals-state.json"), "this is not a result of iperf3 ("),
        (("perfsonar", "petals-state.json"), "this is not a result of an rtt, throughput or latency test"),
        (("petals", "irtt-0.9.json"), "this is not a state of a Petals health monitor ("),
        (("matrix", "all-smi.prom"), "cells, the first line"),
        (("gpus", "square.csv", "--node", "a"), "this is neither a table of nvidia-smi"),
        (("matrix", "nowhere.csv"), "cannot read"),
        (("iperf3", "square.csv", "--from", "../x"), "'../x' is not a node name; take 1 to 32 of A-Z a-z 0-9 . _ -"),
        (
            ("irtt", "http://127.0.0.1:1/x"),
            "a URL is taken for petals, exo, mesh-llm and gpus only; save irtt's output and give the file",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], line: str) -> None:
    kind, name, *rest = words
    where = name if "://" in name else str(SAMPLES / name.replace("FILE", "irtt-0.9.json"))
    code, out, err = run(capsys, kind, where, *rest)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert line in err


def test_two_machines_never_share_a_name() -> None:
    names = Names()
    given = [names.of(word) for word in ("a b", "a-b", "a b", "x" * 40, "x" * 50)]
    assert given == ["a-b", "a-b-2", "a-b", "x" * 32, "x" * 30 + "-2"]


# ---------------------------------------------------------------- anything


def _some_json() -> st.SearchStrategy[Any]:
    """Real samples with pieces swapped for others: what a reader of one shape most likely trips over."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([]) | st.just({})
    files = [
        json.loads(path.read_text()) for path in [*sorted(SAMPLES.glob("pe*.json")), SAMPLES / "iperf-3.12-udp.json"]
    ]

    @st.composite
    def mutated(draw: st.DrawFn) -> Any:
        file = json.loads(json.dumps(draw(st.sampled_from(files))))
        for _ in range(draw(st.integers(1, 3))):
            here = file
            while True:
                keys = list(here) if isinstance(here, dict) else list(range(len(here)))
                if not keys:
                    break
                key = draw(st.sampled_from(keys))
                deeper = here[key]
                if isinstance(deeper, dict | list) and deeper and draw(st.booleans()):
                    here = deeper
                    continue
                here[key] = draw(leaves)
                break
        return file

    return mutated()


def _by_kind(data: bytes) -> Found:
    detect_format.kind_of(detect_format.decoded(data))
    return Found()


@given(_some_json() | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_no_input_is_anything_but_found_or_a_problem(file: Any) -> None:
    data = file.encode() if isinstance(file, str) else json.dumps(file).encode()
    shape = model_named("llama-2-70b")
    readers = (
        lambda: petals.read(data, "petals-team/StableBeluga2", shape).found,
        lambda: perfsonar.read(data),
        lambda: iperf3.read(data),
        lambda: irtt.read(data, "a", "b"),
        lambda: rtt_matrix.read(data.decode()),
        lambda: gpu_monitors.read(data.decode(), "a"),
        lambda: _by_kind(data),
    )
    readers += (lambda: pings.ping(data.decode(), "a", "b"), lambda: pings.mtr(data.decode(), "a", "b"))
    for reader in readers:
        try:
            found = reader()
        except ImportProblem:
            continue
        assert isinstance(found, Found)


@given(
    st.lists(
        st.builds(
            NodeFound,
            st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True),
            vram_gib=st.none() | st.floats(0.1, 1e3),
            device=st.none() | st.text(max_size=20),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda node: node.name,
    )
)
def test_what_is_written_reads_back(nodes: list[NodeFound]) -> None:
    swarm = parse_swarm(written(Found(tuple(nodes), source="a test")))
    assert swarm.names == tuple(node.name for node in nodes)
