"""Draw the cards of all machines, a line each: load, memory, temperature and power, as nvitop does."""

from __future__ import annotations

from typing import Final

from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.dashboard.lines.charts.gauges import gauge
from swarmtop.dashboard.lines.styled import Block, Span, clean, height, line, pad
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

NO_CARD: Final = "cpu:"  # how the device of a machine begins that computes on its processor


def shown(view: View) -> bool:
    """Return whether any machine reports its card."""
    return bool(said(view))


def said(view: View) -> list[int]:
    """Return the rows of machines that report a card, in the order of the ranking."""
    load = np.isfinite(view.swarm.nodes["gpu_util_percent"]).tolist()
    found = [row for row in range(len(view.swarm)) if load[row] or np.isfinite(memory_share(view, row))]
    return sorted(found, key=lambda row: _rank(view, row))


def memory_share(view: View, row: int) -> float:
    """Return the share of the card's memory in use; NaN if not measured: a file only states the total, and of a
    machine without a card only the memory for layers is known."""
    if view.standing == "file" or view.swarm.facts[row].device.startswith(NO_CARD):
        return float("nan")
    free, whole = float(view.swarm.nodes["vram_free_bytes"][row]), float(view.swarm.nodes["vram_bytes"][row])
    # not by max() alone: of 0 and NaN it takes the 0
    return max(0.0, 1 - free / whole) if whole > 0 and np.isfinite(free) else float("nan")


def all_cards(view: View, width: int, rows: int) -> Block:
    """Return a line for each machine in the order of the ranking; machines that report no card are left out."""
    nodes = view.swarm.nodes
    block: Block = []
    names = max(8, min(16, width // 5))
    each = (width - names) // 2
    for row in said(view):
        load, taken = float(nodes["gpu_util_percent"][row]) / 100, memory_share(view, row)
        spans: list[Span] = [(pad(clean(view.swarm.facts[row].name), names), "")]
        spans += gauge(" load", load, f"{100 * load:.0f}%", each, high_is_bad=False)
        whole = float(nodes["vram_bytes"][row]) / BYTES_PER_GIB
        spans += gauge(" mem", taken, f"{taken * whole:.1f}/{quantities.figure(whole)}" if np.isfinite(taken) else "",
                       width - names - each)  # fmt: skip
        block.append(tuple(spans))
    return height(block or [line(("no machine reports its card", "dim"))], rows)


def _rank(view: View, row: int) -> tuple[int, str]:
    name = view.swarm.facts[row].name
    found = view.ranked.get(name)
    return (found.rank if found is not None else len(view.swarm) + 1, name)
