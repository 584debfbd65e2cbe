"""Record which readings of the machine failed, and why.

A volunteer's machine may be a container without /sys, a sandbox whose /proc is partly unreadable, or a system that
psutil supports poorly. No such figure is worth ending the probe: an unreadable one is missing, and `swarm-probe status`
shows the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from swarm_protocol.text import safe

T = TypeVar("T")


class Unreadable(Exception):
    """The system answers, but with an impossible value; one line."""


class Readings:
    """The figures that could not be read at the last try, each with its reason."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def ask(self, what: str, read: Callable[[], T]) -> T | None:
        """Return what `read` returns; None if it raises anything, and then `reasons` says why."""
        try:
            found = read()
        except Exception as error:  # noqa: BLE001 - psutil and drivers raise whatever odd files make them raise
            self.reasons[what] = reason(error)
            return None
        self.reasons.pop(what, None)
        return found


def reason(error: Exception) -> str:
    """Return one short line for people."""
    if isinstance(error, OSError) and error.errno:
        said = os.strerror(error.errno).lower()
        return safe(f"{error.filename}: {said}" if error.filename else said, 120)
    if isinstance(error, Unreadable):
        return safe(str(error), 120)
    return safe(f"{type(error).__name__}: {error}".rstrip(": "), 120)
