"""What an outsider costs, asked of many at once, against the search that is asked about each alone."""

from __future__ import annotations

import numpy as np
import pytest
from planning import tables_of

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.chain import best_split
from swarm_predict.search.near import Nearby
from swarm_predict.search.solve import solve
from swarm_predict.search.star import each
from swarm_predict.types import PredictError


def value_of(tables: CostTables, **asked: list[int]) -> float:
    try:
        return solve(tables, **asked).value_ms  # type: ignore[arg-type]
    except PredictError:
        return float("inf")


@pytest.mark.parametrize("client", [False, True])
def test_two_passes_say_of_every_node_what_a_star_costs_with_and_without_it(client: bool) -> None:
    for seed in range(8):
        tables = tables_of(seed, 8, 10, "star", client, room=3.0)
        found = each(tables, np.ones(8, dtype=np.bool_))
        for row in range(8):
            assert found.using[row] == pytest.approx(value_of(tables, require=[row]))
            assert found.without[row] == pytest.approx(value_of(tables, forbid=[row]))


def near_and_exact(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Of every outsider of some swarms: milliseconds near the best order, and at the optimum that uses it."""
    if not compiled:
        monkeypatch.setattr("swarm_predict.search.near.fast", lambda: None)
        monkeypatch.setattr("swarm_predict.search.near._FEW_NODES", 0)
    pairs = []
    for seed in range(3):
        tables = tables_of(seed, 14, 24, "chain", bool(seed % 2), room=4.0)
        best = solve(tables)
        near = Nearby.of(tables, np.ones(14, dtype=np.bool_))
        assert near is not None
        for row in sorted(set(range(14)) - set(best.order)):
            order = near.using(row, best.order)
            if order is not None:
                layers = best_split(tables, order)
                assert row in order
                assert layers is not None
                pairs.append((tables.price([*order], layers), value_of(tables, require=[row])))
    return pairs


@pytest.mark.parametrize("compiled", [False, True])
def test_near_the_best_order_an_outsider_costs_what_it_costs_at_its_optimum(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never less; mostly the same with compiled loops, within a seventh at the median without."""
    pairs = near_and_exact(compiled, monkeypatch)
    over = [near / exact - 1 for near, exact in pairs]
    assert len(pairs) > 20
    assert min(over) >= -1e-9
    assert np.median(over) <= (0.001 if compiled else 0.15)
