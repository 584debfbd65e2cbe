"""Define the columns of a Swarm: the figures of each node and of each directed link, with their units and types."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

# column → its contents. The order is the order on the wire.
NODE_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "state": np.uint8,
    "seen_ns": np.int64,  # wall clock of the last message; 0 = never
    "vram_bytes": np.float64,  # memory that layers may take on this node; NaN = can only be the client
    "vram_free_bytes": np.float64,
    "up_mbps": np.float64,
    "up_kind": np.uint8,
    "up_at_ns": np.int64,
    "down_mbps": np.float64,
    "down_kind": np.uint8,
    "down_at_ns": np.int64,
    "mem_gbps": np.float64,
    "tflops": np.float64,
    "overhead_ms": np.float64,  # what each visit to a stage here takes beyond its layers
    "visit_layer_ms": np.float64,  # what a layer of it takes beyond one in a loop
    "cpu_percent": np.float64,
    "ram_free_bytes": np.float64,
    "gpu_util_percent": np.float64,
    "temp_c": np.float64,
    "power_w": np.float64,
    "throttled": np.float64,  # 0, 1 or NaN
    "host_at_ns": np.int64,
    "compute_at_ns": np.int64,
    "nat": np.uint8,
    "collector_rtt_ms": np.float64,
    "place_0": np.float64,  # coordinates, in ms, for estimates of unmeasured round trips
    "place_1": np.float64,
    "place_2": np.float64,
    "place_3": np.float64,
    "height_ms": np.float64,
    "place_spread": np.float64,  # relative: half of its measured pairs are within it of what the coordinates say
    "spooled": np.int64,  # batches the probe still holds
    "tcp": np.uint8,
    "congestion": np.uint8,
    "cpu_pressure_percent": np.float64,
    "clock_mhz": np.float64,  # of the card; with several, of the slowest
    "mem_kind": np.uint8,  # of mem_gbps and tflops: ESTIMATE is a data sheet's
}

LINK_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "kind": np.uint8,
    "path": np.uint8,
    "why": np.uint8,  # if there is no path
    "at_ns": np.int64,
    "sent": np.int64,  # of the window the figures are of
    "rtt_min_ms": np.float64,
    "rtt_p50_ms": np.float64,
    "rtt_p95_ms": np.float64,
    "rtt_p99_ms": np.float64,
    "jitter_ms": np.float64,  # PDV: p95 − min of the round trip (RFC 5481)
    "jitter_rfc3550_ms": np.float64,
    "loss": np.float64,  # fraction, round trip
    "pooled_loss": np.float64,  # of the recent windows of both ends in the path's present state, likewise
    "pooled_sent": np.float64,  # packets that say as much about it as is known
    "oneway_ms": np.float64,  # least one-way delay, estimated from all pairs' stamps; sums around loops are exact
    "oneway_error_ms": np.float64,  # its standard deviation: how far the two directions may share another round trip
    "hop_bytes": np.int64,  # 0 = no hop measured
    "hop_min_ms": np.float64,  # message until acknowledgement
    "hop_p50_ms": np.float64,
    "hop_p95_ms": np.float64,
    "hop_p99_ms": np.float64,
    "hop_first_ms": np.float64,
    "hop_at_ns": np.int64,
    "hop_rtt_ms": np.float64,  # round trip of the path when the hop was measured; NaN: not known
    "hop_mbps": np.float64,  # measured rate between the two ends at that time; NaN: not known
    "hop_transport": np.uint8,
    "mbps": np.float64,  # of the last transfer over this link
    "mbps_kind": np.uint8,
    "rtt_loaded_ms": np.float64,
    "mbps_at_ns": np.int64,
    "mbps_transport": np.uint8,
}


def blank(dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return a column with nothing known."""
    return np.full(shape, np.nan, dtype) if dtype is np.float64 else np.zeros(shape, dtype)
