"""Determine the time that an engine's software takes for each visit and message, measured, calibrated or assumed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swarm_predict.cost.machine.layer_times import by_hand
from swarm_predict.cost.network.delivery_times import Links, Mask, links
from swarm_predict.priors.factors import PLAIN, RDMA, RDMA_SHARE
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm


def visits_ms(swarm: Swarm, rows: Sequence[int]) -> Floats:
    """Return (rows,): the time of a visit beyond its layers; 0 if it was not measured."""
    return np.asarray(np.nan_to_num(swarm.nodes["overhead_ms"][list(rows)], nan=0.0))


def engine_paths(swarm: Swarm, rows: Sequence[int], workload: Workload) -> Links:
    """Return the paths between `rows` as an engine uses them: where its own software is assumed for each message, that
    of the probes is taken out of measured hops, which contain it."""
    paths = links(swarm, rows)
    if workload.engine in RDMA:  # within a cable's reach a round trip is the two kernels' time, which RDMA leaves out
        paths = paths.scaled_estimates(RDMA_SHARE)
    own = not (by_hand(swarm) or workload.engine in PLAIN or workload.hop_overhead_ms)
    return paths.without_probes_software() if own else paths


def software_assumed(swarm: Swarm, rows: Sequence[int], workload: Workload, paths: Links) -> Mask:
    """Return (rows, rows): whether the engine's software time for a message from i to j is assumed.

    It is known from a calibration, from a hand-written visit time, and for plain patterns (chain, star, ring …) from a
    probe's measurement of the visit or the hop. For an engine a probe's figure does not count: it is of the probe's
    own software."""
    n = len(rows)
    assumed = ~np.eye(n, dtype=bool)
    if workload.hop_overhead_ms:
        return np.zeros((n, n), dtype=bool)
    if by_hand(swarm) or workload.engine in PLAIN:
        assumed &= np.isnan(swarm.nodes["overhead_ms"][list(rows)])[None, :] & ~paths.hop_known
    return assumed


def software_ms(swarm: Swarm, rows: Sequence[int], workload: Workload, visit_ms: Floats, paths: Links) -> Floats:
    """Return (rows, rows): the median software time of a message from i to j. `visit_ms`: of `rows`, if assumed."""
    if workload.hop_overhead_ms:
        return np.full((len(rows), len(rows)), workload.hop_overhead_ms)
    return np.where(software_assumed(swarm, rows, workload, paths), visit_ms[None, :], 0.0)
