"""Grant leases for bounded transfers, so that no two fill the same path at one time.

A transfer disturbs all other traffic on its access links, so no node, and no public address that several nodes share,
is ever part of two at once. A receiver may be slower than the sender, so a node's uplink is measured in rounds: to a
few peers within minutes, those that received longest ago, and then not again for a while. Rounds and the transfers in
them come at exponentially distributed times (so that no other periodic traffic can stay in phase), the sender that has
waited longest first, and every node has a daily budget of bytes.

A lease ends when its sender says so, when the sender leaves with a goodbye, or when it has expired and the messages
about it have had time to arrive. A broken connection does not end it: the transfer runs between two probes and may well
continue. Pure: time and randomness are passed in.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.units import NS_PER_MS, NS_PER_S

LEASE_NS: Final = 20 * NS_PER_S  # 4 MiB over an uplink of 2 Mbit/s
GRACE_NS: Final = 3 * NS_PER_S  # the probe counts from when it hears of the lease
FIRST_WITHIN_NS: Final = 10 * NS_PER_S  # mean wait of a new node's round, and of each transfer in a round
REPEAT_NS: Final = 3600 * NS_PER_S  # mean wait of a sender between two rounds, budget permitting
ROUND_PEERS: Final = 3
# what is not done by then is left out, because a round's figures are compared with each other
ROUND_NS: Final = 600 * NS_PER_S
MAX_BYTES: Final = 4 << 20  # delivers 2.5 × BDP up to 100 Mbit/s at 130 ms
DAILY_BYTES: Final = 16 << 20  # a node's share for transfers, in and out, of the promised 50 MB a day
POLL_REST_NS: Final = NS_PER_MS  # a member: 10 s in a swarm of ten thousand, where every look takes 0.1 s
ROUNDS_AT_ONCE: Final = 500  # begun in one look: of ten thousand that have just joined, all took 0.4 s
DAY_NS: Final = 86_400 * NS_PER_S
QUEUE_NS: Final = 2 * NS_PER_S  # a second of queue at both ends, and the report of the end
RECENT_LEASES: Final = 4  # remembered leases of a node


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that can take part: connected, with a TCP port."""

    node_id: str
    address: str  # public, as the collector sees it: nodes behind one address share an access link
    peers: tuple[str, ...]  # members that it measures


@dataclass(frozen=True, slots=True)
class Lease:
    lease_id: int
    src: str
    dst: str
    max_bytes: int
    expires_ns: int
    link_addresses: frozenset[str]  # public, of both ends, because an end may leave before the lease ends


@dataclass(slots=True)
class _Budget:
    """A token bucket: a day's bytes at most, refilled evenly."""

    left_bytes: float
    at_ns: int


