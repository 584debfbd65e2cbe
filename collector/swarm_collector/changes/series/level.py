"""Track the usual level of one series, and the evidence that the level has changed. Pure.

The *baseline* is the median of up to BASELINE values spread over the last hour, its *scale* the median absolute
deviation of their logarithms (or what their tail says, if that is more). A sample that is at least the figure's
minimum effect away adds evidence, a sample that is not takes all of it away: evidence must come in one piece, in one
direction. How much a sample adds is the smaller of what a heavy tail allows and what the series has shown so far: with
three degrees of freedom, being z scales off has a probability of about z⁻³, which is 3·log₁₀ z *decades*; and a series
of which every tenth sample was away before says one decade by another (`rarity_decades`). (Page 1954, with a score for
heavy tails, Huber 1965.) Values close to the baseline enter it; while there is evidence none does, so a step cannot
hide by being averaged in, and slow drift is followed.

A confirmed change keeps the old baseline as the *reference*: the series has `returned` when its level is nearer to
the reference than to the changed level. After an hour the changed level is the usual one.
"""

from __future__ import annotations

import math
from array import array
from typing import Final, NamedTuple

from swarm_collector.changes.change_thresholds import Figure
from swarm_protocol.units import NS_PER_S

BASELINE: Final = 24
SPREAD_NS: Final = 150 * NS_PER_S  # between two values of a full baseline: together an hour
BATCH: Final = 5
STEADY: Final = 8  # values after which the baseline is reliable
RARITY_SAMPLES: Final = 1_000.0
STEP_PRIOR: Final = 1e-3  # before anything was seen: a whole window at another level is rare
SAMPLE_PRIOR: Final = 0.05
BURST_PRIOR: Final = 1.0  # a part of a window at another level is not
WEAKEN_DECADES: Final = 1.0  # subtracted by a sample that supports neither level
TAIL: Final = 3.0  # degrees of freedom
GATE: Final = 0.8  # of the minimum effect, so that a step of exactly that size passes with half of its samples' noise
PLATEAU: Final = 0.25  # of the step: what lies above a plateau's median
BURST_DECADES: Final = 2.5  # at most, from a window that is not all at one level
CLOCK_SET_NS: Final = 300 * NS_PER_S  # a sample this much older than the newest means that the clock was set back
FORGET_EVIDENCE_NS: Final = 900 * NS_PER_S  # samples further apart than this are not "in a row"
_MAD: Final = 1.4826  # of a normal distribution: scale over median absolute deviation
_TAIL_SHARE: Final = 1.6  # scales that the second largest of 24 deviations is at
SMALL: Final = 1e-6
_NOTHING: Final = array("f")  # shared by all levels without evidence, which begins with an array of its own


def rarity_decades(away: float, samples: float, prior: float, evident: int = 0) -> float:
    """Return the evidence that one more sample away from the baseline adds, by how often samples were away without a
    change following. `prior`: samples assumed to be away before any was seen; `evident`: those in the present evidence,
    which may turn out to be a change."""
    return -math.log10(min(1.0, (max(0.0, away - evident) + prior) / (samples + 1)))


class LevelState(NamedTuple):
    """A level without evidence and without an open change."""

    values: array[float]
    median: float
    kept_ns: int
    at_ns: int
    counts: tuple[float, float, float]  # samples; those away from the baseline; of them those of a whole window


