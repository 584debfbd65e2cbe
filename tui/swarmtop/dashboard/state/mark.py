"""Keep a marked moment, and compute what has changed since, for each node (for links: `link_metrics`).

The mark keeps figures, not a frame, so that it costs little and remains while a recording is played.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarmtop.dashboard.lines.styled import Block, Line, clean, fill_line, line
from swarmtop.dashboard.state.link_metrics import MarkedLinks, marked
from swarmtop.text import quantities

if TYPE_CHECKING:
    from swarmtop.dashboard.state.view import View

NOISE = 0.05  # of the greater figure; a smaller change is not worth a line


@dataclass(frozen=True, slots=True)
class Marked:
    """One node at the mark; None is "not known"."""

    name: str
    word: str
    cost_ms: float | None
    rtt99_ms: float | None
    loss: float | None
    up_mbps: float | None
    layer_ms: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    at_ns: int
    nodes: dict[str, Marked]  # by node id
    tokens_per_s: float | None
    links: MarkedLinks


@dataclass(frozen=True, slots=True)
class Change:
    """A node at the mark and now; if one is None, the node has joined or left."""

    node_id: str
    before: Marked | None
    now: Marked | None

    @property
    def cost_ms(self) -> float | None:
        return _difference(self.before, self.now, "cost_ms")

    @property
    def rtt99_ms(self) -> float | None:
        return _difference(self.before, self.now, "rtt99_ms")


def take(view: View) -> Mark:
    rate = view.plan.prediction.tokens_per_s.p50 if view.plan else None
    return Mark(view.swarm.at_ns, _nodes(view), rate, marked(view.swarm))


def _nodes(view: View) -> dict[str, Marked]:
    figures = view.figures
    found = {}
    for row, facts in enumerate(view.swarm.facts):
        found_row = view.ranked.get(facts.name)
        found[facts.node_id] = Marked(
            name=facts.name,
            word=view.word(row),
            cost_ms=found_row.cost_ms if found_row else None,
            rtt99_ms=quantities.optional(float(figures.rtt99_ms[row])),
            loss=quantities.optional(float(figures.loss[row])),
            up_mbps=quantities.optional(float(figures.up_mbps[row])),
            layer_ms=quantities.optional(float(figures.layer_ms[row])),
        )
    return found


def _difference(before: Marked | None, now: Marked | None, figure: str) -> float | None:
    old, new = getattr(before, figure, None), getattr(now, figure, None)
    return None if old is None or new is None else new - old


def changes(view: View, mark: Mark) -> list[Change]:
    """Return the nodes that differ from the mark: those that joined and left first, then by change of cost."""
    now = _nodes(view)
    found = [Change(node, mark.nodes.get(node), now.get(node)) for node in {**mark.nodes, **now}]
    kept = [c for c in found if c.before is None or c.now is None or _parts(c.before, c.now)]

    def size(change: Change) -> tuple[float, float, str]:
        if change.before is None or change.now is None:
            return -float("inf"), 0.0, change.node_id
        return -abs(change.cost_ms or 0.0), -abs(change.rtt99_ms or 0.0), change.node_id

    return sorted(kept, key=size)


def change_lines(view: View, mark: Mark, width: int) -> Block:
    """Return the differences from the mark, the largest first."""
    found = [_line(change, width) for change in changes(view, mark)]
    rate = view.plan.prediction.tokens_per_s.p50 if view.plan else None
    block: Block = []
    if (
        rate is not None
        and mark.tokens_per_s is not None
        and quantities.figure(rate) != quantities.figure(mark.tokens_per_s)
    ):
        block.append(line(("tok/s ", "dim"), *_move(mark.tokens_per_s, rate, worse_up=False)))
    return [*block, *found] or [line(("nothing has changed", "dim"))]


def _line(change: Change, width: int) -> Line:
    node = change.now or change.before
    assert node is not None
    name: Line = line((clean(node.name, 24), "strong"))
    if change.before is None:
        return (*name, ("  new since the mark", "ok"))
    if change.now is None:
        return (*name, ("  gone since the mark", "lost"))
    return fill_line([name, *_parts(change.before, change.now)], width, "  ")


def _parts(before: Marked, now: Marked) -> list[Line]:
    parts: list[Line] = []
    if before.word != now.word:
        parts.append(line((before.word, before.word), " → ", (now.word, now.word)))
    for title, old, new, worse_up in (
        ("cost", before.cost_ms, now.cost_ms, True),
        ("rtt99", before.rtt99_ms, now.rtt99_ms, True),
        ("up", before.up_mbps, now.up_mbps, False),
        ("layer", before.layer_ms, now.layer_ms, True),
    ):
        if old is not None and new is not None and abs(new - old) > NOISE * max(abs(old), abs(new)):
            parts.append(line((f"{title} ", "dim"), *_move(old, new, worse_up=worse_up)))
        elif (old is None) != (new is None):
            parts.append(line((f"{title} ", "dim"), f"{quantities.figure(old)} → {quantities.figure(new)}"))
    if before.loss is not None and now.loss is not None and abs(now.loss - before.loss) >= 0.005:
        parts.append(line(("loss ", "dim"), f"{quantities.percent(before.loss)} → {quantities.percent(now.loss)}"))
    return parts


def _move(old: float, new: float, *, worse_up: bool) -> Line:
    by = new - old
    sign = "+" if by > 0 else "−"
    role = "warn" if (by > 0) == worse_up else "ok"
    return line(
        f"{quantities.figure(old)} → {quantities.figure(new)} ", (f"({sign}{quantities.figure(abs(by))})", role)
    )
