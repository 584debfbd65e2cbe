"""Detect figures that are impossible or contradict others, and the nodes that reported them.

Nothing here removes a sample: a measured figure is shown, together with why it may be wrong. Each check uses what the
swarm reports now, so an anomaly ends with its cause; only an impossible figure counts against its node for as long as
the collector runs, because otherwise a node that lies occasionally would be in doubt only occasionally.

Impossible is what contradicts physics or arithmetic:
- more packets lost than sent, quantiles out of order, a round trip to another network that is too short for light;
- an upload faster than the bytes and seconds it reports;
- both ends measure one round trip (RFC 2681): their lowest must agree, whatever the load. Where they do not, the Links
  screen shows both, and a node is in doubt once independent reporters disagree with it. A *reporter* is an invite's
  label and a /24 or /48: a hundred nodes of one person are one, since each costs nothing (Douceur 2002).

Two members that share an address, or answer each other within a tenth of a millisecond while they claim to be on
different networks, are one machine or one home: their figures are not independent. Pure.
"""

from __future__ import annotations

import functools
import ipaddress
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, cast

from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import LinkSample, Sample, UplinkSample
from swarm_protocol.units import BITS_PER_BYTE

DISAGREE_SHARE: Final = 0.25  # of the larger of two lowest round trips
DISAGREE_MS: Final = 5.0  # and at least this: two clocks of one path differ by scheduling, not by more
REPORTERS_TO_DOUBT: Final = 1.999  # votes; two independent ones, with room for rounding
MIN_REMOTE_MS: Final = 0.02  # below it there is no network in between: 2 km of fibre and nothing else
COLOCATED_MS: Final = 0.1
RATE_SLACK: Final = 8.0  # the rate covers the last half, after slow start: the whole took longer, but not by this much


@dataclass(frozen=True, slots=True)
class Reporter:
    """The label and network of a reporter: nodes that share both may belong to one person."""

    label: str
    network: str


