"""Hold the state of the swarm, and apply events of this and other collectors to it.

What happens in a session becomes an event (`cluster.events`): `publish` applies it and sends it to the other collectors
on the same database; their events arrive at `apply`. Sessions report through the methods below and know only
`sessions.interfaces`. Pure modules decide; this module passes them the time and acts on their results.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from swarm_collector.changes.monitor import ChangeMonitor
from swarm_collector.clock import Clock, StepWatch
from swarm_collector.cluster.cluster import Cluster
from swarm_collector.cluster.connection import ProbeConnection, RemoteProbe
from swarm_collector.cluster.events import (
    BatchCommitted,
    Event,
    EventLogged,
    FocusChanged,
    HeartbeatSeen,
    LeaseEnded,
    NatReported,
    ProbeJoined,
    ProbeLeft,
)
from swarm_collector.ingest.batch_intake import BatchIntake
from swarm_collector.ingest.batch_validation import off_by
from swarm_collector.ingest.store_client import StoreClient
from swarm_collector.ingest.store_watch import StoreWatch
from swarm_collector.members.addresses import MemberAddresses
from swarm_collector.members.admission import Admissions
from swarm_collector.members.join_rules import Register
from swarm_collector.members.membership import REPLACED_RETRY_NS, Member, Membership, NodeEvent
from swarm_collector.members.presence import restore_present
from swarm_collector.scheduling.dispatcher import UNWATCHED_AFTER_NS, Dispatcher, first_lease_ns
from swarm_collector.scheduling.measurement_plan import Scheduler
from swarm_collector.scheduling.survey import Survey
from swarm_collector.scheduling.transfer_leases import DAY_NS, Leases
from swarm_collector.sessions.session_table import SessionTable
from swarm_collector.sessions.viewer_stream import Hub
from swarm_collector.settings import Settings
from swarm_collector.transport.keepalive import SessionOver
from swarm_collector.transport.log_filter import because
from swarm_collector.transport.stun_server import StunServer
from swarm_collector.verification.anomaly_monitor import AnomalyMonitor
from swarm_collector.verification.attestation_runner import AttestationRunner
from swarm_protocol.messages.probe_messages import CollectorMessage, Refused
from swarm_protocol.messages.running import MAX_DETAIL
from swarm_protocol.messages.samples import UplinkSample
from swarm_protocol.messages.viewer_messages import FOCUS_SETTING
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import State, Swarm
from swarm_protocol.supervisor import Supervisor
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS

FORGET_AFTER_S: Final = 1.0
REPLACED: Final = "another session of this node took over; do two probes share one state folder?"

_log = logging.getLogger("swarm_collector")


class SwarmState:
    def __init__(self, settings: Settings, store_client: StoreClient, clock: Clock, rng: random.Random) -> None:
        self.settings = settings
        self.token = settings.token
        self.clock = clock
        self.store_client = store_client
        self.address = ""  # host:port as listened on
        now_ns = clock.steady_ns()
        self.started_ns = clock.wall_ns()
        self._clock_steps = StepWatch(clock.wall_ns(), now_ns)
        self.membership = Membership(settings.token)
        self.builder = SwarmBuilder()
        known = store_client.restore(self.builder, clock.wall_ns())
        self.membership.restore((row.node_id, row.name) for row in known)
        kept = store_client.settings()
        self.register = Register(kept)
        self.admissions = Admissions(clock, self.token, self.membership, self.register, store_client, self)
        if self.register.unreadable:
            _log.warning("%d rows of invites and members cannot be read; they are left alone", self.register.unreadable)
        restore_present(self.membership, self.register, known, self.started_ns, now_ns)
        leases = Leases(
            rng,
            first_id=now_ns // NS_PER_MS,
            not_before_ns=first_lease_ns(now_ns, fresh=not known),
            daily_bytes=settings.transfer_bytes,
        )
        for until_ns, src, dst, sent_bytes in store_client.transfers_since(now_ns - DAY_NS):
            leases.spent_before(src, dst, sent_bytes, min(until_ns, now_ns))  # steady time begins as wall time
        self.dispatcher = Dispatcher(
            membership=self.membership,
            scheduler=Scheduler(settings.secret, settings.first_focus(kept.get(FOCUS_SETTING))),
            leases=leases,
            rtt_from=self._rtt_from,
            watched_until_ns=now_ns + UNWATCHED_AFTER_NS,
        )
        self.latest_survey = Survey()
        self.anomaly_monitor = AnomalyMonitor(
            self.membership, self.register, self.builder.rtt_from, self.report, now_ns
        )
        self.stun = StunServer(clock.steady_ns)
        self.intake = BatchIntake(
            store_client.submit, self._store_trouble, self._store_recovered, rng, store_client.fullness
        )
        self.parts = Supervisor(_log)
        self.store_watch = StoreWatch(store_client, self.intake)
        self.hub = Hub(self.snapshot)
        self.cluster = Cluster(self)
        self.sessions = SessionTable()
        self.sessions_ended = 0  # with a reason to log
        self.attestation = AttestationRunner(clock, self.sessions.send, self.report)
        self.attestation.judged.append(self.anomaly_monitor.challenged)
        self.changes = ChangeMonitor(
            self.membership,
            clock,
            self.planning_snapshot,
            lambda: self.dispatcher.scheduler.focus,
            self.report,
            lambda: self.cluster.leading,
            self._planned,
        )
        self.poked = asyncio.Event()  # plans or leases may be due
        if known:
            _log.info("the store knows %d nodes", len(known))

    # ------------------------------------------------------------ events

    def publish(self, event: Event, connection: ProbeConnection | None = None) -> None:
        """Apply an event of this collector, and send it to the others."""
        self.apply(event, connection)
        self.cluster.publish(event)

    def apply(self, event: Event, connection: ProbeConnection | None = None) -> None:
        """Change the swarm's state by an event of this or another collector.

        `connection`: the session of a session event; the caller has made sure that it is the node's latest.
        """
        now_ns = self.clock.steady_ns()
        match event:  # the frequent ones first
            case HeartbeatSeen():
                if connection is not None:
                    self.membership.heard(connection.number, now_ns)
                self.builder.seen(event.node_id, self.clock.wall_ns(), event.spooled)
            case BatchCommitted():
                if event.node_id in self.builder:
                    if event.links is not None:
                        self.builder.windows(event.node_id, event.links)
                    self.builder.samples(event.node_id, event.samples)
                    self.changes.committed(event.node_id, event.samples, event.links)
                    for sample in event.samples:
                        if isinstance(sample, UplinkSample):
                            self.dispatcher.leases.spent(event.node_id, sample.peer, sample.sent_bytes, now_ns)
            case ProbeJoined():
                assert connection is not None
                self._joined(event, connection, now_ns)
            case ProbeLeft():
                assert connection is not None
                self._left(event, connection, now_ns)
            case NatReported():
                if connection is not None and self.membership.reached(connection.number, event.reach):
                    self.replan()
            case EventLogged():
                self.builder.event(event.at_ns, event.node_id, event.kind, event.detail)
            case LeaseEnded():
                if self.cluster.leading and self.dispatcher.lease_done(event.done, event.node_id, now_ns):
                    if not event.done.ok:
                        _log.info("%s could not use its lease: %s", self._name(event.node_id), safe(event.done.detail))
                    self.poked.set()
            case FocusChanged():
                if not self.dispatcher.scheduler.keeps(event.focus):
                    self.dispatcher.scheduler.set_focus(event.focus)
                self.replan()
        self.hub.changed()

    def _joined(self, event: ProbeJoined, connection: ProbeConnection, now_ns: int) -> None:
        where = MemberAddresses(event.observed, event.hello.addresses, event.reached)
        self.membership.adopt(connection.number, event.node_id, event.name, event.hello, where, event.beat_ns, now_ns)
        if (before := self.sessions.add_probe(event.node_id, connection)) is not None:
            refused = Refused(reason=REPLACED, final=False, retry_ms=REPLACED_RETRY_NS / NS_PER_MS)
            if isinstance(connection, RemoteProbe):
                refused = Refused(reason="this node joined another collector", final=False)
            before.send(refused)
            before.end(SessionOver(refused.reason))
            self.dispatcher.gone(before.number)
        self.builder.expect_every(event.beat_ns)
        self.builder.node(
            event.node_id,
            event.name,
            event.hello.facts,
            host=self._shown(event.observed),
            seen_ns=self.clock.wall_ns(),
            state=State.OK,
        )
        if isinstance(connection, RemoteProbe):
            self.replan()  # a probe of this collector gets its welcome first

    def _left(self, event: ProbeLeft, connection: ProbeConnection, now_ns: int) -> None:
        self.sessions.remove_probe(event.node_id, connection)
        self.dispatcher.gone(connection.number)
        self.membership.gone(connection.number, now_ns, event.goodbye)
        if event.goodbye is not None:
            self.dispatcher.leases.left(event.node_id)
            self.builder.state(event.node_id, State.LEFT, self.clock.wall_ns())
        self.replan()

    # ------------------------------------------------------------ members

    def knows(self, node_id: str) -> bool:
        return self.membership.get(node_id) is not None

    def connected_members(self) -> Iterable[Member]:
        return self.membership.connected()

    def is_connected(self, node_id: str) -> bool:
        return self.sessions.of_node(node_id) is not None

    async def forget(self, node_id: str) -> int:
        """Delete everything about a node, in the store and on screens; return the number of rows. Raises StoreError."""
        if (session := self.sessions.of_node(node_id)) is not None:
            session.send(Refused(reason="forgotten, as its owner asked", final=True))
            session.end(SessionOver("forgotten, as its owner asked"))
            await asyncio.sleep(FORGET_AFTER_S)  # until the last batches are stored, so that they are deleted too
        gone = await self.store_client.forget(node_id)
        if node_id in self.builder:
            self.builder.forget(node_id)
        self.membership.forget(node_id, self.clock.steady_ns())
        self.anomaly_monitor.forget(node_id)
        self.changes.forget(node_id)
        self.replan()
        self.hub.changed()
        return gone

    def renamed(self, member: Member, name: str) -> None:
        for event in self.membership.rename(member, name):
            self.report(event)
        if member.hello is not None:
            self.builder.node(
                member.node_id,
                member.name,
                host=self._shown(member.where.observed),
                state=State.OK if member.session is not None else State.LEFT,
            )
        self.replan()
        self.hub.changed()

    def expel(self, member: Member, refused: Refused) -> None:
        """End the session of a member whose membership was revoked."""
        if (session := self.sessions.of_node(member.node_id)) is not None:
            session.send(refused)
            session.end(SessionOver(refused.reason))
        self.membership.revoke(member, self.clock.steady_ns())
        if member.node_id in self.builder:
            self.builder.state(member.node_id, State.LEFT, self.clock.wall_ns())
        self.store_client.present(member)
        self.report(NodeEvent(member.node_id, "left", refused.reason))
        self.replan()

    def rows_changed(self, keys: tuple[str, ...]) -> None:
        self.cluster.rows_changed(keys)

    async def reread(self, keys: Sequence[str] | None) -> None:
        await self.admissions.reread(keys)

    def _name(self, node_id: str) -> str:
        member = self.membership.get(node_id)
        return member.name if member is not None else node_id

    def _shown(self, host: str) -> str:
        return host if self.settings.show_addresses else ""

    # ------------------------------------------------------------ plans

    def _planned(self, away_ms: Mapping[str, float]) -> None:
        if self.dispatcher.scheduler.pause(away_ms):
            self.replan()

    def replan(self) -> None:
        self.dispatcher.changed(self.clock.steady_ns())
        self.poked.set()

    def lead(self) -> None:
        """Plan from now on. The previous planner may just have granted a lease."""
        now_ns = self.clock.steady_ns()
        self.dispatcher.leases.not_before_ns = first_lease_ns(now_ns, fresh=False)
        self.replan()

    def deliver(self, node_id: str, message: CollectorMessage) -> None:
        """Send a message of the planning collector to a probe that is connected here."""
        session = self.sessions.of_node(node_id)
        if session is not None and not isinstance(session, RemoteProbe):
            session.send(message)

    def _rtt_from(self, node_id: str) -> dict[str, float]:
        """Return measured round trips, and estimates to nodes nearby, so that those get measured."""
        return {**self.latest_survey.near(node_id), **self.builder.rtt_from(node_id)}

    # ------------------------------------------------------------ reports to people

    def report(self, event: NodeEvent) -> None:
        """Log one line, and show and store it as an event."""
        member = self.membership.get(event.node_id) if event.node_id is not None else None
        at_ns = self.clock.wall_ns()
        detail = safe(event.detail, limit=MAX_DETAIL if event.kind == "running" else 300)
        _log.info("%s%s: %s", f"{member.name} " if member else "", event.kind, detail, extra=because(event.kind))
        self.store_client.event(at_ns, event, detail)
        self.publish(EventLogged(at_ns, event.node_id, event.kind, detail))

    def session_line(self, text: str, member: Member | None = None) -> None:
        """Log why a session ended. Lines about strangers have a limit of their own, so that they hide no member's."""
        self.sessions_ended += 1
        _log.info("%s", text, extra=because("a member's session" if member is not None else "a stranger's session"))

    def _store_trouble(self, reason: str) -> None:
        line = f"nothing is stored now: {safe(reason, limit=250)}"
        _log.error("%s", line)
        self.builder.event(self.clock.wall_ns(), None, "disk", line)  # the store itself cannot take it
        self._notice(line)

    def _store_recovered(self, was: str) -> None:
        line = f"storing again (it was: {safe(was, limit=180)}); the probes have kept what was measured meanwhile"
        self.report(NodeEvent(None, "disk", line))
        self._notice(line)

    def _notice(self, line: str) -> None:
        self.sessions.notice(line)
        self.hub.changed()

    # ------------------------------------------------------------ figures

    @property
    def probe_count(self) -> int:
        """Probes connected to this collector."""
        return len(self.sessions.probes) - self.cluster.remote_probes

    @property
    def viewer_count(self) -> int:
        return len(self.sessions.viewers)

    def states(self) -> list[int]:
        """Return the present state of every node."""
        return self.builder.states(self.clock.wall_ns())

    def snapshot(self) -> Swarm:
        """Return the swarm for viewers: link columns of this and the frame before share what did not change."""
        return self.builder.snapshot(self.clock.wall_ns(), self.address)

    def planning_snapshot(self) -> Swarm:
        """Return the swarm for a search now and then. Full columns of a thousand nodes would stay for the next frame,
        although nobody watches: 200 MB."""
        return self.builder.snapshot(self.clock.wall_ns(), self.address, compact=True)

    def wall_ns(self) -> int:
        """Return the time that samples are dated by. Notices when the clock has been set."""
        wall_ns = self.clock.wall_ns()
        if step_ns := self._clock_steps.step_ns(wall_ns, self.clock.steady_ns()):
            for session in self.sessions.probes.values():
                session.clock_set(step_ns)
            line = f"the collector's own clock was set: it is {off_by(step_ns)} of what it was"
            self.report(NodeEvent(None, "clock", line))
        return wall_ns
