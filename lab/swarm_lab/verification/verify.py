"""Compare what probes reported with the truth about the same packets in the same windows. Pure.

Round trips are compared window by window with the very packets of that window, so a difference is an error of
measurement and not of sampling. `Row.error` is the median over windows; a bound of the scenario judges it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from swarm_lab.emulation.scenario import Bounds, Scenario, access_of
from swarm_lab.emulation.truth import Kind, PacketOutcome, Records, RoundTrips, Truth, round_trips
from swarm_protocol.messages.samples import HopSample, LinkSample, Sample, UplinkSample
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_MS, NS_PER_S

MSS_SHARE = 1448 / 1500  # payload of a full TCP segment with timestamps, per IP byte: the highest goodput of a rate
EMPTY_BYTES = 52  # IP 20, TCP with timestamps 32
ACK_BYTES = EMPTY_BYTES + 5  # what acknowledges a hop (swarm_probe/hop.py)
BURST_GAP_NS = 20_000_000  # TCP data after such a pause begins another message
HOP_SOFTWARE_MS = 0.2  # from the sender's clock reading to the wire; this much scheduling delay is allowed
FIRST_WINDOW_NS = 60 * NS_PER_S  # no window is longer: the first sample of a pair covers at most this


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one directed link. Units are in the metric's name; loss and relative errors are fractions."""

    src: str
    dst: str
    metric: str
    reported: float
    truth: float
    error: float  # absolute, or relative where the metric's bound is
    bound: float
    windows: int

    @property
    def ok(self) -> bool:
        return not self.error > self.bound  # NaN: nothing to compare, nothing exceeded


def compare(scenario: Scenario, truth: Truth, samples: Sequence[tuple[str, str, Sample]]) -> list[Row]:
    """Compare `samples`: (src name, dst name, sample) ordered by time; kinds other than link, hop and uplink are
    skipped."""
    rows: list[Row] = []
    by_pair: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for src, dst, sample in samples:
        by_pair[src, dst].append(sample)
    names = scenario.names()
    for (src, dst), of_pair in sorted(by_pair.items()):
        there = truth.pair(names.index(src), names.index(dst))
        back = truth.pair(names.index(dst), names.index(src))
        links = [s for s in of_pair if isinstance(s, LinkSample)]
        rows += _link_rows(src, dst, links, there, back, truth.wall_minus_mono_ns, scenario.bounds)
        rows += _hop_rows(src, dst, [s for s in of_pair if isinstance(s, HopSample)], there, back, truth, scenario)
        rows += _uplink_rows(src, dst, [s for s in of_pair if isinstance(s, UplinkSample)], scenario)
    return rows


def _window(records: Records, since_ns: int, until_ns: int) -> Records:
    chosen: Records = records[(records["in_ns"] >= since_ns) & (records["in_ns"] < until_ns)]
    return chosen


def _link_rows(
    src: str, dst: str, links: list[LinkSample], there: Records, back: Records, offset_ns: int, bounds: Bounds
) -> list[Row]:
    columns: dict[str, list[tuple[float, float]]] = defaultdict(list)
    sent = lost_out = lost_back = true_sent = true_out = true_back = 0
    since_ns = 0
    for sample in links:
        until_ns = sample.at_ns - offset_ns
        begin_ns = max(since_ns, until_ns - FIRST_WINDOW_NS)
        happened = round_trips(_window(there, begin_ns, until_ns), _window(back, begin_ns, until_ns + FIRST_WINDOW_NS))
        since_ns = until_ns
        for metric, value, true in _of_window(sample, happened):
            columns[metric].append((value, true))
        if sample.lost_out is not None and sample.lost_back is not None:
            sent, lost_out, lost_back = sent + sample.sent, lost_out + sample.lost_out, lost_back + sample.lost_back
            true_sent += happened.sent
            true_out, true_back = true_out + happened.lost_out, true_back + happened.lost_back
    rows = []
    for metric, pairs in columns.items():
        values, trues = np.array(pairs).T
        error = float(np.median(np.abs(values - trues)))
        bound = float(getattr(bounds, metric))
        rows.append(Row(src, dst, metric, float(np.median(values)), float(np.median(trues)), error, bound, len(pairs)))
    if sent and true_sent:
        for metric, lost, true_lost in (("loss_out", lost_out, true_out), ("loss_back", lost_back, true_back)):
            reported, really = lost / sent, true_lost / true_sent
            rows.append(Row(src, dst, metric, reported, really, abs(reported - really), bounds.loss, len(links)))
    return rows


