"""Draw which node holds which layers: the model from first to last layer as a bar, as monitors of Petals swarms do."""

from __future__ import annotations

from typing import Final

from swarm_predict.types import Placement
from swarmtop.dashboard.lines.styled import Block, Span, clean, cut, line, pad, text_width

LABEL: Final = 8  # cells before the bar
_INKS: Final = ("layers-a", "layers-b")  # neighbours have different shades; without colours a rule separates them


def layer_count(placement: Placement) -> int:
    return max((stage.last for stage in placement), default=-1) + 1


def coverage(placement: Placement, words: dict[str, str], width: int, rows: int) -> Block:
    """Return two lines: the bar with names in it, and the layers at which each part begins. `words`: the state of each
    node that is not well, used as the role of its part. Layers that no node holds are dots."""
    layers = layer_count(placement)
    room = width - LABEL - 1
    if not layers or room < 12 or rows < 1:
        return []
    bar: list[Span] = [(pad(" layers", LABEL), "dim")]
    ruler = [" "] * (room + 8)
    at, last_cell = 0, 0
    for number, stage in enumerate(sorted(placement, key=lambda stage: (stage.first, stage.last))):
        first, end = max(stage.first, at), stage.last + 1
        if end <= first:  # other nodes hold these layers as well
            continue
        start = round(room * first / layers)
        if start > last_cell:
            bar.append(("·" * (start - last_cell), "warn"))
        cells = max(1, round(room * end / layers) - start)
        bar += _segment(stage.node, cells, words.get(stage.node, _INKS[number % 2]), begins=number > 0)
        _write(ruler, start, str(stage.first))
        at, last_cell = end, start + cells
    _write(ruler, room - len(str(layers - 1)), str(layers - 1))
    block: Block = [tuple(bar)]
    if rows > 1:
        block.append(line((" " * LABEL + "".join(ruler[:room]), "dim")))
    return block


def _segment(node: str, cells: int, role: str, *, begins: bool) -> list[Span]:
    edge = "│" if begins and cells > 1 else ""
    room = cells - len(edge)
    name = cut(clean(node, 40), max(0, room - 2))
    if text_width(name) < 3 or room < 6:
        return [(edge, "frame"), ("━" * room, role)]
    left = max(0, (room - text_width(name) - 2) // 2)
    right = room - text_width(name) - 2 - left
    return [(edge, "frame"), ("━" * left, role), (f" {name} ", role), ("━" * right, role)]


def _write(ruler: list[str], at: int, text: str) -> None:
    """Write a figure if it does not run into another."""
    if all(character == " " for character in ruler[max(0, at - 1) : at + len(text) + 1]):
        ruler[at : at + len(text)] = text
