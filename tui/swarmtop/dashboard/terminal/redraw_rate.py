"""Limit how often the screen is redrawn unprompted: to the bytes a second that the connection should carry, and to what
it accepts. Keys are answered at once; the redraws after them wait accordingly.

Pure: bytes and seconds come in. The shell counts what the driver writes and how much of it is still queued.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NEAR_BYTES_S: Final = 256_000  # a terminal on this machine
FAR_BYTES_S: Final = 24_000  # over ssh: 0.2 Mbit/s, which a mobile connection has
BURST_S: Final = 1.0  # so much may be written in advance, so that a new screen is drawn at once
WAITING_WRITES: Final = 4  # queued before the terminal: it is slower than we are


def bytes_per_s(environment: Mapping[str, str]) -> int:
    far = any(environment.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "MOSH_SERVER_PID"))
    return FAR_BYTES_S if far else NEAR_BYTES_S


class Pace:
    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self.written = 0  # since the start
        self._paid_s = 0.0  # when what was written so far is paid for, at that rate

    def wrote(self, count: int, now_s: float) -> None:
        self.written += count
        self._paid_s = max(self._paid_s, now_s) + count / self.bytes_per_s

    def ready(self, now_s: float, waiting: int = 0) -> bool:
        """Return whether to redraw. `waiting`: writes that the terminal has not taken yet."""
        return waiting < WAITING_WRITES and self._paid_s - now_s < BURST_S
