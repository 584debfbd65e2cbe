"""The header, the first run, and times as people write them."""

from __future__ import annotations

import contextlib

import dash_fakes as fakes
import pytest
from dash_views import said, session, view_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.lines.header_footer import header
from swarmtop.dashboard.lines.overview import around_ranking
from swarmtop.dashboard.lines.timeline_lines import TimeError, parse_time


def test_header_says_live_paused_or_replay_at_every_width() -> None:
    made = session(fakes.swarm())
    for width in (60, 80, 140):
        view = made.view(fakes.NOW_NS)
        assert view is not None
        assert "● LIVE" in said(header(view, width))
        assert "tok/s" in said(header(view, width))
    made.toggle_pause()
    made.accept(fakes.swarm(at_ns=fakes.NOW_NS + 40 * NS_PER_S))
    view = made.view(fakes.NOW_NS + 40 * NS_PER_S)
    assert view is not None
    assert "‖ PAUSED  14:02:17 (40s behind)" in said(header(view, 80))
    assert "  1.54 tok/s" in said(header(view, 46))  # of the news, the speed alone


def test_header_says_when_live_news_are_old() -> None:
    view = session(fakes.swarm()).view(fakes.NOW_NS + 20 * NS_PER_S)
    assert view is not None
    assert "(20s old)" in said(header(view, 80))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("-10m", -600), ("+30s", 30), ("14:00", -137), ("13:02:17", -3600), ("2026-11-23 14:02", -17), ("-1.5h", -5400)],
)
def test_time_people_write_is_understood(text: str, seconds: int) -> None:
    view = view_of(fakes.swarm())
    assert parse_time(text, view) == fakes.NOW_NS + seconds * NS_PER_S


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_a_time_error(text: str) -> None:
    with contextlib.suppress(TimeError):
        assert isinstance(parse_time(text, view_of(fakes.swarm())), int)


def test_first_run_says_the_line_to_paste() -> None:
    text = "\n".join(said(r) for r in around_ranking.first_run(None, "swarm-probe --join a:1", "a:1", 80, 20))
    assert "swarm-probe --join a:1" in text
    assert "What will appear" in text


def test_progress_counts_what_is_still_missing_and_is_silent_when_nothing_is() -> None:
    frame = fakes.swarm()
    assert said(around_ranking.progress(view_of(frame))) == " measuring  upload 5/6 · layer times 5/6"
    full = fakes.swarm(fakes.NAMES[:3])
    assert around_ranking.progress(view_of(full)) == ()


def test_lost_node_is_an_alert() -> None:
    frame = fakes.swarm()
    assert "alerts 2" in said(header(view_of(frame), 140))
    frame.nodes["state"][:] = State.OK
    assert "alerts" not in said(header(view_of(frame), 140))
