"""Answer questions to the planner: about a large swarm in a worker process, about a small one at once.

A search among many nodes loads numba with LLVM (105 MB) and takes seconds of processor time. In a process of its own it
delays no key, and its memory is free again when it ends, some seconds after its last answer. A swarm that is solved
exactly needs neither, and its answer is there before a process would have started.

Light to import, because the first paint waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from swarm_predict.search.limits import EXACT_NODES
from swarm_predict.types import Plan, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.dashboard.planner import questions
from swarmtop.errors import WorkerEnded

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.open_question import CompleteQuestion, OpenQuestion
    from swarmtop.dashboard.state.advice import Advice
    from swarmtop.worker_process.process import WorkerProcess

_Answer = TypeVar("_Answer")
_Arguments = TypeVarTuple("_Arguments")


class Planner:
    """Its questions block until the answer is there: ask them in threads. They raise WorkerEnded where the worker
    process was killed, and after `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of what follows
        self._process: WorkerProcess | None = None
        self._closed = False

    def analyse(self, swarm: Swarm, model: ModelShape, workload: Workload, previous: Analysis | None) -> Analysis:
        return self._answer(questions.analyse, swarm, model, workload, previous)

    def choose(self, swarm: Swarm, open_question: OpenQuestion) -> CompleteQuestion:
        return self._answer(questions.choose, swarm, open_question)

    def advise(
        self, swarm: Swarm, model: ModelShape, workload: Workload, found: Prediction, plan: Plan
    ) -> Advice | None:
        return self._answer(questions.advise, swarm, model, workload, found, plan)

    def best_order(self, swarm: Swarm, model: ModelShape, workload: Workload, time_limit_s: float) -> Plan:
        return self._answer(questions.best_order, swarm, model, workload, time_limit_s)

    def close(self) -> None:
        """End the worker process, in the middle of a search too."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.close()

    def _answer(
        self, function: Callable[[Swarm, *_Arguments], _Answer], swarm: Swarm, *arguments: *_Arguments
    ) -> _Answer:
        if len(swarm) <= EXACT_NODES:
            return function(swarm, *arguments)
        return self._worker().answer(function, swarm, *arguments)

    def _worker(self) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise WorkerEnded("the dashboard has ended")
            if self._process is None:
                from swarmtop.worker_process.process import WorkerProcess  # brings numpy

                self._process = WorkerProcess()
            return self._process
