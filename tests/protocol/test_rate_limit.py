"""One token bucket for all limits: what it allows, what it takes, and what it makes callers wait for."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

steps = st.lists(st.tuples(st.integers(-NS_PER_S, 3 * NS_PER_S), st.floats(0.1, 6.0)), max_size=60)


def test_a_burst_is_taken_at_once_and_then_the_rate() -> None:
    bucket = TokenBucket(per_s=2.0, burst=3.0)
    assert [bucket.take(5) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(5 + NS_PER_S // 2 - 1)
    assert bucket.take(5 + NS_PER_S // 2 + 5)


def test_what_is_taken_in_any_case_has_to_be_waited_for() -> None:
    bucket = TokenBucket(per_s=2.0, burst=3.0)
    assert bucket.wait_s(0, 3.0) == 0
    assert bucket.wait_s(0, 4.0) == pytest.approx(2.0)
    assert not bucket.take(2 * NS_PER_S)  # the debt is paid by now, and nothing more
    assert bucket.take(3 * NS_PER_S)


@given(steps)
@example([(-501, 1.5), (0, 1.25), (0, 1.75), (750_000_000, 2.0)])
def test_no_history_gives_more_than_rate_and_burst(history: list[tuple[int, float]]) -> None:
    """Also with a clock that goes back and forth: the time that counts is the latest seen."""
    bucket, now_ns, taken = TokenBucket(per_s=2.0, burst=5.0), NS_PER_S, 0.0
    first_ns = latest_ns = max(0, now_ns + history[0][0]) if history else now_ns
    for step_ns, amount in history:
        now_ns = max(0, now_ns + step_ns)
        latest_ns = max(latest_ns, now_ns)
        allowed = bucket.allows(now_ns, amount)
        assert bucket.take(now_ns, amount) == allowed
        taken += amount * allowed
    assert taken <= 5.0 + 2.0 * (latest_ns - first_ns) / NS_PER_S + 1e-6
