"""Roll raw samples up: one row a minute, then one an hour, with sketches.

A rollup row says of one link (or one machine) in one minute or hour: how many samples there were, sums and least
values, and of each figure with a history its median and a mergeable sketch of its values (`sketch`, relative error 1
%). A figure that was measured once needs no sketch. Pure: rows in, rows out; `roll_forward` moves them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec

from swarm_protocol.units import NS_PER_S
from swarm_storage.history import sketch
from swarm_storage.rows import Row

DAY_NS: Final = 86_400 * NS_PER_S


class Unit(msgspec.Struct, frozen=True):
    """One resolution. Rows are keyed by a longer piece of time first, so that a link's rows of a piece lie together."""

    name: str
    width_ns: int
    piece_ns: int
    keep_ns: int


MINUTE: Final = Unit("minute", 60 * NS_PER_S, 3600 * NS_PER_S, 14 * DAY_NS)
HOUR: Final = Unit("hour", 3600 * NS_PER_S, DAY_NS, 400 * DAY_NS)
UNITS: Final = (MINUTE, HOUR)


class Rolled(msgspec.Struct, frozen=True):
    """How one kind is rolled up."""

    kind: str
    nodes: tuple[str, ...]  # the columns that say whose it is
    figures: tuple[str, ...]  # median and sketch
    sums: tuple[str, ...] = ()
    least: tuple[str, ...] = ()

    def table(self, unit: Unit) -> str:
        return f"{self.kind}_{unit.name}_rollup"

    @property
    def key(self) -> tuple[str, ...]:
        return ("piece", *self.nodes, "t")

    @property
    def values(self) -> tuple[str, ...]:
        sketches = (each for figure in self.figures for each in (figure, f"{figure}_sketch"))
        return ("n", *self.sums, *self.least, *sketches)

    @property
    def shown(self) -> tuple[str, ...]:
        """Return the columns that people read, in addition to n."""
        return (*self.sums, *self.least, *self.figures)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.key, *self.values)

    @property
    def source(self) -> str:
        """Return FROM of a raw sample's row: nodes, time, then figures, sums and least in this order.

        Several GPUs of one moment are one reading, as the Swarm shows them."""
        if self.kind == "host":
            return (
                "(SELECT node, ts, avg(cpu_percent) AS cpu_percent, avg(gpu_util_percent) AS gpu_util_percent,"
                " CAST(sum(vram_free_bytes) AS DOUBLE PRECISION) AS vram_free_bytes, max(temp_c) AS temp_c"
                " FROM host_sample"
                " WHERE bucket = ? AND node = ? GROUP BY node, ts) AS reading"
            )
        return f"(SELECT * FROM {self.kind}_sample WHERE bucket = ? AND src = ?{self.condition}) AS sample"

    @property
    def condition(self) -> str:
        """Return which samples of its table count: a prefill chunk's hop is many times larger than a decode step's; and
        without a path nothing is lost on it, nor is the time of a detour a measurement."""
        return {"hop": " AND phase = 'decode'", "link": " AND why IS NULL"}.get(self.kind, "")

    @property
    def select(self) -> str:
        """Return the SELECT of one bucket and one (source) node; arguments: bucket, node."""
        return (
            f"SELECT {', '.join((*self.nodes, 'ts', *self.figures, *self.sums, *self.least))} FROM {self.source}"
            f" ORDER BY {', '.join((*self.nodes, 'ts'))}"
        )


ROLLED: Final[dict[str, Rolled]] = {
    rolled.kind: rolled
    for rolled in (
        Rolled("link", ("src", "dst"), ("rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "pdv_ms"), ("sent", "lost"),
               ("rtt_min_ms",)),
        Rolled("hop", ("src", "dst"), ("p50_ms",), (), ("min_ms",)),
        Rolled("uplink", ("src", "dst"), ("mbps",), ("sent_bytes",)),
        Rolled("host", ("node",), ("cpu_percent", "gpu_util_percent", "vram_free_bytes", "temp_c")),
    )
}  # fmt: skip


def minutes_of(rolled: Rolled, samples: Iterable[Row]) -> list[Row]:
    """Turn rows of `select`, in its order, into rows of the minute table."""
    nodes, figures, sums = len(rolled.nodes), len(rolled.figures), len(rolled.sums)
    first_sum, first_least = nodes + 1 + figures, nodes + 1 + figures + sums
    width_ns, piece_ns = MINUTE.width_ns, MINUTE.piece_ns
    found: list[Row] = []
    for key, group in groupby(samples, lambda row: (*row[:nodes], row[nodes] // width_ns)):
        rows = list(group)
        t = key[-1] * width_ns
        made: list[Any] = [t // piece_ns, *key[:-1], t, len(rows)]
        if len(rows) == 1:  # as in every large swarm
            row = rows[0]
            made += row[first_sum:]
            for value in row[nodes + 1 : first_sum]:
                made += (value, None)
        else:
            columns = list(zip(*rows, strict=True))
            made += map(sum, columns[first_sum:first_least])
            made += (_least(column) for column in columns[first_least:])
            for column in columns[nodes + 1 : first_sum]:
                made += _figure([float(value) for value in column if value is not None])
        found.append(tuple(made))
    return found


def merged(rolled: Rolled, unit: Unit, rows: Sequence[Row]) -> list[Row]:
    """Merge rows of a rollup table (`columns`), in any order, into rows of `unit`'s, adding up those of one period."""
    nodes, sums, least = len(rolled.nodes), len(rolled.sums), len(rolled.least)
    at = nodes + 1
    first_sum = nodes + 3
    first_least, first_figure = first_sum + sums, first_sum + sums + least

    def period(row: Row) -> tuple[Any, ...]:
        return (*row[1:at], row[at] // unit.width_ns)

    found: list[Row] = []
    for key, group in groupby(sorted(rows, key=period), period):
        same = list(group)
        t = key[-1] * unit.width_ns
        made: list[Any] = [t // unit.piece_ns, *key[:-1], t]
        if len(same) == 1:
            found.append((*made, *same[0][at + 1 :]))
            continue
        columns = list(zip(*same, strict=True))
        made += map(sum, columns[nodes + 2 : first_least])  # n, and the sums
        made += (_least(column) for column in columns[first_least:first_figure])
        for place in range(first_figure, len(columns), 2):
            counts: sketch.Counts = {}
            for value, packed in zip(columns[place], columns[place + 1], strict=True):
                sketch.add(counts, counts_of(value, packed))
            if not counts:
                made += (None, None)
            elif sum(counts.values()) == 1:
                made += (next(value for value in columns[place] if value is not None), None)
            else:
                made += (sketch.quantile(counts, 0.5), sketch.encode(counts))
        found.append(tuple(made))
    return found


def counts_of(value: float | None, packed: bytes | memoryview | None) -> sketch.Counts:
    """Return the sketch of one figure in one row. Raises ValueError if it is damaged."""
    if packed is not None:
        return sketch.decode(bytes(packed))
    return {} if value is None else {sketch.bucket_of(value): 1}


def _figure(values: list[float]) -> tuple[float | None, bytes | None]:
    if len(values) < 2:
        return (values[0] if values else None), None
    return statistics.median(values), sketch.encode(sketch.counted(values))


def _least(column: Iterable[float | None]) -> float | None:
    return min((value for value in column if value is not None), default=None)
