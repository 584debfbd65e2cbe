"""Properties of every answer of the search, for any swarm."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planning import permuted, tables_of

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.bounds.core_prices import tighten_from_core
from swarm_predict.search.chain import Chain, best_split, chain_of, cost_of
from swarm_predict.search.compiled.availability import fast
from swarm_predict.search.objectives.found import Found
from swarm_predict.search.solve import solve
from swarm_predict.search.solvers.exact import solve_exact
from swarm_predict.search.walks.layered import Layered
from swarm_predict.search.walks.walk_bound import Relaxation, no_prices, tighten
from swarm_predict.types import DoesNotFit
from swarm_protocol.snapshot.swarm import Floats, Ints

SEEDS = st.integers(0, 10_000)


def solved(tables: CostTables, **asked: object) -> Found | None:
    try:
        return solve(tables, **asked)  # type: ignore[arg-type]
    except DoesNotFit:
        return None


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(3, 30), st.sampled_from(["chain", "star"]), st.booleans())
def test_the_bound_never_exceeds_the_value_and_the_price_is_the_tables(
    seed: int, nodes: int, pattern: str, client: bool
) -> None:
    tables = tables_of(seed, nodes, layers=24, pattern=pattern, client=client)
    found = solved(tables)
    if found is not None:
        assert found.bound_ms <= found.value_ms
        assert found.value_ms == pytest.approx(tables.price([*found.order], [*found.layers]))
        assert all(n <= cap for n, cap in zip(found.layers, tables.capacities([*found.order]), strict=True))


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from(["chain", "star"]), st.booleans(), st.integers(0, 2**31))
def test_no_random_placement_beats_an_exact_answer_or_undercuts_a_bound(
    seed: int, pattern: str, client: bool, throw: int
) -> None:
    tables = tables_of(seed, 24, layers=30, pattern=pattern, client=client, room=4.0)
    found = solve(tables)
    rng = np.random.default_rng(throw)
    for _ in range(50):
        order = [int(row) for row in rng.permutation(24)[: int(rng.integers(3, 24))]]
        layers = best_split(tables, order)
        if layers is not None:
            price = tables.price(order, layers)
            assert price >= found.bound_ms - 1e-6
            if found.exact:
                assert price >= found.value_ms - 1e-6


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.booleans(), st.integers(0, 11))
def test_a_better_node_never_hurts(seed: int, client: bool, row: int) -> None:
    tables = tables_of(seed, 12, layers=20, pattern="chain", client=client, room=4.0)
    before = solve(tables)
    faster, roomier = tables.layer_ms.copy(), tables.capacity.copy()
    faster[row] *= 0.5
    roomier[row] += 2
    after = solve(replace(tables, layer_ms=faster, capacity=roomier))
    assert after.value_ms <= before.value_ms + 1e-9


def relaxations(chain: Chain) -> list[Relaxation]:
    """Every way to make a pass that is installed here."""
    ways: list[Relaxation] = [Layered(chain, memory) for memory in (1, 2, 3, 5)]
    loops = fast()
    if loops is not None:
        ways.append(loops.compiled.Compiled(chain, loops.compiled.all_states(chain)))
    return ways


def solved_exactly(seed: int, *, client: bool) -> tuple[Chain, Ints, float]:
    """Return a chain, its best order and that order's cost, by the exact search."""
    tables = tables_of(seed, 11, layers=20, pattern="chain", client=client, room=4.0)
    everyone = np.ones(11, dtype=np.bool_)
    chain = chain_of(tables, everyone, ~everyone, 11)
    exact = solve_exact(chain, float("inf"), lambda: False)
    assert exact is not None
    order, optimum = exact
    assert order is not None
    return chain, order, optimum


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.booleans())
def test_the_walk_bound_holds_against_the_exact_search(seed: int, client: bool) -> None:
    """The bound on its own, with and without knowing the first node, never claims more than the optimum."""
    chain, order, optimum = solved_exactly(seed, client=client)
    assert optimum == pytest.approx(float(cost_of(chain, np.array([order]))[0]))
    assume(client or len(order) != 2)  # rings of two are priced beside the walks
    firsts = np.flatnonzero(np.maximum(chain.first, chain.only) > 0)
    for group in ([firsts], np.array_split(firsts, 3), [np.array([row]) for row in firsts]):
        for part in group:
            others = np.setdiff1d(np.arange(len(chain)), part)
            beginning, alone = chain.first.copy(), chain.only.copy()
            beginning[others] = alone[others] = 0
            these = replace(chain, first=beginning, only=alone)
            for relaxation in relaxations(these):
                found = tighten(these, relaxation, optimum * 1.05, no_prices(chain), 12, lambda: False)
                if order[0] in part:
                    assert found.bound <= optimum + 1e-9
                    assert found.keep[order].all()
                    assert found.begin[order[0]]


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.booleans(), st.integers(1, 8))
def test_prices_found_over_a_core_hold_over_all_nodes(seed: int, client: bool, size: int) -> None:
    """Whatever nodes the core begins with, none of them in the optimum perhaps."""
    chain, order, optimum = solved_exactly(seed, client=client)
    assume(client or len(order) != 2)
    firsts = np.flatnonzero(np.maximum(chain.first, chain.only) > 0)
    core = np.union1d(np.arange(len(chain))[-size:], firsts[:1])
    for way in range(len(relaxations(chain))):

        def part_of(rows: Ints, way: int = way) -> tuple[Chain, Relaxation]:
            rest = chain.keep(np.isin(np.arange(len(chain)), rows))
            return rest, relaxations(rest)[way]

        relaxation = relaxations(chain)[way]
        start = no_prices(chain)
        found = tighten_from_core(chain, relaxation, part_of, core, optimum * 1.05, start, lambda: False)
        assert found.bound <= optimum + 1e-9
        assert found.keep[order].all()
        assert found.begin[order[0]]


