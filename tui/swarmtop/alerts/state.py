"""Decide when a rule fires and when it clears, place by place. Pure: figures and times in, changes out.

    RULE [for TIME] [clear TIME] [margin P%]        for example   rtt_p99_ms<250 for 30s clear 2m margin 10%

RULE is one of `swarmtop.analysis.rules`. A place fires once the rule has been broken there for `for` without a pause;
it clears once the rule has held there with `margin` to spare for `clear`. So one bad window notifies nobody, and a
figure near its limit notifies once. What cannot be judged breaks a rule like any other breach, and clears like any
other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from swarm_protocol.sizes_durations import parse_duration_s
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.analysis import Analysis
from swarmtop.analysis.rules import Breach, Rule, RuleError, breaches, parse_rule

FOR_S: Final = 30.0  # three windows of a probe: one bad window is no trouble yet
CLEAR_S: Final = 60.0
MARGIN: Final = 0.05
SILENT_S: Final = 60.0  # even an idle swarm has heartbeats: something changes more often than this

_TAIL = re.compile(r"\s+(for|clear|margin)\s+(\S+)$")


@dataclass(frozen=True, slots=True)
class AlertRule:
    rule: Rule
    for_s: float = FOR_S
    clear_s: float = CLEAR_S
    margin: float = MARGIN  # of the limit

    @property
    def kept(self) -> Rule:
        """Return what has to hold before it clears: the rule with some margin, for rules that compare sizes."""
        limit = self.rule.value
        if isinstance(limit, str) or self.rule.op in ("==", "!="):
            return self.rule
        room = abs(limit) * self.margin
        return dataclasses.replace(self.rule, value=limit - room if self.rule.op in ("<", "<=") else limit + room)


@dataclass(frozen=True, slots=True)
class Change:
    """A change to notify people of."""

    state: Literal["firing", "cleared"]
    rule: str
    where: str  # "kiln-07", "kiln-07>attic", "" for the swarm
    found: float | str | None  # at firing; None: nothing could be judged, or it has cleared
    since_ns: int  # when the breach began (steady clock)
    line: str


@dataclass(slots=True)
class _Place:
    broken_ns: int | None = None  # since when, without interruption
    held_ns: int | None = None  # while it fires: since when the rule has held with margin
    firing: bool = False
    since_ns: int = 0
    breach: Breach | None = None


def parse_alert(text: str) -> AlertRule:
    """Parse an alert rule. Raises RuleError."""
    rest, found = text.strip(), {}
    while match := _TAIL.search(rest):
        if match[1] in found:
            raise RuleError(f"{match[1]} stands twice in {text[:80]!r}")
        found[match[1]] = match[2]
        rest = rest[: match.start()]
    defaults = AlertRule(parse_rule(rest))
    return dataclasses.replace(
        defaults,
        for_s=_seconds(found["for"]) if "for" in found else FOR_S,
        clear_s=_seconds(found["clear"]) if "clear" in found else CLEAR_S,
        margin=_share(found["margin"]) if "margin" in found else MARGIN,
    )


def _seconds(text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise RuleError(str(error)) from None


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not text.endswith("%") or not 0 <= value < 1:
        raise RuleError(f"{text[:40]!r} is not a margin; write it as 10%, less than 100%")
    return value


class Alerts:
    """Every rule at every place where it was ever broken."""

    def __init__(self, rules: Sequence[AlertRule]) -> None:
        self._rules = tuple(rules)
        self._places: dict[tuple[int, str], _Place] = {}
        self._looked = False

    @property
    def firing(self) -> tuple[str, ...]:
        """Return lines of what fires now, the oldest first."""
        on = sorted((p for p in self._places.values() if p.firing), key=lambda place: place.since_ns)
        return tuple(place.breach.line for place in on if place.breach is not None)

    def look(self, now_ns: int, swarm: Swarm, found: Analysis) -> list[Change]:
        """Return what fires and clears with these figures. A node that a rule names and that does not exist is an error
        at first and a breach later: it has gone. Raises RuleError.
        """
        changes: list[Change] = []
        for number, alert in enumerate(self._rules):
            broken = {breach.where: breach for breach in self._broken(alert.rule, swarm, found)}
            near = {breach.where for breach in self._broken(alert.kept, swarm, found)}
            for where in [*broken, *(w for n, w in list(self._places) if n == number and w not in broken)]:
                place = self._places.setdefault((number, where), _Place())
                changes += self._moved(alert, where, place, broken.get(where), where in near, now_ns)
                if not place.firing and place.broken_ns is None:
                    del self._places[number, where]
        self._looked = True
        return changes

    def _broken(self, rule: Rule, swarm: Swarm, found: Analysis) -> list[Breach]:
        try:
            return breaches(rule, swarm, found)
        except RuleError:
            if not self._looked:
                raise
            return [Breach(rule, f"{rule.src}>{rule.dst}" if rule.dst else rule.src or "", None)]

    def _moved(
        self, alert: AlertRule, where: str, place: _Place, breach: Breach | None, near: bool, now_ns: int
    ) -> Iterator[Change]:
        if breach is not None:
            place.held_ns = None
            place.breach = breach
            if place.broken_ns is None:
                place.broken_ns = now_ns
            if not place.firing and now_ns - place.broken_ns >= alert.for_s * NS_PER_S:
                place.firing, place.since_ns = True, place.broken_ns
                yield Change("firing", alert.rule.text, where, breach.found, place.since_ns, breach.line)
            return
        place.broken_ns = None
        if not place.firing:
            return
        if near:  # the rule holds, but barely
            place.held_ns = None
            return
        if place.held_ns is None:
            place.held_ns = now_ns
        if now_ns - place.held_ns >= alert.clear_s * NS_PER_S:
            place.firing = False
            line = f"{alert.rule.text}: {where or 'the swarm'} has recovered"
            yield Change("cleared", alert.rule.text, where, None, place.since_ns, line)


class SilenceAlert:
    """Fires for a silent collector too: figures that do not change break no rule."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._since_ns: int | None = None

    def look(self, now_ns: int, heard_ns: int) -> list[Change]:
        silent = now_ns - heard_ns >= SILENT_S * NS_PER_S
        if silent == (self._since_ns is not None):
            return []
        if silent:
            self._since_ns = heard_ns
            line = f"no news from the collector {self._title} for {SILENT_S:.0f} s"
            return [Change("firing", "collector", self._title, None, heard_ns, line)]
        since_ns, self._since_ns = self._since_ns or heard_ns, None
        return [Change("cleared", "collector", self._title, None, since_ns, f"{self._title} responds again")]
