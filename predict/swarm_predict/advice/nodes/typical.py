"""Compute typical figures of this swarm, and cost tables in which one machine has them.

A machine is compared with the members of the running placement and of the best plan, or with every other machine that
can serve where those are fewer than two. Its paths are compared peer by peer: typical towards a peer is the median of
what the others have towards that same peer, so that no machine is blamed for another's bad connection, nor for an ocean
between the plan and the rest of the swarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.build import HopParts
from swarm_predict.cost.tables import CostTables
from swarm_predict.types import Cause
from swarm_protocol.snapshot.swarm import Floats

Bools = npt.NDArray[np.bool_]

CAUSES: Final[tuple[Cause, ...]] = ("rtt", "jitter", "upload", "compute", "memory", "overhead")
_PATHS: Final[tuple[Cause, ...]] = ("rtt", "jitter", "upload")
_ROOMS: Final = ("capacity", "capacity_first", "capacity_last", "capacity_only")
MIN_COMPARED: Final = 2  # a median of one machine is that machine


@dataclass(frozen=True, slots=True)
class Typical:
    """The usual figures of a machine in this swarm; infinite if there is nothing to compare with."""

    layer_ms: float
    head_ms: float
    overhead_ms: float
    rooms: dict[str, int]  # layers that its memory holds, by place in the chain
    to_ms: dict[Cause, Floats]  # (peers,) one part of a delivery to each peer
    from_ms: dict[Cause, Floats]  # (peers,) and from each peer


def compared_with(row: int, members: Sequence[int], serves: Bools) -> list[int]:
    """Return the rows that `row` is compared with: the other members, or all others that serve."""
    few = [other for other in dict.fromkeys(members) if other != row and serves[other]]
    return few if len(few) >= MIN_COMPARED else [other for other in np.flatnonzero(serves).tolist() if other != row]


def typical_of(
    tables: CostTables, parts: HopParts, compared: Sequence[int], serves: Bools, row: int, peers: Sequence[int]
) -> Typical | None:
    """Return typical figures; None if nothing compares with `row`. `peers`: rows whose paths matter, in this
    order."""
    if not compared:
        return None
    rows = np.array(compared, np.int64)
    others = np.flatnonzero(serves)
    wide = others[others != row]
    to_ms: dict[Cause, Floats] = {}
    from_ms: dict[Cause, Floats] = {}
    for cause, part in zip(_PATHS, (parts.rtt_ms, parts.jitter_ms, parts.upload_ms), strict=True):
        to_ms[cause] = _towards(part, rows, wide, peers)
        from_ms[cause] = _towards(part.T, rows, wide, peers)
    return Typical(
        layer_ms=_median(tables.layer_ms[rows]),
        head_ms=_median(tables.head_ms[rows]),
        overhead_ms=_median(tables.overhead_ms[rows]),
        rooms={column: int(np.median(getattr(tables, column)[rows])) for column in _ROOMS},
        to_ms=to_ms,
        from_ms=from_ms,
    )


def relieved(
    tables: CostTables, parts: HopParts, share: tuple[float, float], row: int, causes: Sequence[Cause], usual: Typical
) -> CostTables:
    """Return tables with the machine no worse than typical in these respects; their rows are the peers of `usual`.

    `share`: bytes of what the last stage and of what the client sends, as multiples of an activation's.
    """
    changes: dict[str, Any] = {}
    if "compute" in causes:
        changes |= {
            "layer_ms": _lowered(tables.layer_ms, row, usual.layer_ms),
            "head_ms": _lowered(tables.head_ms, row, usual.head_ms),
        }
    if "overhead" in causes:
        changes["overhead_ms"] = _lowered(tables.overhead_ms, row, usual.overhead_ms)
    if "memory" in causes:
        for column, most in usual.rooms.items():
            room = getattr(tables, column).copy()
            room[row] = max(int(room[row]), most)
            changes[column] = room
    tables = replace(tables, **changes)
    for cause, part in zip(_PATHS, (parts.rtt_ms, parts.jitter_ms, parts.upload_ms), strict=True):
        if cause in causes:
            tables = _shorter(tables, _excess(part, row, cause, usual), share if cause == "upload" else (1.0, 1.0))
    return tables


def _excess(part: Floats, row: int, cause: Cause, usual: Typical) -> Floats:
    """Return (n, n): what the links of `row` take above what is typical towards the same peer."""
    excess = np.zeros_like(part)
    excess[row] = _above(part[row], usual.to_ms[cause])
    excess[:, row] = _above(part[:, row], usual.from_ms[cause])
    excess[row, row] = 0.0
    return excess


def _above(values: Floats, usual: Floats) -> Floats:
    known = np.isfinite(values) & np.isfinite(usual)
    return np.where(known, np.clip(np.where(known, values - usual, 0.0), 0.0, None), 0.0)


def _shorter(tables: CostTables, excess: Floats, share: tuple[float, float]) -> CostTables:
    result, enter = share
    client = tables.client
    return replace(
        tables,
        hop_ms=_less(tables.hop_ms, excess),
        back_ms=_less(tables.back_ms, excess * result),
        enter_ms=tables.enter_ms if client is None else _less(tables.enter_ms, excess[client] * enter),
        leave_ms=tables.leave_ms if client is None else _less(tables.leave_ms, excess[:, client]),
        final_ms=tables.final_ms if client is None else _less(tables.final_ms, excess[:, client] * result),
    )


def _towards(part: Floats, near: npt.NDArray[np.int64], wide: npt.NDArray[np.int64], peers: Sequence[int]) -> Floats:
    """Return the median of what `near` has towards each peer, or `wide` where none has a figure; else infinite."""
    columns = np.array(peers, np.int64)
    found = _medians(_others(part, near, columns))
    if (blank := np.isnan(found)).any():
        found[blank] = _medians(_others(part, wide, columns[blank]))
    return np.where(np.isnan(found), np.inf, found)


def _others(part: Floats, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Floats:
    """Return what is known, without a machine's path to itself."""
    some = part[np.ix_(rows, columns)]
    return np.where(np.isfinite(some) & (rows[:, None] != columns[None, :]), some, np.nan)


def _medians(values: Floats) -> Floats:
    """Return column medians without the NaNs; NaN if there is nothing. (nanmedian goes column by column.)"""
    count = np.isfinite(values).sum(axis=0)
    if not count.any():
        return np.full(values.shape[1], np.nan)
    ordered = np.sort(values, axis=0)  # NaN last
    at = np.arange(values.shape[1])
    middle = (ordered[np.maximum(0, (count - 1) // 2), at] + ordered[np.minimum(count // 2, len(values) - 1), at]) / 2
    return np.where(count > 0, middle, np.nan)


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float(np.inf)


def _lowered(values: Floats, row: int, most: float) -> Floats:
    lowered = values.copy()
    lowered[row] = min(float(values[row]), most)
    return lowered


def _less(values: Floats, excess: Floats) -> Floats:
    return np.where(excess > 0, np.maximum(values - excess, 0.0), values)
