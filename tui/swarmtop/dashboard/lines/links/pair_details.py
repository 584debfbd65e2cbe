"""Describe the chosen pair of nodes below the matrix: both directions, and whether their two ends agree."""

from __future__ import annotations

import math

import numpy as np

from swarm_protocol.snapshot.estimates.pooled_loss import loss_error
from swarm_protocol.snapshot.swarm import Kind, Path, Transport
from swarmtop.analysis.ranking.node_figures import age_s
from swarmtop.dashboard.lines.links.grid import LinksState, Pair
from swarmtop.dashboard.lines.styled import Block, Line, clean, fill_line, fit, line
from swarmtop.dashboard.state.link_metrics import LINK_METRICS, LinkMetric, then, values_between
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities


def cell_details(view: View, state: LinksState, chosen: Pair, width: int) -> Block:
    """Return both directions of the chosen pair; of a cell of many links, the one its value belongs to."""
    source, target = chosen.source, chosen.target
    if source == target:
        return [line((f" {clean(view.swarm.facts[source].name)} to itself: no link", "dim"))]
    block: Block = []
    if chosen.of > 1:
        which = {"max": "worst", "median": "worst", "min": "best"}[state.pool]
        block.append(line((f" {which} of {chosen.of} links in this cell", "dim")))
    if state.since_mark and view.mark is not None:
        block.append(_since_mark(view, LINK_METRICS[state.metric], source, target, width))
    for a, b in ((source, target), (target, source)):
        block += _direction(view, a, b, width)
    block.append(_agreement(view, source, target, width))
    return block


def _direction(view: View, a: int, b: int, width: int) -> Block:
    links = view.swarm.links
    names = f" {clean(view.swarm.facts[a].name, 40)} → {clean(view.swarm.facts[b].name, 40)}"
    kind = Kind(int(links["kind"][a, b]))
    rtt = kind if kind is Kind.ESTIMATE else Kind.MEASURED
    rate_kind = int(links["mbps_kind"][a, b])
    path = Path(int(links["path"][a, b]))
    age = quantities.seconds(quantities.optional(float(age_s(links["at_ns"][a : a + 1, b], view.now_ns)[0])))
    sent = int(links["sent"][a, b])
    measured = links["at_ns"][a, b] > 0  # a link written by hand has neither packets nor age
    where = path.name.lower() if path else "no path"
    reason: Line = ()
    if why := quantities.why(view.swarm, a, b):
        by_tcp = links["hop_bytes"][a, b] > 0 and links["hop_transport"][a, b] == Transport.TCP
        reason = line((f"{'TCP only' if by_tcp else 'no path'}: {clean(why, 60)}", "warn"))
        where = "rtt by the collector" if path is Path.RELAYED else "tried by UDP"
    parts = [
        reason,
        line(("rtt ", "dim"), quantities.figure(links["rtt_p50_ms"][a, b], rtt),
             (" p99 ", "dim"), quantities.ms(links["rtt_p99_ms"][a, b], rtt)),
        _one_way(view, a, b),
        line(("loss ", "dim"), quantities.percent(links["loss"][a, b]), (f" of {sent}" if sent else "", "dim"),
             *_pooled(links["pooled_loss"][a, b], links["pooled_sent"][a, b], sent)),
        line(("upload ", "dim"), quantities.mbps(links["mbps"][a, b], Kind(rate_kind) if rate_kind else Kind.MEASURED),
             (_over(links["mbps_transport"][a, b]), "dim")),
        line(("jitter ", "dim"), quantities.ms(links["jitter_ms"][a, b], rtt)),
        line(("hop ", "dim"), quantities.ms(links["hop_p50_ms"][a, b]), (_over(links["hop_transport"][a, b]), "dim")),
        line((f"{where}, {age} old" if measured else where, "dim")),
        line((f"by {clean(way, 100)}", "dim")) if (way := quantities.way(view.swarm, a, b)) else (),
    ]  # fmt: skip
    parts = [part for part in parts if part]
    if width < 60:
        return [line((names.strip(), "strong")), *[line(" ", *part) for part in parts]]
    return [fill_line([line((names, "strong")), *parts], width, "  ")]


def _pooled(share: float, packets: float, sent: int) -> Line:
    """Return the loss over recent windows of both ends, if they show more than the newest one."""
    if not packets > sent or math.isnan(share):
        return ()
    error = f" ±{quantities.percent(float(loss_error(share, packets)))}" if share > 0 else ""
    return line((", lately ", "dim"), quantities.percent(share), (error, "dim"))


def _one_way(view: View, a: int, b: int) -> Line:
    """Return the delays of both directions, marked as estimates unless they are written by hand."""
    delay, error = (float(view.swarm.links[name][a, b]) for name in ("oneway_ms", "oneway_error_ms"))
    if math.isnan(delay):
        return ()
    if math.isnan(error):
        return line(("one way ", "dim"), quantities.ms(delay, Kind.MEASURED))
    return line(("one way ", "dim"), quantities.ms(delay, Kind.ESTIMATE), (f" ±{quantities.figure(error)}", "dim"))


def _since_mark(view: View, metric: LinkMetric, source: int, target: int, width: int) -> Line:
    assert view.mark is not None
    pair = view.swarm, metric, np.array([source]), np.array([target])
    before, now = float(then(*pair, view.mark.links)[0, 0]), float(values_between(*pair)[0, 0])
    return fit(line((f" {metric.title} ", "dim"), f"{quantities.figure(before)} → {quantities.figure(now)} ",
                    (f"{metric.unit} since {view.clock(view.mark.at_ns)}", "dim")), width)  # fmt: skip


def _over(transport: int) -> str:
    """Return the transport unless it is TCP, which engines use."""
    return {Transport.QUIC: " over QUIC", Transport.RELAY: " by the collector", Transport.UDP: " by trains"}.get(
        Transport(int(transport)), ""
    )


def _agreement(view: View, a: int, b: int, width: int) -> Line:
    there, back = float(view.swarm.links["rtt_p50_ms"][a, b]), float(view.swarm.links["rtt_p50_ms"][b, a])
    if np.isnan(there) or np.isnan(back) or max(there, back) <= 0:
        return line((" only one end measured it" if np.isnan(there) != np.isnan(back) else " nothing measured", "dim"))
    apart = abs(there - back) / max(there, back)
    return fit(line((f" both ends {'agree' if apart <= 0.2 else 'disagree'} ({quantities.percent(apart)} apart)",
                     "dim" if apart <= 0.2 else "warn")), width)  # fmt: skip
