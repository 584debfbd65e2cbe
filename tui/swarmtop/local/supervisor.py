"""Restart a child program that ends by itself, a few times, and say so.

No thread and no clock: the dashboard calls `poll` with the time, several times a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from swarmtop.errors import UNUSABLE
from swarmtop.local.child_process import READ_WITHIN_S, Child, how_ended

# A program that was killed by mistake is back at once; one that keeps ending is left alone after a minute.
RESTART_AFTER_S: Final = (0.0, 2.0, 5.0, 15.0, 30.0)
SETTLED_S: Final = 120.0  # a program that ran for so long starts with the first delay again


class LocalPrograms(Protocol):
    """The programs that this process has started, as the dashboard sees them."""

    def poll(self) -> Sequence[str]:
        """Restart what has ended, and return what happened since the last call, one line each."""
        ...

    @property
    def trouble(self) -> str:
        """What does not run any more, and what to do; "" while everything runs or is about to."""
        ...


class Start(Protocol):
    def __call__(self, *, again: bool) -> Child: ...


class Supervisor:
    """One child program, and its successors."""

    def __init__(self, start: Start, now_s: float, loss: str) -> None:
        """Start it. `loss`: what is missing once it is given up, a sentence."""
        self.child = start(again=False)
        self.trouble = ""  # why it was given up
        self._start = start
        self._loss = loss
        self._since_s = now_s  # of the running child
        self._ended_s: float | None = None  # when that was noticed
        self._due_s: float | None = None  # when the next is started
        self._short_runs = 0

    def poll(self, now_s: float) -> str:
        """Return one line about what has happened; "" if nothing has."""
        if self._due_s is not None:
            return self._start_again(now_s) if now_s >= self._due_s else ""
        code = self.child.exit_code
        if code is None or self.trouble:
            return ""
        if self._ended_s is None:
            self._ended_s = now_s
        if not self.child.is_read and now_s - self._ended_s < READ_WITHIN_S:
            return ""
        if self._ended_s - self._since_s >= SETTLED_S:
            self._short_runs = 0
        if code == UNUSABLE or self._short_runs == len(RESTART_AFTER_S):
            often = f" {self._short_runs + 1} times" if self._short_runs else ""
            return self._give_up(f"{self.child.died()}{often and f'; it ended{often} within a short time'}")
        delay_s = RESTART_AFTER_S[self._short_runs]
        self._short_runs += 1
        self._due_s = now_s + delay_s
        return f"{self.child.name} {how_ended(code)}; starting it again{f' in {delay_s:.0f} s' if delay_s else ''}"

    def _start_again(self, now_s: float) -> str:
        self._due_s = self._ended_s = None
        self._since_s = now_s
        try:
            self.child = self._start(again=True)
        except OSError as error:
            return self._give_up(f"{self.child.name} cannot be started: {error.strerror}")
        return ""

    def _give_up(self, why: str) -> str:
        self.trouble = f"{self._loss}: quit, and start swarmtop again ({why})"
        return self.trouble

    def end(self) -> None:
        self.child.end()
