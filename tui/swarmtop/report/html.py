"""A gathered report as one HTML page. Text is escaped by the template; drawings escape their own."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from swarm_protocol import __version__
from swarm_protocol.snapshot.swarm import Kind
from swarm_protocol.text import safe
from swarmtop.analysis.sureness import basis_text, speed_text
from swarmtop.commands.once import COLUMNS
from swarmtop.report import svg
from swarmtop.report.gather import Report
from swarmtop.text import quantities
from swarmtop.text.prediction import certificate

LIMITS_MS: Final = (10.0, 40.0, 100.0, 200.0)
LEFT_OUT: Final = ("rank", "in_placement")


def rendered(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("swarmtop", "report"),
        autoescape=select_autoescape(("html", "j2"), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_text"] = lambda text: safe(str(text), 300)
    return environment.get_template("page.html.j2").render(**_context(report))


def _context(report: Report) -> dict[str, Any]:
    swarm, found = report.swarm, report.found
    prediction = found.plan.prediction if found.plan is not None else None
    rtt = swarm.links["rtt_p50_ms"]
    estimated = (swarm.links["kind"] == Kind.ESTIMATE).tolist()
    columns = [column for column in COLUMNS if column.key not in LEFT_OUT]
    known = bool(np.isfinite(rtt[~np.eye(len(swarm), dtype=bool)]).any()) if len(swarm) else False
    return {
        "source": swarm.source,
        "version": __version__,
        "moment": quantities.moment(swarm.at_ns) if swarm.at_ns else None,
        "span": f"{quantities.moment(report.since_ns)} to {quantities.moment(report.until_ns)}"
        if report.since_ns
        else None,
        "model": report.model.name,
        "workload": report.workload,
        "nodes": len(swarm),
        "found": found,
        "prediction": prediction,
        "speed": speed_text(prediction) if prediction else None,
        "basis": basis_text(prediction) if prediction else None,
        "token": _spread(prediction.tpot_ms, "ms") if prediction else None,
        "first": quantities.ms(prediction.ttft_ms.p50) if prediction else None,
        "certificate": certificate(found.plan) if found.plan is not None else None,
        "bar": Markup(svg.bar(_parts(prediction))) if prediction else None,
        "parts": [(name, dict(svg.PARTS)[name], quantities.ms(value)) for name, value in _parts(prediction)],
        "stages": _stages(prediction) if prediction else [],
        "without": [
            (w.node, quantities.rate(w.tokens_per_s) if w.tokens_per_s else "nothing fits", w.placement)
            for w in report.without
        ],
        "judged": report.judged,
        "gains": _gains(report),
        "baselines": _baselines(report),
        "measured": _measured(report),
        "titles": [(c.title or c.key, c.right) for c in columns],
        "rows": [([(c.text(row), c.right) for c in columns], row.in_placement) for row in found.rows],
        "heat": Markup(svg.heat_map(swarm.names, rtt, estimated, LIMITS_MS)) if known else None,
        "legend": svg.legend(LIMITS_MS, "ms"),
        "any_estimate": bool(np.any(estimated)),
        "series": [
            (s.title, s.unit, Markup(svg.lines(s.title, s.unit, s.lines)), svg.keys([n for n, _ in s.lines]))
            for s in report.series
        ],
        "events": [(quantities.moment(e.at_ns), e.node, e.kind, e.detail) for e in swarm.events[-20:]][::-1],
    }


def _spread(quantiles: Any, unit: str) -> str:
    return quantities.spread(quantiles.p5, quantiles.p50, quantiles.p95, unit)


def _parts(prediction: Any) -> list[tuple[str, float]]:
    return [] if prediction is None else [(name, getattr(prediction.breakdown_ms, name)) for name, _ in svg.PARTS]


def _stages(prediction: Any) -> list[tuple[str, ...]]:
    return [
        (
            cost.node,
            f"{stage.first}-{stage.last}",
            quantities.figure(cost.compute_ms),
            quantities.figure(cost.hop_ms),
            quantities.gib(cost.memory_bytes),
            quantities.gib(cost.memory_free_bytes),
        )
        for stage, cost in zip(prediction.placement, prediction.stages, strict=True)
    ]


def _gains(report: Report) -> list[tuple[str, str, str, str]]:
    if report.judged is None:
        return []
    worth = [gain for gain in report.judged.gains if gain.gain_ms > 0][:6]
    return [
        (gain.node or "all", gain.change, quantities.signed_ms(-gain.gain_ms), quantities.rate(gain.tokens_per_s))
        for gain in worth
    ]


def _baselines(report: Report) -> list[tuple[str, str, str]]:
    if report.judged is None:
        return []
    return [
        (row.label, quantities.rate(row.tokens_per_s), f"measured, {row.n} requests, {quantities.moment(row.at_ns)}")
        for row in report.judged.baselines
    ]


def _measured(report: Report) -> tuple[str, str, str] | None:
    if report.judged is None or report.judged.measured is None or report.found.plan is None:
        return None
    row = report.judged.measured
    off = report.found.plan.prediction.tokens_per_s.p50 / row.tokens_per_s - 1
    return quantities.rate(row.tokens_per_s), f"{row.n}", f"{off:+.1%}"
