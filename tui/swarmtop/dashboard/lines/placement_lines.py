"""The best placement found beside a person's own, for the chosen model: stages, where a token's time goes, candidates.

`placement_parts` has the pieces; this lays them out for the sizes a terminal has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarm_predict.types import Placement, Plan, Prediction
from swarmtop.dashboard.lines import engine_lines
from swarmtop.dashboard.lines import placement_parts as parts
from swarmtop.dashboard.lines.styled import Block, Line, beside, box, clean, fit, height, line, rule, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.state.what_if import Draft, Study, changes, same
from swarmtop.text import quantities
from swarmtop.text.prediction import considered

Pane = Literal["stages", "candidates"]
WIDE = 120
TALL = 24


@dataclass(frozen=True, slots=True)
class PlacementState:
    cursor: int = 0  # stage
    pane: Pane = "stages"
    pick: int = 0  # candidate
    draft: Draft = ()
    study: Study | None = None  # of the draft, else of the plan; may be of a moment ago
    layer_bytes: float = 0.0
    launch: tuple[str, ...] = ()  # the lines that start what is shown

    def own(self) -> Placement | None:
        return self.draft[-1].placement if self.draft else None

    def prediction(self) -> Prediction | None:
        """Of the draft; None while it is worked out, or where it cannot be."""
        own, study = self.own(), self.study
        return study.prediction if own and study is not None and same(study.placement, own) else None

    def why_not(self) -> str:
        own, study = self.own(), self.study
        return study.why_not if own and study is not None and same(study.placement, own) else ""


def screen(view: View, state: PlacementState, width: int, rows: int) -> Block:
    if view.plan is None:
        return _no_plan(view, width, rows)
    if width >= WIDE and rows >= TALL:
        return _wide(view, view.plan, state, width, rows)
    return _narrow(view, view.plan, state, width, rows)


def question(view: View, plan: Plan | None = None) -> Line:
    words = line((" placement: ", "dim"), (clean(view.model, 50), "strong"), f"  {view.weights}  engine {view.engine}")
    if plan is None:
        return words
    client = clean(plan.prediction.client) if plan.prediction.client else "at the first stage"
    return (*words, ("  client ", "dim"), (client, ""))


def _no_plan(view: View, width: int, rows: int) -> Block:
    if view.analysis is None:
        text, role = "planning…", "dim"
    else:
        text, role = f"no placement: {clean(view.analysis.why_not or 'not known', 300)}", "warn"
    block: Block = [fit(question(view), width), (), *[line(" ", *row) for row in wrap(text, width - 2, role)], ()]
    for note in (n for n in view.analysis.notes if n != view.analysis.why_not) if view.analysis else ():
        block += [line(" ", *row) for row in wrap(f"· {clean(note, 300)}", width - 2, "dim")]
    block += [(), line((" m another model   e another engine", "dim"))]
    return height(block, rows)


def certificate(plan: Plan) -> str:
    """`478 ms, within 2.1 % of the optimum`: of the model that predicts it, proven by the bound beside it."""
    value = plan.prediction.tpot_ms.p50
    among = f" of the {considered(plan)}" if plan.left_out else ""
    if plan.exact:
        return f"{quantities.figure(value)} ms, the optimum{among} (all placements considered)"
    bound = f"(bound {quantities.figure(plan.bound_ms)} ms)"
    return f"{quantities.figure(value)} ms, within {100 * plan.gap:.1f} % of the optimum{among} {bound}"


def notes(view: View, prediction: Prediction, width: int) -> Block:
    out: Block = []
    for note in dict.fromkeys((*prediction.notes, *(view.analysis.notes if view.analysis else ()))):
        for i, row in enumerate(wrap(clean(note, 400), max(10, width - 3))):
            out.append(line((" · " if i == 0 else "   ", "dim"), *row))
    return out


def _totals(prediction: Prediction) -> list[Line]:
    return [
        line(("all streams ", "dim"), quantities.rate(prediction.throughput_tokens_per_s)),
        line(("first token ", "dim"), quantities.ms(prediction.ttft_ms.p50)),
    ]


def _narrow(view: View, plan: Plan, state: PlacementState, width: int, rows: int) -> Block:
    best = plan.prediction
    small = rows < 18
    top: Block = [] if small else [fit(question(view, plan), width)]
    top += [fit(parts.best_line(best), width), fit(parts.draft_line(best, state, width), width), rule(width)]
    bars = parts.token_bars(best, state, width)
    if small and state.pane == "candidates":
        room = rows - len(top)
        return height([*top, *parts.candidate_table(state, width, room, alone=True)], rows)
    if small:
        end = [*bars[:-1], fit(line((" certificate ", "dim"), certificate(plan)), width)]
        room = max(2, rows - len(top) - len(end) - 1)
        return height([*top, *parts.stage_table(view, best, state, width, room), rule(width), *end], rows)
    stages = max(len(best.placement), len(state.own() or ())) + 1
    spare = rows - len(top) - len(bars) - 3  # two rules and the certificate
    table_rows = max(3, min(stages, spare - 4))
    said = [*engine_lines.lines(view, state.prediction() or best), *notes(view, best, width)]
    proof = line((" certificate ", "dim"), certificate(plan))
    low = spare - table_rows
    keep = 0 if state.pane == "candidates" else min(len(said), max(0, low - 4))
    return height([
        *top,
        *parts.stage_table(view, best, state, width, table_rows),
        rule(width),
        *bars,
        rule(width),
        *height(parts.candidate_table(state, width, low - keep), low - keep),
        *height(said, keep),
        fit(proof, width),
    ], rows)  # fmt: skip


def _wide(view: View, plan: Plan, state: PlacementState, width: int, rows: int) -> Block:
    best = plan.prediction
    own = state.own()
    top: Block = [
        fit(question(view, plan), width),
        fit(parts.best_line(best, _totals(best)), width),
        fit(parts.draft_line(best, state, width), width),
    ]
    bars = parts.token_bars(best, state, width - 4)
    stages = max(len(best.placement), len(own or ())) + 1
    table_rows = max(3, min(stages, rows - len(top) - len(bars) - 4 - 10))
    title = "stages: the best found" + (" │ what-if" if own else "")
    head = box(title, parts.stage_table(view, best, state, width - 4, table_rows), width, table_rows + 2)
    middle = box("where a token's time goes, mean ms", bars, width, len(bars) + 2)
    low = rows - len(top) - len(head) - len(middle)
    left = width // 2
    right = width - left
    name = f"candidates for stage {state.cursor + 1}"
    weighed = len(state.study.candidates) if state.study else 0
    lines = [
        wrapped
        for text in state.launch
        for wrapped in wrap(clean(text, 300), left - 4, "dim" if text.startswith("#") else "")
    ]
    upper = min(low, max(5, min(weighed + 3, low // 2))) if lines else low
    candidates = box(name, parts.candidate_table(state, left - 4, upper - 2), left, upper)
    if low - upper >= 3:
        candidates += box("launch lines (l all, w in there saves)", lines, left, low - upper)
    pane: Block = []
    if own:
        moves, moved_bytes = changes(best.placement, own, state.layer_bytes)
        steps = parts.change_lines(moves, moved_bytes)
        step_rows = min(len(steps) + 2, max(3, low // 2))
        pane += box(
            f"to get there ({len(state.draft)} edit{'s' if len(state.draft) > 1 else ''})", steps, right, step_rows
        )
    proof = wrap(certificate(plan), right - 4)
    pane += box("certificate of the best", proof, right, len(proof) + 2)
    if watched := engine_lines.lines(view, state.prediction() or best):
        pane += box("measured on running engines", watched, right, len(watched) + 2)
    said = notes(view, state.prediction() or best, right - 4) or [line(("nothing was assumed", "dim"))]
    pane += box("assumed", said, right, max(3, low - len(pane)))
    return height([*top, *head, *middle, *beside([(candidates, left), (pane, right)])], rows)
