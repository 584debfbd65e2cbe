"""Draw one node: its hardware, history, peers from worst to best, and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.snapshot.metrics import METRICS
from swarm_protocol.snapshot.swarm import Congestion, Kind, Path, Tcp
from swarm_protocol.units import BYTES_PER_GIB, NS_PER_S, iso_utc
from swarmtop.analysis.ranking.node_figures import STALE_AFTER_S, age_s, link_known
from swarmtop.analysis.ranking.reasons import reason_lines, whole
from swarmtop.analysis.ranking.states import GLYPH
from swarmtop.analysis.ranking.usual_layer import UsualComparison
from swarmtop.dashboard.lines import node_cards
from swarmtop.dashboard.lines.charts.series import axis_label, braille, known, lines_apart, nice_top, spark
from swarmtop.dashboard.lines.events import event_line
from swarmtop.dashboard.lines.styled import (  # fmt: skip
    Block,
    Line,
    Span,
    clean,
    fill_line,
    fit,
    height,
    line,
    pad,
    rule,
    spread,
    wrap,
)
from swarmtop.dashboard.state.view import View
from swarmtop.sources.source import History
from swarmtop.text import quantities

RANGES: Final = ((600, "10 min"), (3600, "1 h"), (86_400, "24 h"), (7 * 86_400, "7 days"), (30 * 86_400, "30 days"))
MAIN_METRICS: Final = (
    "rtt_p99", "rtt_p50", "jitter", "hop", "loss", "up", "layer", "gpu", "cpu", "temp", "vram_free", "power", "clock",
)  # fmt: skip
SMALL_METRICS: Final = ("loss", "layer")
_PATHS: Final = {Path.DIRECT: "direct", Path.PUNCHED: "punched", Path.RELAYED: "relay", Path.ESTIMATED: "estimate"}


@dataclass(frozen=True, slots=True)
class NodeState:
    """The choices of the person on this screen."""

    metric: str = "rtt_p99"
    range_s: int = 600
    peer: int = 0  # line of the peer list that the cursor is on
    layer: UsualComparison | None = None  # of the node shown; None: not computed yet


def peers(view: View, row: int) -> list[int]:
    """Return the rows of peers with any figure, worst round trip (in either direction) first."""
    links = view.swarm.links
    known_links = link_known(view.swarm)
    tried = (links["sent"] > 0) | known_links | np.isfinite(links["mbps"])
    there = np.flatnonzero(tried[row] | tried[:, row])
    p99 = np.fmax(links["rtt_p99_ms"][row], links["rtt_p99_ms"][:, row])
    # no reply at all is worse than any round trip
    key = np.where(np.isnan(p99), np.inf, p99)
    return [int(i) for i in sorted(there, key=lambda i: -key[i]) if i != row]


def screen(view: View, row: int, place: tuple[int, int], state: NodeState, past: Mapping[str, History],
           width: int, rows: int) -> Block:  # fmt: skip
    """The whole body, 1 column of blocks where it is narrow and framed panes where there is room."""
    return laid_out(view, row, place, state, past, width, rows)[0]


def laid_out(view: View, row: int, place: tuple[int, int], state: NodeState, past: Mapping[str, History],
             width: int, rows: int) -> tuple[Block, bool]:  # fmt: skip
    """The screen, and whether it has room for advice."""
    if width >= 120 and rows >= 30:
        from swarmtop.dashboard.lines.panels import node_boxes  # late: brings the drawings

        return node_boxes.wide(view, row, place, state, past, width, rows)
    return _narrow(view, row, place, state, past, width, rows), False


def _narrow(view: View, row: int, place: tuple[int, int], state: NodeState, past: Mapping[str, History],
            width: int, rows: int) -> Block:  # fmt: skip
    small = rows < 18
    block: Block = [title_line(view, row, place, width)]
    about = [identity(view, row), hardware(view, row, state.layer)]
    block += [fill_line(parts, width) for parts in about[: 1 if small else 2]]
    reason = empty_reason(view, row)
    if reason:
        block += wrap(reason, width, "warn")[: 2 if small else 3]
    block.append(rule(width))
    block += chart(view, state, past.get(state.metric), width, 2 if small else 4)
    for metric in () if small else SMALL_METRICS:
        block.append(small_chart(metric, past.get(metric), width))
    if not small and node_cards.has_cards(view, row):
        block.append(node_cards.one_line(view, row, width))
        block += node_cards.missing_figures(view, row, width)
    cost = reason_lines(view, row, width)
    left = rows - len(block)
    happened = events(view, row, 0 if small else 2)
    peer_rows = max(2, left - len(cost) - len(happened))
    block += peer_table(view, row, state.peer, width, peer_rows)
    block += whole(cost[: max(0, rows - len(block))])
    block += happened[: max(0, rows - len(block))]
    return height(block, rows) if len(block) <= rows else block[:rows]


def title_line(view: View, row: int, place: tuple[int, int], width: int) -> Line:
    facts, word = view.swarm.facts[row], view.word(row)
    found = view.ranked.get(facts.name)
    right: list[Span] = [(f"{GLYPH[word]} {word}", word)]
    if found is not None and view.plan is not None:
        place_words = {"in": f"  {quantities.percent(found.share)} of a token", "spare": "  spare", "out": "  left out"}
        right.append((place_words[found.role], ""))
    return spread(line((f" node {place[0]}/{place[1]}  ", "dim"), (clean(facts.name), "strong")), tuple(right), width)


def identity(view: View, row: int) -> list[Line]:
    facts = view.swarm.facts[row]
    age = quantities.seconds(quantities.optional(float(view.figures.age_s[row])))
    return [
        line(("id ", "dim"), clean(facts.node_id, 20)),
        line(clean(facts.region, 30)) if facts.region else (),
        line(("at ", "dim"), clean(facts.host, 40)) if facts.host else (),
        line(clean(facts.system, 60)) if facts.system else (),
        line(("heard ", "dim"), f"{age} ago") if age != quantities.UNMEASURED else (),
    ]


def hardware(view: View, row: int, layer: UsualComparison | None = None) -> list[Line]:
    nodes, facts = view.swarm.nodes, view.swarm.facts[row]

    def number(column: str, write: str, scale: float = 1.0) -> str | None:
        value = float(nodes[column][row])
        return write.format(value / scale) if np.isfinite(value) else None

    free, whole = number("vram_free_bytes", "{:.1f}", BYTES_PER_GIB), number("vram_bytes", "{:.1f}", BYTES_PER_GIB)
    if view.standing == "file":  # it states the total; free memory was not measured
        free = None
    memory = "for layers " if facts.device.startswith("cpu:") else "VRAM "
    found = [
        ("", clean(facts.device, 60) or None),
        (memory, f"{free or quantities.UNMEASURED} free of {whole} GiB" if whole else None),
        ("layer ", layer.text if layer is not None else None),
        ("GPU ", number("gpu_util_percent", "{:.0f}%")),
        ("", number("temp_c", "{:.0f} °C")),
        ("", number("power_w", "{:.0f} W")),
        ("CPU ", number("cpu_percent", "{:.0f}%")),
        ("CPU pressure ", number("cpu_pressure_percent", "{:.0f}%")),
        ("RAM free ", number("ram_free_bytes", "{:.1f} GiB", BYTES_PER_GIB)),
        ("up ", _rate(view, row, "up")),
        ("down ", _rate(view, row, "down")),
        ("UDP ", _nat(view, row)),
        ("TCP ", _tcp(view, row)),
        ("memory ", number("mem_gbps", "{:.0f} GB/s")),
        ("", number("tflops", "{:.1f} TFLOP/s")),
        ("", "throttled" if nodes["throttled"][row] == 1 else None),
    ]
    bad = {"throttled"} | ({layer.text} if layer is not None and layer.slow else set())
    return [line((label, "dim"), (text, "warn" if text in bad else "")) for label, text in found if text]


# what a connection's window does while it rests
_CONGESTION: Final = {Congestion.CUBIC: "cubic", Congestion.RENO: "reno"}
_TCP: Final = {Tcp.SHRINKS: "window shrinks idle", Tcp.KEEPS: "window kept idle", Tcp.PACES: "paced (BBR)"}


def _tcp(view: View, row: int) -> str | None:
    rests = _TCP.get(Tcp(int(view.swarm.nodes["tcp"][row])))
    named = _CONGESTION.get(Congestion(int(view.swarm.nodes["congestion"][row])))
    return ", ".join(text for text in (named, rests) if text) or None


def _nat(view: View, row: int) -> str | None:
    """Return the kind of NAT that STUN found, and when."""
    kind, at_ns = int(view.swarm.nodes["nat"][row]), view.swarm.nodes["host_at_ns"][row : row + 1]
    return f"{quantities.nat(kind)} ({quantities.seconds(float(age_s(at_ns, view.now_ns)[0]))} ago)" if kind else None


def _rate(view: View, row: int, way: str) -> str | None:
    value = float(view.swarm.nodes[f"{way}_mbps"][row])
    kind = int(view.swarm.nodes[f"{way}_kind"][row])
    return quantities.mbps(value, Kind(kind) if kind else Kind.MEASURED) if np.isfinite(value) else None


def empty_reason(view: View, row: int) -> str:
    """Return why there is no layer time, and which command measures it; else the node's own note."""
    facts = view.swarm.facts[row]
    if np.isfinite(view.figures.layer_ms[row]) or not view.model:
        return clean(facts.note)
    if facts.note:
        return f"layer time –: {clean(facts.note)}"
    if view.standing == "file":
        instead = "; estimated from its memory bandwidth" if np.isfinite(view.swarm.nodes["mem_gbps"][row]) else ""
        return f"layer time –: the file gives none for {clean(view.model, 40)}{instead}"
    return f"layer time –: not measured yet for {clean(view.model, 40)}"


