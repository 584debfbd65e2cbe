"""What a visit to a stage takes beyond its layers, from visits to stages of two sizes."""

from __future__ import annotations

import numpy as np
import pytest

from swarm_protocol.messages.samples import ComputeSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.units import NS_PER_S

T0 = 1_790_000_000 * NS_PER_S


def visited(at_s: int, size: int | None, ms: float, marks: str = "") -> ComputeSample:
    return ComputeSample(
        at_ns=T0 + at_s * NS_PER_S, device="cpu: EPYC", model="tiny", dtype="fp32", phase="visit", batch=1, context=128,
        ms_per_layer=ms, ms_p95=ms, n=15, marks=marks, stage_layers=size,
    )  # fmt: skip


def test_visits_to_two_sizes_of_stages_split_into_the_visits_and_the_layers_share():
    """29.6 ms for 6 layers that take 26.3 in a loop, 17.7 for 3 that take 16.1. An older probe times one size."""
    builder = SwarmBuilder()
    builder.node("a" * 16, "ann")

    def shown(*samples: ComputeSample) -> tuple[float, float]:
        for sample in samples:
            builder.sample("a" * 16, sample)
        nodes = builder.snapshot(T0 + 100 * NS_PER_S).nodes
        return nodes["overhead_ms"][0], nodes["visit_layer_ms"][0]

    before, none = shown(visited(0, None, 2.5))
    assert (before, np.isnan(none)) == (2.5, True)
    assert shown(visited(1, 3, 1.6), visited(2, 6, 3.3)) == pytest.approx((0.0, 1.7 / 3), abs=0.11)
    # a disturbed one says less than the one before it, for a while
    assert shown(visited(3, 6, 31.0, "contended")) == pytest.approx((0.0, 1.7 / 3), abs=0.11)
    assert shown(visited(4_000, 6, 31.0, "contended"))[1] > 9
