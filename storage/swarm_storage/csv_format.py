"""Write samples as CSV: one file for each kind, stable columns, values that read back exactly.

Names of nodes, never ids, and the latest name also for old rows. Times are UTC ISO 8601 with microseconds; floats are
written so that they read back bit for bit; yes and no are `true` and `false`; not measured is an empty cell. Text cells
that a spreadsheet would run as formulas are defused. Lines end in a bare newline.

Rollups are kinds of their own (`link_minute`, `link_hour`, …), so that a median of an hour is never taken for a sample.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

import msgspec

from swarm_protocol.csv_cells import csv_cell
from swarm_protocol.units import gib, iso_utc
from swarm_storage.errors import StoreError
from swarm_storage.history.recording import EVER_NS, Reader
from swarm_storage.history.rollup import ROLLED, UNITS
from swarm_storage.rows import TABLES

CHUNK_ROWS: Final = 500  # some 60 KB: far below what one message may hold
Cell = str | int | float | bool | None


class _Column(msgspec.Struct, frozen=True):
    name: str
    field: str  # of the sample
    value: Callable[[Any], Cell]


def _columns(text: str) -> tuple[_Column, ...]:
    """Parse `name` or `name=field`; a field in bytes under a name in GiB is converted."""
    return tuple(_column(*word.split("=")) for word in text.split(","))


def _column(name: str, field: str = "") -> _Column:
    field = field or name
    if name.endswith("_gib"):
        return _Column(
            name, field, lambda sample: None if getattr(sample, field) is None else gib(getattr(sample, field))
        )
    return _Column(name, field, lambda sample: getattr(sample, field))


# after the time and the names of the nodes
_COLUMNS: Final[dict[str, tuple[_Column, ...]]] = {
    "link": _columns(
        "path,sent,lost,rtt_min_ms,rtt_p50_ms,rtt_p95_ms,rtt_p99_ms,pdv_ms,jitter_rfc3550_ms,hop_ms,loaded,timestamps,"
        "ipdv_ms,duplicates,reordered,ttl_out,ttl_back,why,stamped_out_ms,stamped_back_ms,address,interface"
    ),
    "hop": _columns(
        "bytes=size_bytes,cadence_ms,n,phase,first_ms,after_idle_ms,min_ms,p50_ms,p95_ms,p99_ms,loaded,transport"
    ),
    "uplink": _columns("bytes=sent_bytes,mbps,bound,rtt_idle_ms,rtt_loaded_ms,seconds,transport"),
    "compute": _columns(
        "device,model,dtype,phase,batch,context,ms_per_layer,ms_p95,verified,ms_p5,n,marks,stage_layers"
    ),
    "roofline": _columns("device,dtype,mem_gbps,tflops,to_device_gbps,from_device_gbps,disk_gbps"),
    "host": _columns(
        "cpu_percent,ram_free_gib=ram_free_bytes,gpu,gpu_util_percent,vram_free_gib=vram_free_bytes,temp_c,power_w,"
        "throttled,clock_mhz,throttle,others,on_battery,nat,collector_rtt_ms,tcp,tcp_slow_start_after_idle,"
        "cpu_pressure_percent"
    ),
    "event": _columns("kind,detail"),
    "run": _columns(
        "endpoint,model,label,baseline,placement,prompt_tokens,tokens,counted,ttft_ms,tpot_ms,tpot_p50_ms,tpot_p95_ms,"
        "tokens_per_s,predicted_p5,predicted_p50,predicted_p95"
    ),
}
_OF_LINKS: Final = ("link", "hop", "uplink")
_OF_NO_NODE: Final = ("run",)
_ROLLUPS: Final = {f"{rolled.kind}_{unit.name}": (rolled, unit) for rolled in ROLLED.values() for unit in UNITS}
CSV_KINDS: Final = (*_COLUMNS, *_ROLLUPS)


def header(kind: str) -> list[str]:
    """Return the header. Raises StoreError for an unknown kind."""
    if kind in _ROLLUPS:
        rolled, _ = _ROLLUPS[kind]
        return ["time", *rolled.nodes, "n", *(_gib_name(name) for name in rolled.shown)]
    if kind not in _COLUMNS:
        raise StoreError(f"there is no kind {kind!r}; there are {', '.join(CSV_KINDS)}")
    nodes = ["src", "dst"] if kind in _OF_LINKS else [] if kind in _OF_NO_NODE else ["node"]
    return ["time", *nodes, *(column.name for column in _COLUMNS[kind])]


def column_types(kind: str) -> dict[str, str]:
    """Return the type of each column: `time`, `str`, `bool`, `int` or `float`. Raises StoreError for an unknown
    kind."""
    names = header(kind)
    if kind in _ROLLUPS:
        rolled, _ = _ROLLUPS[kind]
        whole = {"n", *rolled.sums}
        found = {name: "int" if name in whole else "float" for name in names}
        return found | {"time": "time"} | dict.fromkeys(rolled.nodes, "str")
    table = TABLES[kind]
    found = dict.fromkeys(names, "str") | {"time": "time"}
    for column in _COLUMNS[kind]:
        found[column.name] = "float" if column.name.endswith("_gib") else table.types.get(column.field, "str")
    return found


def rows(reader: Reader, kind: str, since_ns: int = 0, until_ns: int = EVER_NS) -> Iterator[list[str]]:
    """Yield the cells of each sample of [since, until), ordered by time; without the header."""
    header(kind)
    name_of = _Names(reader)
    if kind in _ROLLUPS:
        yield from _rolled_rows(reader, kind, since_ns, until_ns, name_of)
        return
    for node_id, sample in reader.samples(since_ns, until_ns, (kind,)):
        nodes = [node_id, sample.peer] if kind in _OF_LINKS else [node_id]  # type: ignore[union-attr]
        cells = [] if kind in _OF_NO_NODE else [csv_cell(name_of(each)) for each in nodes]
        yield [iso_utc(sample.at_ns), *cells, *(_text(column.value(sample)) for column in _COLUMNS[kind])]


class _Names:
    """Node id → the latest name when this was made; looked up again for a node that came while writing."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._names: dict[str, str] = {}

    def __call__(self, node_id: str) -> str:
        if node_id not in self._names:
            self._names = {"": "", **dict(self._reader.query("SELECT node_id, name FROM node"))}
        return self._names.get(node_id, node_id)


