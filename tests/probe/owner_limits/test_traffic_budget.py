"""Traffic accounting: by the hour for the daily limit, by kind and peer for the owner."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from swarm_probe.owner_limits.traffic_budget import TrafficBudget, parse_daily
from swarm_protocol.units import NS_PER_S

HOUR_NS = 3600 * NS_PER_S
T0 = 1_764_000_000 * NS_PER_S - 1_764_000_000 * NS_PER_S % HOUR_NS  # the first moment of an hour
DAY_NS = 24 * HOUR_NS
MB = 1_000_000


@pytest.mark.parametrize("spent_ns", [T0, T0 + HOUR_NS // 2, T0 + HOUR_NS - 1])
def test_bytes_count_for_a_whole_day_whenever_in_their_hour_they_were_sent(spent_ns: int) -> None:
    traffic_budget = TrafficBudget(50 * MB)
    traffic_budget.spend("hop", "kiln", 30 * MB, 19 * MB, spent_ns)
    assert traffic_budget.used_bytes(spent_ns + DAY_NS - 1) == 49 * MB
    assert traffic_budget.level(spent_ns + DAY_NS - 1) == "spent"
    assert traffic_budget.used_bytes(T0 + 25 * HOUR_NS - 1) == 49 * MB
    assert traffic_budget.used_bytes(T0 + 25 * HOUR_NS) == 0


@pytest.mark.parametrize("hours", [23, 24, 25])
def test_writing_the_record_forgets_no_hour_that_still_counts(hours: int, tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(50 * MB, tmp_path, T0)
    traffic_budget.spend("hop", "kiln", 40 * MB, 0, T0 + HOUR_NS - 1)
    traffic_budget.write(T0 + hours * HOUR_NS)
    later_ns = T0 + hours * HOUR_NS + 1
    for each in (traffic_budget, TrafficBudget.open(50 * MB, tmp_path, later_ns)):
        assert each.used_bytes(later_ns) == (40 * MB if hours < 25 else 0)
        assert each.used_bytes(T0) == (40 * MB if hours < 25 else 0)  # whatever the clock is set to


def test_bytes_of_one_hour_add_up_and_those_of_two_hours_too() -> None:
    traffic_budget = TrafficBudget(50 * MB)
    for at_ns in (T0, T0 + 1, T0 + HOUR_NS):
        traffic_budget.spend("hop", "kiln", 3, 4, at_ns)
    assert traffic_budget.used_bytes(T0 + HOUR_NS) == 21


def test_the_default_limit_is_fifty_megabytes() -> None:
    assert TrafficBudget().limit_bytes == 50 * MB


def test_without_a_limit_everything_is_free() -> None:
    traffic_budget = TrafficBudget(None)
    traffic_budget.spend("hop", "kiln", 10**12, 0, T0)
    assert traffic_budget.limit_bytes is None
    assert (traffic_budget.level(T0), traffic_budget.room_bytes(T0)) == ("free", 1 << 62)
    traffic_budget.lower(1000)
    assert traffic_budget.limit_bytes == 1000
    assert (traffic_budget.level(T0), traffic_budget.room_bytes(T0)) == ("spent", 0)


@pytest.mark.parametrize(
    ("used", "level"),
    [(0, "free"), (599_999, "free"), (600_000, "thrifty"), (899_999, "thrifty"), (900_000, "spent")],
)
def test_above_sixty_percent_a_probe_is_thrifty_and_at_ninety_it_stops(used: int, level: str) -> None:
    traffic_budget = TrafficBudget(MB)
    traffic_budget.spend("hop", "kiln", used, 0, T0)
    assert traffic_budget.level(T0) == level


def test_the_room_of_a_test_leaves_headers_and_the_connection_in_it() -> None:
    traffic_budget = TrafficBudget(MB)
    assert traffic_budget.room_bytes(T0) == int(600_000 / 1.06) - 600
    traffic_budget.spend("hop", "kiln", 100_000, 0, T0)
    assert traffic_budget.room_bytes(T0) == int(500_000 / 1.06) - 600
    traffic_budget.spend("hop", "kiln", 500_000, 0, T0)
    assert traffic_budget.room_bytes(T0) == 0


def test_udp_is_counted_with_its_headers_where_a_datagram_was() -> None:
    traffic_budget = TrafficBudget(MB)
    traffic_budget.spend_udp("stamp", "kiln", sent=100, version=4, now_ns=T0)
    assert traffic_budget.totals(T0) == {"stamp": (128, 0)}
    traffic_budget.spend_udp("stamp", "kiln", received=100, version=6, now_ns=T0)
    assert traffic_budget.totals(T0) == {"stamp": (128, 148)}
    traffic_budget.spend_udp("stamp", "kiln", version=6, now_ns=T0)
    assert traffic_budget.totals(T0) == {"stamp": (128, 148)}
    assert traffic_budget.used_bytes(T0) == 276


def test_a_tcp_connection_is_counted_with_a_share_for_headers() -> None:
    traffic_budget = TrafficBudget(MB)
    traffic_budget.spend_tcp("hop", "kiln", sent=1000, received=2000, now_ns=T0)
    assert traffic_budget.totals(T0) == {"hop": (1660, 2120)}
    assert traffic_budget.used_bytes(T0) == 3780


def test_totals_are_of_one_day_and_of_all_peers() -> None:
    traffic_budget = TrafficBudget(MB)
    for peer, at_ns in (("kiln", T0), ("attic", T0), ("kiln", T0 + DAY_NS)):
        traffic_budget.spend("hop", peer, 10, 1, at_ns)
    traffic_budget.spend("collector", "", 5, 5, T0)
    assert traffic_budget.totals(T0) == {"collector": (5, 5), "hop": (20, 2)}
    assert list(traffic_budget.totals(T0)) == ["collector", "hop"]
    assert traffic_budget.totals(T0 + DAY_NS) == {"hop": (10, 1)}
    assert traffic_budget.totals(T0 + 2 * DAY_NS) == {}


def test_peers_beyond_what_is_kept_of_a_day_are_one_line(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    for number in range(514):
        traffic_budget.spend("stamp", f"peer-{number}", 1, 0, T0)
    traffic_budget.spend("stamp", "peer-0", 1, 0, T0)  # known already
    traffic_budget.write(T0)
    (day,) = msgspec.json.decode((tmp_path / "traffic.json").read_bytes())["days"].values()
    assert len(day["stamp"]) == 513
    assert (day["stamp"]["peer-0"], day["stamp"]["peer-511"], day["stamp"]["(others)"]) == ([2, 0], [1, 0], [2, 0])


def test_seven_days_are_kept(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    for day in range(10):
        traffic_budget.spend("hop", "kiln", 1, 0, T0 + day * DAY_NS)
    traffic_budget.write(T0 + 9 * DAY_NS)
    days = msgspec.json.decode((tmp_path / "traffic.json").read_bytes())["days"]
    assert len(days) == 7
    assert traffic_budget.totals(T0 + 3 * DAY_NS) == {"hop": (1, 0)}
    assert traffic_budget.totals(T0 + 2 * DAY_NS) == {}
    again = TrafficBudget.open(None, tmp_path, T0)
    assert again.totals(T0 + 9 * DAY_NS) == {"hop": (1, 0)}


def test_a_line_of_the_log_is_what_was_new_since_the_last(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    traffic_budget.spend("hop", "kiln\x1b[2J", 1, 2, T0)
    traffic_budget.write(T0)
    traffic_budget.spend("hop", "kiln", 3, 4, T0)
    traffic_budget.write(T0 + 61 * NS_PER_S)
    lines = (tmp_path / "traffic.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "hop kiln?[2J sent 1 received 2",
        "hop kiln sent 3 received 4",
    ]
    assert lines[0].startswith("2025-11-24T16:00:00Z ")
    assert lines[1].startswith("2025-11-24T16:01:01Z ")


def test_where_nothing_was_sent_there_is_no_log(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    traffic_budget.write(T0)
    assert [path.name for path in tmp_path.iterdir()] == ["traffic.json"]


def test_a_ledger_without_a_folder_counts_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    traffic_budget = TrafficBudget(MB)
    traffic_budget.spend("hop", "kiln", 1, 2, T0)
    traffic_budget.write(T0)
    assert traffic_budget.used_bytes(T0) == 3
    assert traffic_budget._since == {}
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_begins_with_nothing_used(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(MB, tmp_path, T0)
    assert (traffic_budget.used_bytes(T0), traffic_budget.trouble) == (0, None)
    assert traffic_budget.limit_bytes == MB


def test_a_damaged_record_is_a_days_worth_in_this_hour(tmp_path: Path) -> None:
    (tmp_path / "traffic.json").write_text('{"hours": "x' + "y" * 200 + '"}')
    traffic_budget = TrafficBudget.open(MB, tmp_path, T0)
    assert traffic_budget.used_bytes(T0) == MB
    assert traffic_budget.used_bytes(T0 + 24 * HOUR_NS) == MB
    assert traffic_budget.used_bytes(T0 + 25 * HOUR_NS) == 0
    assert traffic_budget.trouble is not None
    assert traffic_budget.trouble.startswith(f"{tmp_path / 'traffic.json'} cannot be read (")
    assert len(traffic_budget.trouble) < len(str(tmp_path)) + 150
    traffic_budget.write(T0)
    assert traffic_budget.trouble is None
    unlimited = TrafficBudget.open(None, tmp_path, T0)
    assert unlimited.used_bytes(T0) == MB


def test_a_damaged_record_of_an_owner_without_a_limit_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "traffic.json").write_text("{")
    assert TrafficBudget.open(None, tmp_path, T0).used_bytes(T0) == 0


def test_what_could_not_be_written_is_reported_until_it_can_be(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    traffic_budget = TrafficBudget.open(MB, folder, T0)
    traffic_budget.spend("hop", "kiln", 1, 0, T0)
    traffic_budget.write(T0)
    assert traffic_budget.trouble == "the record of traffic cannot be written (No such file or directory)"
    assert traffic_budget._since == {}
    folder.mkdir()
    traffic_budget.write(T0)
    assert traffic_budget.trouble is None
    assert TrafficBudget.open(MB, folder, T0).used_bytes(T0) == 1
    assert not (folder / "traffic.json.new").exists()


def test_four_files_of_a_quarter_megabyte_are_turned_over_in_order(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    log = tmp_path / "traffic.log"
    written: list[int] = []
    for turn in range(6):
        log.write_text("x" * (256 * 1024 - 40))  # the next line does not fit
        traffic_budget.spend("hop", "kiln", turn, 0, T0)
        traffic_budget.write(T0)
        written.append(turn)
    assert log.read_text().endswith("hop kiln sent 5 received 0\n")
    names = sorted(path.name for path in tmp_path.glob("traffic.log*"))
    assert names == ["traffic.log", "traffic.log.1", "traffic.log.2", "traffic.log.3"]


def test_older_files_of_the_log_move_up_by_one(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    for name, text in (("traffic.log.1", "one"), ("traffic.log.2", "two"), ("traffic.log.3", "three")):
        (tmp_path / name).write_text(text)
    (tmp_path / "traffic.log").write_text("x" * (256 * 1024))
    traffic_budget.spend("hop", "kiln", 1, 0, T0)
    traffic_budget.write(T0)
    assert len((tmp_path / "traffic.log.1").read_text()) == 256 * 1024
    assert (tmp_path / "traffic.log.2").read_text() == "one"
    assert (tmp_path / "traffic.log.3").read_text() == "two"


def test_a_line_that_just_fits_turns_nothing_over(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    line = "2025-11-24T16:00:00Z hop kiln sent 1 received 0\n"
    log = tmp_path / "traffic.log"
    for spare, files in ((0, 1), (-1, 2)):
        log.write_text("x" * (256 * 1024 - len(line) - spare))
        traffic_budget.spend("hop", "kiln", 1, 0, T0)
        traffic_budget.write(T0)
        assert len(list(tmp_path.glob("traffic.log*"))) == files
    assert log.read_text() == line


def test_a_log_can_be_turned_over_where_one_of_the_older_files_is_missing(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    (tmp_path / "traffic.log.2").write_text("two")
    (tmp_path / "traffic.log").write_text("x" * (256 * 1024))
    traffic_budget.spend("hop", "kiln", 1, 0, T0)
    traffic_budget.write(T0)
    assert (tmp_path / "traffic.log.3").read_text() == "two"
    assert not (tmp_path / "traffic.log.2").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1", 1), ("1K", 1000), ("1kb", 1000), ("2M", 2_000_000), ("1.5g", 1_500_000_000), ("1T", 10**12),
        (" 7 MB ", 7_000_000), ("3B", 3), ("None", None), (" none ", None),
    ],
)  # fmt: skip
def test_a_number_of_bytes_as_people_write_it(text: str, size: int | None) -> None:
    assert parse_daily(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.MB", "1 2", "5X", "5MBx", "none of it", "1e6"])
def test_an_invalid_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; give 50MB, 16MiB or 2GiB"):
        parse_daily(text)


def test_a_packet_after_midnight_is_of_the_new_day_and_one_of_a_clock_set_back_of_the_old() -> None:
    midnight_ns = 20_000 * 86_400 * NS_PER_S
    traffic_budget = TrafficBudget()
    for at_ns in (midnight_ns - 1, midnight_ns, midnight_ns - 1):
        traffic_budget.spend("stamp", "a", 100, 0, at_ns)
    assert traffic_budget.totals(midnight_ns - 1) == {"stamp": (200, 0)}
    assert traffic_budget.totals(midnight_ns) == {"stamp": (100, 0)}
