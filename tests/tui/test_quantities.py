"""Claims about how values are written. Every table and every screen relies on these."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.snapshot.swarm import Kind, State
from swarmtop.text import quantities


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.421, "0.42"),
        (7.1, "7.10"),
        (9.996, "10.0"),
        (38.44, "38.4"),
        (99.96, "100"),
        (611.2, "611"),
        (-3.1, "-3.10"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_figures_have_about_three_digits_and_unmeasured_is_a_dash_never_zero(value: float | None, text: str) -> None:
    assert quantities.figure(value) == text


def test_a_bound_and_an_estimate_never_look_like_a_measurement() -> None:
    texts = [quantities.mbps(40.0, kind) for kind in (Kind.MEASURED, Kind.BOUND, Kind.ESTIMATE)]
    assert texts == ["40.0 Mbit/s", "≥40.0 Mbit/s", "~40.0 Mbit/s"]


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.0, "0%"), (1e-6, "<0.1%"), (0.003, "0.3%"), (0.012, "1.2%"), (0.5, "50%"), (None, "–")],
)
def test_a_loss_that_is_not_zero_never_reads_as_zero(fraction: float | None, text: str) -> None:
    assert quantities.percent(fraction) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m"), (3570, "1h"), (7200, "2h"), (200_000, "2d"), (-5, "-5s"), (None, "–")],
)
def test_an_age_has_one_unit(value: float | None, text: str) -> None:
    assert quantities.seconds(value) == text


def test_long_times_and_fast_lines_change_their_unit() -> None:
    assert quantities.ms(12_345.0) == "12.3 s"
    assert quantities.mbps(25_000.0) == "25.0 Gbit/s"


def test_what_never_happened_has_no_age_and_a_clock_that_ran_back_gives_zero() -> None:
    assert quantities.age_s(0, 10**18) is None
    assert quantities.age_s(5 * 10**9, 3 * 10**9) == 0.0
    assert quantities.age_s(10**18, 10**18 + 2_500_000_000) == 2.5


def test_a_state_that_a_newer_collector_invented_reads_as_unknown() -> None:
    assert quantities.state(State.LOST) == "x lost"
    assert quantities.state(77) == "· unknown"


def test_fit_counts_terminal_cells_and_defuses_escapes() -> None:
    assert quantities.fit("kiln-berlin-07", 8) == "kiln-be…"
    assert quantities.width(quantities.fit("日本語のノード", 6)) <= 6
    assert "\x1b" not in quantities.fit("a\x1b[31mred", 20)


@given(text=st.text(), cells=st.integers(0, 40))
def test_pad_gives_exactly_the_asked_width_for_any_text(text: str, cells: int) -> None:
    assert quantities.width(quantities.pad(text, cells)) == cells


@given(parts=st.lists(st.floats(0, 1e9), min_size=1, max_size=4), cells=st.integers(1, 120))
def test_a_bar_is_as_long_as_asked_and_shares_out_by_size(parts: list[float], cells: int) -> None:
    drawn = quantities.bar(parts, cells)
    if sum(parts) == 0:
        assert drawn == ""
        return
    assert len(drawn) == cells
    for shade, part in zip(quantities.BAR, parts, strict=False):
        assert abs(drawn.count(shade) - part / sum(parts) * cells) <= 1


@given(value=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)))
def test_any_number_has_a_text_and_only_a_missing_one_is_a_dash(value: float | None) -> None:
    missing = value is None or not math.isfinite(value)
    for write in (
        quantities.figure,
        quantities.ms,
        quantities.percent,
        quantities.rate,
        quantities.gib,
        quantities.mbps,
        quantities.signed_ms,
    ):
        assert (write(value) == quantities.UNMEASURED) == missing
