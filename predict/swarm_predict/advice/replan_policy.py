"""Decide when a running plan should change: a better one must gain enough, for long enough, and changes must be rare.

Moving layers costs minutes of loading, so a plan that flickers with every measurement is worse than a plan that is a
little slow. The rule, one step a look:

    broken     a node of the plan is gone, or a figure of it is no longer known: a change is proposed at once
    better     the best plan is faster by GAIN or more. It has to stay so for HOLD_S, or for a shorter time the more it
               gains (a fifth faster: for 30 s); a look in which the gain falls
               below half of GAIN restarts the wait (between half and the whole the wait continues: noise around the
               threshold neither resets nor shortens it)
    settled    within QUIET_S after a change only a broken plan is changed, so two equal plans cannot alternate

Pure: times are passed in, nothing is moved here. The caller reports an accepted proposal with `adopt`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from swarm_predict.cost.tables import CostTables
from swarm_predict.types import Placement
from swarm_protocol.units import NS_PER_S

GAIN: Final = 0.05  # of the time per token
HOLD_S: Final = 60.0
QUIET_S: Final = 300.0

Why = Literal["first", "broken", "better"]


@dataclass(frozen=True, slots=True)
class Proposal:
    placement: Placement
    why: Why
    gain: float | None  # of the time per token; None if the plan before has no time any more
    gone: tuple[str, ...] = ()  # nodes of the plan that no longer serve


@dataclass(frozen=True, slots=True)
class Follower:
    """The state between two checks."""

    held: Placement = ()
    better_since_ns: int | None = None  # since when something better was there without a break
    changed_ns: int | None = None
    proposal: Proposal | None = None

    def look(self, now_ns: int, tables: CostTables, best: Placement) -> Follower:
        """Take one look at the present swarm, of which `best` is the best plan."""
        if not self.held:
            return replace(self, proposal=Proposal(best, "first", None))
        now = price_of(tables, self.held)
        if now is None:
            gone = tuple(stage.node for stage in self.held if not _serves(tables, stage.node))
            return replace(self, better_since_ns=None, proposal=Proposal(best, "broken", None, gone))
        then = price_of(tables, best)
        gain = 0.0 if then is None or now <= 0 else 1 - then / now
        if gain < GAIN / 2 or best == self.held:
            return replace(self, better_since_ns=None, proposal=None)
        since = self.better_since_ns
        if since is None:
            since = now_ns if gain >= GAIN else None
        hold_s = HOLD_S * min(1.0, max(0.5, 2 * GAIN / max(gain, GAIN)))
        waited = since is not None and now_ns - since >= hold_s * NS_PER_S
        settled = self.changed_ns is not None and now_ns - self.changed_ns < QUIET_S * NS_PER_S
        ripe = waited and not settled and gain >= GAIN
        return replace(self, better_since_ns=since, proposal=Proposal(best, "better", gain) if ripe else None)

    def adopt(self, now_ns: int, placement: Placement) -> Follower:
        """Note that the layers were moved. After the very first plan there is no quiet time: much is still
        unmeasured."""
        return Follower(held=placement, changed_ns=now_ns if self.held else None)


def price_of(tables: CostTables, placement: Placement) -> float | None:
    """Return the milliseconds of a token with exactly these layers; None if it cannot run."""
    rows = {name: row for row, name in enumerate(tables.names)}
    if not placement or any(stage.node not in rows for stage in placement):
        return None
    order, layers = [rows[stage.node] for stage in placement], [stage.layers for stage in placement]
    if any(count > cap for count, cap in zip(layers, tables.capacities(order), strict=True)):
        return None
    value = tables.price(order, layers)
    return value if value < float("inf") else None


def _serves(tables: CostTables, name: str) -> bool:
    if name not in tables.names:
        return False
    row = tables.names.index(name)
    return bool(tables.capacity[row] > 0) and float(tables.layer_ms[row]) < float("inf")
