"""Screen 5: alerts, events, and the line of time of a recording."""

from __future__ import annotations

from collections.abc import Iterable

from swarmtop.dashboard.actions import Action
from swarmtop.dashboard.model import timeline
from swarmtop.dashboard.model.view import View
from swarmtop.dashboard.screens.page import ListPage
from swarmtop.dashboard.widgets.strips import Ink


class TimePage(ListPage):
    NAME = "time"

    def __init__(self, ink: Ink, keys: Iterable[Action]) -> None:
        super().__init__(ink, keys)
        self._state = timeline.TimeState()

    def draw(self, view: View, width: int, rows: int) -> None:
        self._state = timeline.TimeState(min(self._state.event, max(0, len(view.events) - 1)))
        self.canvas.show(timeline.screen(view, self._state, width, rows))

    def move(self, by: int) -> None:
        self._state = timeline.TimeState(max(0, self._state.event + by))
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
