"""Carry messages between the collectors of one database, and elect the one that leads.

Messages are rows of an unlogged table: they matter for a minute, and a collector that missed some asks for everything
again. A reader takes what was committed since its last read, by transaction ids (a serial number would skip what is
committed late). The leader holds an advisory lock, which a session that dies releases by itself. One thread with one
connection does all of it and makes the callbacks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from swarm_storage.errors import StoreError
from swarm_storage.postgres.postgres_backend import PostgresDb, connect, error_of, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAD_LOCK: Final = 0x5357_0003
EVERYBODY: Final = 0
WAIT_S: Final = 0.2  # how long a message may wait before it is sent; an incoming one wakes at once
BEAT_S: Final = 2.0
GONE_S: Final = 10.0  # a collector that is silent for this time has died, or is cut off
KEEP_S: Final = 60.0
RETRY_S: Final = 1.0
MAX_WAITING: Final = 100_000  # messages; beyond, the database has been away for long and everything is sent again
_log = logging.getLogger("swarm_storage")


@dataclass(frozen=True, slots=True)
class BusMessage:
    sender: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Others:
    """The collectors on this database, as of the last heartbeat."""

    me: int
    leading: bool
    alive: frozenset[int]
    watched: bool  # somebody watches the swarm through one of the others


class PostgresBus:
    def __init__(
        self,
        url: str,
        address: str,
        on_messages: Callable[[Sequence[BusMessage]], None],
        on_others: Callable[[Others], None],
    ) -> None:
        """Create it; both callbacks are called on the bus's own thread."""
        self._url = url
        self._name = name_of(url)
        self._address = address
        self._on_messages = on_messages
        self._on_others = on_others
        self._out: deque[tuple[int, bytes]] = deque()
        self._closing = threading.Event()
        self.viewers = 0  # of this collector, sent to the others
        self.restart()

    def restart(self) -> None:
        """Start the thread, which may have ended."""
        self._thread = threading.Thread(target=self._run, name="swarm-store-bus", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def send(self, body: bytes, to: int = EVERYBODY) -> None:
        """Queue a message, from any thread. What cannot be sent for a minute is dropped: `on_others` reports a new
        id."""
        if len(self._out) < MAX_WAITING:
            self._out.append((to, body))

    def close(self) -> None:
        """Send what waits, if the database accepts it, and stop."""
        self._closing.set()
        self._thread.join()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                db = connect(self._url, read_only=False)
            except StoreError as error:
                _log.warning("other collectors are not heard now: %s", error)
                self._closing.wait(RETRY_S)
                continue
            try:
                self._exchange(db)
            except Exception as error:  # noqa: BLE001 - whatever the driver raises: the thread must go on, and report it
                _log.warning("other collectors are not heard now: %s", error_of(error, self._name) or repr(error))
                self._on_others(Others(0, False, frozenset(), False))
                self._closing.wait(RETRY_S)
            finally:
                db.close()

    def _exchange(self, db: PostgresDb) -> None:
        ((me,),) = db.query("INSERT INTO collector (address, seen, viewers) VALUES (?, now(), 0) RETURNING id",
                            (self._address,))  # fmt: skip
        ((seen,),) = db.query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        self._out.clear()  # of an earlier connection: collectors that see a new id are sent everything
        db.run("LISTEN swarmtop")
        leading, beat_at = False, 0.0
        while True:
            ending = self._closing.is_set()
            self._post(db, me)
            if ending:
                db.run("DELETE FROM collector WHERE id = ?", (me,))
                return
            if time.monotonic() >= beat_at:
                leading = leading or bool(db.query("SELECT pg_try_advisory_lock(?)", (LEAD_LOCK,))[0][0])
                self._beat(db, me, leading=leading)
                beat_at = time.monotonic() + BEAT_S
            seen = self._collect(db, me, seen)
            for _ in db.connection.notifies(timeout=WAIT_S, stop_after=1):
                pass

    def _post(self, db: PostgresDb, me: int) -> None:
        messages = [self._out.popleft() for _ in range(len(self._out))]
        if messages:
            db.many("INSERT INTO letter (sender, target, body) VALUES (?, ?, ?)", [(me, *each) for each in messages])
            db.run("NOTIFY swarmtop")

    def _beat(self, db: PostgresDb, me: int, *, leading: bool) -> None:
        db.run("UPDATE collector SET seen = now(), viewers = ? WHERE id = ?", (self.viewers, me))
        others = db.query(
            "SELECT id, viewers FROM collector WHERE id <> ? AND seen > now() - make_interval(secs => ?)", (me, GONE_S)
        )
        if leading:
            db.run("DELETE FROM letter WHERE at < now() - make_interval(secs => ?)", (KEEP_S,))
            db.run("DELETE FROM collector WHERE seen < now() - make_interval(secs => ?)", (KEEP_S,))
        self._on_others(
            Others(me, leading, frozenset(number for number, _ in others), any(viewers for _, viewers in others))
        )

    def _collect(self, db: PostgresDb, me: int, seen: str) -> str:
        ((until,),) = db.query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        if until == seen:
            return seen
        messages = db.query(
            "SELECT sender, body FROM letter WHERE tx >= ?::xid8 AND tx < ?::xid8 AND target IN (?, ?) AND sender <> ?"
            " ORDER BY tx, id",
            (seen, until, EVERYBODY, me, me),
        )
        if messages:
            self._on_messages([BusMessage(sender, bytes(body)) for sender, body in messages])
        return str(until)
