"""Decide which window of round trips and which hop a link shows.

A window that ran beside one of our own transfers shows that transfer's queue, not the path: it replaces an idle window
only where that is old, or where no queue explains the difference. A hop keeps the round trip that the path had
meanwhile (`hop_rtt_ms`), so that whoever mixes it with a later round trip can tell by how much the path has changed.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from swarm_protocol.messages.samples import HopSample, LinkSample, UplinkSample
from swarm_protocol.snapshot.link_table import LinkTable
from swarm_protocol.snapshot.swarm import Kind, Path, Transport, Why
from swarm_protocol.units import NS_PER_S

STEP_SHARE: Final = 0.1  # of a round trip: a difference that is none of its own noise
PLATEAU: Final = 0.25  # of a step: what a window that is all of one level spreads over
HOP_SLACK: Final = 1.05
RECENT_RATE_NS: Final = 15 * 60 * NS_PER_S  # the collector leases each node's transfers more often than this
_PATHS: Final = {path.name.lower(): path for path in Path}
_WHY: Final = {why.name.lower().replace("_", "-"): why for why in Why}


class Later(Protocol):
    """Whether a figure of `at_ns` from node `i` replaces the one of `known_ns`."""

    def __call__(self, i: int, known_ns: int, at_ns: int, *, loaded: bool = False) -> bool: ...


class LinkFigures:
    def __init__(self, links: LinkTable, later: Later) -> None:
        self._links = links
        self._later = later

    def link(self, src: int, dst: int, sample: LinkSample) -> bool:
        known_ns = self._links.at_ns("path", src, dst)
        if not self._later(src, known_ns, sample.at_ns, loaded=sample.loaded) and not (
            sample.loaded and sample.at_ns > known_ns and self._beyond_queue(src, dst, sample)
        ):
            return False
        if known_ns < self._links.at_ns("hop", src, dst) <= sample.at_ns:
            self._date_hop(src, dst, sample)
        # over a detour via the collector nothing is sent; what went where there is no path is no loss of one
        nothing = sample.sent == 0 or (sample.path == "none" and sample.why is not None)
        estimated = sample.path in ("estimated", "relayed")
        cells = (
            Kind.ESTIMATE if estimated else Kind.NONE if nothing else Kind.MEASURED,
            _PATHS[sample.path],
            Why.UNKNOWN if sample.why is None else _WHY[sample.why],
            sample.at_ns,
            sample.sent,
            sample.rtt_min_ms,
            sample.rtt_p50_ms,
            sample.rtt_p95_ms,
            sample.rtt_p99_ms,
            sample.pdv_ms,
            sample.jitter_rfc3550_ms,
            None if nothing else min(1.0, sample.lost / sample.sent),
        )
        self._links.put("path", src, dst, sample.at_ns, cells)
        return True

    def _beyond_queue(self, src: int, dst: int, sample: LinkSample) -> bool:
        """A queue only adds delay, and delay of every length: a window that is lower than what is known, or all of one
        other level, tells of the path whatever was sent beside it."""
        known_ms = self._links.cells("path", src, dst).get("rtt_p50_ms", np.nan)
        if sample.rtt_p50_ms is None or sample.rtt_min_ms is None or sample.rtt_p95_ms is None or np.isnan(known_ms):
            return False
        step_ms = sample.rtt_p50_ms - known_ms
        if abs(step_ms) < STEP_SHARE * known_ms:
            return False
        return step_ms < 0 or sample.rtt_p95_ms - sample.rtt_min_ms <= PLATEAU * step_ms

    def _date_hop(self, src: int, dst: int, sample: LinkSample) -> None:
        """The hop was measured within this window: if the path has changed in it, which round trip was the hop's?"""
        cells = self._links.cells("hop", src, dst)
        before_ms, after_ms, least_ms = cells["hop_rtt_ms"], sample.rtt_p50_ms, sample.rtt_min_ms
        if after_ms is None or least_ms is None:
            return
        if np.isnan(before_ms) or abs(least_ms - before_ms) > abs(least_ms - after_ms):
            cells["hop_rtt_ms"] = after_ms  # the whole window was so
        else:  # no hop is faster than the round trip it ends with
            fits = [ms for ms in (before_ms, after_ms) if ms <= HOP_SLACK * cells["hop_min_ms"]]
            cells["hop_rtt_ms"] = max(fits, default=before_ms)
        self._links.put("hop", src, dst, int(cells["hop_at_ns"]), tuple(cells.values()))

    def hop(self, src: int, dst: int, sample: HopSample) -> bool:
        """The live figure is a decode step's; prefill chunks are for the history."""
        if sample.phase != "decode":
            return False
        if not self._later(src, self._links.at_ns("hop", src, dst), sample.at_ns, loaded=sample.loaded):
            return False
        cells = (
            sample.size_bytes, sample.min_ms, sample.p50_ms, sample.p95_ms, sample.p99_ms, sample.first_ms,
            sample.at_ns, self._links.cells("path", src, dst).get("rtt_p50_ms"), Transport[sample.transport.upper()],
        )  # fmt: skip
        self._links.put("hop", src, dst, sample.at_ns, cells)
        return True

    def uplink(self, src: int, dst: int, sample: UplinkSample) -> bool:
        if not self._later(src, self._links.at_ns("rate", src, dst), sample.at_ns):
            return False
        kind = Kind.BOUND if sample.bound else Kind.MEASURED
        transport = Transport[sample.transport.upper()]
        self._links.put(
            "rate", src, dst, sample.at_ns, (sample.mbps, kind, sample.rtt_loaded_ms, sample.at_ns, transport)
        )
        return True

    def best_transfer(self, i: int, *, out: bool) -> npt.NDArray[Any]:
        """Of the latest transfers of a node, one way; a measured one before a bound of the same rate."""
        transfers = self._links.rates(i, out=out)
        recent = transfers[transfers["mbps_at_ns"] >= transfers["mbps_at_ns"].max() - RECENT_RATE_NS]
        return recent[np.lexsort((recent["mbps_kind"] == Kind.MEASURED, recent["mbps"]))[-1]]  # type: ignore[no-any-return]
