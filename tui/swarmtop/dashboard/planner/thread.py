"""Plan in a thread: one question at a time, always the newest, at most one a second, and never delaying a key.

A daemon thread and not an executor, so that leaving the dashboard does not wait for a plan that nobody will see.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from swarm_collector.process.memory import hand_back
from swarmtop.dashboard.options import Analyse, Choose
from swarmtop.dashboard.state.planner_question import Question

if TYPE_CHECKING:
    from swarmtop.analysis.analysis import Analysis

MIN_INTERVAL_S = 1.0
MANY_NODES = 150  # a search among fewer leaves little behind

Deliver = Callable[[Question, "Analysis | Exception"], None]


class Analyst:
    """The planner's thread. `ask` replaces a question that is still waiting; `deliver` is called in the thread with the
    answer or the error."""

    def __init__(self, analyse: Analyse, deliver: Deliver, choose: Choose) -> None:
        self._analyse = analyse
        self._choose = choose
        self._deliver = deliver
        self._waiting: Question | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="analyst", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> None:
        with self._changed:
            self._waiting = question
            self._changed.notify()

    def close(self) -> None:
        """Deliver no more answers; a plan in progress ends with the process."""
        self._closed.set()
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        while (question := self._next()) is not None:
            began = time.monotonic()
            outcome: Analysis | Exception
            try:
                question = self._filled_in(question)
                outcome = self._analyse(question.swarm, question.model, question.workload, question.previous)
            except Exception as error:  # noqa: BLE001 shown and logged by the receiver
                outcome = error
            if not self._closed.is_set():
                self._deliver(question, outcome)
            if len(question.swarm) >= MANY_NODES:
                hand_back()  # a search among a thousand leaves some 40 MB below blocks in use
            del question, outcome  # not to be kept while waiting for the next
            # after a plan that took long, the rest of the machine gets the processor for as long
            took = time.monotonic() - began
            self._closed.wait(max(MIN_INTERVAL_S - took, min(took, MIN_INTERVAL_S)))

    def _filled_in(self, question: Question) -> Question:
        """Return the question with the model, weights and engine that were left open."""
        if question.open_question is None:
            return question
        found = self._choose(question.swarm, question.open_question)
        return msgspec.structs.replace(question, model=found.model, workload=found.workload, note=found.note)

    def _next(self) -> Question | None:
        with self._changed:
            while self._waiting is None and not self._closed.is_set():
                self._changed.wait()
            question, self._waiting = self._waiting, None
            return None if self._closed.is_set() else question
