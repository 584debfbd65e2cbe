"""Define the options that the dashboard starts with.

No Textual here, so that the command line can build them without loading it.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from swarm_predict.types import Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.trust.state_dir import default_state_dir

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.open_question import CompleteQuestion, OpenQuestion
    from swarmtop.dashboard.state.advice import Advice
    from swarmtop.dashboard.state.what_if import Study
    from swarmtop.local.supervisor import LocalPrograms

# (frame, model, workload, previous answer) → answer; runs in a thread of its own
Analyse = Callable[[Swarm, "ModelShape", Workload, "Analysis | None"], "Analysis"]

# (frame, question) → the question with everything filled in; in the same thread
Choose = Callable[[Swarm, "OpenQuestion"], "CompleteQuestion"]

# arguments and result as of swarmtop.dashboard.state.own_placement.study
StudyPlacement = Callable[..., "Study"]

# as swarmtop.dashboard.state.advice.advise takes and answers it
Advise = Callable[..., "Advice | None"]


class DashboardOptions(msgspec.Struct, frozen=True):
    """`run_dashboard(source, DashboardOptions(model))` works; the rest has defaults."""

    model: ModelShape
    workload: Workload = msgspec.field(default_factory=Workload)
    open_question: OpenQuestion | None = (
        None  # the open question, to be filled in from the frame; None: nothing is open
    )
    running: Running | None = None  # the running placement, as a person states it
    join_hint: str = ""  # the line volunteers paste; empty: joining is not possible (a recording, a file)
    join_elsewhere: str = ""  # if there is no such line: the collector from which swarmtop invite can request one
    demo: Callable[[], int] | None = None  # opens the bundled recording and returns an exit code
    keep_collector: Callable[[], str] | None = (
        None  # leaves the collector that was started here running; None: it is not ours
    )
    programs: LocalPrograms | None = None  # that were started here with the dashboard
    ascii: bool = False  # draw with ASCII only
    color: bool | None = None  # None: by NO_COLOR
    state_dir: Path = msgspec.field(default_factory=default_state_dir)  # folder for a crash's traceback
    keys: Mapping[str, str] = msgspec.field(default_factory=dict)  # action name → key, instead of the registry's
    theme: str = "dark"  # of settings.THEMES
    columns: tuple[str, ...] = ()  # of the ranking; empty: all that fit
    alerts: tuple[str, ...] = ()  # rules as of swarmtop.alerts, evaluated on a live swarm
    choose: Choose | None = None  # None: planner.questions.choose
    analyse: Analyse | None = None  # None: planner.questions.analyse
    study: StudyPlacement | None = None  # None: model.study
    advise: Advise | None = None  # None: planner.questions.advise
    now_ns: Callable[[], int] = time.time_ns
    zone: dt.tzinfo | None = None  # of the times shown; None: this machine's
