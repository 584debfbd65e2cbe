"""Several collectors on one database are one swarm: each shows all of it, and one of them plans for all.

What happens at one collector (a probe came, beat, stored samples, left) is told to the others, who put it into their
own picture; plans and leases of the leader travel to the collector that holds the probe's connection. Names, keys and
what is stored come from the database. A collector that is new, or comes back, asks everybody to tell all anew.

Pure but for the bus: what comes in arrives in the event loop, time is the house's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from swarm_collector.members.addresses import MemberAddresses
from swarm_collector.members.membership import Member, NodeEvent
from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.probe_messages import CollectorMessage, Hello, LeaseDone, Reach, Refused
from swarm_protocol.messages.probe_messages import decode_from_collector as decode_message
from swarm_protocol.messages.samples import EventKind, Sample, UplinkSample
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.snapshot.swarm import State
from swarm_storage.postgres.cluster_bus import EVERYBODY, Letter, Others

if TYPE_CHECKING:
    from swarm_collector.state import SwarmState
    from swarm_collector.transport.keepalive import SessionOver

GATHER_S: Final = 0.1  # what is told within it goes as one letter
MOST_TOLD: Final = 5_000  # of one letter
_log = logging.getLogger("swarm_collector.cluster")


class ProbeJoined(msgspec.Struct, frozen=True, tag="came"):
    """Without the key and the token: who is admitted is the business of who holds the connection."""

    node_id: str
    name: str
    hello: Hello
    observed: str
    reached: str
    beat_ns: int
    again: bool = False  # told to somebody new: it has been there all the time


class NatReported(msgspec.Struct, frozen=True, tag="reached"):
    node_id: str
    reach: Reach


class HeartbeatSeen(msgspec.Struct, frozen=True, tag="beat"):
    node_id: str
    spooled: int


class BatchCommitted(msgspec.Struct, frozen=True, tag="stored"):
    node_id: str
    samples: tuple[Sample, ...]


class ProbeLeft(msgspec.Struct, frozen=True, tag="gone"):
    node_id: str
    goodbye: str | None


class EventLogged(msgspec.Struct, frozen=True, tag="said"):
    at_ns: int
    node_id: str | None
    kind: EventKind
    detail: str


class LeaseEnded(msgspec.Struct, frozen=True, tag="done"):
    node_id: str
    done: LeaseDone


class FocusChanged(msgspec.Struct, frozen=True, tag="aim"):
    focus: Focus


class Deliver(msgspec.Struct, frozen=True, tag="deliver"):
    node_id: str
    message: bytes


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """Rows of invites and members that the sender has changed in the store: read them anew."""

    keys: tuple[str, ...]


class TellAll(msgspec.Struct, frozen=True, tag="tell_all"):
    """The sender is new here."""


News = (
    ProbeJoined
    | NatReported
    | HeartbeatSeen
    | BatchCommitted
    | ProbeLeft
    | EventLogged
    | LeaseEnded
    | FocusChanged
    | Deliver
    | Kept
    | TellAll
)
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[News, ...])


class Bus(Protocol):
    viewers: int

    def send(self, body: bytes, to: int = EVERYBODY) -> None: ...
    def close(self) -> None: ...


class RemoteProbe:
    """A probe that another collector holds: what is sent to it travels there."""

    def __init__(self, cluster: Cluster, number: int, collector: int, node_id: str) -> None:
        self.number = number
        self.collector = collector
        self.node_id = node_id
        self._cluster = cluster

    def send(self, message: CollectorMessage) -> None:
        self._cluster.tell(Deliver(self.node_id, encode(message)), to=self.collector)

    def end(self, over: SessionOver) -> None:
        """Its collector hears of the session that took its place as everybody does."""

    def look(self, now_ns: int) -> None:
        """Its collector does."""

    def clock_set(self, step_ns: int) -> None:
        """Its times are moved by the collector that takes its samples."""


class Cluster:
    """`leading` is True where there are no others."""

    def __init__(self, swarm_state: SwarmState) -> None:
        self.leading = True
        self.watched = False
        self._swarm_state = swarm_state
        self._bus: Bus | None = None
        self._me = 0
        self._alive: frozenset[int] = frozenset()
        self._remote: dict[str, RemoteProbe] = {}
        self._number = 0
        self._news: dict[int, list[News]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def join(self, make: Callable[[Callable[[Sequence[Letter]], None], Callable[[Others], None]], Bus]) -> None:
        """From now on there may be others; nobody leads until the bus says so."""
        self.leading = False
        loop = asyncio.get_running_loop()

        def later(call: Callable[..., None]) -> Callable[..., None]:
            def soon(*arguments: object) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(call, *arguments)

            return soon

        self._bus = make(later(self._take), later(self._hear))

    def close(self) -> None:
        if self._bus is not None:
            self._flush()
            self._bus.close()
            self._bus = None

    @property
    def remote_probes(self) -> int:
        return len(self._remote)

    # ------------------------------------------------------------ what is told

    def tell(self, news: News, to: int = EVERYBODY) -> None:
        if self._bus is None or not (self._alive or to):
            return
        if not self._news:
            asyncio.get_running_loop().call_later(GATHER_S, self._flush)
        waiting = self._news.setdefault(to, [])
        waiting.append(news)
        if len(waiting) >= MOST_TOLD:
            self._flush()

    def came(self, member: Member, *, again: bool = False) -> None:
        assert member.hello is not None
        hello = msgspec.structs.replace(member.hello, node_key=None, proof=b"", invite="", token="")
        where = member.where
        self.tell(ProbeJoined(member.node_id, member.name, hello, where.observed, where.reached, member.beat_ns, again))

    def kept(self, keys: tuple[str, ...]) -> None:
        self.tell(Kept(keys))

    def said(self, at_ns: int, told: NodeEvent, detail: str) -> None:
        self.tell(EventLogged(at_ns, told.node_id, told.kind, detail))

    def _flush(self) -> None:
        news, self._news = self._news, {}
        if self._bus is not None:
            self._bus.viewers = self._swarm_state.viewer_count
            for to, what in news.items():
                self._bus.send(_encoder.encode(tuple(what)), to)

    # ------------------------------------------------------------ what is heard

    def _hear(self, others: Others) -> None:
        """Who is there now, and does this collector lead?"""
        came_back = others.me != self._me
        new = others.alive - self._alive
        for number in self._alive - others.alive:
            self._lost(number)
        self._me, self._alive, self.watched = others.me, others.alive, others.watched
        if self._bus is not None:
            self._bus.viewers = self._swarm_state.viewer_count
        if others.leading != self.leading:
            self.leading = others.leading
            _log.info("this collector %s", "plans for the swarm now" if self.leading else "plans no longer")
            if self.leading:
                self._swarm_state.lead()
        if others.me and (came_back or new):
            if new:
                _log.info("%d other collectors on this database", len(others.alive))
            self.tell(TellAll())
            self._tell_all()
            self._catch_up(None)

    def _tell_all(self) -> None:
        for member in self._swarm_state.membership.connected():
            if member.node_id not in self._remote:
                self.came(member, again=True)
                if member.reach != Reach():
                    self.tell(NatReported(member.node_id, member.reach))

    def _take(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            try:
                news = _decoder.decode(letter.body)
            except msgspec.DecodeError as error:  # of a later version: the others' picture lacks something, ours too
                _log.warning("a letter of collector %d cannot be read (%s)", letter.sender, error)
                continue
            for each in news:
                self._apply(letter.sender, each)
        self._swarm_state.hub.changed()

    def _apply(self, sender: int, news: News) -> None:
        swarm_state = self._swarm_state
        now_ns = swarm_state.clock.steady_ns()
        match news:
            case ProbeJoined():
                self._came(sender, news, now_ns)
            case ProbeLeft():
                self._gone(news.node_id, news.goodbye, sender, now_ns)
            case NatReported():
                remote = self._remote.get(news.node_id)
                if remote is not None and swarm_state.membership.reached(remote.number, news.reach):
                    swarm_state.replan()
            case HeartbeatSeen():
                if (remote := self._remote.get(news.node_id)) is not None:
                    swarm_state.membership.heard(remote.number, now_ns)
                    swarm_state.builder.seen(news.node_id, swarm_state.clock.wall_ns(), news.spooled)
            case BatchCommitted():
                if news.node_id in swarm_state.builder:
                    for sample in news.samples:
                        swarm_state.builder.sample(news.node_id, sample)
                        swarm_state.changes.committed(news.node_id, sample)
                        if isinstance(sample, UplinkSample):
                            swarm_state.dispatcher.leases.spent(news.node_id, sample.peer, sample.sent_bytes, now_ns)
            case EventLogged():
                swarm_state.builder.event(news.at_ns, news.node_id, news.kind, news.detail)
            case LeaseEnded():
                if self.leading and swarm_state.dispatcher.lease_done(
                    news.done, news.node_id, swarm_state.clock.steady_ns()
                ):
                    swarm_state.poke()
            case FocusChanged():
                swarm_state.dispatcher.scheduler.set_focus(news.focus)
                swarm_state.replan()
            case Deliver():
                swarm_state.deliver(news.node_id, self._decoded(news.message))
            case Kept():
                self._catch_up(news.keys)
            case TellAll():
                self._tell_all()

    def _catch_up(self, keys: Sequence[str] | None) -> None:
        """Reads what another collector has decided; None: all that may have changed."""
        task = asyncio.get_running_loop().create_task(self._swarm_state.admissions.catch_up(keys))
        self._reading.add(task)
        task.add_done_callback(self._caught_up)

    async def stop_reading(self) -> None:
        """After `close`, when no more letters come."""
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    def _caught_up(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("what another collector has decided could not be read (%s)", error)

    def _decoded(self, message: bytes) -> CollectorMessage | None:
        try:
            return decode_message(message)
        except DecodeError as error:
            _log.warning("the leader sent what cannot be read (%s)", error)
            return None

    def _came(self, sender: int, news: ProbeJoined, now_ns: int) -> None:
        swarm_state = self._swarm_state
        known = self._remote.get(news.node_id)
        if news.again and known is None and swarm_state.holds(news.node_id):
            return  # it has come here since, and the sender has not heard of it yet
        if known is not None and known.collector == sender:
            remote = known
        else:
            self._number -= 1
            remote = RemoteProbe(self, self._number, sender, news.node_id)
        where = MemberAddresses(news.observed, news.hello.addresses, news.reached)
        replaced = swarm_state.membership.adopt(
            remote.number, news.node_id, news.name, news.hello, where, news.beat_ns, now_ns
        )
        swarm_state.adopted(remote, replaced, Refused(reason="this node joined another collector", final=False))
        self._remote[news.node_id] = remote
        swarm_state.builder.expect_every(news.beat_ns)
        swarm_state.builder.node(
            news.node_id,
            news.name,
            news.hello.facts,
            host=news.observed if swarm_state.settings.show_addresses else "",
            seen_ns=swarm_state.clock.wall_ns(),
            state=State.OK,
        )
        swarm_state.replan()

    def _gone(self, node_id: str, goodbye: str | None, sender: int, now_ns: int) -> None:
        remote = self._remote.get(node_id)
        if remote is None or remote.collector != sender:
            return
        del self._remote[node_id]
        swarm_state = self._swarm_state
        swarm_state.forget_session(remote.number)
        swarm_state.membership.gone(remote.number, now_ns, goodbye)
        if goodbye is not None:
            swarm_state.dispatcher.leases.left(node_id)
            swarm_state.builder.state(node_id, State.LEFT, swarm_state.clock.wall_ns())
        swarm_state.replan()

    def left(self, node_id: str) -> None:
        """It has come to this collector: it is no longer another's."""
        self._remote.pop(node_id, None)

    def _lost(self, collector: int) -> None:
        """One that died, or is cut off: its probes come to another one, or back."""
        _log.warning("collector %d is gone", collector)
        now_ns = self._swarm_state.clock.steady_ns()
        for node_id in [node_id for node_id, remote in self._remote.items() if remote.collector == collector]:
            self._gone(node_id, None, collector, now_ns)
