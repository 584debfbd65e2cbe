"""Explain why there is no placement, too little memory or a missing figure, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from swarm_predict.cost.tables import CostTables
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.chain import Bools
from swarm_predict.types import DoesNotFit, NotMeasured, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import gib


def why_not(tables: CostTables, usable: Bools, required: Bools, max_stages: int) -> DoesNotFit | NotMeasured:
    """Return what prevents a placement, in one line."""
    most = np.maximum.reduce([tables.capacity, tables.capacity_first, tables.capacity_last, tables.capacity_only])
    holding = usable & (most > 0)
    names = np.array(tables.names, dtype=object)
    for row in np.flatnonzero(required):
        if not holding[row]:
            return DoesNotFit(f"{names[row]} has no memory for a single layer; drop --require {names[row]}")
    room = int(np.sort(most[holding])[::-1][:max_stages].sum())
    if room < tables.layers:
        among = f"the {max_stages} largest of {int(holding.sum())}" if max_stages < holding.sum() else "all nodes"
        return DoesNotFit(
            f"{among} together hold {room} of {tables.layers} layers; add nodes, or use smaller --weights or --context"
        )
    timed = holding & np.isfinite(tables.layer_ms) & np.isfinite(tables.overhead_ms)
    known = int(np.sort(most[timed])[::-1][:max_stages].sum())
    if known < tables.layers:
        return NotMeasured(
            f"no layer time for {_list(names[holding & ~timed])}; nodes with one hold {known} of {tables.layers} "
            "layers; wait for the compute measurement or give [[node.layer]], or mem_gbps and tflops"
        )
    pairs = np.argwhere(~np.isfinite(tables.hop_ms) & timed[:, None] & timed[None, :])
    links = [f"{names[i]} → {names[j]}" for i, j in pairs if i != j]
    if tables.client is not None:
        links += [f"{names[tables.client]} → {names[i]}" for i in np.flatnonzero(timed & ~np.isfinite(tables.enter_ms))]
        links += [f"{names[i]} → {names[tables.client]}" for i in np.flatnonzero(timed & ~np.isfinite(tables.final_ms))]
    if links:
        return NotMeasured(f"no round trip for {_list(links)}; no placement avoids them all; measure or give [[link]]")
    return DoesNotFit(
        f"memory for {room} of {tables.layers} layers is there, but not beside the embedding or LM head on the "
        "first and last stage; add a larger node or use smaller --weights"
    )


def _list(names: Iterable[str], most: int = 4) -> str:
    held = list(names)
    more = f" and {len(held) - most} more" if len(held) > most else ""
    return ", ".join(held[:most]) + more


def memory_need(swarm: Swarm, model: ModelShape, workload: Workload) -> str:
    """Return the totals of memory needed and available."""
    weights = model.stage_bytes(0, model.layers - 1, workload.weights)
    cache = model.kv_bytes(workload.context) * model.layers * workload.batch * workload.streams
    held = swarm.nodes["vram_bytes"]
    count = int((held > 0).sum())
    return (
        f"in {workload.weights} needs {gib(weights):.1f} GiB for its layers and {gib(cache):.1f} for the KV cache, "
        f"{'1 node has' if count == 1 else f'{count} nodes have'} {gib(float(np.nansum(held))):.1f}"
    )
