"""A window skipped as ordinary is one in which a full check would find nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm_collector.verification.anomalies import impossible, is_instant, is_ordinary
from swarm_protocol.messages.samples import LinkSample

FIGURES = st.one_of(st.none(), st.sampled_from((0.0, 0.01, 0.2, 1.0, 5.0, 5.1, 90.0)))


@given(figures=st.tuples(FIGURES, FIGURES, FIGURES, FIGURES), lost=st.integers(0, 3), sent=st.integers(0, 3))
def test_nothing_impossible_or_instant_is_ordinary(figures, lost, sent):
    least, p50, p95, p99 = figures
    window = LinkSample(
        at_ns=1, peer="a" * 16, path="direct", sent=sent, lost=lost, rtt_min_ms=least, rtt_p50_ms=p50, rtt_p95_ms=p95,
        rtt_p99_ms=p99,
    )  # fmt: skip
    doubtful = is_instant(window) or impossible(window, same_network=False) is not None
    assert not (is_ordinary(window) and doubtful)
    assert is_ordinary(window) or doubtful or None in figures
