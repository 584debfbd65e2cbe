"""Notes on what a forecast's inputs assume, about which nodes, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.layer_times import ANY, How, by_hand
from swarm_predict.cost.software import software_assumed
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.factors import machine_of
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Swarm

SHOWN_NAMES = 4
MEASURE = "measure it (swarm-probe with torch) or write mem_gbps"


def some(names: Iterable[str]) -> str:
    """`a, b, c, d and 12 more`."""
    listed = list(names)
    rest = len(listed) - SHOWN_NAMES
    return ", ".join(listed) if rest <= 0 else f"{', '.join(listed[:SHOWN_NAMES])} and {rest} more"


def notes(swarm: Swarm, inputs: Inputs, model: ModelShape, workload: Workload) -> tuple[str, ...]:
    """Return one line per assumption about the rows of `inputs`, without repeats."""
    lines = [
        *_of_compute(swarm, inputs, model, workload),
        *_of_sheets(swarm, inputs),
        *_of_software(swarm, inputs, workload),
        *_of_network(swarm, inputs, model, workload),
        *_of_engine(inputs),
        *swarm.assumed,
    ]
    if model.dense_ids:
        lines.append(f"{len(model.dense_ids)} of {model.layers} layers have a plain MLP; time counts each as the mean")
    elif len({(block.params, block.own_bytes) for block in model.kinds}) > 1:
        lines.append(f"the layers of {model.name} differ in size; memory counts each, time the mean")
    lines += model.notes
    return tuple(dict.fromkeys(lines))


def _of_compute(swarm: Swarm, inputs: Inputs, model: ModelShape, workload: Workload) -> list[str]:
    names = inputs.names
    serve = np.isfinite(inputs.vram_bytes)

    def made(how: How) -> str:
        return some(name for name, h, ok in zip(names, inputs.layer.how, serve, strict=True) if h is how and ok)

    at = f"batch {workload.batch}, context {workload.context}"
    lines = []
    if who := made(How.OUTSIDE):
        lines.append(f"layer time of {who} scaled by the roofline to {at}: not measured around there")
    if who := made(How.OTHER_DTYPE):
        lines.append(f"layer time of {who} scaled by bytes: not measured with {workload.weights}")
    if who := made(How.OTHER_MODEL):
        lines.append(f"layer time of {who} scaled from another model: {model.name} was not measured there")
    if who := some(
        name
        for name, row, how in zip(names, inputs.rows, inputs.layer.how, strict=True)
        if how < How.ROOFLINE and any(time.dtype == ANY for time in swarm.facts[row].layers)
    ):
        lines.append(
            f"layer time of {who} names no dtype: taken as measured with {workload.weights}; other formats are scaled"
        )
    if who := made(How.ROOFLINE):
        if inputs.layer.assumed.priors.neutral:
            lines.append(f"layer time of {who} is a best case from memory bandwidth (roofline): no layer was measured")
        else:
            lines.append(
                f"layer time of {who} from data-sheet bandwidth and published results of its kind; none was measured"
            )
            lines += _of_classes(swarm, inputs, serve)
    if who := made(How.UNKNOWN):
        lines.append(f"layer time of {who} is not known; {MEASURE}")
    if who := some(name for name, beats in zip(names, inputs.layer.beats_roofline, strict=True) if beats):
        lines.append(f"the layer time of {who} beats its own mem_gbps; one of the two is wrong")
    return lines


def _of_sheets(swarm: Swarm, inputs: Inputs) -> list[str]:
    """Name the nodes whose layer times come from a data sheet's bandwidth and matrix rate."""
    sheets: dict[str, list[str]] = {}
    for row, name, how in zip(inputs.rows, inputs.names, inputs.layer.how, strict=True):
        if swarm.facts[row].sheet and how is How.ROOFLINE:
            sheets.setdefault(swarm.facts[row].sheet, []).append(name)
    return [
        f"bandwidth and matrix rate of {some(names)} from the data sheet of {sheet}" for sheet, names in sheets.items()
    ]


def _of_classes(swarm: Swarm, inputs: Inputs, serve: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[str]:
    strangers = some(
        name
        for name, row, how, ok in zip(inputs.names, inputs.rows, inputs.layer.how, serve, strict=True)
        if how is How.ROOFLINE and ok and not machine_of(swarm.facts[row]).device_class
    )
    if not strangers:
        return []
    return [f"device of {strangers} is not named: the interval covers any kind of machine; write device = …"]


def _of_software(swarm: Swarm, inputs: Inputs, workload: Workload) -> list[str]:
    """Note the assumed software time of messages that no calibration and no measured visit covers."""
    if inputs.layer.assumed.priors.neutral or workload.hop_overhead_ms or len(inputs.rows) < 2:
        return []
    assumed = software_assumed(swarm, inputs.rows, workload, inputs.links)
    if not np.any(assumed):
        return []
    reduces = inputs.engine.pattern == "all-reduce"
    each = inputs.layer.assumed.reduce_ms if reduces else inputs.layer.assumed.visit_ms
    usual = each[assumed.any(axis=0)]
    least, most = float(usual.min()), float(usual.max())
    figure = f"{least:.1f}" if most - least < 0.05 else f"{least:.1f} to {most:.1f}"
    if reduces:
        return [f"software of {workload.engine}: {figure} ms a round of an all-reduce, assumed from published results"]
    return [
        f"software of {workload.engine}: {figure} ms a message, assumed from published results; "
        "write overhead_ms if known"
    ]


def _of_network(swarm: Swarm, inputs: Inputs, model: ModelShape, workload: Workload) -> list[str]:
    paths, names = inputs.links, inputs.names
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
    if np.any(moved := (paths.hop_moved_ms != 0) & paths.hop_known & off):
        count = int(np.sum(moved))
        lines.append(f"{count} hop{'s are' if count > 1 else ' is'} older than a change of the round trip: moved by it")
    if np.any(paths.estimated & off):
        lines.append("some round trips are estimates (~), not measurements")
    return lines


def _of_engine(inputs: Inputs) -> list[str]:
    lines = []
    engine, client = inputs.engine, inputs.client_in_loop
    if inputs.client is not None and not engine.client_in_loop:
        lines.append(f"{engine.name}: the first stage drives the loop; the client only adds to the first token")
    if client is not None and engine.drives == "first":
        lines.append(
            f"{engine.name}: {inputs.names[client]} is taken to drive the loop; where the first stage does "
            "(stock), ask without --client and without [client]"
        )
    if engine.head == "client" and client is not None and not np.isfinite(inputs.layer.head_ms[client]):
        who = inputs.names[client]
        lines.append(f"the LM head runs on the client {who}, whose speed is not known: counted as 0 ms; write mem_gbps")
    return lines
