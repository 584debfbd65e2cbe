"""Generate samples of a synthetic swarm in the order of arrival; times and values differ in every row."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.trust.identity import node_id
from swarm_protocol.trust.signing import public_key
from swarm_protocol.units import NS_PER_S

WINDOW_NS = 10 * NS_PER_S  # between two samples of one link


def keys(nodes: int) -> list[bytes]:
    return [hashlib.sha256(f"bench {i}".encode()).digest() for i in range(nodes)]


def ids(nodes: int) -> list[str]:
    return [node_id(public_key(key)) for key in keys(nodes)]


def link_rounds(
    nodes: int, peers: int, rounds: int, end_ns: int, names: list[str] | None = None
) -> Iterator[tuple[int, int, tuple[LinkSample, ...]]]:
    """Yield (round, node, one sample a peer): every node once a round, its `peers` next neighbours; the last at
    `end_ns`. Each link has a round trip of its own, and some noise. `names`: the nodes' ids; None: those of `keys`."""
    rng = random.Random(7)
    names = ids(nodes) if names is None else names
    least_ms = [rng.uniform(5.0, 200.0) for _ in range(nodes * peers)]
    for number in range(rounds):
        at_ns = end_ns - (rounds - number) * WINDOW_NS
        for node in range(nodes):
            yield (
                number,
                node,
                tuple(
                    _link(
                        rng, at_ns + rng.randrange(WINDOW_NS), names[(node + 1 + k) % nodes], least_ms[node * peers + k]
                    )
                    for k in range(peers)
                ),
            )


def _link(rng: random.Random, at_ns: int, peer: str, least_ms: float) -> LinkSample:
    rtt_ms = least_ms * (1 + 0.02 * rng.paretovariate(2.0))
    return LinkSample(
        at_ns=at_ns,
        peer=peer,
        path="direct",
        sent=16,
        lost=0,
        lost_out=0,
        lost_back=0,
        rtt_min_ms=rtt_ms,
        rtt_p50_ms=rtt_ms * 1.05,
        rtt_p95_ms=rtt_ms * 1.3,
        rtt_p99_ms=rtt_ms * 1.5,
        pdv_ms=rtt_ms * 0.3,
        jitter_rfc3550_ms=rtt_ms * 0.06,
        hop_ms=rtt_ms * 1.1,
        timestamps="kernel",
    )
