"""The dashboard on a recorded database: a real store, read through the real source, moved through by keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest

from swarm_predict.model.catalogue import model_named
from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import ComputeSample, EventSample, HostSample, LinkSample, UplinkSample
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S, ns_from_iso
from swarm_storage.store import open_store
from swarm_storage.writer.transaction import NodeBatch
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.sources.replay import ReplaySource

BEGAN = ns_from_iso("2026-11-23T14:00:00")
EVERY_S = 10  # a window of round trips
WINDOWS = 90  # a quarter of an hour
GAP = range(30, 60)  # five minutes in which nothing was recorded
NAMES = ("kiln-07", "attic", "dorm")
IDS = tuple(letter * 16 for letter in "abc")
GIB = 1 << 30


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nodes; the round trips of kiln-07 treble after the gap, and an event says why."""
    path = tmp_path_factory.mktemp("recorded") / "swarm.db"
    store = open_store(str(path))
    writer = store.writer(retain_ns=None)
    card = GpuFacts(name="RTX 3090", vram_bytes=24 * GIB)
    facts = HostFacts(system="Linux 6.1", cpu="test", cores=8, ram_bytes=32 * GIB, gpus=(card,))
    for node, name in zip(IDS, NAMES, strict=True):
        writer.upsert_node(node, name, facts=facts, seen_ns=BEGAN).result()
    last = None
    for number in range(WINDOWS):
        if number in GAP:
            continue
        for node in IDS:
            last = writer.submit(NodeBatch(node, 1, number + 1, _at(number), _samples(node, number)))
    assert last is not None
    last.result()
    writer.event(EventSample(at_ns=_at(60), kind="path", detail="relayed by fra-2"), IDS[0]).result()
    store.close()
    return path


def _at(number: int) -> int:
    return BEGAN + number * EVERY_S * NS_PER_S


def _samples(node: str, number: int) -> list[Any]:
    at_ns = _at(number)
    slow = 3.0 if number >= GAP.stop else 1.0
    made: list[Any] = [
        HostSample(
            at_ns=at_ns, cpu_percent=5.0, ram_free_bytes=16 * GIB, ram_total_bytes=32 * GIB, gpu="RTX 3090",
            vram_free_bytes=20 * GIB, vram_total_bytes=24 * GIB,
        ),
        ComputeSample(
            at_ns=at_ns, device="RTX 3090", model="llama-2-13b", dtype="fp16", phase="decode", batch=1, context=128,
            ms_per_layer=0.6, ms_p95=0.7, n=20,
        ),
    ]  # fmt: skip
    for peer in IDS:
        if peer == node:
            continue
        rtt = 20.0 * (slow if IDS[0] in (node, peer) else 1.0)
        made.append(LinkSample(
            at_ns=at_ns, peer=peer, path="direct", sent=100, lost=1, rtt_min_ms=rtt * 0.9, rtt_p50_ms=rtt,
            rtt_p95_ms=rtt * 1.2, rtt_p99_ms=rtt * 1.5, pdv_ms=rtt * 0.3,
        ))  # fmt: skip
        made.append(UplinkSample(at_ns=at_ns, peer=peer, sent_bytes=1 << 20, mbps=38.0, bound=True, seconds=0.2))
    return made


@asynccontextmanager
async def standing_in(database: Path, at: str | None = None) -> AsyncIterator[tuple[Dashboard, Any]]:
    source = ReplaySource(str(database), at)
    options = DashboardOptions(model_named("llama-2-13b"), zone=dt.UTC, color=True)
    app = Dashboard(source, options)
    try:
        async with app.run_test(size=(140, 40)) as pilot:
            await fakes.until(pilot, lambda: app.session.analysis is not None, "the plan")
            await fakes.settle(app, pilot)
            yield app, pilot
    finally:
        await source.close()


async def test_recording_opens_at_its_end_with_ranking_and_plan_of_that_moment(database: Path) -> None:
    async with standing_in(database) as (app, pilot):
        text = fakes.screen_text(app)
        assert "« REPLAY  14:14:50" in text
        assert "swarm.db" in text
        assert all(name in text for name in NAMES)
        kiln = next(row for row in text.splitlines()[1:] if "kiln-07" in row)
        assert "60.0" in kiln  # its median round trip, trebled
        await pilot.press("4")
        await fakes.settle(app, pilot)
        assert "placement: llama-2-13b" in fakes.screen_text(app)
        assert app.session.analysis.plan is not None