def _of_window(sample: LinkSample, happened: RoundTrips) -> Iterable[tuple[str, float, float]]:
    if len(happened.rtt_ms) == 0:
        return []
    # inverted_cdf: a time that was observed, as the probe's quantiles are (RFC 2330 §11.3)
    p50, p95, p99 = np.quantile(happened.rtt_ms, (0.5, 0.95, 0.99), method="inverted_cdf").tolist()
    least = float(happened.rtt_ms.min())
    compared = (
        ("rtt_p50_ms", sample.rtt_p50_ms, p50),
        ("rtt_p95_ms", sample.rtt_p95_ms, p95),
        ("rtt_p99_ms", sample.rtt_p99_ms, p99),
        ("pdv_ms", sample.pdv_ms, p95 - least),
    )
    return [(metric, value, true) for metric, value, true in compared if value is not None]


def _hop_rows(
    src: str, dst: str, hops: list[HopSample], there: Records, back: Records, truth: Truth, scenario: Scenario
) -> list[Row]:
    pairs = []
    since_ns = 0
    for sample in hops:
        if sample.loaded:  # a transfer shared the line: its packets are among the hop's
            continue
        until_ns = sample.at_ns - truth.wall_minus_mono_ns
        begin_ns = max(since_ns, until_ns - FIRST_WINDOW_NS)
        since_ns = until_ns
        happened = hops_ms(_window(there, begin_ns, until_ns), _window(back, begin_ns, until_ns), sample.size_bytes)
        if len(happened) > 1:  # the first of a round meets a fresh connection and is reported apart
            pairs.append((sample.p50_ms, float(np.median(happened[1 : 1 + sample.n]))))  # without those after a pause
    if not pairs:
        return []
    values, trues = np.array(pairs).T
    # a hop begins in the sender's software, which the wire does not show: below that, relative errors say nothing
    beyond = np.maximum(np.abs(values - trues) - HOP_SOFTWARE_MS, 0)
    error = float(np.median(beyond / trues))
    bound = scenario.bounds.hop_relative
    return [Row(src, dst, "hop_ms", float(np.median(values)), float(np.median(trues)), error, bound, len(pairs))]


def hops_ms(there: Records, back: Records, size_bytes: int) -> Floats:
    """Return the times from the first packet of each message of about `size_bytes` until its acknowledgement is
    delivered.

    Shape (messages,). Messages are told apart by the pause before them; bursts of another size are skipped.
    """
    data = there[(there["kind"] == Kind.TCP) & (there["size"] > EMPTY_BYTES)]
    acks = back[(back["kind"] == Kind.TCP) & (back["size"] == ACK_BYTES) & (back["fate"] == PacketOutcome.DELIVERED)]
    data, acks = np.sort(data, order="in_ns"), np.sort(acks, order="in_ns")
    if len(data) == 0 or len(acks) == 0:
        return np.empty(0)
    starts = np.flatnonzero(np.diff(data["in_ns"], prepend=data["in_ns"][0] - 2 * BURST_GAP_NS) > BURST_GAP_NS)
    found = []
    for first, end in zip(starts, [*starts[1:], len(data)], strict=True):
        payload = int(np.sum(data["size"][first:end].astype(int) - EMPTY_BYTES))
        if not size_bytes <= payload <= size_bytes * 1.1 + 64:  # a retransmission or a frame's header is allowed
            continue
        after = acks[acks["in_ns"] > data["in_ns"][end - 1]]
        if len(after):
            found.append((int(after["out_ns"][0]) - int(data["in_ns"][first])) / NS_PER_MS)
    return np.array(found)


def _uplink_rows(src: str, dst: str, uplinks: list[UplinkSample], scenario: Scenario) -> list[Row]:
    full = [s for s in uplinks if not s.bound]
    if not full:
        return []
    hosts = {host.name: access_of(host) for host in scenario.host}
    goodput = min(hosts[src].up_mbps, hosts[dst].down_mbps) * MSS_SHARE
    reported = float(np.median([s.mbps for s in full]))
    error = abs(reported - goodput) / goodput
    return [Row(src, dst, "uplink_mbps", reported, goodput, error, scenario.bounds.uplink_relative, len(full))]
