"""The table of benchmark figures: which columns it has, which figures are kept for each machine, and which are
missing."""

from __future__ import annotations

import datetime as dt

import pytest

from bench.support import peer_programs, results
from bench.support.results import BEGIN, END, PAGE, Figure, number, read, rows, written

TODAY, YESTERDAY = dt.date(2026, 11, 29), dt.date(2026, 11, 28)
HERE, THERE = "2 cores of EPYC, 24 GiB, Linux, Python 3.11", "16 cores of Xeon, 128 GiB, Linux, Python 3.12"
EMPTY = f"# Benchmarks\n\n{BEGIN}\n\n{END}\n\n## More\n"


def ingest(value: float) -> Figure:
    return Figure("ingest", "rows/s", value, "", peer=("executemany", 200_000), more_is_better=True)


def memory(value: float) -> Figure:
    return Figure("collector", "memory", value, "MB")


def test_a_figure_stands_beside_its_peer_with_the_ratio() -> None:
    (row,) = rows([ingest(120_000)], {}, TODAY)
    assert row.cells == ("ingest", "rows/s", "120,000", "executemany: 200,000", "0.60", "", "2026-11-29")


@pytest.mark.parametrize(
    ("figure", "before"),
    [
        (memory(100), "100 (+0%)"),
        (memory(109), "100 (+9%)"),
        (memory(130), "100 (+30%, worse)"),
        (memory(70), "100 (-30%, better)"),
    ],
)
def test_a_change_is_reported_and_marked_when_it_is_larger_than_noise(figure: Figure, before: str) -> None:
    page = written(EMPTY, HERE, rows([memory(100)], {}, YESTERDAY))
    (row,) = rows([figure], read(page)[HERE], TODAY)
    assert row.cells[5] == before


def test_fewer_rows_a_second_are_worse() -> None:
    page = written(EMPTY, HERE, rows([ingest(120_000)], {}, YESTERDAY))
    (row,) = rows([ingest(60_000)], read(page)[HERE], TODAY)
    assert row.cells[5] == "120,000 (-50%, worse)"


def test_what_was_not_measured_again_keeps_its_row_and_other_machines_theirs() -> None:
    page = written(EMPTY, THERE, rows([memory(50)], {}, YESTERDAY))
    page = written(page, HERE, rows([memory(100), ingest(120_000)], {}, YESTERDAY))
    page = written(page, HERE, rows([memory(90)], read(page)[HERE], TODAY))
    kept = read(page)
    assert {key: row.cells[-1] for key, row in kept[HERE].items()} == {
        ("collector", "memory"): "2026-11-29",
        ("ingest", "rows/s"): "2026-11-28",
    }
    assert kept[THERE]["collector", "memory"].value == 50
    assert page.startswith("# Benchmarks\n")
    assert page.endswith("## More\n")


def test_writing_the_same_again_changes_nothing() -> None:
    page = written(EMPTY, HERE, rows([memory(100), ingest(120_000)], {}, TODAY))
    assert written(page, HERE, read(page)[HERE].values()) == page


def test_a_page_without_a_place_for_them_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the figures"):
        written("# Benchmarks\n", HERE, [])


def test_the_page_of_this_project_has_a_place_for_them() -> None:
    page = PAGE.read_text()
    assert BEGIN in page
    assert END in page
    for machine, kept in read(page).items():
        assert machine
        assert all(row.value is not None for row in kept.values())


def test_numbers_have_three_digits_or_all_before_the_point() -> None:
    assert [number(value) for value in (0.01234, 1.2345, 99.94, 219_123.4)] == ["0.0123", "1.23", "99.9", "219,123"]


def test_figures_are_recorded_under_the_benchmark_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_recorded", [])
    results.begin("ingest")
    results.record("rows/s", 3.0, "")
    assert results.recorded() == (Figure("ingest", "rows/s", 3.0, ""),)


def test_a_peer_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_programs, "is_here", lambda name: name == "ping")
    assert peer_programs.left_out("irtt", "ping") == "irtt is not installed and left out (apt install irtt)"
