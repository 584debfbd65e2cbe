"""Keep several collectors on one database in step: each shows the whole swarm, and one of them plans for all.

Each collector publishes the events of its own sessions; the others apply them to their own state. The leader sends
plans and leases to the collector that holds the probe's connection. Names, keys and samples come from the database. A
collector that has just started, or was cut off, asks the others for all their probes.

Messages arrive in the event loop; the swarm's state supplies the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from swarm_collector.cluster.bus_messages import (
    BusItem,
    Deliver,
    RowsChanged,
    TellAll,
    decode_bus_message,
    encode_bus_message,
)
from swarm_collector.cluster.connection import ProbeConnection, RemoteProbe
from swarm_collector.cluster.events import (
    BatchCommitted,
    Event,
    HeartbeatSeen,
    NatReported,
    ProbeJoined,
    ProbeLeft,
    SessionEvent,
    joined,
)
from swarm_collector.members.membership import Member
from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.probe_messages import CollectorMessage, Reach
from swarm_protocol.messages.probe_messages import decode_from_collector as decode_message
from swarm_storage.postgres.cluster_bus import EVERYBODY, BusMessage, Others

GATHER_S: Final = 0.1  # items published within this time go into one message
MAX_ITEMS: Final = 5_000  # of one message
_log = logging.getLogger("swarm_collector.cluster")


class Bus(Protocol):
    viewers: int

    def send(self, body: bytes, to: int = EVERYBODY) -> None: ...
    def close(self) -> None: ...


_Bus = TypeVar("_Bus", bound=Bus)


class Replica(Protocol):
    """What the cluster needs of this collector's state."""

    @property
    def viewer_count(self) -> int: ...
    def apply(self, event: Event, connection: ProbeConnection | None = None) -> None: ...
    def lead(self) -> None: ...
    def connected_members(self) -> Iterable[Member]: ...
    def is_connected(self, node_id: str) -> bool: ...
    def deliver(self, node_id: str, message: CollectorMessage) -> None: ...
    async def reread(self, keys: Sequence[str] | None) -> None: ...


