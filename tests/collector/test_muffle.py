"""What strangers do to the log is bounded, and nothing is left out in silence."""

from __future__ import annotations

from swarm_collector.transport.log_rate_limit import LogRateLimiter
from swarm_protocol.units import NS_PER_S


def test_the_first_lines_are_logged_then_few_with_a_count_of_those_left_out():
    log_limiter = LogRateLimiter(per_s=0.1, burst=2.0)
    assert [log_limiter.line("x", 0) for _ in range(5)] == ["x", "x", None, None, None]
    assert log_limiter.line("y", 11 * NS_PER_S) == "y (and 3 more like it were not logged)"
    assert log_limiter.total == 6


def test_a_day_of_garbage_is_a_bounded_number_of_lines():
    log_limiter = LogRateLimiter()
    lines = sum(log_limiter.line("x", i * NS_PER_S // 10) is not None for i in range(100_000))
    assert lines <= 20 + 1_000 + 1


def test_when_it_has_become_quiet_the_rest_is_counted_once():
    log_limiter = LogRateLimiter(per_s=1.0, burst=1.0)
    for _ in range(4):
        log_limiter.line("x", 0)
    assert log_limiter.rest(0) is None
    assert log_limiter.rest(2 * NS_PER_S) == "3 more sessions ended and were not logged one by one"
    assert log_limiter.rest(9 * NS_PER_S) is None
