"""TCP's window under losses, compared with laws of TCP and measurements of `python -m bench loss_window`."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import Box, swarm_of

from swarm_predict.cost.network.delivery_times import Links, links
from swarm_predict.cost.network.lost_packets import draw_lost
from swarm_predict.cost.network.window_after_idle import halvings_of
from swarm_predict.cost.network.window_after_loss import (
    CUBIC,
    MAX_LOSS,
    MIN_SEGMENTS,
    RENO,
    SEGMENT_BYTES,
    Control,
    draw_flights,
    flights_ms,
    mean_flights,
    segments_of,
)
from swarm_protocol.snapshot.swarm import Tcp

RTT_MS = 60.0
# (control, bytes, loss one way, ms from the acknowledgement to the next message, mean ms until the acknowledgement) of
# 170 to 700 messages each, over a round trip of 20 ms at 100 Mbit/s, Linux 6.18
MEASURED = (
    (CUBIC, 16_384, 0.005, 20, 31),
    (CUBIC, 16_384, 0.005, 280, 42),
    (CUBIC, 16_384, 0.01, 20, 40),
    (CUBIC, 16_384, 0.01, 280, 47),
    (CUBIC, 33_000, 0.005, 20, 45),
    (CUBIC, 33_000, 0.005, 280, 52),
    (CUBIC, 33_000, 0.01, 20, 57),
    (CUBIC, 33_000, 0.01, 280, 66),
    (CUBIC, 65_536, 0.005, 20, 75),
    (CUBIC, 65_536, 0.005, 280, 85),
    (CUBIC, 65_536, 0.01, 20, 101),
    (CUBIC, 65_536, 0.01, 280, 109),
    (RENO, 16_384, 0.005, 20, 31),
    (RENO, 16_384, 0.005, 280, 45),
    (RENO, 16_384, 0.01, 20, 34),
    (RENO, 16_384, 0.01, 280, 47),
    (RENO, 33_000, 0.005, 20, 43),
    (RENO, 33_000, 0.005, 280, 67),
    (RENO, 33_000, 0.01, 20, 56),
    (RENO, 33_000, 0.01, 280, 72),
    (RENO, 65_536, 0.005, 20, 74),
    (RENO, 65_536, 0.005, 280, 109),
    (RENO, 65_536, 0.01, 20, 96),
    (RENO, 65_536, 0.01, 280, 122),
)
MEASURED_RTT_MS, MEASURED_MBPS = 20.0, 100.0
BOTH = pytest.mark.parametrize("control", [RENO, CUBIC])


@BOTH
def test_a_path_without_losses_keeps_nobody_waiting_unless_the_connection_rests(control: Control):
    assert mean_flights(23, 0, np.zeros(1), control) == 0
    assert mean_flights(23, 12, np.zeros(1), control) == 1  # 10 segments, then the other 13


@BOTH
@pytest.mark.parametrize("halvings", [0, 1, 3])
def test_more_losses_and_more_segments_never_wait_less(control: Control, halvings: int):
    losses = np.array([0.0, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1])
    by_size = np.array([mean_flights(n, halvings, losses, control) for n in (1, 6, 12, 23, 46, 91)])
    # drawn, not solved
    assert np.all(np.diff(by_size, axis=0) >= -0.03)
    assert np.all(np.diff(by_size, axis=1) >= -0.03)


@BOTH
@pytest.mark.parametrize("loss", [0.005, 0.01, 0.02])
def test_large_messages_have_the_mean_window_of_the_square_root_law(control: Control, loss: float):
    """Mathis et al., CCR 27(3), 1997: 1.22 segments over the root of the loss rate; cubic's Reno-friendly region is
    made to have the same. Linux rounds the window down after a loss and does not grow it while it mends one."""
    segments = 2560
    window = segments / (mean_flights(segments, 0, np.array([loss]), control)[0] + 1)
    assert window == pytest.approx(1.22 / loss**0.5, rel=0.25)


def test_reno_does_not_find_a_lost_window_again_after_each_rest_and_cubic_does():
    reno, cubic = (float(mean_flights(46, 1, np.array([0.001]), control)[0]) for control in (RENO, CUBIC))
    assert cubic < 0.9 * reno


@pytest.mark.parametrize("loss", [0.001, MAX_LOSS, 0.075, 0.3, 0.9])
@pytest.mark.parametrize("segments", [1, 2, 5, 40])
def test_no_message_waits_for_more_windows_than_the_least_window_makes_of_it(segments: int, loss: float):
    """One that fits it waits for none, however much is lost."""
    of_path = np.full(2_000, loss)
    most = -(-segments // MIN_SEGMENTS) - 1 + segments * loss  # what is sent again takes windows too
    drawn = draw_flights(segments, 0, of_path, np.random.default_rng(0))
    assert mean_flights(segments, 0, of_path).max() <= most + 1e-9
    assert drawn.mean() <= most + 1e-9
    if segments <= MIN_SEGMENTS:
        assert drawn.max() == mean_flights(segments, 0, of_path).max() == 0.0


@BOTH
def test_draws_have_the_mean_that_tables_have(control: Control):
    loss = np.full((20_000, 2), 0.004)
    drawn = draw_flights(23, 0, loss, np.random.default_rng(3), control)
    assert drawn.shape == loss.shape
    assert drawn.mean() == pytest.approx(float(mean_flights(23, 0, loss[:1, 0], control)[0]), rel=0.03)


def test_a_window_that_takes_a_round_trip_to_send_keeps_nobody_waiting():
    one, size = np.ones(1), np.array([46.0 * SEGMENT_BYTES])
    fast, slow = (flights_ms(one, size, np.array([RTT_MS]), np.array([mbps]))[0] for mbps in (1000.0, 2.0))
    assert fast == pytest.approx(RTT_MS, abs=1)
    assert slow == 0
    assert flights_ms(one, size, np.array([RTT_MS]), np.array([np.nan]))[0] == RTT_MS  # an idle line


def test_segments_are_whole_and_at_least_one():
    assert segments_of(np.array([0.0, 1.0, SEGMENT_BYTES, SEGMENT_BYTES + 1.0])).tolist() == [1, 1, 1, 2]


def lossy(tcp: Tcp, loss: float) -> Links:
    swarm = swarm_of([Box("a"), Box("b")], RTT_MS)
    swarm.links["loss"][:] = 1 - (1 - loss) ** 2
    swarm.nodes["tcp"][:] = tcp
    return links(swarm, range(2))


@pytest.mark.parametrize("tcp", [Tcp.UNKNOWN, Tcp.SHRINKS, Tcp.KEEPS])
def test_tables_price_the_windows_that_loss_based_senders_wait_for(tcp: Tcp):
    paths = lossy(tcp, 0.005)
    each_ms = RTT_MS - 33_000 / 2 * 8 / (paths.rate_mbps[0, 1] * 1e3)
    extra = paths.usual_delivery_ms(33_000.0) - paths.delivery_ms(33_000.0)
    assert extra[0, 1] == pytest.approx(each_ms * mean_flights(23, 0, np.array([0.005]))[0], rel=0.05)
    assert extra[0, 1] > 0.5 * RTT_MS
    assert np.all(np.diag(extra) == 0)
    assert np.all(paths.usual_delivery_ms(8_000.0)[0, 1] - paths.delivery_ms(8_000.0)[0, 1] < 0.1 * RTT_MS)


def test_bbr_takes_no_loss_for_congestion():
    assert not lossy(Tcp.PACES, 0.005).limited_by_loss.any()


def test_only_a_window_that_shrinks_is_halved_by_a_rest():
    src, dst = np.array([0]), np.array([1])
    rest_ms = 2.5 * (RTT_MS + 200)
    assert lossy(Tcp.SHRINKS, 0.005).halvings(src, dst, rest_ms) == 2
    assert lossy(Tcp.KEEPS, 0.005).halvings(src, dst, rest_ms) == 0


def test_where_losses_limit_the_window_the_restart_is_drawn_with_them():
    src, dst, sizes = np.array([0]), np.array([1]), np.array([33_000.0])
    rest_ms = np.array([900.0])
    assert lossy(Tcp.SHRINKS, 0.0).restart_ms(src, dst, sizes, rest_ms, slow_start=False) > 0
    assert lossy(Tcp.SHRINKS, 0.005).restart_ms(src, dst, sizes, rest_ms, slow_start=False) == 0


def test_a_connection_is_unharmed_until_its_first_loss():
    """At one loss in ten thousand packets half of an answer has passed before the first; what it does then lasts."""
    rare, usual = mean_flights(12, 1, np.array([1e-4, 1e-2]), RENO)
    assert 0.1 < rare < 0.5
    assert usual > 0.9


def test_the_model_is_what_was_measured():
    rng = np.random.default_rng(5)
    errors = []
    for control, size, loss, gap_ms, measured_ms in MEASURED:
        sizes, rtt, rate = (np.full(20_000, x) for x in (float(size), MEASURED_RTT_MS, MEASURED_MBPS))
        halvings = int(halvings_of(rtt[:1] + gap_ms, rtt[:1])[0])
        flights = draw_flights(int(segments_of(sizes[:1])[0]), halvings, np.full(20_000, loss), rng, control)
        lost_ms = draw_lost(np.full((1, 20_000), 1 - (1 - loss) ** 2), sizes, rtt, rng, flights)[0]
        model_ms = MEASURED_RTT_MS + size * 8 / (MEASURED_MBPS * 1e3) + flights_ms(flights, sizes, rtt, rate) + lost_ms
        errors.append(abs(model_ms.mean() / measured_ms - 1))
    assert np.median(errors) < 0.1
    assert max(errors) < 0.2
