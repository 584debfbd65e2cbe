"""The shell of the dashboard: tasks, timers and keys. What is shown stands in `session`, how it reads in `model/`.

Frames replace each other (the latest wins) and are drawn at most four times a second; planning runs in its own thread.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import time
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import App
from textual.binding import BindingType
from textual.driver import Driver
from textual.worker import WorkerFailed

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Engine, PredictError, Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.node_figures import Figures, figures
from swarmtop.dashboard import actions, app_theme, terminal
from swarmtop.dashboard.driver import counting, waiting
from swarmtop.dashboard.lines import ranking
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.planner_thread import Analyst, analyse, choose
from swarmtop.dashboard.playback import NO_PAST, Travel
from swarmtop.dashboard.redraw_rate import Pace, bytes_per_s
from swarmtop.dashboard.screens.page import Page
from swarmtop.dashboard.session import JUMP_NS, LARGE, STEP_NS, Question, Session
from swarmtop.dashboard.state.mark import take
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.strips import Ink
from swarmtop.sources.source import Source, SourceError, can_be_told, is_recording

if TYPE_CHECKING:
    from swarmtop.analysis.analysis import Analysis

FIGURES_REST: Final = 7  # times as long as the figures of a large frame took, before those of the next: an eighth core
REST: Final = 4  # times as long as a slow redraw took, before the next
SETTLED_S: Final = 1.0  # after the first frame: the first paint, and the planner's imports, are done
REDRAW_S: Final = 0.25  # four times a second: faster than anyone reads, slow enough for ssh

ALWAYS: Final = ("interrupt", "suspend")  # these keys work under any list or prompt

# Screens by name, brought when somebody goes there: the first paint waits for the first one only.
PAGES: Final[dict[actions.Screen, tuple[str, str]]] = {
    "overview": ("overview", "Overview"),
    "node": ("node", "NodePage"),
    "links": ("links", "LinksPage"),
    "placement": ("placement", "PlacementPage"),
    "time": ("time", "TimePage"),
}


class Dashboard(App[None]):
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
            super().__init__(ansi_color=None if self._color else True)
        if self._color:
            for theme in app_theme.themes():
                self.register_theme(theme)
            # before the styles are read, so that the start does not read them twice
            self.set_reactive(App.theme, app_theme.theme_name(options.theme))
            self.stylesheet.set_variables(self.get_css_variables())
        self.source = source
        self.options = options
        self.session = Session(source.title, source.mode, options)
        self.title_text = clean(source.title, 60)
        self.crash: BaseException | None = None
        self.wants_demo = False  # what is opened when this has ended
        self.farewell = ""  # said when the terminal is the shell's again
        self.ended: SourceError | None = None  # the source gave up
        self._keys = actions.keymap(options.keys)
        for action in self._keys:
            if action.name in ALWAYS:
                for key in action.keys:
                    self._bindings.bind(key, action.name, priority=True)
        self.ink = Ink(color=self._color, ascii_only=options.ascii, theme=options.theme)
        self._analyst: Analyst | None = None
        self._analysis_failed = ""  # told once, not once a second
        self._came_from: list[actions.Screen] = []
        self._preparing = False  # the figures of a large frame
        self._figures_at = 0.0  # not before this the next ones
        self.painted = False
        self._second = 0
        self._rest_until = 0.0
        self.travel = Travel(self, source if is_recording(source) else None)

    # ------------------------------------------------------------ start and end

    def get_driver_class(self) -> type[Driver]:
        return counting(super().get_driver_class(), lambda count, now_s: self.pace.wrote(count, now_s))

    def page(self, name: actions.Screen) -> Page:
        """The screen of that name, made at the first visit."""
        if not self.is_screen_installed(name):
            module, kind = PAGES[name]
            made = getattr(importlib.import_module(f"swarmtop.dashboard.screens.{module}"), kind)
            self.install_screen(made(self.ink, (a for a in self._keys if a.on(name))), name)
        found = self.get_screen(name)
        assert isinstance(found, Page)
        return found

    def on_mount(self) -> None:
        self.push_screen(self.page("overview"))
        self._analyst = Analyst(self.options.analyse or analyse, self._deliver, self.options.choose or choose)
        self.set_interval(REDRAW_S, self.tick)
        self.run_worker(self._consume(), name="frames", exit_on_error=True)
        if self.session.standing == "live":
            self.run_worker(self._focus(), name="focus")
            if self.options.running is not None:
                self.tell_running(self.options.running)

    def on_unmount(self) -> None:
        if self._analyst is not None:
            self._analyst.close()

    def finish(self, code: int) -> None:
        """Ends the dashboard with this exit code; the first reason counts."""
        if not self._exit:
            self.exit(return_code=code)

    def _handle_exception(self, error: Exception) -> None:
        """A crash ends the dashboard without Textual's picture of it; `run_dashboard` says where the traceback is."""
        self.crash = self.crash or (error.error if isinstance(error, WorkerFailed) else error)
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()

    # ------------------------------------------------------------ what comes in

    async def _consume(self) -> None:
        """Frames of the source, the newest always shown; reconnecting is the source's business."""
        try:
            if is_recording(self.source):
                self.session.recording = await self.source.span()
            async for swarm in self.source.frames():
                first = self.session.latest is None
                self.session.accept(swarm)
                if first:
                    self.tick()
        except SourceError as error:
            self.ended = error
            self.finish(error.exit_code)

    def tick(self) -> None:
        """At most four times a second: draws what is new, asks the planner, moves a playing recording on."""
        session = self.session
        began = time.monotonic()
        if self._rest_until > began or not self.pace.ready(began, waiting(self._driver)):
            return
        if can_be_told(self.source) and self.source.silent_since_ns != session.silent_since_ns:
            session.silent_since_ns, session.dirty = self.source.silent_since_ns, True
        self._catch_up()
        if session.playing:
            self.travel.play(REDRAW_S)
        question = session.ask() if self.painted else None  # planning takes the processor: first there is a screen
        if question is not None and self._analyst is not None:
            self._analyst.ask(question)
        if news := session.followed_news():
            self.say(clean(news))
        second = self.options.now_ns() // NS_PER_S
        if session.dirty or second != self._second:
            session.dirty, self._second = False, second
            self.redraw()
        # a swarm so large that drawing it takes long is drawn less often: keys come first
        took = time.monotonic() - began
        self._rest_until = time.monotonic() + (REST * took if took > REDRAW_S / REST else 0.0)

    def _catch_up(self) -> None:
        """Shows the newest frame; the matrices of a large swarm are worked through in a thread: keys do not wait."""
        frame = self.session.next_frame()
        if frame is None or self._preparing:
            return
        if len(frame) < LARGE:
            self.session.show(frame)
            return
        if time.monotonic() < self._figures_at:
            return
        self._preparing = True
        self.run_worker(self._prepare(frame), name="figures")

    async def _prepare(self, frame: Swarm) -> None:
        model = self.session.model.name
        try:
            known, took_s = await asyncio.to_thread(_timed_figures, frame, model)
            self._figures_at = time.monotonic() + FIGURES_REST * took_s
        finally:
            self._preparing = False
        if model == self.session.model.name and self.session.next_frame() is not None:
            self.session.show(frame, known)
            self.tick()

    async def figures_aside(self, frame: Swarm) -> Figures | None:
        """Those of a large frame, from a thread; None: it is small, and whoever shows it works them out."""
        if len(frame) < LARGE:
            return None
        return (await asyncio.to_thread(_timed_figures, frame, self.session.model.name))[0]

    def on_first_paint(self) -> None:
        """A page has something on the screen."""
        if not self.painted:
            self.painted = True
            self.tick()
            self.set_timer(SETTLED_S, _settle)

    def redraw(self) -> None:
        if not self._screen_stack:  # a timer's last call, while the screens are being taken down
            return
        if isinstance(self.screen, Page):
            self.screen.redraw()
        else:  # an overlay: what it lies over goes on living
            for screen in self.screen_stack:
                if isinstance(screen, Page):
                    screen.redraw()

    def _deliver(self, question: Question, outcome: Analysis | Exception) -> None:
        """In the planner's thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._take, question, outcome)

    def _take(self, question: Question, outcome: Analysis | Exception) -> None:
        if not isinstance(outcome, Exception):
            before = self.session.model.name, self.session.workload.weights
            self.session.answer(question, outcome)
            if self.session.standing == "live" and before != (self.session.model.name, self.session.workload.weights):
                self.run_worker(self._focus(), name="focus")
            self.session.judge(time.monotonic_ns(), self.options.now_ns())
            return
        what = f"{type(outcome).__name__}: {outcome}"
        if what != self._analysis_failed:
            self._analysis_failed = what
            path = terminal.log_error(self.options.state_dir, outcome)
            self.say(
                f"the planner failed ({clean(what, 120)}); please report it with {path or 'what stands on stderr'}"
            )

    async def _focus(self) -> None:
        """Asks the swarm to measure what this model needs."""
        model, workload = self.session.model, self.session.workload
        size = round(model.hop_bytes(workload.batch, workload.activations))
        try:
            await self.source.focus(model.name, model.layer, workload.weights, size, model.vocab)
        except SourceError as error:
            self.say(f"the swarm was not asked to measure {model.name}: {error}")

    # ------------------------------------------------------------ what the screens ask

    def view(self) -> View | None:
        return self.session.view(self.options.now_ns())

    def picture(self, title: str) -> str:
        """The screen as SVG, on the ground of its theme: that of the terminal is not known."""
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
            self.run_worker(self._focus(), name="focus")
        self.tick()

    def choose_engine(self, engine: Engine) -> None:
        self.session.choose_engine(engine)
        self.tick()

    def choose_workload(self, workload: Workload) -> None:
        self.session.choose_workload(workload)
        if self.session.standing == "live":
            self.run_worker(self._focus(), name="focus")
        self.tick()

    def tell_running(self, running: Running) -> None:
        """Shown here at once; where there is a collector, to every viewer and in recordings."""
        self.session.tell_running(running)
        if can_be_told(self.source):
            self.run_worker(self._tell(running), name="running")
        self.tick()

    async def _tell(self, running: Running) -> None:
        if can_be_told(self.source):
            try:
                await self.source.tell_running(running)
            except SourceError as error:
                self.say(f"shown here only: {error}")

    # ------------------------------------------------------------ keys of every screen

    def _go(self, screen: actions.Screen, *, remember: bool = True) -> None:
        here = self.screen
        if not isinstance(here, Page) or screen == here.NAME:
            return
        if remember:
            self._came_from = [*self._came_from[-20:], here.NAME]
        self.switch_screen(self.page(screen))

    def open_node(self, node_id: str) -> None:
        self.session.chosen = node_id
        self._go("node")

    def action_go_overview(self) -> None:
        self._go("overview")

    def action_go_node(self) -> None:
        self._go("node")

    def action_go_links(self) -> None:
        self._go("links")

    def action_go_placement(self) -> None:
        self._go("placement")

    def action_go_time(self) -> None:
        self._go("time")

    async def action_back(self) -> None:
        self._go(self._came_from.pop() if self._came_from else "overview", remember=False)

    def action_pause(self) -> None:
        if self.session.standing == "file":
            self.say("a file stands still by itself")
        self.session.toggle_pause()
        self.tick()

    def action_step(self) -> None:
        self.travel.go_by(STEP_NS)

    def action_step_back(self) -> None:
        self.travel.go_by(-STEP_NS)

    def action_jump(self) -> None:
        self.travel.go_by(JUMP_NS)

    def action_jump_back(self) -> None:
        self.travel.go_by(-JUMP_NS)

    def action_next_event(self) -> None:
        self.travel.to_event(forward=True)

    def action_previous_event(self) -> None:
        self.travel.to_event(forward=False)

    def action_latest(self) -> None:
        self.travel.to_the_newest()

    def action_follow(self) -> None:
        """The chosen node; the first of the ranking where none was chosen."""
        session, view = self.session, self.view()
        if view is None or not len(view.swarm):
            return
        order = ranking.order(view, session.sort, session.reverse, session.filter)
        facts = view.swarm.facts
        first = facts[int(order[0])].node_id if len(order) else facts[0].node_id
        session.follow(session.chosen if any(f.node_id == session.chosen for f in facts) else first)
        name = next((f.name for f in facts if f.node_id == session.followed), "")
        self.say(f"following {clean(name, 40)}" if session.followed else "nobody is followed any more")
        self.redraw()

    def action_mark(self) -> None:
        """Here, or nowhere where the mark stands here already."""
        session, view = self.session, self.view()
        if view is None:
            return
        if session.mark is not None and session.mark.at_ns == view.swarm.at_ns:
            session.mark = None
            self.say("the mark is dropped")
        else:
            session.mark = take(view)
            self.say(f"marked {view.clock(view.swarm.at_ns)}; what differs from it is shown")
        self.redraw()

    def action_theme(self) -> None:
        if self.ink.plain:
            self.say("there are no colours to choose: NO_COLOR is set")
            return
        from swarmtop.dashboard.screens import pickers

        pickers.choose_theme(self)

    def use_theme(self, name: str) -> None:
        self.ink.use(name)
        self.theme = app_theme.theme_name(name)
        for screen in self.screen_stack:
            for widget in screen.walk_children():
                widget.refresh()

    def action_slower(self) -> None:
        self._change_speed(-1)

    def action_faster(self) -> None:
        self._change_speed(1)

    def _change_speed(self, by: int) -> None:
        self.session.change_speed(by)
        self.tick()

    def action_go_to(self) -> None:
        if self.session.span is None:
            self.say(NO_PAST)
            return
        from swarmtop.dashboard.screens import pickers

        pickers.ask_time(self)

    def action_next_screen(self) -> None:
        if isinstance(self.screen, Page):
            at = actions.SCREENS.index(self.screen.NAME)
            self._go(actions.SCREENS[(at + 1) % len(actions.SCREENS)])

    def action_refresh(self) -> None:
        self.session.ask_again()
        self.tick()
        self.refresh(layout=True)

    def action_model(self) -> None:
        from swarmtop.dashboard.screens import pickers

        pickers.choose_model(self)

    def action_engine(self) -> None:
        from swarmtop.dashboard.screens import pickers

        pickers.choose_engine(self)

    def action_weights(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_weights(self)

    def action_activations(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_activations(self)

    def action_client(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_client(self)

    def action_workload(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_any(self)

    def action_context(self) -> None:
        self._choose_number("context")

    def action_batch(self) -> None:
        self._choose_number("batch")

    def action_streams(self) -> None:
        self._choose_number("streams")

    def _choose_number(self, field: str) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_number(self, field)

    def action_help(self) -> None:
        if isinstance(self.screen, Page):
            from swarmtop.dashboard.screens import pickers

            pickers.show_help(self, self.screen)

    def action_palette(self) -> None:
        if isinstance(self.screen, Page):
            from swarmtop.dashboard.screens import pickers

            pickers.show_palette(self, self.screen)

    async def action_quit(self) -> None:
        """Ends at once, unless that would end the collector under the feet of others."""
        others = self.session.members_beside_us()
        if self.options.keep_collector is None or not others:
            self.finish(0)
            return
        from swarmtop.dashboard.screens import pickers

        pickers.ask_leaving(self, others)

    def leave_running(self) -> None:
        """Ends the dashboard and lets its collector go on."""
        if self.options.keep_collector is not None:
            self.farewell = self.options.keep_collector()
        self.finish(0)

    def action_interrupt(self) -> None:
        self.finish(130)

    def action_suspend(self) -> None:
        self.action_suspend_process()


def _settle() -> None:
    """The start is over: from here on garbage is looked for, but not among what was imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _timed_figures(frame: Swarm, model: str) -> tuple[Figures, float]:
    """For a thread: the figures, and the seconds of processor they took."""
    began = time.thread_time()
    return figures(frame, model, frame.at_ns), time.thread_time() - began