class Cluster:
    """`leading` is True if there are no other collectors."""

    def __init__(self, replica: Replica) -> None:
        self.leading = True
        self.watched = False
        self._replica = replica
        self._bus: Bus | None = None
        self._me = 0
        self._alive: frozenset[int] = frozenset()
        self._remote: dict[str, RemoteProbe] = {}
        self._number = 0
        self._outgoing: dict[int, list[BusItem]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def join(self, make: Callable[[Callable[[Sequence[BusMessage]], None], Callable[[Others], None]], _Bus]) -> _Bus:
        """Expect other collectors from now on, and return the bus; nobody leads until the bus says so."""
        self.leading = False
        loop = asyncio.get_running_loop()

        def later(call: Callable[..., None]) -> Callable[..., None]:
            def soon(*arguments: object) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(call, *arguments)

            return soon

        bus = make(later(self._receive), later(self._others_changed))
        self._bus = bus
        return bus

    def close(self) -> None:
        if self._bus is not None:
            self._flush()
            self._bus.close()
            self._bus = None

    @property
    def remote_probes(self) -> int:
        return len(self._remote)

    # ------------------------------------------------------------ sending

    def publish(self, event: Event) -> None:
        """Send an event of this collector to the others."""
        if isinstance(event, ProbeJoined):
            self._remote.pop(event.node_id, None)  # its session is here now
        self._queue(event)

    def rows_changed(self, keys: tuple[str, ...]) -> None:
        self._queue(RowsChanged(keys))

    def _queue(self, item: BusItem, to: int = EVERYBODY) -> None:
        if self._bus is None or not (self._alive or to):
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_later(GATHER_S, self._flush)
        waiting = self._outgoing.setdefault(to, [])
        waiting.append(item.in_rows() if isinstance(item, BatchCommitted) else item)
        if len(waiting) >= MAX_ITEMS:
            self._flush()

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, {}
        if self._bus is not None:
            self._bus.viewers = self._replica.viewer_count
            for to, items in outgoing.items():
                self._bus.send(encode_bus_message(tuple(items)), to)

    def _forward(self, remote: RemoteProbe, message: CollectorMessage) -> None:
        self._queue(Deliver(remote.node_id, encode(message)), to=remote.collector)

    # ------------------------------------------------------------ the other collectors

    def _others_changed(self, others: Others) -> None:
        came_back = others.me != self._me
        new = others.alive - self._alive
        for number in self._alive - others.alive:
            self._collector_lost(number)
        self._me, self._alive, self.watched = others.me, others.alive, others.watched
        if self._bus is not None:
            self._bus.viewers = self._replica.viewer_count
        if others.leading != self.leading:
            self.leading = others.leading
            _log.info("this collector %s", "plans for the swarm now" if self.leading else "no longer plans")
            if self.leading:
                self._replica.lead()
        if others.me and (came_back or new):
            if new:
                _log.info("%d other collectors use this database", len(others.alive))
            self._queue(TellAll())
            self._tell_all()
            self._reread(None)

    def _collector_lost(self, collector: int) -> None:
        """Forget the probes of a collector that died or is cut off: they connect elsewhere, or come back."""
        _log.warning("collector %d is gone", collector)
        for node_id in [node_id for node_id, remote in self._remote.items() if remote.collector == collector]:
            self._apply(collector, ProbeLeft(node_id, None))

    def _tell_all(self) -> None:
        for member in self._replica.connected_members():
            if member.node_id not in self._remote:
                self.publish(joined(member, again=True))
                if member.reach != Reach():
                    self.publish(NatReported(member.node_id, member.reach))

    # ------------------------------------------------------------ receiving

    def _receive(self, messages: Sequence[BusMessage]) -> None:
        for message in messages:
            try:
                items = decode_bus_message(message.body)
            except msgspec.DecodeError as error:  # from a later version: neither collector may know the whole swarm
                _log.warning("a message of collector %d cannot be read (%s)", message.sender, error)
                continue
            for item in items:
                self._apply(message.sender, item)

    def _apply(self, sender: int, item: BusItem) -> None:
        match item:
            case Deliver():
                if (message := _decoded(item.message)) is not None:
                    self._replica.deliver(item.node_id, message)
            case RowsChanged():
                self._reread(item.keys)
            case TellAll():
                self._tell_all()
            case ProbeJoined() | NatReported() | HeartbeatSeen() | ProbeLeft():
                if (remote := self._connection(sender, item)) is not None:
                    self._replica.apply(item, remote)
            case _:
                self._replica.apply(item)

    def _connection(self, sender: int, event: SessionEvent) -> RemoteProbe | None:
        """Return the connection that an event is about; None: `sender` does not hold it (any more)."""
        known = self._remote.get(event.node_id)
        if known is not None and known.collector == sender:
            if isinstance(event, ProbeLeft):
                del self._remote[event.node_id]
            return known
        if not isinstance(event, ProbeJoined):
            return None
        if event.again and known is None and self._replica.is_connected(event.node_id):
            return None  # it has connected here since, and the sender does not know yet
        self._number -= 1
        remote = self._remote[event.node_id] = RemoteProbe(self._number, sender, event.node_id, self._forward)
        return remote

    def _reread(self, keys: Sequence[str] | None) -> None:
        """Read what another collector has decided; None: everything that may have changed."""
        task = asyncio.get_running_loop().create_task(self._replica.reread(keys))
        self._reading.add(task)
        task.add_done_callback(self._reread_done)

    async def stop_reading(self) -> None:
        """Stop reading, after `close`, when no more messages come."""
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    def _reread_done(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("another collector's changes of members and invites could not be read (%s)", error)


def _decoded(message: bytes) -> CollectorMessage | None:
    try:
        return decode_message(message)
    except DecodeError as error:
        _log.warning("a message of the planning collector cannot be read (%s)", error)
        return None
