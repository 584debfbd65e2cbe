"""Track the usual packet loss of one link, and the evidence that it has changed. Pure.

Losses are counts, so the score of a window is the logarithm of a likelihood ratio (Wald, Page): how much likelier its
count is with the changed share than with the usual one. A window counts for a bounded number of decades, because losses
come in bursts. The interface is `Level`'s; shares are in percent.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from swarm_collector.changes.change_thresholds import LOSS, Figure
from swarm_collector.changes.series.level import RARITY_SAMPLES, rarity_decades
from swarm_protocol.units import NS_PER_S

REMEMBERED: Final = 4_000  # packets: an hour of windows under a watching dashboard has 7,200
MIN_REMEMBERED: Final = 160
PRIOR_SENT: Final = 20.0
CLOCK_SET_NS: Final = 300 * NS_PER_S  # a sample this much older than the newest means that the clock was set back
FORGET_EVIDENCE_NS: Final = 900 * NS_PER_S
PRIOR_LOSING: Final = 0.5
MIN_WINDOWS: Final = 3


class LossState(NamedTuple):
    """A loss level without evidence and without an open change."""

    lost: float  # of the baseline
    sent: float
    at_ns: int
    counts: tuple[float, float]  # windows; those that lost more than usual


class LossLevel:
    __slots__ = ("_losing", "_lost", "_new_losing", "_new_lost", "_new_sent", "_reference", "_sent", "_windows",
                 "at_ns", "better", "samples", "since_ns", "worse")  # fmt: skip

    figure: Figure = LOSS
    whole = 0

    def __init__(self) -> None:
        self._lost = self._sent = 0.0  # of the baseline
        self._new_lost = self._new_sent = 0.0  # of the windows that are evidence now
        self._reference: tuple[float, float] | None = None  # (lost, sent) of the baseline before a confirmed change
        self._windows: float = 0
        self._losing: float = 0  # of them that lost more than usual
        self.worse = self.better = 0.0
        self.samples = self._new_losing = 0
        self.at_ns = 0
        self.since_ns = 0  # of the first window that is evidence

    @property
    def quiet(self) -> bool:
        """Return whether there is no evidence and no open change: all that it is then, is in `state`."""
        return self.samples == 0 and self._reference is None

    @property
    def state(self) -> LossState:
        """Return what a quiet level is."""
        return LossState(self._lost, self._sent, self.at_ns, (self._windows, self._losing))

    def resume(self, state: LossState) -> None:
        """Become the quiet level of this state."""
        self._lost, self._sent, self.at_ns, (self._windows, self._losing) = state

    @property
    def known(self) -> bool:
        return self._sent >= MIN_REMEMBERED

    @property
    def usual(self) -> float:
        return 100 * self._lost / self._sent if self._sent else 0.0

    @property
    def now(self) -> float:
        return 100 * self._new_lost / self._new_sent if self._new_sent else self.usual

    @property
    def reference(self) -> float | None:
        return None if self._reference is None else 100 * self._reference[0] / max(1.0, self._reference[1])

    @property
    def evidence(self) -> float:
        return max(self.worse, self.better) if self.samples >= MIN_WINDOWS else 0.0

    @property
    def returning(self) -> bool:
        return self._reference is not None and self.better > 0

    @property
    def _is_quiet(self) -> bool:
        """Return whether a window without loss is evidence of nothing: none is being gathered, no change is open, and
        the link does not lose so much that a window without loss is news."""
        return self.quiet and (not self._lost or _least_share(self._lost, self._sent) <= self.figure.least_step / 100)

    def add(self, lost: int, sent: int, at_ns: int) -> None:
        if self.at_ns - CLOCK_SET_NS < at_ns <= self.at_ns or sent <= 0 or lost > sent:
            return
        if not -CLOCK_SET_NS < at_ns - self.at_ns < FORGET_EVIDENCE_NS:
            self.drop_evidence()
        self.at_ns = at_ns
        if self._sent < MIN_REMEMBERED:
            self._keep(lost, sent)
            return
        if lost == 0 and self._is_quiet:
            self._count()
            self.since_ns = at_ns
            self._keep(0, sent)
            return
        p = _share(self._lost, self._sent)
        higher = min(0.9, max(p * self.figure.least_ratio, p + self.figure.least_step / 100))
        score = self._score(lost, sent, p, higher)
        self._losing += score > 0
        self._count()
        if score > 0:
            score = min(score, rarity_decades(self._losing, self._windows, PRIOR_LOSING, self._new_losing))
            self._new_losing += 1
        self.worse = max(0.0, self.worse + score)
        if self._reference is not None:
            lower = _share(*self._reference)
            self.better = max(0.0, self.better + self._score(lost, sent, p, lower))
        elif (least := _least_share(self._lost, self._sent)) > self.figure.least_step / 100:
            lower = least / self.figure.least_ratio
            self.better = max(0.0, self.better + self._score(lost, sent, least, lower))
        if self.samples == 0:
            self.since_ns = at_ns
        self._new_lost, self._new_sent, self.samples = self._new_lost + lost, self._new_sent + sent, self.samples + 1
        if self.worse == 0 and self.better == 0:  # no change followed: those windows belong to the usual share
            lost_then, sent_then = self._new_lost, self._new_sent
            self.drop_evidence()
            self._keep(lost_then, sent_then)

    def _count(self) -> None:
        """Count a window; old ones count ever less."""
        self._windows += 1
        if self._windows > RARITY_SAMPLES:
            self._windows, self._losing = self._windows / 2, self._losing / 2

    def _score(self, lost: int, sent: int, p: float, other: float) -> float:
        decades = lost * math.log10(other / p) + (sent - lost) * math.log10((1 - other) / (1 - p))
        return min(self.figure.sample_decades, decades)

    def confirm(self) -> None:
        if self.samples == 0:
            return
        self._losing = max(0, self._losing - self._new_losing)
        if self.returning and self.better >= self.worse:
            assert self._reference is not None
            (self._lost, self._sent), self._reference = self._reference, None
        else:
            if self._reference is None:
                self._reference = (self._lost, self._sent)
            # with so few windows they are all that is known
            fill = max(1.0, MIN_REMEMBERED / max(1.0, self._new_sent))
            self._lost, self._sent = self._new_lost * fill, self._new_sent * fill
        self.drop_evidence()

    def settle(self) -> None:
        self._reference = None

    def restart(self) -> None:
        self.settle()
        self.drop_evidence()
        self._lost = self._sent = 0.0

    def drop_evidence(self) -> None:
        self.worse = self.better = self._new_lost = self._new_sent = 0.0
        self.samples = self._new_losing = 0

    def _keep(self, lost: float, sent: float) -> None:
        if self._sent + sent > REMEMBERED:
            fade = REMEMBERED / (self._sent + sent)
            self._lost, self._sent = self._lost * fade, self._sent * fade
        self._lost, self._sent = self._lost + lost, self._sent + sent


def _share(lost: float, sent: float) -> float:
    """Return the upper limit of the share: two standard errors up, so that few packets do not pass for a good link."""
    return min(0.95, (lost + 1 + 2 * math.sqrt(lost + 1)) / (sent + PRIOR_SENT))


def _least_share(lost: float, sent: float) -> float:
    """Return the lower limit of the share: two standard errors down."""
    return max(0.0, lost - 2 * math.sqrt(lost)) / max(1.0, sent)
