"""Format a prediction or a plan as text for people and as the JSON object that scripts rely on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from swarm_predict.types import Plan, Prediction
from swarm_protocol.text import safe
from swarm_protocol.units import gib
from swarmtop.analysis.plans.confidence import ALL, basis_text, speed_text
from swarmtop.text import quantities

BAR_MAX: Final = 72  # cells; longer bars are not read any better
PARTS: Final = ("compute", "network", "overhead", "head")


def prediction_object(found: Prediction) -> dict[str, object]:
    tpot, speed = found.tpot_ms, found.tokens_per_s
    return {
        "model": found.model,
        "weights": found.weights,
        "engine": found.engine,
        "client": found.client,
        "placement": [{"node": s.node, "first": s.first, "last": s.last} for s in found.placement],
        "fits": found.fits,
        "measured": found.measured,
        "observed_runs": found.runs,
        "tpot_ms": {"mean": tpot.mean, "p5": tpot.p5, "p50": tpot.p50, "p95": tpot.p95},
        "tokens_per_s": {"p5": speed.p5, "p50": speed.p50, "p95": speed.p95},
        "throughput_tokens_per_s": found.throughput_tokens_per_s,
        "ttft_ms": {"p50": found.ttft_ms.p50, "p95": found.ttft_ms.p95},
        "breakdown_ms": {part: getattr(found.breakdown_ms, part) for part in PARTS},
        "stages": [
            {
                "node": s.node,
                "layers": s.layers,
                "compute_ms": s.compute_ms,
                "hop_ms": s.hop_ms,
                "memory_gib": gib(s.memory_bytes),
                "memory_free_gib": gib(s.memory_free_bytes),
            }
            for s in found.stages
        ],
        "limited_by": found.limited_by,
        "prompt_limited_by": found.prompt_limited_by or None,
        "notes": list(found.notes),
    }


def plan_object(
    plan: Plan, launch: tuple[str, ...] | None, judged: dict[str, object] | None = None
) -> dict[str, object]:
    """`launch` is null where no launch lines were requested; `judged`: the keys of `assessment`."""
    return {
        **prediction_object(plan.prediction),
        **(judged or {}),
        "objective": plan.objective,
        "bound_ms": plan.bound_ms,
        "gap": plan.gap,
        "left_out": [{"node": each.node, "why": each.why} for each in plan.left_out],
        "launch": None if launch is None else list(launch),
    }


def launch_text(lines: Sequence[str]) -> str:
    """The launch lines below a prediction."""
    return "\n" + "\n".join(("launch", *(f"  {line}" for line in lines))) + "\n"


def prediction_text(found: Prediction, width: int) -> str:
    """The speed, a row a stage, the bar of where the time goes, and what was assumed."""
    tpot, first = found.tpot_ms, found.ttft_ms
    client = f", client {safe(found.client)}" if found.client else ", client at the first stage"
    lines = [
        f"{safe(found.model)} {found.weights}, {found.engine}{client}",
        "",
        *_speed_lines(found, width),
        # the parts of the bar are means and add up to this mean, which is above the median
        f"per token     {quantities.spread(tpot.p5, tpot.p50, tpot.p95, 'ms')}, {quantities.ms(tpot.mean)} on average",
        f"first token   {quantities.ms(first.p50)}, p95 {quantities.ms(first.p95)}",
        f"throughput    {quantities.rate(found.throughput_tokens_per_s)} on average, all requests together",
        "",
        *stage_table(found),
        "",
        *breakdown_lines(found, min(width, BAR_MAX)),
        *wrapped(limit_text(found), width, ""),
    ]
    if not found.fits:
        lines.append("does not fit into memory")
    if found.notes:
        lines += ["", "assumed", *(line for note in found.notes for line in wrapped(note, width))]
    return "\n".join(lines) + "\n"


LIMITS: Final = {
    "rtt": "round trips", "jitter": "jitter", "upload": "uplinks", "compute": "compute", "memory": "memory",
    "overhead": "software",
}  # fmt: skip


def limit_text(found: Prediction) -> str:
    """`limited by rtt; prompts by attic's uplink, tokens by round trips`, where the two differ."""
    tokens = LIMITS[found.limited_by]
    alike = found.prompt_limited_by == tokens or (tokens == "compute" and "compute" in found.prompt_limited_by)
    if not found.prompt_limited_by or alike:
        return f"limited by {found.limited_by}"
    prompts = safe(found.prompt_limited_by)
    return f"limited by {found.limited_by}: prompts are limited by {prompts}, tokens by {tokens}"


def _speed_lines(found: Prediction, width: int) -> list[str]:
    """The speed, and what its interval rests on, on one line where the page is wide enough."""
    speed, basis = f"one stream    {speed_text(found)}", basis_text(found)
    if basis is None:
        return [speed]
    line = f"{speed}, {basis}"
    return [line] if quantities.width(line) <= width else [speed + ",", *wrapped(basis, width, " " * 14)]


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """A note as an item of a list, folded at `width`; names are never broken."""
    return textwrap.wrap(
        safe(text, 1000),
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent if len(indent) > 2 else indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def stage_table(found: Prediction) -> list[str]:
    titles = ("STAGE", "NODE", "LAYERS", "COMPUTE ms", "HOP ms", "MEMORY GiB", "FREE GiB")
    rows = [
        (
            str(number),
            safe(cost.node),
            f"{stage.first}-{stage.last}",
            quantities.figure(cost.compute_ms),
            quantities.figure(cost.hop_ms),
            quantities.figure(gib(cost.memory_bytes)),
            quantities.figure(gib(cost.memory_free_bytes)),
        )
        for number, (stage, cost) in enumerate(zip(found.placement, found.stages, strict=True), 1)
    ]
    return table(titles, rows, words={1})


def table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, words: set[int]) -> list[str]:
    """Columns under their titles: figures to the right, those of `words` to the left."""
    widths = [max(quantities.width(line[i]) for line in (titles, *rows)) for i in range(len(titles))]
    return [
        "  ".join(quantities.pad(text, widths[i], right=i not in words) for i, text in enumerate(line)).rstrip()
        for line in (titles, *rows)
    ]


def breakdown_lines(found: Prediction, cells: int) -> list[str]:
    """Return the bar with a legend of its shades below."""
    parts = [getattr(found.breakdown_ms, part) for part in PARTS]
    legend = "  ".join(
        f"{shade} {part} {quantities.ms(value)}"
        for shade, part, value in zip(quantities.BAR, PARTS, parts, strict=True)
    )
    return [quantities.bar(parts, cells), legend]


def among_considered(plan: Plan) -> str:
    """Return ` among the 4 machines with enough data`, the set that an optimum holds for; empty: all machines."""
    if not plan.left_out:
        return ""
    if plan.considered == 1:
        return " on the only machine with enough data"
    return f" among the {plan.considered} machines with enough data"


def left_out_lines(plan: Plan, width: int) -> list[str]:
    """Each machine that the plan could not consider, and why. Empty: none."""
    if not plan.left_out:
        return []
    return ["left out", *(line for each in plan.left_out for line in wrapped(f"{safe(each.node)}: {each.why}", width))]


def certificate(plan: Plan) -> str:
    """State the proven quality of the search; where figures are drawn, it holds for their medians."""
    what = "a token" if plan.objective == "latency" else "a step of the slowest part"
    if plan.losses_ms > 0:
        what += f", {quantities.ms(plan.losses_ms)} of it for expected losses"
    among = among_considered(plan)
    if plan.exact or plan.gap <= 0:
        medians = plan.prediction.measured < ALL
        proven = f"the optimum{among}, proven{' with every figure at its median' if medians else ''}"
        return f"best {plan.objective}: {proven} ({quantities.ms(plan.bound_ms)} {what})"
    return (
        f"best {plan.objective} found: within {quantities.percent(plan.gap)} of the optimum{among} "
        f"(no placement is below {quantities.ms(plan.bound_ms)} {what})"
    )
