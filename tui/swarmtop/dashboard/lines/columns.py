"""Define the columns of the ranking: the title, width, sort key and cell of each.

Every screen that lists nodes uses it; to add a column, add one entry here. A cell is (text, role). Missing figures are
"–", bounds have "≥", estimates "~", and old figures are dimmed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.swarm import Floats, Kind
from swarmtop.analysis.ranking.node_figures import STALE_AFTER_S
from swarmtop.analysis.ranking.states import with_glyph
from swarmtop.dashboard.lines.charts.series import rise
from swarmtop.dashboard.lines.styled import Align, Span, clean, cut
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

if TYPE_CHECKING:
    from swarmtop.analysis.ranking.node_rows import Row

BAR: Final = 7  # cells by which a column with a bar may grow
MIN_BAR: Final = 4  # cells; a shorter bar says too little
NARROW: Final = 35  # cells, below which the whole name leaves no room for the gain
NARROW_NAME: Final = 14
AFTER_BARS: Final = 8  # columns of this rank and above are added after the bars of those before

Cell = Callable[[View, int], Span]
Values = Callable[[View], "Floats | list[str]"]


class Column(msgspec.Struct, frozen=True):
    name: str  # the name to sort and filter by
    title: str
    width: int
    help: str  # what the figure is, in one line
    rank: int  # columns of a low rank stay when the screen is narrow; 0 and below are always offered
    cell: Cell
    values: Values  # numbers (NaN: unknown, always last) or texts, to sort by
    align: Align = ">"
    largest_first: bool = False  # whether the worst is on top in ascending order
    grows: int = 0  # cells to add if there is width left
    marked: bool = False  # only if a mark is set
    part: Callable[[View, int], float] | None = None  # 0..1, drawn as a bar if the column has grown; NaN: none


def faded(view: View, row: int) -> bool:
    """Return whether the node is no longer heard, so that all its figures are old."""
    return view.word(row) in ("stale", "lost")


def _number(value: float, view: View, row: int, kind: int = Kind.MEASURED) -> Span:
    text = quantities.figure(value, Kind(kind) if kind else Kind.MEASURED)
    return text, "dim" if text == quantities.UNMEASURED else "faded" if faded(view, row) else _kind_role(kind)


def _kind_role(kind: int) -> str:
    return "estimate" if kind == Kind.ESTIMATE else "bound" if kind == Kind.BOUND else ""


def _rtt(value: float, view: View, row: int) -> Span:
    kind = Kind.ESTIMATE if view.figures.estimated[row] else Kind.MEASURED
    text, role = _number(value, view, row, kind)
    old = view.figures.rtt_age_s[row] > STALE_AFTER_S
    return text, "faded" if old and not role else role


def _unsigned_zero(value: float | None) -> str:
    """Return a saving too small to show as 0, not −0.00; others with a true minus, as wide as a digit."""
    return quantities.figure(0.0 if value is not None and abs(value) < 0.005 else value).replace("-", "−")


def _ranked(view: View, row: int) -> Row | None:
    return view.ranked.get(view.swarm.facts[row].name)


def _share(view: View, row: int) -> Span:
    found = _ranked(view, row)
    text = quantities.percent(found.share if found else None)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _gain(view: View, row: int) -> Span:
    found = _ranked(view, row)
    value = found.win_tokens_per_s if found else None
    text = _unsigned_zero(value)
    if text == quantities.UNMEASURED:
        return text, "dim"
    return (text, "") if text in ("0", "0.00") else (f"+{text}", "slow" if view.word(row) == "slow" else "")


def _difference(view: View, found: Row | None, tokens_per_s: float | None) -> str:
    """Return the rate that the swarm would reach, less its present one."""
    stands = view.analysis.stands if view.analysis is not None else None
    if found is None or tokens_per_s is None or stands is None:
        return quantities.UNMEASURED
    return signed(tokens_per_s - stands.tokens_per_s.p50)


def signed(value: float) -> str:
    """Return `+3.10`, `−0.40`; what rounds to nothing is 0."""
    text = quantities.figure(abs(value))
    return "0" if text in ("0", "0.00") else f"{'+' if value > 0 else '−'}{text}"


def _typical(view: View, row: int) -> Span:
    found = _ranked(view, row)
    text = _difference(view, found, found.typical_tokens_per_s if found else None)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _without(view: View, row: int) -> Span:
    found = _ranked(view, row)
    if found is None or found.role != "in":
        return quantities.UNMEASURED, "dim"
    if found.without_tokens_per_s is None:
        return ("no plan", "warn") if found.share is not None else (quantities.UNMEASURED, "dim")
    text = _difference(view, found, found.without_tokens_per_s)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _cost(view: View, row: int) -> Span:
    found = _ranked(view, row)
    text = _unsigned_zero(found.cost_ms if found else None)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _good_for(view: View, row: int) -> Span:
    impact = view.impact(view.swarm.facts[row].name)
    if impact is None or not impact.stand_by_for:
        return quantities.UNMEASURED, "dim"
    text = _difference(view, _ranked(view, row), impact.stand_by_tokens_per_s)
    return f"{cut(clean(impact.stand_by_for, 40), 17 - len(text))} {text}", ""


def _cause(view: View, row: int) -> Span:
    found = _ranked(view, row)
    if found is None or not found.cause:
        return quantities.UNMEASURED, "dim"
    return found.cause, "" if found.role == "in" else "dim"


def _stage(view: View, row: int) -> Span:
    """Return its stage in the placement that runs, or whether it is a spare."""
    name = view.swarm.facts[row].name
    placement = view.analysis.placement if view.analysis is not None else ()
    for stage_number, stage in enumerate(placement, 1):
        if stage.node == name:
            return str(stage_number), "strong"
    found = _ranked(view, row)
    return (found.role, "dim") if found is not None and view.plan is not None else (quantities.UNMEASURED, "dim")


def _state(view: View, row: int) -> Span:
    word = view.word(row)
    return with_glyph(word), word


def _device(view: View, row: int) -> Span:
    device = clean(view.swarm.facts[row].device)
    return (device, "faded" if faded(view, row) else "") if device else (quantities.UNMEASURED, "dim")


def _layer(view: View, row: int) -> Span:
    text, role = _number(float(view.figures.layer_ms[row]), view, row)
    return ("?", "warn") if text == quantities.UNMEASURED and view.swarm.facts[row].note else (text, role)


def _vram(view: View, row: int) -> Span:
    free, whole = view.swarm.nodes["vram_free_bytes"][row], view.swarm.nodes["vram_bytes"][row]
    value = free if np.isfinite(free) else whole
    text = quantities.figure(value / 2**30 if np.isfinite(value) else None)
    return text, "dim" if text == quantities.UNMEASURED else "faded" if faded(view, row) else ""


def _util(view: View, row: int) -> Span:
    value = view.swarm.nodes["gpu_util_percent"][row]
    return (
        (f"{value:.0f}%", "faded" if faded(view, row) else "") if np.isfinite(value) else (quantities.UNMEASURED, "dim")
    )


def _loss(view: View, row: int) -> Span:
    value = float(view.figures.loss[row])
    text = quantities.percent(value)
    if text == quantities.UNMEASURED:
        return text, "dim"
    return text, "faded" if faded(view, row) else "warn" if value >= 0.01 else ""


def _host(column: str, unit: str) -> Cell:
    def cell(view: View, row: int) -> Span:
        value = float(view.swarm.nodes[column][row])
        if not np.isfinite(value):
            return quantities.UNMEASURED, "dim"
        return f"{value:.0f}{unit}", "faded" if faded(view, row) else ""

    return cell


def _age(view: View, row: int) -> Span:
    text = quantities.seconds(quantities.optional(float(view.figures.age_s[row])))
    return text, "dim" if text == quantities.UNMEASURED else "faded" if faded(view, row) else ""


def _spark(view: View, row: int) -> Span:
    return rise(view.recent.series(view.swarm.facts[row].node_id), 12), "spark"


def _row_values(field: str) -> Values:
    def values(view: View) -> Floats:
        found = [getattr(_ranked(view, row), field, None) for row in range(len(view.swarm))]
        return np.array([np.nan if v is None else v for v in found], np.float64)

    return values


def _stage_values(view: View) -> Floats:
    """Sort values: stages in order, then spares, then the others."""
    found = [_stage(view, row)[0] for row in range(len(view.swarm))]
    return np.array([float(text) if text.isdigit() else 1e6 if text == "spare" else np.nan for text in found])


def _since(field: str) -> Cell:
    """Return a figure now, less the same at the mark."""

    def cell(view: View, row: int) -> Span:
        value = _moved(view, row, field)
        if value is None:
            return quantities.UNMEASURED, "dim"
        text = quantities.figure(abs(value))
        if text in ("0", "0.00"):
            return "=", "dim"
        return f"{'+' if value > 0 else '−'}{text}", "warn" if value > 0 else "ok"

    return cell


def _moved(view: View, row: int, field: str) -> float | None:
    facts = view.swarm.facts[row]
    marked = view.mark.nodes.get(facts.node_id) if view.mark else None
    before = getattr(marked, field, None)
    if field == "cost_ms":
        found = view.ranked.get(facts.name)
        now = found.cost_ms if found else None
    else:
        now = quantities.optional(float(view.figures.rtt99_ms[row]))
    return None if before is None or now is None else now - before


def _since_values(field: str) -> Values:
    def values(view: View) -> Floats:
        found = [_moved(view, row, field) for row in range(len(view.swarm))]
        return np.array([np.nan if v is None else v for v in found], np.float64)

    return values


def _share_part(view: View, row: int) -> float:
    found = _ranked(view, row)
    return found.share if found is not None and found.share is not None else float("nan")


def _up_part(view: View, row: int) -> float:
    """Return the position on a log scale, since home lines and data centres are decades apart: 1 Mbit/s is 0, 1 Gbit/s
    is 1."""
    value = float(view.figures.up_mbps[row])
    return min(1.0, max(0.0, math.log10(value) / 3)) if value > 0 else float("nan")


def _vram_part(view: View, row: int) -> float:
    """Return the free share of the whole."""
    free, whole = float(view.swarm.nodes["vram_free_bytes"][row]), float(view.swarm.nodes["vram_bytes"][row])
    return min(1.0, free / whole) if whole > 0 else float("nan")


_STATE_ORDER = {"lost": 0, "stale": 1, "degraded": 2, "slow": 3, "unknown": 4, "ok": 5}


def _text(view: View, cell: Cell) -> list[str]:
    return [cell(view, row)[0].casefold() for row in range(len(view.swarm))]


COLUMNS: Final[tuple[Column, ...]] = (
    Column("node", "NODE", 16, "the node's name", -1,
           lambda v, r: (clean(v.swarm.facts[r].name), "faded" if faded(v, r) else "name"),
           lambda v: [clean(f.name).casefold() for f in v.swarm.facts], "<", grows=12),
    Column("region", "REGION", 8, "the place that it reports", 15,
           lambda v, r: (clean(v.swarm.facts[r].region) or quantities.UNMEASURED, "dim"),
           lambda v: [clean(f.region).casefold() for f in v.swarm.facts], "<"),
    Column("state", "STATE", 10, "ok, slow (it runs, and its GAIN is 5 % or more), degraded, stale, lost", -1,
           _state, lambda v: np.array([_STATE_ORDER[v.word(r)] for r in range(len(v.swarm))], np.float64), "<"),
    Column("stage", "STG", 5, "its stage in the placement that runs, else in the best plan; spare: could serve", 0,
           _stage, _stage_values),
    Column("share", "SHARE", 5, "its share of a token's time", 1, _share, _row_values("share"),
           largest_first=True, grows=BAR, part=_share_part),
    Column("gain", "GAIN", 6, "tok/s the swarm would gain without it, or if it were typical", -1, _gain,
           _row_values("win_tokens_per_s"), largest_first=True),
    Column("cause", "CAUSE", 8, "its largest part: rtt, jitter, upload, compute, memory, overhead", 1, _cause,
           lambda v: _text(v, _cause), "<"),
    Column("typical", "TYPICAL", 7, "tok/s gained with typical figures of this swarm in its place", 8, _typical,
           _row_values("typical_tokens_per_s"), largest_first=True),
    Column("without", "WITHOUT", 7, "change in tok/s when re-planned without it", 2, _without,
           _row_values("without_tokens_per_s"), largest_first=True),
    Column("for", "STAND-BY FOR", 18, "for a spare: the stage it could take over best, and the change in tok/s", 9,
           _good_for, lambda v: _text(v, _good_for), "<", grows=6),
    Column("cost", "COST", 6, "ms of a token: its part; for a spare, what using it would add", 12, _cost,
           _row_values("cost_ms"), largest_first=True),
    Column("dcost", "ΔCOST", 7, "cost now, less that at the mark (M sets it)", 1, _since("cost_ms"),
           _since_values("cost_ms"), largest_first=True, marked=True),
    Column("drtt99", "ΔRTT99", 7, "worst p99 now, less that at the mark", 3, _since("rtt99_ms"),
           _since_values("rtt99_ms"), largest_first=True, marked=True),
    Column("rtt50", "RTT50", 5, "median round trip to its peers, ms", 2,
           lambda v, r: _rtt(float(v.figures.rtt50_ms[r]), v, r), lambda v: v.figures.rtt50_ms, largest_first=True),
    Column("rtt99", "RTT99", 5, "p99 of the round trip on its worst link, ms", 3,
           lambda v, r: _rtt(float(v.figures.rtt99_ms[r]), v, r), lambda v: v.figures.rtt99_ms, largest_first=True),
    Column("jit", "JIT", 5, "jitter, p95 − min of the round trip, ms", 8,
           lambda v, r: _rtt(float(v.figures.jitter_ms[r]), v, r), lambda v: v.figures.jitter_ms, largest_first=True),
    Column("loss", "LOSS", 5, "round trips that never came back", 4, _loss, lambda v: v.figures.loss,
           largest_first=True),
    Column("up", "UP", 6, "upload, Mbit/s; ≥ where the path was not filled; bar: 1 Mbit/s to 1 Gbit/s, log scale", 5,
           lambda v, r: _number(float(v.figures.up_mbps[r]), v, r, int(v.figures.up_kind[r])),
           lambda v: v.figures.up_mbps, grows=BAR, part=_up_part),
    Column("down", "DN", 6, "download, Mbit/s; ≥ where the path was not filled", 10,
           lambda v, r: _number(float(v.figures.down_mbps[r]), v, r, int(v.figures.down_kind[r])),
           lambda v: v.figures.down_mbps),
    Column("layer", "LAYER", 6, "ms of one decoder layer of the model; ? has a reason on the node's screen", 4, _layer,
           lambda v: v.figures.layer_ms, largest_first=True),
    Column("device", "DEVICE", 14, "its GPU or processor", 11, _device, lambda v: _text(v, _device), "<", grows=10),
    Column("util", "UTIL", 5, "GPU load", 14, _util, lambda v: v.swarm.nodes["gpu_util_percent"], largest_first=True,
           grows=BAR, part=lambda v, r: float(v.swarm.nodes["gpu_util_percent"][r]) / 100),
    Column("temp", "TEMP", 6, "°C of the hottest card", 16, _host("temp_c", "°C"), lambda v: v.swarm.nodes["temp_c"],
           largest_first=True),
    Column("power", "POWER", 6, "W of all cards", 17, _host("power_w", " W"), lambda v: v.swarm.nodes["power_w"],
           largest_first=True),
    Column("vram", "VRAM", 6, "GiB of free memory that layers may use; bar: of all its memory", 6, _vram,
           lambda v: np.where(np.isfinite(v.swarm.nodes["vram_free_bytes"]), v.swarm.nodes["vram_free_bytes"],
                              v.swarm.nodes["vram_bytes"]), grows=BAR, part=_vram_part),
    Column("age", "AGE", 4, "time since it was last heard from", 9, _age, lambda v: v.figures.age_s,
           largest_first=True),
    Column("recent", "RTT99 60s", 12, "its worst round trip above the minute's least; full: 1.5 times", 7,
           _spark, lambda v: v.figures.rtt99_ms, "<", largest_first=True),
)  # fmt: skip

# group headings above the titles, if there is room: what adjacent columns have in common
GROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("a token", ("share",)),
    ("the swarm would gain", ("gain", "cause", "typical", "without", "for")),
    ("paths, ms and Mbit/s", ("rtt50", "rtt99", "jit", "loss", "up", "down")),
    ("machine", ("layer", "device", "util", "temp", "power", "vram")),
)
GROUP_OF: Final = {name: words for words, names in GROUPS for name in names}

OF_TIME: Final = ("age", "recent")  # columns that only a live source fills
BY_NAME: Final = {column.name: column for column in COLUMNS}


def offered(names: Sequence[str], *, marked: bool, past: bool = True) -> tuple[Column, ...]:
    """Return the columns a person chose (all if `names` is empty); always the node's name, and differences only with a
    mark. A file has no `past`: columns that would stay empty are left out unless they were chosen."""
    wanted = names or [c.name for c in COLUMNS if past or c.name not in OF_TIME]
    return tuple(c for c in COLUMNS if (c.name in wanted or c.rank <= 0 or c.marked) and (marked or not c.marked))


def choose(width: int, columns: Sequence[Column] = offered((), marked=False)) -> tuple[tuple[Column, int], ...]:
    """Return the columns that fit in `width`, in their order, each with its width; the least important are dropped
    first. Bars of important columns come before less important columns."""
    sizes: dict[str, int] = {}
    left = width
    if width < NARROW:
        columns = [msgspec.structs.replace(c, width=NARROW_NAME) if c.name == "node" else c for c in columns]
    ranked = sorted(columns, key=lambda c: c.rank)
    for column in ranked:
        if column.rank >= AFTER_BARS and ranked[0].rank < AFTER_BARS:
            left = _barred(ranked, sizes, left)
            ranked = [column]  # including the grown bars
        if column.width + 1 <= left:
            sizes[column.name] = column.width
            left -= column.width + 1
        elif column.rank > 0:
            break
    left = _barred(columns, sizes, left)
    for column in columns:
        if column.name in sizes and column.part is None:
            extra = min(column.grows, left)
            sizes[column.name] += extra
            left -= extra
    return tuple((column, sizes[column.name]) for column in columns if column.name in sizes)


def _barred(columns: Sequence[Column], sizes: dict[str, int], left: int) -> int:
    """Widen the columns with bars as far as there is room; return the room left."""
    for column in columns:
        if column.part is not None and sizes.get(column.name) == column.width and left >= MIN_BAR:
            extra = min(column.grows, left)
            sizes[column.name] += extra
            left -= extra
    return left
