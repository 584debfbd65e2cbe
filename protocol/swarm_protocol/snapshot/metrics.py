"""List the metrics with a history: name → the sample kind and field, unit and label."""

from __future__ import annotations

from typing import Final

import msgspec


class Metric(msgspec.Struct, frozen=True):
    kind: str  # key of samples.KINDS
    field: str  # of the sample struct
    label: str
    unit: str
    of_link: bool  # False: of a node alone


METRICS: Final[dict[str, Metric]] = {
    "rtt_p50": Metric("link", "rtt_p50_ms", "RTT p50", "ms", True),
    "rtt_p95": Metric("link", "rtt_p95_ms", "RTT p95", "ms", True),
    "rtt_p99": Metric("link", "rtt_p99_ms", "RTT p99", "ms", True),
    "jitter": Metric("link", "pdv_ms", "jitter", "ms", True),
    "loss": Metric("link", "loss", "loss", "fraction", True),  # lost / sent of each bucket
    "hop": Metric("hop", "p50_ms", "hop", "ms", True),
    "up": Metric("uplink", "mbps", "upload", "Mbit/s", True),
    "layer": Metric("compute", "ms_per_layer", "layer", "ms", False),
    "cpu": Metric("host", "cpu_percent", "CPU", "%", False),
    "gpu": Metric("host", "gpu_util_percent", "GPU", "%", False),
    "vram_free": Metric("host", "vram_free_bytes", "VRAM free", "bytes", False),
    "throttled": Metric("host", "throttled", "throttled", "fraction", False),  # share of its samples that say so
    "temp": Metric("host", "temp_c", "temperature", "°C", False),
    "power": Metric("host", "power_w", "power", "W", False),
    "clock": Metric("host", "clock_mhz", "clock", "MHz", False),
}
