"""Hops are measured each minute, round trips every few seconds: predictions when the path changed in between."""

from __future__ import annotations

import numpy as np
import pytest
from swarms import plain

from swarm_predict.advice.sensitivity import nearer
from swarm_predict.cost.network.delivery_times import links
from swarm_protocol.snapshot.swarm import Kind, Swarm

SIZE = 16_384
SENT_MS = 1.3  # of the message's own time on the line
FIGURES = ("min", "p50", "p95", "p99")


def hopped(rtt_ms: float, hop_rtt_ms: float) -> Swarm:
    """Every hop was measured when the round trip was `hop_rtt_ms`; now it is `rtt_ms`."""
    swarm = plain(count=3, rtt_ms=rtt_ms)
    for name in FIGURES:
        swarm.links[f"rtt_{name}_ms"][:] = rtt_ms
        swarm.links[f"hop_{name}_ms"][:] = hop_rtt_ms + SENT_MS
    swarm.links["kind"][:] = Kind.MEASURED
    swarm.links["hop_bytes"][:] = SIZE
    swarm.links["hop_rtt_ms"][:] = hop_rtt_ms
    swarm.links["at_ns"][:], swarm.links["hop_at_ns"][:] = 60, 10
    return swarm


def delivery_ms(swarm: Swarm) -> float:
    return float(links(swarm, range(len(swarm))).delivery_ms(SIZE)[0, 1])


@pytest.mark.parametrize(("now_ms", "then_ms"), [(101.0, 21.0), (21.0, 101.0), (21.0, 21.0), (5.0, 300.0)])
def test_a_hop_is_moved_by_what_the_path_has_changed_either_way(now_ms, then_ms):
    assert delivery_ms(hopped(now_ms, then_ms)) == pytest.approx(now_ms / 2 + SENT_MS, rel=1e-6)


def test_what_is_moved_is_less_sure():
    same, moved = (links(hopped(101.0, then_ms), range(3)) for then_ms in (101.0, 21.0))
    assert moved.hop_p50_ms[0, 1] == pytest.approx(same.hop_p50_ms[0, 1])
    assert moved.hop_p99_ms[0, 1] > moved.hop_p95_ms[0, 1] > same.hop_p95_ms[0, 1]
    assert (same.hop_moved_ms[0, 1], moved.hop_moved_ms[0, 1]) == (0.0, 80.0)


@pytest.mark.parametrize("then_ms", [float("nan"), 20.9, 21.5])
def test_noise_of_two_measurements_and_a_round_trip_that_is_not_known_move_nothing(then_ms):
    swarm = hopped(21.0, 21.0)
    swarm.links["hop_rtt_ms"][:] = then_ms
    assert links(swarm, range(3)).hop_moved_ms[0, 1] == 0


def test_a_hop_that_is_newer_than_the_round_trip_stays_as_it_is():
    swarm = hopped(21.0, 101.0)
    swarm.links["hop_at_ns"][:] = 70
    assert links(swarm, range(3)).hop_moved_ms[0, 1] == 0


def test_no_hop_comes_of_a_hop_that_was_never_measured():
    swarm = hopped(101.0, 21.0)
    for name in FIGURES:
        swarm.links[f"hop_{name}_ms"][0, 1] = np.nan
    swarm.links["hop_bytes"][0, 1] = 0
    paths = links(swarm, range(3))
    assert not paths.hop_known[0, 1]
    assert np.isnan(paths.hop_p50_ms[0, 1])


def test_a_shorter_path_that_is_only_imagined_moves_its_hops_once():
    """What would it win to be 20 ms nearer: the hop of then is nearer by as much, and so is the round trip of then."""
    before = hopped(60.0, 60.0)
    assert delivery_ms(nearer(before, 0)) == pytest.approx(delivery_ms(before) - 10.0, rel=1e-6)
