"""Estimates of unmeasured pairs: detours of whole regions are found, whatever was measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.snapshot.estimates.unmeasured_pairs import (
    WIDEST,
    PairEstimates,
    _Field,
    _Neighbours,
    estimate_pairs,
)

N, REGIONS = 120, 8


class World:
    """Nodes in regions; every path between two regions takes the same detour, known to no coordinate."""

    def __init__(self, seed: int, *, noise: float = 0.02, detour: float = 0.3) -> None:
        rng = np.random.default_rng(seed)
        centre = rng.uniform(0, 150, (REGIONS, 4))
        region = rng.integers(0, REGIONS, N)
        self.place, self.height = centre[region] + rng.normal(0, 1.0, (N, 4)), rng.uniform(1, 5, N)
        self.src, self.dst = np.triu_indices(N, 1)
        apart = np.sqrt(((self.place[self.src] - self.place[self.dst]) ** 2).sum(-1))
        self.straight = apart + self.height[self.src] + self.height[self.dst]
        way = rng.normal(0, detour, (REGIONS, REGIONS))
        way = np.where(np.eye(REGIONS, dtype=bool), 0.0, (way + way.T) / 2)
        self.rtt_ms = self.straight * np.exp(
            way[region[self.src], region[self.dst]] + rng.normal(0, noise, len(self.src))
        )
        self.seen = rng.random(len(self.src)) < 0.3
        self.region = region

    def between(self, one: int, other: int) -> np.ndarray:
        """Which pairs are of these two regions."""
        ends = self.region[self.src], self.region[self.dst]
        return ((ends[0] == one) & (ends[1] == other)) | ((ends[0] == other) & (ends[1] == one))

    def estimates(self) -> PairEstimates:
        seen = self.seen
        found = estimate_pairs(self.place, self.height, self.src[seen], self.dst[seen], self.rtt_ms[seen])
        assert found is not None
        return found


def test_a_detour_between_regions_is_found_from_other_pairs_of_them() -> None:
    world = World(1)
    hidden = ~world.seen
    found = world.estimates().rtt_ms[world.src[hidden], world.dst[hidden]]
    before = np.median(np.abs(world.straight[hidden] / world.rtt_ms[hidden] - 1))
    assert np.median(np.abs(found / world.rtt_ms[hidden] - 1)) < before / 4


def test_where_there_is_no_structure_nothing_is_made_worse() -> None:
    world = World(2, noise=0.15, detour=0.0)
    hidden = ~world.seen
    found = world.estimates().rtt_ms[world.src[hidden], world.dst[hidden]]
    before = np.median(np.abs(world.straight[hidden] / world.rtt_ms[hidden] - 1))
    assert np.median(np.abs(found / world.rtt_ms[hidden] - 1)) < before * 1.1


def test_a_node_whose_paths_fit_badly_has_wider_intervals() -> None:
    world = World(3)
    wild = (world.src == 7) | (world.dst == 7)
    world.rtt_ms = np.where(wild, world.rtt_ms * np.random.default_rng(1).uniform(0.5, 2.0, len(wild)), world.rtt_ms)
    factor = world.estimates().factor_of(world.src, world.dst)
    assert np.median(factor[wild]) > 1.2 * np.median(factor[~wild])


def test_an_absurd_path_does_not_bend_those_beside_it() -> None:
    world, bent = World(4), World(4)
    absurd = np.random.default_rng(2).random(len(bent.src)) < 0.03
    bent.rtt_ms = np.where(absurd, 20 * bent.rtt_ms, bent.rtt_ms)
    fair = ~world.seen & ~absurd
    one, other = (w.estimates().rtt_ms[world.src[fair], world.dst[fair]] for w in (world, bent))
    assert np.median(np.abs(other / world.rtt_ms[fair] - 1)) < np.median(np.abs(one / world.rtt_ms[fair] - 1)) + 0.03


def test_where_nothing_is_measured_nothing_is_estimated() -> None:
    none = np.zeros(0, np.int64)
    assert estimate_pairs(np.zeros((4, 2)), np.ones(4), none, none, np.zeros(0)) is None


def test_pairs_of_two_regions_that_have_not_measured_each_other_are_less_certain() -> None:
    """What is known of a detour between other regions says nothing about theirs."""
    world = World(6)
    cross = world.between(0, 1)
    world.seen &= ~cross
    found = world.estimates()
    usual = ~world.seen & ~cross
    factor = found.factor_of(world.src, world.dst)
    assert np.median(np.log(factor[cross])) > 3 * np.median(np.log(factor[usual]))
    low, high = found.interval_of(world.src[cross], world.dst[cross])
    assert np.mean((low <= world.rtt_ms[cross]) & (world.rtt_ms[cross] <= high)) > 0.8
    low, high = found.interval_of(world.src[usual], world.dst[usual])
    assert np.mean((low <= world.rtt_ms[usual]) & (world.rtt_ms[usual] <= high)) > 0.85


def test_a_node_with_as_many_pairs_as_parameters_is_less_certain() -> None:
    """Its coordinates suit those pairs whatever they are."""
    world = World(7, detour=0.0)
    new = (world.src == 5) | (world.dst == 5)
    world.seen[np.flatnonzero(new)[5:]] = False
    hidden = ~world.seen
    factor = world.estimates().factor_of(world.src, world.dst)
    assert np.median(np.log(factor[new & hidden])) > 1.4 * np.median(np.log(factor[~new & hidden]))


def test_residuals_of_few_pairs_do_not_make_an_estimate_certain() -> None:
    """Six pairs of six nodes suit coordinates exactly."""
    src, dst = np.array([0, 1, 2, 3, 4, 5]), np.array([1, 2, 3, 4, 5, 0])
    place = np.random.default_rng(8).normal(0, 30, (6, 4))
    rtt_ms = np.sqrt(((place[src] - place[dst]) ** 2).sum(-1)) + 4.0
    found = estimate_pairs(place, np.full(6, 2.0), src, dst, rtt_ms)
    assert found is not None
    factor = found.factor_of(np.array([0, 1]), np.array([2, 4]))
    assert np.all(factor > 1.3)
    assert np.all(factor <= np.exp(WIDEST) * 1.001)


def test_leaving_a_pair_out_is_the_same_as_not_having_measured_it() -> None:
    """The short way that chooses bandwidth and interval, compared with the long one."""
    world = World(5)
    src, dst = world.src[world.seen], world.dst[world.seen]
    residual = np.log(world.rtt_ms[world.seen] / world.straight[world.seen])
    apart = np.sqrt(((world.place[:, None] - world.place[None]) ** 2).sum(-1)).astype(np.float32)
    near = _Neighbours.of(apart, world.height)
    weight = near.weights(5.0)
    short, _ = _Field(N, src, dst, residual).without(near.rows, weight, 0.3, src, dst)
    for k in range(0, len(src), 97):
        rest = np.arange(len(src)) != k
        without, _ = _Field(N, src[rest], dst[rest], residual[rest]).smoothed(near.rows, weight, 0.3)
        assert without[src[k], dst[k]] == pytest.approx(short[k], abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 3.0))
def test_estimates_are_symmetric_finite_and_above_zero_whatever_was_measured(seed: int, noise: float) -> None:
    world = World(seed, noise=noise)
    found = world.estimates()
    assert np.all(np.isfinite(found.rtt_ms))
    assert np.all(found.rtt_ms > 0)
    np.testing.assert_allclose(found.rtt_ms, found.rtt_ms.T, rtol=1e-3)
    assert np.all(found.factor_of(world.src, world.dst) >= 1)
