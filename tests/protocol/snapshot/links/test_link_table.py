"""Links as rows: what goes in is what the matrices show, and a large swarm costs what it measures."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.snapshot.columns import LINK_COLUMNS
from swarm_protocol.snapshot.links import link_table
from swarm_protocol.snapshot.links.compact_links import COMPACT_NODES, CompactColumn
from swarm_protocol.snapshot.links.link_table import PARTS, LinkTable

RATE = PARTS["rate"]
NOW_NS = 1_795_442_537_000_000_000


def put_rate(table: LinkTable, src: int, dst: int, mbps: float, at_ns: int = 1) -> None:
    table.put("rate", src, dst, at_ns, (mbps, 1, None, at_ns, 0))


def test_every_column_of_the_swarm_is_in_exactly_one_part():
    assert sorted(name for names in PARTS.values() for name in names) == sorted(LINK_COLUMNS)


@given(seed=st.integers(0, 2**32), nodes=st.integers(2, 9))
def test_the_matrices_are_what_was_put_last_whenever_they_were_asked_for(seed, nodes):
    rng = random.Random(seed)
    table, wanted = LinkTable(), np.full((nodes, nodes), np.nan)
    for _ in range(60):
        src, dst = rng.sample(range(nodes), 2)
        wanted[src, dst] = rng.random()
        put_rate(table, src, dst, wanted[src, dst])
        if rng.random() < 0.2:
            np.testing.assert_array_equal(table.columns(nodes)["mbps"], wanted)
    np.testing.assert_array_equal(table.columns(nodes)["mbps"], wanted)


def test_a_snapshot_does_not_change_afterwards_and_shares_what_is_the_same():
    table = LinkTable()
    put_rate(table, 0, 1, 5.0)
    before = table.columns(3)
    put_rate(table, 1, 2, 7.0)
    after = table.columns(3)
    assert (np.isnan(before["mbps"][1, 2]), after["mbps"][1, 2]) == (True, 7.0)
    assert after["rtt_p50_ms"] is before["rtt_p50_ms"]
    assert not after["mbps"].flags.writeable


def test_a_node_that_comes_gets_a_row_and_a_column():
    table = LinkTable()
    put_rate(table, 0, 1, 5.0)
    table.columns(2)
    assert table.columns(3)["mbps"].shape == (3, 3)
    assert table.columns(3)["mbps"][0, 1] == 5.0


def test_transfers_are_found_from_either_end():
    table = LinkTable()
    put_rate(table, 0, 1, 5.0)
    put_rate(table, 0, 2, 6.0)
    put_rate(table, 3, 1, 7.0)
    assert table.rates(0, out=True)["mbps"].tolist() == [5.0, 6.0]
    assert table.rates(1, out=False)["mbps"].tolist() == [5.0, 7.0]
    assert table.rates(1, out=True)["mbps"].tolist() == []


def test_forgetting_a_node_moves_the_ones_after_it_up():
    table = LinkTable()
    for src, dst, mbps in ((0, 1, 1.0), (1, 2, 2.0), (0, 2, 3.0), (2, 0, 4.0)):
        put_rate(table, src, dst, mbps)
    table.forget(1)
    assert len(table) == 2
    shown = table.columns(2)["mbps"]
    assert (shown[0, 1], shown[1, 0]) == (3.0, 4.0)
    assert table.at_ns("rate", 0, 1) == 1


def test_a_large_swarm_takes_no_matrix(monkeypatch):
    monkeypatch.setattr(link_table, "DENSE_NODES", 10)
    table = LinkTable()
    put_rate(table, 0, 1, 5.0)
    column = table.columns(10_000)["mbps"]
    assert (column.shape, column.strides) == ((10_000, 10_000), (0, 0))
    assert table.rates(0, out=True)["mbps"].tolist() == [5.0]
    assert table.columns(10)["mbps"][0, 1] == 5.0


def test_compact_columns_of_a_large_swarm_read_as_the_full_ones() -> None:
    table, nodes = LinkTable(), COMPACT_NODES + 10
    rng = np.random.default_rng(0)
    for part, names in PARTS.items():
        for src, dst in rng.integers(0, nodes, (300, 2)).tolist():
            cells = tuple(1.0 if LINK_COLUMNS[name] is np.float64 else 1 for name in names)
            table.put(part, src, dst, NOW_NS, cells)
    plain, packed = table.columns(nodes), table.compact_columns(nodes, NOW_NS)
    assert isinstance(packed["kind"], CompactColumn)
    assert plain.keys() == packed.keys()
    for name, column in plain.items():
        np.testing.assert_array_equal(np.asarray(packed[name]), column, err_msg=name)
    assert not isinstance(LinkTable().compact_columns(COMPACT_NODES - 1, NOW_NS)["kind"], CompactColumn)
