"""Show everything about one node (screen 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from swarm_predict.types import PredictError
from swarmtop.analysis.ranking.usual_layer import UsualComparison, compare_with_usual
from swarmtop.dashboard import workers
from swarmtop.dashboard.keymap import Action
from swarmtop.dashboard.lines import node_cards, node_lines
from swarmtop.dashboard.lines.overview import ranking
from swarmtop.dashboard.screens.page import ListPage
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.strips import Ink
from swarmtop.sources.source import History, SourceError

POINTS = 240
WINDOW_S = 10  # of a probe: in shorter buckets the peers would alternate
REFRESH_S = 5.0


class NodePage(ListPage):
    NAME = "node"

    def __init__(self, ink: Ink, keys: Iterable[Action]) -> None:
        super().__init__(ink, keys)
        self._state = node_lines.NodeState()
        self._past: dict[str, History] = {}
        self._past_of: tuple[str, int] | None = None  # node and range that `_past` is about

    def on_mount(self) -> None:
        self.set_interval(REFRESH_S, self._refresh_past)

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self._refresh_past()

    def draw(self, view: View, width: int, rows: int) -> None:
        order = self._order(view)
        row = self._row(view, order)
        node_id = view.swarm.facts[row].node_id
        if self._past_of != (node_id, self._state.range_s):
            self._refresh_past()
        place = (order.index(row) + 1 if row in order else 0, len(order))
        self._state = dataclasses.replace(
            self._state,
            peer=min(self._state.peer, max(0, len(node_lines.peers(view, row)) - 1)),
            layer=self._layer(view, row),
        )
        drawn, room = node_lines.laid_out(view, row, place, self._state, self._past, width, rows)
        if room:
            self.board.advising.ask(self)
        self.canvas.show(drawn)

    def _layer(self, view: View, row: int) -> UsualComparison | None:
        """Return its layer time beside what is usual for its device; None if the question has no answer."""
        session = self.board.session
        try:
            return compare_with_usual(view.swarm, row, session.model, session.workload)
        except PredictError:
            return None  # the headline says what is wrong with the question

    def _order(self, view: View) -> list[int]:
        session = self.board.session
        return [int(row) for row in ranking.order(view, session.sort, session.reverse, session.filter)]

    def _row(self, view: View, order: list[int]) -> int:
        """Return the chosen node's row; the first of the ranking if it is gone, or none was chosen."""
        chosen = self.board.session.chosen
        for row, facts in enumerate(view.swarm.facts):
            if facts.node_id == chosen:
                return row
        return order[0] if order else 0

    def _refresh_past(self) -> None:
        """Request the charts' history; a reply for a node that is no longer shown is dropped."""
        view = self.board.view()
        if view is None or not len(view.swarm) or self.app.screen_stack[-1:] != [self]:
            return
        node_id = view.swarm.facts[self._row(view, self._order(view))].node_id
        if self._past_of != (node_id, self._state.range_s):
            self._past_of = (node_id, self._state.range_s)
            self._past = {}
        cards = node_cards.METRICS if node_cards.has_cards(view, self._row(view, self._order(view))) else ()
        metrics = dict.fromkeys((self._state.metric, *node_lines.SMALL_METRICS, *cards))
        workers.start(self, self._fetch, view, node_id, tuple(metrics), exclusive=True, group="history")

    async def _fetch(self, view: View, node_id: str, metrics: tuple[str, ...]) -> None:
        since_ns, until_ns = node_lines.since_ns(view, self._state)
        points = min(POINTS, self._state.range_s // WINDOW_S)
        wanted = self._past_of
        for metric in metrics:
            try:
                history = await self.board.source.history(metric, node_id, None, since_ns, until_ns, points)
            except SourceError as error:
                self.board.say(f"no history of {metric}: {error}")
                return
            if self._past_of != wanted:
                return
            self._past[metric] = history
        self.redraw()

    def _step(self, by: int) -> None:
        view = self.board.view()
        if view is None or not len(view.swarm):
            return
        order = self._order(view)
        row = self._row(view, order)
        if not order:
            return
        at = order.index(row) if row in order else 0
        self.board.session.chosen = view.swarm.facts[order[(at + by) % len(order)]].node_id
        self._state = dataclasses.replace(self._state, peer=0)
        self.redraw()

    def action_previous_node(self) -> None:
        self._step(-1)

    def action_next_node(self) -> None:
        self._step(1)

    def action_range(self) -> None:
        ranges = [seconds for seconds, _ in node_lines.RANGES]
        at = (ranges.index(self._state.range_s) + 1) % len(ranges)
        self._state = dataclasses.replace(self._state, range_s=ranges[at])
        self._refresh_past()
        self.redraw()

    def action_metric(self) -> None:
        at = (node_lines.MAIN_METRICS.index(self._state.metric) + 1) % len(node_lines.MAIN_METRICS)
        self._state = dataclasses.replace(self._state, metric=node_lines.MAIN_METRICS[at])
        self._refresh_past()
        self.redraw()

    def move(self, by: int) -> None:
        self._state = dataclasses.replace(self._state, peer=max(0, self._state.peer + by))
        self.redraw()

    def action_open(self) -> None:
        """Open the peer under the cursor."""
        view = self.board.view()
        if view is None or not len(view.swarm):
            return
        found = node_lines.peers(view, self._row(view, self._order(view)))
        if found:
            self.board.session.chosen = view.swarm.facts[found[min(self._state.peer, len(found) - 1)]].node_id
            self._state = dataclasses.replace(self._state, peer=0)
            self.redraw()
