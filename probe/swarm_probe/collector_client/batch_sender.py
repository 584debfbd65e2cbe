"""Decide which batch of the spool to send next: a few ahead of the acknowledgements, and from the first after a
refusal.

`client` does the sending. Times are monotonic seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from typing import Final

from swarm_probe.collector_client.client_times import ClientTimes
from swarm_probe.spool import Spool
from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.probe_messages import Ack, Batch, SlowDown, decode_from_probe

FIRST_CREDIT: Final = 4  # batches in flight before the collector has said how many it takes


def in_columns(payload: bytes) -> bytes:
    """Return an encoded Batch as a ColumnBatch; unchanged if it has no windows of round trips, or if an earlier version
    spooled what this one does not take: the collector decides then."""
    try:
        batch = decode_from_probe(payload)
    except DecodeError:
        return payload
    found = ColumnBatch.of(batch.epoch, batch.seq, batch.samples) if isinstance(batch, Batch) else None
    return payload if found is None else encode(found)


class BatchSender:
    def __init__(self, spool: Spool, rng: random.Random, times: ClientTimes) -> None:
        self._spool = spool
        self._rng = rng
        self._times = times
        self.more = asyncio.Event()  # set when there may be a batch to send
        self._ack = asyncio.Event()
        self._columns = False
        self._sent = 0
        self._in_flight: deque[int] = deque()
        self._credit = FIRST_CREDIT
        self._moved_at = 0.0  # when the last acknowledgement came, or the first unanswered batch was sent
        self._hold_until = 0.0  # set by SlowDown

    def begin(self, *, columns: bool = False) -> None:
        """A connection has joined: send everything that is not committed. `columns`: the collector takes batches in
        columns; the spool keeps rows, which every collector takes."""
        self._columns = columns
        self._sent = self._spool.committed_seq
        self._in_flight.clear()
        self._credit = FIRST_CREDIT
        self._hold_until = 0.0

    def acknowledged(self, ack: Ack) -> None:
        self._credit = ack.credit
        self._spool.committed(ack.epoch, ack.seq)
        while self._in_flight and self._in_flight[0] <= ack.seq:
            self._in_flight.popleft()
        self._moved_at = time.monotonic()
        self.more.set()
        self._ack.set()

    def slow_down(self, refused: SlowDown) -> None:
        """Nothing in flight was accepted: send all of it again, after a pause that differs from probe to probe."""
        wait_s = min(max(refused.retry_ms / 1000, 0.1), self._times.retry_cap_s)
        self._hold_until = time.monotonic() + wait_s * self._rng.uniform(1.0, 1.5)
        self._in_flight.clear()
        self._sent = self._spool.committed_seq
        self.more.set()

    def next(self, now_s: float) -> bytes | float | None:
        """Return the batch to send now; else the seconds until something is due (0: an acknowledgement is overdue);
        None: nothing is due before `more`."""
        self.more.clear()
        if now_s < self._hold_until:
            return self._hold_until - now_s
        if len(self._in_flight) < self._credit and (record := self._spool.next_after(self._sent)) is not None:
            seq, payload = record
            if not self._in_flight:
                self._moved_at = now_s
            self._in_flight.append(seq)
            self._sent = seq
            return in_columns(payload) if self._columns else payload
        if self._in_flight:
            return max(0.0, self._moved_at + self._times.ack_wait_s - now_s)
        return None

    async def changed(self, wait_s: float | None) -> None:
        """Wait until there may be a batch to send, for `wait_s` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.more.wait()

    async def next_ack(self) -> None:
        self._ack.clear()
        await self._ack.wait()
