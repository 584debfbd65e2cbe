"""What one stranger may cost, and that a healthy probe never notices the limits."""

from __future__ import annotations

from swarm_collector.ingest.quotas import MAX_KINDS, NEW_BURST, SAMPLE_BURST, SAMPLES_PER_S, NewMemberQuota, SampleQuota
from swarm_protocol.messages.samples import ComputeSample, EventSample
from swarm_protocol.units import NS_PER_S


def layer(model: str) -> ComputeSample:
    of = {"device": "d", "model": model, "dtype": "fp16", "phase": "decode", "batch": 1, "context": 1}
    return ComputeSample(at_ns=1, ms_per_layer=1.0, ms_p95=1.0, n=1, **of)


def test_a_full_spool_comes_in_at_once_and_a_flood_is_slowed():
    quota = SampleQuota()
    assert quota.wait_s(int(SAMPLE_BURST), NS_PER_S) == 0.0
    assert quota.wait_s(500, NS_PER_S) > 500 / SAMPLES_PER_S - 1.1
    assert SampleQuota().wait_s(int(SAMPLES_PER_S), 1) == 0.0


def test_a_member_that_invents_models_is_accepted_up_to_a_limit():
    quota = SampleQuota()
    invented = [layer(f"m{i}") for i in range(MAX_KINDS + 100)]
    event = EventSample(at_ns=1, kind="note", detail="x")
    assert quota.known_kinds([*invented, event]) == (*invented[:MAX_KINDS], event)
    assert quota.known_kinds([invented[0], invented[-1]]) == (invented[0],)


def test_one_network_cannot_fill_the_swarm_with_new_machines():
    newcomers = NewMemberQuota()
    let_in = sum(newcomers.wait_s("198.51.100.0/24", second * NS_PER_S) == 0.0 for second in range(3600))
    assert NEW_BURST <= let_in <= NEW_BURST + 65
    assert newcomers.wait_s("203.0.113.0/24", 0) == 0.0