def chart_title(state: NodeState, history: History | None) -> Line:
    metric = METRICS[state.metric]
    span = next(label for seconds, label in RANGES if seconds == state.range_s)
    values = [v for v in (history.values if history else ()) if v is not None]
    parts = [line((f"{metric.label} {_unit(state.metric)}, last {span}", "title"))]
    if values:
        scale = _scale(state.metric)
        p50, p95, top = (float(np.quantile(values, q)) * scale for q in (0.5, 0.95, 1.0))
        parts.append(
            line((f"p50 {quantities.figure(p50)}  p95 {quantities.figure(p95)}  max {quantities.figure(top)}", "dim"))
        )
    if history is not None and history.rolled_until_ns:
        parts.append(line(("older part from rollups, ±1 %", "dim")))
    return fill_line(parts, 100, "  ")


def chart(
    view: View, state: NodeState, history: History | None, width: int, rows: int, *, heading: bool = True
) -> Block:
    """Return the chosen metric as a braille line with its axis; gaps are left if nothing was measured."""
    block: Block = [fit((*line(" "), *chart_title(state, history)), width)] if heading else []
    if history is None:
        return block + height([line(("  loading…", "dim"))], rows + 1)
    if not any(known(v) for v in history.values):
        why = "a swarm file has no history" if view.standing == "file" else "nothing measured in this time"
        return block + height([line((f"  {why}", "dim"))], rows + 1)
    scale = _scale(state.metric)
    values = [None if v is None else v * scale for v in history.values]
    top = nice_top(max(v for v in values if v is not None))
    inner = max(4, width - 7)
    drawn = braille(values, inner, rows, top)
    step = lines_apart(top, rows)
    for y, text in enumerate(drawn):
        level = axis_label(top * (rows - y) / rows) if y % step == 0 else ""
        block.append(line((pad(level, 6, ">") + "┤", "dim"), (text, "chart")))
    left, right = view.clock(history.at_ns[0])[:5], view.clock(history.at_ns[-1])[:5]
    if state.range_s > 2 * 86_400:  # the day rather than the minute
        left, right = iso_utc(history.at_ns[0])[5:10], iso_utc(history.at_ns[-1])[5:10]
    gap = max(0, inner - len(left) - len(right))
    block.append(line((pad("0", 6, ">") + "┤" + left + " " * gap + right, "dim")))
    return block


