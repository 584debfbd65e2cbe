"""A visit: an activation from bytes through a few layers to bytes, after a pause."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from swarm_probe.compute.convergence import Undisturbed  # noqa: E402
from swarm_probe.compute.devices import Device, devices  # noqa: E402
from swarm_probe.compute.layers.decoder_layer import DecoderLayer, build_layers  # noqa: E402
from swarm_probe.compute.visit_timing import LEAST_AWAY_S, MOST_AWAY_S, STAGE_LAYERS, VISITS, time_visit  # noqa: E402
from swarm_protocol.layer_shape import LayerShape  # noqa: E402

SHAPE = LayerShape(architecture="llama", hidden=64, intermediate=128, heads=4, kv_heads=4, head_dim=16)


@pytest.fixture
def cpu() -> Device:
    return next(device for device in devices(1 << 30) if device.torch_name == "cpu")


@pytest.mark.parametrize(("away_s", "pause_s"), [(0.0, LEAST_AWAY_S), (0.03, 0.03), (2.0, MOST_AWAY_S)])
def test_a_visit_pauses_as_long_as_a_token_is_away_and_is_what_exceeds_the_layers(
    cpu: Device, away_s: float, pause_s: float
) -> None:
    layers = build_layers(SHAPE, 2, capacity=8, dtype=torch.float32, device="cpu")
    pauses: list[float] = []
    whole = time_visit(cpu, layers, torch.float32, 4, 0.0, Undisturbed(), away_s, pauses.append)
    assert pauses == [pause_s] * VISITS
    assert whole is not None
    assert 0 < whole.p5_s <= whole.median_s <= whole.p95_s
    # more layer than there is: nothing is left over, and never less than nothing
    none_left = time_visit(cpu, layers, torch.float32, 4, 10.0, Undisturbed(), away_s, pauses.append)
    assert none_left is not None
    assert none_left.median_s == 0.0


def test_a_visit_goes_through_the_layers_of_a_stage(cpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = build_layers(SHAPE, STAGE_LAYERS + 2, capacity=8, dtype=torch.float32, device="cpu")
    passed: list[int] = []
    forward = DecoderLayer.forward

    def counted(layer: DecoderLayer, *arguments: object) -> object:
        passed.append(layers.index(layer))
        return forward(layer, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DecoderLayer, "forward", counted)
    time_visit(cpu, layers, torch.float32, 4, 0.0, Undisturbed(), sleep=lambda _: None)
    assert passed == list(range(STAGE_LAYERS)) * VISITS
