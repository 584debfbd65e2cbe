"""Draw the cards of one machine: load, memory, temperature, power and clock, as bars if there is a scale, and over
time.

Power and clock have no bar, because their maximum is not known. Of a machine with several cards each has its own bars;
the history is of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from swarm_protocol.snapshot.swarm import Card
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.dashboard.lines.charts.gauges import gauge
from swarmtop.dashboard.lines.charts.series import spark
from swarmtop.dashboard.lines.styled import Block, Line, clean, fill_line, line, pad, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.sources.source import History
from swarmtop.text import quantities

METRICS: Final = ("gpu", "vram_free", "temp", "power", "clock")  # with a history
FULL_TEMP_C: Final = 100.0
GAUGE: Final = 30  # cells
_NAN: Final = float("nan")


def has_cards(view: View, row: int) -> bool:
    """Return whether the machine reports figures of a card, or why it does not."""
    nodes = view.swarm.nodes
    return bool(view.swarm.facts[row].untold) or any(
        math.isfinite(float(nodes[name][row])) for name in ("gpu_util_percent", "clock_mhz", "power_w")
    )


def card_of(view: View, row: int) -> Card:
    """Return the machine's card, or the total of several."""
    nodes = view.swarm.nodes

    def value(name: str) -> float | None:
        return quantities.optional(float(nodes[name][row]))

    throttle = "throttled" if nodes["throttled"][row] == 1 else ""
    return Card(view.swarm.facts[row].device, value("gpu_util_percent"), value("vram_free_bytes"), value("vram_bytes"),
                value("temp_c"), value("power_w"), value("clock_mhz"), throttle)  # fmt: skip


def one_line(view: View, row: int, width: int) -> Line:
    """Return one line for a narrow screen: load and memory as bars, temperature and power as figures."""
    card = card_of(view, row)
    half = min(26, (width - 26) // 2)
    return fill_line([(*line(" "), *_load_and_memory(card, half)), *_figures(card)], width, "  ")


def _load_and_memory(card: Card, width: int) -> Line:
    load = gauge("load", _share(card.util_percent, 100.0), _percent(card.util_percent), width, high_is_bad=False)
    return (*load, ("  ", ""), *gauge("mem", _taken(card), _memory(card), width))


def _figures(card: Card) -> list[Line]:
    return [
        line((f"{card.temp_c:.0f} °C", "")) if card.temp_c is not None else (),
        line((f"{card.power_w:.0f} W", "")) if card.power_w is not None else (),
        line((f"{card.clock_mhz:.0f} MHz", "")) if card.clock_mhz is not None else (),
        line((clean(card.throttle, 40), "warn")) if card.throttle else (),
    ]


def panel(view: View, row: int, past: Mapping[str, History], width: int) -> Block:
    """Return a line for each figure, with its bar if there is a scale, and its history; then one for each of several
    cards."""
    card = card_of(view, row)
    half = min(GAUGE, width // 2)
    room = max(0, width - half - 2)

    def drawn(left: list[tuple[str, str]], metric: str, scale: float | None) -> Line:
        history = past.get(metric)
        values = list(history.values) if history is not None else []
        if metric == "vram_free" and card.vram_bytes:  # used memory, as the bar beside it
            values = [None if v is None else max(0.0, card.vram_bytes - v) for v in values]
        known = any(v is not None for v in values)
        return (*left, ("  ", ""), (spark(values, room, scale, gap="╌") if known else "", "spark"))

    block = [
        drawn(gauge("load  ", _share(card.util_percent, 100.0), _percent(card.util_percent), half, high_is_bad=False),
              "gpu", 100.0),
        drawn(gauge("memory", _taken(card), _memory(card), half), "vram_free", card.vram_bytes),
        drawn(gauge("temp  ", _share(card.temp_c, FULL_TEMP_C), _unit(card.temp_c, "°C"), half), "temp", FULL_TEMP_C),
        drawn(_plain("power ", _unit(card.power_w, "W"), half), "power", None),
        drawn(_plain("clock ", _unit(card.clock_mhz, "MHz"), half), "clock", None),
    ]  # fmt: skip
    if card.throttle:
        block.append(line((f"it is throttled: {clean(card.throttle, 60)}", "warn")))
    cards = view.swarm.facts[row].cards
    for number, each in enumerate(cards):
        name = line(pad(f"{number} {clean(each.name, 40)}", 16))
        block.append(fill_line([name, _load_and_memory(each, half), *_figures(each)], width, "  "))
    return block + missing_figures(view, row, width)


def missing_figures(view: View, row: int, width: int) -> Block:
    """Return why figures of its cards are not measured; empty if all are."""
    why = view.swarm.facts[row].untold
    return wrap(f"{quantities.UNMEASURED} {clean(why, 300)}", width, "dim")[:2] if why else []


def _plain(label: str, figure: str, width: int) -> list[tuple[str, str]]:
    return [
        (f"{label} ", "dim"),
        (pad(figure, width - len(label) - 1, ">"), "" if figure != quantities.UNMEASURED else "dim"),
    ]


def _share(value: float | None, full: float) -> float:
    return _NAN if value is None else min(1.0, max(0.0, value / full))


def _taken(card: Card) -> float:
    if not card.vram_bytes or card.vram_free_bytes is None:
        return _NAN
    return max(0.0, 1 - card.vram_free_bytes / card.vram_bytes)


def _memory(card: Card) -> str:
    if not card.vram_bytes or card.vram_free_bytes is None:
        return quantities.UNMEASURED
    taken = max(0.0, card.vram_bytes - card.vram_free_bytes) / BYTES_PER_GIB
    return f"{taken:.1f}/{quantities.figure(card.vram_bytes / BYTES_PER_GIB)} GiB"


def _percent(value: float | None) -> str:
    return quantities.UNMEASURED if value is None else f"{value:.0f}%"


def _unit(value: float | None, unit: str) -> str:
    return quantities.UNMEASURED if value is None else f"{value:.0f} {unit}"
