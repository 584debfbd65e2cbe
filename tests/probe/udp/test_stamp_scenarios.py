"""Situations of a path, each a file in tests/scenarios/stamp: a sender and a reflector with a network in between.

Both are the real ones; the network is a heap of arrivals. A file names every field of every report that it expects,
unknown keys are refused, and "unknown" stands for None, which TOML has not.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from swarm_probe.udp.stamp.stamp_reflector import Announced, Reflector, Refused
from swarm_probe.udp.stamp.stamp_sender import Ignored, SessionConfig, StampSession
from swarm_probe.udp.stamp.stamp_window import PathReport
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_MS

FILES = sorted((Path(__file__).parents[2] / "scenarios" / "stamp").glob("*.toml"))
KEY = b"k" * 32
START_NS = 1_000_000_000_000
WALL_OFFSET_NS = 1_700_000_000_000_000_000
PEER_CLOCK_AHEAD_NS = 3_600_000_000_000  # the two clocks have nothing to do with each other

PacketOutcome = Literal["answered", "lost_out", "lost_back"]
Unknown = Literal["unknown"]


class Packet(msgspec.Struct, forbid_unknown_fields=True):
    seq: int
    fate: PacketOutcome = "answered"
    rtt_ms: float | None = None
    copies_out: int = 1
    copies_back: int = 1
    leaving_ms: float | None = None


class Expected(msgspec.Struct, forbid_unknown_fields=True):
    sent: int
    lost: int
    lost_out: int | Unknown
    lost_back: int | Unknown
    n: int
    rtt_min_ms: float | Unknown
    rtt_p50_ms: float | Unknown
    rtt_p95_ms: float | Unknown
    rtt_p99_ms: float | Unknown
    pdv_ms: float | Unknown
    jitter_ms: float | Unknown
    ipdv_ms: float | Unknown
    duplicates: int
    reordered: int
    settled: bool


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    why: str
    interval_ms: float
    window_ms: float
    packets: int
    rtt_ms: float
    expect: tuple[Expected, ...]
    counts: dict[str, int]  # ignored by the sender by reason; `refused_…` by the reflector
    packet: tuple[Packet, ...] = ()
    every: PacketOutcome = "answered"
    residence_ms: float = 0.5
    restart_before: int | None = None  # the reflector forgets everything before this packet
    follow_up: bool = True  # the sender requests them
    stamps: bool = True  # the reflector's kernel tells when an answer left
    leaving_ms: float = 0.0  # from T3 of an answer until it left


class Still(random.Random):
    """No phase: packet k leaves at exactly k intervals."""

    def random(self) -> float:
        return 0.0


def play(scenario: Scenario) -> tuple[list[PathReport], Counter[str]]:
    """Runs until every packet's fate is decided."""
    interval_ns, window_ns = int(scenario.interval_ms * NS_PER_MS), int(scenario.window_ms * NS_PER_MS)
    config = SessionConfig(KEY, 9, interval_ns, window_ns, follow_up=scenario.follow_up)
    session = StampSession(config, Still(), START_NS)
    reflector = _reflector()
    special = {packet.seq: packet for packet in scenario.packet}
    counts: Counter[str] = Counter()
    reports: list[PathReport] = []
    arrivals: list[tuple[int, int, bytes]] = []
    end_ns = START_NS + int(scenario.packets * scenario.interval_ms + scenario.window_ms + 10_000) * NS_PER_MS
    number = 0
    while (now_ns := min([session.next_due_ns(), *[a[0] for a in arrivals[:1]]])) < end_ns:
        if arrivals and arrivals[0][0] <= now_ns:
            _, _, data = heapq.heappop(arrivals)
            event = session.receive(data, now_ns, kernel=True)
            if isinstance(event, Ignored):
                counts[event.reason] += 1
        out = session.poll(now_ns, now_ns + WALL_OFFSET_NS)
        if out is not None and out.seq >= scenario.packets:
            session.unsent(out.seq, unreachable=False)
        elif out is not None:
            if out.seq == scenario.restart_before:
                reflector = _reflector()
            packet = special.get(out.seq, Packet(out.seq, scenario.every))
            rtt_ns = int((scenario.rtt_ms if packet.rtt_ms is None else packet.rtt_ms) * NS_PER_MS)
            for _ in range(packet.copies_out if packet.fate != "lost_out" else 0):
                there_ns = now_ns + scenario_half(scenario)
                accepted = reflector.accept(out.data, there_ns)
                if isinstance(accepted, Refused):
                    counts[f"refused_{accepted.reason}"] += 1
                    continue
                t2 = there_ns + WALL_OFFSET_NS + PEER_CLOCK_AHEAD_NS
                t3 = t2 + int(scenario.residence_ms * NS_PER_MS)
                reply = reflector.answer(accepted, received_ns=t2, sent_ns=t3, ttl=60, error=0x0101)
                leaving_ms = scenario.leaving_ms if packet.leaving_ms is None else packet.leaving_ms
                leaving_ns = int(leaving_ms * NS_PER_MS)
                if scenario.stamps:
                    reflector.departed(reply, t3 + leaving_ns)
                back_ns = now_ns + rtt_ns + t3 + leaving_ns - t2
                for _ in range(packet.copies_back if packet.fate == "answered" else 0):
                    number += 1
                    heapq.heappush(arrivals, (back_ns, number, reply.data))
        reports += session.reports(now_ns)
    return reports, counts


def scenario_half(scenario: Scenario) -> int:
    return int(scenario.rtt_ms * NS_PER_MS / 2)


def _reflector() -> Reflector:
    reflector = Reflector(TokenBucket(1000.0, 1000.0))
    reflector.announce([Announced(9, KEY, "peer")], START_NS)
    return reflector


def as_expected(report: PathReport) -> dict[str, object]:
    def ms(ns: float | None) -> object:
        return "unknown" if ns is None else pytest.approx(ns / NS_PER_MS, abs=1e-5)

    return {
        "sent": report.sent,
        "lost": report.lost,
        "lost_out": "unknown" if report.lost_out is None else report.lost_out,
        "lost_back": "unknown" if report.lost_back is None else report.lost_back,
        "n": report.n,
        "rtt_min_ms": ms(report.rtt_min_ns),
        "rtt_p50_ms": ms(report.rtt_p50_ns),
        "rtt_p95_ms": ms(report.rtt_p95_ns),
        "rtt_p99_ms": ms(report.rtt_p99_ns),
        "pdv_ms": ms(report.pdv_ns),
        "jitter_ms": ms(report.jitter_ns),
        "ipdv_ms": ms(report.ipdv_ns),
        "duplicates": report.duplicates,
        "reordered": report.reordered,
        "settled": report.settled,
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_session_reports_what_the_situation_says(path: Path) -> None:
    scenario = msgspec.toml.decode(path.read_bytes(), type=Scenario)
    reports, counts = play(scenario)
    assert [msgspec.structs.asdict(expected) for expected in scenario.expect] == [as_expected(r) for r in reports]
    assert dict(counts) == scenario.counts


def test_a_typing_error_in_a_situation_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.toml.decode(FILES[0].read_bytes() + b"\n[[expect]]\nsnet = 1\n", type=Scenario)


def test_there_are_situations() -> None:
    assert len(FILES) >= 9
