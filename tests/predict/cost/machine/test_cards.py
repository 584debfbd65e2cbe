"""Cards of one machine: in turn, or all sharing every layer, as the engine runs them."""

from __future__ import annotations

import pytest

from swarm_predict.cost.machine.cards import cards_of, exchange_ms, names_of, shared_by, with_one_size
from swarm_predict.cost.machine.layer_times import layer_columns
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.priors.posterior import NEUTRAL
from swarm_predict.search.solve import plan
from swarm_predict.types import DoesNotFit, Engine, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm

LLAMA = model_named("llama-3.1-70b")


def node(device: str) -> str:
    return device.replace(" ", "-")


def hosts(*named: str) -> Swarm:
    """Machines called after their cards, 1 ms apart: `4x-RTX-3090`."""
    nodes = [f'[[node]]\nname = "{node(name)}"\ngpu = "{name}"\nup_mbps = 1000\ndown_mbps = 1000' for name in named]
    return parse_swarm("\n".join([*nodes, '[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 1']), source="test")


def alone(name: str, engine: Engine, weights: str = "awq", **options: int) -> float:
    """Return the tokens per second of the whole model on one machine."""
    placement = (Stage(node(name), 0, LLAMA.layers - 1),)
    workload = Workload(weights=weights, engine=engine, **options)  # type: ignore[arg-type]
    return predict(hosts(name), LLAMA, placement, workload).tokens_per_s.p50


def test_a_device_name_stands_for_its_cards() -> None:
    assert names_of("2x RTX 3090 + RTX A4000") == ["RTX 3090", "RTX 3090", "RTX A4000"]
    assert cards_of("8× H100 SXM5 HBM3 80 GB") == 8
    assert cards_of("RTX 4090") == 1


@pytest.mark.parametrize(
    ("device", "engine", "size", "cards"),
    [
        ("4x RTX 3090", "vllm", 0, 4),
        ("4x RTX 3090", "llama.cpp", 0, 1),
        ("4x RTX 3090", "vllm", 2, 2),
        ("6x RTX 3090", "vllm", 0, 2),  # 6 and 3 do not divide 64 heads
        ("RTX 3090 + RTX A4000", "vllm", 0, 1),
        ("RTX 3090", "vllm", 4, 1),
    ],
)
def test_cards_split_a_layer_where_engine_and_heads_allow(device: str, engine: Engine, size: int, cards: int) -> None:
    assert shared_by(device, LLAMA, engine, size) == cards


def test_a_layer_is_read_by_all_cards_at_once() -> None:
    """Data sheets alone, without software: n cards take an n-th of the time, and their exchanges."""
    one, four = (
        layer_columns(hosts(name), [0], LLAMA, "fp16", "decode", 1, 128, engine="vllm", priors=NEUTRAL).ms[0]
        for name in ("RTX 3090", "4x RTX 3090")
    )
    assert four == pytest.approx(one / 4 + exchange_ms("4x RTX 3090", 4, 1, LLAMA))


def test_more_cards_are_faster_together_and_not_one_after_the_other() -> None:
    together = [alone(f"{count}x RTX 3090", "vllm") for count in (2, 4, 8)]
    assert together == sorted(together)
    assert together[2] > 1.3 * together[0]
    assert alone("8x RTX 3090", "llama.cpp") == pytest.approx(alone("2x RTX 3090", "llama.cpp"), rel=0.02)


def test_the_bytes_of_a_prompt_take_longer_over_pcie() -> None:
    assert exchange_ms("4x RTX 3090", 4, 512, LLAMA) > 10 * exchange_ms("4x H100 SXM5 HBM3 80 GB", 4, 512, LLAMA)
    assert exchange_ms("RTX 3090", 1, 512, LLAMA) == 0.0


def test_a_measured_layer_is_split_as_well() -> None:
    """Probes time a layer on one card."""
    swarm = parse_swarm(
        '[[node]]\nname = "a"\ngpu = "4x RTX 3090"\n[[node.layer]]\nmodel = "*"\nphase = "decode"\nbatch = 1\n'
        "context = 128\nms = 2.0",
        source="test",
    )
    in_turn, split = (
        layer_columns(swarm, [0], LLAMA, "fp16", "decode", 1, 128, engine=engine).ms[0]
        for engine in ("llama.cpp", "vllm")
    )
    assert 0.5 < split < 1.0 < in_turn


def test_all_stages_have_groups_of_one_size() -> None:
    swarm = hosts("4x RTX 3090", "2x RTX 3090")
    halves = (Stage("4x-RTX-3090", 0, 53), Stage("2x-RTX-3090", 54, 79))
    assert with_one_size(swarm, LLAMA, halves, Workload(engine="vllm")).tensor_parallel == 2
    mixed = predict(swarm, LLAMA, halves, Workload(weights="awq", engine="vllm"))
    assert any("2 cards of 4x-RTX-3090, 2x-RTX-3090 split every layer" in note for note in mixed.notes)


def test_a_plan_takes_the_best_size_and_says_who_is_left_out() -> None:
    swarm = hosts("4x RTX 3090", "2x RTX 3090", "RTX 4090")
    best = plan(swarm, LLAMA, Workload(weights="awq", engine="vllm"))
    assert [stage.node for stage in best.prediction.placement] == ["4x-RTX-3090"]
    assert {each.node for each in best.left_out} == {"2x-RTX-3090", "RTX-4090"}
    assert all("groups of 4" in each.why for each in best.left_out)
    assert best.bound_ms <= best.prediction.tpot_ms.p50 * (1 + 1e-9)


def test_a_larger_model_takes_smaller_groups_on_more_machines() -> None:
    swarm = hosts("4x RTX 3090", "2x RTX 3090")
    best = plan(swarm, LLAMA, Workload(weights="fp16", engine="vllm"))
    assert {stage.node for stage in best.prediction.placement} == {"4x-RTX-3090", "2x-RTX-3090"}
    assert any("2 cards of" in note for note in best.prediction.notes)
    with pytest.raises(DoesNotFit):
        plan(swarm, LLAMA, Workload(weights="fp16", engine="vllm", tensor_parallel=4), forbid=["2x-RTX-3090"])


def test_a_prediction_says_that_cards_take_turns() -> None:
    placement = (Stage("2x-RTX-3090", 0, LLAMA.layers - 1),)
    notes = predict(hosts("2x RTX 3090"), LLAMA, placement, Workload(weights="q4_k_m", engine="llama.cpp")).notes
    assert any("one after the other" in note and "--engine vllm" in note for note in notes)
