"""BBR's pacing, compared with Linux 6.18 in namespaces at 100 Mbit/s (flows of `python -m bench restart`)."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.cost.network.bbr_pacing import after_losses_ms, pacing_ms, startup_ended
from swarm_predict.cost.network.delivery_times import Links, links
from swarm_predict.cost.network.lost_packets import retransmission
from swarm_predict.forecast.draws import Trip, draw_trips
from swarm_protocol.snapshot.swarm import Congestion, Tcp

MBPS = 100.0
SIZES = (4_096, 8_192, 16_384, 33_000, 65_536, 131_072)
# round trip: ms from a message to its acknowledgement, by size; the same after pauses of 100 and 800 ms
MEASURED_MS = {
    20.0: (21.1, 22.6, 26.4, 30.0, 30.1, 31.3),
    60.0: (62.6, 66.9, 77.9, 88.8, 89.8, 91.7),
    120.0: (124.7, 133.2, 155.0, 177.0, 179.0, 183.0),
    200.0: (207.6, 221.6, 258.1, 294.7, 298.0, 304.6),
}
# (round trip, loss one way, bytes): median ms without a retransmission, over 250 to 700 messages 100 ms apart; the last
# eighth of them where startup had not ended before the middle
LOSSY_MS = {
    (20.0, 0.002, 65_536): 42.0, (20.0, 0.01, 16_384): 44.7, (20.0, 0.01, 33_000): 42.8, (20.0, 0.01, 65_536): 42.7,
    (20.0, 0.01, 131_072): 41.6, (60.0, 0.002, 33_000): 130.5, (60.0, 0.002, 65_536): 125.5,
    (60.0, 0.01, 16_384): 137.0, (60.0, 0.01, 33_000): 132.3, (60.0, 0.01, 65_536): 123.7, (60.0, 0.01, 131_072): 127.4,
    (20.0, 0.01, 8_192): 37.0, (20.0, 0.002, 33_000): 43.0,
}  # fmt: skip
sizes = st.floats(100, 1e6)
round_trips = st.floats(1, 500)


def ms(size: float, rtt_ms: float, mbps: float = MBPS) -> float:
    return float(pacing_ms(size, np.array(rtt_ms), np.array(mbps)))


def paced(tcp: Tcp, rtt_ms: float = 60.0, hop_ms: float | None = None) -> Links:
    swarm = swarm_of([Box("a"), Box("b")], rtt_ms)
    swarm.nodes["tcp"][0] = tcp
    swarm.nodes["congestion"][0] = Congestion.BBR if tcp is Tcp.PACES else Congestion.CUBIC
    if hop_ms is not None:
        swarm.links["hop_bytes"][0, 1], swarm.links["hop_p50_ms"][0, 1] = 33_000, hop_ms
        swarm.links["hop_min_ms"][0, 1] = hop_ms
    return links(swarm, range(2))


@pytest.mark.parametrize("rtt_ms", MEASURED_MS)
def test_the_model_is_what_was_measured(rtt_ms: float) -> None:
    model = [rtt_ms + size * 8 / (MBPS * 1e3) + ms(size, rtt_ms) for size in SIZES]
    assert model == pytest.approx(MEASURED_MS[rtt_ms], rel=0.04)
    assert np.median(np.abs(np.array(model) / MEASURED_MS[rtt_ms] - 1)) < 0.025


@pytest.mark.parametrize("case", LOSSY_MS)
def test_once_losses_ended_the_startup_a_message_takes_a_round_trip_to_send(case: tuple[float, float, int]) -> None:
    rtt_ms, _, size = case
    ended = np.array([float(size)]), np.array([rtt_ms]), np.array([MBPS]), np.ones(1)
    model = rtt_ms + size * 8 / (MBPS * 1e3) + ms(size, rtt_ms) + float(after_losses_ms(*ended)[0])
    assert model == pytest.approx(LOSSY_MS[case], rel=0.14)


def test_more_losses_end_more_startups_and_few_end_none() -> None:
    loss = np.array([0.0, 1e-4, 2e-3, 1e-2, 0.1])
    share = startup_ended(np.full(5, 23), loss)
    assert share[:2].tolist() == [0, 0]
    assert (np.diff(share[1:]) > 0).all()
    assert share[-1] < 1


def test_a_lossy_path_is_slower_with_bbr_too_in_tables_and_draws_alike() -> None:
    swarm = swarm_of([Box("a"), Box("b")], 60.0, loss=0.02)
    swarm.nodes["tcp"][:], swarm.nodes["congestion"][:] = Tcp.PACES, Congestion.BBR
    paths = links(swarm, range(2))
    tables = paths.usual_delivery_ms(33_000.0) - paths.delivery_ms(33_000.0)
    assert 25 < tables[0, 1] < 45
    drawn = draw_trips(paths, [Trip(0, 1, 33_000.0, 1)], np.random.default_rng(1), 20_000, None, False).ms
    lost = retransmission(np.array([0.02]), np.array([33_000.0]), np.array([60.0])).mean_ms[0]
    assert drawn.mean() == pytest.approx(paths.usual_delivery_ms(33_000.0)[0, 1] + lost, rel=0.03)


@given(sizes, round_trips, st.floats(1.01, 3))
def test_larger_messages_and_longer_paths_take_longer_and_never_a_round_trip(
    size: float, rtt_ms: float, times: float
) -> None:
    assert 0 <= ms(size, rtt_ms) <= 0.55 * rtt_ms
    assert ms(size, rtt_ms * times) >= ms(size, rtt_ms)
    assert size * 8 / 1e5 + ms(size, rtt_ms) <= size * times * 8 / 1e5 + ms(size * times, rtt_ms) + 1e-9


@given(sizes, round_trips, st.floats(0.1, 1000))
def test_a_line_slower_than_the_pacing_hides_it(size: float, rtt_ms: float, mbps: float) -> None:
    assert ms(size, rtt_ms, mbps) <= ms(size, rtt_ms, np.nan) + 1e-9
    assert ms(size, rtt_ms, 1e-3) == 0


def test_only_bbr_paces_and_a_measured_hop_contains_it() -> None:
    for tcp in (Tcp.UNKNOWN, Tcp.SHRINKS, Tcp.KEEPS):
        assert not paced(tcp).pacing_ms(33_000.0).any()
    bbr, cubic = paced(Tcp.PACES), paced(Tcp.SHRINKS)
    there = bbr.delivery_ms(33_000.0) - cubic.delivery_ms(33_000.0)
    assert there[0, 1] == pytest.approx(ms(33_000.0, 60.0))
    assert (there[1, 0], there[0, 0]) == (0, 0)
    np.testing.assert_array_equal(
        paced(Tcp.PACES, hop_ms=89.0).delivery_ms(33_000.0), paced(Tcp.SHRINKS, hop_ms=89.0).delivery_ms(33_000.0)
    )


@pytest.mark.parametrize("slow_start", [False, True])
def test_draws_have_the_pacing_of_the_tables_and_no_restart(slow_start: bool) -> None:
    paths = paced(Tcp.PACES)
    trips = [Trip(0, 1, 33_000.0, 1)]
    drawn = draw_trips(paths, trips, np.random.default_rng(1), 1000, None, slow_start)
    assert np.median(drawn.ms) == pytest.approx(paths.delivery_ms(33_000.0, slow_start)[0, 1])
    assert paths.delivery_ms(33_000.0, slow_start)[0, 1] == paths.delivery_ms(33_000.0)[0, 1]
