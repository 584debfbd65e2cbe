"""Compose the help of a screen from the registries of actions and columns."""

from __future__ import annotations

from collections.abc import Sequence

from swarmtop.dashboard.keymap import Action, Screen, shown
from swarmtop.dashboard.lines.columns import COLUMNS
from swarmtop.dashboard.lines.styled import Block, line, pad

LEGEND = (
    ("–", "not measured; never the same as 0"),
    ("≥ 38", "a bound: at least this"),
    ("~ 38", "an estimate, from other pairs"),
    ("faded", "the node or the figure is old"),
    ("?", "no data; the node's screen says why"),
)


def help_lines(screen: Screen, actions: Sequence[Action]) -> Block:
    block: Block = [line(("keys", "title"))]
    for action in actions:
        keys = " ".join(dict.fromkeys(shown(key) for key in action.keys))
        block.append(line((pad(keys, 12), "key"), f" {action.help}"))
    block += [(), line(("numbers", "title"))]
    block += [line((pad(sign, 12), "strong"), f" {meaning}") for sign, meaning in LEGEND]
    if screen == "overview":
        block += [
            (),
            line(("columns", "title"), ("   filter: part of a name, rtt99>200 and state!=lost, or, not", "dim")),
        ]
        block += [line((pad(c.title, 12), "strong"), (pad(c.name, 8), "dim"), f" {c.help}") for c in COLUMNS]
    return block
