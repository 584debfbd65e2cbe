"""Keep a session's batches in order: after a refused one, none is accepted until it is sent again. Pure."""

from __future__ import annotations

from typing import Final

MAX_REFUSED: Final = 1024


class BatchOrder:
    """The order of one session's batches. After one was refused, no later one may be accepted until it is sent again:
    the later number would count as committed and the refused batch would be lost.

    A refused number that comes a second time, with nothing before it, means that the sender has gone back to the first
    batch it still has (its spool may have dropped earlier ones), so it is taken.
    """

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: set[int] | None = None  # made when there is one: most sessions never have any

    @property
    def refusing(self) -> bool:
        """Return whether a refused batch is waited for."""
        return bool(self._refused)

    def may_take(self, seq: int) -> bool:
        if not self._refused or seq <= min(self._refused) or seq in self._refused:
            self._refused = None
            return True
        self.refuse(seq)
        return False

    def refuse(self, seq: int) -> None:
        if self._refused is None:
            self._refused = set()
        if len(self._refused) < MAX_REFUSED:
            self._refused.add(seq)
