"""A sketch's quantiles are within the stated error, merging is adding, and any bytes are a sketch or refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_storage.history import sketch

VALUES = st.lists(st.floats(0, 1e12) | st.floats(-100, 0), min_size=1, max_size=50)


@given(VALUES, st.floats(0, 1))
def test_a_quantile_is_within_the_stated_error_of_a_value_of_that_rank(values: list[float], share: float):
    found = sketch.quantile(sketch.counted(values), share)
    true = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert found == pytest.approx(true, rel=sketch.RELATIVE_ERROR * 1.000001, abs=1e-6)


@given(VALUES, VALUES)
def test_merging_is_the_sketch_of_all(some: list[float], others: list[float]):
    merged = sketch.counted(some)
    sketch.add(merged, sketch.counted(others))
    assert merged == sketch.counted([*some, *others])


@given(VALUES)
def test_bytes_read_back(values: list[float]):
    counts = sketch.counted(values)
    assert sketch.decode(sketch.encode(counts)) == counts


@given(st.binary(max_size=40))
def test_any_bytes_are_a_sketch_or_refused(data: bytes):
    try:
        counts = sketch.decode(data)
    except ValueError:
        return
    assert all(count > 0 for count in counts.values())


def test_sixty_like_values_take_a_few_bytes():
    assert len(sketch.encode(sketch.counted(20.0 + i / 30 for i in range(60)))) <= 20


def test_nothing_has_no_quantile():
    assert sketch.quantile({}, 0.5) is None
