"""Windows that are taken together change nothing about what is reported: each case is played in columns and singly."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from swarm_collector.changes.detected_change import describe
from swarm_collector.changes.detector import ChangeDetector
from swarm_collector.changes.series import link_series, series_table
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import LinkSample, UplinkSample
from swarm_protocol.units import NS_PER_S

T0 = 1_790_000_000 * NS_PER_S
NAMES = [f"{k:016x}" for k in range(6)]
WINDOW_S = 8


def sent(rng: random.Random, src: str, dst: str, at_s: float, base_ms: float, loss: float) -> LinkSample:
    lost = sum(rng.random() < loss for _ in range(16)) if rng.random() > 0.003 else 16
    least, p50 = base_ms, base_ms + 0.2 * rng.paretovariate(1.5)
    known = lost < 16
    return LinkSample(
        at_ns=T0 + round(at_s * NS_PER_S) - (400 * NS_PER_S if rng.random() < 0.003 else 0), peer=dst,
        path="direct" if rng.random() < 0.98 else "relayed", sent=16, lost=lost, rtt_min_ms=least if known else None,
        rtt_p50_ms=p50 if known else None, rtt_p95_ms=p50 + rng.paretovariate(1.5) if known else None,
        pdv_ms=rng.paretovariate(1.5) if known and rng.random() < 0.98 else None, loaded=rng.random() < 0.02,
    )  # fmt: skip


def upload(rng: random.Random, dst: str, at_s: float) -> UplinkSample:
    at_ns, seconds = T0 + round(at_s * NS_PER_S), rng.choice([0.4, 2.0, 6.0])
    return UplinkSample(at_ns=at_ns, peer=dst, sent_bytes=1 << 20, mbps=40.0, bound=False, seconds=seconds)


def told(seed: int, windows: int = 150) -> list[tuple[str, str]]:
    """Return what is reported of a swarm in which a node turns, loses packets, is away, is forgotten and heals."""
    rng = random.Random(seed)
    detector, found = ChangeDetector(), []
    level_ms = {(a, b): rng.uniform(5, 200) for a in NAMES for b in NAMES if a != b}
    turned, lossy, ignored, away, forgotten = (rng.choice(NAMES) for _ in range(5))
    for k in range(windows):
        if k == 110:
            detector.ignore_evidence(ignored)
        if k == 120:
            detector.away(away)
        if k == 130:
            detector.forget(forgotten)
        for number, src in enumerate(NAMES):
            at_s, samples = k * WINDOW_S + number, []
            for dst in NAMES:
                if dst != src:
                    factor = 3.0 if turned in (src, dst) and 50 <= k < 90 else 1.0
                    loss = 0.3 if lossy in (src, dst) and 70 <= k < 85 else 0.01
                    samples.append(sent(rng, src, dst, at_s, level_ms[src, dst] * factor, loss))
            if rng.random() < 0.05:
                detector.add(src, upload(rng, dst, at_s))
            if rng.random() < 0.9:
                detector.add_windows(src, LinkColumns.of(samples), T0 + round((at_s - 300) * NS_PER_S))
            else:
                for sample in samples:
                    detector.add(src, sample)
            found += [(each.kind, describe(each, str)) for each in detector.advance(T0 + round(at_s * NS_PER_S))]
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("at_once", "most_awake"),
    [(1, 0), (1, 2_000), (20, 3)],
    ids=["in columns", "in columns, many awake", "some of both"],
)
def test_the_same_is_reported_in_columns_and_singly(seed, at_once, most_awake, monkeypatch):
    expected = told(seed)
    assert {kind for kind, _ in expected} >= {"degraded", "recovered"}  # else nothing would be compared
    monkeypatch.setattr(series_table, "AT_ONCE", at_once)
    monkeypatch.setattr(link_series, "MAX_AWAKE", most_awake)
    assert told(seed) == expected


def test_a_quiet_link_is_kept_without_objects(monkeypatch):
    monkeypatch.setattr(series_table, "AT_ONCE", 1)
    objects: list[int] = []
    wake: Callable[..., object] = link_series.LinkSeries.wake
    monkeypatch.setattr(link_series.LinkSeries, "wake", lambda self, row: (objects.append(row), wake(self, row))[1])
    detector = ChangeDetector()
    for k in range(60):
        at_ns = T0 + k * WINDOW_S * NS_PER_S
        window = LinkSample(at_ns=at_ns, peer=NAMES[1], path="direct", sent=16, lost=0, rtt_min_ms=20.0,
                            rtt_p50_ms=20.5, rtt_p95_ms=21.0, pdv_ms=1.0)  # fmt: skip
        detector.add_windows(NAMES[0], LinkColumns.of([window]))
        assert detector.advance(at_ns) == []
    assert objects == []


def test_the_place_of_a_forgotten_link_is_given_to_the_next_one():
    detector = ChangeDetector(most_links=1)

    def window(src: str, dst: str, k: int, rtt_ms: float) -> None:
        detector.add(src, LinkSample(at_ns=T0 + k * WINDOW_S * NS_PER_S, peer=dst, path="direct", sent=16, lost=0,
                                     rtt_min_ms=rtt_ms, rtt_p50_ms=rtt_ms, rtt_p95_ms=rtt_ms, pdv_ms=1.0))  # fmt: skip

    for k in range(10):
        window(NAMES[0], NAMES[1], k, 20.0)
        window(NAMES[2], NAMES[3], k, 20.0)  # there is no room
    assert set(detector.measured) == {NAMES[0], NAMES[1]}
    detector.forget(NAMES[0])
    for k in range(10, 30):
        window(NAMES[2], NAMES[3], k, 90.0)  # nothing of the former link's 20 ms is left
        assert detector.advance(T0 + k * WINDOW_S * NS_PER_S) == []
    assert NAMES[2] in detector.measured


def test_windows_of_links_without_a_place_change_nothing_of_the_others():
    """Those of a large swarm are more than are followed; a batch may have some of both."""
    detector = ChangeDetector(most_links=1)
    kinds: list[str] = []
    for k in range(90):
        at_ns, rtt_ms = T0 + k * WINDOW_S * NS_PER_S, 20.0 if k < 60 else 90.0
        for src, peers in ((NAMES[0], NAMES[1:3]), (NAMES[2], NAMES[3:4])):
            windows = [
                LinkSample(at_ns=at_ns, peer=peer, path="direct", sent=16, lost=0, rtt_min_ms=rtt_ms,
                           rtt_p50_ms=rtt_ms + 0.5, rtt_p95_ms=rtt_ms + 1.0, pdv_ms=1.0)
                for peer in peers
            ]  # fmt: skip
            detector.add_windows(src, LinkColumns.of(windows))
        kinds += [found.kind for found in detector.advance(at_ns)]
    assert set(detector.measured) == {NAMES[0], NAMES[1]}
    assert kinds == ["degraded"]
