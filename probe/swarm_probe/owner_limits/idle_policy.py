"""Decide when tests wait because people or programs use the machine.

Other traffic is what the busiest network interface carried beyond what this probe did itself (loopback left out; the
busiest, because the same packet passes several where there are containers or a VPN). Only counters are read. Pure:
counters, battery and time are passed in by `look`; `system_counters` and `system_battery` read them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from swarm_probe.operating_system import system
from swarm_probe.operating_system.readings import Readings
from swarm_probe.operating_system.small_files import small_file
from swarm_protocol.units import BITS_PER_BYTE, NS_PER_S

BUSY_MBPS: Final = 1.0  # a call or a stream takes more; idle programs far less
HOLD_NS: Final = 5 * NS_PER_S  # a page that loads in pieces is one use of the connection
MIN_LOOK_NS: Final = NS_PER_S // 2  # shorter, a single burst would be a rate
MAX_LOOK_NS: Final = 30 * NS_PER_S  # longer, the machine slept

_PROC_COUNTERS: Final = "/proc/net/dev"  # proc_pid_net(5)
_RECEIVED_AT: Final = 0  # of an interface's figures
_SENT_AT: Final = 8

Counters = Mapping[str, tuple[int, int]]  # interface → bytes (sent, received)


class IdlePolicy(msgspec.Struct):
    busy_mbps: float = 0.0  # of others, at the last check that could determine it
    battery_percent: float | None = None  # None: on mains, no battery, or not reported
    readings: Readings = msgspec.field(default_factory=Readings)  # of `system_counters` and `system_battery`
    _before: Counters = msgspec.field(default_factory=dict)
    _own_before: tuple[int, int] = (0, 0)
    _at_ns: int | None = None
    _busy_until_ns: int = 0

    def look(self, now_ns: int, counters: Counters, own: tuple[int, int], *, testing: bool) -> None:
        """Check the counters. `own`: bytes that this probe sent and received since its start. While it is `testing`
        other traffic is unknown: headers and retransmissions of a transfer exceed a quiet program's traffic."""
        passed_ns = now_ns - self._at_ns if self._at_ns is not None else 0
        if self._at_ns is not None and passed_ns < MIN_LOOK_NS and not testing:
            return
        if not testing and self._at_ns is not None and passed_ns <= MAX_LOOK_NS:
            most = 0
            for way in (0, 1):
                ours = own[way] - self._own_before[way]
                for name, now in counters.items():
                    if name in self._before and now[way] >= self._before[name][way]:
                        most = max(most, now[way] - self._before[name][way] - ours)
            self.busy_mbps = most * BITS_PER_BYTE * 1e3 / passed_ns
            if self.busy_mbps >= BUSY_MBPS:
                self._busy_until_ns = now_ns + HOLD_NS
        self._before, self._own_before, self._at_ns = dict(counters), own, now_ns

    def battery(self, percent: float | None) -> None:
        """Note the battery's `percent` if the machine runs on it."""
        self.battery_percent = percent

    def line_used(self, now_ns: int) -> bool:
        return now_ns < self._busy_until_ns

    def why_waiting(self, now_ns: int) -> str | None:
        """Return why tests wait, in a few words; None: they need not."""
        if self.battery_percent is not None:
            return f"the machine runs on battery ({self.battery_percent:.0f} %)"
        if self.line_used(now_ns):
            return f"other programs use the line ({self.busy_mbps:.1f} Mbit/s)"
        return None


def system_counters() -> dict[str, tuple[int, int]]:
    """Return interface counters. Raises whatever psutil or the file does where the system does not report them."""
    if sys.platform == "linux":
        found = parse_proc_counters(small_file(_PROC_COUNTERS))
    else:
        import psutil  # late: Linux needs none

        of_all = psutil.net_io_counters(pernic=True, nowrap=False)
        found = {name: (each.bytes_sent, each.bytes_recv) for name, each in of_all.items()}
    return {name: each for name, each in found.items() if name != "lo" and not name.startswith("lo0")}


def parse_proc_counters(text: bytes) -> dict[str, tuple[int, int]]:
    """Return (bytes sent, bytes received) of each interface. psutil takes twice as long, and this is read each
    second."""
    found = {}
    for line in text.splitlines()[2:]:  # after two lines of titles
        name, _, figures = line.rpartition(b":")
        each = figures.split()
        found[name.strip().decode(errors="replace")] = int(each[_SENT_AT]), int(each[_RECEIVED_AT])
    return found


def system_battery() -> float | None:
    """Return the percentage left where this machine runs on battery now; None on mains, or without one. Raises whatever
    `system` does: some laptops' firmware gives nonsense."""
    found = system.battery()
    return found.percent if found is not None and found.plugged is False else None
