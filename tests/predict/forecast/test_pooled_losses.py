"""Predictions take the loss of the recent windows of both ends, with its uncertainty, not that of the newest window."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import Box, swarm_of

from swarm_predict.cost.network.delivery_times import links
from swarm_predict.forecast.draws import Trip, draw_trips
from swarm_protocol.snapshot.swarm import Floats, Swarm

RTT_MS = 60.0
DRAWS = 20_000


def pair(newest: float, pooled: float, packets: float = 1000.0) -> Swarm:
    swarm = swarm_of([Box("a"), Box("b")], RTT_MS)
    for way in ((0, 1), (1, 0)):
        swarm.links["loss"][way], swarm.links["sent"][way] = newest, 16
        swarm.links["pooled_loss"][way], swarm.links["pooled_sent"][way] = pooled, packets
    return swarm


def drawn(swarm: Swarm, size_bytes: float = 1000.0) -> Floats:
    paths = links(swarm, range(2))
    return draw_trips(paths, [Trip(0, 1, size_bytes, 1)], np.random.default_rng(1), DRAWS, swarm.at_ns, False).ms[:, 0]


@pytest.mark.parametrize("newest", [0.0, 0.0625, 0.25])
def test_the_newest_window_alone_decides_nothing(newest: float) -> None:
    paths = links(pair(newest, 0.005), range(2))
    assert paths.loss[0, 1] == paths.loss[1, 0] == 0.005
    assert paths.loss_of[0, 1] == 1000.0
    np.testing.assert_array_equal(drawn(pair(newest, 0.005)), drawn(pair(0.005, 0.005)))


def test_a_path_that_nobody_pooled_has_the_loss_of_its_newest_window() -> None:
    """A swarm file, and a recording of many machines."""
    swarm = pair(0.0625, np.nan, 0.0)
    paths = links(swarm, range(2))
    assert (paths.loss[0, 1], paths.loss_of[0, 1]) == (0.0625, 16.0)


def test_the_end_that_measured_nothing_has_the_loss_that_the_other_measured() -> None:
    swarm = pair(0.1, np.nan, 0.0)
    for name in ("loss", "rtt_p50_ms", "rtt_min_ms"):
        swarm.links[name][1, 0] = np.nan
    assert links(swarm, range(2)).loss[1, 0] == 0.1


def test_what_is_not_known_of_a_loss_is_in_the_spread_and_not_in_the_mean() -> None:
    """All messages over a path have the same loss rate, in both directions; each draw has another one."""
    messages = [Trip(k % 2, 1 - k % 2, 1000.0, 1) for k in range(40)]
    late = {}
    for packets in (20.0, 2000.0):
        paths = links(pair(0.0, 0.1, packets), range(2))
        ms = draw_trips(paths, messages, np.random.default_rng(2), 4000, 1, False).ms
        share = (ms > RTT_MS / 2 + 100).mean(axis=1)
        late[packets] = share.mean(), share.std()
    one_way = 1 - np.sqrt(0.9)
    by_luck = np.sqrt(one_way * (1 - one_way) / len(messages))
    for packets, (mean, spread) in late.items():
        assert mean == pytest.approx(one_way, rel=0.05)
        rate = np.sqrt(0.1 * 0.9 / (packets + 1)) / 2  # of the loss one way, about half of the round trip's
        assert spread == pytest.approx(np.hypot(by_luck, rate), rel=0.1)
