"""Write notes on the assumed inputs of a forecast: what, of which nodes, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.machine.cards import shared_by
from swarm_predict.cost.machine.head_times import ORDINARY_MEM_GBPS
from swarm_predict.cost.machine.layer_times import ANY, How, by_hand
from swarm_predict.cost.network.delivery_times import Links, Mask
from swarm_predict.cost.software_overhead import software_assumed
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.factors import machine_of
from swarm_predict.types import Engine, Workload
from swarm_protocol.snapshot.swarm import Swarm

SHOWN_NAMES = 4
KERNELS_DIFFER = 0.05  # relative, of an engine's layer times from those of the probes
SHOWN_ASYMMETRY = 0.1  # of the round trip
SHOWN_ASYMMETRY_MS = 1.0
TOGETHER: Final[Engine] = "vllm"  # to name where cards would compute together
MEASURE = "measure it (swarm-probe with torch) or write mem_gbps"


def some(names: Iterable[str]) -> str:
    """Return `a, b, c, d and 12 more`."""
    listed = list(names)
    rest = len(listed) - SHOWN_NAMES
    return ", ".join(listed) if rest <= 0 else f"{', '.join(listed[:SHOWN_NAMES])} and {rest} more"


def notes(swarm: Swarm, inputs: Inputs, model: ModelShape, workload: Workload) -> tuple[str, ...]:
    """Return one line per assumption about the rows of `inputs`, without repeats."""
    lines = [
        *_of_compute(swarm, inputs, model, workload),
        *_of_sheets(swarm, inputs),
        *_of_cards(swarm, inputs, model, workload),
        *_of_kernels(inputs, workload),
        *_of_software(swarm, inputs, workload),
        *_of_visits(swarm, inputs, workload),
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
        lines.append(f"layer time of {who} scaled by the roofline to {at}: not measured near that point")
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


def _of_cards(swarm: Swarm, inputs: Inputs, model: ModelShape, workload: Workload) -> list[str]:
    """Note how machines with several cards compute: all on every layer, in groups, or one card after the other."""
    sizes: dict[int, list[str]] = {}
    in_turn = []
    for name, row, count in zip(inputs.names, inputs.rows, inputs.layer.cards, strict=True):
        if count > 1:
            sizes.setdefault(count, []).append(name)
        elif shared_by(swarm.facts[row].device, model, TOGETHER) > 1 and np.isfinite(swarm.nodes["vram_bytes"][row]):
            in_turn.append(name)
    if in_turn and not inputs.engine.cards_together:
        return [
            f"cards of {some(in_turn)} compute one after the other, as under llama.cpp; --engine {TOGETHER} splits "
            "every layer among them"
        ]
    return [
        f"{count} cards of {some(names)} split every layer under {workload.engine}; the time of their exchanges is "
        "from published results"
        for count, names in sizes.items()
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


def _of_kernels(inputs: Inputs, workload: Workload) -> list[str]:
    """Note layer times of probes that were converted to an engine's own kernels."""
    layer, serve = inputs.layer, np.isfinite(inputs.vram_bytes)
    timed = [float(layer.kernels[k] * layer.assumed.layers[k]) for k in np.flatnonzero(serve) if layer.measured[k]]
    converted = [factor for factor in timed if abs(factor - 1) > KERNELS_DIFFER]
    if not converted:
        return []
    return [
        f"layer times of processors: {min(converted):.2f} times those of the probes, which time torch, by the measured "
        f"bandwidth of memory and runs of {workload.engine}"
    ]


def _of_visits(swarm: Swarm, inputs: Inputs, workload: Workload) -> list[str]:
    """Note how long a visit takes if it was not measured, and where other programs used the machine meanwhile."""
    if by_hand(swarm):
        return []
    lines = []
    timed = [(name, row) for name, row in zip(inputs.names, inputs.rows, strict=True) if swarm.facts[row].layers]
    assumed = software_assumed(swarm, inputs.rows, workload, inputs.links).any(axis=0)  # in place of a measured visit
    unknown = np.isnan(swarm.nodes["overhead_ms"][list(inputs.rows)]) & ~assumed
    missing = dict(zip(inputs.rows, unknown, strict=True))
    if who := some(name for name, row in timed if missing[row]):
        lines.append(f"the cost of a visit after a pause was not measured on {who}: counted as 0 there")
    if who := some(name for name, row in timed if all("contended" in time.marks for time in swarm.facts[row].layers)):
        lines.append(f"other programs used {who} whenever its layers were timed: these times may be too long")
    return lines


def _of_network(swarm: Swarm, inputs: Inputs, model: ModelShape, workload: Workload) -> list[str]:
    paths, names = inputs.links, inputs.names
    off = ~np.eye(len(names), dtype=bool)
    lines = []
    if np.any(paths.rate_free & off):
        who = some(name for name, free in zip(names, np.all(paths.rate_free | ~off, axis=1), strict=True) if free)
        lines.append(f"no up_mbps of {who or 'some nodes'}: its uploads are counted as free")
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
    lines += _of_ways(paths, names, off, measured=not by_hand(swarm))
    if np.any(moved := (paths.hop_moved_ms != 0) & paths.hop_known & off):
        count = int(np.sum(moved))
        lines.append(
            f"{count} hop{'s are' if count > 1 else ' is'} older than a change of round trip or upload: adjusted by it"
        )
    if np.any(paths.estimated & off):
        lines.append("some round trips are estimates (~), not measurements")
    return lines


def _of_ways(paths: Links, names: tuple[str, ...], off: Mask, *, measured: bool) -> list[str]:
    """Note which paths are slower in one direction, and where the directions could not be distinguished."""
    lines = []
    least, asymmetry = paths.oneway_min_ms, paths.asymmetry_ms
    slower = off & paths.ways_known & (asymmetry >= SHOWN_ASYMMETRY_MS)
    slower &= asymmetry >= SHOWN_ASYMMETRY * paths.rtt_min_ms
    if np.any(slower):
        src, dst = np.unravel_index(int(np.argmax(np.where(slower, asymmetry, 0.0))), slower.shape)
        most = f"{names[src]} → {names[dst]} {least[src, dst]:.0f} ms, back {least[dst, src]:.0f}"
        count = int(np.sum(slower))
        what = f"{count} paths take" if count > 1 else "one path takes"
        how = "estimated from all pairs' clocks; exact around a token's loop" if measured else "as written"
        lines.append(f"{what} longer one way than the other ({most}), {how}")
    apart = off & ~paths.ways_known & np.isfinite(paths.rtt_p50_ms) & ~paths.estimated
    if measured and len(names) > 2 and np.any(apart):
        who = some(name for name, row in zip(names, apart, strict=True) if np.any(row))
        lines.append(
            f"the two directions of paths from {who} were not measured apart: "
            "half the round trip each, with uncertainty"
        )
    return lines


def _of_engine(inputs: Inputs) -> list[str]:
    lines = []
    engine, client = inputs.engine, inputs.client_in_loop
    if inputs.client is not None and not engine.client_in_loop:
        lines.append(f"{engine.name}: the first stage drives the loop; the client only adds to the first token")
    if client is not None and engine.drives == "first":
        lines.append(
            f"{engine.name}: {inputs.names[client]} is assumed to drive the loop; if the first stage does "
            "(unmodified), leave out --client and [client]"
        )
    if engine.head == "client" and client is not None and not inputs.layer.head_known[client]:
        lines.append(
            f"the LM head runs on the client {inputs.names[client]}, whose speed is not known: counted for an ordinary "
            f"computer with {ORDINARY_MEM_GBPS:.0f} GB/s; write mem_gbps"
        )
    return lines
