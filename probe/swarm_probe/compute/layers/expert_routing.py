"""Choose the experts that the tokens of a timed pass use, in place of a router of random weights.

Trained routers are balanced, and a batch uses experts · (1 − (1 − active / experts)^tokens) of them on average. A
random router and a handful of inputs use up to a seventh more or fewer, and a decode step is mostly the reading of
experts, so passes get routings that keep to the average.
"""

from __future__ import annotations

from random import Random

Routing = list[list[int]]  # by token, the experts that see it


def experts_used(experts: int, active: int, tokens: int) -> float:
    """Return how many experts that many tokens use on average, each choosing `active` of them independently."""
    return experts * (1 - (1 - active / experts) ** tokens)


def assigned_experts(experts: int, active: int, tokens: int, count: int, random: Random) -> list[Routing]:
    """Return `count` routings whose numbers of used experts stay close to the average throughout."""
    average, so_far, routings = experts_used(experts, active, tokens), 0, []
    for passes in range(1, count + 1):
        awake = min(max(round(average * passes) - so_far, active), experts, active * tokens)
        so_far += awake
        routings.append(_routing(random.sample(range(experts), awake), active, tokens, random))
    return routings


def _routing(awake: list[int], active: int, tokens: int, random: Random) -> Routing:
    """Return a routing in which each of `awake` sees a token at least, and each token is seen by `active` of them."""
    routing: Routing = []
    left = list(awake)
    for _ in range(tokens):
        seen, left = left[:active], left[active:]
        others = [expert for expert in awake if expert not in seen]
        routing.append(seen + random.sample(others, active - len(seen)))
    return routing
