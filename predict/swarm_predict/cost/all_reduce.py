"""List the rounds of messages of one all-reduce: n nodes sum their shares of an activation until each has the sum.

    doubling   log2(n) rounds in which pairs exchange the whole activation, two more where n is not a power of two
    tree       to one node and back: 2·⌈log2(n)⌉ rounds of the whole activation
    ring       2(n − 1) rounds of an n-th of it: the fewest bytes, the most rounds
    mesh       one round: each sends the whole to all others, whose copies share its uplink
    gloo       a ring in which a sender waits until the receiver has said that it is ready: 4(n − 1) rounds

Thakur et al., IJHPCA 19(1), 2005, §4 (doubling, ring, tree). Gloo is what torch.distributed uses between processors:
gloo 70dc360 allreduce.cc ring() is its default, and transport/tcp/pair.cc sends data only for a receive that the other
side has announced, which it does no earlier than in the round itself. A round waits for its slowest message. What is
best depends on the path: over 20 ms rounds are what counts (mesh), over a thin uplink bytes (ring).
"""

from __future__ import annotations

from typing import Final

from swarm_predict.types import AllReduce

READY_BYTES: Final = 48  # gloo transport/tcp/pair.h, Op::preamble: six words

Message = tuple[int, int, float]  # from, to, bytes (of everything that leaves with it on the same uplink)


def doubling(nodes: int) -> list[list[tuple[int, int]]]:
    """Return the pairs that exchange in each round, for `nodes` members."""
    power = 1 << (nodes.bit_length() - 1)
    extra = [(k, power + k) for k in range(nodes - power)]
    steps = [[(k, k ^ step) for k in range(power)] for step in (1 << s for s in range(power.bit_length() - 1))]
    return [[(b, a) for a, b in extra], *steps, extra] if extra else steps


def software_rounds(kind: AllReduce, nodes: int) -> int:
    """Return how many times the software of one round an all-reduce takes.

    In a mesh every pair exchanges a message in the one round, and answers from all arrive at a machine at once:
    published times of it on 2, 4 and 8 boards grow as the pairs do (distributed-llama README at 4c38a2e)."""
    return nodes * (nodes - 1) // 2 if kind == "mesh" else len(messages(kind, nodes, 1.0))


def _to_root(nodes: int) -> list[list[tuple[int, int]]]:
    """Build a binomial tree: in round r the nodes 2^r apart meet at the lower one."""
    steps = (1 << s for s in range((nodes - 1).bit_length()))
    return [[(k + step, k) for k in range(0, nodes - step, 2 * step)] for step in steps]


def messages(kind: AllReduce, nodes: int, size_bytes: float) -> list[list[Message]]:
    """Return the rounds of one all-reduce among nodes 0…nodes−1; a single node has none."""
    if nodes < 2:
        return []
    if kind in ("ring", "gloo"):
        around = [(k, (k + 1) % nodes, size_bytes / nodes) for k in range(nodes)]
        ready = [(b, a, float(READY_BYTES)) for a, b, _ in around]
        return [*([ready] if kind == "gloo" else []), around] * (2 * (nodes - 1))
    if kind == "mesh":
        return [[(a, b, size_bytes * (nodes - 1)) for a in range(nodes) for b in range(nodes) if a != b]]
    pairs = doubling(nodes)
    if kind == "tree":
        up = _to_root(nodes)
        pairs = [*up, *([(b, a) for a, b in here] for here in reversed(up))]
    return [[(a, b, size_bytes) for a, b in here] for here in pairs]
