"""Run the planner's background jobs in threads: plans for past moments of a recording (the speed charts), and advice
about the newest answer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from swarmtop.dashboard import workers
from swarmtop.dashboard.state.plan_history import survey
from swarmtop.errors import WorkerEnded
from swarmtop.sources.source import SourceError, is_recording

if TYPE_CHECKING:
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.dashboard.screens.page import Page
    from swarmtop.dashboard.state.planner_question import Question

MAX_NODES: Final = 64  # of a swarm whose plans are quick enough for that
REST: Final = 20.0  # times what advice took: at most a twentieth of a core
LIVE_REST_S: Final = 10.0  # between two answers about a live swarm, which changes every second


async def survey_moments(page: Page, first_ns: int, last_ns: int, moments: int) -> None:
    """Have so many moments planned, while the person stays on this page."""
    board = page.board
    session, source = board.session, board.source
    span, model, workload = session.recording, session.model, session.workload
    answer = board.options.analyse or board.planner.analyse
    if span is None or not is_recording(source):
        return
    for at_ns in survey(max(first_ns, span.first_ns), min(last_ns, span.last_ns), span.gaps, moments):
        if at_ns in session.rates:
            continue
        try:
            if not 0 < await source.count_at(at_ns) <= MAX_NODES:
                continue
            frame = await source.swarm_at(at_ns)
        except SourceError as error:
            board.say(str(error))
            return
        began = time.monotonic()
        try:
            found = await asyncio.to_thread(answer, frame, model, workload, None)
        except WorkerEnded:  # the newest moment's plan says so
            return
        if page.app.screen_stack[-1:] != [page] or (session.model, session.workload) != (model, workload):
            return
        session.surveyed(frame, found)
        await asyncio.sleep(time.monotonic() - began)  # half a core, no more


class Advising:
    """Has advice worked out about the newest answer, for as long as a screen with room for it asks."""

    def __init__(self) -> None:
        self._asked: tuple[Page, Analysis] | None = None  # who last wanted advice, about which answer,
        self._about: Analysis | None = None  # and the one that it was last worked out about
        self._busy = False
        self._not_before = 0.0

    def settled(self, page: object) -> bool:
        """Return whether the work requested by this page is done."""
        return self._asked is None or self._asked[0] is not page or (not self._busy and self._asked[1] is self._about)

    def ask(self, page: Page) -> None:
        """Cheap where there is nothing new to be said, or where it is too early for it."""
        session = page.board.session
        question, answer = session.answered, session.analysis
        if question is None or answer is None or answer.plan is None or len(question.swarm) > MAX_NODES:
            return
        self._asked = page, answer
        stands = answer.stands or answer.best
        other = session.advice is None or stands is None or session.advice.prediction.placement != stands.placement
        early = time.monotonic() < self._not_before and not other
        if not self._busy and answer is not self._about and not early:
            self._busy, self._about = True, answer
            workers.start(page, self._work, page, question, answer, name="advice", group="advice")

    async def _work(self, page: Page, question: Question, answer: Analysis) -> None:
        session = page.board.session
        found, plan = answer.stands or answer.best, answer.plan
        assert found is not None
        assert plan is not None
        began = time.monotonic()
        try:
            model, workload = question.model, question.workload
            advise = page.board.options.advise or page.board.planner.advise
            advice = await asyncio.to_thread(advise, question.swarm, model, workload, found, plan)
            if (session.model, session.workload) == (model, workload):
                session.advice, session.dirty = advice, True
        except WorkerEnded:  # the plan says so
            pass
        finally:
            self._busy = False
            rest_s = REST * (time.monotonic() - began)
            live = session.standing == "live"
            self._not_before = time.monotonic() + max(rest_s, LIVE_REST_S if live else 0.0)
