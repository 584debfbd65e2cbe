"""A visit: an activation from bytes through one layer to bytes, after a pause."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from swarm_probe.compute.devices import Device, devices  # noqa: E402
from swarm_probe.compute.layers import build_layers  # noqa: E402
from swarm_probe.compute.timing import Undisturbed  # noqa: E402
from swarm_probe.compute.visits import PAUSE_S, VISITS, time_visit  # noqa: E402
from swarm_protocol.shape import LayerShape  # noqa: E402

SHAPE = LayerShape(architecture="llama", hidden=64, intermediate=128, heads=4, kv_heads=4, head_dim=16)


@pytest.fixture
def cpu() -> Device:
    return next(device for device in devices(1 << 30) if device.torch_name == "cpu")


def test_a_visit_pauses_each_time_and_is_what_exceeds_a_layer(cpu: Device) -> None:
    layers = build_layers(SHAPE, 2, capacity=8, dtype=torch.float32, device="cpu")
    pauses: list[float] = []
    whole = time_visit(cpu, layers, torch.float32, 4, 0.0, Undisturbed(), pauses.append)
    assert pauses == [PAUSE_S] * VISITS
    assert whole is not None
    assert 0 < whole.p5_s <= whole.median_s <= whole.p95_s
    # more layer than there is: nothing is left over, and never less than nothing
    none_left = time_visit(cpu, layers, torch.float32, 4, 10.0, Undisturbed(), pauses.append)
    assert none_left is not None
    assert none_left.median_s == 0.0
