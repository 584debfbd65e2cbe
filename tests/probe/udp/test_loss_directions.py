"""Which way packets were lost, by the reflector's numbers: right or not said, whatever overtook what."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.udp.stamp.stamp_window import SentPacket, Window, WindowReports

WINDOWS, PACKETS = 4, 10


class Session:
    """Four windows of ten packets, one every 100 ms, over a path whose delay varies by `spread_ms`."""

    def __init__(self, rng: random.Random, loss: float, spread_ms: float) -> None:
        self.lost_out, self.lost_back = [0] * WINDOWS, [0] * WINDOWS
        self.windows = [Window(end_ns=k + 1, loaded=False) for k in range(WINDOWS)]
        sent = []
        for seq in range(WINDOWS * PACKETS):
            packet = SentPacket(seq, 0, seq * 100, 0, search=False)
            self.windows[seq // PACKETS].packets.append(packet)
            sent.append((packet.at_ns + rng.uniform(0, spread_ms), packet))
        arrived = []
        for _, packet in sorted(sent, key=lambda each: each[0]):
            if rng.random() < loss:
                self.lost_out[packet.seq // PACKETS] += 1
            else:
                arrived.append(packet)
        for number, packet in enumerate(arrived):
            if rng.random() < loss:
                self.lost_back[packet.seq // PACKETS] += 1
            else:
                packet.answered, packet.reflector_seq = True, number
                self.windows[packet.seq // PACKETS].arrived.append(packet)

    def said(self) -> list[tuple[int | None, int | None]]:
        reports = WindowReports()
        found = [reports.report(window, self.windows[k + 1 :], 0) for k, window in enumerate(self.windows)]
        return [(report.lost_out, report.lost_back) for report in found]


@given(st.integers(0, 2**32 - 1), st.sampled_from((0.02, 0.1, 0.5)), st.sampled_from((0.0, 150.0, 400.0)))
def test_what_both_directions_lost_is_together_what_was_lost(seed: int, loss: float, spread: float) -> None:
    session = Session(random.Random(seed), loss, spread)
    for (out, back), lost_out, lost_back in zip(session.said(), session.lost_out, session.lost_back, strict=True):
        assert (out is None) == (back is None)
        assert out is None or back is None or out + back == lost_out + lost_back


@given(st.integers(0, 2**32 - 1), st.sampled_from((0.02, 0.1, 0.5)))
def test_directions_are_right_where_packets_keep_their_order(seed: int, loss: float) -> None:
    session = Session(random.Random(seed), loss, 0.0)
    for said, *true in zip(session.said(), session.lost_out, session.lost_back, strict=True):
        assert said in ((None, None), tuple(true))


@pytest.mark.parametrize("spread", [150.0, 400.0])
def test_directions_are_rarely_wrong_where_packets_overtake_each_other(spread: float) -> None:
    """A lost packet does not show whether it had overtaken others, so some doubt remains."""
    wrong = told = 0
    for seed in range(400):
        session = Session(random.Random(seed), 0.02, spread)
        for said, *true in zip(session.said(), session.lost_out, session.lost_back, strict=True):
            if sum(true) and said != (None, None):
                told += 1
                wrong += said != tuple(true)
    assert told > 100
    assert wrong / told < 0.02