@dataclass(slots=True)
class Leases:
    rng: random.Random
    first_id: int  # ids must not repeat over restarts: the wall clock in ms ensures that
    not_before_ns: int = 0  # a restarted collector does not know what it granted before
    daily_bytes: int = DAILY_BYTES
    _candidates: dict[str, Candidate] = field(default_factory=dict)
    _active: dict[int, Lease] = field(default_factory=dict)
    _round_ns: dict[str, int] = field(default_factory=dict)  # sender → when its next round begins
    _due_ns: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # pair → due, left out from
    _budgets: dict[str, _Budget] = field(default_factory=dict)
    _granted: int = 0
    _sent_ns: dict[str, int] = field(default_factory=dict)  # node → when it last got a lease to send
    _received_ns: dict[str, int] = field(default_factory=dict)  # node → when it was last sent to
    _measured: set[str] = field(default_factory=set)  # senders with a reported transfer
    # node → (from, until) of its last leases
    _recent_leases: dict[str, deque[tuple[int, int]]] = field(default_factory=dict)
    _unsettled: set[tuple[str, str]] = field(default_factory=set)  # leased, no transfer reported yet
    _rested_ns: int = 0  # `poll` does nothing before, because it looks at every node
    _quiet_until_ns: int = 0  # `poll` has nothing to grant before, unless something happens

    def candidates(self, nodes: Iterable[Candidate], now_ns: int) -> None:
        """Set who can take part from now on. Those who stay keep their place in the queue."""
        self._quiet_until_ns = 0
        self._candidates = {node.node_id: node for node in nodes}
        self._measured &= self._candidates.keys()
        for known in (self._round_ns, self._sent_ns, self._received_ns, self._recent_leases):
            for gone in known.keys() - self._candidates.keys():
                del known[gone]
        for pair in [pair for pair in self._due_ns if not self._possible(pair)]:
            del self._due_ns[pair]
        for sender in sorted(self._candidates.keys() - self._round_ns.keys()):  # sorted: one seed gives one order
            self._round_ns[sender] = now_ns + self._wait_ns(FIRST_WITHIN_NS)

    def poll(self, now_ns: int) -> list[Lease]:
        """Return leases to grant now, each for its `src`."""
        if now_ns < max(self._quiet_until_ns, self._rested_ns):
            return []
        self._rested_ns = now_ns + POLL_REST_NS * len(self._candidates)
        for lease in [one for one in self._active.values() if now_ns >= one.expires_ns + GRACE_NS]:
            del self._active[lease.lease_id]
        if now_ns < self.not_before_ns:
            return []
        senders = [sender for sender, at in self._round_ns.items() if at <= now_ns]
        for sender in senders[:ROUNDS_AT_ONCE]:
            self._begin_round(sender, now_ns)
        if len(senders) > ROUNDS_AT_ONCE:  # the rest soon
            self._rested_ns = now_ns + POLL_REST_NS * ROUNDS_AT_ONCE
        for pair in [pair for pair, (_, until_ns) in self._due_ns.items() if until_ns <= now_ns]:
            del self._due_ns[pair]
        nodes, addresses = self._busy()
        due = [
            (self._sent_ns.get(pair[0], 0), at, pair)
            for pair, (at, _) in self._due_ns.items()
            if at <= now_ns and not self._is_busy(pair, nodes, addresses)
        ]
        granted = []
        for _, _, (src, dst) in sorted(due):
            if self._is_busy((src, dst), nodes, addresses):
                continue
            if not self._affordable(src, dst, now_ns):
                del self._due_ns[src, dst]
                if src not in self._sent_ns:  # it keeps its place although the peer's budget is used up
                    self._round_ns[src] = min(self._round_ns[src], now_ns + self._wait_ns(FIRST_WITHIN_NS))
            else:
                link_addresses = frozenset((self._candidates[src].address, self._candidates[dst].address))
                nodes |= {src, dst}
                addresses |= link_addresses
                granted.append(self._grant(src, dst, link_addresses, now_ns))
        self._quiet_until_ns = self._next_ns(now_ns)
        return granted

    def next_ns(self, now_ns: int) -> int:
        """Return when `poll` may grant something, if nothing happens before."""
        return self._quiet_until_ns if now_ns < self._quiet_until_ns else self._next_ns(now_ns)

    def _next_ns(self, now_ns: int) -> int:
        waits = [lease.expires_ns + GRACE_NS for lease in self._active.values()]
        waits += [at for at, _ in self._due_ns.values() if at > now_ns]
        waits += self._round_ns.values()
        return max(min(waits, default=now_ns + DAY_NS), self.not_before_ns, self._rested_ns)

    def done(self, lease_id: int, by: str, now_ns: int, *, begun: bool) -> bool:
        """The sender reports the end of a lease. Return False for a lease that is not its own, or no longer exists.

        A lease that was not even begun costs no bytes: otherwise a few in a row would leave a node without an uplink
        figure until the next day. (Whoever lies about it spends its peer's own limit, which the peer's probe enforces.)
        """
        lease = self._active.get(lease_id)
        if lease is None or lease.src != by:
            return False
        del self._active[lease_id]
        for end in (lease.src, lease.dst):
            if recent := self._recent_leases.get(end):
                recent[-1] = recent[-1][0], now_ns
        if not begun:
            self._settle(lease.src, lease.dst, 0, now_ns)
            if by not in self._measured:  # it has still to send, and the others keep room for that
                self._sent_ns.pop(by, None)
        self._quiet_until_ns = 0
        return True

    def again(self, node_id: str, now_ns: int) -> None:
        """A lease gave no result. A node without results is scheduled again soon, if bytes are left."""
        if node_id in self._round_ns and node_id not in self._measured:
            self._round_ns[node_id] = min(self._round_ns[node_id], now_ns + self._wait_ns(FIRST_WITHIN_NS))
            self._quiet_until_ns = 0

    @property
    def recent(self) -> Set[str]:
        """Return the nodes that may have been part of a transfer lately; of all others `touched` is false."""
        return self._recent_leases.keys()

    def touched(self, node_id: str, from_ns: int, until_ns: int) -> bool:
        """Return whether this node may have been part of a transfer in that time, or had the rest of one in a queue."""
        recent = self._recent_leases.get(node_id)
        return recent is not None and any(
            began_ns < until_ns and from_ns < ended_ns + QUEUE_NS for began_ns, ended_ns in recent
        )

    def left(self, node_id: str) -> None:
        """The node said goodbye: its transfers have ended."""
        for lease in [one for one in self._active.values() if node_id in (one.src, one.dst)]:
            del self._active[lease.lease_id]

    def spent(self, src: str, dst: str, sent_bytes: int, now_ns: int) -> None:
        """A transfer was reported: return the unused bytes of its lease to the budget, once per lease."""
        if self._settle(src, dst, sent_bytes, now_ns):
            self._measured.add(src)

    def _settle(self, src: str, dst: str, sent_bytes: int, now_ns: int) -> bool:
        if (src, dst) not in self._unsettled:
            return False
        self._unsettled.discard((src, dst))
        unused = max(0, MAX_BYTES - sent_bytes)
        for end in (src, dst):
            if end in self._budgets:
                left = self._left_bytes(end, now_ns)
                self._budgets[end].left_bytes = min(left + unused, self.daily_bytes)
        return True

    def spent_before(self, src: str, dst: str, sent_bytes: int, at_ns: int) -> None:
        """Charge what a transfer used before this collector restarted; call it oldest first."""
        for end in (src, dst):
            left = self._left_bytes(end, at_ns)
            self._budgets[end].left_bytes = max(0.0, left - sent_bytes)

    @property
    def active(self) -> tuple[Lease, ...]:
        return tuple(self._active.values())

    def _possible(self, pair: tuple[str, str]) -> bool:
        src, dst = pair
        return dst in self._candidates and src in self._candidates and dst in self._candidates[src].peers

    def _begin_round(self, sender: str, now_ns: int) -> None:
        self._round_ns[sender] = now_ns + self._wait_ns(REPEAT_NS)
        peers = [peer for peer in self._candidates[sender].peers if peer != sender and peer in self._candidates]
        self.rng.shuffle(peers)
        peers.sort(key=lambda peer: self._received_ns.get(peer, 0))
        chosen, others = list[str](), list[str]()
        for peer in peers:
            (chosen if self._affordable(sender, peer, now_ns) else others).append(peer)
            if len(chosen) == ROUND_PEERS:
                break
        for peer in (*chosen, *others)[:ROUND_PEERS]:
            self._received_ns[peer] = now_ns  # set at the choice already, so that the next sender chooses another
            self._due_ns[sender, peer] = now_ns + self._wait_ns(FIRST_WITHIN_NS), now_ns + ROUND_NS

    def _grant(self, src: str, dst: str, link_addresses: frozenset[str], now_ns: int) -> Lease:
        self._granted += 1
        lease = Lease(self.first_id + self._granted, src, dst, MAX_BYTES, now_ns + LEASE_NS, link_addresses)
        self._active[lease.lease_id] = lease
        for end in (src, dst):
            self._left_bytes(end, now_ns)
            self._budgets[end].left_bytes -= MAX_BYTES
            self._recent_leases.setdefault(end, deque(maxlen=RECENT_LEASES)).append(
                (now_ns, lease.expires_ns + GRACE_NS)
            )
        self._unsettled.add((src, dst))
        self._sent_ns[src] = now_ns
        del self._due_ns[src, dst]
        return lease

    def _affordable(self, src: str, dst: str, now_ns: int) -> bool:
        """Return whether a lease fits both budgets. Until every node has sent once, room is kept for that, since no
        plan can be priced with a node of unknown uplink: one that has not sent keeps a transfer to send, the others one
        to receive.
        """
        again = src in self._sent_ns and len(self._sent_ns) < len(self._candidates)
        kept = MAX_BYTES if again else 0
        own_turn = 0 if dst in self._sent_ns else MAX_BYTES
        return (
            self._left_bytes(src, now_ns) >= MAX_BYTES + kept
            and self._left_bytes(dst, now_ns) >= MAX_BYTES + kept + own_turn
        )

    def _left_bytes(self, node_id: str, now_ns: int) -> float:
        budget = self._budgets.setdefault(node_id, _Budget(self.daily_bytes, now_ns))
        passed_ns = max(0, now_ns - budget.at_ns)  # a clock that was set back adds nothing
        refilled = budget.left_bytes + passed_ns * self.daily_bytes / DAY_NS
        budget.left_bytes = min(refilled, self.daily_bytes)
        budget.at_ns = now_ns
        return budget.left_bytes

    def _is_busy(self, pair: tuple[str, str], nodes: Set[str], addresses: Set[str]) -> bool:
        """Return whether an end of the pair, or its address, is part of a transfer. Thousands of pairs may be due."""
        src, dst = pair
        return (
            src in nodes
            or dst in nodes
            or self._candidates[src].address in addresses
            or self._candidates[dst].address in addresses
        )

    def _busy(self) -> tuple[set[str], set[str]]:
        nodes = {end for lease in self._active.values() for end in (lease.src, lease.dst)}
        return nodes, {address for lease in self._active.values() for address in lease.link_addresses}

    def _wait_ns(self, mean_ns: int) -> int:
        return max(NS_PER_MS, round(self.rng.expovariate(1.0) * mean_ns))
