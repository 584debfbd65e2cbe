"""Experts of timed tokens: on average as many as a batch uses, and for each token as many as it chooses."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.compute.layers.expert_routing import assigned_experts, experts_used
from swarm_protocol.layer_shape import LayerShape

MIXTRAL = LayerShape(
    architecture="mixtral", hidden=32, intermediate=48, heads=4, kv_heads=2, head_dim=8, experts=8, experts_active=2
)


@given(
    st.integers(1, 64).flatmap(lambda experts: st.tuples(st.just(experts), st.integers(1, experts))),
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(0, 99),
)
def test_what_is_dealt_keeps_to_the_average(shape: tuple[int, int], tokens: int, count: int, seed: int) -> None:
    experts, active = shape
    routings = assigned_experts(experts, active, tokens, count, Random(seed))
    awake = 0
    for passes, routing in enumerate(routings, 1):
        assert len(routing) == tokens
        assert all(len(set(seen)) == len(seen) == active for seen in routing)
        assert all(0 <= expert < experts for seen in routing for expert in seen)
        awake += len({expert for seen in routing for expert in seen})
        assert awake == pytest.approx(experts_used(experts, active, tokens) * passes, abs=0.51)


def test_the_average_is_that_of_independent_choices() -> None:
    random = Random(1)
    draws = [len({e for _ in range(3) for e in random.sample(range(8), 2)}) for _ in range(20_000)]
    assert experts_used(8, 2, 3) == pytest.approx(sum(draws) / len(draws), rel=0.01)


@pytest.mark.parametrize(("batch", "rounds"), [(1, 1), (3, 4), (400, 1)])
def test_a_timed_pass_wakes_the_average_whatever_the_router_says(batch: int, rounds: int) -> None:
    torch = pytest.importorskip("torch")
    from swarm_probe.compute.devices import devices
    from swarm_probe.compute.layers.decoder_layer import build_layers
    from swarm_probe.compute.layers.mlp import Experts, Mlp
    from swarm_probe.compute.timing.device_timing import pass_through
    from swarm_probe.compute.timing.timing_points import Point

    device = next(device for device in devices(1 << 30) if device.torch_name == "cpu")
    layers = build_layers(MIXTRAL, 3, capacity=8, dtype=torch.float32, device="cpu")
    awake: list[Mlp] = []
    forward = Mlp.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mlp, "forward", lambda mlp, x: (awake.append(mlp), forward(mlp, x))[1])
        through = pass_through(device, layers, torch.float32, Point("decode", batch, 4))
        through.act()
    assert through.rounds == rounds
    assert len(awake) == pytest.approx(experts_used(8, 2, batch) * rounds * len(layers), abs=0.51)
    for layer in layers:
        assert isinstance(layer.mlp, Experts)
        assert (layer.mlp.script is not None) == (batch == 3)


@pytest.mark.parametrize(("mem_gbps", "rounds"), [(1e6, 4), (1e-9, 1)])
def test_where_reading_experts_takes_long_a_pass_is_fewer_rounds(mem_gbps: float, rounds: int) -> None:
    torch = pytest.importorskip("torch")
    from swarm_probe.compute.devices import choose_format, devices
    from swarm_probe.compute.layers.decoder_layer import build_layers
    from swarm_probe.compute.timing.device_timing import _Run
    from swarm_probe.compute.timing.timing_points import Point
    from swarm_protocol.messages.probe_messages import ComputeTask
    from swarm_protocol.messages.samples import RooflineSample

    device = next(device for device in devices(1 << 30) if device.torch_name == "cpu")
    task = ComputeTask(
        task_id=1, model="m", layer=MIXTRAL, dtype="fp32", batches=(3,), contexts=(4,), prefill_tokens=()
    )
    rates = RooflineSample(at_ns=1, device="cpu", dtype="fp32", mem_gbps=mem_gbps, tflops=1.0)
    run = _Run(device, task, choose_format(device, "fp32"), rates, tuple, 0.0)
    layers = build_layers(MIXTRAL, 1, capacity=8, dtype=torch.float32, device="cpu")
    assert run._routings(Point("decode", 3, 4), layers) == rounds


def test_a_layer_without_experts_takes_one_round() -> None:
    torch = pytest.importorskip("torch")
    from swarm_probe.compute.devices import devices
    from swarm_probe.compute.layers.decoder_layer import build_layers
    from swarm_probe.compute.timing.device_timing import pass_through
    from swarm_probe.compute.timing.timing_points import Point

    device = next(device for device in devices(1 << 30) if device.torch_name == "cpu")
    shape = msgspec.structs.replace(MIXTRAL, architecture="llama", experts=0, experts_active=0)
    layers = build_layers(shape, 2, capacity=8, dtype=torch.float32, device="cpu")
    assert pass_through(device, layers, torch.float32, Point("decode", 3, 4)).rounds == 1
