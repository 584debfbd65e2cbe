"""The daily budget of bytes, kept across restarts, and the local log of every byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.owner_limits.traffic_budget import (
    HOUR_NS,
    LOG_BYTES,
    LOG_FILES,
    TrafficBudget,
    parse_daily,
)
from swarm_protocol.units import NS_PER_S

T0 = 1_764_000_000 * NS_PER_S
DAY_NS = 24 * HOUR_NS


def test_fifty_megabytes_a_day_are_the_default() -> None:
    assert TrafficBudget().limit_bytes == 50_000_000


@given(
    st.lists(st.tuples(st.integers(0, 3 * DAY_NS), st.integers(1, 4_000_000)), max_size=60),
    st.one_of(st.none(), st.integers(0, 100_000_000)),
)
def test_in_no_24_hours_more_is_spent_than_the_lower_of_both_limits(
    asked: list[tuple[int, int]], collector: int | None
) -> None:
    """Whoever asks `room_bytes` before each test keeps the promise, however the asking is spread."""
    traffic_budget = TrafficBudget(50_000_000)
    traffic_budget.lower(collector)
    limit = min(50_000_000, collector if collector is not None else 50_000_000)
    spent: list[tuple[int, int]] = []
    for at_ns, size in sorted(asked):
        if size <= traffic_budget.room_bytes(T0 + at_ns):
            traffic_budget.spend_tcp("uplink", "x", sent=size, received=0, now_ns=T0 + at_ns)
            spent.append((at_ns, size))
    for at_ns, _ in spent:
        assert sum(size for when, size in spent if at_ns - DAY_NS < when <= at_ns) <= limit


def test_the_collector_may_lower_the_limit_and_never_raise_it() -> None:
    traffic_budget = TrafficBudget(50_000_000)
    traffic_budget.lower(10_000_000)
    assert traffic_budget.limit_bytes == 10_000_000
    traffic_budget.lower(5_000_000_000)
    assert traffic_budget.limit_bytes == 50_000_000
    traffic_budget.lower(None)
    assert traffic_budget.limit_bytes == 50_000_000


def test_the_days_bytes_are_remembered_across_a_restart_and_forgotten_a_day_later(tmp_path: Path) -> None:
    before = TrafficBudget.open(50_000_000, tmp_path, T0)
    before.spend("hop", "kiln-07", 20_000_000, 15_000_000, T0)
    before.write(T0)
    after = TrafficBudget.open(50_000_000, tmp_path, T0 + HOUR_NS)
    assert after.used_bytes(T0 + HOUR_NS) == 35_000_000
    assert after.level(T0 + HOUR_NS) == "thrifty"
    assert after.level(T0 + DAY_NS + 2 * HOUR_NS) == "free"


def test_setting_the_clock_back_wins_nothing() -> None:
    traffic_budget = TrafficBudget(50_000_000)
    traffic_budget.spend("hop", "", 49_500_000, 0, T0)
    assert traffic_budget.level(T0 - 5 * DAY_NS) == "spent"


def test_a_damaged_record_counts_as_a_days_worth(tmp_path: Path) -> None:
    (tmp_path / "traffic.json").write_text("{")
    traffic_budget = TrafficBudget.open(50_000_000, tmp_path, T0)
    assert traffic_budget.level(T0) == "spent"
    assert traffic_budget.trouble is not None
    assert "counted as a day's worth" in traffic_budget.trouble


@pytest.mark.parametrize(
    ("text", "size"), [("50MB", 50_000_000), ("2g", 2_000_000_000), ("1.5 GB", 1_500_000_000), ("12345", 12345)]
)
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert parse_daily(text) == size


def test_none_is_no_limit_and_invalid_text_is_reported() -> None:
    assert parse_daily("none") is None
    with pytest.raises(ValueError, match=r"lots is not a size; give 50MB, 16MiB or 2GiB"):
        parse_daily("lots")


def test_every_byte_is_in_the_log_by_kind_and_peer(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(50_000_000, tmp_path, T0)
    traffic_budget.spend_udp("stamp", "kiln-07", sent=112, version=4, now_ns=T0)
    traffic_budget.spend_udp("stamp", "kiln-07", received=112, version=6, now_ns=T0)
    traffic_budget.spend("collector", "", 1000, 300, T0)
    traffic_budget.write(T0)
    lines = (tmp_path / "traffic.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "collector - sent 1000 received 300",
        "stamp kiln-07 sent 140 received 160",
    ]
    assert traffic_budget.totals(T0) == {"collector": (1000, 300), "stamp": (140, 160)}
    traffic_budget.write(T0 + 60 * NS_PER_S)  # nothing happened: no line
    assert len((tmp_path / "traffic.log").read_text().splitlines()) == 2


def test_the_log_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    for minute in range(700):
        for peer in range(50):
            traffic_budget.spend("stamp", f"node-with-a-long-name-{peer:02}", minute, 1, T0 + minute)
        traffic_budget.write(T0 + minute)
    files = sorted(tmp_path.glob("traffic.log*"))
    assert len(files) == LOG_FILES
    assert all(file.stat().st_size <= LOG_BYTES for file in files)
    assert "sent 699 " in (tmp_path / "traffic.log").read_text()


def test_a_folder_that_cannot_be_written_is_reported_and_does_not_stop_the_counting(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(50_000_000, tmp_path / "gone", T0)
    traffic_budget.spend("hop", "", 1000, 0, T0)
    traffic_budget.write(T0)
    assert traffic_budget.trouble == "the record of traffic cannot be written (No such file or directory)"
    assert traffic_budget.used_bytes(T0) == 1000
