"""The collector's parts put together, and what passes between its sessions.

Sessions (`probe_session`, `viewer_session`) come here for everything that is shared: who is a member, what the store
took, what the live Swarm shows. Decisions are made in the pure parts; this hands them the time and carries out what
they say.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import WSCloseCode

from swarm_collector import health
from swarm_collector.changes.monitor import ChangeMonitor
from swarm_collector.clock import Clock, StepWatch
from swarm_collector.cluster import (
    BatchCommitted,
    Cluster,
    FocusChanged,
    HeartbeatSeen,
    LeaseEnded,
    NatReported,
    ProbeLeft,
    RemoteProbe,
)
from swarm_collector.ingest.batch_intake import BatchIntake
from swarm_collector.ingest.batch_validation import off_by
from swarm_collector.ingest.quotas import Newcomers
from swarm_collector.ingest.store_client import StoreClient
from swarm_collector.ingest.store_watch import Storekeeping
from swarm_collector.members.admission import Admissions
from swarm_collector.members.membership import REPLACED_RETRY_NS, Admitted, Member, Membership, NodeEvent
from swarm_collector.members.presence import A_MOMENT_NS, restored
from swarm_collector.members.register import Register
from swarm_collector.members.rendezvous import Rendezvous
from swarm_collector.scheduling.dispatcher import UNWATCHED_AFTER_NS, Dispatcher, first_lease_ns
from swarm_collector.scheduling.measurement_plan import FULL_MESH, FocusError, Scheduler, check_focus
from swarm_collector.scheduling.survey import EVERY_S, Survey, columns_of, survey
from swarm_collector.scheduling.transfer_leases import DAY_NS, Leases
from swarm_collector.sessions import probe_session, viewer_session
from swarm_collector.sessions.running_report import checked
from swarm_collector.sessions.viewer_stream import Feed, Hub, Outbox
from swarm_collector.settings import Settings
from swarm_collector.transport.keepalive import SessionOver
from swarm_collector.transport.log_limit import because
from swarm_collector.transport.relay_limits import RelayLimits
from swarm_collector.transport.stun_server import StunServer
from swarm_collector.verification.anomaly_monitor import AnomalyMonitor
from swarm_collector.verification.attestation_runner import AttestationRunner
from swarm_protocol.messages.probe_messages import CollectorMessage, Heartbeat, LeaseDone, Reach, Refused, Relay
from swarm_protocol.messages.samples import RooflineSample, RunSample, Sample
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.running import MAX_DETAIL, RUNNING_SETTING, Running, detail_of, tidy
from swarm_protocol.snapshot.swarm import State, Swarm
from swarm_protocol.supervisor import Supervisor
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS, NS_PER_S
from swarm_storage.history.recording import NodeRow

FORGET_AFTER_S: Final = 1.0
FOCUS_SETTING: Final = "focus"
SENT_AT_ONCE: Final = 8
POLL_S: Final = 1.0  # how late a lost node may be told
GATHER_S: Final = 0.02  # what is asked for in a burst of joins is looked at once
LOOK_EVERY_NS: Final = NS_PER_S // 2
LOOK_A_MEMBER_NS: Final = NS_PER_MS // 2  # every 5 s in a swarm of ten thousand, which takes 20 ms

_log = logging.getLogger("swarm_collector")


class SwarmState:
    def __init__(self, settings: Settings, store_client: StoreClient, clock: Clock, rng: random.Random) -> None:
        self.settings = settings
        self.token = settings.token
        self.limits = settings.limits
        self.pulse = settings.pulse
        self.clock = clock
        self.store_client = store_client
        self.address = ""  # host:port as listened on
        now_ns = clock.steady_ns()
        self.started_ns = clock.wall_ns()
        self._set = StepWatch(clock.wall_ns(), now_ns)
        self.membership = Membership(settings.token)
        self.builder = SwarmBuilder()
        known = store_client.restore(self.builder, clock.wall_ns())
        self.membership.restore((row.node_id, row.name) for row in known)
        self.register = Register(store_client.settings())
        self.admissions = Admissions(self)
        if self.register.unreadable:
            _log.warning("%d rows of invites and members cannot be read; they are left alone", self.register.unreadable)
        self._restore_present(known, now_ns)
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
            scheduler=Scheduler(settings.secret, self._first_focus()),
            leases=leases,
            rtt_from=self._rtt_from,
            watched_until_ns=now_ns + UNWATCHED_AFTER_NS,
        )
        self._survey = Survey()
        self.anomaly_monitor = AnomalyMonitor(self.membership, self.register, self.builder.rtt_from, self.tell, now_ns)
        self.newcomers = Newcomers()
        self.stun = StunServer(clock.steady_ns)
        self.relays = RelayLimits()
        self.rendezvous = Rendezvous(self.membership.get)
        self.intake = BatchIntake(
            store_client.submit, self._store_trouble, self._store_recovered, rng, store_client.fullness
        )
        self.parts = Supervisor(_log)
        self.storekeeping = Storekeeping(store_client, self.intake)
        self.hub = Hub(self.snapshot)
        self.cluster = Cluster(self)
        self._probes: dict[int, probe_session.ProbeSession | RemoteProbe] = {}
        self._viewers: dict[int, viewer_session.ViewerSession] = {}
        self.sessions_ended = 0  # with a reason to log
        self.attestation = AttestationRunner(clock, self._send_to, self.tell)
        self.attestation.judged.append(self.anomaly_monitor.challenged)
        self.changes = ChangeMonitor(
            self.membership,
            clock,
            self.snapshot,
            lambda: self.dispatcher.scheduler.focus,
            self.tell,
            lambda: self.cluster.leading,
        )
        self._poke = asyncio.Event()
        if known:
            _log.info("the store knows %d nodes", len(known))

    def _restore_present(self, known: Sequence[NodeRow], now_ns: int) -> None:
        """Members that were there when the collector ended stay in plans, if that was a moment ago."""
        ended_ns = max((self._last_heard_ns(row) for row in known), default=0)
        if self.started_ns - ended_ns > A_MOMENT_NS:
            return
        for row in known:
            kept = restored(row.presence, row.facts) if row.presence is not None else None
            revoked = self.register.row(row.node_id).revoked_ns
            if kept is not None and not revoked and self.started_ns - self._last_heard_ns(row) <= A_MOMENT_NS:
                self.membership.was_present(row.node_id, *kept, now_ns)

    def _last_heard_ns(self, row: NodeRow) -> int:
        return min(row.seen_ns, self.started_ns)

    def _first_focus(self) -> Focus:
        """What was measured for when the collector ended, unless its operator names a model now."""
        kept = None if self.settings.focus_is_named else self.store_client.settings().get(FOCUS_SETTING)
        if kept is None:
            return self.settings.focus
        try:
            focus = msgspec.json.decode(kept, type=Focus)
            check_focus(focus)
        except (msgspec.DecodeError, FocusError) as error:
            _log.warning("the model kept in the store cannot be used (%s)", safe(str(error)))
            return self.settings.focus
        return focus

    # ------------------------------------------------------------ what is known

    def snapshot(self) -> Swarm:
        return self.builder.snapshot(self.clock.wall_ns(), self.address)

    def _rtt_from(self, node_id: str) -> dict[str, float]:
        """What was measured, and who would be near by estimate: that is how it comes to be measured."""
        return {**self._survey.near(node_id), **self.builder.rtt_from(node_id)}

    def knows(self, node_id: str) -> bool:
        return self.membership.get(node_id) is not None

    async def forget(self, node_id: str) -> int:
        """Everything of this node, in the store and on screens; how many rows went. Raises StoreError."""
        member = self.membership.get(node_id)
        if member is not None and member.session is not None and (session := self._probes.get(member.session)):
            session.send(Refused(reason="forgotten, as its owner asked", final=True))
            session.end(SessionOver("forgotten, as its owner asked"))
            await asyncio.sleep(FORGET_AFTER_S)  # what it sent last is in before all is taken out
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
        for told in self.membership.rename(member, name):
            self.tell(told)
        if member.hello is not None:
            self.builder.node(
                member.node_id,
                member.name,
                host=member.where.observed if self.settings.show_addresses else "",
                state=State.OK if member.session is not None else State.LEFT,
            )
        self.replan()
        self.hub.changed()

    def turn_out(self, member: Member, refused: Refused) -> None:
        """Ends the session of a member that is one no longer."""
        if member.session is not None and (session := self._probes.get(member.session)) is not None:
            session.send(refused)
            session.end(SessionOver(refused.reason))
        self.membership.out(member, self.clock.steady_ns())
        self.store_client.present(member)
        self.tell(NodeEvent(member.node_id, "left", refused.reason))
        self.replan()

    @property
    def probe_count(self) -> int:
        """Connected here."""
        return len(self._probes) - self.cluster.remote_probes

    @property
    def viewer_count(self) -> int:
        return len(self._viewers)

    def states(self) -> list[int]:
        """Of every node, as of now."""
        return self.builder.states(self.clock.wall_ns())

    def health(self) -> dict[str, object]:
        return health.health(self)

    def wall_ns(self) -> int:
        """The time that samples are dated by. Notices when the clock has been set."""
        wall_ns = self.clock.wall_ns()
        if step_ns := self._set.step_ns(wall_ns, self.clock.steady_ns()):
            for session in self._probes.values():
                session.clock_set(step_ns)
            self.tell(
                NodeEvent(None, "clock", f"the collector's own clock was set: it is {off_by(step_ns)} of what it was")
            )
        return wall_ns

    # ------------------------------------------------------------ probes

    def probe_came(self, session: probe_session.ProbeSession, outcome: Admitted) -> None:
        member = outcome.member
        if outcome.replaced is not None and (old := self._probes.pop(outcome.replaced, None)) is not None:
            reason = "another session of this node took over; do two probes share one state folder?"
            old.send(Refused(reason=reason, final=False, retry_ms=REPLACED_RETRY_NS / NS_PER_MS))
            old.end(SessionOver(reason))
            self.dispatcher.gone(outcome.replaced)
        self.cluster.left(member.node_id)
        self._probes[session.number] = session
        self.stun.member_came(session.number, member.where.observed)
        self.cluster.came(member)
        assert member.hello is not None
        self.attestation.came(session.number, member)
        self.builder.expect_every(member.beat_ns)
        self.builder.node(
            member.node_id,
            member.name,
            member.hello.facts,
            host=member.where.observed if self.settings.show_addresses else "",
            seen_ns=self.clock.wall_ns(),
            state=State.OK,
        )
        for told in outcome.events:
            self.tell(told)
        self.hub.changed()

    def holds(self, node_id: str) -> bool:
        """Its session is here, at this collector."""
        member = self.membership.get(node_id)
        return member is not None and member.session in self._probes

    def probe_heard(self, session: probe_session.ProbeSession, member: Member, now_ns: int) -> None:
        if member.session == session.number:
            self.membership.heard(session.number, now_ns)

    def heartbeat(self, member: Member, heartbeat: Heartbeat) -> None:
        self.builder.seen(member.node_id, self.clock.wall_ns(), heartbeat.spooled)
        self.cluster.tell(HeartbeatSeen(member.node_id, heartbeat.spooled))
        self.hub.changed()

    def reached(self, session: int, reach: Reach) -> None:
        if reach.nat == "udp-blocked" and not self.stun.proven:
            reach = Reach()  # nobody's datagrams have ever come here: it may be this end that lets none through
        if self.membership.reached(session, reach):
            if (member := self.membership.of_session(session)) is not None:
                self.store_client.present(member)
                self.cluster.tell(NatReported(member.node_id, reach))
            self.replan()

    def relay(self, session: probe_session.ProbeSession, member: Member, message: Relay) -> None:
        """Hands bytes on between two members that nothing else connects: within limits, and to one that is here."""
        target = self.membership.get(message.peer)
        there = self._probes.get(target.session) if target is not None and target.session is not None else None
        if there is None or not self.relays.may_pass(member.node_id, len(message.data), self.clock.steady_ns()):
            if not message.end:
                session.send(msgspec.structs.replace(message, data=b"", opened_here=not message.opened_here, end=True))
            return
        there.send(msgspec.structs.replace(message, peer=member.node_id))

    def explained(self, member: Member, samples: Sequence[Sample], wall_ns: int) -> tuple[Sample, ...]:
        """The samples with what this collector alone can say: of transfers meanwhile, and of links without a path."""
        samples = self.dispatcher.beside_transfers(samples, wall_ns, self.clock.steady_ns())
        return self.rendezvous.explained(member, samples, wall_ns, stun_proven=self.stun.proven)

    def lease_done(self, member: Member, done: LeaseDone) -> None:
        if not self.cluster.leading:
            self.cluster.tell(LeaseEnded(member.node_id, done))
        elif self.dispatcher.lease_done(done, member.node_id, self.clock.steady_ns()):
            if not done.ok:
                _log.info("%s could not use its lease: %s", member.name, safe(done.detail))
            self._poke.set()

    def _send_to(self, session: int, message: CollectorMessage) -> None:
        if (probe := self._probes.get(session)) is not None:
            probe.send(message)

    def committed(self, member: Member, samples: Sequence[Sample]) -> None:
        """The store has these: now the live Swarm may show them."""
        for sample in samples:
            if isinstance(sample, RooflineSample):
                self.attestation.doubt(member, sample)
        for sample in samples:
            self.builder.sample(member.node_id, sample)
            self.anomaly_monitor.committed(member.node_id, sample)
            self.changes.committed(member.node_id, sample)
        self.cluster.tell(BatchCommitted(member.node_id, tuple(samples)))
        for uplink in probe_session.uplinks(samples):
            self.dispatcher.leases.spent(member.node_id, uplink.peer, uplink.sent_bytes, self.clock.steady_ns())
        self.hub.changed()

    def probe_gone(self, session: probe_session.ProbeSession, goodbye: str | None) -> None:
        self._probes.pop(session.number, None)
        self.stun.member_gone(session.number)
        self.dispatcher.gone(session.number)
        self.attestation.gone(session.number)
        member = self.membership.of_session(session.number)
        if member is None:
            return  # never admitted, or replaced: the node is somebody else's session now
        self.relays.forget(member.node_id)
        told = self.membership.gone(session.number, self.clock.steady_ns(), goodbye)
        self.cluster.tell(ProbeLeft(member.node_id, goodbye))
        if goodbye is not None:
            self.dispatcher.leases.left(member.node_id)
            self.store_client.present(member)
            self.builder.state(member.node_id, State.LEFT, self.clock.wall_ns())
        if told is not None:
            self.tell(told)
        self.replan()
        self.hub.changed()

    def replan(self) -> None:
        self.dispatcher.changed(self.clock.steady_ns())
        self._poke.set()

    # ------------------------------------------------------------ other collectors

    def lead(self) -> None:
        """From now on this collector plans: who did so before may have granted a lease just now."""
        now_ns = self.clock.steady_ns()
        self.dispatcher.leases.not_before_ns = first_lease_ns(now_ns, fresh=False)
        self.replan()

    def adopted(self, remote: RemoteProbe, replaced: int | None, farewell: Refused) -> None:
        """A node's session is at another collector now."""
        if replaced is not None and (old := self._probes.pop(replaced, None)) is not None:
            old.send(farewell)
            old.end(SessionOver(farewell.reason))
            self.dispatcher.gone(replaced)
        self._probes[remote.number] = remote

    def forget_session(self, number: int) -> None:
        self._probes.pop(number, None)
        self.dispatcher.gone(number)

    def deliver(self, node_id: str, message: CollectorMessage | None) -> None:
        """What the leader has for a probe that is connected here."""
        member = self.membership.get(node_id)
        if message is not None and member is not None and member.session is not None:
            session = self._probes.get(member.session)
            if session is not None and not isinstance(session, RemoteProbe):
                session.send(message)

    def poke(self) -> None:
        self._poke.set()

    # ------------------------------------------------------------ viewers

    def viewer_came(self, viewer: viewer_session.ViewerSession, outbox: Outbox, rate_hz: float) -> Feed:
        self._viewers[viewer.number] = viewer
        self.dispatcher.watched(self.clock.steady_ns())
        self._poke.set()
        if self.intake.trouble is not None:
            viewer.notice(f"nothing is stored now: {self.intake.trouble}")
        return self.hub.join(outbox, rate_hz)

    def viewer_gone(self, viewer: viewer_session.ViewerSession, outbox: Outbox, feed: Feed) -> None:
        self._viewers.pop(viewer.number, None)
        self.hub.leave(outbox, feed)
        self.dispatcher.watched(self.clock.steady_ns())

    def focus(self, focus: Focus, *, operator: bool) -> str | None:
        """None, or why the model in question stays. Raises FocusError. It sets every machine to work: where anybody may
        watch, only the operator changes it."""
        before = self.dispatcher.scheduler.focus
        if focus != before and not operator and not self.token:
            return (
                "only this swarm's operator changes the model that is measured, since anybody may watch it; "
                "run swarmtop as the collector's user on its machine, or give the collector a token"
            )
        refusal = self.dispatcher.focus(focus, self.clock.steady_ns(), operator=operator)
        if refusal is None and focus != before:
            self.tell(NodeEvent(None, "note", f"measuring for {safe(focus.model)} in {safe(focus.dtype)} from now on"))
            self.store_client.set_setting(FOCUS_SETTING, msgspec.json.encode(focus).decode())
            self.cluster.tell(FocusChanged(focus))
            self._poke.set()
        return refusal

    async def keep_run(self, run: RunSample) -> None:
        """What somebody who watches an engine saw. Raises StoreError where the store does not take it."""
        shown = {name: safe(getattr(run, name), limit=300) for name in ("endpoint", "model", "label")}
        placement = tidy(run.placement) or ""
        run = msgspec.structs.replace(run, at_ns=self.wall_ns(), placement=placement, **shown)
        await self.store_client.run(run)
        self.builder.run(run)
        self.hub.changed()

    def set_running(self, told: Running) -> str:
        """What the swarm runs from now on: an event for all viewers and recordings. Empty, or why it is refused."""
        found = checked(told, lambda name: self.membership.named(name) is not None, self.clock.wall_ns())
        if isinstance(found, str):
            return found
        self.store_client.set_setting(RUNNING_SETTING, msgspec.json.encode(found).decode())
        self.tell(NodeEvent(None, "running", detail_of(found)))
        return ""

    # ------------------------------------------------------------ telling people

    def tell(self, told: NodeEvent) -> None:
        """One line in the log, one event in the Swarm and in the store."""
        member = self.membership.get(told.node_id) if told.node_id is not None else None
        at_ns = self.clock.wall_ns()
        detail = safe(told.detail, limit=MAX_DETAIL if told.kind == "running" else 300)
        _log.info("%s%s: %s", f"{member.name} " if member else "", told.kind, detail, extra=because(told.kind))
        self.builder.event(at_ns, told.node_id, told.kind, detail)
        self.store_client.event(at_ns, told, detail)
        self.cluster.said(at_ns, told, detail)
        self.hub.changed()

    def session_line(self, text: str, member: Member | None = None) -> None:
        """Why a session ended, to the log. What strangers do there does not hide what becomes of members."""
        self.sessions_ended += 1
        _log.info("%s", text, extra=because("a member's session" if member is not None else "a stranger's session"))

    def _store_trouble(self, reason: str) -> None:
        line = f"nothing is stored now: {safe(reason, limit=250)}"
        _log.error("%s", line)
        self.builder.event(self.clock.wall_ns(), None, "disk", line)  # the store itself cannot take it
        self._notice(line)

    def _store_recovered(self, was: str) -> None:
        _log.warning("storing again (it was: %s)", safe(was))
        line = "storing again; the probes have kept what was measured meanwhile"
        self.tell(NodeEvent(None, "disk", line))
        self._notice(line)

    def _notice(self, line: str) -> None:
        for viewer in self._viewers.values():
            viewer.notice(line)
        self.hub.changed()

    # ------------------------------------------------------------ going on

    async def conduct(self) -> None:
        """Sends plans and leases as they are due, and tells who was lost; until cancelled."""
        looked_ns = 0
        while True:
            self.wall_ns()
            now_ns = self.clock.steady_ns()
            if self._viewers or self.cluster.watched:
                self.dispatcher.watched(now_ns)
            self.anomaly_monitor.look_when_due(now_ns)
            if now_ns >= looked_ns + max(LOOK_EVERY_NS, LOOK_A_MEMBER_NS * len(self._probes)):
                looked_ns = now_ns
                for session in tuple(self._probes.values()):
                    session.look(now_ns)
                for told in self.membership.poll(now_ns):
                    if self.cluster.leading:  # the others hear of it
                        self.tell(told)
            due = self.dispatcher.due(now_ns) if self.cluster.leading else ()
            for count, (number, message) in enumerate(due, start=1):
                if (probe := self._probes.get(number)) is not None:
                    probe.send(message)
                if count % SENT_AT_ONCE == 0:
                    await asyncio.sleep(0)  # ten thousand plans take seconds: batches go on meanwhile
            wait_s = (self.dispatcher.next_ns(now_ns) - self.clock.steady_ns()) / NS_PER_S
            if not self.cluster.leading:
                wait_s = POLL_S
            self._poke.clear()
            try:
                async with asyncio.timeout(max(0.01, min(wait_s, POLL_S))):
                    await self._poke.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_S)

    async def look_over(self) -> None:
        """Keeps coordinates and the links worth measuring up to date in a large swarm; until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            if self.membership.sessions <= FULL_MESH:
                continue
            pairs, focus = self.builder.least_rtts(), self.dispatcher.scheduler.focus
            found = await asyncio.to_thread(survey, self.snapshot(), pairs, focus, self._survey)
            if found.why_not != self._survey.why_not and found.why_not:
                _log.info("no placement to measure for: %s", safe(found.why_not))
            self._survey = found
            if found.coordinates is not None:
                self.builder.place(found.ids, columns_of(found.coordinates))
                self.hub.changed()
            if self.dispatcher.scheduler.want(found.wanted):
                self.replan()

    def end_sessions(self, reason: str) -> None:
        over = SessionOver(reason, WSCloseCode.GOING_AWAY)
        for probe in tuple(self._probes.values()):
            probe.end(over)
        for viewer in tuple(self._viewers.values()):
            viewer.end(over)
