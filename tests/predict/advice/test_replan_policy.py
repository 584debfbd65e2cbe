"""A running plan changes if it must or if that pays, and does not oscillate: hours of a swarm, simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from planning import tables_of

from swarm_predict.advice.replan_policy import GAIN, HOLD_S, QUIET_S, Follower, price_of
from swarm_predict.cost.tables import CostTables
from swarm_predict.search.solve import placement_of, solve
from swarm_predict.types import Placement
from swarm_protocol.units import NS_PER_S

LOOK_S = 5.0


def best_of(tables: CostTables) -> Placement:
    return placement_of(tables, solve(tables))


def noisy(tables: CostTables, rng: np.random.Generator, share: float) -> CostTables:
    """Every link and layer off by about `share`, as medians of short windows are."""
    hop = tables.hop_ms * rng.normal(1.0, share, tables.hop_ms.shape)
    return replace(tables, hop_ms=hop, layer_ms=tables.layer_ms * rng.normal(1.0, share / 2, len(tables.names)))


def slower(tables: CostTables, row: int, times: float) -> CostTables:
    hop = tables.hop_ms.copy()
    hop[row, :] *= times
    hop[:, row] *= times
    return replace(tables, hop_ms=hop)


def without(tables: CostTables, row: int) -> CostTables:
    layer = tables.layer_ms.copy()
    layer[row] = np.inf
    return replace(tables, layer_ms=layer)


class Played:
    """A follower whose proposals are accepted at once."""

    def __init__(self, tables: CostTables, look_s: float = LOOK_S) -> None:
        self.look_s = look_s
        self.follower = Follower().adopt(0, best_of(tables))  # long ago
        self.now_s, self.changes = QUIET_S, []  # type: float, list[tuple[float, str]]

    def play(self, tables: list[CostTables]) -> Played:
        for each in tables:
            self.now_s += self.look_s
            now_ns = int(self.now_s * NS_PER_S)
            self.follower = self.follower.look(now_ns, each, best_of(each))
            if self.follower.proposal is not None:
                self.changes.append((self.now_s, self.follower.proposal.why))
                self.follower = self.follower.adopt(now_ns, self.follower.proposal.placement)
        return self


def swarm(seed: int = 3) -> CostTables:
    return tables_of(seed, 8, 12, "chain", client=True, room=3.0)


def test_measurement_noise_changes_nothing_in_an_hour() -> None:
    """Though the best plan of the moment is another one now and then."""
    tables, rng = swarm(), np.random.default_rng(0)
    looks = [noisy(tables, rng, 0.1) for _ in range(120)]
    assert len({tuple(stage.node for stage in best_of(each)) for each in looks[:40]}) > 1
    assert Played(tables, look_s=30.0).play(looks).changes == []


def test_a_slow_line_is_left_once_and_not_before_it_has_stayed_slow() -> None:
    tables, rng = swarm(), np.random.default_rng(0)
    row = tables.names.index(best_of(tables)[1].node)
    bad = slower(tables, row, 6.0)
    assert price_of(bad, best_of(tables)) > price_of(bad, best_of(bad)) * (1 + 2 * GAIN)  # type: ignore[operator]
    played = Played(tables)
    begun = played.now_s
    played.play([noisy(bad, rng, 0.02) for _ in range(40)])
    assert [why for _, why in played.changes] == ["better"]
    assert HOLD_S / 4 <= played.changes[0][0] - begun <= HOLD_S + 3 * LOOK_S


def test_the_more_a_change_gains_the_sooner_it_is_proposed() -> None:
    tables = swarm()
    row = tables.names.index(best_of(tables)[1].node)
    waits = []
    for times in (1.5, 3.0, 12.0):
        played = Played(tables)
        begun = played.now_s
        played.play([slower(tables, row, times)] * 20)
        waits.append(played.changes[0][0] - begun if played.changes else float("inf"))
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] <= HOLD_S / 2 + LOOK_S


def test_a_line_that_is_slow_for_moments_only_is_kept() -> None:
    tables = swarm()
    bad = slower(tables, tables.names.index(best_of(tables)[1].node), 6.0)
    moment = [bad] * 5 + [tables] * 5  # 25 seconds each
    assert Played(tables).play(moment * 8).changes == []


def test_two_plans_that_are_better_in_turn_do_not_alternate() -> None:
    """The line is bad for two minutes and good for two: without the quiet time a plan would move every two minutes."""
    tables = swarm()
    bad = slower(tables, tables.names.index(best_of(tables)[1].node), 6.0)
    two_minutes = int(120 / LOOK_S)
    played = Played(tables).play(([bad] * two_minutes + [tables] * two_minutes) * 3)
    gaps = [other[0] - one[0] for one, other in zip(played.changes, played.changes[1:], strict=False)]
    assert all(gap >= QUIET_S for gap in gaps)


def test_a_node_that_leaves_is_replaced_at_once_even_in_the_quiet_time() -> None:
    tables = swarm()
    plan = best_of(tables)
    gone = tables.names.index(plan[0].node)
    played = Played(tables)
    played.play([without(tables, gone)])
    assert [why for _, why in played.changes] == ["broken"]
    assert plan[0].node not in {stage.node for stage in played.follower.held}
    second = tables.names.index(played.follower.held[0].node)
    played.play([without(without(tables, gone), second)])
    assert [why for _, why in played.changes] == ["broken", "broken"]


def test_a_better_machine_that_joins_is_taken_once_it_has_stayed() -> None:
    tables = swarm()
    fast = tables.layer_ms.copy()
    outsider = next(row for row, name in enumerate(tables.names) if name not in {s.node for s in best_of(tables)})
    fast[outsider] /= 20
    joined = replace(tables, layer_ms=fast, capacity=np.where(np.arange(8) == outsider, 12, tables.capacity))
    played = Played(tables).play([joined] * 20)
    assert [why for _, why in played.changes] == ["better"]
    assert tables.names[outsider] in {stage.node for stage in played.follower.held}
