"""Compute the cost of verifying untrusted nodes: compared copies, spot checks, proofs.

redundancy R   every stage runs on R machines that are compared: a step waits for the slowest of each R, senders
               upload R copies, and the machines of R sets do the work of one
spot checks P  a fraction P of the steps is computed again later, by whoever is idle (optimistic verification): no
               step waits, the total falls to 1/(1 + P); who cheats in a share c of steps is caught after 1/(P·c)
proofs         each stage proves what it computed before it hands it on: so many ms a layer and token
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swarm_predict.forecast.draws import Drawn, Trip
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Floats


def visit_of(trip: Trip) -> int:
    """Return the stage that a message belongs to: the receiver, or the sender for a star's answers and for results."""
    return trip.dst if trip.stage == trip.dst else trip.src


def slowest(network: Drawn, stages: Floats, trips: Sequence[Trip]) -> tuple[Drawn, Floats]:
    """Select at each visit the slowest of the copies, which all others wait for.

    `network` has the trips of the first copy, then of the second…; `stages` is (copies, stages, draws)."""
    copies, count, draws = stages.shape
    each = network.ms.reshape(draws, copies, len(trips))
    ms = np.empty((draws, len(trips)))
    chosen = np.empty((count, draws))
    rows = np.arange(draws)
    for visit in range(count):
        here = [k for k, trip in enumerate(trips) if visit_of(trip) == visit]
        took = stages[:, visit, :].T + each[:, :, here].sum(axis=2)  # (draws, copies)
        last = took.argmax(axis=1)
        chosen[visit] = stages[last, visit, rows]
        for k in here:
            ms[:, k] = each[rows, last, k]
    first = slice(0, len(trips))
    rtt, upload = network.rtt_ms[first], network.upload_ms[first]
    return Drawn(ms, rtt, upload, np.maximum(ms.mean(axis=0) - rtt - upload, 0.0)), chosen


def total_share(workload: Workload) -> float:
    """Return the fraction of the unchecked throughput that the same machines still deliver."""
    return 1 / (workload.redundancy * (1 + workload.spot_check))


def is_checked(workload: Workload) -> bool:
    return workload.redundancy > 1 or workload.spot_check > 0 or workload.proof_ms > 0


def unchecked(workload: Workload) -> Workload:
    return replace(workload, redundancy=1, spot_check=0.0, proof_ms=0.0)


def price(checked: Prediction, free: Prediction, workload: Workload) -> str:
    """Describe in one line what the checks cost in tokens per second."""
    what = [
        f"{workload.redundancy} compared copies" if workload.redundancy > 1 else "",
        f"spot checks of {workload.spot_check:.3g} of all steps" if workload.spot_check else "",
        f"proofs of {workload.proof_ms:.3g} ms a layer" if workload.proof_ms else "",
    ]
    stream = (free.tokens_per_s.p50, checked.tokens_per_s.p50)
    total = (free.throughput_tokens_per_s, checked.throughput_tokens_per_s)
    line = (
        f"trust ({', '.join(part for part in what if part)}) costs {stream[0] - stream[1]:.3g} of {stream[0]:.3g} "
        f"tokens/s of a stream and {total[0] - total[1]:.3g} of {total[0]:.3g} in total"
    )
    if workload.spot_check:
        line += f"; cheating in every tenth step is detected after {10 / workload.spot_check:.0f} steps on average"
    return line
