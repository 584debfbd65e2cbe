"""Attribute pairs with evidence to the whole swarm, to nodes, or to single links. Pure.

A node explains its pairs: when most of a node's pairs change together, that is one change of the node, and only pairs
that no node explains are changes of links. Nodes are taken greedily, the one that explains the largest share of its
pairs first; so the peers of a changed node, each with one changed pair of many, are not blamed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Pair = tuple[str, str]  # node ids, in order

NODE_SHARE: Final = 0.6  # of a node's pairs
SWARM_SHARE: Final = 0.6  # of all pairs
SWARM_NODES: Final = 4  # below, "all links" and "one node's links" cannot be told apart
HINT: Final = 0.25  # of the alarm's evidence: needed for a pair to count for its node


@dataclass(frozen=True, slots=True)
class Subject:
    """A node (`peer` None), one link, or (`node` None) the swarm."""

    node: str | None
    peer: str | None = None


SWARM: Final = Subject(None)


def subjects(
    pairs: Mapping[Pair, float], alarm_decades: float, peers: Mapping[str, int], links: int, nodes: int
) -> list[tuple[Subject, tuple[Pair, ...]]]:
    """Return the subjects with enough evidence, each with its pairs. `pairs`: evidence of each in decades; `peers`: how
    many measured pairs a node has; `links`, `nodes`: of the whole swarm. A pair counts with a hint of evidence; of many
    pairs some have a hint by chance, so many together need more."""
    left = {pair: decades for pair, decades in pairs.items() if decades >= HINT * alarm_decades}
    if not left:
        return []
    if (
        nodes >= SWARM_NODES
        and len(left) >= SWARM_SHARE * links
        and sum(left.values()) >= alarm_decades * (1 + HINT * (len(left) - 1))
    ):
        return [(SWARM, tuple(sorted(left)))]
    found: list[tuple[Subject, tuple[Pair, ...]]] = []
    while True:
        of_node: dict[str, list[Pair]] = defaultdict(list)
        for pair in left:
            for end in pair:
                of_node[end].append(pair)
        best = min(
            (
                (-len(own) / max(1, peers.get(node, 0)), -len(own), node)
                for node, own in of_node.items()
                if len(own) >= 2
                and len(own) >= NODE_SHARE * peers.get(node, 0)
                and sum(left[pair] for pair in own) >= alarm_decades * (1 + HINT * (len(own) - 1))
            ),
            default=None,
        )
        if best is None:
            break
        own = tuple(sorted(of_node[best[2]]))
        found.append((Subject(best[2]), own))
        for pair in own:
            del left[pair]
    found += [(Subject(*pair), (pair,)) for pair, decades in sorted(left.items()) if decades >= alarm_decades]
    return found
