"""Completed frames: estimates if nothing was measured, and only the changes in later frames."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from swarm_protocol.snapshot.links.compact_links import compacted, is_compact
from swarm_protocol.snapshot.links.fill_unmeasured import Completer, completed
from swarm_protocol.snapshot.swarm import Kind, NodeFacts, Swarm

NODES = 36
NOW_NS = 1_795_442_537_000_000_000


def swarm() -> Swarm:
    """A third of the pairs measured, all nodes with coordinates."""
    rng = np.random.default_rng(0)
    made = Swarm.empty(tuple(NodeFacts(f"{i:032x}", f"n{i}") for i in range(NODES)), at_ns=NOW_NS)
    known = rng.random((NODES, NODES)) < 0.3
    known &= known.T & ~np.eye(NODES, dtype=bool)
    for name, factor in (("min", 1.0), ("p50", 1.25), ("p95", 1.5), ("p99", 2.0)):
        made.links[f"rtt_{name}_ms"][known] = factor * 64.0
    made.links["kind"][known] = Kind.MEASURED
    for number in range(4):
        made.nodes[f"place_{number}"][:] = rng.uniform(-50, 50, NODES)
    made.nodes["height_ms"][:] = 2.0
    made.nodes["place_spread"][:] = 0.1
    return made


def assert_same(one: Swarm, other: Swarm) -> None:
    for name, column in one.links.items():
        np.testing.assert_allclose(np.asarray(column), np.asarray(other.links[name]), rtol=2**-11, err_msg=name)


def assert_kept(found: Swarm, before: Swarm, anew: Swarm) -> None:
    """Which pairs are estimated is of now; the estimates are as old as the coordinates."""
    np.testing.assert_array_equal(np.asarray(found.links["kind"]), np.asarray(anew.links["kind"]))
    estimated = np.asarray(found.links["kind"]) == Kind.ESTIMATE
    one, other = (np.asarray(each.links["rtt_min_ms"])[estimated] for each in (found, before))
    np.testing.assert_array_equal(one, other)


def test_compact_links_are_completed_as_full_ones_are() -> None:
    filled = completed(compacted(swarm()))
    assert is_compact(filled.links)
    assert_same(filled, completed(swarm()))
    assert int((filled.links["kind"] == Kind.ESTIMATE).sum()) > NODES


def test_later_frame_is_completed_from_what_changed() -> None:
    completer = Completer()
    first = compacted(swarm())
    completer.completed(first)
    row, column = (int(each[0]) for each in np.nonzero(first.links["kind"] == Kind.MEASURED))
    links: dict[str, Any] = dict(first.links)
    links["rtt_p50_ms"] = links["rtt_p50_ms"].with_cells(np.array([row * NODES + column]), np.array([99.0]))
    second = dataclasses.replace(first, links=links, at_ns=NOW_NS + 1, _index={})
    found = completer.completed(second)
    assert found.links["rtt_p50_ms"][row, column] == 99.0
    assert found.at_ns == second.at_ns
    assert_same(found, completed(second))
    assert found.links["kind"] is completer.completed(second).links["kind"]


def test_pair_measured_for_the_first_time_and_new_coordinates_bring_new_estimates() -> None:
    completer = Completer()
    first = compacted(swarm())
    before = completer.completed(first)
    row, column = (int(each[0]) for each in np.nonzero(before.links["kind"] == Kind.ESTIMATE))
    links: dict[str, Any] = dict(first.links)
    at = np.array([row * NODES + column])
    links["kind"] = links["kind"].with_cells(at, np.array([Kind.MEASURED], np.uint8))
    links["rtt_min_ms"] = links["rtt_min_ms"].with_cells(at, np.array([48.0]))
    second = dataclasses.replace(first, links=links, _index={})
    found = completer.completed(second)
    assert_kept(found, before, completed(second))
    assert found.links["rtt_min_ms"][row, column] == 48.0
    assert np.isnan(found.links["rtt_min_ms"][column, row])  # no guess beside a measured direction
    moved = {**second.nodes, "height_ms": np.full(NODES, 30.0)}
    third = dataclasses.replace(second, nodes=moved, _index={})
    assert_same(completer.completed(third), completed(third))
