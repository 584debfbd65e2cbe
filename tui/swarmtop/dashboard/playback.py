"""Move through time in a recording, or in the kept minutes of a live swarm: step, jump, play.

The newest request wins: keys pressed while a frame is read move the target instead of queueing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.node_figures import Figures
from swarmtop.dashboard import workers
from swarmtop.sources.source import Recording, SourceError

if TYPE_CHECKING:
    from swarmtop.dashboard.screen_api import DashboardBase

NO_PAST: Final = "no frames are kept yet; swarmtop --db FILE opens a recording"


class Playback:
    def __init__(self, board: DashboardBase, recording: Recording | None) -> None:
        self._board = board
        self._recording = recording
        self._moving = False  # a frame is being fetched
        self._wanted_ns: int | None = None  # the moment that the person wants to see

    def go_by(self, by_ns: int) -> None:
        base = self._wanted_ns
        if base is None and self._board.session.shown is not None:
            base = self._board.session.shown.at_ns
        if base is None:
            self._board.say(NO_PAST)
        else:
            self.go_to(base + by_ns, forward=by_ns > 0)

    def go_to(self, at_ns: int, *, forward: bool = True) -> None:
        session, span = self._board.session, self._board.session.span
        if span is None:
            self._board.say("a swarm file has only one frame" if session.standing == "file" else NO_PAST)
            return
        if self._recording is None and forward and at_ns >= span.last_ns:
            self.to_the_newest()
            return
        if self._recording is None and at_ns < span.first_ns:
            view = self._board.view()
            since = view.clock(span.first_ns) if view else "a moment ago"
            self._board.say(f"kept here since {since}; swarmtop --db FILE opens earlier frames")
        self._wanted_ns = session.clamp(at_ns, forward=forward)
        if not self._moving:
            self._moving = True
            workers.start(self._board, self._move, forward, name="move")

    def to_event(self, *, forward: bool) -> None:
        """Go to the next event, or to the one before, within the span."""
        session, span = self._board.session, self._board.session.span
        if span is None or session.shown is None:
            self._board.say(NO_PAST)
            return
        here = self._wanted_ns or session.shown.at_ns
        times = sorted({event.at_ns for event in session.all_events if span.first_ns <= event.at_ns <= span.last_ns})
        found = [at for at in times if at > here] if forward else [at for at in reversed(times) if at < here]
        if found:
            self.go_to(found[0], forward=forward)
        else:
            self._board.say("no later event" if forward else "no event before this")

    def to_the_newest(self) -> None:
        """Go to the end of a recording; of a live swarm, back to live."""
        session = self._board.session
        if self._recording is None:
            self._wanted_ns = None
            session.back_to_live()
            self._board.tick()
        elif session.span is not None:
            self.go_to(session.span.last_ns)

    def play(self, seconds: float) -> None:
        """Advance a playing recording by so much; it stops at its end."""
        session = self._board.session
        if self._moving or session.shown is None or session.span is None:
            return
        if self._recording is not None and session.shown.at_ns >= session.span.last_ns:
            session.playing = False
            session.dirty = True
            return
        self.go_by(round(seconds * session.speed * NS_PER_S))

    async def _move(self, forward: bool) -> None:
        session = self._board.session
        try:
            while (goal := self._wanted_ns) is not None:
                swarm, known = await self._frame(goal, forward)
                if self._wanted_ns is None:  # back to live in the meantime
                    break
                if swarm is not None:
                    session.stand_at(swarm, known)
                if self._wanted_ns == goal:
                    self._wanted_ns = None
                self._board.redraw()
        except SourceError as error:
            self._board.say(str(error))
        finally:
            self._moving, self._wanted_ns = False, None

    async def _frame(self, at_ns: int, forward: bool) -> tuple[Swarm | None, Figures | None]:
        if self._recording is not None:
            swarm: Swarm | None = await self._recording.swarm_at(at_ns)
        else:
            swarm = self._board.session.kept.at(at_ns, forward=forward)
        return swarm, await self._board.figures_aside(swarm) if swarm is not None else None
