"""Divide the mean time of one token into parts: machines, the paths between them, the return path, and the rest.

Pure numbers: `route_lines` draws them in a terminal, `report` as SVG. The parts of a prediction add up to its mean time
per token. Widths are proportional to time as far as each part has room for its label; where even that is too much,
neighbouring machines that are not the slowest part fold into one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from swarm_predict.types import Prediction

Kind = Literal["machine", "path", "rest"]
MIN_MS: Final = 1e-6  # below this it counts as zero: two stages of one machine have no path between them


@dataclass(frozen=True, slots=True)
class Part:
    kind: Kind
    ms: float  # of the mean token
    name: str = ""  # of a machine; of a path: its destination, machine or client
    origin: str = ""  # of a path: its origin
    layers: str = ""  # of a machine: `0-39`
    machines: int = 1  # machines in this part: several share their layers, or are folded
    folded: bool = False
    by_client: bool = False  # a path via the client, as in a star
    slowest: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    parts: tuple[Part, ...]
    total_ms: float
    client: str  # machine that sends and receives the token; empty: the first stage

    @property
    def slowest(self) -> Part | None:
        return next((part for part in self.parts if part.slowest), None)


def route_of(found: Prediction, *, star: bool = False) -> Route:
    """Return the parts of a prediction in a token's order. `star`: stages exchange activations through the client."""
    client = found.client or ""
    before = client
    parts: list[Part] = []
    for stage, cost in zip(found.placement, found.stages, strict=True):
        last = parts[-1] if parts else None
        layers = f"{stage.first}-{stage.last}" if stage.last > stage.first else str(stage.first)
        if last is not None and last.kind == "machine" and last.layers == layers:
            # machines that share every layer work at the same time, so they are one part
            parts[-1] = dataclasses.replace(last, ms=max(last.ms, cost.compute_ms), machines=last.machines + 1)
            continue
        if cost.hop_ms > MIN_MS:
            home = star and bool(parts)
            parts.append(Part("path", cost.hop_ms, name=stage.node, origin=before, by_client=home))
        parts.append(Part("machine", cost.compute_ms, name=stage.node, layers=layers))
        before = stage.node
    back = found.breakdown_ms.network - sum(part.ms for part in parts if part.kind == "path")
    if back > MIN_MS and found.placement:
        parts.append(Part("path", back, name=client or found.placement[0].node, origin=before))
    rest = found.breakdown_ms.overhead + found.breakdown_ms.head
    if rest > MIN_MS:
        parts.append(Part("rest", rest, name="software, head"))
    return Route(tuple(_marked(parts)), sum(part.ms for part in parts), client)


def _marked(parts: Sequence[Part]) -> list[Part]:
    """Mark the slowest machine or path; of two equally slow ones, the first."""
    counted = [i for i, part in enumerate(parts) if part.kind != "rest"]
    worst = max(counted, key=lambda i: parts[i].ms, default=None)
    return [dataclasses.replace(part, slowest=i == worst) for i, part in enumerate(parts)]


def folded(parts: Sequence[Part], most: int) -> list[Part]:
    """Return at most `most` parts if possible: neighbouring machines and the path between them become one part. The
    slowest part is never folded, and the fastest are folded first."""
    found = list(parts)
    while len(found) > most:
        pairs = [
            (sum(part.ms for part in found[i : i + size]), i, size)
            for i in range(len(found) - 1)
            for size in (2, 3)
            if _foldable(found[i : i + size], size)
        ]
        if not pairs:
            return found
        _, at, size = min(pairs)
        found[at : at + size] = [_one(found[at : at + size])]
    return found


def _foldable(some: Sequence[Part], size: int) -> bool:
    kinds = [part.kind for part in some]
    together = kinds == ["machine", "path", "machine"] if size == 3 else kinds == ["machine", "machine"]
    return together and not any(part.slowest for part in some)


def _one(some: Sequence[Part]) -> Part:
    machines = [part for part in some if part.kind == "machine"]
    first, last = machines[0].layers.split("-")[0], machines[-1].layers.split("-")[-1]
    return Part(
        "machine", sum(part.ms for part in some), name=f"{sum(part.machines for part in machines)} machines",
        layers=f"{first}-{last}", machines=sum(part.machines for part in machines), folded=True,
    )  # fmt: skip


def widths(times_ms: Sequence[float], least: Sequence[int], width: int) -> list[int] | None:
    """Return the cells of each part, `width` together: in proportion to its time, but never less than its label needs.

    None: the labels alone need more.
    """
    if sum(least) > width:
        return None
    fixed: set[int] = set()
    while True:
        free = [i for i in range(len(times_ms)) if i not in fixed]
        room = width - sum(least[i] for i in fixed)
        total = sum(times_ms[i] for i in free)
        short = [i for i in free if total <= 0 or times_ms[i] / total * room < least[i]]
        if not short:
            break
        fixed.update(short)
    exact = {i: times_ms[i] / total * room for i in free}
    cells = [int(exact[i]) if i in exact else least[i] for i in range(len(times_ms))]
    order = sorted(exact, key=lambda i: cells[i] - exact[i]) or sorted(fixed, key=lambda i: -times_ms[i])
    for k in range(width - sum(cells)):
        cells[order[k % len(order)]] += 1
    return cells
