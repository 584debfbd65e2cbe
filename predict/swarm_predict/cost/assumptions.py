"""The notes under a prediction: what was assumed, for whom, and what to do about it. One line each, no repeats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from swarm_predict.cost.layer_times import How, by_hand
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Swarm

if TYPE_CHECKING:
    from swarm_predict.cost.build import Costs

SHOWN_NAMES = 4
MEASURE = "measure it (swarm-probe with torch) or write mem_gbps"


def some(names: Iterable[str]) -> str:
    """`a, b, c, d and 12 more`."""
    listed = list(names)
    rest = len(listed) - SHOWN_NAMES
    return ", ".join(listed) if rest <= 0 else f"{', '.join(listed[:SHOWN_NAMES])} and {rest} more"


def notes(swarm: Swarm, costs: Costs, model: ModelShape, workload: Workload) -> tuple[str, ...]:
    """About every row of `costs`; who predicts one placement asks about its nodes only."""
    lines = [*_of_compute(costs, model, workload), *_of_network(swarm, costs, model, workload), *_of_engine(costs)]
    if model.dense_ids:
        lines.append(f"{len(model.dense_ids)} of {model.layers} layers have a plain MLP; time counts each as the mean")
    elif len({(block.params, block.own_bytes) for block in model.kinds}) > 1:
        lines.append(f"the layers of {model.name} differ in size; memory counts each, time the mean")
    lines += model.notes
    return tuple(dict.fromkeys(lines))


def _of_compute(costs: Costs, model: ModelShape, workload: Workload) -> list[str]:
    names = costs.tables.names
    serve = np.isfinite(costs.vram_bytes)

    def made(how: How) -> str:
        return some(name for name, h, ok in zip(names, costs.layer.how, serve, strict=True) if h is how and ok)

    at = f"batch {workload.batch}, context {workload.context}"
    lines = []
    if who := made(How.OUTSIDE):
        lines.append(f"layer time of {who} scaled by the roofline to {at}: not measured around there")
    if who := made(How.OTHER_DTYPE):
        lines.append(f"layer time of {who} scaled by bytes: not measured with {workload.weights}")
    if who := made(How.OTHER_MODEL):
        lines.append(f"layer time of {who} scaled from another model: {model.name} was not measured there")
    if who := made(How.ROOFLINE):
        lines.append(f"layer time of {who} is a best case from memory bandwidth (roofline): no layer was measured")
    if who := made(How.UNKNOWN):
        lines.append(f"layer time of {who} is not known; {MEASURE}")
    if who := some(name for name, beats in zip(names, costs.layer.beats_roofline, strict=True) if beats):
        lines.append(f"the layer time of {who} beats its own mem_gbps; one of the two is wrong")
    return lines


def _of_network(swarm: Swarm, costs: Costs, model: ModelShape, workload: Workload) -> list[str]:
    paths, names = costs.links, costs.tables.names
    off = ~np.eye(len(names), dtype=bool)
    lines = []
    if np.any(paths.rate_free & off):
        who = some(name for name, free in zip(names, np.all(paths.rate_free | ~off, axis=1), strict=True) if free)
        lines.append(f"no up_mbps of {who or 'some nodes'}: what it sends is counted as free")
    if not by_hand(swarm):
        unknown = np.isnan(paths.rate_mbps) & ~paths.hop_known & off
        if np.any(unknown):
            who = some(name for name, row in zip(names, unknown, strict=True) if np.any(row))
            lines.append(f"neither hop nor upload of {who} is measured to every node: those pairs are not used")
    unreached = np.isnan(paths.rtt_p50_ms) & ~paths.hop_known & off
    if np.any(unreached):
        lines.append(f"{int(np.sum(unreached))} of {int(np.sum(off))} pairs have no round trip: they are not used")
    if np.any(paths.rate_bound & off):
        lines.append("some uploads are lower bounds (≥): the real hop may be faster")
    if np.any(paths.estimated & off):
        lines.append("some round trips are estimates (~), not measurements")
    return lines


def _of_engine(costs: Costs) -> list[str]:
    lines = []
    tables, engine = costs.tables, costs.engine
    if costs.client is not None and not engine.client_in_loop:
        lines.append(f"{engine.name}: the first stage drives the loop; the client only adds to the first token")
    if tables.client is not None and engine.drives == "first":
        lines.append(
            f"{engine.name}: {tables.names[tables.client]} is taken to drive the loop; where the first stage does "
            "(stock), ask without --client and without [client]"
        )
    if engine.head == "client" and tables.client is not None and not np.isfinite(costs.layer.head_ms[tables.client]):
        who = tables.names[tables.client]
        lines.append(f"the LM head runs on the client {who}, whose speed is not known: counted as 0 ms; write mem_gbps")
    return lines