def small_chart(metric: str, history: History | None, width: int) -> Line:
    """Return one line: label, blocks, newest value."""
    label = pad(f"{METRICS[metric].label} {_unit(metric)}", 9)
    values = [None if v is None else v * _scale(metric) for v in history.values] if history else []
    newest = next((v for v in reversed(values) if v is not None), None)
    end = pad(quantities.figure(newest), 7, ">")
    room = max(4, width - len(label) - len(end) - 2)
    if newest is None:
        return line(f" {label}", ("╌" * room, "dim"), end)
    return line(f" {label}", (spark(values, room, gap="╌"), "spark"), end)


def span_words(state: NodeState) -> str:
    return next(label for seconds, label in RANGES if seconds == state.range_s)


def _unit(metric: str) -> str:
    return {"fraction": "%", "bytes": "GiB"}.get(METRICS[metric].unit, METRICS[metric].unit)


def _scale(metric: str) -> float:
    return {"fraction": 100.0, "bytes": 1 / BYTES_PER_GIB}.get(METRICS[metric].unit, 1.0)


_TAIL: Final = 23  # BACK99, PATH and AGE
# title, width, figure of the outward and of the return direction
_PEER_COLUMNS = (("RTT50", 6), ("RTT99", 6), ("JIT", 6), ("LOSS", 6), ("HOP", 6), ("UP Mb", 7), ("DN Mb", 7))


