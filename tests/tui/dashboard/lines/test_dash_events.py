"""Which events look like an alarm."""

from __future__ import annotations

import dash_fakes as fakes

from swarm_protocol.messages.samples import ComputeSample, EventSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import Event, Swarm
from swarmtop.dashboard.lines.events import event_line
from swarmtop.dashboard.lines.header_footer import alerts, header
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.view import View

A = "a" * 32
FAILED = EventSample(at_ns=fakes.NOW_NS, kind="compute_failed", detail="llama-3.1-8b: out of memory")
TIMED = ComputeSample(
    at_ns=fakes.NOW_NS + 1, device="cpu", model="llama-3.1-8b", dtype="fp16", phase="decode", batch=1, context=128,
    ms_per_layer=9.0, ms_p95=9.5, n=20,
)  # fmt: skip


def view_after(*samples: EventSample | ComputeSample) -> View:
    builder = SwarmBuilder()
    builder.node(A, "kiln", seen_ns=fakes.NOW_NS)
    builder.seen(A, fakes.NOW_NS)
    for sample in samples:
        builder.sample(A, sample)
    return view_of(builder.snapshot(fakes.NOW_NS + 2))


def view_of(frame: Swarm) -> View:
    made = Session("10.0.0.5:9470", "live", fakes.options())
    made.accept(frame)
    made.show(frame)
    view = made.view(fakes.NOW_NS + 2)
    assert view is not None
    return view


def glyphs(view: View) -> list[tuple[str, str]]:
    return [event_line(view, event)[1] for event in view.events]


def test_a_failed_timing_is_an_alarm_in_the_log_until_one_succeeds() -> None:
    assert glyphs(view_after(FAILED)) == [("! ", "warn")]
    over = view_after(FAILED, TIMED)
    assert glyphs(over) == [("· ", "dim")]
    assert alerts(over) == []
    assert "!" not in "".join(text for text, _ in header(over, 120))


def test_of_two_failures_the_newest_is_the_alarm() -> None:
    later = EventSample(at_ns=fakes.NOW_NS + 1, kind="compute_failed", detail="llama-3.1-8b: ended early")
    assert glyphs(view_after(FAILED, later)) == [("! ", "warn"), ("· ", "dim")]


def test_a_failure_of_a_node_that_is_no_member_any_more_stays_as_it_was_reported() -> None:
    view = view_after(FAILED)
    gone = Event(at_ns=fakes.NOW_NS, node="gone", kind="compute_failed", detail="x")
    assert event_line(view, gone)[1] == ("! ", "warn")
