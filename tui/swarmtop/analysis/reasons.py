"""What a node costs and why, in words: the sentences of the planner's Impact, on every screen the same.

A cost is the best time with the node less the best without it. A cause's milliseconds are what a token would win were
that one thing of the node typical; causes overlap, so they are never shown as shares of the cost.
"""

from __future__ import annotations

from swarm_predict.types import Impact
from swarmtop.dashboard.lines.charts import bar
from swarmtop.dashboard.lines.styled import Block, Line, Span, clean, fill_line, line, line_width, pad, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

LONGEST_BAR = 40  # longer ones shout


def causes(view: View, name: str) -> list[tuple[str, float]]:
    """(cause, ms a token would win were it typical), largest first; only what would win anything."""
    impact = view.impact(name)
    parts = impact.cause_ms.items() if impact is not None else ()
    return sorted(((cause, ms) for cause, ms in parts if ms > 0), key=lambda part: -part[1])


def rounds_to_nothing(ms: float) -> bool:
    """What would read as 0.00 is said in words, and never has a sign."""
    return abs(ms) < 0.005


def cost_text(impact: Impact) -> str:
    """`costs 71.0 ms a token`, `saves 12.0 ms a token`, and whether it is part of the plan."""
    cost = impact.cost_ms
    if cost is None:
        return quantities.UNMEASURED
    if impact.in_placement:
        return (
            "costs nothing"
            if rounds_to_nothing(cost)
            else f"{'costs' if cost > 0 else 'saves'} {quantities.ms(abs(cost))} a token"
        )
    would = (
        "cost nothing"
        if rounds_to_nothing(cost)
        else f"{'cost' if cost > 0 else 'save'} {quantities.ms(abs(cost))} a token"
    )
    return f"would {would} (not placed)"


def gain_text(impact: Impact) -> str:
    gain = impact.gain_ms
    if gain is None:
        return "there is no plan without it"
    if rounds_to_nothing(gain):
        return "the plan without it is as fast"
    return f"the plan without it is {quantities.ms(abs(gain))} {'faster' if gain > 0 else 'slower'}"


def no_cost(view: View, row: int) -> str:
    """Why nothing is known of a node's cost."""
    if view.analysis is None:
        return "planning…"
    if view.analysis.plan is None:
        return f"no placement to compare with: {clean(view.analysis.why_not or 'not known', 200)}"
    note = view.swarm.facts[row].note
    return clean(note) if note else "its cost cannot be known from what is measured"


def why_line(view: View, row: int, rank: int, width: int) -> Line:
    """`why #1 kiln  costs 71.0 ms a token; if typical: rtt −52.0 · compute −18.0`."""
    name = view.swarm.facts[row].name
    head: list[Span] = [(" why ", "dim"), (f"#{rank} {clean(name, 40)}", "strong"), ("  ", "")]
    impact = view.impact(name)
    if impact is None or impact.cost_ms is None:
        return (*head, (no_cost(view, row), "dim"))
    head.append((cost_text(impact), ""))
    parts = [line(f"{cause} ", (f"−{quantities.figure(ms)}", "strong")) for cause, ms in causes(view, name)]
    lead = "; if typical: "
    split = fill_line(parts, width - line_width(tuple(head)) - len(lead) - 1, " · ")
    return (*head, (lead, "dim"), *split) if split else tuple(head)


def cost_lines(view: View, row: int, width: int, most: int = 4) -> Block:
    """The cost, a bar for each cause, and what the plan would be without the node."""
    name = view.swarm.facts[row].name
    impact = view.impact(name)
    if impact is None or impact.cost_ms is None:
        return wrap(f"cost –: {no_cost(view, row)}", width, "dim")[:5]
    block: Block = [line((text, "strong")) for text in _wrapped(cost_text(impact), width)]
    found = causes(view, name)[:most]
    if found:
        block[-1] = (*block[-1], ("; if typical:", "dim"))
    top = max((ms for _, ms in found), default=0.0)
    for cause, ms in found:
        room = max(4, min(LONGEST_BAR, width - 22))
        block.append(line((f" {pad(cause, 9)}", "dim"), f"{pad('−' + quantities.ms(ms), 10, '>')} ",
                          (bar(ms / top, room), cause_role(cause))))  # fmt: skip
    block += [line((text, "dim")) for text in _wrapped(gain_text(impact), width)]
    return block


def _wrapped(text: str, width: int) -> list[str]:
    return ["".join(part for part, _ in row) for row in wrap(text, width)]


def cause_role(cause: str) -> str:
    return "compute" if cause in ("compute", "memory") else "overhead" if cause == "overhead" else "network"