async def test_going_back_shows_the_figures_and_plans_of_then(database: Path) -> None:
    async with standing_in(database) as (app, pilot):
        now = app.session.analysis
        await pilot.press("g", *"14", "colon", *"03", "enter")
        await fakes.until(pilot, lambda: app.session.shown.at_ns == ns_from_iso("2026-11-23T14:03:00"), "14:03")
        await fakes.until(pilot, lambda: app.session.analysis.at_ns == app.session.shown.at_ns, "its plan")
        await fakes.settle(app, pilot)
        text = fakes.screen_text(app)
        assert "« REPLAY  14:03:00" in text
        assert "(12m behind)" in text
        assert "20.0" in next(row for row in text.splitlines() if "kiln-07" in row)
        assert "relayed by fra-2" not in text  # that was later
        assert app.session.analysis.plan != now.plan or app.session.analysis.at_ns < now.at_ns


async def test_step_over_a_gap_lands_on_its_other_side(database: Path) -> None:
    async with standing_in(database, "2026-11-23T14:04:50") as (app, pilot):
        gap = app.session.span.gaps[0]
        assert _at(GAP.start - 1) <= gap[0] <= _at(GAP.start)  # known to the minute
        assert gap[1] == _at(GAP.stop)
        await pilot.press("t", "t", "t")
        await fakes.until(pilot, lambda: app.session.shown.at_ns == gap[1], "the other side")
        await pilot.press("T")
        await fakes.until(pilot, lambda: app.session.shown.at_ns == gap[0], "this side again")


async def test_charts_of_a_node_come_from_the_store_and_show_the_gap(database: Path) -> None:
    async with standing_in(database) as (app, pilot):
        await pilot.press("2", "r")
        page = app.screen
        await fakes.until(pilot, lambda: len(page._past) == 3, "the history")
        past = page._past["rtt_p99"]
        known = [(at, value) for at, value in zip(past.at_ns, past.values, strict=True) if value is not None]
        assert known
        assert not [at for at, _ in known if _at(GAP.start) < at < _at(GAP.stop) - 20 * NS_PER_S]
        await fakes.settle(app, pilot)
        assert "RTT p99 ms, last 1 h" in fakes.screen_text(app)


async def test_time_screen_tells_events_and_gap_and_enter_goes_there(database: Path) -> None:
    async with standing_in(database) as (app, pilot):
        await pilot.press("5")
        await fakes.settle(app, pilot)
        text = fakes.screen_text(app)
        assert "relayed by fra-2" in text
        assert "15m, 1 gap, planned at" in text
        assert "╌╌╌" in text
        await pilot.press("end", "enter")  # the oldest; newer ones are changes found in the samples
        await fakes.until(pilot, lambda: app.session.shown.at_ns == _at(60), "the event")


async def test_playing_a_recording_runs_to_its_end_and_stops(database: Path) -> None:
    async with standing_in(database, "2026-11-23T14:14:40") as (app, pilot):
        await pilot.press(*["greater_than_sign"] * 6, "space")
        await fakes.until(pilot, lambda: app.session.shown.at_ns == app.session.span.last_ns, "the end")
        await fakes.until(pilot, lambda: not app.session.playing, "standing still")


async def test_moment_before_anybody_had_joined_says_so_and_how_to_continue(database: Path) -> None:
    async with standing_in(database) as (app, pilot):
        await pilot.press("5")
        app.session.stand_at(Swarm.empty((), at_ns=BEGAN))
        await fakes.settle(app, pilot)
        text = fakes.screen_text(app)
        assert "At 2026-11-23 14:00:00 no machine had joined swarm.db yet" in text
        assert "swarmtop invite" not in text
        assert "tok/s" not in text.splitlines()[0]
        await pilot.press("L")
        await fakes.until(pilot, lambda: app.session.shown.at_ns == app.session.span.last_ns, "the end")