class Level:
    __slots__ = ("_away", "_kept_ns", "_median", "_recent", "_reference", "_seen", "_steps", "_values", "at_ns",
                 "better", "figure", "since_ns", "whole", "worse")  # fmt: skip

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self._values = array("f")
        self._kept_ns = 0  # when a value last entered the baseline
        self._median = 0.0
        self._recent = _NOTHING  # the samples that are evidence now
        self._reference: float | None = None
        self.worse = self.better = 0.0  # decades
        self.at_ns = 0  # of the newest sample
        self.since_ns = 0  # of the first sample that is evidence
        self.whole = 0  # samples of the evidence that speak of their whole window
        # samples; those away from the baseline; those of them that speak of their whole window
        self._seen: float = 0
        self._away: float = 0
        self._steps: float = 0

    # ------------------------------------------------------------ what is known

    @property
    def quiet(self) -> bool:
        """Return whether there is no evidence and no open change: all that it is then, is in `state`."""
        return not self._recent and self._reference is None

    @property
    def state(self) -> LevelState:
        """Return what a quiet level is."""
        return LevelState(self._values, self._median, self._kept_ns, self.at_ns, (self._seen, self._away, self._steps))

    def resume(self, state: LevelState) -> None:
        """Become the quiet level of this state."""
        self._values, self._median, self._kept_ns, self.at_ns, (self._seen, self._away, self._steps) = state

    @property
    def known(self) -> bool:
        return len(self._values) >= self.figure.least_baseline

    @property
    def usual(self) -> float:
        return math.exp(self._median)

    @property
    def now(self) -> float:
        """Return the level that the evidence points to; without evidence the usual one."""
        return math.exp(_middle(self._recent)) if self._recent else self.usual

    @property
    def reference(self) -> float | None:
        """Return the level before a confirmed change; None: no change is open."""
        return None if self._reference is None else math.exp(self._reference)

    @property
    def samples(self) -> int:
        """Return the number of samples in the evidence."""
        return len(self._recent)

    @property
    def evidence(self) -> float:
        return max(self.worse, self.better)

    @property
    def returning(self) -> bool:
        """Return whether the evidence points to the level before the change."""
        if self._reference is None or not self._recent:
            return False
        now = _middle(self._recent)
        return abs(now - self._reference) < abs(now - self._median)

    # ------------------------------------------------------------ samples

    def is_away(self, value: float) -> bool:
        """Return whether a value is a minimum effect away from the baseline."""
        away, step = abs(math.log(max(value, SMALL)) - self._median), abs(value - self.usual)
        return away >= math.log(self.figure.least_ratio) * GATE and step >= self.figure.least_step * GATE

    def add(self, value: float, at_ns: int, *, window: tuple[float, float] | None = None) -> None:
        """Add a sample. `window`: (min, p95) of its window, which tell a step from a burst; see `_is_step`."""
        if self.at_ns - CLOCK_SET_NS < at_ns <= self.at_ns:
            return
        if not -CLOCK_SET_NS < at_ns - self.at_ns < FORGET_EVIDENCE_NS:
            self.drop_evidence()
        self.at_ns = at_ns
        x = math.log(max(value, SMALL))
        figure = self.figure
        if len(self._values) < figure.least_baseline:
            self._keep(x, at_ns)
            self._count()
            return
        away = x - self._median
        gate = figure.least_log_ratio * GATE
        clearly_usual = abs(away) < gate / 2
        step = 0.0 if clearly_usual else abs(math.exp(x) - self.usual)
        if clearly_usual or abs(away) < gate or step < figure.least_step * GATE:
            if not self._recent:  # as nearly always
                if at_ns >= self._kept_ns + SPREAD_NS or len(self._values) < BASELINE:
                    self._keep(x, at_ns)
            elif clearly_usual or step < figure.least_step / 2:
                self.drop_evidence()
                self._keep(x, at_ns)
            else:
                self._weaken()
            self._count()
            return
        decades = min(figure.sample_decades, TAIL * math.log10(max(1.0, abs(away) / self._scale())))
        whole = window is None or self._is_step(math.exp(x), window)
        if whole:
            prior = STEP_PRIOR if window is not None else SAMPLE_PRIOR
            rare = rarity_decades(self._steps, self._seen, prior, len(self._recent))
        else:
            rare = min(BURST_DECADES, rarity_decades(self._away, self._seen, BURST_PRIOR, len(self._recent)))
        decades = min(decades, rare)
        self._steps += whole
        self._away += 1
        self._count()
        if (away > 0) != self.figure.higher_is_worse and self._reference is None and len(self._values) < STEADY:
            decades = 0.0  # the first values may be the unusual ones
        if (away > 0) == self.figure.higher_is_worse:
            self.worse, self.better = self.worse + decades, 0.0
            turned = self.worse == decades
        else:
            self.worse, self.better = 0.0, self.better + decades
            turned = self.better == decades
        if turned or not self._recent:
            self._recent, self.since_ns, self.whole = array("f"), at_ns, 0
        self._recent.append(x)
        self.whole += whole and window is not None
        del self._recent[:-BASELINE]

    def _is_step(self, value: float, window: tuple[float, float]) -> bool:
        """Return whether the whole window is at another level, or its deviating samples form a plateau. A filling queue
        or a stalling machine gives delays of every length in between."""
        least, p95 = window
        usual = self.usual
        whole = abs(least - usual) >= GATE * abs(value - usual) and (least > usual) == (value > usual)
        return whole or p95 - value <= PLATEAU * abs(value - usual)

    def confirm(self) -> None:
        """Accept the evidence: its level becomes the baseline, the previous one the reference."""
        if not self._recent:
            return
        # these samples were not noise
        self._steps, self._away = (max(0, away - len(self._recent)) for away in (self._steps, self._away))
        if self.returning:
            self._reference = None
        elif self._reference is None:
            self._reference = self._median
        self._values, self._kept_ns = array("f", self._recent[-3:]), self.at_ns
        self.drop_evidence()
        self._measure()

    def settle(self) -> None:
        """Take the changed level as the usual one from now on."""
        self._reference = None

    def restart(self) -> None:
        """Forget the level."""
        self.settle()
        self.drop_evidence()
        self._values = array("f")

    def drop_evidence(self) -> None:
        self._recent = _NOTHING
        self.worse = self.better = 0.0
        self.whole = 0

    def _count(self) -> None:
        """Count a sample; old ones count ever less."""
        self._seen += 1
        if self._seen > RARITY_SAMPLES:
            self._seen, self._away, self._steps = self._seen / 2, self._away / 2, self._steps / 2

    def _weaken(self) -> None:
        self.worse, self.better = max(0.0, self.worse - WEAKEN_DECADES), max(0.0, self.better - WEAKEN_DECADES)
        if not (self.worse or self.better):
            self.drop_evidence()

    def _keep(self, x: float, at_ns: int) -> None:
        if len(self._values) >= BASELINE:
            if at_ns < self._kept_ns + SPREAD_NS:
                return
            del self._values[0]
        self._values.append(x)
        self._kept_ns = at_ns
        self._measure()

    def _measure(self) -> None:
        self._median = _middle(self._values)

    def _scale(self) -> float:
        """Return the scale of the baseline; measured for a sample that is away from it, as few are."""
        away = sorted(abs(x - self._median) for x in self._values)
        n = len(away)
        mad = away[n // 2] * _MAD
        tail = away[-2] / _TAIL_SHARE if n >= STEADY else away[-1]
        # a few values underestimate their own spread
        return max(mad, tail, self.figure.noise_floor) * (1.0 + 2.0 / n)


def _middle(values: array[float]) -> float:
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


class BatchedLevel(Level):
    """A level of medians of BATCH samples, for a figure without finite variance, such as the tail of a few packets."""

    __slots__ = ("_batch",)

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure)
        self._batch = array("f")

    @property
    def collected(self) -> array[float]:
        """Return the samples of the batch that is not full yet."""
        return self._batch

    @collected.setter
    def collected(self, values: array[float]) -> None:
        self._batch = values

    def collect(self, value: float, at_ns: int) -> None:
        self._batch.append(value)
        if len(self._batch) == BATCH:
            self.add(_middle(self._batch), at_ns)
            self._batch = array("f")
