"""Describe kinds of internet access: what one adds to a round trip, how much that varies, and its rates.

`rtt_ms` is the round trip between the machine and its provider's backbone; the rest of a path comes from the cities
(`places`). Rounded figures of these reports; your own access may differ a lot, and a measured [[link]] or an explicit
up_mbps always wins.

    fiber, cable, dsl   FCC, Measuring Fixed Broadband, Thirteenth Report (2024): idle latency and its spread by
                        technology, less the way to the test server; rates of the usual tiers there
    5g                  Ookla, fixed wireless access in the United States (2024): medians of T-Mobile and Verizon
    starlink            Ookla, Starlink in the United States (first quarter of 2025): 105 down, 15 up, 45 ms
    lan                 1 Gbit/s Ethernet with TCP's headers off (IEEE 802.3ab): 940 Mbit/s; round trip through a switch
    wifi                machines of one home through its access point: each end adds a hop through the air. Ours, for a
                        home with free air; on a busy campus half of all hops took over 20 ms (Sui et al., MobiSys
                        2016). Wi-Fi 5 with two streams carries 867 Mbit/s, both ends share it, a third is usual
    rdma                InfiniBand or RoCE between hosts, both kernels left out: some µs through a switch (ib_send_lat);
                        100 Gbit/s is what a ConnectX-7 on four lanes of PCIe 5.0 (DGX Spark) reaches
    thunderbolt         IP over Thunderbolt 3 to 5: 9 to 17 Gbit/s are reported with iperf3; the lower end is taken
"""

from __future__ import annotations

from typing import Final

import msgspec


class Access(msgspec.Struct, frozen=True):
    """One end of a path."""

    rtt_ms: float  # to the backbone and back, idle
    jitter_ms: float  # p95 − min of that
    up_mbps: float
    down_mbps: float
    local: bool = False  # machines on it reach each other without a provider in between


ACCESS: Final[dict[str, Access]] = {
    "fiber": Access(3.0, 1.0, 300.0, 500.0),
    "cable": Access(10.0, 6.0, 20.0, 300.0),
    "dsl": Access(15.0, 5.0, 10.0, 50.0),
    "5g": Access(30.0, 20.0, 20.0, 200.0),
    "starlink": Access(30.0, 25.0, 15.0, 105.0),
    "lan": Access(0.15, 0.05, 940.0, 940.0, local=True),
    "wifi": Access(2.0, 4.0, 300.0, 300.0, local=True),
    "rdma": Access(0.005, 0.002, 100000.0, 100000.0, local=True),
    "thunderbolt": Access(0.1, 0.05, 9400.0, 9400.0, local=True),
}
ALIASES: Final = {"fibre": "fiber", "ftth": "fiber", "vdsl": "dsl", "adsl": "dsl", "ethernet": "lan", "wired": "lan",
                  "wi-fi": "wifi", "wlan": "wifi", "tb": "thunderbolt", "usb4": "thunderbolt",
                  "roce": "rdma", "infiniband": "rdma", "ib": "rdma"}  # fmt: skip


def access_named(word: str) -> str | None:
    """Return the kind of access that `word` names; None: no such kind."""
    lowered = word.strip().lower()
    lowered = ALIASES.get(lowered, lowered)
    return lowered if lowered in ACCESS else None
