"""Show which node slows the swarm down, and why (screen 1)."""

from __future__ import annotations

from typing import Final

from textual.containers import Vertical
from textual.widget import Widget

from swarm_protocol.snapshot.swarm import Ints
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.filter import Filter, FilterError, parse
from swarmtop.dashboard import workers
from swarmtop.dashboard.lines.columns import COLUMNS, choose, offered
from swarmtop.dashboard.lines.header_footer import MIN_HEIGHT, MIN_WIDTH
from swarmtop.dashboard.lines.overview import around_ranking, headline, member_list, ranking
from swarmtop.dashboard.lines.overview.layout import Heights, heights
from swarmtop.dashboard.lines.styled import Block, Line
from swarmtop.dashboard.planner.jobs import survey_moments
from swarmtop.dashboard.screens.page import Page
from swarmtop.dashboard.state.view import View, row_of_id
from swarmtop.dashboard.widgets.canvas import Canvas
from swarmtop.dashboard.widgets.table import Table

NO_FILTER: Final = Filter()
MOMENTS: Final = 32  # moments of a recording that are planned for the chart


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
        self._panels = True
        self._asked_past: tuple[object, ...] = ()
        return Vertical(self._above, self._head, self._table, self._below, id="body")

    def _instead(self, view: View | None, width: int, rows: int) -> Block | None:
        found = super()._instead(view, width, rows)
        session, members = self.board.session, self.board.members
        if view is not None or not members or width < MIN_WIDTH or rows < MIN_HEIGHT:
            return found
        return member_list.screen(members, session.standing, session.columns, session.sort, width, rows - 3)

    def draw(self, view: View, width: int, rows: int) -> None:
        session = self.board.session
        order = ranking.order(view, session.sort, session.reverse, session.filter)
        still = view.standing == "file"
        columns = offered(session.columns, marked=view.mark is not None, past=not still)
        chosen = choose(width - ranking.MARGIN - 1, columns)
        self._columns = chosen
        ids = ranking.Ids(view.swarm.facts, order)

        def draw_row(position: int, selected: bool) -> Line:
            return ranking.row_line(view, chosen, int(order[position]), position + 1, selected)

        above, share = self._drawn_above(view, width, rows, len(ids))
        self._above.styles.height = len(above)
        self._below.styles.height = share.below
        self._table.show(ids, draw_row, session.chosen)
        session.in_sight = frozenset(ids[i] for i in self._table.visible_rows)
        self._above.show(above)
        head = [ranking.header(chosen, session.sort, session.reverse)]
        if share.head > 1:
            head.insert(0, ranking.group_line(chosen))
        self._titles_at = len(head) - 1
        head += self._followed(view, chosen)
        if not ids and session.filter.text:
            head.append(around_ranking.nobody_matches(session.filter.text))
        self._head.styles.height = len(head)
        self._head.show(head)
        self._last = (view, width, share.below, order)
        self._draw_below(*self._last)

    def _drawn_above(self, view: View, width: int, rows: int, shown: int) -> tuple[Block, Heights]:
        """Draw counts, the headline and a token's path; return the room left for the rest."""
        session = self.board.session
        found = view.analysis.stands if view.analysis is not None else None
        way = found is not None or view.analysis is None
        share = heights(
            width,
            rows,
            len(view.swarm) + (session.followed is not None),
            chart=self._panels and headline.shown(view),
            way=self._panels and way,
        )
        block = [
            around_ranking.summary(view, width),
            around_ranking.filter_line(view, session.filter.text, shown, session.sort, width),
        ]
        if share.chart:
            block += headline.headline(view, width, share.chart)
            self._ask_past(view)
        return [*block, *around_ranking.route(view, found, width, share.way, share.layers)], share

    def _ask_past(self, view: View) -> None:
        """Have the minutes before a moment of a recording planned, for the chart; again if the moment has changed."""
        if view.analysis is None or not view.is_recording:
            return
        window_ns = headline.WINDOWS_S[-1] * NS_PER_S
        asked = (view.swarm.at_ns // (window_ns // 2), view.model, view.weights, view.engine)
        if asked != self._asked_past:
            self._asked_past = asked
            until_ns = view.swarm.at_ns
            workers.start(
                self, survey_moments, self, until_ns - window_ns, until_ns, MOMENTS, exclusive=True, group="survey"
            )

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self._asked_past = ()  # interrupted by another screen

    def action_panels(self) -> None:
        """Show the chart and the drawings, or use their lines for the list."""
        self._panels = not self._panels
        self.redraw()

    def _followed(self, view: View, chosen: ranking.Chosen) -> list[Line]:
        """Return the line of the followed node, wherever the table is scrolled; its rank is that among all nodes."""
        session = self.board.session
        row = row_of_id(view.swarm.facts).get(session.followed or "")
        if row is None:
            return []
        whole = ranking.order(view, session.sort, session.reverse, NO_FILTER).tolist()
        return [ranking.row_line(view, chosen, row, whole.index(row) + 1, False, mark="F")]

    def _draw_below(self, view: View, width: int, below: int, order: Ints) -> None:
        row = int(order[self._table.cursor]) if len(order) else None
        if around_ranking.has_room(view, row, width, below):
            self.board.advising.ask(self)
        self._below.show(around_ranking.bottom(view, row, self._table.cursor + 1, width, below))

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
            (c.name, c.name, f"{'not shown: ' if c.name in hidden else ''}{c.help}")
            for c in COLUMNS
            if c.rank > 0 and not c.marked
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
        row = row_of_id(view.swarm.facts).get(key or "")
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
