"""Parse, format and validate placements such as `a:0-39,b:40-79`."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable

import numpy as np

from swarm_predict.cost.assumptions import some
from swarm_predict.cost.engines import ENGINES
from swarm_predict.cost.machine_groups import shares_all
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import BadPlacement, Placement, Stage
from swarm_protocol.snapshot.swarm import Swarm

_STAGE = re.compile(r"\s*(?P<node>[^\s:,]+)\s*:\s*(?P<first>\d{1,6})(?:\s*-\s*(?P<last>\d{1,6}))?\s*")
EXAMPLE = "a:0-39,b:40-79"


def parse_placement(text: str, model: ModelShape, swarm: Swarm, engine: str = "chain") -> Placement:
    """Stages in layer order. Where machines share layers every node may hold all of them, or several nodes the same.
    Raises BadPlacement."""
    stages = []
    for part in text.split(","):
        match = _STAGE.fullmatch(part)
        if match is None:
            raise BadPlacement(f"{part.strip()[:60]!r} is not NODE:FIRST-LAST; write a placement like {EXAMPLE}")
        first = int(match["first"])
        stages.append(Stage(match["node"], first, first if match["last"] is None else int(match["last"])))
    stages.sort(key=lambda stage: stage.first)
    placement = tuple(stages)
    check_placement(placement, model, swarm, engine)
    return placement


def format_placement(placement: Placement) -> str:
    """The inverse of `parse_placement`."""
    return ",".join(f"{stage.node}:{stage.first}-{stage.last}" for stage in placement)


def check_placement(placement: Placement, model: ModelShape, swarm: Swarm, engine: str = "chain") -> None:
    """Raises BadPlacement unless each layer is on exactly one node that exists and may serve."""
    if not placement:
        raise BadPlacement(f"the placement is empty; write it like {EXAMPLE}")
    for stage in placement:
        _check_node(stage.node, swarm)
        if stage.first > stage.last:
            raise BadPlacement(f"{_text(stage)} runs backwards; write {stage.node}:{stage.last}-{stage.first}")
        if stage.last >= model.layers:
            raise BadPlacement(f"{_text(stage)} goes beyond {model.name}, whose last layer is {model.layers - 1}")
    names = [stage.node for stage in placement]
    for name in names:
        if names.count(name) > 1:
            raise BadPlacement(f"{name} is there twice; give it one range of layers")
    facts = ENGINES[engine]
    if facts.pattern == "all-reduce":
        if shares_all(placement, model):
            return
        if facts.groups:  # nodes with the same layers are a group
            placement = tuple({(stage.first, stage.last): stage for stage in placement}.values())
        elif not facts.uneven:
            every = f"0-{model.layers - 1}"
            raise BadPlacement(
                f"{engine} gives each machine an equal share of every layer; write {names[0]}:{every} and so on"
            )
    _check_cover(placement, model)


def _check_node(name: str, swarm: Swarm) -> None:
    try:
        row = swarm.index(name)
    except KeyError:
        near = difflib.get_close_matches(name, swarm.names, n=1)
        offer = f"did you mean {near[0]}?" if near else f"the swarm has {some(swarm.names)}"
        raise BadPlacement(f"there is no node {name[:40]!r}; {offer}") from None
    if np.isnan(swarm.nodes["vram_bytes"][row]):
        raise BadPlacement(f"{name} has no memory for layers (no vram_gib): it can only be the client")


def _check_cover(placement: Placement, model: ModelShape) -> None:
    ordered = sorted(placement, key=lambda stage: stage.first)
    for before, after in itertools.pairwise(ordered):
        if after.first <= before.last:
            both = _range(after.first, min(before.last, after.last))
            raise BadPlacement(
                f"{both} {_is(both)} on both {before.node} and {after.node}; give each layer to one node"
            )
    missing = []
    free = 0
    for stage in ordered:
        if stage.first > free:
            missing.append(_range(free, stage.first - 1))
        free = stage.last + 1
    if free < model.layers:
        missing.append(_range(free, model.layers - 1))
    if missing:
        which = " and ".join(missing)
        raise BadPlacement(f"{which} of {model.name} {_is(which)} on no node; layers go from 0 to {model.layers - 1}")


def _range(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first}-{last}"


def _is(layers: str) -> str:
    return "are" if layers.startswith("layers") or " and " in layers else "is"


def _text(stage: Stage) -> str:
    return f"{stage.node}:{stage.first}-{stage.last}"


def rows_of(swarm: Swarm, names: Iterable[str], option: str) -> list[int]:
    """Return the rows of named nodes. Raises BadPlacement for a name that is no node."""
    rows = []
    for name in names:
        if name not in swarm.names:
            raise BadPlacement(f"there is no node {name!r} in this swarm; correct {option}")
        rows.append(swarm.index(name))
    return rows
