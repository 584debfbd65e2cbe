"""Order a swarm's nodes by what the swarm would gain, and decide which of them are slow. Pure; `impact` has the
figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from swarm_predict.types import Impact

SLOW_GAIN: Final = 0.05  # of the tokens a second: a node is slow if the swarm gains this share without it

# A node overtakes the one ranked above it only by more than noise: this share of that one's win, or this much.
OVERTAKE_SHARE: Final = 0.05
OVERTAKE_MS: Final = 0.5
_MIN_MS: Final = 1e-6

Worth = Callable[[Impact], float]


def is_slow(impact: Impact, tokens_per_s: float) -> bool:
    """Return whether a node is slow: in the placement that runs at `tokens_per_s`, and the swarm would gain a twentieth
    or more without it or with it as usual. The one definition, for every screen, event and report."""
    if impact.role != "in" or impact.win_ms is None or tokens_per_s <= 0:
        return False
    token_ms = 1e3 / tokens_per_s
    return impact.win_ms > 0 and token_ms / max(token_ms - impact.win_ms, _MIN_MS) - 1 >= SLOW_GAIN


def rank(found: Collection[Impact], previous: Sequence[str] = ()) -> tuple[Impact, ...]:
    """Order the placement's nodes by what the swarm would gain, then spares by their use, then the rest. The order of
    `previous` stands unless a node clearly exceeds the one above, so noise does not reshuffle the ranking.
    """
    inside = _steady([i for i in found if i.role == "in"], previous, _win, _tie)
    spare = _steady(
        [i for i in found if i.role == "spare"], previous, _usefulness, lambda impact: impact.cost_ms or 0.0
    )
    return (*inside, *spare, *sorted((i for i in found if i.role == "out"), key=lambda i: i.node))


def _steady(found: list[Impact], previous: Sequence[str], value: Worth, tie: Worth) -> list[Impact]:
    """Sort the largest `value` first. Each in turn goes before the first placed one that it clearly exceeds: those
    after that one do not clearly exceed it, so no node is below one that is clearly less."""
    place = {name: at for at, name in enumerate(previous)}
    found = sorted(found, key=lambda i: (-value(i), tie(i), i.node))
    if place:
        found.sort(key=lambda i: place.get(i.node, len(place)))
    steady: list[Impact] = []
    for impact in found:
        above = (k for k, other in enumerate(steady) if value(impact) > value(other) + _margin_ms(value(other)))
        steady.insert(next(above, len(steady)), impact)
    return steady


def _win(impact: Impact) -> float:
    return impact.win_ms if impact.win_ms is not None else -1e9


def _tie(impact: Impact) -> float:
    """Order nodes without a gain: largest share of a token first."""
    return -(impact.share or 0.0)


def _usefulness(impact: Impact) -> float:
    """Return minus the milliseconds of the token that the swarm would give with it as a stand-by."""
    return -1e3 / impact.stand_by_tokens_per_s if impact.stand_by_tokens_per_s else -1e9


def _margin_ms(value_ms: float) -> float:
    return max(OVERTAKE_MS, OVERTAKE_SHARE * abs(value_ms))
