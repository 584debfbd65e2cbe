"""Swarms for tests of prediction, written as people write them: TOML through the real parser."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm


@dataclass
class Box:
    """One node of a test swarm; `layers` are (phase, batch, context, ms) of any model."""

    name: str
    vram_gib: float | None = 1000.0
    up_mbps: float | None = 100.0
    down_mbps: float | None = 100.0
    mem_gbps: float | None = None
    tflops: float | None = None
    overhead_ms: float = 0.0
    layers: Sequence[tuple[str, int, int, float]] = field(default=(("decode", 1, 128, 5.0),))
    model: str = "*"
    dtype: str | None = None

    def toml(self) -> str:
        lines = ["[[node]]", f'name = "{self.name}"', f"overhead_ms = {float(self.overhead_ms)!r}"]
        for key in ("vram_gib", "up_mbps", "down_mbps", "mem_gbps", "tflops"):
            value = getattr(self, key)
            if value is not None:
                lines.append(f"{key} = {float(value)!r}")
        for phase, batch, context, ms in self.layers:
            lines += ["  [[node.layer]]", f'  model = "{self.model}"', f'  phase = "{phase}"', f"  batch = {batch}"]
            lines += [f"  context = {context}", f"  ms = {float(ms)!r}"]
            if self.dtype:
                lines.append(f'  dtype = "{self.dtype}"')
        return "\n".join(lines)


def swarm_of(
    boxes: Sequence[Box],
    rtt_ms: float | dict[tuple[str, str], float] | None = 20.0,
    *,
    jitter_ms: float = 0.0,
    loss: float = 0.0,
    client: str | None = None,
) -> Swarm:
    """All pairs with one RTT, or each directed pair its own."""
    text = [box.toml() for box in boxes]
    if isinstance(rtt_ms, dict):
        links = [(a, b, ms) for (a, b), ms in rtt_ms.items()]
    else:
        links = [] if rtt_ms is None else [("*", "*", rtt_ms)]
    for a, b, ms in links:
        text.append(f'[[link]]\nfrom = "{a}"\nto = "{b}"\nrtt_ms = {float(ms)!r}\njitter_ms = {float(jitter_ms)!r}')
        text.append(f"loss = {float(loss)!r}")
    if client is not None:
        text.append(f'[client]\nnode = "{client}"')
    return parse_swarm("\n".join(text))


def even(names: Sequence[str], layers: int) -> str:
    """A placement text that splits `layers` evenly, the first ones taking the rest."""
    share, more = divmod(layers, len(names))
    counts = [share + (k < more) for k in range(len(names))]
    ends = list(itertools.accumulate(counts))
    return ",".join(f"{name}:{end - count}-{end - 1}" for name, count, end in zip(names, counts, ends, strict=True))
