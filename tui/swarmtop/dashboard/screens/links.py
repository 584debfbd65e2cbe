"""Show the matrix of all links (screen 3)."""

from __future__ import annotations

import dataclasses

from textual.widget import Widget

from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.lines.links import grid, matrix, pair_details, pictures
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.screens.page import Page
from swarmtop.dashboard.screens.save_or_copy import Export
from swarmtop.dashboard.state.link_metrics import LINK_METRICS
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.canvas import Canvas

AGES_NS = 5 * NS_PER_S  # how often ages are updated while no frame comes: the matrix of a large swarm is expensive


class LinksPage(Page):
    NAME = "links"

    def body(self) -> Widget:
        self._state = grid.LinksState(halves=not (self.ink.plain or self.ink.ascii_only))
        self._where = grid.Shape(1, 1, 0, 0)
        self._grid: grid.Grid | None = None
        self._drawn: tuple[object, ...] | None = None
        self._canvas = Canvas(self.ink, id="body")
        return self._canvas

    def draw(self, view: View, width: int, rows: int) -> None:
        if self._state.look != "matrix" and len(view.swarm) > 1:
            self._draw_picture(view, width, rows)
            return
        shown = (id(view.swarm), id(view.mark), id(view.analysis))
        drawn = (*shown, self._state, width, rows, view.now_ns // AGES_NS)
        if drawn == self._drawn:
            return
        self._state = grid.framed(self._state, len(view.swarm))
        self._drawn = (*shown, self._state, width, rows, view.now_ns // AGES_NS)
        self._where, self._grid = matrix.laid_out(view, self._state, width, rows)
        self._canvas.show(matrix.screen(view, self._state, width, rows))

    def _draw_picture(self, view: View, width: int, rows: int) -> None:
        """Draw again if the frame or the answer about it has changed: the layout of a graph is expensive."""
        drawn = (id(view.swarm), id(view.analysis), self._state, width, rows, self.ink.theme)
        if drawn != self._drawn:
            self._drawn = drawn
            self._canvas.show(pictures.screen(view, self._state, width, rows))

    def action_look(self) -> None:
        """Switch between the matrix, the graph, the map and the distributions."""
        self._change(look=grid.LOOKS[(grid.LOOKS.index(self._state.look) + 1) % len(grid.LOOKS)])

    def _change(self, **changes: object) -> None:
        self._state = dataclasses.replace(self._state, **changes)  # type: ignore[arg-type]
        self.redraw()

    def action_metric(self) -> None:
        self._change(metric=(self._state.metric + 1) % len(LINK_METRICS))

    def action_difference(self) -> None:
        view = self.board.view()
        if view is not None and view.mark is None:
            self.board.say("there is no mark to compare with; M marks this moment")
            return
        self._change(since_mark=not self._state.since_mark)

    def action_pool(self) -> None:
        self._change(pool=grid.POOLS[(grid.POOLS.index(self._state.pool) + 1) % len(grid.POOLS)])

    def action_group(self) -> None:
        """Switch between single nodes and groups; positions then mean other nodes, so the cursor is reset."""
        following = grid.GROUPS[(grid.GROUPS.index(self._state.group) + 1) % len(grid.GROUPS)]
        self._change(group=following, source=0, target=1, zoom=0)

    def action_zoom_in(self) -> None:
        self._zoom(1)

    def action_zoom_out(self) -> None:
        self._zoom(-1)

    def _zoom(self, by: int) -> None:
        if self._grid is None:
            return
        if self._state.group != "nodes":
            self.board.say("groups cannot be zoomed; b returns to single nodes")
            return
        self._state = grid.zoomed(self._state, self._grid, by)
        self.redraw()

    def _move(self, dx: int, dy: int) -> None:
        if self._grid is None:  # a key before the first picture
            self.redraw()
        if self._grid is not None and len(self._grid.order) > 1:
            self._state = grid.moved(self._state, self._grid, dx, dy)
            self.redraw()

    def action_up(self) -> None:
        self._move(0, -1)

    def action_down(self) -> None:
        self._move(0, 1)

    def action_cell_left(self) -> None:
        self._move(-1, 0)

    def action_cell_right(self) -> None:
        self._move(1, 0)

    def action_page_up(self) -> None:
        self._move(0, -10)

    def action_page_down(self) -> None:
        self._move(0, 10)

    def action_first(self) -> None:
        self._move(-(1 << 20), -(1 << 20))

    def action_last(self) -> None:
        self._move(1 << 20, 1 << 20)

    def clicked(self, message: Canvas.Clicked) -> None:
        view = self.board.view()
        if view is None or message.canvas is not self._canvas or self._state.look != "matrix":
            return
        cell = grid.cell_at(self._where, self._grid, message.x, message.y) if self._grid is not None else None
        if cell is not None:
            self._change(source=cell[0], target=cell[1])
            if message.double:
                self.action_open()

    def _pair(self, view: View) -> grid.Pair | None:
        if self._grid is None or len(view.swarm) < 2 or len(self._grid.order) != len(view.swarm):
            return None
        return grid.pair(view, self._state, self._grid)

    def action_open(self) -> None:
        """Open the source of the chosen cell."""
        view = self.board.view()
        chosen = self._pair(view) if view is not None else None
        if view is not None and chosen is not None:
            self.board.open_node(view.swarm.facts[chosen.source].node_id)

    # ------------------------------------------------------------ out

    def copied(self, view: View) -> tuple[str, str]:
        chosen = self._pair(view)
        if chosen is None:
            return "", ""
        rows = pair_details.cell_details(view, self._state, chosen, 36)
        text = "\n".join("".join(part for part, _ in row).strip() for row in rows)
        return clean(text.replace("\n", "; "), 1000), "the link under the cursor"

    def exports(self, view: View) -> list[Export]:
        metric = grid.metric_of(view, self._state)
        return [
            Export("matrix", f"matrix of {metric.title}, CSV", "a row for each source, a column for each destination",
                   f"links-{metric.name}.csv", lambda: matrix.as_csv(view, metric))
        ]  # fmt: skip
