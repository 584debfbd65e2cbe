"""Attribute the milliseconds of one step to the machines of a placement.

A visit belongs to its machine. A delivery between two stages belongs half to each, one between a stage and the driver
of the loop to the stage. What only the client takes is left out, so the shares add up to one or less.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from swarm_predict.cost.build import HopParts
from swarm_predict.cost.tables import CostTables
from swarm_predict.types import Cause

Parts = dict[Cause, float]
Delivery = tuple[int, int, float, tuple[int, ...]]


def parts_of_token(
    tables: CostTables, parts: HopParts, order: Sequence[int], layers: Sequence[int]
) -> dict[int, Parts]:
    """Return for each row the milliseconds of one step by cause. A hop's software counts as overhead."""
    found: dict[int, Parts] = {row: {} for row in order}
    for row, count in zip(order, layers, strict=True):
        _add(found[row], "compute", count * float(tables.layer_ms[row]))
        _add(found[row], "overhead", float(tables.overhead_ms[row]))
    _add(found[order[-1]], "compute", float(tables.head_ms[order[-1]]))
    _add(found[order[0]], "compute", _head_at_first(tables, order[0]))
    for src, dst, ms, owners in deliveries(tables, order):
        for row in owners:
            _deliver(found[row], parts, (src, dst), ms, 1 / len(owners))
    return found


def deliveries(tables: CostTables, order: Sequence[int]) -> list[Delivery]:
    """Return (from, to, ms, owner) of each message of a step; together with the visits they add up to `price`."""
    first, last = order[0], order[-1]
    client = tables.client
    if client is None:
        home_ms = float(tables.back_ms[last, first]) - _head_at_first(tables, first)
        if tables.pattern == "chain":
            hops: list[Delivery] = [(a, b, float(tables.hop_ms[a, b]), (a, b)) for a, b in itertools.pairwise(order)]
            return [*hops, (last, first, home_ms, (last, first))] if last != first else hops
        out = [(first, row, float(tables.hop_ms[first, row]), (row,)) for row in order[1:]]
        home = [(row, first, float(tables.hop_ms[row, first]), (row,)) for row in order[1:-1]]
        return [*out, *home, (last, first, home_ms, (last,))] if last != first else []
    if tables.pattern == "chain":
        return [
            (client, first, float(tables.enter_ms[first]), (first,)),
            *((a, b, float(tables.hop_ms[a, b]), (a, b)) for a, b in itertools.pairwise(order)),
            (last, client, float(tables.final_ms[last]), (last,)),
        ]
    return [
        *((client, row, float(tables.enter_ms[row]), (row,)) for row in order),
        *((row, client, float(tables.leave_ms[row]), (row,)) for row in order[:-1]),
        (last, client, float(tables.final_ms[last]), (last,)),
    ]


def _head_at_first(tables: CostTables, first: int) -> float:
    """Return the LM head where the first stage's machine computes it, which the tables count with the results."""
    return float(tables.back_ms[first, first]) if tables.client is None else 0.0


def _deliver(into: Parts, parts: HopParts, way: tuple[int, int], ms: float, share: float) -> None:
    """Split the milliseconds of one delivery: the idle path first, then what varies, then its bytes; the rest is
    software."""
    if way[0] == way[1]:
        _add(into, "overhead", ms * share)
        return
    left = ms
    shares: tuple[tuple[Cause, float], ...] = (
        ("rtt", float(parts.rtt_ms[way])),
        ("jitter", float(parts.jitter_ms[way])),
        ("upload", float(parts.upload_ms[way])),
    )
    for cause, most in shares:
        part = min(left, most) if most > 0 else 0.0
        _add(into, cause, part * share)
        left -= part
    _add(into, "overhead", left * share)


def _add(into: Parts, cause: Cause, ms: float) -> None:
    if ms > 0:
        into[cause] = into.get(cause, 0.0) + ms
