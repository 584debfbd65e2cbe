"""Compact link columns: they read like the arrays they stand for, in fewer bytes, and share what did not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.snapshot.columns import LINK_COLUMNS
from swarm_protocol.snapshot.frames import apply_diff, decode_keyframe, encode_diff, encode_keyframe
from swarm_protocol.snapshot.links.compact_links import BLOCK_ROWS, CompactColumn, compacted, is_compact
from swarm_protocol.snapshot.swarm import Kind, NodeFacts, Swarm

NOW_NS = 1_795_442_537_000_000_000
NODES = 2 * BLOCK_ROWS + 5
SHOWN = 0.5 / 999  # half of the last of three digits: screens have no more


MANY, FEW = 0.7, 0.1  # of the cells are known


def swarm(seed: int = 0, n: int = NODES, known: float = MANY) -> Swarm:
    """Every column holds figures that its short type keeps exactly; some cells of each are unknown."""
    rng = np.random.default_rng(seed)
    made = Swarm.empty(tuple(NodeFacts(f"{i:032x}", f"n{i}") for i in range(n)), at_ns=NOW_NS)
    for name, dtype in LINK_COLUMNS.items():
        values: npt.NDArray[Any]
        if dtype is np.float64:
            values = rng.integers(1, 4_000, (n, n)) / 8
        elif name.endswith("at_ns"):
            values = NOW_NS - rng.integers(0, 10**6, (n, n)) * 1_000_000
        else:
            values = rng.integers(0, 2 if dtype is np.uint8 else 70_000, (n, n))
        some = rng.random((n, n)) < known
        made.links[name][some] = values[some]
    return made


@pytest.mark.parametrize("known", [MANY, FEW])
@pytest.mark.parametrize("name", LINK_COLUMNS)
def test_every_column_reads_as_the_array_it_stands_for(name: str, known: float) -> None:
    made = swarm(known=known)
    plain, packed = made.links[name], compacted(made).links[name]
    rows = np.array([3, 20, 3, NODES - 1])
    keys: list[Any] = [
        (2, 5), (NODES - 1, 0), 7, -1, slice(2, 30), slice(None), slice(1, 30, 3), (rows, slice(None)), rows,
        (slice(None), rows), (slice(None), 4), (slice(3, 18), slice(1, 3)), np.ix_(rows, rows[:2]),
        (rows, rows), np.eye(NODES, dtype=bool), np.arange(NODES) % 2 == 0, (4, slice(2, 9)),
    ]  # fmt: skip
    for key in keys:
        np.testing.assert_array_equal(packed[key], plain[key], err_msg=repr(key))
        assert np.asarray(packed[key]).dtype == plain.dtype
    np.testing.assert_array_equal(np.asarray(packed), plain)
    np.testing.assert_array_equal(packed == plain[0, 0], plain == plain[0, 0])
    np.testing.assert_array_equal(packed.T, plain.T)
    np.testing.assert_array_equal(list(packed), list(plain))
    assert np.any(packed) == np.any(plain)
    assert packed.any() == plain.any()
    np.testing.assert_array_equal(np.concatenate([packed, plain]), np.concatenate([plain, plain]))
    np.testing.assert_array_equal(np.where(plain > 1, packed, 0), np.where(plain > 1, plain, 0))
    np.testing.assert_array_equal(packed.reshape(-1), plain.reshape(-1))
    assert (packed.shape, packed.size, packed.dtype, len(packed)) == (plain.shape, plain.size, plain.dtype, NODES)


def test_figure_takes_a_quarter_of_its_bytes_and_other_columns_half() -> None:
    plain, packed = swarm(n=160), compacted(swarm(n=160))
    assert is_compact(packed.links)
    for name, column in plain.links.items():
        share = packed.links[name].nbytes / column.nbytes
        assert share <= {np.uint8: 1.0, np.int64: 0.5, np.float64: 0.25}[LINK_COLUMNS[name]], name


def test_column_takes_as_much_as_is_known_of_it() -> None:
    """A node of a thousand measures some 32 others."""
    n, each = 1000, 32
    made = Swarm.empty(tuple(NodeFacts(f"{i:032x}", f"n{i}") for i in range(n)), at_ns=NOW_NS)
    src = np.repeat(np.arange(n), each)
    dst = (src + 1 + 31 * np.tile(np.arange(each), n)) % n
    for name, column in made.links.items():
        column[src, dst] = NOW_NS if name.endswith("at_ns") else 1
    links = compacted(made).links
    for name, column in links.items():
        assert 0 < column.nbytes <= (2 + min(4, column.itemsize)) * n * each, name
    again = links["rtt_p50_ms"].with_cells(np.sort(src * n + dst), np.full(n * each, 2.5))  # type: ignore[attr-defined]
    assert again.nbytes == links["rtt_p50_ms"].nbytes
    assert np.array_equal(np.asarray(again)[src, dst], np.full(n * each, 2.5))


def test_column_of_one_value_takes_one_cell_a_block_and_says_so() -> None:
    blank = compacted(Swarm.empty(swarm().facts, at_ns=NOW_NS)).links["rtt_p50_ms"]
    assert blank.strides == (0, 0)
    assert blank.nbytes <= 4 * -(-NODES // BLOCK_ROWS)
    assert np.isnan(np.asarray(blank)).all()


def test_precision_that_is_lost_is_below_what_screens_show() -> None:
    made = swarm()
    made.links["rtt_p50_ms"][:] = 123.456_789_012
    made.links["at_ns"][:] = NOW_NS - 123_456_789
    packed = compacted(made)
    assert packed.links["rtt_p50_ms"][1, 2] == pytest.approx(123.456789012, rel=SHOWN / 2)
    assert 0 <= NOW_NS - 123_456_789 - packed.links["at_ns"][1, 2] < 1_000_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rtt_p50_ms", 1e300), ("rtt_p50_ms", 65_536.0), ("loss", 2.0**-16), ("loss", 2.0**-17), ("oneway_ms", -0.5),
        ("sent", 1 << 40), ("sent", -1), ("at_ns", 5), ("at_ns", NOW_NS + (1 << 62)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("known", [MANY, FEW])
def test_figure_outside_the_short_type_is_kept_all_the_same(name: str, value: float, known: float) -> None:
    packed = compacted(swarm(known=known)).links[name]
    assert isinstance(packed, CompactColumn)
    changed = packed.with_cells(np.array([NODES + 3]), np.array([value], packed.dtype))
    assert changed[1, 3] == value
    assert changed[1, 4] == packed[1, 4] or np.isnan(changed[1, 4])


@given(st.floats(2**-16, 2**16 - 32, exclude_min=True))
def test_any_usual_figure_is_read_with_less_of_an_error_than_is_shown(value: float) -> None:
    made = Swarm.empty(swarm().facts, at_ns=NOW_NS)
    made.links["rtt_p50_ms"][1, 2] = value
    column = compacted(made).links["rtt_p50_ms"]
    assert column[1, 2] == pytest.approx(value, rel=2**-12)
    assert column.nbytes <= 32  # it did not take the larger type


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_changed_column_equals_the_changed_array_and_shares_the_other_blocks(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(LINK_COLUMNS)))
    start = swarm(known=data.draw(st.sampled_from([0.0, 0.01, FEW, 0.2, MANY])))
    packed = compacted(start).links[name]
    plain = start.links[name].copy()
    assert isinstance(packed, CompactColumn)
    at = np.array(sorted(data.draw(st.sets(st.integers(0, NODES**2 - 1), min_size=1, max_size=20))))
    values = swarm(1).links[name].reshape(-1)[at]
    changed = packed.with_cells(at, values)
    before = plain.copy()
    plain.reshape(-1)[at] = values
    np.testing.assert_array_equal(np.asarray(changed), plain)
    np.testing.assert_array_equal(np.asarray(packed), before)
    rows, columns = changed.changed_cells(packed)
    differs = (plain != before) & ~(np.isnan(plain.astype(float)) & np.isnan(before.astype(float)))
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == set(
        zip(*(each.tolist() for each in np.nonzero(differs)), strict=True)
    )
    touched = len(set((at // (BLOCK_ROWS * NODES)).tolist()))
    assert changed.bytes_beside(packed) <= touched * BLOCK_ROWS * NODES * packed.dtype.itemsize
    assert changed.bytes_beside(changed) == 0


def test_frames_follow_each_other_in_compact_form() -> None:
    """A viewer that holds compact links applies diffs to them, and has what another viewer has."""
    first, second = swarm(0), swarm(0)
    second.at_ns += 1_000_000_000
    for name in ("rtt_p50_ms", "kind", "at_ns"):
        second.links[name][4, 2:9] = swarm(1).links[name][4, 2:9]
    second.links["loss"][:] = 0.25
    diff = encode_diff(first, second)
    plain = apply_diff(decode_keyframe(encode_keyframe(first)), diff)
    packed = apply_diff(compacted(decode_keyframe(encode_keyframe(first))), diff)
    assert is_compact(packed.links)
    for name, column in plain.links.items():
        np.testing.assert_array_equal(np.asarray(packed.links[name]), column, err_msg=name)
    assert int((packed.links["kind"] == Kind.MEASURED).sum()) == int((plain.links["kind"] == Kind.MEASURED).sum())
