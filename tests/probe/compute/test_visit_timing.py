"""A visit: an activation from bytes through a few layers to bytes, after a pause."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from swarm_probe.compute.devices import Device, devices  # noqa: E402
from swarm_probe.compute.layers.decoder_layer import DecoderLayer, build_layers  # noqa: E402
from swarm_probe.compute.timing.convergence import Timing, Undisturbed  # noqa: E402
from swarm_probe.compute.timing.visit_pause import MAX_AWAY_S, MIN_AWAY_S  # noqa: E402
from swarm_probe.compute.timing.visit_timing import STAGE_LAYERS, VISITS, time_visits  # noqa: E402
from swarm_protocol.layer_shape import LayerShape  # noqa: E402

SHAPE = LayerShape(architecture="llama", hidden=64, intermediate=128, heads=4, kv_heads=4, head_dim=16)


@pytest.fixture
def cpu() -> Device:
    return next(device for device in devices(1 << 30) if device.torch_name == "cpu")


def visits(cpu: Device, layers: list[DecoderLayer], layer_s: float = 0.0, **more: object) -> dict[int, Timing]:
    return time_visits(cpu, layers, torch.float32, 4, layer_s, Undisturbed(), **{"sleep": lambda _: None, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(("away_s", "pause_s"), [(0.0, MIN_AWAY_S), (0.03, 0.03), (2.0, MAX_AWAY_S)])
def test_a_visit_pauses_as_long_as_a_token_is_away_and_is_what_exceeds_the_layers(
    cpu: Device, away_s: float, pause_s: float
) -> None:
    layers = build_layers(SHAPE, 2, capacity=8, dtype=torch.float32, device="cpu")
    pauses: list[float] = []
    whole = visits(cpu, layers, away_s=away_s, sleep=pauses.append)
    assert pauses == [pause_s] * 2 * VISITS  # stages of one layer and of two, in turn
    assert set(whole) == {1, 2}
    assert 0 < whole[1].p5_s <= whole[1].median_s <= whole[1].p95_s
    # more layer than there is: nothing is left over, and never less than nothing
    assert [timing.median_s for timing in visits(cpu, layers, 10.0).values()] == [0.0, 0.0]


def test_two_sizes_of_stages_are_visited_in_turn(cpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = build_layers(SHAPE, STAGE_LAYERS + 2, capacity=8, dtype=torch.float32, device="cpu")
    passed: list[int] = []
    forward = DecoderLayer.forward

    def counted(layer: DecoderLayer, *arguments: object) -> object:
        passed.append(layers.index(layer))
        return forward(layer, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DecoderLayer, "forward", counted)
    visits(cpu, layers)
    assert passed == [k for turn in range(VISITS) for k in (turn % STAGE_LAYERS, *range(STAGE_LAYERS))]


def test_disturbed_visits_are_repeated_and_marked_if_there_are_no_others(cpu: Device) -> None:
    layers = build_layers(SHAPE, 1, capacity=8, dtype=torch.float32, device="cpu")
    busy = itertools.count(0.0, 1.0)
    first_round = itertools.chain((float(k) for k in range(2 * VISITS)), itertools.repeat(0.0))
    assert visits(cpu, layers, pressed_s=lambda: [next(first_round)])[1].waited_share == 0.0
    assert visits(cpu, layers, pressed_s=lambda: [next(busy)])[1].waited_share == 1.0
    only_the_container = itertools.count(0.0, 1.0)  # whose total is far below the machine's, which counts from its boot
    pressed = visits(cpu, layers, pressed_s=lambda: [1e6, next(only_the_container)])
    assert pressed[1].waited_share == 1.0
