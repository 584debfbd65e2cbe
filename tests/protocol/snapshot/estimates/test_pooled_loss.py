"""Loss pooled over the recent windows of both ends: what predictions take for a path's loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.estimates.pooled_loss import _log_gamma, loss_error, pooled
from swarm_protocol.snapshot.links.loss_history import AGE_NS, HISTORY, LOADED_HOLD_NS, LossHistory
from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import NS_PER_S

T0 = 1_700_000_000 * NS_PER_S
A, B, C = ("a" * 16, "b" * 16, "c" * 16)
PATHS = 300


def simulated(*parts: tuple[float, int], packets: int = 30, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(lost, sent) of PATHS paths: so many windows at each loss, oldest first."""
    rng = np.random.default_rng(seed)
    lost = np.concatenate([rng.binomial(packets, loss, (PATHS, count)) for loss, count in parts], axis=1)
    return lost, np.full_like(lost, packets)


def window(k: int, lost: int = 0, sent: int = 16, peer: str = B, **fields: object) -> LinkSample:
    return LinkSample(
        at_ns=T0 + 10 * k * NS_PER_S, peer=peer, sent=sent, lost=lost, rtt_min_ms=40.0, rtt_p50_ms=40.0,
        **{"path": "direct", **fields},
    )  # fmt: skip


def history(*windows: tuple[int, int, LinkSample]) -> tuple[float, float]:
    known = LossHistory()
    for src, dst, sample in windows:
        known.add(src, dst, sample)
    ((_, _, share, packets),) = known.changed()
    return share, packets


# ---------------------------------------------------------------- the estimate


@pytest.mark.parametrize("packets", [16, 30, 60])
@pytest.mark.parametrize("loss", [0.005, 0.01, 0.05])
def test_the_estimate_of_a_steady_loss_is_right_on_average_and_far_nearer_than_one_window(
    loss: float, packets: int
) -> None:
    lost, sent = simulated((loss, 64), packets=packets)
    share, count = pooled(lost, sent)
    assert share.mean() == pytest.approx(loss, rel=0.08)
    assert share.std() < 0.25 * (lost[:, -1] / packets).std()
    inside = np.abs(share - loss) <= 2 * loss_error(share, count)
    assert inside.mean() > 0.88


@pytest.mark.parametrize("loss", [0.03, 0.05, 0.1])
def test_a_new_loss_is_followed_within_two_windows_of_each_end(loss: float) -> None:
    share, _ = pooled(*simulated((0.0, 60), (loss, 4)))
    assert share.mean() == pytest.approx(loss, abs=0.006)
    worse, _ = pooled(*simulated((0.005, 60), (loss + 0.05, 4)))
    assert worse.mean() > 0.8 * (loss + 0.05)


@pytest.mark.parametrize(("loss", "windows"), [(0.1, 4), (0.05, 8), (0.02, 16)])
def test_an_old_loss_is_forgotten_once_as_many_packets_arrived_as_tell_it(loss: float, windows: int) -> None:
    healed, _ = pooled(*simulated((loss, 64 - windows), (0.0, windows)))
    assert healed.mean() < 0.1 * loss


def test_a_burst_in_one_window_is_no_new_state_of_the_path() -> None:
    lost, sent = np.zeros((1, 64), np.int64), np.full((1, 64), 16)
    lost[0, ::9] = 1  # 0.8 %
    before, _ = pooled(lost, sent)
    lost[0, -1] = 3
    after, _ = pooled(lost, sent)
    assert before[0] == pytest.approx(0.008, abs=0.002)
    assert after[0] < 0.03  # the window alone: 19 %


counts = st.lists(st.tuples(st.integers(0, 5), st.integers(5, 60)), min_size=1, max_size=12)


@given(counts)
def test_a_loss_is_a_share_and_says_no_more_than_the_packets_sent(windows: list[tuple[int, int]]) -> None:
    lost, sent = (np.array([[each[k] for each in windows]]) for k in (0, 1))
    share, packets = pooled(lost, sent)
    assert 0 <= share[0] <= 1
    assert 0 < packets[0] <= sent.sum() + 1 + 1e-6
    assert (share[0] == 0) >= (lost.sum() == 0)


