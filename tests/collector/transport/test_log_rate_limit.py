"""What strangers can write to the log is bounded, and suppressed lines are counted."""

from __future__ import annotations

import io
import logging

from swarm_collector.transport.log_filter import LogFilter, because
from swarm_collector.transport.log_rate_limit import MAX_CAUSES, LogRateLimiter
from swarm_protocol.units import NS_PER_S

DAY_NS = 86_400 * NS_PER_S


def lines_of(log_limiter: LogRateLimiter, cause: str, times_ns: range) -> int:
    """How many lines are logged for one cause that occurs at these times; summaries are looked for at each."""
    lines = 0
    for now_ns in times_ns:
        if log_limiter.passes(cause, now_ns):
            lines += 1
        else:
            log_limiter.leave_out(cause, now_ns)
        lines += len(log_limiter.due(now_ns))
    return lines


def test_the_first_lines_are_logged_then_one_a_while_with_a_count():
    log_limiter = LogRateLimiter(burst=2.0)
    passed = []
    for i in range(5):
        passed.append(log_limiter.passes("x", i))
        if not passed[-1]:
            log_limiter.leave_out("x", i, f"line {i}")
    assert passed == [True, True, False, False, False]
    assert log_limiter.due(59 * NS_PER_S) == []
    (summary,) = log_limiter.due(61 * NS_PER_S)
    assert summary.text == "… and 3 more in the last minute like: line 2"
    assert log_limiter.due(3600 * NS_PER_S) == []


def test_a_day_of_one_cause_is_fewer_than_a_thousand_lines_however_often_it_occurs():
    for every_ns in (NS_PER_S // 2, 10 * NS_PER_S, 149 * NS_PER_S):
        assert lines_of(LogRateLimiter(), "x", range(0, DAY_NS, every_ns)) < 1000, every_ns


def test_a_flood_of_one_cause_hides_no_other():
    log_limiter = LogRateLimiter()
    lines_of(log_limiter, "garbage", range(0, 600 * NS_PER_S, NS_PER_S // 100))
    assert log_limiter.passes("the disk is full", 601 * NS_PER_S)


def test_what_occurs_now_and_then_is_always_logged():
    log_limiter = LogRateLimiter()
    assert all(log_limiter.passes("x", now_ns) for now_ns in range(0, DAY_NS, 151 * NS_PER_S))


def test_causes_that_a_stranger_could_choose_would_not_fill_the_memory():
    log_limiter = LogRateLimiter()
    passed = sum(log_limiter.passes(f"cause {i}", 0) for i in range(10_000))
    assert passed <= MAX_CAUSES + 51
    assert len(log_limiter._causes) <= MAX_CAUSES + 1


def limited(clock: list[int]) -> tuple[logging.Logger, LogFilter, io.StringIO]:
    """A logger whose lines go through the limit, as those of all loggers do in the collector."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    limit = LogFilter(steady_ns=lambda: clock[0])
    handler.addFilter(limit)
    root = logging.Logger("root")
    root.addHandler(handler)
    return root, limit, out


def test_lines_of_any_library_are_limited_by_the_place_they_come_from(monkeypatch):
    """asyncio writes 'socket.send() raised exception.' for each write to a lost connection, and a traceback with a new
    text for each connection that it cannot accept."""
    clock = [0]
    root, limit, out = limited(clock)
    for i in range(5_000):
        root.warning(f"socket {i} raised")
        try:
            raise OSError(24, f"Too many open files {i}")
        except OSError as error:
            root.error(f"accept {i}", exc_info=error)
    assert out.getvalue().count("raised") == 50
    assert out.getvalue().count("Traceback") == 50
    root.handlers[0].handle(logging.LogRecord("other", logging.INFO, "elsewhere.py", 1, "calm", None, None))
    assert "calm" in out.getvalue()
    monkeypatch.setattr("swarm_collector.transport.log_filter._log", root)
    limit.close()
    assert "… and 4950 more in the last minute like: socket 50 raised" in out.getvalue()
    assert "… and 4950 more in the last minute like: accept 50" in out.getvalue()


def test_one_place_that_tells_several_things_names_them():
    root, _, out = limited([0])
    for i in range(200):
        root.info("%s", f"joined {i}", extra=because("joined"))
    root.info("%s", "lost 1", extra=because("lost"))
    assert out.getvalue().count("joined") == 50
    assert "lost 1" in out.getvalue()
