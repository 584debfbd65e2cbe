"""Lay out the placement screen: the best placement beside a person's own, stages, where a token's time goes,
candidates.

`placement_parts` draws the parts; this arranges them for the sizes of terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarm_predict.types import Placement, Plan, Prediction
from swarmtop.dashboard.lines.drawings.compared import compared, rows_wanted
from swarmtop.dashboard.lines.placement import engine_lines
from swarmtop.dashboard.lines.placement import placement_parts as parts
from swarmtop.dashboard.lines.styled import Block, Line, beside, box, clean, fit, height, line, rule, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.state.what_if import Draft, Study, changes, same
from swarmtop.text import quantities
from swarmtop.text.prediction import among_considered

Pane = Literal["stages", "candidates"]
WIDE = 120
TALL = 24
SPARE = 8  # lines that the boxes of a wide screen must leave over before there are more of them
STAGES_BESIDE = 170  # cells from which the stages stand beside where the time goes
TIME_GOES = "where a token's time goes, mean ms"
ROOM_FOR_ROUTES = 20  # lines of a narrow screen from which the token route is drawn


@dataclass(frozen=True, slots=True)
class PlacementState:
    cursor: int = 0  # stage
    pane: Pane = "stages"
    pick: int = 0  # candidate
    draft: Draft = ()
    study: Study | None = None  # of the draft, else of the plan; may be slightly out of date
    layer_bytes: float = 0.0
    launch: tuple[str, ...] = ()  # the launch lines of what is shown

    def own(self) -> Placement | None:
        return self.draft[-1].placement if self.draft else None

    def prediction(self) -> Prediction | None:
        """Return the draft's prediction; None while it is computed, or if it cannot be."""
        own, study = self.own(), self.study
        return study.prediction if own and study is not None and same(study.placement, own) else None

    def why_not(self) -> str:
        own, study = self.own(), self.study
        return study.why_not if own and study is not None and same(study.placement, own) else ""


def screen(view: View, state: PlacementState, width: int, rows: int) -> Block:
    return laid_out(view, state, width, rows)[0]


def laid_out(view: View, state: PlacementState, width: int, rows: int) -> tuple[Block, bool]:
    """The screen, and whether it has room for advice."""
    if view.plan is None:
        return _no_plan(view, width, rows), False
    if width >= WIDE and rows >= TALL:
        return _wide(view, view.plan, state, width, rows)
    return _narrow(view, view.plan, state, width, rows), False


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
    """Return `478 ms, within 2.1% of the optimum`: of the model that predicts it, proven by the bound beside it."""
    value = plan.prediction.tpot_ms.p50
    among = among_considered(plan)
    if plan.exact:
        return f"{quantities.figure(value)} ms, the optimum{among} (all placements considered)"
    bound = f"(bound {quantities.figure(plan.bound_ms)} ms)"
    return f"{quantities.figure(value)} ms, within {quantities.percent(plan.gap)} of the optimum{among} {bound}"


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


def _routes(view: View, best: Prediction, state: PlacementState) -> list[tuple[str, Prediction]]:
    """Return the paths to draw: the best, above what a person edits and what runs."""
    found = [("best", best)]
    own = state.prediction()
    if own is not None:
        found.append(("what-if", own))
    running = view.analysis.running if view.analysis is not None else None
    if running is not None and running.prediction is not None and not same(running.placement, best.placement):
        found.append(("running", running.prediction))
    return found


def _narrow(view: View, plan: Plan, state: PlacementState, width: int, rows: int) -> Block:
    best = plan.prediction
    small = rows < 18
    top: Block = [] if small else [fit(question(view, plan), width)]
    top += [fit(parts.best_line(best, width), width), fit(parts.draft_line(best, state, width), width), rule(width)]
    bars = parts.token_bars(best, state, width)
    if small and state.pane == "candidates":
        room = rows - len(top)
        return height([*top, *parts.candidate_table(state, width, room, alone=True)], rows)
    if small:
        end = [*bars[:-1], fit(line((" certificate ", "dim"), certificate(plan)), width)]
        room = max(2, rows - len(top) - len(end) - 1)
        return height([*top, *parts.stage_table(view, best, state, width, room), rule(width), *end], rows)
    stages = max(len(best.placement), len(state.own() or ())) + 1
    watched = engine_lines.lines(view, state.prediction() or best, width)
    if rows - 2 * len(watched) >= ROOM_FOR_ROUTES:  # measurements take precedence over drawings
        top += [*compared(_routes(view, best, state), width, 3 + max(0, rows - ROOM_FOR_ROUTES - 3)), rule(width)]
    spare = rows - len(top) - len(bars) - 3  # two rules and the certificate
    table_rows = max(3, min(stages, spare - 4))
    said = [*watched, *notes(view, best, width)]
    proof = line((" certificate ", "dim"), certificate(plan))
    low = spare - table_rows
    candidates = parts.candidate_table(state, width, low)
    least = low if state.pane == "candidates" else min(low, len(candidates), 4)  # the notes take what is left
    keep = min(len(said), low - least)
    keep = 0 if keep == 1 < len(said) else keep  # a line with only the number of notes is no use
    if low - keep < len(candidates):
        candidates = parts.candidate_table(state, width, low - keep)
    return height([
        *top,
        *parts.stage_table(view, best, state, width, table_rows),
        rule(width),
        *bars,
        rule(width),
        *height(candidates, low - keep),
        *height(said, keep),
        fit(proof, width),
    ], rows)  # fmt: skip


