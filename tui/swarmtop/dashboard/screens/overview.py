"""Screen 1: who holds the swarm back, and why."""

from __future__ import annotations

from typing import Final

from textual.containers import Vertical
from textual.widget import Widget

from swarmtop.analysis.filter import Filter, FilterError, parse
from swarmtop.dashboard.lines import overview_lines, ranking
from swarmtop.dashboard.lines.columns import COLUMNS, choose, offered
from swarmtop.dashboard.lines.styled import Line
from swarmtop.dashboard.screens.page import Page
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.canvas import Canvas
from swarmtop.dashboard.widgets.table import Table

NO_FILTER: Final = Filter()
TALL: Final = 28  # lines and cells from which there is room for words above the titles, and boxes below the list
WIDE: Final = 110


class Overview(Page):
    NAME = "overview"
    DEFAULT_CSS = """
    Overview #above { height: 2; }
    Overview #head { height: 1; }
    Overview #below { height: 3; }
    """

    def body(self) -> Widget:
        self._above = Canvas(self.ink, id="above")
        self._head = Canvas(self.ink, id="head")
        self._table = Table(self.ink, id="table")
        self._below = Canvas(self.ink, id="below")
        return Vertical(self._above, self._head, self._table, self._below, id="body")

    def draw(self, view: View, width: int, rows: int) -> None:
        session = self.board.session
        order = ranking.order(view, session.sort, session.reverse, session.filter)
        chosen = choose(width - ranking.MARGIN - 1, offered(session.columns, marked=view.mark is not None))
        self._columns = chosen
        ids = [view.swarm.facts[row].node_id for row in order.tolist()]

        def draw_row(position: int, selected: bool) -> Line:
            return ranking.row_line(view, chosen, int(order[position]), position + 1, selected)

        below = 3
        if rows >= TALL and width >= WIDE:  # what the nodes leave goes to the boxes
            below = max(8, min(14, rows - 4 - len(ids)))
        self._below.styles.height = below
        self._table.show(ids, draw_row, session.chosen)
        self._above.show([
            overview_lines.summary(view, width),
            overview_lines.filter_line(view, session.filter.text, len(ids), session.sort, width),
        ])  # fmt: skip
        head = [ranking.header(chosen, session.sort, session.reverse)]
        if rows >= TALL and width >= WIDE:
            head.insert(0, ranking.group_line(chosen))
        self._titles_at = len(head) - 1
        head += self._followed(view, chosen)
        if not ids and session.filter.text:
            head.append(overview_lines.nobody_matches(session.filter.text))
        self._head.styles.height = len(head)
        self._head.show(head)
        self._draw_below(view, width, below, ids)
        self._last = (view, width, below, ids)

    def _followed(self, view: View, chosen: ranking.Chosen) -> list[Line]:
        """The line of the followed node, in sight wherever the table is scrolled; its rank is that among all nodes."""
        session = self.board.session
        row = next((r for r, f in enumerate(view.swarm.facts) if f.node_id == session.followed), None)
        if row is None:
            return []
        whole = ranking.order(view, session.sort, session.reverse, NO_FILTER).tolist()
        return [ranking.row_line(view, chosen, row, whole.index(row) + 1, False, mark="F")]

    def _draw_below(self, view: View, width: int, below: int, ids: list[str]) -> None:
        row = None
        if ids:
            row = next(r for r, f in enumerate(view.swarm.facts) if f.node_id == ids[self._table.cursor])
        self._below.show(overview_lines.bottom(view, row, self._table.cursor + 1, width, below))

    def on_table_chosen(self, message: Table.Chosen) -> None:
        self.board.session.chosen = message.key
        self._draw_below(*self._last)
        if message.opened:
            self.action_open()

    def clicked(self, message: Canvas.Clicked) -> None:
        if message.canvas is self._head and message.y <= self._titles_at:
            column = ranking.column_at(self._columns, message.x)
            if column:
                self.board.session.sort_by(column)
                self.redraw()

    def action_up(self) -> None:
        self._table.move(-1)

    def action_down(self) -> None:
        self._table.move(1)

    def action_page_up(self) -> None:
        self._table.move(-max(1, self._table.size.height - 1))

    def action_page_down(self) -> None:
        self._table.move(max(1, self._table.size.height - 1))

    def action_first(self) -> None:
        self._table.move_to(0)

    def action_last(self) -> None:
        self._table.move_to(1 << 30)

    def action_open(self) -> None:
        self.board.action_go_node()

    def action_reverse(self) -> None:
        self.board.session.sort_by(self.board.session.sort)
        self.redraw()

    def action_sort_left(self) -> None:
        self.board.session.sort_next(-1, [c.name for c, _ in self._columns])
        self.redraw()

    def action_sort_right(self) -> None:
        self.board.session.sort_next(1, [c.name for c, _ in self._columns])
        self.redraw()

    def action_invite(self) -> None:
        from swarmtop.dashboard.screens import first_minutes

        first_minutes.show_invite(self.board)

    def action_demo(self) -> None:
        from swarmtop.dashboard.screens import first_minutes

        first_minutes.open_demo(self.board)

    def action_sort(self) -> None:
        def sort(column: str | None) -> None:
            if column:
                self.board.session.sort = column
                self.board.session.reverse = False
                self.redraw()

        view_marked = self.board.session.mark is not None
        picks = [(c.name, c.name, c.help) for c in COLUMNS if view_marked or not c.marked]
        from swarmtop.dashboard.screens.overlays import Picker

        self.app.push_screen(Picker(self.ink, "sort by", picks, self.board.session.sort), sort)

    def action_columns(self) -> None:
        session = self.board.session
        present = session.columns or [c.name for c in COLUMNS if not c.marked]
        seen = {column.name for column, _ in self._columns}
        hidden = {c.name for c in COLUMNS if c.name in present and c.name not in seen and not c.marked}
        picks = [
            (c.name, c.name, f"{'hidden by the width: ' if c.name in hidden else ''}{c.help}")
            for c in COLUMNS
            if c.rank and not c.marked
        ]

        def done(text: str | None) -> None:
            if text is None:
                return
            names = tuple(text.split())
            session.columns = () if len(names) == len(picks) else names
            quoted = ", ".join(f'"{name}"' for name in names)
            self.board.say(f"to keep them: columns = [{quoted}] in config.toml" if session.columns else "all columns")
            self.redraw()

        from swarmtop.dashboard.screens.overlays import Chooser

        self.app.push_screen(Chooser(self.ink, "columns", picks, present), done)

    def copied(self, view: View) -> tuple[str, str]:
        key = self._table.key
        row = next((r for r, f in enumerate(view.swarm.facts) if f.node_id == key), None)
        if row is None:
            return "", ""
        cells = [(column.title, column.cell(view, row)[0]) for column, _ in self._columns if column.name != "recent"]
        return "  ".join(f"{title} {text}" for title, text in cells), view.swarm.facts[row].name

    def action_filter(self) -> None:
        before = self.board.session.filter

        def changed(text: str) -> str:
            try:
                self.board.session.filter = parse(text)
            except FilterError as error:
                return str(error)
            self.redraw()
            return ""

        def done(text: str | None) -> None:
            if text is None:
                self.board.session.filter = before
            self.redraw()

        hint = "part of a name, or rtt99>200 and state!=lost; or, not, ( )"
        from swarmtop.dashboard.screens.overlays import Prompt

        self.app.push_screen(Prompt(self.ink, "filter", hint, before.text, changed), done)

    def action_back(self) -> None:
        self.board.session.filter = parse("")
        self.redraw()
