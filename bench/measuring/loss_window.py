"""Measure what lost packets add to messages: Linux TCP on emulated paths against the model, median and mean by kind.

Messages of 8 to 256 KB over round trips of 20 to 120 ms that lose 0.1 to 1 % of the packets, 20 to 500 ms after each
acknowledgement, with each congestion control that the kernel has, all connections at once: some five minutes. The model
is given the figures of the path and nothing that was measured. Needs root on Linux.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np

from bench.support.harness import machine, table
from bench.support.tcp_flows import Flow, Leg, Message, controls, messages
from swarm_lab.emulation import netns
from swarm_predict.cost.network.bbr_pacing import after_losses_ms, pacing_ms, startup_ended
from swarm_predict.cost.network.lost_packets import draw_lost
from swarm_predict.cost.network.window_after_idle import halvings_of
from swarm_predict.cost.network.window_after_loss import CUBIC, RENO, draw_flights, flights_ms, segments_of
from swarm_protocol.units import BITS_PER_BYTE

MBPS: Final = 100.0
RTTS_MS: Final = (20.0, 60.0, 120.0)
LOSSES: Final = (0.001, 0.005, 0.01)  # of a packet, one way
# the router of the lab is one process: large messages seldom, and not too often
SIZES: Final = (8192, 16384, 33000, 65536, 131072, 16384, 33000, 65536, 8192, 33000, 262144)
GAPS_MS: Final = (20.0, 100.0, 250.0, 500.0)
LARGE, LARGE_GAP_MS = 131072, 250.0
LEGS: Final = 4  # of each connection, each a size and a gap of its own
LEG_S: Final = 70.0
SETTLE: Final = 10
MIN_MESSAGES: Final = 40  # a median of fewer says little
DRAWS: Final = 100_000
GOAL_MEDIAN, GOAL_WORST = 0.1, 0.2
PACED: Final = "bbr"  # has a model of its own (`bbr_pacing`), of connections that live long; not part of the goals


def main(arguments: Sequence[str] = ()) -> int:
    if why := netns.why_unavailable():
        print(f"skipped: {why}")
        return 0
    leg_s = float(arguments[1]) if arguments[:1] == ["--leg-seconds"] else LEG_S
    print(machine())
    flows = _flows(leg_s)
    taken: dict[tuple[int, int], list[Message]] = {}
    for message in messages(flows):
        taken.setdefault((message.flow, message.leg), []).append(message)
    errors: dict[str, list[tuple[float, float]]] = {}
    rows = []
    for (number, at), those in sorted(taken.items()):
        flow = flows[number]
        leg = flow.legs[at]
        took = [each.took_ms for each in those]
        expected = model_ms(flow, leg)
        middle, mean = float(np.median(expected)), float(expected.mean())
        off = (middle / statistics.median(took) - 1, mean / statistics.fmean(took) - 1)
        errors.setdefault(flow.control, []).append(off)
        rows.append([
            f"{flow.control} {2 * flow.oneway_ms:.0f} ms, {flow.loss:.1%} lost, {leg.size_bytes / 1e3:.0f} KB "
            f"every {leg.gap_ms:.0f} ms", str(len(took)),
            f"{statistics.median(took):.0f}/{middle:.0f}", f"{off[0]:+.0%}",
            f"{statistics.fmean(took):.0f}/{mean:.0f}", f"{off[1]:+.0%}",
        ])  # fmt: skip
    print(table(["path and messages", "n", "p50 ms", "", "mean ms", ""], rows))
    worst = 0.0
    for control, found in errors.items():
        off = np.abs(np.array(found))
        print(
            f"{control}: error of p50 median {np.median(off[:, 0]):.1%}, worst {off[:, 0].max():.0%}; "
            f"of the mean {np.median(off[:, 1]):.1%}, {off[:, 1].max():.0%}; {len(off)} cells"
        )
        if control != PACED:
            worst = max(worst, *(np.median(off, axis=0) / GOAL_MEDIAN), *(off.max(axis=0) / GOAL_WORST))
    print(f"goals {GOAL_MEDIAN:.0%} median and {GOAL_WORST:.0%} worst: {worst:.1f} of them")
    return int(worst > 1)


def model_ms(flow: Flow, leg: Leg) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Draw the time until the acknowledgement is back."""
    rng = np.random.default_rng(1)
    sizes, rtt = np.full(DRAWS, float(leg.size_bytes)), 2 * flow.oneway_ms
    flights = np.zeros(DRAWS)
    if flow.control != PACED:
        segments = int(segments_of(sizes[:1])[0])
        halvings = int(halvings_of(np.array([leg.gap_ms + rtt]), np.array([rtt]))[0])
        control = RENO if flow.control == "reno" else CUBIC
        flights = draw_flights(segments, halvings, np.full(DRAWS, flow.loss), rng, control)
    round_trip_loss = np.full((1, DRAWS), 1 - (1 - flow.loss) ** 2)  # the model counts both ways alike
    lost_ms = draw_lost(round_trip_loss, sizes, np.full(DRAWS, rtt), rng, flights, flow.mbps)[0]
    plain_ms = rtt + sizes * BITS_PER_BYTE / (flow.mbps * 1e3)
    if flow.control == PACED:
        one = np.full(DRAWS, rtt), np.full(DRAWS, flow.mbps)
        ended = rng.random(DRAWS) < startup_ended(segments_of(sizes), np.full(DRAWS, flow.loss))
        plain_ms = plain_ms + pacing_ms(float(leg.size_bytes), one[0], one[1])
        plain_ms = plain_ms + ended * after_losses_ms(sizes[:1], one[0][:1], one[1][:1], np.ones(1))[0]
    return plain_ms + flights_ms(flights, sizes, np.full(DRAWS, rtt), np.full(DRAWS, flow.mbps)) + lost_ms


def _flows(leg_s: float) -> list[Flow]:
    """Return each congestion control on each path, with sizes and gaps rotated so that every pair of them occurs."""
    flows = []
    number = 0
    for control in controls():
        paths = [(rtt_ms, loss) for loss in LOSSES for rtt_ms in RTTS_MS]
        for rtt_ms, loss in paths if control != PACED else paths[3:7]:
            legs = []
            for k in range(LEGS):
                size = SIZES[(LEGS * number + k) % len(SIZES)]
                gap_ms = GAPS_MS[(number + number // len(GAPS_MS) + k) % len(GAPS_MS)]
                gap_ms = max(gap_ms, LARGE_GAP_MS) if size >= LARGE else gap_ms
                each_s = (gap_ms + rtt_ms * (1 + size / 1448 * loss**0.5 / 2)) / 1e3
                legs.append(Leg(size, gap_ms, max(MIN_MESSAGES, int(leg_s / each_s)), settle=SETTLE))
            flows.append(Flow(control, rtt_ms / 2, MBPS, loss, tuple(legs)))
            number += 1
    return flows


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
