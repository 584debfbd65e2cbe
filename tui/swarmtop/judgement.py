"""What a prediction is good for and what would help it, as text for people and as keys beside those of `answer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_predict.models import ModelShape
from swarm_predict.predict import predict
from swarm_predict.sensitivity import Gain, gains
from swarm_predict.trust import is_checked, price, unchecked
from swarm_predict.types import Prediction, Workload
from swarm_predict.verdict import BASELINES, Baseline, Verdict, verdicts
from swarm_protocol.swarm import Swarm
from swarm_protocol.text import safe
from swarm_protocol.units import iso_utc
from swarmtop import show
from swarmtop.answer import wrapped
from swarmtop.watched import Watched, at_placement, baselines

SHOWN_GAINS: Final = 5
WORTH_SHOWING: Final = 0.005  # of the time per token


@dataclass(frozen=True, slots=True)
class Judgement:
    verdicts: tuple[Verdict, ...]
    gains: tuple[Gain, ...]
    trust: str | None = None  # what checks cost, where some are asked for
    measured: Watched | None = None  # of an engine that ran this very placement
    baselines: tuple[Watched, ...] = ()  # other services that somebody watched


def judge(swarm: Swarm, model: ModelShape, load: Workload, found: Prediction) -> Judgement | None:
    """None for what does not fit: no speed, no verdict."""
    if not found.fits:
        return None
    trust = None
    if is_checked(load):
        trust = price(found, predict(swarm, model, found.placement, unchecked(load)), load)
    return Judgement(
        verdicts(found, load.streams),
        gains(swarm, model, found.placement, load, found),
        trust,
        at_placement(swarm.runs, found.placement),
        baselines(swarm.runs),
    )


def judgement_object(judged: Judgement | None) -> dict[str, object]:
    if judged is None:
        return {"verdicts": None, "sensitivity": None, "trust": None, "baselines": None, "measured": None}
    return {
        "verdicts": [{"workload": v.workload, "level": v.level, "why": v.why} for v in judged.verdicts],
        "sensitivity": [
            {"node": g.node, "change": g.change, "gain_ms": g.gain_ms, "tokens_per_s": g.tokens_per_s}
            for g in judged.gains
        ],
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
            ),
        ],
        "measured": _measured_object(judged.measured),
    }


def judgement_text(judged: Judgement, found: Prediction, width: int) -> str:
    lines = ["good for", *_columns([(v.workload, v.level, v.why) for v in judged.verdicts])]
    if judged.trust:
        lines += ["", *wrapped(judged.trust, width)]
    worth = [g for g in judged.gains if g.gain_ms > WORTH_SHOWING * found.tpot_ms.p50][:SHOWN_GAINS]
    if worth:
        rows = [
            (safe(g.node) if g.node else "all", g.change, show.signed_ms(-g.gain_ms), show.rate(g.tokens_per_s))
            for g in worth
        ]
        lines += ["", "would help, each alone", *_columns(rows)]
    if judged.measured is not None:
        off = found.tokens_per_s.p50 / judged.measured.tokens_per_s - 1
        lines = [*wrapped(f"{_watched(judged.measured)}, so predicted {off:+.0%}", width), "", *lines]
    if judged.baselines:
        services = [(safe(row.label, 60), _watched(row), _times(found, row)) for row in judged.baselines]
        lines += ["", "other services, measured", *_columns(services)]
    lines += ["", "published by others, not measured here", *_columns([_baseline(row) for row in BASELINES])]
    return "\n".join(show.fit(line, width).rstrip() for line in lines) + "\n"


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
    return f"measured {show.rate(row.tokens_per_s)}, first token {show.ms(row.ttft_ms)} ({requests})"


def _times(found: Prediction, row: Watched) -> str:
    """How far this swarm is from it."""
    ratio = row.tokens_per_s / found.tokens_per_s.p50
    return f"{ratio:.1f} times as fast" if ratio >= 1 else f"this swarm is {1 / ratio:.1f} times as fast"


def _baseline(row: Baseline) -> tuple[str, ...]:
    speed = show.rate(row.tokens_per_s) if row.tokens_per_s else f"{show.rate(row.total_tokens_per_s)} in total"
    first = f", first token {show.ms(row.first_token_ms)}" if row.first_token_ms else ""
    return (row.name, speed + first, row.source)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(show.width(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  " + "  ".join([*(show.pad(row[i], width) for i, width in enumerate(widths)), row[-1]]).rstrip()
        for row in rows
    ]
