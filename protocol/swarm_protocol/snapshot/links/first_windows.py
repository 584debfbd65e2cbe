"""Hold the first windows of many links as columns, as a recording has them, without one object for each sample.

`LinkFigures.first` takes them together and leaves what as many calls of `LinkFigures.link` would leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from swarm_protocol.snapshot.links.window_columns import WindowColumns, columns_of

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

    def columns(self) -> WindowColumns:
        fields = (
            self.at_ns, self.sent, self.lost, self.path, self.why, None, self.stamped_out_ms, self.stamped_back_ms,
            self.rtt_min_ms, self.rtt_p50_ms, self.rtt_p95_ms, self.rtt_p99_ms, self.pdv_ms, self.jitter_rfc3550_ms,
        )  # fmt: skip
        count = len(self.src)
        return columns_of([(each,) for each in fields], (count,), np.zeros(count, np.int64))
