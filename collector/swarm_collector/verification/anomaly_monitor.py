"""Compare what members measure of each other, and report each new anomaly once.

`anomalies` defines what an anomaly is; this passes it what the live Swarm knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from swarm_collector.members.addresses import is_public
from swarm_collector.members.join_rules import Register
from swarm_collector.members.membership import Member, Membership, NodeEvent
from swarm_collector.verification.anomalies import (
    Anomalies,
    Reporter,
    are_ordinary,
    is_instant,
    is_ordinary,
    network_of,
)
from swarm_collector.verification.compute_attestation import Verdict
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import LinkSample, Sample, UplinkSample
from swarm_protocol.units import NS_PER_S

LOOK_EVERY_NS: Final = 15 * NS_PER_S
MAX_COMPARED: Final = 500  # members whose links are all compared together
_JUDGED: Final = (LinkSample, UplinkSample)


class AnomalyMonitor:
    """Reports anomalies. `rtt_from`: node id → its peers' ids and the lowest round trip to each, in ms."""

    def __init__(
        self,
        membership: Membership,
        register: Register,
        rtt_from: Callable[[str], dict[str, float]],
        report: Callable[[NodeEvent], None],
        now_ns: int,
    ) -> None:
        self._membership = membership
        self._register = register
        self._rtt_from = rtt_from
        self._report = report
        self._looked_ns = now_ns
        self._anomalies = Anomalies()

    def of(self, node_id: str) -> tuple[str, ...]:
        """Return why this node's figures are in doubt."""
        return self._anomalies.of(node_id, self._name_of)

    def committed(self, node_id: str, samples: Iterable[Sample], links: LinkColumns | None = None) -> None:
        """Check stored samples of this node, and windows in columns. Networks are compared only if a figure looks too
        good: there are thousands of samples a second."""
        if links is not None and not are_ordinary(links):
            samples = chain(links.samples(), samples)
        for sample in samples:
            if isinstance(sample, _JUDGED) and not is_ordinary(sample):
                near = not is_instant(sample) or self._near(node_id, sample.peer)
                self._anomalies.add(node_id, sample, same_network=near)

    def _near(self, node_id: str, peer: str) -> bool:
        """Return whether both may be in one local network."""
        one, other = self._membership.get(node_id), self._membership.get(peer)
        if one is None or other is None or not is_public(one.where.observed):
            return True
        return network_of(one.where.observed) == network_of(other.where.observed)

    def challenged(self, verdict: Verdict) -> None:
        self._anomalies.challenged(verdict.node_id, None if verdict.passed else verdict.detail)

    def forget(self, node_id: str) -> None:
        self._anomalies.forget(node_id)

    def look_when_due(self, now_ns: int) -> None:
        if now_ns >= self._looked_ns + LOOK_EVERY_NS:
            self._looked_ns = now_ns
            self.look()

    def look(self) -> None:
        members = self._membership.connected()
        if len(members) <= MAX_COMPARED:
            rtts = {
                (member.node_id, dst): rtt_ms
                for member in members
                for dst, rtt_ms in self._rtt_from(member.node_id).items()
            }
            self._anomalies.look(rtts, {member.node_id: self._reporter(member) for member in members})
        for node_id, doubt in self._anomalies.news([member.node_id for member in members], self._name_of):
            self._report(NodeEvent(node_id, "note", f"in doubt: {doubt}"))

    def _reporter(self, member: Member) -> Reporter:
        return Reporter(self._register.row(member.node_id).label, network_of(member.where.observed))

    def _name_of(self, node_id: str) -> str:
        member = self._membership.get(node_id)
        return member.name if member is not None else node_id
