"""A session's state: paused frames, answers, and events."""

from __future__ import annotations

import dash_fakes as fakes
from dash_views import session

from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.recent_rtt import BUCKET_NS
from swarmtop.sources.source import Span


def test_paused_frame_stays_and_the_newest_is_shown_when_it_runs_again() -> None:
    made = session(fakes.swarm())
    made.toggle_pause()
    later = fakes.swarm(at_ns=fakes.NOW_NS + NS_PER_S)
    made.accept(later)
    assert made.next_frame() is None
    made.toggle_pause()
    assert made.next_frame() is later


def test_minute_continues_while_the_screen_is_held_still_but_is_not_drawn_there() -> None:
    made = session(fakes.swarm())
    node_id = fakes.swarm().facts[0].node_id
    made.toggle_pause()
    for i in range(1, 4):
        made.accept(fakes.swarm(at_ns=fakes.NOW_NS + i * BUCKET_NS))
    held = made.view(fakes.NOW_NS)
    made.toggle_pause()
    running = made.view(fakes.NOW_NS)
    assert held is not None
    assert running is not None
    assert sum(v is not None for v in held.recent.series(node_id)) == 1
    assert sum(v is not None for v in running.recent.series(node_id)) == 4


def test_answer_about_a_model_no_longer_asked_for_is_dropped() -> None:
    made = session(fakes.swarm(), planned=False)
    question = made.ask()
    assert question is not None
    made.choose_engine("star")
    made.answer(question, fakes.analyse(fakes.swarm(), made.model, made.workload, None))
    assert made.analysis is None
    again = made.ask()
    assert again is not None
    made.answer(again, fakes.analyse(fakes.swarm(), made.model, made.workload, None))
    assert made.analysis is not None


def test_the_same_question_is_asked_once() -> None:
    made = session(fakes.swarm(), planned=False)
    assert made.ask() is not None
    assert made.ask() is None


def test_step_into_a_gap_of_a_recording_leads_to_its_other_side() -> None:
    made = Session("swarm-0921.db", "replay", fakes.options())
    at = fakes.NOW_NS
    made.recording = Span(at - 1000 * NS_PER_S, at, ((at - 500 * NS_PER_S, at - 200 * NS_PER_S),))
    assert made.clamp(at - 300 * NS_PER_S) == at - 200 * NS_PER_S
    assert made.clamp(at - 300 * NS_PER_S, forward=False) == at - 500 * NS_PER_S
    assert made.clamp(at + 5 * NS_PER_S) == at
    assert made.clamp(0) == at - 1000 * NS_PER_S


def test_events_are_kept_once_and_newest_first() -> None:
    made = session(fakes.swarm())
    made.accept(fakes.swarm(at_ns=fakes.NOW_NS))
    made.show(fakes.swarm(at_ns=fakes.NOW_NS))
    view = made.view(fakes.NOW_NS)
    assert view is not None
    assert [e.kind for e in view.events] == ["path", "lost", "joined"]
