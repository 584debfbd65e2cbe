"""Act on what probes' sessions report: turn it into events of the swarm, and answer requests of sessions.

`SwarmState` applies the events; what is done here happens only at the collector that holds the session.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from swarm_collector.cluster.connection import ProbeConnection
from swarm_collector.cluster.events import BatchCommitted, HeartbeatSeen, LeaseEnded, NatReported, ProbeLeft, joined
from swarm_collector.members.addresses import is_public
from swarm_collector.members.membership import Admitted, Member, NodeEvent
from swarm_collector.members.rendezvous import Rendezvous
from swarm_collector.sessions.data_requests import DataRequests
from swarm_collector.sessions.join_requests import JoinRequests
from swarm_collector.state import SwarmState
from swarm_collector.transport.relay_limits import RelayLimits
from swarm_collector.verification.compute_attestation import Answered
from swarm_protocol.messages.column_batch import LinkColumns, in_order
from swarm_protocol.messages.probe_messages import Heartbeat, LeaseDone, Reach, Relay
from swarm_protocol.messages.samples import HopSample, LinkSample, RooflineSample, Sample
from swarm_protocol.text import safe
from swarm_storage.writer.transaction import NodeBatch


class ProbeService:
    """`sessions.interfaces.ProbeSwarm` for the sessions of this collector."""

    def __init__(self, state: SwarmState) -> None:
        self._state = state
        self.clock = state.clock
        self.limits = state.settings.limits
        self.pulse = state.settings.pulse
        self.intake = state.intake
        self.store_client = state.store_client
        self.report = state.report
        self.replan = state.replan
        self.wall_ns = state.wall_ns
        self.session_line = state.session_line
        self.knows = state.knows
        self.beat_ns = state.membership.beat_ns
        self.member_ids = state.membership.ids
        self.is_verified = state.attestation.verified
        self.join_requests = JoinRequests(
            state.settings, state.clock, state.membership, state.register, state.admissions
        )
        self.data_requests = DataRequests(
            state.settings, state.membership, state.register, state.store_client, state.forget
        )
        self._relays = RelayLimits()
        self._rendezvous = Rendezvous(state.membership.get)

    @property
    def stun_ports(self) -> tuple[int, ...]:
        return self._state.stun.ports

    def probe_joined(self, session: ProbeConnection, outcome: Admitted) -> None:
        member = outcome.member
        self._state.publish(joined(member), session)
        self._state.stun.member_came(session.number, member.where.observed)
        self._state.attestation.came(session.number, member)
        for event in outcome.events:
            self._state.report(event)

    def probe_heard(self, session: ProbeConnection, member: Member, now_ns: int) -> None:
        if member.session == session.number:
            self._state.membership.heard(session.number, now_ns)

    def heartbeat(self, session: ProbeConnection, member: Member, heartbeat: Heartbeat) -> None:
        self._state.publish(HeartbeatSeen(member.node_id, heartbeat.spooled), session)

    def nat_reported(self, session: ProbeConnection, member: Member, reach: Reach) -> None:
        if reach.nat == "udp-blocked" and not self._state.stun.proven:
            reach = Reach()  # no datagram has ever arrived here: this collector's own network may block them
        if member.session == session.number and member.reach != reach:
            self._state.publish(NatReported(member.node_id, reach), session)
            self._state.store_client.present(member)

    def challenge_answered(self, session: ProbeConnection, member: Member, message: Answered) -> None:
        self._state.attestation.heard(session.number, member, message)

    def relay(self, session: ProbeConnection, member: Member, message: Relay) -> None:
        """Relay bytes between two members without a path, within limits and if the receiver is connected."""
        peer = self._state.sessions.of_node(message.peer)
        if peer is None or not self._relays.may_pass(member.node_id, len(message.data), self._state.clock.steady_ns()):
            if not message.end:
                session.send(msgspec.structs.replace(message, data=b"", opened_here=not message.opened_here, end=True))
            return
        peer.send(msgspec.structs.replace(message, peer=member.node_id))

    def annotated(self, member: Member, samples: Sequence[Sample], wall_ns: int) -> tuple[Sample, ...]:
        """Add what only this collector knows: transfers during a measurement, and why a link has no path."""
        steady_ns = self._state.clock.steady_ns()
        samples = self._state.dispatcher.beside_transfers(samples, wall_ns, steady_ns)
        samples = self._rendezvous.explained(member, samples, wall_ns, steady_ns, stun_proven=self._state.stun.proven)
        return samples if self._state.settings.show_addresses else without_public_addresses(samples)

    def unannotated(self, links: LinkColumns) -> LinkColumns | None:
        """Return windows to which `annotated` has nothing to add, as they may be shown to everybody; None: it has."""
        if "none" in links.path or self._state.dispatcher.transferring(links.peer):
            return None
        if self._state.settings.show_addresses or links.address is None:
            return links
        hidden = tuple([None if each is not None and is_public(each) else each for each in links.address])
        return links if hidden == links.address else msgspec.structs.replace(links, address=hidden)

    def lease_done(self, member: Member, done: LeaseDone) -> None:
        event = LeaseEnded(member.node_id, done)
        self._state.apply(event)
        if not self._state.cluster.leading:
            self._state.cluster.publish(event)

    def batch_committed(self, member: Member, batch: NodeBatch) -> None:
        """Show stored samples, and compare them with what else is known."""
        for sample in batch.samples:
            if isinstance(sample, RooflineSample):
                self._state.attestation.doubt(member, sample)
        samples, links = tuple(batch.samples), batch.links
        if links is not None and any(type(sample) is HopSample for sample in samples):
            # which round trip a hop had depends on which of the two came first
            samples, links = in_order(links, samples, batch.places or ()), None
        self._state.publish(BatchCommitted(member.node_id, samples, links))
        self._state.anomaly_monitor.committed(member.node_id, samples, links)

    def probe_left(self, session: ProbeConnection, goodbye: str | None) -> None:
        self._state.stun.member_gone(session.number)
        self._state.attestation.gone(session.number)
        member = self._state.membership.of_session(session.number)
        if member is None:  # never admitted, forgotten, or replaced by another session
            self._state.sessions.probes.pop(session.number, None)
            self._state.dispatcher.gone(session.number)
            return
        self._relays.forget(member.node_id)
        self._state.publish(ProbeLeft(member.node_id, goodbye), session)
        if goodbye is not None:
            self._state.store_client.present(member)
            self._state.report(NodeEvent(member.node_id, "left", safe(goodbye)))


def without_public_addresses(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the samples as they may be shown to everybody."""
    return tuple(
        [
            sample if type(sample) is LinkSample and sample.address is None else without_public_address(sample)
            for sample in samples
        ]
    )


def without_public_address(sample: Sample) -> Sample:
    """Hide a member's public address, unless the operator shows addresses; a private one does not reveal where it
    is."""
    if isinstance(sample, LinkSample) and sample.address is not None and is_public(sample.address):
        return msgspec.structs.replace(sample, address=None)
    return sample