def _rolled_rows(reader: Reader, kind: str, since_ns: int, until_ns: int, name_of: _Names) -> Iterator[list[str]]:
    rolled, unit = _ROLLUPS[kind]
    nodes = len(rolled.nodes)
    for t, *cells in reader.rollups(rolled, unit, since_ns, until_ns):
        names = [csv_cell(name_of(reader.name_of(node))) for node in cells[:nodes]]
        n, *values = cells[nodes:]
        shown = (
            gib(value) if value is not None and _gib_name(name) != name else value
            for name, value in zip(rolled.shown, values, strict=True)
        )
        yield [iso_utc(t), *names, _text(n), *map(_text, shown)]


def _gib_name(name: str) -> str:
    """Return the name of a column in the file, where memory is in GiB."""
    return name.replace("_bytes", "_gib") if name == "vram_free_bytes" else name


def chunks(reader: Reader, kind: str, since_ns: int = 0, until_ns: int = EVER_NS) -> Iterator[tuple[str, int]]:
    """Yield (CSV text, rows so far) in pieces, the header first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header(kind))
    count = 0
    for row in rows(reader, kind, since_ns, until_ns):
        writer.writerow(row)
        count += 1
        if count % CHUNK_ROWS == 0:
            yield buffer.getvalue(), count
            buffer.seek(0)
            buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue(), count


def write_csv(reader: Reader, kind: str, since_ns: int, until_ns: int, out: TextIO) -> int:
    """Write header and rows; return the number of rows."""
    count = 0
    for text, count in chunks(reader, kind, since_ns, until_ns):  # noqa: B007 - the last count is the answer
        out.write(text)
    return count


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return csv_cell(value) if isinstance(value, str) else repr(value)
