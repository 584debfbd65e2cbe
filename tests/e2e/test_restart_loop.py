"""A collector that dies repeatedly costs no measurement: the probes keep measuring the same peers."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from swarm_rig import SwarmRig

from swarm_collector.scheduling.measurement_plan import MIN_WINDOW_MS
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S

NAMES = ("attic", "barn", "cellar", "den")
UP_S = (5.0, 8.0, 6.0, 9.0, 7.0)  # how long it lives each time
WITHIN_S = 100.0  # for everything measured meanwhile to be handed in: probes come back within a minute or so
WINDOW_S = MIN_WINDOW_MS / 1000


def link_times(database: Path) -> dict[tuple[str, str], list[float]]:
    """Each link's samples, when they were taken."""
    found: dict[tuple[str, str], list[float]] = {}
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT src, dst, ts FROM link_sample WHERE path = 'direct' ORDER BY ts").fetchall()
    finally:
        connection.close()
    for src, dst, ts in rows:
        found.setdefault((src, dst), []).append(ts / NS_PER_S)
    return found


def all_linked(swarm: Swarm) -> bool:
    return len(swarm.facts) == len(NAMES) and int(np.isfinite(swarm.links["rtt_p50_ms"]).sum()) >= 12


@pytest.mark.timeout(300)
async def test_a_collector_killed_five_times_leaves_no_hole_in_any_link(tmp_path: Path) -> None:
    rig = SwarmRig(tmp_path)
    rig.start_collector("llama-3.2-1b")
    try:
        for name in NAMES:
            rig.start_probe(name, "--compute-budget", "0", "--daily-bytes", "none")
        await rig.seen(all_linked, "every link measured")
        began = time.time()
        for up_s in UP_S:
            assert rig.collector is not None
            await asyncio.sleep(up_s)
            rig.collector.kill()
            rig.collector.wait()
            rig.start_collector("llama-3.2-1b")
        ended = time.time()
        times = link_times(rig.database)
        async with asyncio.timeout(WITHIN_S):
            while not (len(times) == 12 and all(each[-1] > ended for each in times.values())):
                await asyncio.sleep(0.5)
                times = link_times(rig.database)
    finally:
        rig.stop()
    holes = {
        link: max(later - earlier for earlier, later in itertools.pairwise(each) if later > began)
        for link, each in times.items()
    }
    print(f"longest hole of each link, s: {sorted(round(hole, 1) for hole in holes.values())}")
    assert len(holes) == 12
    assert max(holes.values()) <= 2 * WINDOW_S, holes
