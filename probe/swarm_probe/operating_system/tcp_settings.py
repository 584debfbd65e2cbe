"""Read the TCP settings of this machine, which engines use unless they set their own.

`tcp_congestion_control` and `tcp_slow_start_after_idle` of Linux (ip-sysctl), of the network namespace this runs in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from swarm_probe.operating_system.readings import Unreadable
from swarm_probe.operating_system.small_files import small_file
from swarm_protocol.text import safe

_SETTINGS: Final = Path("/proc/sys/net/ipv4")


class TcpSettings(msgspec.Struct, frozen=True):
    congestion: str  # cubic, reno, bbr
    slow_start_after_idle: bool  # the sysctl; BBR heeds it by no restart


def tcp_settings(folder: Path = _SETTINGS) -> TcpSettings:
    """Read the settings. Raises Unreadable if the system does not report them (it is not Linux)."""
    try:
        congestion = small_file(folder / "tcp_congestion_control").decode().strip()
        after_idle = small_file(folder / "tcp_slow_start_after_idle").strip()
    except OSError as error:
        raise Unreadable(f"no TCP settings under {folder} ({error.strerror})") from error
    if not congestion:
        raise Unreadable("the system names no TCP congestion control")
    return TcpSettings(safe(congestion, 64), after_idle != b"0")
