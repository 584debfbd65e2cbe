"""Collect the figures that benchmarks record, compare them with those of before, and keep them in docs/benchmarks.md.

A benchmark calls `record` for each figure that should not get worse; `python -m bench` ends with a table of them. With
--write they replace the figures of before in the page, in the section of this machine: figures of two machines are
never compared. A figure that was not measured this time keeps its row.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN: Final = "<!-- figures: `python -m bench all --write` makes these tables -->"
END: Final = "<!-- end of the figures -->"
TITLE: Final = ("benchmark", "figure", "measured", "floor or peer", "ratio", "before", "on")
WORSE: Final = 0.1  # a change that is marked; two runs on a shared machine differ by less than this, most of the time


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `peer`: the floor or the program beside it, and its figure in the same unit and run."""

    bench: str
    name: str
    value: float
    unit: str
    peer: tuple[str, float] | None = None
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None or not self.peer[1] else self.value / self.peer[1]


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the page, as text. `key`: benchmark and figure."""

    key: tuple[str, str]
    cells: tuple[str, ...]

    @property
    def value(self) -> float | None:
        """Return the measured number, in the unit it was written with."""
        return _number_of(self.cells[2])


_recorded: list[Figure] = []
_running = ""


def begin(bench: str) -> None:
    """Say which benchmark runs from now on."""
    global _running
    _running = bench


def record(
    name: str, value: float, unit: str, *, peer: tuple[str, float] | None = None, more_is_better: bool = False
) -> None:
    """Record a figure of the running benchmark. A name stays the same from run to run: figures are compared by it."""
    _recorded.append(Figure(_running, name, value, unit, peer, more_is_better))


def recorded() -> tuple[Figure, ...]:
    return tuple(_recorded)


def machine_name() -> str:
    """Return the machine as its section of the page is called; the same whatever else runs on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        cpu = ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / (1 << 30)
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{cores} cores of {cpu or platform.machine()}, {memory:.0f} GiB, {platform.system()}, Python {python}"


# ---------------------------------------------------------------- rows


def row(figure: Figure, before: Kept | None, on: dt.date) -> Kept:
    ratio = figure.ratio
    cells = (
        figure.bench,
        figure.name,
        f"{number(figure.value)} {figure.unit}".strip(),
        "" if figure.peer is None else f"{figure.peer[0]}: {number(figure.peer[1])}",
        "" if ratio is None else f"{ratio:.2f}",
        _before(figure, None if before is None else before.value),
        on.isoformat(),
    )
    return Kept((figure.bench, figure.name), cells)


def _before(figure: Figure, before: float | None) -> str:
    if before is None:
        return ""
    if not before:
        return number(before)
    change = figure.value / before - 1
    worse = -change if figure.more_is_better else change
    mark = ", worse" if worse > WORSE else ", better" if worse < -WORSE else ""
    return f"{number(before)} ({change:+.0%}{mark})"


def number(value: float) -> str:
    """Return three significant digits, or all before the point: `0.0123`, `4.57`, `219,000`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _number_of(cell: str) -> float | None:
    found = re.match(r"-?[\d,.]+(e-?\d+)?", cell)
    return None if found is None else float(found[0].replace(",", ""))


def rows(figures: Iterable[Figure], kept: dict[tuple[str, str], Kept], on: dt.date) -> list[Kept]:
    return [row(figure, kept.get((figure.bench, figure.name)), on) for figure in figures]


# ---------------------------------------------------------------- the page


def read(page: str) -> dict[str, dict[tuple[str, str], Kept]]:
    """Return the rows that the page keeps: machine → (benchmark, figure) → row."""
    found: dict[str, dict[tuple[str, str], Kept]] = {}
    _, _, after = page.partition(BEGIN)
    machine = ""
    for line in after.partition(END)[0].splitlines():
        if line.startswith("### "):
            machine = line.removeprefix("### ").strip()
            found[machine] = {}
        elif machine and line.startswith("| ") and not line.startswith(f"| {TITLE[0]} "):
            cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
            if len(cells) == len(TITLE):
                found[machine][cells[0], cells[1]] = Kept((cells[0], cells[1]), cells)
    return found


def written(page: str, machine: str, new: Iterable[Kept]) -> str:
    """Return the page with these rows in the section of this machine. Raises ValueError if it has no place."""
    if BEGIN not in page or END not in page:
        raise ValueError(f"there is no place for the figures between {BEGIN} and {END}")
    kept = read(page)
    section = kept.setdefault(machine, {})
    section.update({each.key: each for each in new})
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    parts = [_section(name, sorted(found.values(), key=lambda each: each.key[0])) for name, found in kept.items()]
    return head + BEGIN + "\n\n" + "\n\n".join(parts) + "\n\n" + END + tail


def _section(machine: str, kept: list[Kept]) -> str:
    lines = [f"### {machine}", "", f"| {' | '.join(TITLE)} |", "|" + "---|" * len(TITLE)]
    return "\n".join(lines + [f"| {' | '.join(each.cells)} |" for each in kept])