@functools.lru_cache(65_536)
def network_of(host: str) -> str:
    """Return the /24 of IPv4, the /48 of IPv6: what one customer has (RFC 6177)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def weights(reporters: dict[str, Reporter]) -> dict[str, float]:
    """Return each node's share of one vote for its label and one for its network; nodes without either share
    nothing."""
    labels: dict[str, int] = defaultdict(int)
    networks: dict[str, int] = defaultdict(int)
    for reporter in reporters.values():
        labels[reporter.label] += bool(reporter.label)
        networks[reporter.network] += bool(reporter.network)
    return {
        node: 1.0 / max(1, labels[reporter.label], networks[reporter.network]) for node, reporter in reporters.items()
    }


def weighted_median(values: Iterable[tuple[float, float]]) -> float | None:
    """Return the weighted median of (value, weight)."""
    ordered = sorted(values)
    half, reached = sum(weight for _, weight in ordered) / 2, 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return None


def is_instant(sample: Sample) -> bool:
    """Return whether a round trip is too short for a network to lie in between."""
    return isinstance(sample, LinkSample) and sample.rtt_min_ms is not None and sample.rtt_min_ms < MIN_REMOTE_MS


def is_ordinary(sample: Sample) -> bool:
    """Return whether a sample is a window like nearly all: neither instant nor impossible, with all its figures."""
    if type(sample) is not LinkSample or sample.lost > sample.sent:
        return False
    least, p50, p95, p99 = sample.rtt_min_ms, sample.rtt_p50_ms, sample.rtt_p95_ms, sample.rtt_p99_ms
    if least is None or p50 is None or p95 is None or p99 is None:
        return False
    return MIN_REMOTE_MS <= least <= p50 <= p95 <= p99


def are_ordinary(links: LinkColumns) -> bool:
    """Return whether `is_ordinary` holds for all of these windows."""
    least, p50, p95, p99 = links.rtt_min_ms, links.rtt_p50_ms, links.rtt_p95_ms, links.rtt_p99_ms
    if least is None or p50 is None or p95 is None or p99 is None:
        return False
    if None in least or None in p50 or None in p95 or None in p99:
        return False
    least, p50, p95, p99 = cast(tuple[tuple[float, ...], ...], (least, p50, p95, p99))
    return (
        min(least) >= MIN_REMOTE_MS
        and all(map(operator.le, least, p50))
        and all(map(operator.le, p50, p95))
        and all(map(operator.le, p95, p99))
        and all(map(operator.le, links.lost, links.sent))
    )


def impossible(sample: Sample, *, same_network: bool) -> str | None:
    """Return why one sample is impossible, in a few words; None: it is not."""
    if isinstance(sample, LinkSample):
        figures = (sample.rtt_min_ms, sample.rtt_p50_ms, sample.rtt_p95_ms, sample.rtt_p99_ms)
        known = [figure for figure in figures if figure is not None]
        if sample.lost > sample.sent:
            return f"{sample.lost} packets lost of {sample.sent} sent"
        if known != sorted(known):
            return "quantiles of a round trip out of order"
        if is_instant(sample) and not same_network:
            return f"a round trip of {sample.rtt_min_ms:.3f} ms to another network, faster than light"
    elif isinstance(sample, UplinkSample) and sample.seconds > 0:
        most_mbps = RATE_SLACK * sample.sent_bytes * BITS_PER_BYTE / sample.seconds / 1e6
        if sample.mbps > max(most_mbps, 1.0):
            return f"{sample.mbps:.0f} Mbit/s where {sample.sent_bytes} bytes took {sample.seconds:.2f} s"
    return None


class Anomalies:
    """The present anomalies. `add` takes each committed sample, `look` all that is known of links."""

    def __init__(self) -> None:
        self._impossible: dict[str, str] = {}
        self._disagree: dict[str, tuple[str, ...]] = {}
        self._colocated: dict[str, str] = {}
        self._failed: dict[str, str] = {}  # the last challenge, until one is passed
        self._reported: set[tuple[str, str]] = set()

    def add(self, node: str, sample: Sample, *, same_network: bool) -> None:
        if (why := impossible(sample, same_network=same_network)) is not None:
            self._impossible[node] = why

    def challenged(self, node: str, failure: str | None) -> None:
        """Note the result of a compute challenge; None: passed."""
        if failure is None:
            self._failed.pop(node, None)
        else:
            self._failed[node] = failure

    def forget(self, node: str) -> None:
        """Forget a node's anomalies."""
        for known in (self._impossible, self._failed, self._disagree, self._colocated):
            known.pop(node, None)
        self._colocated = {one: other for one, other in self._colocated.items() if other != node}
        self._reported = {(each, kind) for each, kind in self._reported if each != node}

    def look(self, rtts: dict[tuple[str, str], float], reporters: dict[str, Reporter]) -> None:
        """Compare links. `rtts`: (src, dst) → lowest round trip in ms, as measured by src."""
        share = weights(reporters)
        against: dict[str, list[tuple[float, float]]] = defaultdict(list)  # (how far apart in ms, weight)
        agree: dict[str, float] = defaultdict(float)
        self._colocated = {}
        for (src, dst), there_ms in rtts.items():
            back_ms = rtts.get((dst, src))
            if back_ms is None or src > dst or src not in reporters or dst not in reporters:
                continue
            apart = abs(there_ms - back_ms)
            if apart > max(DISAGREE_MS, DISAGREE_SHARE * max(there_ms, back_ms)):
                against[src].append((apart, share[dst]))
                against[dst].append((apart, share[src]))
            else:
                agree[src] += share[dst]
                agree[dst] += share[src]
            if max(there_ms, back_ms) < COLOCATED_MS and reporters[src].network != reporters[dst].network:
                self._colocated[src], self._colocated[dst] = dst, src
        self._disagree = {}
        for node, by in against.items():
            weight = sum(each for _, each in by)
            if weight >= REPORTERS_TO_DOUBT and weight > agree[node]:
                apart_ms = weighted_median(by) or 0.0
                self._disagree[node] = (f"round trips that {len(by)} others see {apart_ms:.0f} ms differently",)

    def of(self, node: str, name: Callable[[str], str]) -> tuple[str, ...]:
        """Return why this node's figures are in doubt."""
        found = list(self._disagree.get(node, ()))
        if node in self._impossible:
            found.append(f"impossible: {self._impossible[node]}")
        if node in self._failed:
            found.append(f"challenge failed: {self._failed[node]}")
        if node in self._colocated:
            found.append(f"in the same place as {name(self._colocated[node])}, though on another network")
        return tuple(found)

    def news(self, nodes: Iterable[str], name: Callable[[str], str]) -> list[tuple[str, str]]:
        """Return (node, anomaly) pairs that have not been reported yet."""
        fresh = []
        for node in nodes:
            for doubt in self.of(node, name):
                kind = (node, doubt.split(" ", 1)[0])  # the figures in it change with every check
                if kind not in self._reported:
                    self._reported.add(kind)
                    fresh.append((node, doubt))
        return fresh
