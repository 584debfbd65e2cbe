"""List the nodes that a plan leaves out because something about them is unknown, and what to do about each.

A node that is known and merely too slow, or full, is a spare; one that nothing is known of must not vanish from "the
optimum": the plan names it with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from swarm_predict.cost.engines import EngineFacts
from swarm_predict.cost.machine.layer_times import by_hand
from swarm_predict.cost.tables import CostTables
from swarm_predict.types import LeftOut
from swarm_protocol.snapshot.swarm import State, Swarm


def left_out(
    swarm: Swarm, tables: CostTables, client: str | None, forbidden: Iterable[str] = ()
) -> tuple[LeftOut, ...]:
    """Return them in the order of the swarm. The client needs no memory; forbidden nodes are left out on purpose."""
    asked = set(forbidden)
    written = by_hand(swarm)
    memory = swarm.nodes["vram_bytes"]
    timed = np.isfinite(tables.layer_ms)
    found = []
    for k, name in enumerate(tables.names):
        row = swarm.index(name)
        if name in asked or swarm.nodes["state"][row] in (State.LOST, State.LEFT) or memory[row] == 0:
            continue
        if np.isnan(memory[row]):
            if name != client:
                found.append(LeftOut(name, _no_memory(swarm, row, written)))
        elif not timed[k]:
            found.append(LeftOut(name, _no_time(swarm, row, written)))
        elif _alone(tables, k, timed):
            found.append(LeftOut(name, _no_path(written)))
    return tuple(found)


def too_far(swarm: Swarm, engine: EngineFacts, client: str | None, asked: Iterable[str] = ()) -> tuple[LeftOut, ...]:
    """Return the nodes whose round trip to the client the engine does not take; none without a named client."""
    if not math.isfinite(engine.most_rtt_ms) or client is None or client not in swarm.names:
        return ()
    home, rtt = swarm.index(client), swarm.links["rtt_p50_ms"]
    skipped = {client, *asked}
    found = []
    for row, name in enumerate(swarm.names):
        ms = float(np.fmin(rtt[home, row], rtt[row, home]))
        if name not in skipped and swarm.nodes["vram_bytes"][row] > 0 and ms > engine.most_rtt_ms:
            why = f"{ms:.0f} ms of round trip to {client}: {engine.name} accepts no node above {engine.most_rtt_ms:g}"
            found.append(LeftOut(name, why))
    return tuple(found)


def known_well_enough(swarm: Swarm, missing: Iterable[LeftOut], forbidden: Iterable[str] = ()) -> int:
    """Return the nodes with memory that the plan could choose from."""
    names = {each.node for each in missing} | set(forbidden)
    return sum(1 for facts, held in zip(swarm.facts, swarm.nodes["vram_bytes"], strict=True)
               if held > 0 and facts.name not in names)  # fmt: skip


def _alone(tables: CostTables, k: int, timed: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> bool:
    """Return whether a node has no path to or from the client or any other node that could serve."""
    others = timed.copy()
    others[k] = False
    linked = (np.isfinite(tables.hop_ms[k]) | np.isfinite(tables.hop_ms[:, k])) & others
    if tables.client is not None and k != tables.client:
        return not (np.isfinite(tables.enter_ms[k]) or np.isfinite(tables.final_ms[k]) or linked.any())
    return bool(others.any()) and not linked.any()


def _no_memory(swarm: Swarm, row: int, written: bool) -> str:
    device = swarm.facts[row].device
    if written:
        return "no memory is known: write vram_gib, or name its card with gpu" + _nearest(device)
    return "no memory is known: its driver does not say; start its probe with --offer"


def _no_time(swarm: Swarm, row: int, written: bool) -> str:
    facts = swarm.facts[row]
    if facts.note and not written:
        return f"no layer time: {facts.note}"
    advice = "write mem_gbps or [[node.layer]]" if written else "its probe has not timed one yet"
    return f"no layer time and no memory bandwidth: {advice}{_nearest(facts.device)}"


def _no_path(written: bool) -> str:
    advice = "write a [[link]], or access and city" if written else "its probe has not measured one yet"
    return f"no round trip to any other machine: {advice}"


def _nearest(device: str) -> str:
    """Name the nearest entries of the device table, where the node's own is not in it."""
    if not device:
        return ""
    from swarm_protocol.devices.names import find, nearest  # read only where a node is left out

    if find(device) is not None:
        return ""
    near = nearest(device)
    return f" ({device!r} has no data sheet here" + (f"; nearest: {', '.join(near)})" if near else ")")
