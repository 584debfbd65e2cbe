"""Run one probe's session: hello, welcome, then batches up and plans, leases and acknowledgements down.

One task reads; messages are written at once, and the result of a commit comes as a callback: with several tasks and
queues each, ten thousand sessions would use most of the collector's memory. Messages are decoded and their order is
checked here; who may join is decided in `join_requests`, what is stored in `ingest`, what it changes in `state`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Final, NoReturn

from aiohttp import WSCloseCode

from swarm_collector.ingest.batch_intake import NotCommitted
from swarm_collector.ingest.batch_order import BatchOrder
from swarm_collector.ingest.batch_validation import SenderClock, are_admissible, are_plain, check, off_by
from swarm_collector.ingest.quotas import SampleQuota
from swarm_collector.members.membership import HEARTBEAT_NS, Member, NodeEvent, Rejected
from swarm_collector.sessions.interfaces import ProbeSwarm
from swarm_collector.sessions.join_requests import Arrival
from swarm_collector.transport.keepalive import SessionOver
from swarm_collector.transport.websocket import WebSocketConnection
from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.probe_messages import (
    AboutMe,
    Ack,
    Batch,
    ChallengeCommit,
    ChallengeOpened,
    ChallengeReady,
    CollectorMessage,
    Heartbeat,
    Hello,
    LeaseDone,
    Leaving,
    ProbeMessage,
    Reach,
    Refused,
    Relay,
    SlowDown,
    Welcome,
    decode_from_probe,
)
from swarm_protocol.messages.samples import HostSample, Sample
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS, NS_PER_S
from swarm_storage.errors import StoreError
from swarm_storage.writer.transaction import NodeBatch

MAX_QUEUED: Final = 8  # batches of one probe that wait for the store; more are refused
MAX_COMMITTING: Final = 4  # as many as a probe sends ahead of the acknowledgements
MAX_UNREAD_BYTES: Final = 1 << 20  # that a probe has not read; plans and acknowledgements are few
SILENT_BEATS: Final = 6  # more than for "lost": a slow link is not cut
QUEUE_RETRY_MS: Final = 500.0
_BATCHES: Final = (ColumnBatch, Batch)
_UNCHANGED: Final = frozenset((HostSample,))  # kinds with a right time that are stored as they come


class ProbeSession:
    __slots__ = (
        "_ack_seq",
        "_batches",
        "_clock",
        "_clock_reported",
        "_committing",
        "_ending",
        "_goodbye",
        "_heard_ns",
        "_held",
        "_implausible",
        "_member",
        "_nonce",
        "_order",
        "_over",
        "_quota",
        "_stuck_ns",
        "_swarm",
        "_task",
        "_unknown_peers",
        "_wire",
        "number",
    )  # fmt: skip

    def __init__(self, swarm: ProbeSwarm, number: int, wire: WebSocketConnection, nonce: bytes) -> None:
        self.number = number
        self._swarm = swarm
        self._wire = wire
        self._nonce = nonce  # that the probe has to sign
        self._task: asyncio.Task[object] | None = None
        self._member: Member | None = None
        # until the welcome, because joins of others cause plans before it
        self._held: list[CollectorMessage] | None = []
        self._batches: list[
            Batch | ColumnBatch
        ] = []  # behind the batch that is being committed; an empty deque takes 600 bytes
        self._committing = 0  # batches offered to the store and not answered
        self._ack_seq = 0  # committed and to be acknowledged; 0: nothing
        self._over: SessionOver | None = None  # set when somebody else ends this session
        self._ending = False
        self._stuck_ns = 0  # since when the probe has not read everything sent; 0: it has
        self._order = BatchOrder()
        self._quota = SampleQuota()
        self._heard_ns = swarm.clock.steady_ns()
        self._goodbye: str | None = None
        self._clock = SenderClock()
        self._clock_reported = False
        self._implausible = False  # the last batch had implausible times
        self._unknown_peers = 0

    def send(self, message: CollectorMessage) -> None:
        """Write into the connection's buffer. A probe that does not read is disconnected when the buffer is full."""
        if self._ending:
            return
        if self._held is not None and not isinstance(message, Welcome | Refused):
            self._held.append(message)
            return
        self._wire.post(encode(message))
        if self._wire.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.end(SessionOver(f"{MAX_UNREAD_BYTES} bytes not read", WSCloseCode.TRY_AGAIN_LATER))

    def end(self, over: SessionOver) -> None:
        if self._over is None and not self._ending:
            self._over = over
            if self._task is not None:
                self._task.cancel()

    def clock_set(self, step_ns: int) -> None:
        """The collector's own clock was set ahead by so much."""
        self._clock.collector_set(step_ns)

    def look(self, now_ns: int) -> None:
        """End the session if the peer has sent or read nothing for too long. Called periodically for all sessions: a
        timer for each message would cost more than the message."""
        member = self._member
        if member is not None and now_ns - self._heard_ns > (silence_ns := self._silence_ns(member)):
            self.end(SessionOver(f"nothing received for {silence_ns / NS_PER_S:g} s"))
        if not self._wire.transport.get_write_buffer_size():
            self._stuck_ns = 0
        elif not self._stuck_ns:
            self._stuck_ns = now_ns
        elif now_ns - self._stuck_ns > self._swarm.pulse.send_s * NS_PER_S:
            self.end(SessionOver(f"read nothing for {self._swarm.pulse.send_s:g} s", WSCloseCode.TRY_AGAIN_LATER))

    def _silence_ns(self, member: Member) -> int:
        """Return how long the probe may be silent."""
        more_ns = self._swarm.beat_ns(member) - HEARTBEAT_NS
        return round(self._swarm.pulse.silence_s * NS_PER_S) + SILENT_BEATS * more_ns

    async def run(self) -> None:
        self._task = asyncio.current_task()
        over: SessionOver | None = None
        try:
            hello = await self._hello()
            self._member = await self._admit(hello)
            epoch = hello.epoch
            del hello  # the member has a copy without keys
            await self._read(self._member, epoch)
        except asyncio.CancelledError:
            if self._over is None:  # not ours: the server itself is shutting down
                self._wire.transport.abort()
                raise
            assert self._task is not None
            self._task.uncancel()
            over = self._over
        except SessionOver as error:
            over = error
        except Exception:
            self._wire.transport.abort()
            raise  # an internal error, which the server logs
        finally:
            self._ending = True
            self._swarm.probe_left(self, self._goodbye)
            if self._unknown_peers:
                left_out = f"left out {self._unknown_peers} samples about nodes that are not members"
                self._swarm.session_line(left_out, self._member)
        if over is not None:
            who = self._member.name if self._member else self._peer()
            self._swarm.session_line(f"session {self.number} of {who} ends: {safe(str(over))}", self._member)
        await self._wire.close(over)

    # ------------------------------------------------------------ joining

    async def _hello(self) -> Hello:
        data = await self._wire.receive(self._swarm.limits.hello_s)
        if data is None:
            raise SessionOver("closed before its hello")
        message = _decoded(data)
        if isinstance(message, AboutMe):
            reply = await self._swarm.data_requests.answer(message, self._nonce, self._own)
            await self._wire.send(encode(reply), self._swarm.pulse.send_s)
            raise SessionOver("answered", WSCloseCode.OK)
        if not isinstance(message, Hello):
            raise SessionOver("the first message must be a hello")
        return message

    async def _admit(self, hello: Hello) -> Member:
        swarm = self._swarm
        arrival = Arrival(self.number, self._nonce, self._peer(), _host(self._wire.transport, "sockname"), self._own)
        joined = await swarm.join_requests.decide(hello, arrival)
        if isinstance(joined, Rejected):
            await self._reject(joined)
        member = joined.admitted.member
        self._wire.admitted()
        swarm.probe_joined(self, joined.admitted)
        if hello.at_ns:
            self._see_clock(member, hello.at_ns)
        swarm.store_client.resume(member.node_id, hello.epoch)  # it begins again from the oldest batch it has
        try:
            if not joined.stored:
                await swarm.store_client.remember(member, hello, swarm.clock.wall_ns())
            committed = await swarm.store_client.committed(member.node_id, hello.epoch)
        except StoreError as error:
            await self._refuse(Refused(reason="the collector cannot store anything now", final=False, retry_ms=5_000.0))
            raise SessionOver(f"refused: {error}", WSCloseCode.INTERNAL_ERROR) from error
        self.send(
            Welcome(
                node_id=member.node_id,
                name=member.name,
                committed_seq=committed,
                heartbeat_ms=member.beat_ns / NS_PER_MS,
                observed_host=member.where.observed,
                stun_ports=swarm.stun_ports,
                columns=True,
            )
        )
        held, self._held = self._held, None
        for message in held or ():
            self.send(message)
        swarm.replan()
        return member

    async def _reject(self, rejected: Rejected) -> NoReturn:
        await self._refuse(Refused(reason=rejected.reason, final=rejected.final, retry_ms=rejected.retry_ms))
        raise SessionOver(f"refused: {rejected.reason}")

    async def _refuse(self, refused: Refused) -> None:
        await self._wire.send(encode(refused), self._swarm.pulse.send_s)

    # ------------------------------------------------------------ what comes in

    async def _read(self, member: Member, epoch: int) -> None:
        await self._wire.each(functools.partial(self._received, member, epoch))

    def _received(self, member: Member, epoch: int, data: bytes) -> float | None:
        """Handle one message; return the seconds until the next one is taken, None if it was the last one."""
        message, swarm = _decoded(data), self._swarm
        self._heard_ns = now_ns = swarm.clock.steady_ns()
        swarm.probe_heard(self, member, now_ns)
        if isinstance(message, _BATCHES):
            self._take(message, member, epoch)
            return self._quota.wait_s(len(message), now_ns)  # a sender slows down when it is not read
        if isinstance(message, Heartbeat):
            self._see_clock(member, message.at_ns)
            swarm.heartbeat(self, member, message)
        elif isinstance(message, Reach):
            swarm.nat_reported(self, member, message)
        elif isinstance(message, ChallengeReady | ChallengeCommit | ChallengeOpened):
            swarm.challenge_answered(self, member, message)
        elif isinstance(message, Relay):
            swarm.relay(self, member, message)
        elif isinstance(message, LeaseDone):
            swarm.lease_done(member, message)
        elif isinstance(message, Leaving):
            self._goodbye = message.reason or "goodbye"
            return None
        else:
            raise SessionOver("a second hello in one session")
        return 0.0

    def _take(self, batch: Batch | ColumnBatch, member: Member, epoch: int) -> None:
        if batch.epoch != epoch:
            raise SessionOver("a batch of another epoch than its hello's")
        waiting = self._order.refusing
        if waiting and self._order.may_take(batch.seq):
            self._swarm.store_client.resume(member.node_id, batch.epoch)  # the sender has gone back to its first
        elif waiting:
            self.send(SlowDown(reason="a batch before this one was not accepted", retry_ms=QUEUE_RETRY_MS))
            return
        if len(self._batches) >= MAX_QUEUED:
            self._order.refuse(batch.seq)
            self.send(SlowDown(reason="too many batches at once", retry_ms=QUEUE_RETRY_MS))
            return
        self._batches.append(batch)
        self._commit(member)

    def _commit(self, member: Member) -> None:
        """Commit batches in order, a few at once: the writer accepts none behind one that it refused."""
        while self._batches and self._committing < MAX_COMMITTING:
            batch = self._batches.pop(0)
            received_ns = self._swarm.wall_ns()
            stored = self._in_columns(batch, member, received_ns) if isinstance(batch, ColumnBatch) else None
            if stored is None:
                in_rows = batch.samples() if isinstance(batch, ColumnBatch) else batch.samples
                samples, off_ns = self._checked(in_rows, member, received_ns)
                self._report_implausible(member, off_ns)
                stored = NodeBatch(member.node_id, batch.epoch, batch.seq, received_ns, samples)
            try:
                self._swarm.intake.commit(stored, functools.partial(self._committed, member, stored))
            except NotCommitted as keep:
                self._keep(batch.seq, keep)
            else:
                self._committing += 1

    def _checked(self, samples: tuple[Sample, ...], member: Member, received_ns: int) -> tuple[tuple[Sample, ...], int]:
        """Return (the samples to store, by how much their times are implausible)."""
        checked = check(samples, member.node_id, self._swarm.knows, received_ns, self._clock.ahead_ns,
                        self._swarm.is_verified(member.node_id))  # fmt: skip
        self._unknown_peers += checked.strangers
        samples = self._swarm.annotated(member, checked.samples, received_ns)
        return self._quota.known_kinds(samples), checked.clock_off_ns

    def _in_columns(self, batch: ColumnBatch, member: Member, received_ns: int) -> NodeBatch | None:
        """Return what to store, with windows still in columns; None: something about them has to be changed, or
        something is left out, which is done in rows."""
        swarm, others = self._swarm, batch.others
        if self._clock.ahead_ns or not are_admissible(batch.links, member.node_id, swarm.member_ids, received_ns):
            return None
        links = swarm.unannotated(batch.links)
        if links is None or not are_plain(others, member.node_id, swarm.member_ids, received_ns):
            return None
        samples: tuple[Sample, ...] = others
        if not _UNCHANGED.issuperset(map(type, others)):
            samples, _ = self._checked(others, member, received_ns)
            if len(samples) != len(others):
                return None
        self._implausible = False
        return NodeBatch(member.node_id, batch.epoch, batch.seq, received_ns, samples, links, batch.places)

    def _committed(self, member: Member, batch: NodeBatch, outcome: int | NotCommitted) -> None:
        self._committing -= 1
        if isinstance(outcome, NotCommitted):
            self._acknowledge(batch.epoch)
            self._keep(batch.seq, outcome)
            return
        self._swarm.batch_committed(member, batch)
        more = self._committing or self._batches
        if more and not self._ack_seq:  # one acknowledgement for all of this probe that one commit holds
            asyncio.get_running_loop().call_soon(self._acknowledge, batch.epoch)
        self._ack_seq = outcome
        if not more:
            self._acknowledge(batch.epoch)
        if not self._ending:
            self._commit(member)

    def _acknowledge(self, epoch: int) -> None:
        seq, self._ack_seq = self._ack_seq, 0
        if seq:
            self.send(Ack(epoch=epoch, seq=seq, credit=self._swarm.intake.credit))

    def _keep(self, seq: int, keep: NotCommitted) -> None:
        self._order.refuse(seq)
        while self._batches:  # what waits behind it must not overtake it
            self._order.refuse(self._batches.pop(0).seq)
        self.send(SlowDown(reason=keep.reason, retry_ms=keep.retry_ms))

    def _see_clock(self, member: Member, at_ns: int) -> None:
        """Report a wrong clock once a session, and again only when the clock is set meanwhile."""
        if self._clock.observe(at_ns, self._swarm.wall_ns()):
            ahead_ns = self._clock.ahead_ns
            if ahead_ns:
                detail = f"this node's clock is {off_by(ahead_ns)}; its times are corrected by that much"
                self._swarm.report(NodeEvent(member.node_id, "clock", detail))
            elif self._clock_reported:
                self._swarm.report(NodeEvent(member.node_id, "clock", "this node's clock is right again"))
            self._clock_reported = True

    def _report_implausible(self, member: Member, off_ns: int) -> None:
        if off_ns and not self._implausible:
            detail = f"samples of this node are dated {off_by(off_ns)}; they get the time of their arrival"
            self._swarm.report(NodeEvent(member.node_id, "clock", detail))
        self._implausible = bool(off_ns)

    # ------------------------------------------------------------ small parts

    @property
    def _own(self) -> tuple[str, int] | None:
        """Return this end of the connection; None: TLS."""
        transport = self._wire.transport
        name = transport.get_extra_info("sockname")
        if transport.get_extra_info("ssl_object") is not None:
            return None
        return (str(name[0]), int(name[1])) if name else ("unknown", 0)

    def _peer(self) -> str:
        return _host(self._wire.transport, "peername")


def _decoded(data: bytes) -> ProbeMessage:
    try:
        return decode_from_probe(data)
    except DecodeError as error:
        raise SessionOver(f"invalid message ({safe(str(error), limit=80)})", WSCloseCode.INVALID_TEXT) from error


def _host(transport: asyncio.Transport, which: str) -> str:
    """Return the address at one end of the connection; a dead connection may have none any more."""
    name = transport.get_extra_info(which)
    return str(name[0]) if name else "unknown"
