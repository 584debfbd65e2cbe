"""Define what the dashboard asks the planner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Swarm

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.open_question import OpenQuestion


class Question(msgspec.Struct, frozen=True):
    """A question to the planner. `number` distinguishes a late answer from the awaited one."""

    number: int
    swarm: Swarm
    model: ModelShape
    workload: Workload
    previous: Analysis | None
    open_question: OpenQuestion | None = None  # what is to be filled in first
    note: str = ""  # what was filled in, if people should know
