"""Medians and quantiles of a few values."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists

from swarm_probe.quantiles import median, quantile


@given(lists(integers(0, 10**12), min_size=1, max_size=9))
def test_the_median_is_that_of_the_standard_library(values: list[int]) -> None:
    assert median(values) == statistics.median(values)
    assert quantile(sorted(values), 0.5) in values


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])
