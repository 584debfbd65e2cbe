"""Show alerts, events, and the time line of a recording (screen 5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarmtop.dashboard import workers
from swarmtop.dashboard.keymap import Action
from swarmtop.dashboard.lines import timeline_lines
from swarmtop.dashboard.planner.jobs import survey_moments
from swarmtop.dashboard.screens.page import ListPage
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.strips import Ink

MOMENTS: Final = 64  # moments of a recording that are planned for the time line


class TimePage(ListPage):
    NAME = "time"

    def __init__(self, ink: Ink, keys: Iterable[Action]) -> None:
        super().__init__(ink, keys)
        self._state = timeline_lines.TimeState()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self.board.session.recording is not None:
            workers.start(self, self._survey, exclusive=True, group="survey")

    async def _survey(self) -> None:
        span = self.board.session.recording
        if span is not None:
            await survey_moments(self, span.first_ns, span.last_ns, MOMENTS)

    def draw(self, view: View, width: int, rows: int) -> None:
        self._state = timeline_lines.TimeState(min(self._state.event, max(0, len(view.events) - 1)))
        drawn, room = timeline_lines.laid_out(view, self._state, width, rows)
        if room:
            self.board.advising.ask(self)
        self.canvas.show(drawn)

    def move(self, by: int) -> None:
        self._state = timeline_lines.TimeState(max(0, self._state.event + by))
        self.redraw()

    def action_down_events(self) -> None:
        self.action_down()

    def action_open(self) -> None:
        """Go to the moment of the chosen event if it is within the span; else open its node."""
        view = self.board.view()
        if view is None or not view.events:
            return
        event = view.events[min(self._state.event, len(view.events) - 1)]
        if view.first_ns <= event.at_ns <= view.last_ns:
            self.board.travel.go_to(event.at_ns)
        elif event.node in view.swarm.names:
            self.board.open_node(view.swarm.facts[view.swarm.index(event.node)].node_id)