def peer_table(view: View, row: int, cursor: int, width: int, rows: int) -> Block:
    """Return the peers, worst first. Columns give the outward direction; ← is the return direction, as measured by the
    other end."""
    found = peers(view, row)
    name_width = 16 if width < 100 else 22
    columns = list(_PEER_COLUMNS)
    tail = name_width + 3 + sum(w for _, w in columns[:3]) + _TAIL <= width  # else no room for even these
    while name_width + 3 + sum(w for _, w in columns) + _TAIL * tail > width and len(columns) > 3:
        columns.pop()
    head = "   " + pad("PEER", name_width) + "".join(pad(title, w, ">") for title, w in columns)
    block: Block = [line((head + "  BACK99  PATH     AGE" * tail, "head"))]
    if not found:
        alone = "no other node" if len(view.swarm) < 2 else "nothing measured with any peer yet"
        return height([*block, line((f"   {alone}", "dim"))], rows)
    room = max(1, rows - 1)
    cursor = max(0, min(cursor, len(found) - 1))
    start = max(0, min(cursor - room // 2, len(found) - room))
    for i, peer in list(enumerate(found))[start : start + room]:
        block.append(_peer_line(view, row, peer, columns, name_width, selected=i == cursor, tail=tail))
    return height(block, rows)


def _peer_line(
    view: View, row: int, peer: int, columns: list[tuple[str, int]], name_width: int, *, selected: bool, tail: bool
) -> Line:
    links = view.swarm.links
    kind = Kind(int(links["kind"][row, peer]))
    rtt_kind = kind if kind is Kind.ESTIMATE else Kind.MEASURED
    texts = {
        "RTT50": quantities.figure(links["rtt_p50_ms"][row, peer], rtt_kind),
        "RTT99": quantities.figure(links["rtt_p99_ms"][row, peer], rtt_kind),
        "JIT": quantities.figure(links["jitter_ms"][row, peer], rtt_kind),
        "LOSS": quantities.percent(links["loss"][row, peer]),
        "HOP": quantities.figure(links["hop_p50_ms"][row, peer]),
        "UP Mb": _link_rate(view, row, peer),
        "DN Mb": _link_rate(view, peer, row),
    }
    age = age_s(links["at_ns"][row : row + 1, peer], view.now_ns)[0]
    role = "faded" if not np.isnan(age) and age > STALE_AFTER_S else "estimate" if kind is Kind.ESTIMATE else ""
    path = _PATHS.get(Path(int(links["path"][row, peer])), quantities.UNMEASURED)
    spans: list[Span] = [
        (" > " if selected else "   ", "cursor-mark"),
        (pad(clean(view.swarm.facts[peer].name), name_width), "strong" if selected else ""),
    ]
    spans += [(pad(texts[title], w, ">"), role) for title, w in columns]
    if not tail:
        return tuple(spans)
    spans.append((pad(quantities.figure(links["rtt_p99_ms"][peer, row]), 8, ">"), role))
    spans.append((f"  {pad(path, 8)} {pad(quantities.seconds(quantities.optional(float(age))), 4)}", "dim"))
    return tuple(spans)


def _link_rate(view: View, source: int, target: int) -> str:
    value, kind = view.swarm.links["mbps"][source, target], int(view.swarm.links["mbps_kind"][source, target])
    return quantities.figure(value, Kind(kind) if kind else Kind.MEASURED)


def events(view: View, row: int, rows: int) -> Block:
    name = view.swarm.facts[row].name
    own = [event_line(view, e, node=False) for e in view.events if e.node == name]
    return [line(" ", *e) for e in own[:rows]]


def since_ns(view: View, state: NodeState) -> tuple[int, int]:
    """Return the start of the span that the charts cover; it ends at the frame on the screen."""
    return view.swarm.at_ns - state.range_s * NS_PER_S, view.swarm.at_ns
