"""Keep the STAMP time stamps of the latest windows of every measured link, from which `one_way` estimates delays.

HISTORY windows take 256 bytes a link.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.estimates.one_way import CHANGED_MS, CHANGED_SHARE, HISTORY, OneWay, Windows, estimate
from swarm_protocol.snapshot.links.link_rows import LinkRows, WindowRings
from swarm_protocol.snapshot.swarm import Floats, Ints
from swarm_protocol.units import NS_PER_S

EVERY_NS: Final = 5 * NS_PER_S  # the clocks of a thousand nodes are not solved for with every frame
_DTYPE: Final = np.dtype([("at_ns", np.int64), ("skew_ms", np.float64), ("rtt_ms", np.float64)])
HIDDEN_BELOW_MS: Final = 0.01  # smaller changes of an estimate are not reported


StampedWindow = tuple[int, float, float, bool]  # its end in ns, least stamps out and back in ms, loaded


def has_idle_stamps(sample: LinkSample) -> bool:
    """Return whether a window certainly has stamps of an idle path. A detour has none."""
    return _stamped(sample) and not sample.loaded


def _stamped(sample: LinkSample) -> bool:
    stamped = sample.stamped_out_ms is not None and sample.stamped_back_ms is not None
    return stamped and sample.path in ("direct", "punched")


def _noise_ms(rtt_ms: float) -> float:
    return max(CHANGED_MS, CHANGED_SHARE * rtt_ms)


class StampHistory:
    def __init__(self, links: LinkRows | None = None) -> None:
        """Create it. `links`: the rows of links, shared with other tables."""
        self._links = LinkRows() if links is None else links
        self._rings = WindowRings(HISTORY, _DTYPE)
        self._above: dict[int, float] = {}  # row → round trip of a loaded window that was not taken
        self._shown: dict[tuple[int, int], tuple[float, float]] = {}
        self._fitted_ns = 0
        self._fresh = False

    def add(self, src: int, dst: int, sample: LinkSample) -> None:
        """Add one window, if it has stamps of both directions."""
        if sample.stamped_out_ms is None or sample.stamped_back_ms is None or not _stamped(sample):
            return
        self._put(
            self._links.add(src, dst), (sample.at_ns, sample.stamped_out_ms, sample.stamped_back_ms, sample.loaded)
        )

    def restore(self, src: int, dst: int, windows: Sequence[StampedWindow]) -> None:
        """Replace what is known of a link by these windows, oldest first."""
        row = self._links.add(src, dst)
        self._rings.reserve(row + 1)
        self._rings.clear(row)
        self._above.pop(row, None)
        for window in windows:
            self._put(row, window)

    def _put(self, row: int, window: StampedWindow) -> None:
        """A transfer's queue only adds to a round trip and rarely lasts for a whole window. So the least stamps of a
        loaded window are those of the path if it is as low as the others, or the second in a row at the same higher
        level. A first window is better than none: a lower one will replace it."""
        at_ns, out_ms, back_ms, loaded = window
        self._rings.reserve(row + 1)
        above = self._above.pop(row, None)
        records, counts = self._rings.records, self._rings.counts
        known = records["rtt_ms"][row][records["at_ns"][row] > 0] if loaded else ()
        if len(known):
            rtt_ms, least_ms = out_ms + back_ms, float(min(known))
            again = above is not None and abs(rtt_ms - above) <= _noise_ms(above)
            if rtt_ms > least_ms + _noise_ms(least_ms) and not again:
                self._above[row] = rtt_ms
                return
        count = counts.item(row)
        records[row, count % HISTORY] = at_ns, (out_ms - back_ms) / 2, out_ms + back_ms
        counts[row] = count + 1
        self._fresh = True

    def add_many(self, rows: Ints, at_ns: Ints, out_ms: Floats, back_ms: Floats) -> None:
        """Add windows that were not loaded and have stamps of both directions, one of each of these rows."""
        if not len(rows):
            return
        self._rings.reserve(int(rows.max()) + 1)
        if self._above:
            for row in rows.tolist():
                self._above.pop(row, None)
        records, slots = self._rings.records, self._rings.counts[rows] % HISTORY
        for name, column in (("at_ns", at_ns), ("skew_ms", (out_ms - back_ms) / 2), ("rtt_ms", out_ms + back_ms)):
            records[name][rows, slots] = column
        self._rings.counts[rows] += 1
        self._fresh = True

    def keep(self, former: Ints) -> None:
        """Keep the windows of these rows alone, in this order; `links` has been renumbered likewise."""
        self._rings.keep(former)
        self._fresh = len(former) > 0
        self._above.clear()
        self._shown.clear()
        self._fitted_ns = 0

    def windows(self) -> Windows:
        some = np.flatnonzero(self._rings.counts)
        rings = self._rings.records[some]
        filled = rings["at_ns"] > 0
        src, dst = (np.broadcast_to(end[:, None], filled.shape)[filled] for end in self._links.ends(some))
        return Windows(src, dst, rings["at_ns"][filled], rings["skew_ms"][filled], rings["rtt_ms"][filled])

    def changed(self, nodes: int, now_ns: int) -> Iterator[tuple[int, int, float, float]]:
        """Yield (src, dst, one-way delay, its error) in ms for each estimate that has changed since the last call."""
        if not self._fresh or 0 <= now_ns - self._fitted_ns < EVERY_NS:
            return
        self._fitted_ns, self._fresh = now_ns, False
        found = estimate(nodes, self.windows())
        yield from self._changes(found)

    def _changes(self, found: OneWay) -> Iterator[tuple[int, int, float, float]]:
        ends = zip(found.low.tolist(), found.high.tolist(), strict=True)
        figures = zip(found.out_ms.tolist(), found.back_ms.tolist(), found.error_ms.tolist(), strict=True)
        for (low, high), (out, back, error) in zip(ends, figures, strict=True):
            was = self._shown.get((low, high))
            if was is None or max(abs(out - was[0]), abs(back - was[1])) >= HIDDEN_BELOW_MS:
                self._shown[low, high] = out, back
                yield low, high, out, error
                yield high, low, back, error
