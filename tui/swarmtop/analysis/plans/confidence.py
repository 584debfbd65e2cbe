"""Describe how certain a prediction and the choice of a plan are: lines for people, keys for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm_predict.advice.format_comparison import FormatSpeed
from swarm_predict.advice.plan_confidence import Choice
from swarm_predict.explain.measure_next import ToMeasure
from swarm_predict.types import Prediction
from swarm_protocol.text import safe
from swarmtop.text import quantities

NOTHING: Final = 0.005  # of a token's time: less was not measured
ALL: Final = 0.995


def speed_text(found: Prediction) -> str:
    """`about 9.8 tok/s (5.6 … 14)`; `about` as long as some of it is not measured."""
    speed = found.tokens_per_s
    figures = quantities.spread(speed.p5, speed.p50, speed.p95, "tok/s")
    return figures if found.measured >= ALL or found.runs else f"about {figures}"


def basis_text(found: Prediction) -> str | None:
    """Say what the interval is based on; None if everything was measured."""
    if found.measured >= ALL:
        return None
    if found.runs:
        return (
            f"from {found.runs} observed run{'s' if found.runs > 1 else ''} and published results of similar machines"
        )
    if found.measured < NOTHING:
        return "from published results of similar machines; nothing measured here yet"
    return (
        f"{quantities.percent(found.measured)} of the time per token measured here, "
        "the rest from published results of similar machines"
    )


def choice_object(choice: Choice | None) -> dict[str, object]:
    if choice is None:
        return {"choice": None, "measure_next": []}
    rival = choice.runner_up
    return {
        "choice": {
            "share_best": choice.share_best,
            "runner_up": None
            if rival is None
            else [{"node": stage.node, "first": stage.first, "last": stage.last} for stage in rival],
        },
        "measure_next": [to_measure_object(each) for each in choice.measure_next],
    }


def choice_lines(choice: Choice | None) -> list[str]:
    if choice is None:
        return []
    lines = []
    if choice.runner_up is not None:
        rival = ", ".join(f"{safe(stage.node)}:{stage.first}-{stage.last}" for stage in choice.runner_up)
        lines.append(
            f"confidence: this placement is the best one in {quantities.percent(choice.share_best)} of the draws; the "
            f"runner-up is {rival}"
        )
    if choice.measure_next:
        lines.append(f"measure first: {to_measure_text(choice.measure_next)}")
    return lines


def to_measure_object(each: ToMeasure) -> dict[str, object]:
    """A figure of a node, or of the path between two."""
    where = {"link": [each.node, each.to]} if each.to else {"node": each.node}
    return {**where, "what": each.what, "narrows": each.narrows}


def to_measure_text(measures: Sequence[ToMeasure]) -> str:
    """`layer times of lab-a4000 (narrows the interval by 42%); round trip and upload of a → b (…)`."""
    return "; ".join(
        f"{each.what} of {safe(each.node)}{f' → {safe(each.to)}' if each.to else ''} "
        f"(narrows the interval by {quantities.percent(each.narrows)})"
        for each in measures
    )


def formats_object(formats: Sequence[FormatSpeed]) -> list[dict[str, object]]:
    return [{"weights": entry.weights, "tokens_per_s": entry.tokens_per_s} for entry in formats]


def formats_line(formats: Sequence[FormatSpeed]) -> str | None:
    """`best plan with other weights: fp16 13.0 tok/s, q4_k_m 21.0 tok/s`."""
    if len(formats) < 2:
        return None
    said = ", ".join(
        f"{entry.weights} {'does not fit' if entry.tokens_per_s is None else quantities.rate(entry.tokens_per_s)}"
        for entry in formats
    )
    return f"best plan with other weights: {said}"
