"""How sure a prediction and the choice of a plan are: lines for people, keys for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm_predict.advice.choice import Choice
from swarm_predict.formats import FormatSpeed
from swarm_predict.types import Prediction
from swarm_protocol.text import safe
from swarmtop.text import quantities

NOTHING: Final = 0.005  # of a token's time: less was not measured
ALL: Final = 0.995


def speed_text(found: Prediction) -> str:
    """`about 9.8 tok/s (5.6 … 14), from what machines like these gave others; nothing here was measured yet`."""
    speed = found.tokens_per_s
    figures = quantities.spread(speed.p5, speed.p50, speed.p95, "tok/s")
    return figures if found.measured >= ALL else f"about {figures}"


def basis_text(found: Prediction) -> str | None:
    """What the interval rests on, where not everything was measured."""
    if found.measured >= ALL:
        return None
    if found.measured < NOTHING:
        return "from what machines like these gave others; nothing here was measured yet"
    return (
        f"{quantities.percent(found.measured)} of a token's time rests on measurements here, "
        "the rest on what machines like these gave others"
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
        "measure_next": [
            {"node": measure.node, "what": measure.what, "narrows": measure.narrows} for measure in choice.measure_next
        ],
    }


def choice_lines(choice: Choice | None) -> list[str]:
    if choice is None:
        return []
    lines = []
    if choice.runner_up is not None:
        rival = ", ".join(f"{safe(stage.node)}:{stage.first}-{stage.last}" for stage in choice.runner_up)
        lines.append(
            f"the choice: best in {quantities.percent(choice.share_best)} of the draws of what is not measured; "
            f"the runner-up is {rival}"
        )
    if choice.measure_next:
        named = "; ".join(
            f"{measure.what} of {safe(measure.node)} (narrows the interval by {quantities.percent(measure.narrows)})"
            for measure in choice.measure_next
        )
        lines.append(f"measure first: {named}")
    return lines


def formats_object(formats: Sequence[FormatSpeed]) -> list[dict[str, object]]:
    return [{"weights": entry.weights, "tokens_per_s": entry.tokens_per_s} for entry in formats]


def formats_line(formats: Sequence[FormatSpeed]) -> str | None:
    """`other weights on these machines: q4_k_m 21.0 tok/s, fp16 13.0 tok/s`."""
    if len(formats) < 2:
        return None
    said = ", ".join(
        f"{entry.weights} {'does not fit' if entry.tokens_per_s is None else quantities.rate(entry.tokens_per_s)}"
        for entry in formats
    )
    return f"the best plan with other weights: {said}"
