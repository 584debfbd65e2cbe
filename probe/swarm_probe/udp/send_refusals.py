"""Detect a local firewall that blocks outgoing UDP, and report it once."""

from __future__ import annotations

import logging
from typing import Final

from swarm_probe.sockets import why

BLOCKED_AFTER: Final = 5  # sends refused in a row before UDP counts as blocked

log = logging.getLogger(__name__)


class SendRefusals:
    def __init__(self) -> None:
        self.error: str | None = None  # one line; None: UDP can be sent
        self._in_row = 0

    def sent(self) -> None:
        if self._in_row >= BLOCKED_AFTER:
            log.info("UDP can be sent again")
            self.error = None
        self._in_row = 0

    def refused(self, error: OSError) -> None:
        """Count a refusal. A local firewall gives EPERM; other errors (no route, full buffers) do not show that UDP is
        blocked."""
        if not isinstance(error, PermissionError):
            return
        self._in_row += 1
        if self._in_row == BLOCKED_AFTER:
            self.report(f"UDP cannot be sent from here ({why(error)}); allow it in the firewall to measure round trips")

    def report(self, line: str) -> None:
        self.error = line
        log.warning("%s", line)
