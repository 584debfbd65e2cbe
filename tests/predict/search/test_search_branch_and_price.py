"""Branch and price: relaxation, cuts and branching against every placement there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planning import tables_of

from swarm_predict.search.chain import Chain, chain_of, cost_of
from swarm_predict.search.compiled.availability import fast
from swarm_protocol.snapshot.swarm import Floats

if fast() is None:
    pytest.skip("numba or HiGHS is not installed (pip install swarmtop[fast])", allow_module_level=True)

from swarm_predict.search.bounds.certify import certify
from swarm_predict.search.compiled.anchored import Anchored, Opened, all_ring_states
from swarm_predict.search.compiled.compiled_walks import all_states
from swarm_predict.search.compiled.cuts import Cut, missed
from swarm_predict.search.compiled.master_problem import Column, Master
from swarm_predict.search.solvers.descent import Descent

SEEDS = st.integers(0, 10_000)
NODES = 7


def some_chain(seed: int, room: float, client: bool, required: int | None = None) -> Chain:
    tables = tables_of(seed, NODES, layers=10, pattern="chain", client=client, room=room)
    everyone = np.ones(NODES, dtype=np.bool_)
    needed = np.zeros(NODES, dtype=np.bool_)
    if required is not None:
        needed[required] = True
    return chain_of(tables, everyone, needed, NODES)


def every_placement(chain: Chain) -> list[tuple[float, tuple[int, ...]]]:
    found = []
    for size in range(1, len(chain) + 1):
        orders = np.array(list(itertools.permutations(range(len(chain)), size)))
        costs = cost_of(chain, orders)
        found += [(float(costs[k]), tuple(orders[k].tolist())) for k in np.flatnonzero(np.isfinite(costs))]
    return sorted(found)


def priced(n: int, anchor: int, rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Prices of visits, credits of ways and what is paid back, from random prices and cuts."""
    visits = rng.exponential(8.0, n) * rng.integers(0, 2, n)
    visits[anchor] = 0.0
    paid_back, credits = float(visits.sum()), np.zeros((n, n))
    others = np.setdiff1d(np.arange(n), anchor)
    for _ in range(3):
        if len(others) == 0:
            break
        inside = rng.permutation(others)[: rng.integers(1, len(others) + 1)]
        toll = float(rng.exponential(5.0))
        visits[inside[0]] += toll
        for here in np.setdiff1d(np.arange(n), inside):
            credits[here, inside] += toll
    return visits, credits, paid_back


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([1.5, 2.5, 4.0]), st.integers(0, NODES - 1))
def test_no_ring_through_the_anchor_is_below_the_bound_or_loses_a_node(seed: int, room: float, anchor: int) -> None:
    """Whatever the prices and cuts; rings of two stages are priced beside the walks."""
    chain = some_chain(seed, room, client=False)
    assume(anchor < len(chain))
    rings = [ring for ring in every_placement(chain) if anchor in ring[1] and len(ring[1]) != 2]
    assume(rings)
    optimum, order = rings[0]
    rng = np.random.default_rng(seed)
    states = all_ring_states(chain, anchor)
    for _ in range(4):  # what one sieve rules out stays out under the next prices
        walks = Anchored(chain, anchor, states, *priced(len(chain), anchor, rng))
        bound, found = walks.walks()
        assert bound <= optimum + 1e-9
        assert all(walk.order[0] == anchor for walk in found)
        assert walks.sieve(optimum + 0.5)[list(order)].all()
        states = walks.states


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([1.5, 2.5, 4.0]))
def test_no_placement_from_a_client_is_below_the_bound_or_loses_a_node(seed: int, room: float) -> None:
    chain = some_chain(seed, room, client=True)
    placements = every_placement(chain)
    assume(placements)
    optimum, order = placements[0]
    rng = np.random.default_rng(seed)
    states = all_states(chain)
    for _ in range(4):
        walks = Opened(chain, states, *priced(len(chain) + 1, len(chain), rng))
        bound, found = walks.walks()
        assert bound <= optimum + 1e-9
        assert all(walk.order[0] == len(chain) for walk in found)
        assert walks.sieve(optimum + 0.5)[list(order)].all()
        states = walks.states


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([1.5, 2.5, 4.0]), st.integers(0, NODES - 1))
def test_a_walk_is_worth_what_its_stages_cost(seed: int, room: float, anchor: int) -> None:
    """Without prices a walk that visits no node twice is a ring, its first stage where the walk says."""
    chain = some_chain(seed, room, client=False)
    assume(anchor < len(chain))
    zeros = np.zeros(len(chain))
    walks = Anchored(chain, anchor, all_ring_states(chain, anchor), zeros, np.zeros((len(chain),) * 2), 0.0)
    for walk in walks.walks()[1]:
        if len(set(walk.order)) == len(walk.order):
            order = (*walk.order[walk.first :], *walk.order[: walk.first])
            cost = float(cost_of(chain, np.array([order]))[0])
            assert walk.value + chain.constant == pytest.approx(cost)


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("required", [None, 2])  # where that one cannot serve, nobody is required
@pytest.mark.parametrize("seed", range(12))
def test_columns_cuts_and_splits_end_at_the_best_of_all_placements(
    seed: int, required: int | None, client: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no part small enough to be solved exactly, and an incumbent that is no help."""
    monkeypatch.setattr("swarm_predict.search.bounds.branch_and_price.CLOSE_NODES", 0)
    chain = some_chain(seed, (1.5, 2.5, 4.0)[seed % 3], client, required)
    needed = set(np.flatnonzero(chain.required).tolist())
    placements = [placement for placement in every_placement(chain) if needed <= set(placement[1])]
    descent = Descent(chain, 0, lambda: False)
    monkeypatch.setattr(descent, "kick", lambda rounds: None)
    order, bound, exact = certify(chain, descent, lambda: False)
    if not placements:
        assert order is None
        return
    assert exact
    assert order is not None
    assert cost_of(chain, np.array([order]))[0] == pytest.approx(placements[0][0])
    assert bound == pytest.approx(placements[0][0])


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(8)), st.integers(1, 8))
def test_a_ring_misses_no_cut(order: list[int], size: int) -> None:
    master = Master(8, frozenset(), 10.0, 100.0)
    master.add([Column(1.0, tuple(order[:size]), 0)])
    master.solve()
    flow, visits = master.mixture()
    assert missed(flow, visits, order[0]) == []


def test_a_mixture_that_goes_round_elsewhere_misses_the_way_there() -> None:
    """Half of the time 1 and 2 are visited twice, half of the time 3 and 4: each once, for half an entry."""
    master = Master(5, frozenset(), 10.0, 100.0)
    master.add([Column(1.0, (0, 1, 2, 1, 2), 0), Column(1.0, (0, 3, 4, 3, 4), 0)])
    assert master.solve() == pytest.approx(1.0)
    cuts = missed(*master.mixture(), 0)
    assert {cut.inside for cut in cuts} == {frozenset({1, 2}), frozenset({3, 4})}
    assert master.cut(cuts) == 2
    assert master.cut(cuts) == 0
    assert master.solve() > 1.5  # these walks cannot keep the rule without paying for it
    master.add([Column(1.4, (0, 1, 2, 3, 4), 0)])
    assert master.solve() == pytest.approx(1.4)
    assert master.largest(1)[0].order == (0, 1, 2, 3, 4)


def test_duals_price_what_is_wanted_twice() -> None:
    master = Master(3, frozenset(), 10.0, 100.0)
    master.add([Column(1.0, (0, 1, 2, 1), 0), Column(3.0, (0, 2), 0)])
    assert master.solve() == pytest.approx(2.0)
    prices = master.prices()
    assert prices.visits[1] == pytest.approx(1.0)
    assert prices.visits[2] == 0.0


def test_what_is_dropped_is_in_no_mixture() -> None:
    master = Master(3, frozenset(), 10.0, 100.0)
    master.add([Column(1.0, (0, 1), 0), Column(3.0, (0, 2), 0)])
    master.drop(1)
    assert master.solve() == pytest.approx(3.0)
    assert master.like_this(frozenset({2}), frozenset({1})).columns == [Column(3.0, (0, 2), 0)]
    assert Cut(frozenset({1}), 1) not in master.cuts


def test_the_solver_of_linear_programmes_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Its banner would be on the dashboard, or before a line of JSON."""
    Master(3, frozenset(), 10.0, 100.0).solve()
    assert capfd.readouterr() == ("", "")
