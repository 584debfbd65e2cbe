"""Assess a prediction: what it is good for and what would help, as text and as JSON keys next to `prediction`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from swarm_predict.advice.sensitivity import Gain, gains
from swarm_predict.advice.suggestions import BatchGain, better_batch, cheap_gains
from swarm_predict.advice.verdicts import BASELINES, Baseline, Verdict, like, verdicts
from swarm_predict.forecast.prediction import predict
from swarm_predict.forecast.redundancy import is_checked, price, unchecked
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.text import safe
from swarm_protocol.units import iso_utc
from swarmtop.analysis.runs.engine_runs import Watched, at_placement, baselines
from swarmtop.text import quantities
from swarmtop.text.prediction import wrapped

UNWRAPPED: Final = 10_000  # sources are cut, not wrapped: five lines are read, fifteen are not
MIN_WRAPPED: Final = 16  # cells of a last column, however narrow the page
SHOWN_GAINS: Final = 5
WORTH_SHOWING: Final = 0.005  # of the time per token


@dataclass(frozen=True, slots=True)
class Judgement:
    verdicts: tuple[Verdict, ...]
    gains: tuple[Gain, ...]
    trust: str | None = None  # what checks cost, where some were requested
    batch: BatchGain | None = None  # of most tokens in total
    measured: Watched | None = None  # of an engine that ran exactly this placement
    baselines: tuple[Watched, ...] = ()  # other services that were watched
    params: float = 0.0  # of the model


def judge(swarm: Swarm, model: ModelShape, load: Workload, found: Prediction) -> Judgement | None:
    """Assess; None for what does not fit: no speed, no verdict."""
    if not found.fits:
        return None
    trust = None
    if is_checked(load):
        trust = price(found, predict(swarm, model, found.placement, unchecked(load)), load)
    helps = [
        *gains(swarm, model, found.placement, load, found),
        *cheap_gains(swarm, model, found.placement, load, found),
    ]
    return Judgement(
        verdicts=verdicts(found, load.streams),
        gains=tuple(sorted(helps, key=lambda gain: (-gain.gain_ms, gain.node or "", gain.change))),
        trust=trust,
        batch=better_batch(swarm, model, found.placement, load),
        measured=at_placement(swarm.runs, found.placement),
        baselines=baselines(swarm.runs),
        params=model.params,
    )


def judgement_object(judged: Judgement | None) -> dict[str, object]:
    if judged is None:
        return {
            "verdicts": None,
            "sensitivity": None,
            "batch": None,
            "trust": None,
            "baselines": None,
            "watched": None,
        }
    return {
        "verdicts": [{"workload": v.workload, "level": v.level, "why": v.why} for v in judged.verdicts],
        "sensitivity": [
            {"node": g.node, "change": g.change, "gain_ms": g.gain_ms, "tokens_per_s": g.tokens_per_s}
            for g in judged.gains
        ],
        "batch": None
        if judged.batch is None
        else {
            "batch": judged.batch.batch,
            "throughput_tokens_per_s": judged.batch.total_tokens_per_s,
            "tokens_per_s": judged.batch.tokens_per_s,
        },
        "trust": judged.trust,
        "baselines": [
            *(
                {
                    "name": row.label,
                    "tokens_per_s": row.tokens_per_s,
                    "total_tokens_per_s": None,
                    "first_token_ms": row.ttft_ms,
                    "source": f"measured, {row.n} requests, the last {iso_utc(row.at_ns)}",
                }
                for row in judged.baselines
            ),
            *(
                {
                    "name": row.name,
                    "tokens_per_s": row.tokens_per_s,
                    "total_tokens_per_s": row.total_tokens_per_s,
                    "first_token_ms": row.first_token_ms,
                    "source": row.source,
                }
                for row in BASELINES
                if like(row, judged.params)
            ),
        ],
        "watched": _measured_object(judged.measured),
    }


def judgement_text(judged: Judgement, found: Prediction, width: int, *, published: bool = False) -> str:
    """Return the text. `published`: with published speeds of models of this size."""
    lines = ["good for", *columns([(v.workload, v.level, v.why) for v in judged.verdicts], width)]
    if judged.trust:
        lines += ["", *wrapped(judged.trust, width)]
    worth = _merged(g for g in judged.gains if g.gain_ms > WORTH_SHOWING * found.tpot_ms.p50)[:SHOWN_GAINS]
    if worth:
        rows = [(who, g.change, quantities.signed_ms(-g.gain_ms), quantities.rate(g.tokens_per_s)) for who, g in worth]
        lines += ["", "would help, each alone", *columns(rows, width)]
    if judged.batch is not None:
        total, each = quantities.rate(judged.batch.total_tokens_per_s), quantities.rate(judged.batch.tokens_per_s)
        lines += ["", f"for more throughput: --batch {judged.batch.batch} gives {total} ({each} each sequence)"]
    if judged.measured is not None:
        off = found.tokens_per_s.p50 / judged.measured.tokens_per_s - 1
        lines = [*wrapped(f"{_watched(judged.measured)}, so predicted {off:+.0%}", width), "", *lines]
    if judged.baselines:
        services = [(safe(row.label, 60), _watched(row), _times(found, row)) for row in judged.baselines]
        lines += ["", "other services, measured", *columns(services, width)]
    if published:
        alike = [_baseline(row) for row in BASELINES if like(row, judged.params)]
        table = columns(alike, UNWRAPPED) if alike else ["  nothing of this size"]
        lines += ["", "published by others for models of this size, not measured here", *table]
    return "\n".join(quantities.fit(line, width).rstrip() for line in lines) + "\n"


def _merged(gains: Iterable[Gain]) -> list[tuple[str, Gain]]:
    """Join machines for which one change gains the same: those at the two ends of a path, for a shorter round trip."""
    machines: dict[tuple[str, str], tuple[list[str], Gain]] = {}
    for gain in gains:
        same = (gain.change, quantities.signed_ms(-gain.gain_ms))
        machines.setdefault(same, ([], gain))[0].append(safe(gain.node) if gain.node else "all")
    return [
        (" or ".join(names[:2]) if len(names) <= 2 else f"any of {len(names)} machines", gain)
        for names, gain in machines.values()
    ]


def _measured_object(row: Watched | None) -> dict[str, object] | None:
    if row is None:
        return None
    return {
        "tokens_per_s": row.tokens_per_s,
        "first_token_ms": row.ttft_ms,
        "requests": row.n,
        "time": iso_utc(row.at_ns),
    }


def _watched(row: Watched) -> str:
    requests = f"{row.n} request{'s' if row.n != 1 else ''}"
    return f"measured {quantities.rate(row.tokens_per_s)}, first token {quantities.ms(row.ttft_ms)} ({requests})"


def _times(found: Prediction, row: Watched) -> str:
    """Return how far this swarm is from it."""
    ratio = row.tokens_per_s / found.tokens_per_s.p50
    return f"{ratio:.1f} times as fast" if ratio >= 1 else f"this swarm is {1 / ratio:.1f} times as fast"


def _baseline(row: Baseline) -> tuple[str, ...]:
    speed = (
        quantities.rate(row.tokens_per_s) if row.tokens_per_s else f"{quantities.rate(row.total_tokens_per_s)} in total"
    )
    first = f", first token {quantities.ms(row.first_token_ms)}" if row.first_token_ms else ""
    return (row.name, speed + first, row.source)


def columns(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Format padded columns, indented by two; the last one is wrapped under itself."""
    widths = [max(quantities.width(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        before = "  " + "  ".join([*(quantities.pad(row[i], cells) for i, cells in enumerate(widths)), ""])
        left = max(MIN_WRAPPED, width - quantities.width(before))
        first, *rest = textwrap.wrap(row[-1], left, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [(before + first).rstrip(), *(" " * quantities.width(before) + text for text in rest)]
    return lines
