"""Decide whether a probe may join: its protocol, the proof of its key, the rate of new members, then the store."""

from __future__ import annotations

from dataclasses import dataclass

from swarm_collector.clock import Clock
from swarm_collector.ingest.quotas import NewMemberQuota
from swarm_collector.members.addresses import is_public
from swarm_collector.members.admission import Admissions, unproven
from swarm_collector.members.join_rules import Joiner, Register
from swarm_collector.members.membership import Admitted, Membership, Rejected, other_protocol
from swarm_collector.settings import Settings
from swarm_collector.verification.anomalies import network_of
from swarm_protocol.messages.probe_messages import Hello


@dataclass(frozen=True, slots=True)
class Arrival:
    """The connection that a hello came over."""

    session: int
    nonce: bytes  # what the probe had to sign
    observed: str  # its address
    reached: str  # the collector's address that it connected to
    own: tuple[str, int] | None  # this end of a plain-text connection; None: TLS


@dataclass(frozen=True, slots=True)
class Joined:
    admitted: Admitted
    stored: bool  # False: admitted by this collector's copy, while the store accepts nothing


class JoinRequests:
    def __init__(
        self, settings: Settings, clock: Clock, membership: Membership, register: Register, admissions: Admissions
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._membership = membership
        self._register = register
        self._admissions = admissions
        self._newcomers = NewMemberQuota()

    async def decide(self, hello: Hello, arrival: Arrival) -> Joined | Rejected:
        joiner = await self._joiner(hello, arrival)
        if isinstance(joiner, Rejected):
            return joiner
        outcome = self._membership.admit(
            arrival.session,
            hello,
            arrival.observed,
            arrival.reached,
            self._clock.steady_ns(),
            node_id=joiner.node_id,
            name=joiner.name,
            vouched=True,
        )
        return outcome if isinstance(outcome, Rejected) else Joined(outcome, joiner.stored)

    async def _joiner(self, hello: Hello, arrival: Arrival) -> Joiner | Rejected:
        if (outdated := other_protocol(hello)) is not None:
            return outdated
        settings = self._settings
        wrong = unproven(
            hello, "join", arrival.nonce, settings.collector_id, settings.bound_to(arrival.own), arrival.own
        )
        if wrong is not None:
            return wrong
        node_id = self._register.id_of_key(hello.public_key, lambda known: self._membership.get(known) is not None)
        if not hello.invite and self._membership.get(node_id) is None and is_public(arrival.observed):
            wait_s = self._newcomers.wait_s(network_of(arrival.observed), self._clock.steady_ns())
            if wait_s:
                reason = "too many new machines from your network lately; come back later, or with an invite"
                return Rejected(reason, final=False, retry_ms=wait_s * 1e3)
        return await self._admissions.admit(hello, arrival.observed)
