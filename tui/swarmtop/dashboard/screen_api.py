"""Define the interface through which screens use the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import App

from swarm_predict.types import Engine, Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Member, Swarm
from swarmtop.analysis.ranking.node_figures import Figures
from swarmtop.dashboard.keymap import Screen
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.planner.jobs import Advising
from swarmtop.dashboard.planner.planner import Planner
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.strips import Ink
from swarmtop.sources.source import Source

if TYPE_CHECKING:
    from textual.widget import Widget

    from swarmtop.dashboard.playback import Playback
    from swarmtop.dashboard.screens.page import Page


class DashboardBase(App[None]):
    session: Session
    source: Source
    options: DashboardOptions
    ink: Ink
    travel: Playback
    advising: Advising
    planner: Planner
    painted: bool  # a page has something on the screen
    members: tuple[Member, ...]  # told before the first frame
    title_text: str
    wants_demo: bool  # started when this dashboard has ended
    farewell: str  # printed after the terminal is restored
    _came_from: list[Screen]

    def view(self) -> View | None:
        """Return what is to be drawn now; None until the first frame."""
        raise NotImplementedError

    def notice(self) -> str:
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Show a line for some seconds."""
        raise NotImplementedError

    def picture(self, title: str) -> str:
        """Return the screen as SVG."""
        raise NotImplementedError

    def page(self, name: Screen) -> Page:
        raise NotImplementedError

    def tick(self) -> None:
        raise NotImplementedError

    def redraw(self) -> None:
        raise NotImplementedError

    def on_first_draw(self) -> None:
        """Note that a page has drawn something, which will be on the screen next."""
        raise NotImplementedError

    def on_filled(self, page: Page, part: Widget) -> None:
        """Note that a page has filled this part of it, if only with what it waits for."""
        raise NotImplementedError

    def finish(self, code: int) -> None:
        raise NotImplementedError

    def leave_running(self) -> None:
        """End the dashboard and leave its collector running."""
        raise NotImplementedError

    def use_theme(self, name: str) -> None:
        raise NotImplementedError

    def open_node(self, node_id: str) -> None:
        raise NotImplementedError

    def choose_model(self, name: str) -> None:
        raise NotImplementedError

    def choose_engine(self, engine: Engine) -> None:
        raise NotImplementedError

    def choose_workload(self, workload: Workload) -> None:
        raise NotImplementedError

    def tell_running(self, running: Running) -> None:
        raise NotImplementedError

    async def figures_aside(self, frame: Swarm) -> Figures | None:
        """Return the figures of a large frame, computed in a thread."""
        raise NotImplementedError

    def action_go_node(self) -> None:
        raise NotImplementedError

    async def action_back(self) -> None:
        raise NotImplementedError
