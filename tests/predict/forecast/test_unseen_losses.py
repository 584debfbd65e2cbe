"""A path that has lost nothing yet may lose packets: that is in the slow half of a prediction, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import Box, even, swarm_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.cost.network.lost_packets import UNSEEN, draw_unseen, lossy_share
from swarm_predict.forecast.draws import in_slow_half
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm, Tcp

MODEL = model_named("llama-3.1-8b")
RTT_MS = 60.0


def live(seen: float, loss: float = 0.0) -> Swarm:
    """Return three machines with `seen` round trips on each path."""
    swarm = swarm_of([Box(name, layers=[("decode", 1, 128, 1.0)]) for name in "abc"], RTT_MS)
    swarm.nodes["state"][:], swarm.nodes["overhead_ms"][:], swarm.at_ns = State.OK, 0.1, 10**18
    for name in ("min", "p50", "p95", "p99"):
        swarm.links[f"rtt_{name}_ms"][:] = RTT_MS
    swarm.links["oneway_ms"][:], swarm.links["loss"][:], swarm.links["pooled_loss"][:] = RTT_MS / 2, loss, loss
    swarm.links["kind"][:], swarm.links["sent"][:], swarm.links["at_ns"][:] = Kind.MEASURED, 20, swarm.at_ns
    swarm.links["pooled_sent"][:] = seen
    return swarm


def ask(swarm: Swarm, engine: str = "chain") -> Prediction:
    placement = parse_placement(even("abc", MODEL.layers), MODEL, swarm)
    return predict(swarm, MODEL, placement, Workload(engine=engine))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["chain", "llama.cpp", "petals"])
def test_median_and_mean_of_a_clean_network_stay_as_if_it_were_known_to_be_clean(engine: str) -> None:
    known, uncertain = ask(live(0.0), engine).tpot_ms, ask(live(40.0), engine).tpot_ms
    assert uncertain.p50 == known.p50
    assert uncertain.p5 == known.p5
    assert uncertain.mean == known.mean
    assert uncertain.p95 > known.p95


def test_the_slow_end_narrows_with_every_packet_that_came_through() -> None:
    """Of llama.cpp, whose messages are more packets than a window holds after a loss."""
    ends = [ask(live(seen), "llama.cpp").tpot_ms.p95 for seen in (40.0, 400.0, 4_000.0, 400_000.0)]
    assert ends == sorted(ends, reverse=True)
    known = ask(live(0.0), "llama.cpp").tpot_ms.p95
    assert ends[0] > 1.03 * known
    assert ends[-1] == pytest.approx(known, rel=0.002)


def test_parts_of_a_token_still_sum_to_its_mean() -> None:
    found = ask(live(40.0), "llama.cpp")
    parts = found.breakdown_ms
    total_ms = parts.compute + parts.network + parts.overhead + parts.head
    assert total_ms == pytest.approx(found.tpot_ms.mean)


def test_shared_layers_have_it_too() -> None:
    known, uncertain = (ask(live(seen), "tensor-parallel").tpot_ms for seen in (0.0, 40.0))
    assert uncertain.p50 == known.p50
    assert uncertain.p95 > known.p95


def test_bbr_loses_no_window_and_a_person_is_believed() -> None:
    paced, clean = live(40.0), live(0.0)
    paced.nodes["tcp"][:] = clean.nodes["tcp"][:] = Tcp.PACES
    assert ask(paced).tpot_ms == ask(clean).tpot_ms
    written = swarm_of([Box(name, layers=[("decode", 1, 128, 1.0)]) for name in "abc"], RTT_MS)
    counted = swarm_of([Box(name, layers=[("decode", 1, 128, 1.0)]) for name in "abc"], RTT_MS)
    counted.links["pooled_loss"][:], counted.links["pooled_sent"][:] = 0.0, 40.0
    assert ask(written).tpot_ms == ask(counted).tpot_ms


def test_the_share_of_lossy_paths_and_their_loss_are_those_of_the_prior_given_no_loss() -> None:
    """By Bayes' rule, of paths drawn from the prior."""
    rng, seen, paths = np.random.default_rng(1), 300, 400_000
    a, b = UNSEEN
    loss = np.where(rng.random(paths) < 0.5, 0.0, rng.beta(a, b, paths))
    clean_so_far = loss[rng.binomial(seen, loss) == 0]
    assert float(lossy_share(np.array(float(seen)))) == pytest.approx((clean_so_far > 0).mean(), rel=0.02)
    drawn = draw_unseen(np.full(1, float(seen)), np.zeros(1, np.int64), rng, paths)
    assert drawn.mean() == pytest.approx(clean_so_far.mean(), rel=0.05)
    assert np.quantile(drawn, 0.95) == pytest.approx(np.quantile(clean_so_far, 0.95), rel=0.05)


def test_messages_over_one_path_meet_the_same_loss() -> None:
    drawn = draw_unseen(np.full(3, 40.0), np.array([0, 0, 1]), np.random.default_rng(1), 500)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    assert np.any(drawn[:, 0] != drawn[:, 2])


@given(st.integers(1, 400), st.integers(0, 9))
def test_only_the_slow_half_is_later(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times, later = rng.exponential(10.0, count), rng.exponential(50.0, count) * (rng.random(count) < 0.6)
    found = in_slow_half(times, later, rng)
    assert np.all(found >= times)
    for share in (0.05, 0.25, 0.5):
        assert np.quantile(found, share) == pytest.approx(np.quantile(times, share))
