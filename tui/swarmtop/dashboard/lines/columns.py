"""The columns of the ranking: one registry that says for each its title, width, what it sorts by and how a cell reads.

Every screen that lists nodes draws from it; adding a column is one entry here. A cell is (text, role). Missing figures
are "–", bounds have "≥", estimates "~", and what is old fades.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Kind
from swarmtop.analysis.node_figures import STALE_AFTER_S
from swarmtop.analysis.states import GLYPH
from swarmtop.dashboard.lines.charts import rise
from swarmtop.dashboard.lines.styled import Align, Span, clean
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

if TYPE_CHECKING:
    from swarmtop.analysis.node_rows import Row

Cell = Callable[[View, int], Span]
Values = Callable[[View], "Floats | list[str]"]


@dataclass(frozen=True, slots=True)
class Column:
    name: str  # what people sort and filter by
    title: str
    width: int
    help: str  # what the figure is, one line
    rank: int  # columns of a low rank stay when the screen is narrow
    cell: Cell
    values: Values  # numbers (NaN: unknown, always last) or texts, to sort by
    align: Align = ">"
    largest_first: bool = False  # the order in which the worst is on top
    grows: int = 0  # so many more cells, where width is left over
    marked: bool = False  # only where a mark is set


def faded(view: View, row: int) -> bool:
    """The node is not heard any more, so that all its figures are of the past."""
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
    """A saving too small to read is nothing, not −0.00; others have a true minus, as wide as a figure."""
    return quantities.figure(0.0 if value is not None and abs(value) < 0.005 else value).replace("-", "−")


def _ranked(view: View, row: int) -> Row | None:
    return view.ranked.get(view.swarm.facts[row].name)


def _share(view: View, row: int) -> Span:
    found = _ranked(view, row)
    text = quantities.percent(found.share if found else None)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _win(view: View, row: int) -> Span:
    found = _ranked(view, row)
    value = found.win_tokens_per_s if found else None
    text = _unsigned_zero(value)
    if text == quantities.UNMEASURED:
        return text, "dim"
    return (text, "") if text in ("0", "0.00") else (f"+{text}", "slow" if view.word(row) == "slow" else "")


def _gain(view: View, found: Row | None, tokens_per_s: float | None) -> str:
    """What the swarm would give, less what it gives now."""
    stands = view.analysis.stands if view.analysis is not None else None
    if found is None or tokens_per_s is None or stands is None:
        return quantities.UNMEASURED
    return signed(tokens_per_s - stands.tokens_per_s.p50)


def signed(value: float) -> str:
    """`+3.10`, `−0.40`; what would read as nothing is 0."""
    text = quantities.figure(abs(value))
    return "0" if text in ("0", "0.00") else f"{'+' if value > 0 else '−'}{text}"


def _typical(view: View, row: int) -> Span:
    found = _ranked(view, row)
    text = _gain(view, found, found.typical_tokens_per_s if found else None)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _without(view: View, row: int) -> Span:
    found = _ranked(view, row)
    if found is None or found.role != "in":
        return quantities.UNMEASURED, "dim"
    if found.without_tokens_per_s is None:
        return ("no plan", "warn") if found.share is not None else (quantities.UNMEASURED, "dim")
    text = _gain(view, found, found.without_tokens_per_s)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _cost(view: View, row: int) -> Span:
    found = _ranked(view, row)
    text = _unsigned_zero(found.cost_ms if found else None)
    return text, "dim" if text == quantities.UNMEASURED else ""


def _good_for(view: View, row: int) -> Span:
    impact = view.impact(view.swarm.facts[row].name)
    if impact is None or not impact.stand_by_for:
        return quantities.UNMEASURED, "dim"
    text = _gain(view, _ranked(view, row), impact.stand_by_tokens_per_s)
    return f"{clean(impact.stand_by_for, 20)} {text}", ""


def _cause(view: View, row: int) -> Span:
    found = _ranked(view, row)
    if found is None or not found.cause:
        return quantities.UNMEASURED, "dim"
    return found.cause, "" if found.role == "in" else "dim"


def _stage(view: View, row: int) -> Span:
    """Its stage in the placement that runs, or whether it is a spare."""
    name = view.swarm.facts[row].name
    placement = view.analysis.placement if view.analysis is not None else ()
    for stage_number, stage in enumerate(placement, 1):
        if stage.node == name:
            return str(stage_number), "strong"
    found = _ranked(view, row)
    return (found.role, "dim") if found is not None and view.plan is not None else (quantities.UNMEASURED, "dim")


def _state(view: View, row: int) -> Span:
    word = view.word(row)
    # a node written by hand has no state to speak of
    return f"{GLYPH[word]} {quantities.UNMEASURED if word == 'unknown' else word}", word


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
    """Stages in order, then spares, then the others."""
    found = [_stage(view, row)[0] for row in range(len(view.swarm))]
    return np.array([float(text) if text.isdigit() else 1e6 if text == "spare" else np.nan for text in found])


def _since(field: str) -> Cell:
    """A figure now, less the same at the mark."""

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


_STATE_ORDER = {"lost": 0, "stale": 1, "degraded": 2, "slow": 3, "unknown": 4, "ok": 5}


def _text(view: View, cell: Cell) -> list[str]:
    return [cell(view, row)[0].casefold() for row in range(len(view.swarm))]


COLUMNS: Final[tuple[Column, ...]] = (
    Column("node", "NODE", 16, "the node's name", 0,
           lambda v, r: (clean(v.swarm.facts[r].name), "faded" if faded(v, r) else "name"),
           lambda v: [clean(f.name).casefold() for f in v.swarm.facts], "<", grows=12),
    Column("region", "REGION", 8, "where it says it stands", 15,
           lambda v, r: (clean(v.swarm.facts[r].region) or quantities.UNMEASURED, "dim"),
           lambda v: [clean(f.region).casefold() for f in v.swarm.facts], "<"),
    Column("state", "STATE", 10, "ok, slow (it runs, and the swarm would win 5 % by it), degraded, stale, lost", 0,
           _state, lambda v: np.array([_STATE_ORDER[v.word(r)] for r in range(len(v.swarm))], np.float64), "<"),
    Column("stage", "STG", 5, "its stage in the placement that runs, else in the best plan; spare: could serve", 0,
           _stage, _stage_values),
    Column("share", "SHARE", 5, "of a token's time that it takes", 1, _share, _row_values("share"),
           largest_first=True),
    Column("win", "WIN", 6, "tok/s the swarm would win without it or with it as usual", 0, _win,
           _row_values("win_tokens_per_s"), largest_first=True),
    Column("cause", "CAUSE", 8, "what of it takes most: rtt, jitter, upload, compute, memory, overhead", 1, _cause,
           lambda v: _text(v, _cause), "<"),
    Column("typical", "TYPICAL", 7, "tok/s more, with typical figures of this swarm in its place", 3, _typical,
           _row_values("typical_tokens_per_s"), largest_first=True),
    Column("without", "WITHOUT", 7, "tok/s more or less, re-planned without it", 2, _without,
           _row_values("without_tokens_per_s"), largest_first=True),
    Column("for", "STAND-BY FOR", 18, "of a spare: the stage it would take over best, tok/s more or less then", 5,
           _good_for, lambda v: _text(v, _good_for), "<"),
    Column("cost", "COST", 6, "ms of a token: its part, or of a spare what using it would add", 10, _cost,
           _row_values("cost_ms"), largest_first=True),
    Column("dcost", "ΔCOST", 7, "cost now, less that at the mark (M sets it)", 1, _since("cost_ms"),
           _since_values("cost_ms"), largest_first=True, marked=True),
    Column("drtt99", "ΔRTT99", 7, "worst p99 now, less that at the mark", 3, _since("rtt99_ms"),
           _since_values("rtt99_ms"), largest_first=True, marked=True),
    Column("rtt50", "RTT50", 5, "median round trip to its peers, ms", 2,
           lambda v, r: _rtt(float(v.figures.rtt50_ms[r]), v, r), lambda v: v.figures.rtt50_ms, largest_first=True),
    Column("rtt99", "RTT99", 5, "p99 of the round trip on its worst link, ms", 3,
           lambda v, r: _rtt(float(v.figures.rtt99_ms[r]), v, r), lambda v: v.figures.rtt99_ms, largest_first=True),
    Column("jit", "JIT", 5, "jitter, p95 − min of the round trip, ms", 6,
           lambda v, r: _rtt(float(v.figures.jitter_ms[r]), v, r), lambda v: v.figures.jitter_ms, largest_first=True),
    Column("loss", "LOSS", 5, "round trips that never came back", 4, _loss, lambda v: v.figures.loss,
           largest_first=True),
    Column("up", "UP", 6, "upload, Mbit/s; ≥ where the path was not filled", 7,
           lambda v, r: _number(float(v.figures.up_mbps[r]), v, r, int(v.figures.up_kind[r])),
           lambda v: v.figures.up_mbps),
    Column("down", "DN", 6, "download, Mbit/s; ≥ where the path was not filled", 10,
           lambda v, r: _number(float(v.figures.down_mbps[r]), v, r, int(v.figures.down_kind[r])),
           lambda v: v.figures.down_mbps),
    Column("layer", "LAYER", 6, "ms of one decoder layer of the model; ? has a reason on the node's screen", 4, _layer,
           lambda v: v.figures.layer_ms, largest_first=True),
    Column("device", "DEVICE", 14, "what computes there", 12, _device, lambda v: _text(v, _device), "<", grows=10),
    Column("util", "UTIL", 5, "GPU load", 14, _util, lambda v: v.swarm.nodes["gpu_util_percent"], largest_first=True),
    Column("vram", "VRAM", 6, "GiB of memory that layers may take and are free", 13, _vram,
           lambda v: np.where(np.isfinite(v.swarm.nodes["vram_free_bytes"]), v.swarm.nodes["vram_free_bytes"],
                              v.swarm.nodes["vram_bytes"])),
    Column("age", "AGE", 4, "since it was last heard", 9, _age, lambda v: v.figures.age_s, largest_first=True),
    Column("recent", "RTT99 60s", 12, "its worst round trip above the least of the minute; full: half as much again", 8,
           _spark, lambda v: v.figures.rtt99_ms, "<", largest_first=True),
)  # fmt: skip

# words above the titles, where there is room: what the columns beside each other are about
GROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("a token", ("share",)),
    ("the swarm would win, tok/s", ("win", "cause", "typical", "without", "for")),
    ("paths, ms and Mbit/s", ("rtt50", "rtt99", "jit", "loss", "up", "down")),
    ("the machine", ("layer", "device", "util", "vram")),
)
GROUP_OF: Final = {name: words for words, names in GROUPS for name in names}

BY_NAME: Final = {column.name: column for column in COLUMNS}


def offered(names: Sequence[str], *, marked: bool) -> tuple[Column, ...]:
    """Those a person chose (all where `names` is empty); the node's name always, differences only beside a mark."""
    return tuple(
        c for c in COLUMNS if (not names or c.name in names or not c.rank or c.marked) and (marked or not c.marked)
    )


def choose(width: int, columns: tuple[Column, ...] = offered((), marked=False)) -> tuple[tuple[Column, int], ...]:
    """The columns that fit in `width`, in their order, each with its width: the least important give way first."""
    chosen: set[str] = set()
    left = width
    for column in sorted(columns, key=lambda c: c.rank):
        if column.width + 1 <= left:
            chosen.add(column.name)
            left -= column.width + 1
        elif column.rank:
            break
    found = []
    for column in (c for c in columns if c.name in chosen):
        extra = min(column.grows, left)
        left -= extra
        found.append((column, column.width + extra))
    return tuple(found)
