"""Show the best placement found, the user's own beside it, and the speed of both (screen 4)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from swarm_predict.types import Placement, PredictError
from swarm_protocol.messages.running import Running
from swarmtop.dashboard import workers
from swarmtop.dashboard.keymap import Action
from swarmtop.dashboard.lines.placement import placement_lines
from swarmtop.dashboard.lines.styled import Block, clean, line
from swarmtop.dashboard.options import StudyPlacement
from swarmtop.dashboard.screens import save_or_copy
from swarmtop.dashboard.screens.overlays import Help, Picker
from swarmtop.dashboard.screens.page import ListPage
from swarmtop.dashboard.screens.save_or_copy import Export
from swarmtop.dashboard.state.planner_question import Question
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.state.what_if import Step, same
from swarmtop.dashboard.widgets.strips import Ink
from swarmtop.errors import WorkerEnded

if TYPE_CHECKING:
    from swarm_predict.advice.whatif import Edit, WhatIf
    from swarm_predict.cost.tables import CostTables

OPTIMISE_S = 2.0  # seconds; a person waits for it


class PlacementPage(ListPage):
    NAME = "placement"

    def __init__(self, ink: Ink, keys: Iterable[Action]) -> None:
        super().__init__(ink, keys)
        self._state = placement_lines.PlacementState()
        self._tables: tuple[int, CostTables] | None = None  # of which question
        self._studying = False

    # ------------------------------------------------------------ what is drawn

    def draw(self, view: View, width: int, rows: int) -> None:
        session = self.board.session
        state = dataclasses.replace(
            self._state,
            draft=session.draft,
            layer_bytes=session.model.layer_bytes(session.workload.weights),
        )
        stages = max(len(view.plan.prediction.placement) if view.plan else 0, len(state.own() or ()))
        found = len(state.study.candidates) if state.study else 0
        self._state = dataclasses.replace(
            state,
            cursor=max(0, min(state.cursor, stages - 1)),
            pick=max(0, min(state.pick, found - 1)),
            study=state.study if view.plan else None,
        )
        self._ask(view)
        drawn, room = placement_lines.laid_out(view, self._state, width, rows)
        if room:
            self.board.advising.ask(self)
        self.canvas.show(drawn)

    def _ask(self, view: View) -> None:
        """Have the placement shown and its candidates computed, unless that was done for this frame."""
        question, base = self.board.session.answered, self._base(view)
        if question is None or base is None or self._studying:
            return
        asked = (question.number, base, self._state.cursor)
        if self._state.study is None or self._state.study.asked != asked:
            self._studying = True
            workers.start(self, self._study, asked, question, base, name="study")

    async def _study(self, asked: tuple[object, ...], question: Question, base: Placement) -> None:
        """Study the placement in a thread, so that keys need not wait. A newer question is asked by the redraw that
        follows."""
        from swarmtop.analysis.analysis import alive

        study = self.board.options.study or _study()
        known = self._tables[1] if self._tables is not None and self._tables[0] == question.number else None
        cursor = self._state.cursor
        try:
            frame = alive(question.swarm, question.workload.client)
            made = await asyncio.to_thread(
                study, asked, frame, question.model, question.workload, base, min(cursor, len(base) - 1), known
            )
            if made.whatif is not None:
                self._tables = question.number, made.whatif.tables
            view = self.board.view()
            self._state = dataclasses.replace(self._state, study=made, launch=self._lines(view) if view else ())
        finally:
            self._studying = False
        if self in self.app.screen_stack:  # empty while the dashboard is being left; `app.screen` would raise
            self.redraw()

    def _base(self, view: View) -> Placement | None:
        """Return the placement that an edit starts from."""
        own = self._state.own()
        return own if own is not None else view.plan.prediction.placement if view.plan else None

    # ------------------------------------------------------------ moving about

    def move(self, by: int) -> None:
        if self._state.pane == "candidates":
            self._state = dataclasses.replace(self._state, pick=max(0, self._state.pick + by))
        else:
            self._state = dataclasses.replace(self._state, cursor=max(0, self._state.cursor + by), pick=0)
        self.redraw()

    def action_pane(self) -> None:
        pane: placement_lines.Pane = "stages" if self._state.pane == "candidates" else "candidates"
        self._state = dataclasses.replace(self._state, pane=pane)
        self.redraw()

    def action_open(self) -> None:
        """In the candidates: take one. In the stages: open the node of the chosen one."""
        view = self.board.view()
        base = self._base(view) if view is not None else None
        if view is None or not base:
            return
        if self._state.pane == "candidates":
            self._take(base)
            return
        name = base[min(self._state.cursor, len(base) - 1)].node
        if name in view.swarm.names:
            self.board.open_node(view.swarm.facts[view.swarm.index(name)].node_id)

    def action_back(self) -> None:
        if self._state.pane == "candidates":
            self.action_pane()
        else:
            self.app.call_later(self.board.action_back)

    # ------------------------------------------------------------ the what-if

    def _take(self, base: Placement) -> None:
        study = self._state.study
        if study is None or not same(study.placement, base) or study.stage != self._state.cursor:
            self.board.say("the candidates are still being computed; press it again")
        elif study.candidates:
            chosen = study.candidates[min(self._state.pick, len(study.candidates) - 1)]
            self._state = dataclasses.replace(self._state, pane="stages", pick=0)
            self._push(Step(f"{base[study.stage].node} → {chosen.node}", chosen.placement))

    def _edit(self, change: Callable[[WhatIf, int], Edit], what: str = "") -> None:
        """Apply one edit, priced at once; refuse it with the reason if it is impossible. `what`: its description, {} is
        the node."""
        view = self.board.view()
        base = self._base(view) if view is not None else None
        study = self._state.study
        if base is None or study is None or study.whatif is None:
            reason = study.why_not if study is not None and study.why_not else "the costs are still being computed"
            self.board.say(f"no what-if yet: {reason}")
            return
        try:
            edit = change(dataclasses.replace(study.whatif, placement=base), min(self._state.cursor, len(base) - 1))
        except PredictError as error:
            self.board.say(str(error))
            return
        if any(stage.layers < 1 for stage in edit.placement):
            self.board.say(f"cannot {edit.what}: the layers do not fit in the memory of the others")
            return
        node = base[min(self._state.cursor, len(base) - 1)].node
        self._push(Step(what.format(node) if what else edit.what, edit.placement))

    def _push(self, step: Step) -> None:
        session = self.board.session
        session.draft = (*session.draft, step)
        self.board.say(step.what)
        self.redraw()

    def action_take(self) -> None:
        self._edit(lambda whatif, stage: whatif.move(stage, -1), "{} takes a layer from the next stage")

    def action_give(self) -> None:
        self._edit(lambda whatif, stage: whatif.move(stage, 1), "{} gives a layer to the next stage")

    def action_swap(self) -> None:
        def swap(whatif: WhatIf, stage: int) -> Edit:
            if stage + 1 >= len(whatif.placement):
                raise PredictError("the last stage has none after it to swap with")
            return whatif.swap(stage, stage + 1)

        self._edit(swap)

    def action_drop(self) -> None:
        self._edit(lambda whatif, stage: whatif.drop(stage))

    def action_add(self) -> None:
        view = self.board.view()
        base = self._base(view) if view is not None else None
        if view is None or base is None:
            return
        inside = {stage.node for stage in base}
        outside = [
            (facts.name, clean(facts.name, 40), f"{view.word(row)}  {clean(facts.device, 40)}")
            for row, facts in enumerate(view.swarm.facts)
            if facts.name not in inside and view.word(row) not in ("lost", "left")
        ]
        if not outside:
            self.board.say("every node that answers is in this placement already")
            return

        def add(name: str | None) -> None:
            if name:
                from swarmtop.dashboard.state.own_placement import best_place

                self._edit(lambda whatif, _stage: best_place(whatif, name))

        self.app.push_screen(Picker(self.ink, "add a node", outside), add)

    def action_undo(self) -> None:
        session = self.board.session
        if not session.draft:
            self.board.say("no edit to undo")
            return
        self.board.say(f"undone: {session.draft[-1].what}")
        session.draft = session.draft[:-1]
        self.redraw()

    def action_undo_all(self) -> None:
        self.board.session.draft = ()
        self.redraw()

    def action_optimise(self) -> None:
        question, own = self.board.session.answered, self._state.own()
        if question is None or own is None:
            self.board.say("this is the best already; edit it first")
            return
        self.board.say("looking for the best order of these nodes…")
        workers.start(self, self._optimise, question, own, name="optimise", exclusive=True, group="optimise")

    async def _optimise(self, question: Question, own: Placement) -> None:
        from swarmtop.analysis.unmeasured import only

        try:
            rows = sorted(question.swarm.index(stage.node) for stage in own)
            some = only(question.swarm, np.array(rows, np.intp))
            asked = some, question.model, question.workload, OPTIMISE_S
            found = await asyncio.to_thread(self.board.planner.best_order, *asked)
        except (KeyError, PredictError, WorkerEnded) as error:
            self.board.say(f"no better order: {clean(str(error), 200)}")
            return
        best = found.prediction.placement
        if same(best, own):
            self.board.say("no other order of these nodes is better")
        else:
            self._push(Step("best of these nodes", best))

    # ------------------------------------------------------------ out

    def _lines(self, view: View) -> tuple[str, ...]:
        """Return the launch lines of what is shown: the what-if if there is one."""
        from swarm_predict.launch.commands import launch_lines

        question, base = self.board.session.answered, self._base(view)
        if question is None or base is None or view.plan is None:
            return ()
        return launch_lines(question.swarm, question.model, question.workload, base)

    def action_launch(self) -> None:
        view = self.board.view()
        lines = self._lines(view) if view is not None else ()
        if view is None or not lines:
            self.board.say("no placement to launch yet")
            return
        text: Block = [line((clean(row, 400), "dim" if row.startswith("#") else "strong")) for row in lines]
        what = "the what-if" if self._state.draft else "the best placement"

        def do(name: str | None) -> None:
            if name == "save":
                save_or_copy.save_as(self.board, self._launch_export(view))
            elif name == "copy":
                save_or_copy.copy(self.board, "\n".join(lines) + "\n", "the launch lines")
            elif name == "they run now":
                self.action_running()

        title = f"launch lines of {what}, {view.engine}"
        self.app.push_screen(Help(self.ink, title, text, (("w", "save"), ("y", "copy"), ("r", "they run now"))), do)

    def action_running(self) -> None:
        """Report that what is shown runs from now on: shown to everybody, stored, and what the ranking is about."""
        view = self.board.view()
        base = self._base(view) if view is not None else None
        if view is None or not base:
            self.board.say("no placement that could run yet")
            return
        if view.standing == "replay":
            self.board.say("this is a replay; what runs can be set on a live swarm")
            return
        from swarm_predict.placement import format_placement

        words = {"engine": view.engine, "model": view.model, "source": "launch lines"}
        self.board.tell_running(Running(format_placement(base), at_ns=view.now_ns, **words))
        self.board.say("this placement runs now; the ranking is about it")

    def _launch_export(self, view: View) -> Export:
        return Export(
            "launch", "launch lines", "commands for each node", f"launch-{view.engine}.sh",
            lambda: "\n".join(self._lines(view)) + "\n",
        )  # fmt: skip

    def exports(self, view: View) -> list[Export]:
        plan, found = view.plan, self._state.prediction()
        if plan is None:
            return []

        def text() -> str:
            from swarmtop.text import json_csv
            from swarmtop.text.prediction import plan_object, prediction_object

            made = plan_object(plan, self._lines(view))
            return json_csv.dumps(made | {"what_if": prediction_object(found) if found else None}) + "\n"

        return [Export("plan", "plan, JSON", "as plan --json prints it, with the what-if", "plan.json", text),
                self._launch_export(view)]  # fmt: skip

    def copied(self, view: View) -> tuple[str, str]:
        lines = self._lines(view)
        return ("\n".join(lines) + "\n", "the launch lines") if lines else ("", "")


def _study() -> StudyPlacement:
    from swarmtop.dashboard.state.own_placement import study  # late: imports the planner

    return study
