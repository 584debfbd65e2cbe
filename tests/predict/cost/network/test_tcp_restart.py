"""TCP after idle, compared with measurements of `python -m bench restart`: 60 ms each way, 100 Mbit/s, Linux 6.18."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import Box, swarm_of

from swarm_predict.cost.network.delivery_times import links
from swarm_predict.cost.network.window_after_idle import INITIAL_WINDOW_BYTES, waiting_ms, window_bytes
from swarm_protocol.snapshot.swarm import Tcp

RTT_MS, MBPS = 121.0, 100.0
PAUSES_MS = (300, 500, 700, 1000, 1500, 3000)  # after the acknowledgement
# size: without a rest, then by pause; the lower of reno and cubic, which the model is the same for
MEASURED_MS = {
    8_192: (121, 121, 121, 121, 121, 121, 131),
    16_384: (122, 122, 127, 256, 250, 248, 242),
    33_000: (123, 134, 132, 243, 243, 248, 248),
    65_536: (126, 127, 126, 363, 401, 383, 376),
    131_072: (135, 132, 137, 369, 389, 496, 489),
    262_144: (144, 147, 149, 369, 383, 616, 620),
}


@pytest.mark.parametrize("size", MEASURED_MS)
def test_the_model_is_what_was_measured(size):
    steady, *rested = MEASURED_MS[size]
    sizes = np.full(len(PAUSES_MS), float(size))
    window = window_bytes(sizes, np.array(PAUSES_MS) + RTT_MS, np.full(len(sizes), RTT_MS))
    model = steady + waiting_ms(sizes, window, np.full(len(sizes), RTT_MS), np.full(len(sizes), MBPS))
    assert model == pytest.approx(rested, rel=0.1)
    assert np.median(np.abs(model / rested - 1)) < 0.04


def test_a_rest_within_the_timeout_costs_nothing_and_the_window_never_falls_below_the_initial_one():
    sizes, rtt = np.array([131_072.0, 131_072.0]), np.array([40.0, 40.0])
    short, long = window_bytes(sizes, np.array([239.0, 1e9]), rtt)
    assert (short >= 131_072, long) == (True, INITIAL_WINDOW_BYTES)


@pytest.mark.parametrize(("tcp", "costs"), [(Tcp.UNKNOWN, 1), (Tcp.SHRINKS, 1), (Tcp.KEEPS, 0), (Tcp.PACES, 0)])
def test_only_senders_whose_window_shrinks_pay(tcp, costs):
    swarm = swarm_of([Box("a"), Box("b")], RTT_MS)
    swarm.nodes["tcp"][0], swarm.nodes["tcp"][1] = tcp, Tcp.PACES
    there, back = np.array([0, 1]), np.array([1, 0])
    extra = links(swarm, range(2)).restart_ms(there, back, np.full(2, 33_000.0), np.full(2, 900.0), slow_start=False)
    assert extra == pytest.approx([costs * (RTT_MS - 0.0), 0.0], abs=4)
