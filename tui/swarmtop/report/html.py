"""Render a gathered report as one HTML page. Text is escaped by the template; drawings escape their own."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from swarm_predict.types import Prediction
from swarm_protocol import __version__
from swarm_protocol.snapshot.swarm import Kind
from swarm_protocol.text import safe
from swarmtop.analysis.analysis import Analysis
from swarmtop.analysis.plans.confidence import basis_text, speed_text
from swarmtop.commands.monitoring.once import COLUMNS
from swarmtop.dashboard.state.link_metrics import LINK_METRICS, scaled
from swarmtop.report import pictures, svg
from swarmtop.report.gather import Report
from swarmtop.text import quantities
from swarmtop.text.prediction import certificate

# Columns of `--once` that the page says otherwise: by its order, in bold, or in a line below
LEFT_OUT: Final = frozenset({"rank", "role", "typical_tokens_per_s", "cost_ms", "age_s", "why"})


def rendered(report: Report) -> str:
    """Return the whole page."""
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
    # what has no title is for programs
    columns = [column for column in COLUMNS if column.title and column.key not in LEFT_OUT]
    limits = scaled(LINK_METRICS[0], np.where(np.eye(len(swarm), dtype=bool), np.nan, rtt)).limits
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
        "running": _capital(found.headline()) if found.running is not None else None,
        "accused": _accused(found),
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
        "titles": [(c.key, c.title, c.right) for c in columns],
        "routes": Markup(pictures.routes(_routes(found))) if prediction else None,
        "map": Markup(pictures.world_map(swarm, found.stands)),
        "rows": [
            ([(c.key, c.text(row), c.right) for c in columns], row.in_placement, row.why if row.in_placement else "")
            for row in found.rows
        ],
        "heat": Markup(svg.heat_map(swarm.names, rtt, estimated, limits)) if known else None,
        "legend": svg.legend(limits, "ms"),
        "any_estimate": bool(np.any(estimated)),
        "series": [
            (s.title, s.unit, Markup(svg.lines(s.title, s.unit, s.lines)), svg.keys([n for n, _ in s.lines]))
            for s in report.series
        ],
        "events": [(quantities.moment(e.at_ns), e.node, e.kind, e.detail) for e in swarm.events[-20:]][::-1],
    }


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _accused(found: Analysis) -> tuple[str, str] | None:
    """Return (node, why) of the top of the ranking, if the swarm would gain by acting on it."""
    first = found.rows[0] if found.rows else None
    if first is None or not first.in_placement or first.word not in ("slow", "degraded"):
        return None
    return first.name, _capital(first.why)


def _routes(found: Analysis) -> list[tuple[str, Prediction]]:
    """The best, and what runs where that is something else."""
    shown = [("best", found.best)] if found.best is not None else []
    running = found.running.prediction if found.running is not None else None
    if running is not None and (found.best is None or running.placement != found.best.placement):
        shown.append(("running", running))
    return shown


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
