"""A synthetic swarm, a source that yields it, a planner with a known answer: the dashboard without network or clock."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from rich.color import Color

from swarm_predict.advice.whatif import WhatIf
from swarm_predict.cost.tables import CostTables
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Breakdown, Impact, Plan, Prediction, Quantiles, Stage, StageCost, Workload
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.snapshot.swarm import Event, Kind, LayerTime, NodeFacts, Path, State, Swarm
from swarm_protocol.units import BYTES_PER_GIB, NS_PER_S
from swarmtop.analysis.analysis import Analysis
from swarmtop.analysis.ranking.node_rows import RunningSummary, rows_of
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.state.what_if import Candidate, Study
from swarmtop.sources.source import History, Mode, Span

COMES_WITHIN_S = 60.0  # on a machine as busy as can be; nothing waits for it to pass
NOW_NS = 1_795_442_537 * NS_PER_S  # 2026-11-23 14:02:17 UTC
MODEL = model_named("llama-2-70b")

NAMES = ("kiln-berlin-07", "lofi-osaka-3080", "dorm-4090-b", "hut-tromso", "attic-leeds-2", "den-oslo-7")
REGIONS = ("eu-c", "as-e", "us-e", "eu-n", "eu-w", "eu-n")
DEVICES = ("RTX 3090", "RTX 3080", "RTX 4090", "T4", "", "RTX 4090")

HOSTILE = (
    "[red]bold[/red]",
    "[@click=app.quit]press[/]",
    "\x1b[2J\x1b]0;owned\x07esc",
    "a" * 300,
    "日本語のとても長い名前のノード",
    "\u202eoverride\u202c\u200b",
    "new\nline\ttab\r",
    "💣👩‍👩‍👧",
)


def swarm(names: Sequence[str] = NAMES, at_ns: int = NOW_NS, seed: int = 1) -> Swarm:
    """A little world: distances of points on a circle; a stale and a lost node, a bound, an estimate and a gap."""
    n = len(names)
    facts = tuple(_facts(i, name, at_ns) for i, name in enumerate(names))
    made = Swarm.empty(facts, at_ns=at_ns, source="10.0.0.5:9470")
    nodes, links = made.nodes, made.links
    rng = np.random.default_rng(seed)
    nodes["state"][:] = State.OK
    nodes["seen_ns"][:] = at_ns - NS_PER_S
    nodes["vram_bytes"][:] = 24 * BYTES_PER_GIB
    nodes["vram_free_bytes"][:] = 22.5 * BYTES_PER_GIB
    nodes["up_mbps"][:] = np.round(20 + 30 * np.arange(n) % 170, 1)
    nodes["up_kind"][:] = Kind.MEASURED
    nodes["up_kind"][1::4] = Kind.BOUND
    nodes["down_mbps"][:] = 4 * nodes["up_mbps"]
    nodes["down_kind"][:] = Kind.MEASURED
    nodes["gpu_util_percent"][:] = 97.0
    nodes["temp_c"][:] = 71.0
    nodes["power_w"][:] = 312.0
    nodes["clock_mhz"][:] = 1695.0
    nodes["cpu_percent"][:] = 18.0
    nodes["ram_free_bytes"][:] = 40 * BYTES_PER_GIB
    angle = 2 * math.pi * np.arange(n) / max(n, 1)
    apart = np.abs(np.exp(1j * angle)[:, None] - np.exp(1j * angle)[None, :])
    rtt = np.round(8 + 140 * apart + rng.uniform(0, 2, (n, n)), 2)
    links["kind"][:] = Kind.MEASURED
    links["path"][:] = Path.DIRECT
    links["at_ns"][:] = at_ns - 2 * NS_PER_S
    links["sent"][:] = 100
    links["rtt_min_ms"][:] = rtt * 0.95
    links["rtt_p50_ms"][:] = rtt
    links["rtt_p95_ms"][:] = rtt * 1.4
    links["rtt_p99_ms"][:] = rtt * 2
    links["jitter_ms"][:] = rtt * 0.45
    links["loss"][:] = 0.0
    links["hop_p50_ms"][:] = rtt * 1.1
    links["mbps"][:] = 40.0
    links["mbps_kind"][:] = Kind.MEASURED
    if n >= 6:
        links["rtt_p99_ms"][0] *= 2
        links["rtt_p99_ms"][:, 0] *= 2
        links["loss"][0] = 0.012
        links["mbps_kind"][0, 1] = Kind.BOUND
        for column in ("rtt_p50_ms", "rtt_p99_ms", "jitter_ms", "hop_p50_ms", "mbps"):
            links[column][2, 3] = np.nan  # nothing is known of this direction
        links["kind"][2, 3] = Kind.NONE
        links["kind"][4] = Kind.ESTIMATE
        links["kind"][:, 4] = Kind.ESTIMATE
        nodes["state"][3] = State.STALE
        nodes["seen_ns"][3] = at_ns - 95 * NS_PER_S
        nodes["state"][5] = State.LOST
        nodes["seen_ns"][5] = at_ns - 400 * NS_PER_S
        nodes["up_mbps"][4] = np.nan
        nodes["up_kind"][4] = Kind.NONE
    return dataclasses.replace(made, events=_events(names, at_ns))


def _facts(i: int, name: str, at_ns: int) -> NodeFacts:
    device = DEVICES[i % len(DEVICES)]
    layer = LayerTime(MODEL.name, "decode", 1, 128, 2.0 + 0.8 * i, at_ns=at_ns)
    return NodeFacts(
        node_id=f"{i + 1:016x}",
        name=name,
        device=device,
        system="Linux 6.1 x86_64",
        host=f"198.51.100.{i % 250 + 1}",
        region=REGIONS[i % len(REGIONS)],
        note="" if device else "torch not installed: pip install 'swarmtop[torch]'",
        layers=(layer,) if device else (),
    )


def _events(names: Sequence[str], at_ns: int) -> tuple[Event, ...]:
    if not names:
        return ()
    return (
        Event(at_ns - 37 * NS_PER_S, names[0], "path", "relayed by fra-2, direct before"),
        Event(at_ns - 227 * NS_PER_S, names[-1], "lost", "no heartbeat for 30 s"),
        Event(at_ns - 900 * NS_PER_S, names[0], "joined", "RTX 3090, Linux 6.1"),
    )


# ---------------------------------------------------------------- a planner with a known answer


def analyse(frame: Swarm, model: Any, workload: Workload, previous: Analysis | None) -> Analysis:
    """Three stages on the first three nodes; the first costs most, by its round trips."""
    names = frame.names[:3]
    share = model.layers // max(1, len(names))
    firsts = [i * share for i in range(len(names))]
    lasts = [*(f - 1 for f in firsts[1:]), model.layers - 1]
    placement = tuple(Stage(n, f, e) for n, f, e in zip(names, firsts, lasts, strict=True))
    stages = tuple(
        StageCost(s.node, s.layers, 90.0 + 40 * i, 71.0 - 20 * i, 18.2 * BYTES_PER_GIB, 4.3 * BYTES_PER_GIB)
        for i, s in enumerate(placement)
    )
    prediction = Prediction(
        model=model.name,
        weights=workload.weights,
        engine=workload.engine,
        client=None,
        placement=placement,
        fits=True,
        tpot_ms=Quantiles(660.0, 520.0, 649.0, 763.0),
        tokens_per_s=Quantiles(1.53, 1.31, 1.54, 1.92),
        throughput_tokens_per_s=3.1,
        ttft_ms=Quantiles(2100.0, 1900.0, 2080.0, 2600.0),
        breakdown_ms=Breakdown(compute=390.0, network=240.0, overhead=18.0, head=12.0),
        stages=stages,
        limited_by="rtt",
        notes=("hops of 16 KB taken as measured at decode cadence", "kiln-berlin-07 to hut-tromso is an estimate"),
    )
    impacts = [
        Impact(name, "in" if i < 3 else "spare", 120.0 / (i + 1), 30.0 / (i + 1) if i < 3 else 0.0,
               ("rtt", "compute", "jitter")[i % 3],
               {"rtt": 80.0 / (i + 1), "compute": 30.0 / (i + 1), "jitter": 10.0 / (i + 1)},
               share=(0.52, 0.3, 0.16)[i] if i < 3 else None, win_ms=80.0 / (2 * i + 1) if i < 3 else None,
               without_tokens_per_s=1.60 / (i + 1) if i < 3 else 1.54,
               typical_tokens_per_s=1.54 * (1 + 0.14 / (2 * i + 1)) if i < 3 else None,
               stand_by_for=names[0] if i >= 3 else "", stand_by_tokens_per_s=1.5 - 0.1 * i if i >= 3 else None)
        for i, name in enumerate(frame.names[:-1])
    ]  # fmt: skip
    by_name = {impact.node: impact for impact in impacts}
    plan = Plan(prediction, "latency", bound_ms=635.0, gap=0.022, exact=False)
    return Analysis(
        at_ns=frame.at_ns, model=model.name, weights=workload.weights, engine=workload.engine, plan=plan, why_not=None,
        impacts=tuple(impacts), rows=rows_of(frame, model.name, RunningSummary(by_name, names, 1.54)), notes=(),
        impact_of=by_name,
    )  # fmt: skip


def tables(frame: Swarm, layers: int) -> CostTables:
    """Every node holds half the model; each hop 20 ms, the first node's layers slowest."""
    n = len(frame)
    hop = np.full((n, n), 20.0)
    np.fill_diagonal(hop, 0.0)
    room = np.full(n, layers // 2)
    return CostTables(
        names=frame.names, pattern="chain", client=None, layers=layers, layer_ms=3.0 - 0.2 * np.arange(n) % 3,
        overhead_ms=np.zeros(n), capacity=room, capacity_first=room, capacity_last=room, capacity_only=room,
        hop_ms=hop, back_ms=hop, enter_ms=np.zeros(n), leave_ms=np.zeros(n), final_ms=np.zeros(n), head_ms=np.zeros(n),
        client_head_ms=0.0,
    )  # fmt: skip


def study(
    asked: tuple[object, ...], frame: Swarm, model: Any, workload: Workload, placement: Any, stage: int, known: Any
) -> Study:
    """The plan of `analyse` with the placement asked for, a third faster; every outsider is a candidate."""
    plan = analyse(frame, model, workload, None).plan
    assert plan is not None
    base = plan.prediction
    stages = tuple(
        StageCost(s.node, s.layers, 60.0 + 10 * i, 44.0, 18.2 * BYTES_PER_GIB, 4.3 * BYTES_PER_GIB)
        for i, s in enumerate(placement)
    )
    own = dataclasses.replace(
        base, placement=placement, stages=stages, tpot_ms=Quantiles(485.0, 452.0, 478.0, 526.0),
        tokens_per_s=Quantiles(2.06, 1.90, 2.09, 2.21), breakdown_ms=Breakdown(263.0, 192.0, 18.0, 12.0),
        notes=("hops of 16 KB taken as measured at decode cadence",),
    )  # fmt: skip
    whatif = WhatIf(known or tables(frame, model.layers), placement)
    outside = [name for name in frame.names if name not in {s.node for s in placement}]
    found = tuple(
        Candidate(name, whatif.replace(stage, name).placement, 0.23 - 0.2 * i, 38.0 + 3 * i, 20.0 + i, 0.93 - 0.03 * i,
                  (("loss 2.1%", "vram"), (), ("lost", "~link"))[i % 3])
        for i, name in enumerate(outside)
    )  # fmt: skip
    return Study(asked, placement, own, "", whatif, stage, found)


def cannot_plan(frame: Swarm, model: Any, workload: Workload, previous: Analysis | None) -> Analysis:
    return Analysis(
        at_ns=frame.at_ns, model=model.name, weights=workload.weights, engine=workload.engine, plan=None,
        why_not="no layer time of llama-2-70b yet on kiln-berlin-07, hut-tromso",
        impacts=(), rows=rows_of(frame, model.name, RunningSummary({})), notes=("no upload rate yet of attic-leeds-2",),
    )  # fmt: skip


# ---------------------------------------------------------------- sources


class FakeSource:
    """Yields what `put` gives it, for as long as nobody closes it; `fail` ends it as a real one would."""

    def __init__(self, *frames: Swarm, mode: Mode = "live", title: str = "10.0.0.5:9470") -> None:
        self.title = title
        self.mode: Mode = mode
        self.closed = False
        self.focused: list[str] = []
        self.chosen: list[bool] = []  # by a person, of each
        self.asked: list[str] = []
        self._queue: asyncio.Queue[Swarm | Exception] = asyncio.Queue()
        for frame in frames:
            self._queue.put_nowait(frame)

    def put(self, frame: Swarm) -> None:
        self._queue.put_nowait(frame)

    def fail(self, error: Exception) -> None:
        self._queue.put_nowait(error)

    async def frames(self) -> AsyncIterator[Swarm]:
        while True:
            item = await self._queue.get()
            if isinstance(item, Exception):
                raise item
            yield item

    async def history(
        self, metric: str, node_id: str, peer_id: str | None, since_ns: int, until_ns: int, points: int
    ) -> History:
        self.asked.append(metric)
        step = (until_ns - since_ns) // points
        at = tuple(since_ns + i * step + step // 2 for i in range(points))
        if self.mode == "file":
            return History((), ())
        level = {"loss": 0.01, "layer": 2.4, "gpu": 60.0, "vram_free": 6 * 2.0**30, "temp": 60.0}.get(metric, 200.0)
        values = [level * (1 + 0.5 * math.sin(i / 9)) for i in range(points)]
        gap = range(points // 3, points // 3 + points // 12)
        return History(at, tuple(None if i in gap else v for i, v in enumerate(values)))

    async def export(self, kind: str, since_ns: int, until_ns: int) -> AsyncIterator[str]:
        yield "time\n"

    async def focus(
        self, model: str, layer: LayerShape, dtype: str, hop_bytes: int, vocab: int = 0, *, chosen: bool = True
    ) -> None:
        self.focused.append(model)
        self.chosen.append(chosen)

    async def close(self) -> None:
        self.closed = True


class FakeRecording(FakeSource):
    """Two hours of the same world, drifting; nothing was recorded for six minutes of them."""

    def __init__(self, first: Swarm) -> None:
        super().__init__(first, mode="replay", title="swarm-0921.db")
        self.visited: list[int] = []
        self._names = first.names
        self._events = first.events
        self._last = first.at_ns

    async def span(self) -> Span:
        hour = 3600 * NS_PER_S
        gap = (self._last - hour, self._last - hour + 360 * NS_PER_S)
        return Span(self._last - 2 * hour, self._last, (gap,))

    async def count_at(self, at_ns: int) -> int:
        return len(swarm(self._names, at_ns))

    async def swarm_at(self, at_ns: int) -> Swarm:
        self.visited.append(at_ns)
        frame = swarm(self._names, at_ns)
        return dataclasses.replace(frame, events=tuple(e for e in self._events if e.at_ns <= at_ns))


def options(**changes: Any) -> DashboardOptions:
    base: dict[str, Any] = {
        "model": MODEL,
        "analyse": analyse,
        "study": study,
        "now_ns": lambda: NOW_NS,
        "zone": dt.UTC,
        "color": True,
        "join_hint": "pip install swarmtop && swarm-probe --join 10.0.0.5:9470",
    }
    return DashboardOptions(**(base | changes))


def colours(app: Any) -> set[Color]:
    """Return every colour that is written to the terminal, except its own default."""
    found = set()
    for strip in app.screen._compositor.render_strips():
        for line_filter in app._filters:
            if line_filter.enabled:
                strip = strip.apply_filter(line_filter, app.background_colors[1])
        for segment in strip:
            for color in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                if color is not None and not color.is_default:
                    found.add(color)
    return found


def screen_text(app: Any) -> str:
    """What a person sees, as plain text, without trailing blanks."""
    shown = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    return "\n".join("".join(strip.text for strip in row).rstrip() for row in shown.strips) + "\n"


async def until(pilot: Any, holds: Any, what: str = "the condition") -> None:
    """Lets the app work until `holds()`; no fixed waits, and an end to waiting."""
    deadline = time.monotonic() + COMES_WITHIN_S
    while not holds():
        assert pilot.app.crash is None, f"it crashed before {what} came about"
        assert time.monotonic() < deadline, f"{what} did not come about in {COMES_WITHIN_S:g} s"
        await pilot.pause(0.01)


async def ready(app: Any, pilot: Any) -> None:
    """The first frame and its analysis are on the screen."""
    await until(pilot, lambda: app.session.analysis is not None, "the analysis")
    await settle(app, pilot)


async def settle(app: Any, pilot: Any) -> None:
    """Everything that was changed is drawn."""
    await pilot.pause()
    app.redraw()
    await pilot.pause()
