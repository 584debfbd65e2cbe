"""Run the Textual app of the dashboard: tasks, timers and keys. `session` holds what is shown, `lines/` draws it.

Frames replace each other (the latest wins) and are drawn at most four times a second; planning runs in its own thread.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import App
from textual.binding import BindingType
from textual.driver import Driver
from textual.worker import WorkerFailed

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Engine, PredictError, Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.swarm import Member, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.node_figures import Figures, figures
from swarmtop.dashboard import keymap, workers
from swarmtop.dashboard.global_key_handlers import KeyActions
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.planner.jobs import Advising
from swarmtop.dashboard.planner.planner import Planner
from swarmtop.dashboard.planner.thread import Analyst
from swarmtop.dashboard.playback import Playback
from swarmtop.dashboard.screens.page import Page
from swarmtop.dashboard.session import LARGE, Session
from swarmtop.dashboard.state.planner_question import Question
from swarmtop.dashboard.state.view import View, row_of_id
from swarmtop.dashboard.terminal import app_theme
from swarmtop.dashboard.terminal import restore as terminal
from swarmtop.dashboard.terminal.driver import counting, waiting
from swarmtop.dashboard.terminal.first_write import FirstWrite
from swarmtop.dashboard.terminal.redraw_rate import Pace, bytes_per_s
from swarmtop.dashboard.widgets.colours import ANSI
from swarmtop.dashboard.widgets.strips import Ink
from swarmtop.errors import WorkerEnded
from swarmtop.sources.source import Source, SourceError, accepts_reports, is_recording, lists_members

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.screen import Screen
    from textual.widget import Widget

    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.ranking.rolling_figures import RollingFigures

# idle time after computing the figures of a large frame, as a multiple of it: a fiftieth of a core
FIGURES_REST: Final = 49
# at the start all nodes' figures are computed at once, so that no figure on the screen looks old
MAX_FIGURES_REST_S: Final = 2.0
FRAME_REST: Final = 24  # idle time after drawing a frame, as a multiple of it: a twentieth of a core
MAX_FRAME_REST_S: Final = 1.0
REST: Final = 4  # idle time after a slow redraw, as a multiple of it
SETTLED_S: Final = 1.0  # after the first frame: the first paint, and the planner's imports, are done
REDRAW_S: Final = 0.25  # four times a second: faster than anyone reads, slow enough for ssh

ALWAYS: Final = ("interrupt", "suspend")  # these keys also work in any list or prompt

# Screens by name, imported when somebody goes there: the first paint needs the first one only.
PAGES: Final[dict[keymap.Screen, tuple[str, str]]] = {
    "overview": ("overview", "Overview"),
    "node": ("node", "NodePage"),
    "links": ("links", "LinksPage"),
    "placement": ("placement", "PlacementPage"),
    "time": ("time", "TimePage"),
}


class Dashboard(KeyActions):
    BINDINGS: ClassVar[list[BindingType]] = []
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: $background; color: $foreground; }
    Overlay { background: transparent; }
    """

    def __init__(self, source: Source, options: DashboardOptions) -> None:
        self._color = options.color if options.color is not None else not os.environ.get("NO_COLOR")
        self.pace = Pace(bytes_per_s(os.environ))
        with app_theme.environment(NO_COLOR=None if self._color else "1"):
            super().__init__(ansi_color=True if not self._color or options.theme == ANSI else None)
        if self._color:
            for theme in app_theme.themes():
                self.register_theme(theme)
            # before the styles are read, so that they are read once at the start
            self.set_reactive(App.theme, app_theme.theme_name(options.theme))
            self.stylesheet.set_variables(self.get_css_variables())
        self.source = source
        self.options = options
        self.session = Session(source.title, source.mode, options)
        self.title_text = clean(source.title, 60)
        self.crash: BaseException | None = None
        self.wants_demo = False  # started when this dashboard has ended
        self.farewell = ""  # printed after the terminal is restored
        self.ended: SourceError | None = None  # the source gave up
        self._keys = keymap.keymap(options.keys)
        for action in self._keys:
            if action.name in ALWAYS:
                for key in action.keys:
                    self._bindings.bind(key, action.name, priority=True)
        self.ink = Ink(color=self._color, ascii_only=options.ascii, theme=options.theme)
        self._analyst: Analyst | None = None
        self.advising = Advising()
        self.planner = Planner()
        self._analysis_failed = ""  # reported once, not once a second
        self._came_from: list[keymap.Screen] = []
        self._frame_at = float("-inf")  # when the newest frame was shown,
        self._spent_at_frame_s = 0.0  # and the processor time of this thread until then
        self._figures_free = asyncio.Event()  # cleared while the figures of a large frame are computed
        self._figures_free.set()
        self._rolling: RollingFigures | None = None  # the task that computes them for large live frames
        self._figures_at = 0.0  # the next ones are computed no earlier
        self.painted = self._drawn = False
        self._first_write = FirstWrite()
        self._focused = ("", "")  # model and weights that the collector was last asked to measure
        self.members: tuple[Member, ...] = ()
        self._first_paint = asyncio.Event()
        self._second = 0
        self._rest_until = 0.0
        self.travel = Playback(self, source if is_recording(source) else None)

    # ------------------------------------------------------------ start and end

    def get_driver_class(self) -> type[Driver]:
        return counting(super().get_driver_class(), lambda count, now_s: self.pace.wrote(count, now_s))

    def page(self, name: keymap.Screen) -> Page:
        """Return the screen of that name; it is made at the first visit."""
        if not self.is_screen_installed(name):
            module, kind = PAGES[name]
            made = getattr(importlib.import_module(f"swarmtop.dashboard.screens.{module}"), kind)
            self.install_screen(made(self.ink, (a for a in self._keys if a.on(name))), name)
        found = self.get_screen(name)
        assert isinstance(found, Page)
        return found

    def get_default_screen(self) -> Page:
        """Return the overview. On top of Textual's own default screen, each layout of that one painted all again."""
        page = self.page("overview")
        page._push_result_callback(page, None)  # as push_screen does: switch_screen takes one away
        return page

    def on_mount(self) -> None:
        options, planner = self.options, self.planner
        self._analyst = Analyst(options.analyse or planner.analyse, self._deliver, options.choose or planner.choose)
        self.set_interval(REDRAW_S, self.tick)
        workers.start(self, self._consume, name="frames")
        if self.session.standing == "live":
            if self.options.open_question is None:  # else once it is filled in: each change makes every machine compute
                workers.start(self, self._focus, name="focus")
            if self.options.running is not None:
                self.tell_running(self.options.running)

    def on_unmount(self) -> None:
        if self._analyst is not None:
            self._analyst.close()
        self.planner.close()

    def finish(self, code: int) -> None:
        """End the dashboard with this exit code; the first call decides."""
        if not self._exit:
            self.exit(return_code=code)

    def _handle_exception(self, error: Exception) -> None:
        """End the dashboard without Textual's traceback screen; `run_dashboard` says where the traceback is."""
        self.crash = self.crash or (error.error if isinstance(error, WorkerFailed) else error)
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()

    # ------------------------------------------------------------ what comes in

    async def _consume(self) -> None:
        """Receive the source's frames and keep the newest. Reconnecting is up to the source."""
        try:
            if is_recording(self.source):
                self.session.recording = await self.source.span()
            if lists_members(self.source) and (members := await self.source.members()):
                self.members = members
                self.redraw()
                await self._first_paint.wait()
            async for swarm in self.source.frames():
                before = self.session.latest
                self.session.accept(swarm)
                if before is None or before.unread:
                    self._rest_until = 0.0  # somebody waits for it
                    self.tick()
                    # the source reads on behind what is shown: it takes the processor
                    await (self._first_paint if swarm.unread else self._figures_free).wait()
        except SourceError as error:
            self.ended = error
            self.finish(error.exit_code)

    def tick(self) -> None:
        """At most four times a second, draw what is new, start the planner, and advance a recording that plays."""
        session = self.session
        began = time.monotonic()
        if self._rest_until > began or not self.pace.ready(began, waiting(self._driver)):
            return
        if accepts_reports(self.source) and self.source.silent_since_ns != session.silent_since_ns:
            session.silent_since_ns, session.dirty = self.source.silent_since_ns, True
        for event in self.options.programs.poll() if self.options.programs is not None else ():
            session.add_event(event, self.options.now_ns())
            self.say(event)
        self._catch_up()
        if session.playing:
            self.travel.play(REDRAW_S)
        question = session.ask() if self.painted else None  # planning takes the processor, so the screen comes first
        if question is not None and self._analyst is not None:
            self._analyst.ask(question)
        if news := session.followed_news():
            self.say(clean(news))
        second = self.options.now_ns() // NS_PER_S
        if session.dirty or second != self._second:
            session.dirty, self._second = False, second
            self.redraw()
        # a large swarm that takes long to draw is drawn less often, so that keys are answered first
        took = time.monotonic() - began
        self._rest_until = time.monotonic() + (REST * took if took > REDRAW_S / REST else 0.0)

    def _catch_up(self) -> None:
        """Show the newest frame. The matrices of a large swarm are computed in a thread, so that keys need not wait."""
        frame = self.session.next_frame()
        if frame is None or not self._figures_free.is_set():
            return
        shown = self.session.shown
        spent_s = time.thread_time() - self._spent_at_frame_s
        rests = time.monotonic() < self._frame_at + min(FRAME_REST * spent_s, MAX_FRAME_REST_S)
        # a redraw after a key or an answer uses the newest frame too, and members wait for their first figures
        if rests and not self.session.dirty and not (shown is not None and shown.unread):
            return
        self._frame_at, self._spent_at_frame_s = time.monotonic(), time.thread_time()
        if len(frame) < LARGE or frame.unread:
            self.session.show(frame)
            return
        if time.monotonic() < self._figures_at:
            return
        self._figures_free.clear()
        workers.start(self, self._prepare, frame, name="figures")

    async def _prepare(self, frame: Swarm) -> None:
        model = self.session.model.name
        try:
            known, took_s = await asyncio.to_thread(_timed_figures, frame, model, self._roll)
            self._figures_at = time.monotonic() + min(FIGURES_REST * took_s, MAX_FIGURES_REST_S)
        finally:
            self._figures_free.set()
        if model == self.session.model.name and self.session.next_frame() is not None:
            self.session.show(frame, known)
            self.tick()

    def _roll(self, frame: Swarm, model: str) -> Figures:
        """Compute the figures of the next live frame. Runs in a thread."""
        from swarmtop.analysis.ranking.rolling_figures import RollingFigures  # only large swarms need them

        self._rolling = self._rolling or RollingFigures()
        row_of = row_of_id(frame.facts)
        rows = [row_of[node] for node in self.session.in_sight if node in row_of]
        return self._rolling.update(frame, model, np.array(rows, np.int64))

    async def figures_aside(self, frame: Swarm) -> Figures | None:
        """Return the figures of a large frame, computed in a thread; None: it is small, and the caller computes
        them."""
        if len(frame) < LARGE:
            return None
        return (await asyncio.to_thread(_timed_figures, frame, self.session.model.name, _at_once))[0]

    def on_first_draw(self) -> None:
        self._drawn = True

    def on_filled(self, page: Page, part: Widget) -> None:
        self._first_write.filled(page, part)

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        """Start the planner and the timers once a page is on the screen. (Textual calls back after a refresh of the
        layout, which may be before its widgets are written.)"""
        if not self._first_write.begins(renderable):
            return
        super()._display(screen, renderable)
        if self._drawn and not self.painted and renderable is not None:
            self.painted = True
            self._first_paint.set()
            self.call_later(self.tick)
            self.set_timer(SETTLED_S, _settle)

    def redraw(self) -> None:
        if not self._screen_stack:  # a last call of the timer, while the screens are being removed
            return
        if isinstance(self.screen, Page):
            self.screen.redraw()
        else:  # an overlay: the screen below it is still updated
            for screen in self.screen_stack:
                if isinstance(screen, Page):
                    screen.redraw()

    def _deliver(self, question: Question, outcome: Analysis | Exception) -> None:
        """Runs in the planner's thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._take, question, outcome)

    def _take(self, question: Question, outcome: Analysis | Exception) -> None:
        if not isinstance(outcome, Exception):
            is_first = self.session.analysis is None
            self.session.answer(question, outcome)
            chosen = self.session.model.name, self.session.workload.weights
            if self.session.standing == "live" and self._focused != chosen:
                workers.start(self, self._focus, name="focus")
            self.session.judge(time.monotonic_ns(), self.options.now_ns())
            if is_first:
                self.tick()  # somebody waits for it
            return
        if isinstance(outcome, WorkerEnded):  # no bug of ours: said each time, as after F5
            self.say(f"no plan: {clean(str(outcome), 200)}")
            return
        what = f"{type(outcome).__name__}: {outcome}"
        if what != self._analysis_failed:
            self._analysis_failed = what
            path = terminal.log_error(self.options.state_dir, outcome)
            self.say(f"the planner failed ({clean(what, 120)}); please report it with {path or 'the output on stderr'}")

    async def _focus(self) -> None:
        """Ask the collector to measure what this model needs."""
        model, workload = self.session.model, self.session.workload
        self._focused = model.name, workload.weights
        size = round(model.hop_bytes(workload.batch, workload.activations))
        asked = self.session.open_question
        chosen = asked is None or asked.model is not None  # not by the command's default
        try:
            await self.source.focus(model.name, model.layer, workload.weights, size, model.vocab, chosen=chosen)
        except SourceError as error:
            self.say(f"the swarm was not asked to measure {model.name}: {error}")

    # ------------------------------------------------------------ what the screens ask

    def view(self) -> View | None:
        return self.session.view(self.options.now_ns())

    def picture(self, title: str) -> str:
        """Return the screen as SVG, on the theme's background: the terminal's own is not known."""
        svg = self.export_screenshot(title=title)
        return svg if self.ink.plain else app_theme.on_ground(svg, self.ink.theme)

    def notice(self) -> str:
        view = self.view()
        return view.notice if view else self.session.notice(self.options.now_ns())

    def say(self, text: str) -> None:
        self.session.say(text, self.options.now_ns())

    def choose_model(self, name: str) -> None:
        try:
            model = self.options.model if name == self.options.model.name else model_named(name)
        except PredictError as error:
            self.say(str(error))
            return
        self.session.choose_model(model)
        if self.session.standing == "live":
            workers.start(self, self._focus, name="focus")
        self.tick()

    def choose_engine(self, engine: Engine) -> None:
        self.session.choose_engine(engine)
        self.tick()

    def choose_workload(self, workload: Workload) -> None:
        self.session.choose_workload(workload)
        if self.session.standing == "live":
            workers.start(self, self._focus, name="focus")
        self.tick()

    def tell_running(self, running: Running) -> None:
        """Set what runs, here at once and, if there is a collector, for every viewer and in recordings."""
        self.session.tell_running(running)
        if accepts_reports(self.source):
            workers.start(self, self._tell, running, name="running")
        self.tick()

    async def _tell(self, running: Running) -> None:
        if accepts_reports(self.source):
            try:
                await self.source.tell_running(running)
            except SourceError as error:
                self.say(f"shown here only: {error}")


def _settle() -> None:
    """End the start-up: collect garbage from now on, but not among the imported modules."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _at_once(frame: Swarm, model: str) -> Figures:
    return figures(frame, model, frame.at_ns)


def _timed_figures(frame: Swarm, model: str, work: Callable[[Swarm, str], Figures]) -> tuple[Figures, float]:
    """Return the figures and the processor seconds they took. For a thread."""
    began = time.thread_time()
    return work(frame, model), time.thread_time() - began
