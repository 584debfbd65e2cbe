"""Hold the state behind the screens, without Textual: the frame shown, pause, the question, the chosen node.

Frames and answers come in, Views go out. The app owns tasks, timers and keys; this decides what they mean.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from swarm_predict.types import Engine, Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Event, State, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.filter import Filter
from swarmtop.analysis.ranking.node_figures import Figures, aged, figures, of_model
from swarmtop.dashboard.lines.columns import COLUMNS
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.state.live_alerts import LiveAlerts
from swarmtop.dashboard.state.live_history import Kept
from swarmtop.dashboard.state.plan_history import Rate, Rates
from swarmtop.dashboard.state.planner_question import Question
from swarmtop.dashboard.state.recent_rtt import MINUTE_NS, Recent
from swarmtop.dashboard.state.view import RunningSummary, View, about, events_of, not_well, state_words
from swarmtop.sources.source import Mode, Span

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.ranking.node_rows import Row
    from swarmtop.dashboard.state.advice import Advice
    from swarmtop.dashboard.state.mark import Mark
    from swarmtop.dashboard.state.what_if import Draft

EVENTS_KEPT: Final = 500
LARGE: Final = 150  # nodes; computing the figures of a larger swarm would delay keys
NOTICE_NS: Final = 6 * NS_PER_S
STEP_NS: Final = 5 * NS_PER_S
JUMP_NS: Final = 60 * NS_PER_S
SPEEDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0)


class Session:
    def __init__(self, title: str, mode: Mode, options: DashboardOptions) -> None:
        self.options = options
        self.model = options.model
        self.workload = options.workload
        self.open_question = options.open_question
        self._running = options.running  # what runs as a person states it, which takes precedence over what is stored
        self.silent_since_ns: int | None = None  # as the source says
        self.note = ""  # which model is shown because another does not fit
        self.chosen: str | None = None  # node id
        self.followed: str | None = None  # node id, kept in sight
        self.in_sight: frozenset[str] = frozenset()  # node ids on the screen, whose figures come first
        self._followed_was = ""  # its state when it was last looked at
        self.sort = "gain"
        self.reverse = False
        self.columns = options.columns  # empty: all that fit
        self.mark: Mark | None = None  # a moment to compare with
        self.filter = Filter()
        self.paused = False
        self.playing = False
        self.speed = 1.0
        self.dirty = True  # something to draw
        self.latest: Swarm | None = None
        self.shown: Swarm | None = None
        self.analysis: Analysis | None = None
        self.advice: Advice | None = None  # about an answer of this question
        self.answered: Question | None = None  # what `analysis` is the answer to
        self.draft: Draft = ()  # the what-if, edit by edit
        self.recording: Span | None = None
        self.kept = Kept()  # kept minutes of a live swarm
        self.rates = Rates()
        self._title = title
        self._mode = mode
        self._recent = Recent()
        self._alerts = LiveAlerts(options.alerts)
        self._held: Recent | None = None  # the minute before the moment shown, if that is not the newest
        self._events: dict[Event, None] = {}
        self._notice = ""
        self._notice_ns = 0
        self._question = 0
        self._reset_at = 0  # answers up to this question are about another model
        self._asked: tuple[int, str, Workload] | None = None
        self._away = False  # at a moment that the person went to
        self._rows: tuple[Analysis | None, Mapping[str, Row]] | None = None
        self._words: tuple[int, int, tuple[str, ...]] | None = None
        self._aged: tuple[int, Figures] | None = None  # second, figures
        self._figures: tuple[Swarm, Figures] | None = None  # with the frame they are of

    # ------------------------------------------------------------ in

    def accept(self, swarm: Swarm) -> None:
        """Take in a new frame of the source; this is cheap, because the next may replace it before it is drawn."""
        swarm = self._with_stated_running(swarm)
        self.latest = swarm
        self._remember(events_of(swarm))
        if self._mode == "live":
            self.kept.add(swarm)
        if len(swarm) < LARGE and self._recent.is_new(swarm.at_ns):
            # the minute continues to fill while the screen is paused, or while frames are replaced undrawn
            self._recent.add(swarm, figures(swarm, self.model.name, swarm.at_ns).rtt99_ms)

    def next_frame(self) -> Swarm | None:
        """Return the newest frame if it is not shown yet and the screen is not paused."""
        waiting = self.latest is not self.shown and not self.paused and not self._away
        return self.latest if waiting else None

    def show(self, swarm: Swarm, known: Figures | None = None) -> None:
        """Show a frame. `known`: its figures for the present model, computed elsewhere."""
        self.shown = swarm
        if known is not None:
            self._figures = (swarm, known)
        self._aged = None
        if not swarm.unread:
            (self._held or self._recent).add(swarm, self.figures(swarm.at_ns).rtt99_ms)
        self.dirty = True

    def stand_at(self, swarm: Swarm, known: Figures | None = None) -> None:
        """Show a frame of the past that the person went to. `known`: its figures, computed elsewhere."""
        swarm = self._with_stated_running(swarm)
        self._remember(events_of(swarm))
        self._away = True
        if self.recording is None:
            self._held = self._minute_before(swarm)
        self.show(swarm, known)

    def _minute_before(self, swarm: Swarm) -> Recent:
        """Return the minute before a kept moment, for sparklines; empty for a large swarm, whose figures take too
        long."""
        found = Recent()
        for frame in self.kept.between(swarm.at_ns - MINUTE_NS, swarm.at_ns - 1) if len(swarm) < LARGE else ():
            found.add(frame, figures(frame, self.model.name, frame.at_ns).rtt99_ms)
        return found

    def back_to_live(self) -> None:
        self.paused = self.playing = self._away = False
        self._held = None
        self.dirty = True

    def answer(self, question: Question, analysis: Analysis) -> None:
        """Take in an answer; it is ignored if another model or engine has been chosen since."""
        if question.number > self._reset_at:
            self._filled_in(question)
            self.analysis = analysis
            self.answered = question
            self.surveyed(question.swarm, analysis)

    def _filled_in(self, question: Question) -> None:
        """Adopt the model, weights and engine that the planner's thread chose because they were left open."""
        if (question.model, question.workload) != (self.model, self.workload):
            self.model, self.workload = question.model, question.workload
            self._asked = (id(question.swarm), self.model.name, self.workload)
            self.rates.clear()
            self.advice = None
        self.note = question.note

    def _with_stated_running(self, swarm: Swarm) -> Swarm:
        if self._running is None:
            return swarm
        return dataclasses.replace(swarm, running=self._running)

    def tell_running(self, running: Running) -> None:
        """Set what runs from now on, as the person at this screen states it."""
        self._running = running
        if self.latest is not None:
            self.latest = self._with_stated_running(self.latest)
        if self.shown is not None:
            self.show(self._with_stated_running(self.shown))

    def surveyed(self, swarm: Swarm, analysis: Analysis) -> None:
        """Take in an answer about a moment that need not be the one shown."""
        words = state_words(swarm, analysis)
        stands = analysis.stands
        found = stands.tokens_per_s if stands is not None else None
        low, rate, high = (found.p5, found.p50, found.p95) if found is not None else (None, None, None)
        self.rates.add(Rate(swarm.at_ns, rate, not_well(swarm, words), low, high))
        self.dirty = True

    def judge(self, steady_ns: int, wall_ns: int) -> None:
        """Evaluate the alert rules on the newest answer about a live swarm, and report what fires and clears."""
        if self.shown is None or self.analysis is None or self.standing != "live":
            return
        for line, is_event in self._alerts.look(steady_ns, self.shown, self.analysis):
            if is_event:
                self._remember([Event(wall_ns, "", "alert", line)])
            self.say(line, wall_ns)

    def ask(self) -> Question | None:
        """Return the question to answer now; None if it has already been asked."""
        if self.shown is None or not len(self.shown) or self.shown.unread:
            return None
        asked = (id(self.shown), self.model.name, self.workload)
        if asked == self._asked:
            return None
        self._asked = asked
        self._question += 1
        return Question(self._question, self.shown, self.model, self.workload, self.analysis, self.open_question)

    def ask_again(self) -> None:
        """Have the frame shown planned again."""
        self._asked = None
        self.dirty = True

    def choose_model(self, model: ModelShape) -> None:
        self.model = model
        if self.open_question is not None:
            self.open_question = msgspec.structs.replace(self.open_question, model=model, workload=self.workload)
        self._new_question()

    def choose_workload(self, workload: Workload) -> None:
        """Change weights, engine, context, batch, streams, client or activations."""
        if self.open_question is not None:
            asked = self.open_question
            self.open_question = msgspec.structs.replace(
                asked,
                workload=workload,
                weights_are_chosen=asked.weights_are_chosen or workload.weights != self.workload.weights,
                engine_is_chosen=asked.engine_is_chosen or workload.engine != self.workload.engine,
            )
        self.workload = workload
        self._new_question()

    def choose_engine(self, engine: Engine) -> None:
        self.choose_workload(dataclasses.replace(self.workload, engine=engine))

    def _new_question(self) -> None:
        self.analysis = self.advice = None
        self.answered = None
        self.draft = ()
        self.note = ""
        self.rates.clear()
        self._reset_at = self._question
        self.dirty = True

    def say(self, text: str, now_ns: int) -> None:
        """Show a line for some seconds."""
        self._notice, self._notice_ns, self.dirty = text, now_ns, True

    def add_event(self, text: str, at_ns: int) -> None:
        """Add an event that no frame carries."""
        self._remember((Event(at_ns=at_ns, node="", kind="note", detail=text),))
        self.dirty = True

    def toggle_pause(self) -> None:
        if self.recording is not None or self._away:
            self.playing = not self.playing
        elif self._mode == "live":
            self.paused = not self.paused
            self._held = copy.deepcopy(self._recent) if self.paused else None
        self.dirty = True

    def change_speed(self, by: int) -> None:
        at = SPEEDS.index(self.speed)
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, at + by))]
        self.dirty = True

    def _remember(self, events: Sequence[Event]) -> None:
        for event in events:
            self._events[event] = None
        while len(self._events) > EVENTS_KEPT:
            del self._events[next(iter(self._events))]

    def members_beside_us(self) -> int:
        """Return how many machines answer besides this one's own probe."""
        if self.latest is None:
            return 0
        here = sum(state in (State.OK, State.STALE) for state in self.latest.nodes["state"].tolist())
        return max(0, here - 1)

    # ------------------------------------------------------------ out

    @property
    def span(self) -> Span | None:
        """Return the span that one can move in: the recording, or the kept minutes of a live swarm."""
        return self.recording or self.kept.span

    @property
    def standing(self) -> RunningSummary:
        if self._away or self.recording is not None or self._mode == "replay":
            return "replay"
        if self._mode == "file":
            return "file"
        return "paused" if self.paused else "live"

    def figures(self, now_ns: int) -> Figures:
        """Return the figures of the frame shown; the matrices are computed once a frame, only ages change with the
        clock."""
        assert self.shown is not None
        before = self._figures
        if before is None or before[0] is not self.shown:
            self._figures = (self.shown, figures(self.shown, self.model.name, now_ns))
            self._aged = None
        elif before[1].model != self.model.name:
            self._figures = (self.shown, of_model(before[1], self.shown, self.model.name))
            self._aged = None
        assert self._figures is not None
        if self._aged is None or self._aged[0] != now_ns // NS_PER_S:
            self._aged = (now_ns // NS_PER_S, aged(self._figures[1], self.shown, now_ns))
        return self._aged[1]

    def _state_words(self, swarm: Swarm) -> tuple[str, ...]:
        if self._words is None or self._words[:2] != (id(swarm), id(self.analysis)):
            self._words = (id(swarm), id(self.analysis), state_words(swarm, self.analysis))
        return self._words[2]

    def view(self, now_ns: int) -> View | None:
        """Return what is to be drawn; None until the first frame. Unless live, ages are those of the moment shown."""
        if self.shown is None:
            return None
        moment = max(now_ns, self.shown.at_ns) if self.standing == "live" else self.shown.at_ns
        until = self.shown.at_ns if self.standing in ("replay", "paused") else None
        events = sorted((e for e in self._events if until is None or e.at_ns <= until), key=lambda e: -e.at_ns)
        span = self.span
        return View(
            swarm=self.shown,
            words=self._state_words(self.shown),
            figures=self.figures(moment),
            recent=self._held or self._recent,
            rates=self.rates,
            standing=self.standing,
            now_ns=moment,
            latest_ns=self.recording.last_ns if self.recording else self.latest.at_ns if self.latest else moment,
            title=self._title,
            model=self.model.name
            if self.open_question is None or self.analysis is not None
            else "",  # still to be chosen
            engine=self.workload.engine,
            weights=self.workload.weights,
            analysis=self.analysis,
            advice=about(self.advice, self.analysis),
            ranked=self._ranked(),
            events=tuple(events),
            notice=self.notice(now_ns),
            firing=self._alerts.firing if self.standing == "live" else (),
            join_hint=self.options.join_hint,
            speed=self.speed,
            playing=self.playing,
            first_ns=span.first_ns if span else 0,
            last_ns=span.last_ns if span else 0,
            gaps=span.gaps if span else (),
            is_recording=self.recording is not None,
            zone=self.options.zone,
            mark=self.mark,
            silent_since_ns=self.silent_since_ns if self._mode == "live" else None,
            note=self.note,
            trouble=self.options.programs.trouble if self.options.programs is not None else "",
        )

    def _ranked(self) -> Mapping[str, Row]:
        if self._rows is None or self._rows[0] is not self.analysis:
            rows = self.analysis.rows if self.analysis is not None else ()
            self._rows = (self.analysis, {row.name: row for row in rows})
        return self._rows[1]

    def notice(self, now_ns: int) -> str:
        return self._notice if now_ns - self._notice_ns < NOTICE_NS else ""

    def follow(self, node_id: str | None) -> None:
        self.followed = node_id if node_id != self.followed else None
        self._followed_was = ""
        self.dirty = True

    def followed_news(self) -> str:
        """Return how the followed node's state has changed since the last call; "" if it has not."""
        if self.followed is None or self.shown is None or self.standing == "replay":
            return ""
        words = self._state_words(self.shown)
        word, name = "gone", ""
        for row, facts in enumerate(self.shown.facts):
            if facts.node_id == self.followed:
                word, name = words[row], facts.name
        before, self._followed_was = self._followed_was, word
        return f"{name or 'the followed node'}: {before} → {word}" if before and before != word else ""

    def sort_next(self, by: int, shown: Sequence[str]) -> None:
        """Sort by the column to the right or left of the present one, among those on the screen."""
        names = [c.name for c in COLUMNS if c.name in shown]
        at = names.index(self.sort) if self.sort in names else 0
        self.sort_by(names[(at + by) % len(names)])

    def sort_by(self, column: str) -> None:
        """Sort by a column; the same column again reverses the order, as people expect of a click."""
        self.reverse = not self.reverse if column == self.sort else False
        self.sort = column
        self.dirty = True

    # ------------------------------------------------------------ time, in a recording

    def clamp(self, at_ns: int, *, forward: bool = True) -> int:
        assert self.span is not None
        for start, end in self.span.gaps:
            if start < at_ns < end:
                at_ns = end if forward else start
        return max(self.span.first_ns, min(self.span.last_ns, at_ns))

    @property
    def all_events(self) -> tuple[Event, ...]:
        return tuple(sorted(self._events, key=lambda e: -e.at_ns))
