"""Decide when members get a new plan or a transfer lease: plans after each change, leases when they are due.

`membership` knows who is connected, `measurement_plan` who measures whom, `transfer_leases` whose transfer is next.
This module decides when to ask them again, and remembers what each session was sent last. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from swarm_collector.members.addresses import access_link_of, hosts_for
from swarm_collector.members.membership import Membership
from swarm_collector.scheduling.measurement_plan import Draft, RttFrom, Scheduler
from swarm_collector.scheduling.transfer_leases import GRACE_NS, LEASE_NS, Candidate, Leases
from swarm_protocol.messages.probe_messages import CollectorMessage, LeaseDone, UplinkGrant, UplinkLease
from swarm_protocol.messages.samples import LinkSample, Sample
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_MS, NS_PER_S

SETTLE_NS: Final = 200 * NS_PER_MS  # joins come in bursts: one round of plans for all of them
SETTLE_A_MEMBER_NS: Final = 2 * NS_PER_MS  # the plans of a large swarm take longer to make
RESTING_FROM: Final = 100  # members; below, making plans costs too little to wait
REST_A_MEMBER_NS: Final = 20 * NS_PER_MS  # between two rounds of plans: making them takes a tenth of it
NEW_REST_A_MEMBER_NS: Final = 4 * NS_PER_MS  # while a new member waits for its first plan
REVIEW_NS: Final = 60 * NS_PER_S  # for nodes that dropped out of plans, and changed distances
UNWATCHED_AFTER_NS: Final = 600 * NS_PER_S  # a viewer that reconnects must not change all plans
FOCUS_EVERY_NS: Final = 2 * NS_PER_S
# changes of the model per second, and at once: each makes every member compute for some 20 s. An operator looks
# through a few models; for all other viewers together, one change in ten minutes is enough to plan with
OPERATORS_CHANGES: Final = (1 / 30, 10.0)
VIEWERS_CHANGES: Final = (1 / 600, 3.0)
# of a small swarm; a longer window has only one or two round trips during a transfer
SHORT_WINDOW_NS: Final = 8 * NS_PER_S
FRESH_NS: Final = 15 * NS_PER_S  # transfers during an older sample, out of a spool, are forgotten


@dataclass(slots=True)
class Dispatcher:
    membership: Membership
    scheduler: Scheduler
    leases: Leases
    rtt_from: RttFrom
    watched_until_ns: int  # a collector that has just started counts as watched: somebody waits for its first figures
    _stale_since_ns: int | None = 0  # since when plans must be made again; None: they are current
    _made_ns: int = 0
    _revision: int = 0
    _sent_revisions: dict[int, int] = field(default_factory=dict)  # session → revision of its last plan
    _focused_ns: int = 0
    _operators_changes: TokenBucket = field(default_factory=lambda: TokenBucket(*OPERATORS_CHANGES))
    _viewers_changes: TokenBucket = field(default_factory=lambda: TokenBucket(*VIEWERS_CHANGES))

    def changed(self, now_ns: int) -> None:
        """Note that a member came, went, moved or was renamed."""
        if self._stale_since_ns is None:
            self._stale_since_ns = now_ns

    def watched(self, now_ns: int) -> None:
        """Note that somebody watches the swarm now."""
        if now_ns >= self.watched_until_ns:
            self.changed(now_ns)
        self.watched_until_ns = now_ns + UNWATCHED_AFTER_NS

    def focus(self, focus: Focus, now_ns: int, *, operator: bool = True) -> str | None:
        """Measure for another model; return None, or why not. Raises FocusError for a model that cannot be measured."""
        if self.scheduler.keeps(focus):
            return None
        if now_ns - self._focused_ns < FOCUS_EVERY_NS:
            return "the model was changed a moment ago; try again in 2 seconds"
        changes = self._operators_changes if operator else self._viewers_changes
        if not changes.allows(now_ns):
            again_s = math.ceil(1 / changes.per_s)
            return (
                f"the model was changed too often lately, and every machine measures it again; try again in {again_s} s"
            )
        self.scheduler.set_focus(focus)
        changes.wait_s(now_ns)
        self._focused_ns = now_ns
        self.changed(now_ns)
        return None

    def lease_done(self, done: LeaseDone, by: str, now_ns: int) -> bool:
        known = self.leases.done(done.lease_id, by, now_ns, begun=done.begun)
        if known and not done.ok:
            self.leases.again(by, now_ns)
        return known

    def beside_transfers(self, samples: Sequence[Sample], wall_ns: int, now_ns: int) -> tuple[Sample, ...]:
        """Mark windows of round trips with a node that took part in a transfer as loaded: the node's own probe knows of
        it and marks its windows; those who measure it from elsewhere do not. `now_ns`: steady."""
        if self.leases.recent.isdisjoint([sample.peer for sample in samples if type(sample) is LinkSample]):
            return tuple(samples)
        return tuple([self._beside(sample, wall_ns, now_ns) for sample in samples])

    def transferring(self, peers: Iterable[str]) -> bool:
        """Return whether one of these nodes may have taken part in a transfer of late."""
        return not self.leases.recent.isdisjoint(peers)

    def _beside(self, sample: Sample, wall_ns: int, now_ns: int) -> Sample:
        if not isinstance(sample, LinkSample) or sample.loaded or abs(wall_ns - sample.at_ns) > FRESH_NS:
            return sample
        ended_ns = now_ns - (wall_ns - sample.at_ns)
        if not self.leases.touched(sample.peer, ended_ns - SHORT_WINDOW_NS, ended_ns):
            return sample
        return msgspec.structs.replace(sample, loaded=True)

    def gone(self, session: int) -> None:
        self._sent_revisions.pop(session, None)

    def due(self, now_ns: int) -> Iterator[tuple[int, CollectorMessage] | None]:
        """Yield (session, message) to send now, and None from time to time, so that other tasks can run. Plans are made
        one by one, so that those of a large swarm need not be in memory at once; exhaust the iterator before the next
        call."""
        if now_ns >= self._plans_ns():
            yield from self._make_plans(now_ns)
        for lease in self.leases.poll(now_ns):
            member = self.membership.get(lease.src)
            if member is None or member.session is None:
                self.leases.done(lease.lease_id, lease.src, now_ns, begun=False)  # nobody to send it to
                continue
            message = UplinkLease(
                lease_id=lease.lease_id, peer=lease.dst, max_bytes=lease.max_bytes, expires_ms=LEASE_NS / NS_PER_MS
            )
            receiver = self.membership.get(lease.dst)
            if receiver is not None and receiver.session is not None:  # first: without a grant it refuses the transfer
                yield (
                    receiver.session,
                    UplinkGrant(
                        lease_id=lease.lease_id,
                        peer=lease.src,
                        max_bytes=lease.max_bytes,
                        expires_ms=LEASE_NS / NS_PER_MS,
                    ),
                )
            yield member.session, message

    def next_ns(self, now_ns: int) -> int:
        return min(self._plans_ns(), self.leases.next_ns(now_ns))

    def _plans_ns(self) -> int:
        members = self.membership.sessions
        settle_ns = SETTLE_NS + SETTLE_A_MEMBER_NS * members
        rest_ns = 0
        if members >= RESTING_FROM:
            rest_ns = members * (NEW_REST_A_MEMBER_NS if len(self._sent_revisions) < members else REST_A_MEMBER_NS)
        if self._stale_since_ns is None:
            return self._made_ns + max(REVIEW_NS, rest_ns)
        return max(self._stale_since_ns + settle_ns, self._made_ns + rest_ns)

    def _make_plans(self, now_ns: int) -> Iterator[tuple[int, CollectorMessage] | None]:
        members = self.membership.in_plans(now_ns)
        self._stale_since_ns, self._made_ns = None, now_ns
        self._revision = max(self._revision + 1, now_ns // NS_PER_MS)  # rises over restarts too
        candidates, left = [], self.membership.left(now_ns)
        plans = self.scheduler.plans(
            members, self.rtt_from, watched=now_ns < self.watched_until_ns, revision=self._revision
        )
        for draft in plans:
            if draft is None:
                yield None
                continue
            member = draft.member
            if member.session is None:  # also one that left while these were made
                continue
            candidates.append(Candidate(member.node_id, access_link_of(member.where), _reachable(draft)))
            slower = self.membership.fewer_heartbeats(member)
            if slower or self._sent_revisions.get(member.session) != draft.revision:
                self._sent_revisions[member.session] = draft.revision
                beat_ms = member.beat_ns / NS_PER_MS if slower else None
                yield member.session, msgspec.structs.replace(draft.plan(), left=left, heartbeat_ms=beat_ms)
        self.leases.candidates(candidates, now_ns)


def _reachable(draft: Draft) -> tuple[str, ...]:
    """Return whom a member measures and can send to."""
    return tuple(
        peer.node_id
        for peer in draft.own
        if peer.hello is not None
        and (peer.hello.tcp_port or peer.hello.quic)
        and hosts_for(peer.where, draft.member.where)
    )


def first_lease_ns(now_ns: int, *, fresh: bool) -> int:
    """Return when a collector that starts now may grant its first lease: before its restart it may have granted one."""
    return now_ns if fresh else now_ns + LEASE_NS + GRACE_NS
