"""Convert measured layer times to engines that compute with kernels of their own.

Probes time layers with torch. On processors that is not what llama.cpp takes: its kernels read weights about as fast as
memory gives them, torch's may or may not. Of one small Llama in fp32 they took 0.50, 0.85 and 0.96 of torch's time on
three processors, and 1.06, 1.37 and 1.21 of the time that memory takes at the bandwidth that the same probes measured:
what slows memory down, another generation or a neighbour on the same host, slows them by as much. Published results of
llama.cpp on processors, over data sheets, say the same (1.3 times).
"""

from __future__ import annotations

import math
from typing import Final

from swarm_predict.priors.factors import PROCESSORS, TORCH, Load, machine_of
from swarm_protocol.snapshot.swarm import Kind, Swarm

# of torch's time; where memory would give less, its bandwidth is that of a cache
MIN_SHARE: Final = 0.1


def own_kernels(swarm: Swarm, row: int, load: Load) -> bool:
    """Return whether the engine computes there with other kernels than the probe, and the bandwidth was measured."""
    measured = swarm.nodes["mem_kind"][row] == Kind.MEASURED
    return bool(measured) and load.engine not in TORCH and machine_of(swarm.facts[row]).device_class in PROCESSORS


def over_torch(reading_ms: float, torch_ms: float) -> float:
    """Return the time of an engine's own kernels over torch's, at memory's pace; 1 where either is not known.

    `reading_ms`: the least time of a layer of one sequence, `torch_ms`: as it was measured."""
    ratio = reading_ms / torch_ms if torch_ms > 0 else math.nan
    return max(ratio, MIN_SHARE) if math.isfinite(ratio) else 1.0
