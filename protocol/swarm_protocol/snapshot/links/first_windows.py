"""Columns of the first windows of many links, as a recording has them: no object a sample.

`LinkFigures.first` takes them together and leaves what as many calls of `LinkFigures.link` would leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints, Kind

Figures = Sequence[float | None]


class FirstWindows(NamedTuple):
    """One window each of links of which nothing is known yet, oldest first; the fields of LinkSample. None was
    disturbed by a transfer."""

    src: Sequence[int]  # rows of the nodes
    dst: Sequence[int]
    at_ns: Sequence[int]
    path: Sequence[str]
    why: Sequence[str | None]
    sent: Sequence[int]
    lost: Sequence[int]
    rtt_min_ms: Figures
    rtt_p50_ms: Figures
    rtt_p95_ms: Figures
    rtt_p99_ms: Figures
    pdv_ms: Figures
    jitter_rfc3550_ms: Figures
    stamped_out_ms: Figures
    stamped_back_ms: Figures

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.src, self.dst, strict=True))

    def are(self, *paths: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return which windows are of one of these paths."""
        return np.array([path in paths for path in self.path], np.bool_)

    def kinds_and_losses(self) -> tuple[Ints, Floats]:
        """Return Kind and loss of each. Over a detour via the collector nothing is sent; packets sent without a path
        are not lost on one."""
        sent, lost = np.array(self.sent, np.int64), np.array(self.lost, np.int64)
        nothing = (sent == 0) | (self.are("none") & np.array([why is not None for why in self.why], np.bool_))
        kind = np.where(self.are("estimated", "relayed"), Kind.ESTIMATE, np.where(nothing, Kind.NONE, Kind.MEASURED))
        loss = np.where(nothing, np.nan, np.minimum(1.0, lost / np.maximum(sent, 1)))
        return kind.astype(np.int64), loss
