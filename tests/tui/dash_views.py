"""A session and a view of a made swarm, for tests of the dashboard's lines."""

from __future__ import annotations

import dash_fakes as fakes

from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.dashboard.lines.styled import Line
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.view import View


def session(frame: Swarm, *, planned: bool = True, **changes: object) -> Session:
    made = Session("10.0.0.5:9470", "live", fakes.options(**changes))
    made.accept(frame)
    made.show(frame)
    if planned:
        question = made.ask()
        assert question is not None
        made.answer(question, fakes.analyse(frame, made.model, made.workload, None))
    return made


def view_of(frame: Swarm, *, planned: bool = True) -> View:
    view = session(frame, planned=planned).view(fakes.NOW_NS)
    assert view is not None
    return view


def said(row: Line) -> str:
    return "".join(text for text, _ in row)
