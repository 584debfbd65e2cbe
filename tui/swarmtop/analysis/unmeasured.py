"""List the nodes that answer, and what has not been measured yet, in lines for people. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.machine.layer_times import How, layer_columns
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm, Transport
from swarm_protocol.text import safe
from swarmtop.text import quantities
from swarmtop.text.quantities import state_of

GONE: Final = (State.LOST, State.LEFT)
NAMED: Final = 3  # of a list of nodes in one line; the rest are counted


def gone_nodes(swarm: Swarm) -> frozenset[str]:
    """Return the names of nodes that are lost or have left."""
    rows = np.flatnonzero(np.isin(swarm.nodes["state"], [int(state) for state in GONE]))
    return frozenset(swarm.facts[int(row)].name for row in rows)


def alive(swarm: Swarm, client: str | None = None, keep: Collection[str] = ()) -> Swarm:
    """Return the swarm without its lost and departed nodes. The client stays, gone or not, because it was named, and so
    do the nodes of `keep`."""
    gone = np.isin(swarm.nodes["state"], [int(state) for state in GONE])
    named = {client or swarm.client, *keep}
    keep_rows = np.flatnonzero(~gone | np.array([f.name in named for f in swarm.facts], bool))
    return swarm if len(keep_rows) == len(swarm) else only(swarm, keep_rows)


def only(swarm: Swarm, keep: npt.NDArray[np.intp]) -> Swarm:
    """Return the rows `keep` of `swarm`, in that order."""
    facts = tuple(swarm.facts[int(i)] for i in keep)
    there = {f.name for f in facts}
    return dataclasses.replace(
        swarm,
        facts=facts,
        nodes={name: column[keep] for name, column in swarm.nodes.items()},
        links={name: matrix[np.ix_(keep, keep)] for name, matrix in swarm.links.items()},
        client=swarm.client if swarm.client in there else None,
        _index={},
    )


def missing(swarm: Swarm, model: ModelShape, workload: Workload) -> tuple[str, ...]:
    """Return what has not been measured of `swarm`, one line for each kind, the most important first.

    Raises PredictError for weights that are no format.
    """
    reporting = np.array([state_of(value) is not State.UNKNOWN for value in swarm.nodes["state"]], bool)
    memory = swarm.nodes["vram_bytes"]
    lines = []
    if silent := _names(swarm, reporting & np.isnan(memory)):
        lines.append(f"no memory figure yet of {listed(silent)}")
    if slow := [name for name in untimed(swarm, model, workload) if memory[swarm.index(name)] > 0]:
        line = f"no layer time of {model.name} yet on {listed(slow)}"
        note_of = {f.name: safe(f.note) for f in swarm.facts if f.note}
        names_of: dict[str, list[str]] = {}
        for name in slow:
            if name in note_of:
                names_of.setdefault(note_of[name], []).append(name)
        reasons = [
            note if 1 < len(names) == len(slow) else f"{listed(names)}: {note}" for note, names in names_of.items()
        ]
        lines.append(line + (f" ({'; '.join(reasons[:NAMED])})" if reasons else ""))
    unseen = (swarm.links["kind"] == Kind.NONE) | np.isnan(swarm.links["rtt_p50_ms"])
    np.fill_diagonal(unseen, False)
    # a pair that one end has measured is known: the round trip is the same from both
    apart = np.argwhere(np.triu(unseen & unseen.T))
    # a node that blocks UDP may still be reached, or reach others
    by_tcp = (swarm.links["hop_bytes"] > 0) & (swarm.links["hop_transport"] == Transport.TCP)
    shut = (swarm.links["why"] > 0) & ~by_tcp
    shut = np.triu(shut & shut.T)
    if len(closed := np.argwhere(shut)):
        pairs = [
            f"{swarm.facts[i].name}–{swarm.facts[j].name} ({quantities.why(swarm, int(i), int(j))})"
            for i, j in closed[:NAMED]
        ]
        lines.append(f"no path between {listed(pairs, len(closed))}")
        apart = np.argwhere(np.triu(unseen & unseen.T) & ~shut)
    if len(apart):
        pairs = [f"{swarm.facts[i].name}–{swarm.facts[j].name}" for i, j in apart[:NAMED]]
        lines.append(f"no round trip yet between {listed(pairs, len(apart))}")
    if without_uplink := _names(swarm, reporting & (memory > 0) & np.isnan(swarm.nodes["up_mbps"]) & (len(swarm) > 1)):
        lines.append(f"no upload rate yet of {listed(without_uplink)}")
    return tuple(lines)


def untimed(swarm: Swarm, model: ModelShape, workload: Workload) -> list[str]:
    """Return the names of nodes without a known or derivable layer time."""
    layers = layer_columns(
        swarm, range(len(swarm)), model, workload.weights, "decode", workload.batch, workload.context
    )
    return _names(swarm, np.array([how is How.UNKNOWN for how in layers.how], bool))


def _names(swarm: Swarm, which: npt.NDArray[np.bool_]) -> list[str]:
    return sorted(swarm.facts[int(i)].name for i in np.flatnonzero(which))


def listed(names: Sequence[str], total: int | None = None) -> str:
    """Return `a, b, c and 4 more`: the first of `total` names."""
    rest = (len(names) if total is None else total) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
