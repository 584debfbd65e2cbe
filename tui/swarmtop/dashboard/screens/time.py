"""Screen 5: alerts, events, and the line of time of a recording."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from swarmtop.dashboard.actions import Action
from swarmtop.dashboard.lines import timeline_lines
from swarmtop.dashboard.planner_thread import analyse
from swarmtop.dashboard.screens.page import ListPage
from swarmtop.dashboard.state.plan_history import survey
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.strips import Ink
from swarmtop.sources.source import SourceError, is_recording

MOMENTS: Final = 64  # of a recording that the planner looks at for the line of time
MOST_NODES: Final = 64  # of a swarm whose plans are quick enough for that


class TimePage(ListPage):
    NAME = "time"

    def __init__(self, ink: Ink, keys: Iterable[Action]) -> None:
        super().__init__(ink, keys)
        self._state = timeline_lines.TimeState()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self.board.session.recording is not None:
            self.run_worker(self._survey(), exclusive=True, group="survey")

    async def _survey(self) -> None:
        """Has the planner look at moments of the recording, for as long as the person looks at this screen."""
        session, source = self.board.session, self.board.source
        span, model, workload = session.recording, session.model, session.workload
        answer = self.board.options.analyse or analyse
        if span is None or not is_recording(source):
            return
        for at_ns in survey(span.first_ns, span.last_ns, span.gaps, MOMENTS):
            if at_ns in session.rates:
                continue
            try:
                frame = await source.swarm_at(at_ns)
            except SourceError as error:
                self.board.say(str(error))
                return
            if not 0 < len(frame) <= MOST_NODES:
                continue
            began = time.monotonic()
            found = await asyncio.to_thread(answer, frame, model, workload, None)
            if self.app.screen_stack[-1:] != [self] or (session.model, session.workload) != (model, workload):
                return
            session.surveyed(frame, found)
            await asyncio.sleep(time.monotonic() - began)  # half a core, no more

    def draw(self, view: View, width: int, rows: int) -> None:
        self._state = timeline_lines.TimeState(min(self._state.event, max(0, len(view.events) - 1)))
        self.canvas.show(timeline_lines.screen(view, self._state, width, rows))

    def move(self, by: int) -> None:
        self._state = timeline_lines.TimeState(max(0, self._state.event + by))
        self.redraw()

    def action_down_events(self) -> None:
        self.action_down()

    def action_open(self) -> None:
        """The moment of the chosen event, where that can be stood in; else its node."""
        view = self.board.view()
        if view is None or not view.events:
            return
        event = view.events[min(self._state.event, len(view.events) - 1)]
        if view.first_ns <= event.at_ns <= view.last_ns:
            self.board.travel.go_to(event.at_ns)
        elif event.node in view.swarm.names:
            self.board.open_node(view.swarm.facts[view.swarm.index(event.node)].node_id)
