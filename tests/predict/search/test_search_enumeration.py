"""The search against the plain enumeration of every subset, order and split of small swarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planning import capacities, every_placement, permuted, tables_of

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.objectives.found import Found
from swarm_predict.search.solve import solve
from swarm_predict.types import DoesNotFit, NotMeasured, Objective

SHAPES = [("chain", False), ("chain", True), ("star", False), ("star", True)]


def value_of(tables: CostTables, objective: Objective, order: list[int], layers: list[int], streams: float) -> float:
    price = tables.price(order, layers)
    if objective == "latency" or not math.isfinite(price):
        return price
    return max(tables.period(order, layers), price / streams)


def brute(
    tables: CostTables,
    objective: Objective,
    require: tuple[int, ...] = (),
    max_stages: int = 99,
    streams: float = math.inf,
) -> float | None:
    prices = [
        value_of(tables, objective, order, layers, streams)
        for order, layers in every_placement(tables)
        if set(require) <= set(order) and len(order) <= max_stages
    ]
    return min((p for p in prices if math.isfinite(p)), default=None)


def check(found: Found, tables: CostTables, objective: Objective, best: float, streams: float = math.inf) -> None:
    order, layers = list(found.order), list(found.layers)
    assert found.value_ms == pytest.approx(value_of(tables, objective, order, layers, streams))
    assert sum(layers) == tables.layers
    assert all(1 <= n <= cap for n, cap in zip(layers, capacities(tables, found.order), strict=True))
    assert found.value_ms == pytest.approx(best)
    assert found.exact
    assert found.bound_ms <= found.value_ms


@pytest.mark.parametrize(("pattern", "client"), SHAPES)
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_solve_finds_what_enumeration_finds(pattern: str, client: bool, objective: Objective) -> None:
    solved = 0
    for seed in range(25):
        tables = tables_of(seed, nodes=2 + seed % 4, layers=3 + seed % 5, pattern=pattern, client=client)
        best = brute(tables, objective)
        if best is None:
            with pytest.raises(DoesNotFit):
                solve(tables, objective=objective)
            continue
        check(solve(tables, objective=objective), tables, objective, best)
        solved += 1
    assert solved >= 15


@pytest.mark.parametrize(("pattern", "client"), SHAPES)
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_required_nodes_and_a_stage_limit_are_obeyed_at_the_least_cost(
    pattern: str, client: bool, objective: Objective
) -> None:
    solved = 0
    for seed in range(25):
        tables = tables_of(100 + seed, nodes=4, layers=6, pattern=pattern, client=client, room=2.2)
        require = (seed % 4,) if seed % 3 else (seed % 4, (seed + 1) % 4)
        best = brute(tables, objective, require, max_stages=2 + seed % 2)
        if best is None:
            with pytest.raises(DoesNotFit):
                solve(tables, objective=objective, require=require, max_stages=2 + seed % 2)
            continue
        found = solve(tables, objective=objective, require=require, max_stages=2 + seed % 2)
        check(found, tables, objective, best)
        assert set(require) <= set(found.order)
        assert len(found.order) <= 2 + seed % 2
        solved += 1
    assert solved >= 12


@pytest.mark.parametrize(("pattern", "client"), SHAPES)
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_throughput_of_few_streams_weighs_latency_against_the_period(pattern: str, client: bool, streams: int) -> None:
    for seed in range(12):
        tables = tables_of(200 + seed, nodes=4, layers=6, pattern=pattern, client=client, room=5.0)
        best = brute(tables, "throughput", streams=streams)
        assert best is not None
        check(solve(tables, objective="throughput", streams=streams), tables, "throughput", best, streams)


@pytest.mark.parametrize(("pattern", "client"), SHAPES)
def test_a_forbidden_node_is_as_good_as_absent(pattern: str, client: bool) -> None:
    tables = tables_of(7, nodes=5, layers=6, pattern=pattern, client=client, room=2.5)
    gone = solve(tables).order[0]
    found = solve(tables, forbid=[gone])
    best = min(tables.price(o, s) for o, s in every_placement(tables) if gone not in o)
    assert gone not in found.order
    assert found.value_ms == pytest.approx(best)


@pytest.mark.parametrize(("pattern", "client"), SHAPES)
def test_unknown_links_are_never_used(pattern: str, client: bool) -> None:
    solved = 0
    for seed in range(12):
        tables = tables_of(seed, nodes=5, layers=6, pattern=pattern, client=client, room=2.5)
        rng = np.random.default_rng(seed)
        tables.hop_ms[rng.random(tables.hop_ms.shape) < 0.4] = np.inf
        best = brute(tables, "latency")
        if best is None:
            with pytest.raises((NotMeasured, DoesNotFit)):
                solve(tables)
            continue
        check(solve(tables), tables, "latency", best)
        solved += 1
    assert solved >= 6


@pytest.mark.parametrize(("pattern", "client"), SHAPES)
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_the_listing_order_of_nodes_does_not_matter(pattern: str, client: bool, objective: Objective) -> None:
    tables = tables_of(3, nodes=9, layers=20, pattern=pattern, client=client)
    to = [4, 2, 0, 8, 6, 1, 3, 5, 7]
    one, other = solve(tables, objective=objective), solve(permuted(tables, to), objective=objective)
    assert one.value_ms == pytest.approx(other.value_ms)


def test_too_little_memory_says_how_many_layers_there_is_room_for() -> None:
    tables = tables_of(1, nodes=3, layers=6, pattern="chain", client=False)
    tables.capacity[:], tables.capacity_first[:], tables.capacity_last[:] = 1, 1, 1
    tables.capacity_only[:] = 1
    with pytest.raises(DoesNotFit) as error:
        solve(tables)
    assert str(error.value) == (
        "all nodes together hold 3 of 6 layers; add nodes, or use smaller --weights or --context"
    )


def test_missing_layer_times_are_named() -> None:
    tables = tables_of(2, nodes=3, layers=6, pattern="chain", client=False)
    tables.capacity[:], tables.capacity_first[:], tables.capacity_last[:] = 3, 3, 3
    tables.capacity_only[:] = 3
    tables.layer_ms[1:] = np.nan
    with pytest.raises(NotMeasured, match="no layer time for n1, n2; nodes with one hold 3 of 6 layers"):
        solve(tables)


def test_missing_links_are_named() -> None:
    tables = tables_of(2, nodes=2, layers=6, pattern="chain", client=False)
    for capacity in (tables.capacity, tables.capacity_first, tables.capacity_last):
        capacity[:] = 4
    tables.capacity_only[:] = 0
    tables.hop_ms[0, 1] = tables.hop_ms[1, 0] = np.nan
    with pytest.raises(NotMeasured, match="no round trip for n0 → n1, n1 → n0"):
        solve(tables)
