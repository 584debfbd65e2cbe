"""Run `Compute` in a test, with a short program in place of the timing process."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil

from swarm_probe.compute.job import Report, to_line
from swarm_probe.compute.limits import ComputeLimits
from swarm_probe.compute.supervisor import Compute
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.probe_messages import ComputeTask
from swarm_protocol.messages.samples import ComputeSample, EventSample, Sample

TASK = ComputeTask(
    task_id=1,
    model="tiny",
    layer=LayerShape(architecture="llama", hidden=32, intermediate=48, heads=4, kv_heads=2, head_dim=8),
    dtype="fp32",
    batches=(1,),
    contexts=(16,),
    prefill_tokens=(8,),
    budget_ms=20_000.0,
)
FIGURE = ComputeSample(
    at_ns=1,
    device="d",
    model="tiny",
    dtype="fp32",
    phase="decode",
    batch=1,
    context=16,
    ms_per_layer=1.0,
    ms_p95=2.0,
    n=9,
)


class Rig:
    def __init__(self, child: str | None, *, torch: str | None = "2.0", **limits: Any) -> None:
        """`child`: a program in place of the real one; `say(report)` and `job` are there for it."""
        self.samples: list[Sample] = []
        self.said: list[str] = []
        self.news = asyncio.Event()
        if child is not None:
            head = "import sys, os, time\njob = sys.stdin.buffer.readline()\ndef say(line): os.write(1, line)\n"
            limits["command"] = (sys.executable, "-c", head + child)
        self.compute = Compute(
            self.emit,
            say=self.said.append,
            wall_ns=lambda: 7,
            rng=random.Random(1),
            limits=ComputeLimits(settle_s=0.01, look_s=0.02, **{"lock_path": "", **limits}),
            find_torch=lambda: torch,
        )

    def emit(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.news.set()

    async def until(self, true: Callable[[], object], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                self.news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.05)

    def events(self) -> list[str]:
        return [f"{s.kind}: {s.detail}" for s in self.samples if isinstance(s, EventSample)]


@contextlib.asynccontextmanager
async def running(rig: Rig, task: ComputeTask | None = TASK) -> AsyncIterator[None]:
    rig.compute.update(task)
    work = asyncio.create_task(rig.compute.run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=10)
        assert alive == []


def lines(*reports: Report) -> str:
    return f"say({b''.join(to_line(report) for report in reports)!r})\n"