def _wide(view: View, plan: Plan, state: PlacementState, width: int, rows: int) -> tuple[Block, bool]:
    best = plan.prediction
    own = state.own()
    top: Block = [
        fit(question(view, plan), width),
        fit(parts.best_line(best, width, _totals(best)), width),
        fit(parts.draft_line(best, state, width), width),
    ]
    two_columns = width >= STAGES_BESIDE and not own
    left = width // 2 if two_columns else width
    bars = parts.token_bars(best, state, (width - left if two_columns else width) - 4)
    stages = max(len(best.placement), len(own or ())) + 1
    shown = _routes(view, best, state)
    route_rows = min(rows_wanted(len(shown)), max(0, rows - len(top) - len(bars) - 4 - stages - 2 - 12))
    routes = compared(shown, width - 4, route_rows)
    drawn = box("token routes, on one scale", routes, width, len(routes) + 2) if routes else []
    table_rows = max(3, min(stages, rows - len(top) - len(bars) - len(drawn) - 4 - 10))
    title = "stages: the best found" + (" │ what-if" if own else "")
    if two_columns:  # the table alone leaves half of the width
        table_rows = max(table_rows, len(bars))
        head = beside([
            (box(title, parts.stage_table(view, best, state, left - 4, table_rows), left, table_rows + 2), left),
            (box(TIME_GOES, bars, width - left, table_rows + 2), width - left),
        ])  # fmt: skip
        middle: Block = []
    else:
        head = box(title, parts.stage_table(view, best, state, width - 4, table_rows), width, table_rows + 2)
        middle = box(TIME_GOES, bars, width, len(bars) + 2)
    low = rows - len(top) - len(drawn) - len(head) - len(middle)
    below, room = _below(view, plan, state, width, low)
    return height([*top, *drawn, *head, *middle, *below], rows), room


def _below(view: View, plan: Plan, state: PlacementState, width: int, low: int) -> tuple[Block, bool]:
    """Candidates and launch lines beside what is proven and assumed; where those leave lines, more about the choice,
    and True."""
    own = state.own()
    left = width // 2
    right = width - left
    name = f"candidates for stage {state.cursor + 1}"
    weighed = len(state.study.candidates) if state.study else 0
    said = [(title, found) for title, found in _said(view, plan, state, right - 4)]
    lines = _launch(state, left - 4)
    needed = max(max(5, weighed + 3) + (len(lines) + 2 if lines else 0), sum(len(found) + 2 for _, found in said))
    if low - needed >= SPARE:
        return _panels(view, plan, state, width, low), True
    upper = min(low, max(5, min(weighed + 3, low // 2))) if lines else low
    candidates = box(name, parts.candidate_table(state, left - 4, upper - 2), left, upper)
    if low - upper >= 3:
        candidates += box("launch lines (l all, w in there saves)", lines, left, low - upper)
    pane: Block = []
    for title, found in said[:-1]:
        shown = min(len(found) + 2, max(3, low // 2)) if own and not pane else len(found) + 2
        pane += box(title, found, right, shown)
    pane += box(*said[-1], right, max(3, low - len(pane)))
    return beside([(candidates, left), (pane, right)]), False


def _said(view: View, plan: Plan, state: PlacementState, width: int) -> list[tuple[str, Block]]:
    """Return boxes of text: launch commands, the certificate, measured runs, assumptions, in this order."""
    best, own = plan.prediction, state.own()
    found: list[tuple[str, Block]] = []
    if own:
        edits = f"{len(state.draft)} edit{'s' if len(state.draft) > 1 else ''}"
        found.append((f"to get there ({edits})", parts.change_lines(*changes(best.placement, own, state.layer_bytes))))
    found.append(("certificate of the best", wrap(certificate(plan), width)))
    if watched := engine_lines.lines(view, state.prediction() or best, width):
        found.append(("measured on running engines", watched))
    assumed = notes(view, state.prediction() or best, width) or [line(("nothing was assumed", "dim"))]
    return [*found, ("assumed", assumed)]


def _launch(state: PlacementState, width: int) -> Block:
    return [
        wrapped
        for text in state.launch
        for wrapped in wrap(clean(text, 300), width, "dim" if text.startswith("#") else "")
    ]


def _panels(view: View, plan: Plan, state: PlacementState, width: int, rows: int) -> Block:
    """The same boxes, as high as what is in them, and what else there is to the choice."""
    from swarmtop.dashboard.lines.panels import box_catalogue
    from swarmtop.dashboard.lines.panels.arrange import Panel, arrange, columns, inner_width

    inner = inner_width(width, columns(width))
    weighed = len(state.study.candidates) if state.study else 0

    def text(title: str, block: Block) -> Panel:
        return Panel(title, lambda _width, lines: height(block, lines), len(block))

    def candidates(cells: int, lines: int) -> Block:
        return parts.candidate_table(state, cells, lines)

    said = [text(*each) for each in _said(view, plan, state, inner)]
    launch = _launch(state, inner)
    panels = [
        Panel(f"candidates for stage {state.cursor + 1}", candidates, max(2, weighed + 1), least=min(4, weighed + 1)),
        *said[:-1],
        *box_catalogue.on_placement(view, inner, _routes(view, plan.prediction, state)),
        *([text("launch lines (l all, w in there saves)", launch)] if launch else []),
        said[-1],
    ]
    return arrange(panels, width, rows)
