"""Run a probe that also writes the four time stamps behind each round trip it reports.

`python -m bench.support.processes.recording_probe` takes the arguments of `swarm-probe`. Lines of `session sequence T1
T2 T3 T4` go to FILE in SWARMTOP_HOME when their window is reported, in ns: T1 and T4 by the monotonic clock, T2 and T3
by the peer's clock of UTC.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swarm_probe.cli import main
from swarm_probe.measure import round_trips
from swarm_probe.udp.stamp.stamp_sender import SessionConfig, StampSession
from swarm_probe.udp.stamp.stamp_window import PathReport, Window, WindowReports

FILE: Final = "stamps.txt"


class _Recording(WindowReports):
    def __init__(self, ssid: int, file: Path) -> None:
        super().__init__()
        self._ssid, self._file = ssid, file

    def report(self, window: Window, later: Sequence[Window], host: int | None) -> PathReport:
        if not window.loaded:
            with self._file.open("a") as file:
                for packet in window.arrived:
                    if packet.rtt_ns is not None:
                        t1, t3 = packet.at_ns, packet.t3_ns
                        t2, t4 = t3 - packet.inside_ns, t1 + packet.rtt_ns + packet.inside_ns
                        file.write(f"{self._ssid} {packet.seq} {t1} {t2} {t3} {t4}\n")
        return super().report(window, later, host)


class _RecordingSession(StampSession):
    def __init__(self, config: SessionConfig, rng: random.Random, now_ns: int) -> None:
        super().__init__(config, rng, now_ns)
        self._reports = _Recording(config.ssid, Path(os.environ["SWARMTOP_HOME"]) / FILE)


if __name__ == "__main__":
    round_trips.StampSession = _RecordingSession  # type: ignore[misc]
    sys.exit(main())