@pytest.mark.skipif(fast() is None, reason="numba is not installed (pip install swarmtop[fast])")
@settings(max_examples=20, deadline=None)
@given(SEEDS, st.booleans())
def test_compiled_walks_are_those_that_never_go_straight_back(seed: int, client: bool) -> None:
    chain, prices = some_chain(seed, client)
    loops = fast()
    assert loops is not None
    compiled = loops.compiled.Compiled(chain, loops.compiled.all_states(chain))
    walk = compiled.forward(prices)
    assert Layered(chain, 1).forward(prices).bound <= walk.bound + 1e-6
    stages = walk.order if chain.close is None or len(walk.order) < 2 else (*walk.order, walk.closes_to)
    assert all(one != other for one, other in itertools.pairwise(stages))
    assert all(one != other for one, other in zip(stages, stages[2:], strict=False))


@pytest.mark.skipif(fast() is None, reason="numba is not installed (pip install swarmtop[fast])")
@settings(max_examples=20, deadline=None)
@given(SEEDS, st.booleans())
def test_a_compiled_descent_ends_no_higher_than_it_began_and_fits(seed: int, client: bool) -> None:
    chain, _ = some_chain(seed, client)
    loops = fast()
    assert loops is not None
    problem = loops.descent.problem_of(chain)
    begin = np.random.default_rng(seed).permutation(len(chain))[:6]
    end = loops.descent.descend(begin, np.arange(len(chain)), problem)
    assert len(set(end.tolist())) == len(end)
    assert np.isfinite(cost_of(chain, end[None])[0])
    assert cost_of(chain, end[None])[0] <= cost_of(chain, begin[None])[0] + 1e-6


def some_chain(seed: int, client: bool) -> tuple[Chain, Floats]:
    tables = tables_of(seed, 14, layers=24, pattern="chain", client=client, room=5.0)
    everyone = np.ones(14, dtype=np.bool_)
    chain = chain_of(tables, everyone, ~everyone, 14)
    return chain, np.random.default_rng(seed).exponential(3.0, len(chain))


def test_the_same_question_has_the_same_answer() -> None:
    tables = tables_of(5, 22, layers=30, pattern="chain", client=False)
    one, other = solve(tables, seed=3, time_limit_s=60), solve(tables, seed=3, time_limit_s=60)
    assert one == other


def test_large_swarms_listed_in_another_order_cost_the_same_when_exact() -> None:
    tables = tables_of(8, 16, layers=40, pattern="chain", client=True)
    to = [int(i) for i in np.random.default_rng(1).permutation(16)]
    assert solve(permuted(tables, to)).value_ms == pytest.approx(solve(tables).value_ms)


def test_a_warm_start_is_never_worse_than_the_order_it_is_given() -> None:
    tables = tables_of(9, 30, layers=40, pattern="chain", client=False)
    warm = solve(tables, prove=False)
    again = solve(tables, prove=False, warm=warm.order)
    assert again.value_ms <= warm.value_ms
    assert again.bound_ms == 0.0


def test_out_of_time_there_is_still_an_answer_with_a_bound() -> None:
    ticks = iter(range(10_000))
    tables = tables_of(4, 40, layers=60, pattern="chain", client=False)
    found = solve(tables, time_limit_s=40.0, clock=lambda: float(next(ticks)))
    assert sum(found.layers) == 60
    assert found.bound_ms <= found.value_ms
