"""Do the upkeep that every store needs between commits: remove old rows by a clock that cannot jump, and roll up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from swarm_protocol.units import NS_PER_S
from swarm_storage.history.retention import HOLD_NS, PruneClock, newest_ns, prune_rollups_step, prune_step
from swarm_storage.history.roll_forward import roll_step
from swarm_storage.sql import Db
from swarm_storage.writer.transaction import Known

TIDY_EVERY_S: Final = 10.0
STEP_PAUSE_S: Final = 0.1  # between two steps while there is more to do

_log = logging.getLogger("swarm_storage")


class Prunes:
    """The time that old rows are removed by, for any store."""

    def __init__(
        self, name: str, retain_ns: int | None, clock_ns: Callable[[], int], steady_ns: Callable[[], int]
    ) -> None:
        self.retain_ns = retain_ns
        self._name = name
        self._clock_ns = clock_ns
        self._steady_ns = steady_ns
        self._clock: PruneClock | None = None

    def begin(self, db: Db) -> None:
        """Begin before anything new is written: the stored rows tell what time it was."""
        if self._clock is None:
            self._clock = PruneClock(newest_ns(db))

    def now_ns(self) -> int:
        assert self._clock is not None
        doubting = self._clock.doubting
        now_ns = self._clock.now_ns(self._clock_ns(), self._steady_ns())
        if self._clock.doubting and not doubting:
            _log.warning(
                "the rows of %s end long before now: after a pause, or because the clock was set; the old ones are kept"
                " for %d hours more, in case it is the clock", self._name, HOLD_NS // (3600 * NS_PER_S),
            )  # fmt: skip
        return now_ns

    def step(self, db: Db, known: Known) -> bool:
        """Prune or roll up a little. Return whether there is more to do."""
        now_ns = self.now_ns()
        if self.retain_ns is not None:
            if prune_step(db, now_ns - self.retain_ns):
                return True
            if prune_rollups_step(db, now_ns, self.retain_ns):
                return True
        # By the prune clock too: a bucket of a clock that ran ahead ends when that time comes.
        bucket = roll_step(db, now_ns)
        if bucket is not None:
            known.pending.discard(bucket)
        return bucket is not None
