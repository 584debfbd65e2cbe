"""Run the dashboard on a synthetic fleet, for `bench tui` to drive through a pseudo-terminal.

    python -m bench.support.processes.dashboard_app NODES HERTZ

Every frame has new figures for a tenth of the nodes. Up to DENSE nodes every pair has a link; above, none has (a matrix
of 10,000 × 10,000 links is no swarm that anybody measures), so that what is timed is the ranking.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Workload
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.snapshot.columns import LINK_COLUMNS, NODE_COLUMNS
from swarm_protocol.snapshot.links.compact_links import COMPACT_NODES, CompactColumn, compacted
from swarm_protocol.snapshot.swarm import Kind, NodeFacts, Path, State, Swarm
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.run import run_dashboard
from swarmtop.sources.source import History, Mode

if TYPE_CHECKING:
    from swarmtop.analysis.analysis import Analysis

DENSE = 1024
GIB = 1 << 30


def fleet(n: int, at_ns: int, seed: int = 0) -> Swarm:
    rng = np.random.default_rng(seed)
    facts = tuple(
        NodeFacts(f"{i:016x}", f"node-{i:05}", device=("RTX 3090", "RTX 4090", "T4")[i % 3], region=f"r{i % 5}")
        for i in range(n)
    )
    if n > DENSE:
        made = Swarm(
            at_ns,
            facts,
            {name: np.full(n, np.nan if kind is np.float64 else 0, kind) for name, kind in NODE_COLUMNS.items()},
            {
                name: np.broadcast_to(np.array(np.nan if kind is np.float64 else 0, kind), (n, n))
                for name, kind in LINK_COLUMNS.items()
            },
            source="bench",
        )
    else:
        made = Swarm.empty(facts, at_ns=at_ns, source="bench")
        rtt = rng.uniform(5, 300, (n, n))
        for name, factor in (("min", 0.9), ("p50", 1.0), ("p95", 1.3), ("p99", 1.8)):
            made.links[f"rtt_{name}_ms"][:] = rtt * factor
        made.links["jitter_ms"][:] = rtt * 0.4
        made.links["loss"][:] = 0.001
        made.links["kind"][:] = Kind.MEASURED
        made.links["path"][:] = Path.DIRECT
        made.links["sent"][:] = 100
        made.links["at_ns"][:] = at_ns
    nodes = made.nodes
    nodes["state"][:] = State.OK
    nodes["seen_ns"][:] = at_ns
    nodes["vram_bytes"][:] = 24 * GIB
    nodes["up_mbps"][:] = rng.uniform(10, 900, n)
    nodes["up_kind"][:] = Kind.MEASURED
    nodes["down_mbps"][:] = rng.uniform(10, 900, n)
    nodes["down_kind"][:] = Kind.MEASURED
    nodes["gpu_util_percent"][:] = rng.uniform(0, 100, n)
    return made


def following(frame: Swarm, at_ns: int, rng: np.random.Generator) -> Swarm:
    """Return the next frame: a tenth of the nodes have new figures, up to ten new round trips to all others."""
    n = len(frame)
    nodes = dict(frame.nodes)
    chosen = rng.choice(n, max(1, n // 10), replace=False)
    for name in ("up_mbps", "down_mbps", "gpu_util_percent"):
        nodes[name] = nodes[name].copy()
        nodes[name][chosen] *= rng.uniform(0.9, 1.1, len(chosen))
    nodes["seen_ns"] = np.full(n, at_ns)
    links = frame.links
    if n <= DENSE:
        links = dict(links)
        src = chosen[:10]
        for name in ("rtt_p50_ms", "rtt_p99_ms"):
            column, rows = links[name], links[name][src] * rng.uniform(0.9, 1.1)
            if isinstance(column, CompactColumn):
                at = (src[:, None] * n + np.arange(n)).reshape(-1)
                links[name] = cast("npt.NDArray[Any]", column.with_cells(at, rows.reshape(-1)))
            else:
                links[name] = column.copy()
                links[name][src] = rows
    return dataclasses.replace(frame, at_ns=at_ns, nodes=nodes, links=links, _index={})


class Fleet:
    """A source of new frames at a given rate."""

    title = "bench"
    mode: Mode = "live"

    def __init__(self, n: int, hertz: float) -> None:
        self._n, self._hertz = n, hertz

    async def frames(self) -> AsyncIterator[Swarm]:
        rng = np.random.default_rng(1)
        frame = fleet(self._n, time.time_ns())
        if self._n >= COMPACT_NODES:
            frame = compacted(frame)  # as frames of a collector are
        while True:
            yield frame
            await asyncio.sleep(1 / self._hertz)
            frame = following(frame, time.time_ns(), rng)

    async def history(
        self, metric: str, node_id: str, peer_id: str | None, since_ns: int, until_ns: int, points: int
    ) -> History:
        step = (until_ns - since_ns) // points
        return History(tuple(since_ns + i * step for i in range(points)), tuple(50.0 + i % 7 for i in range(points)))

    async def export(self, kind: str, since_ns: int, until_ns: int) -> AsyncIterator[str]:
        yield "time\n"

    async def focus(
        self, model: str, layer: LayerShape, dtype: str, hop_bytes: int, vocab: int = 0, *, chosen: bool = True
    ) -> None:
        pass

    async def close(self) -> None:
        pass


def no_plan(frame: Swarm, model: ModelShape, workload: Workload, previous: Analysis | None) -> Analysis:
    """Plan nothing: `bench plan` times the planner."""
    from swarmtop.analysis.analysis import Analysis

    return Analysis(
        at_ns=frame.at_ns, model=model.name, weights=workload.weights, engine=workload.engine, plan=None,
        why_not="not planned here", impacts=(), rows=(),
    )  # fmt: skip


if __name__ == "__main__":
    options = DashboardOptions(model_named("llama-3.1-8b"), analyse=no_plan)
    sys.exit(run_dashboard(Fleet(int(sys.argv[1]), float(sys.argv[2])), options))
