"""Hosts, cards, layer times and states of nodes in the snapshot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builder_samples import T0, A, B, compute, facts, host, three

from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import (
    ComputeSample,
    EventSample,
    RooflineSample,
)
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.nodes.node_state import LOST_AFTER_NS, NUMBERS_OLD_NS, STALE_AFTER_NS
from swarm_protocol.snapshot.nodes.node_timings import MAX_LAYERS
from swarm_protocol.snapshot.swarm import Kind, State, Swarm
from swarm_protocol.units import BYTES_PER_GIB, NS_PER_S


def test_gpus_of_one_moment_are_added_up_and_shown_only_when_all_have_come():
    builder = three(facts=facts("RTX 3090", "RTX 3090"))
    gpu: dict[str, Any] = {"gpu": "RTX 3090", "gpu_util_percent": 50.0, "vram_total_bytes": 24, "power_w": 200.0}
    builder.sample(A, host(T0, **gpu, vram_free_bytes=20, temp_c=60.0, throttled=False))
    assert builder.snapshot(T0).nodes["host_at_ns"][0] == 0
    builder.sample(A, host(T0, **{**gpu, "gpu_util_percent": 100.0}, vram_free_bytes=10, temp_c=70.0, throttled=True))
    nodes = {name: column[0] for name, column in builder.snapshot(T0).nodes.items()}
    assert (nodes["vram_bytes"], nodes["vram_free_bytes"], nodes["power_w"]) == (48, 30, 400.0)
    assert (nodes["gpu_util_percent"], nodes["temp_c"], nodes["throttled"]) == (75.0, 70.0, 1.0)


def test_a_gpu_that_no_longer_answers_leaves_the_others_shown_with_the_next_reading():
    builder = three(facts=facts("RTX 3090", "RTX 3090"))
    builder.sample(A, host(T0, gpu="RTX 3090", vram_total_bytes=24, vram_free_bytes=20))
    builder.sample(A, host(T0 + 1, gpu="RTX 3090", vram_total_bytes=24, vram_free_bytes=19))
    nodes = builder.snapshot(T0).nodes
    assert (nodes["vram_bytes"][0], nodes["host_at_ns"][0]) == (24, T0)


def test_a_node_without_a_gpu_offers_half_of_its_ram_and_says_cpu():
    builder = three(facts=facts())
    before = builder.snapshot(T0)
    assert (before.nodes["vram_bytes"][0], before.facts[0].device) == (32 * BYTES_PER_GIB, "cpu: EPYC")
    builder.sample(A, host())
    nodes = builder.snapshot(T0).nodes
    assert (nodes["vram_bytes"][0], nodes["vram_free_bytes"][0]) == (4 * BYTES_PER_GIB, 4 * BYTES_PER_GIB)
    builder.sample(A, host(T0 + 1, ram_free_bytes=BYTES_PER_GIB))
    assert builder.snapshot(T0).nodes["vram_free_bytes"][0] == BYTES_PER_GIB


def test_cards_whose_driver_does_not_answer_keep_their_size_and_their_free_memory_is_unknown():
    builder = three(facts=facts("RTX 3090", "A4000"))
    builder.sample(A, host())
    swarm = builder.snapshot(T0)
    assert swarm.nodes["vram_bytes"][0] == 48 * BYTES_PER_GIB
    assert np.isnan(swarm.nodes["vram_free_bytes"][0])
    assert swarm.facts[0].device == "RTX 3090 + A4000"


def test_a_card_that_does_not_say_its_size_makes_the_memory_unknown_not_zero():
    unsaid = GpuFacts(name="NVIDIA Graphics Device", vram_bytes=0)
    builder = three(facts=HostFacts(system="s", cpu="c", cores=1, ram_bytes=1, gpus=(unsaid,)))
    builder.sample(A, host(gpu="NVIDIA Graphics Device"))
    swarm = builder.snapshot(T0)
    assert np.isnan(swarm.nodes["vram_bytes"]).all()
    assert swarm.nodes["host_at_ns"][0] == T0


def test_equal_cards_are_counted_in_the_device_name():
    assert three(facts=facts("RTX 3090", "RTX 3090")).snapshot(T0).facts[0].device == "2× RTX 3090"


def test_layer_times_are_the_latest_of_each_key():
    builder = three()
    builder.sample(A, compute(T0))
    builder.sample(A, compute(T0 + 1, ms_per_layer=1.5, verified=True))
    builder.sample(A, compute(T0 + 2, context=1024, ms_per_layer=4.0))
    assert not builder.sample(A, compute(T0, ms_per_layer=99.0))
    swarm = builder.snapshot(T0)
    layers = {layer.context: (layer.ms, layer.verified, layer.at_ns) for layer in swarm.facts[0].layers}
    assert layers == {128: (1.5, True, T0 + 1), 1024: (4.0, False, T0 + 2)}
    assert (swarm.nodes["compute_at_ns"][0], swarm.facts[0].device) == (T0 + 2, "RTX 3090")


def test_a_node_that_invents_models_cannot_make_others_hold_more_than_a_bound():
    builder = three()
    for i in range(MAX_LAYERS + 5):
        builder.sample(A, compute(T0 + i, model=f"m{i}"))
    layers = builder.snapshot(T0).facts[0].layers
    assert (len(layers), layers[0].model) == (MAX_LAYERS, "m5")


def test_the_roofline_is_that_of_the_best_number_format():
    builder = three()
    builder.sample(A, RooflineSample(at_ns=T0, device="d", dtype="fp16", mem_gbps=800.0, tflops=60.0))
    builder.sample(A, RooflineSample(at_ns=T0 + 1, device="d", dtype="fp32", mem_gbps=850.0, tflops=20.0))
    builder.sample(A, RooflineSample(at_ns=T0 + 2, device="d", dtype="fp16", mem_gbps=700.0, tflops=50.0))
    nodes = builder.snapshot(T0).nodes
    assert (nodes["mem_gbps"][0], nodes["tflops"][0]) == (850.0, 50.0)


def test_the_note_says_why_layer_times_are_missing_until_there_are_some():
    builder = three(facts=facts("RTX 3090", torch=None))
    assert builder.snapshot(T0).facts[0].note == "torch not installed: pip install 'swarmtop[torch]'"
    builder.sample(A, EventSample(at_ns=T0, kind="torch_missing", detail="no torch here"))
    assert builder.snapshot(T0).facts[0].note == "no torch here"
    builder.sample(A, compute(T0 + 1))
    assert builder.snapshot(T0).facts[0].note == ""
    builder.sample(A, EventSample(at_ns=T0, kind="torch_missing", detail="late"))
    assert builder.snapshot(T0).facts[0].note == ""


def test_a_failed_timing_is_over_with_the_next_that_succeeds_even_where_an_undisturbed_figure_still_counts():
    builder = three()
    builder.sample(A, compute(T0, ms_per_layer=1.0))
    builder.sample(A, EventSample(at_ns=T0 + 1, kind="compute_failed", detail="out of memory"))
    assert builder.snapshot(T0).facts[0].note == "out of memory"
    builder.sample(A, compute(T0 + 2, ms_per_layer=9.0, marks="contended"))
    facts = builder.snapshot(T0).facts[0]
    assert (facts.note, [layer.ms for layer in facts.layers]) == ("", [1.0])


@pytest.mark.parametrize(
    ("silent_ns", "state"),
    [
        (0, State.OK),
        (STALE_AFTER_NS - 1, State.OK),
        (STALE_AFTER_NS, State.STALE),
        (LOST_AFTER_NS, State.LOST),
        (10 * 365 * 86_400 * NS_PER_S, State.LOST),
    ],
)
def test_a_silent_node_becomes_stale_then_lost(silent_ns: int, state: State):
    assert three().snapshot(T0 + silent_ns).nodes["state"].tolist() == [state] * 3


def test_a_node_that_is_heard_but_measures_nothing_is_stale():
    builder = three()
    for node_id in (A, B):
        builder.seen(node_id, T0 + NUMBERS_OLD_NS)
    builder.sample(B, host(T0 + NUMBERS_OLD_NS))
    assert builder.snapshot(T0 + NUMBERS_OLD_NS).nodes["state"].tolist() == [State.STALE, State.OK, State.LOST]


def test_who_has_left_stays_so_until_heard_again():
    builder = three()
    builder.state(A, State.LEFT, T0 + 1)
    assert builder.snapshot(T0 + 2).nodes["state"][0] == State.LEFT
    builder.seen(A, T0 + 3, spooled=4)
    nodes = builder.snapshot(T0 + 4).nodes
    assert (nodes["state"][0], nodes["spooled"][0], nodes["seen_ns"][0]) == (State.OK, 4, T0 + 3)


def test_a_member_never_heard_of_is_unknown_and_one_just_heard_is_not_stale_at_once():
    builder = SwarmBuilder()
    builder.node(A, "ann")
    assert builder.snapshot(T0).nodes["state"][0] == State.UNKNOWN
    builder.seen(A, T0)
    assert builder.snapshot(T0).nodes["state"][0] == State.OK


def _with_card(*gpus: GpuFacts, ram_gib: float = 64, cpu: str = "c") -> Swarm:
    builder = SwarmBuilder()
    facts = HostFacts(system="Linux x86_64", cpu=cpu, cores=8, ram_bytes=int(ram_gib * 2**30), gpus=gpus)
    builder.node(A, "a", facts, seen_ns=T0)
    return builder.snapshot(T0)


def test_a_node_that_nobody_timed_takes_its_data_sheet_and_says_so() -> None:
    swarm = _with_card(GpuFacts(name="NVIDIA GeForce RTX 4090", vram_bytes=24564 << 20))
    assert (swarm.nodes["mem_gbps"][0], swarm.nodes["mem_kind"][0]) == (1008, Kind.ESTIMATE)
    assert (swarm.facts[0].sheet, swarm.facts[0].device_class) == ("GeForce RTX 4090", "gaming-gpu")


def test_a_measured_roofline_replaces_the_data_sheet() -> None:
    builder = SwarmBuilder()
    card = GpuFacts(name="NVIDIA GeForce RTX 4090", vram_bytes=24564 << 20)
    builder.node(A, "a", HostFacts(system="s", cpu="c", cores=1, ram_bytes=1 << 30, gpus=(card,)), seen_ns=T0)
    assert builder.snapshot(T0).facts[0].sheet
    builder.sample(A, RooflineSample(at_ns=T0, device="RTX 4090", dtype="fp16", mem_gbps=870.0, tflops=150.0))
    swarm = builder.snapshot(T0)
    assert (swarm.nodes["mem_gbps"][0], swarm.nodes["mem_kind"][0]) == (870, Kind.MEASURED)
    assert (swarm.facts[0].sheet, swarm.facts[0].device_class) == ("", "gaming-gpu")


def test_unlike_cards_of_a_live_node_are_weighed_by_their_memory() -> None:
    cards = [GpuFacts(name=f"{name} #{i}", vram_bytes=gib << 30) for i, (name, gib) in
             enumerate((("NVIDIA GeForce RTX 3090", 24), ("NVIDIA RTX A4000", 16)))]  # fmt: skip
    swarm = _with_card(*cards)
    assert swarm.nodes["mem_gbps"][0] == pytest.approx(40 / (24 / 936 + 16 / 448))
    assert swarm.nodes["vram_bytes"][0] == 40 << 30


def test_a_card_without_memory_of_its_own_takes_the_machines_and_says_so() -> None:
    """GB10: its driver answers [N/A]."""
    swarm = _with_card(GpuFacts(name="NVIDIA GB10", vram_bytes=0), ram_gib=119.6)
    assert swarm.nodes["vram_bytes"][0] == pytest.approx(119.6 * 7 / 8 * 2**30)
    assert (swarm.facts[0].device, swarm.facts[0].device_class) == ("NVIDIA GB10 (unified memory)", "apu")
    assert swarm.nodes["mem_gbps"][0] == 273


def test_a_shared_out_processor_gets_no_data_sheet() -> None:
    swarm = _with_card(cpu="AMD EPYC 7763 64-Core Processor")
    assert np.isnan(swarm.nodes["mem_gbps"][0])
    assert (swarm.facts[0].sheet, swarm.facts[0].device_class) == ("", "x86")


def _two_cards() -> SwarmBuilder:
    builder = SwarmBuilder()
    cards = (GpuFacts(name="RTX 3090 #0", vram_bytes=24 << 30), GpuFacts(name="RTX A4000 #1", vram_bytes=16 << 30))
    facts = HostFacts(system="s", cpu="c", cores=1, ram_bytes=1 << 36, gpus=cards)
    builder.node(A, "a", facts, seen_ns=T0)
    return builder


def _timed(device: str, ms: float, at_ns: int) -> ComputeSample:
    return ComputeSample(
        at_ns=at_ns, device=device, model="m", dtype="fp16", phase="decode", batch=1, context=128,
        ms_per_layer=ms, ms_p95=ms, n=9,
    )  # fmt: skip


def test_a_layer_on_two_unlike_cards_takes_the_mean_of_their_times_by_memory():
    """Before, the card that was timed last stood for both."""
    builder = _two_cards()
    builder.sample(A, _timed("RTX 3090 #0", 1.0, T0 + 1))
    assert [layer.ms for layer in builder.snapshot(T0 + 1).facts[0].layers] == [1.0]
    builder.sample(A, _timed("RTX A4000 #1", 2.0, T0 + 1))
    (layer,) = builder.snapshot(T0 + 2).facts[0].layers
    assert layer.ms == pytest.approx(0.6 * 1.0 + 0.4 * 2.0)
    builder.sample(A, _timed("RTX 3090 #0", 1.5, T0 + 3))
    assert builder.snapshot(T0 + 3).facts[0].layers[0].ms == pytest.approx(0.6 * 1.5 + 0.4 * 2.0)
    assert not builder.sample(A, _timed("RTX A4000 #1", 9.0, T0))  # older than what is known of that card


def test_rooflines_of_two_unlike_cards_are_weighed_like_their_layers():
    builder = _two_cards()
    for device, gbps in (("RTX 3090 #0", 900.0), ("RTX A4000 #1", 400.0)):
        sample = RooflineSample(at_ns=T0, device=device, dtype="fp16", mem_gbps=gbps, tflops=50.0)
        builder.sample(A, sample)
    assert builder.snapshot(T0).nodes["mem_gbps"][0] == pytest.approx(1 / (0.6 / 900 + 0.4 / 400))


def test_a_device_that_is_no_card_of_the_machine_replaces_what_was_timed_before():
    builder = _two_cards()
    builder.sample(A, _timed("cpu: EPYC", 40.0, T0 + 1))
    builder.sample(A, _timed("RTX 3090 #0", 1.0, T0 + 2))
    assert [layer.ms for layer in builder.snapshot(T0 + 2).facts[0].layers] == [1.0]