@given(counts, st.integers(1, 20))
def test_room_without_windows_says_nothing(windows: list[tuple[int, int]], room: int) -> None:
    """A young path has fewer windows than there is room for."""
    lost, sent = (np.array([[each[k] for each in windows]]) for k in (0, 1))
    wide = [np.concatenate((np.zeros((1, room), np.int64), each), axis=1) for each in (lost, sent)]
    np.testing.assert_allclose(pooled(wide[0], wide[1]), pooled(lost, sent))


def test_a_path_without_windows_is_not_measured() -> None:
    none = np.zeros((2, 4), np.int64)
    share, packets = pooled(none, none)
    assert np.isnan(share).all()
    assert not packets.any()


@given(st.floats(0.5, 1e7))
def test_the_log_of_gamma_is_that_of_the_standard_library(x: float) -> None:
    assert _log_gamma(np.array(x)) == pytest.approx(math.lgamma(x), rel=1e-9, abs=1e-9)


# ---------------------------------------------------------------- which windows count


def test_both_ends_count_and_each_window_once() -> None:
    one, packets_of_one = history((0, 1, window(0)), (0, 1, window(1, lost=2)))
    both, packets_of_both = history(
        (0, 1, window(0)), (1, 0, window(0)), (0, 1, window(1, lost=2)), (0, 1, window(1, lost=2)), (1, 0, window(1))
    )
    assert one == pytest.approx(2.5 / 33)
    assert both < one
    assert packets_of_both > packets_of_one


def test_losses_of_our_own_transfers_count_only_where_nothing_else_is_known() -> None:
    queue = window(1, lost=8, loaded=True)
    assert history((0, 1, window(0)), (0, 1, queue))[0] == 0.0
    assert history((0, 1, queue))[0] > 0.3
    late = window(1 + LOADED_HOLD_NS // (10 * NS_PER_S), lost=8, loaded=True)
    assert history((0, 1, window(0)), (0, 1, late))[0] > 0.1


@pytest.mark.parametrize("path", ["relayed", "estimated"])
def test_packets_that_did_not_take_the_path_say_nothing_of_its_loss(path: str) -> None:
    known = LossHistory()
    known.add(0, 1, window(0, lost=8, path=path))
    known.add(0, 1, window(1, lost=8, path="none", why="no-answer"))
    known.add(0, 1, window(2, sent=0))
    assert list(known.changed()) == []
    known.add(0, 1, window(3, lost=16, path="none"))  # a path that was there a moment ago
    assert [each[:2] for each in known.changed()] == [(0, 1)]


def test_windows_of_more_than_an_hour_before_are_of_another_path() -> None:
    hour = AGE_NS // (10 * NS_PER_S)
    share, packets = history((0, 1, window(0, lost=8)), (0, 1, window(hour)), (0, 1, window(hour + 1)))
    assert (share, packets) == (0.0, 32.0)


def test_the_oldest_windows_make_room() -> None:
    windows = [(0, 1, window(k, lost=8 if k == 0 else 0)) for k in range(HISTORY + 1)]
    assert history(*windows) == (0.0, 16.0 * HISTORY)


def test_a_swarm_shows_the_pooled_loss_of_both_directions_beside_the_newest_windows() -> None:
    builder = SwarmBuilder()
    for node_id, name in ((A, "ann"), (B, "ben"), (C, "cat")):
        builder.node(node_id, name, seen_ns=T0, state=State.OK)
    for k in range(20):
        builder.sample(B, window(k, lost=int(k == 5), peer=C))
        builder.sample(C, window(k, lost=int(k == 12), peer=B))
    links = builder.snapshot(T0).links
    assert links["pooled_loss"][1, 2] == links["pooled_loss"][2, 1] == pytest.approx(2 / 640, rel=0.5)
    assert links["loss"][1, 2] == 0.0
    assert np.isnan(links["pooled_loss"][0, 1])
    assert builder.snapshot(T0).links["pooled_loss"] is links["pooled_loss"]  # nothing new
    builder.forget(A)
    builder.sample(B, window(20, peer=C))
    moved = builder.snapshot(T0).links
    assert moved["pooled_loss"][0, 1] == pytest.approx(links["pooled_loss"][1, 2], rel=0.2)
    assert moved["pooled_sent"][0, 1] > 0
