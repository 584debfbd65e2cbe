"""A node passes by computing, in time, for itself; everything else is refused, reported and recorded.

The honest answers here are computed with numpy, as the probe's child does with torch; the sizes are the real ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest

from swarm_collector.verification.compute_attestation import (
    AGAIN_NS,
    LATER_NS,
    MAX_CLAIM,
    OFFER_NS,
    SOON_NS,
    VALID_NS,
    ComputeAttestation,
    Verdict,
)
from swarm_protocol.messages.probe_messages import (
    Challenge,
    ChallengeCommit,
    ChallengeGo,
    ChallengeOpen,
    ChallengeOpened,
    ChallengeReady,
)
from swarm_protocol.messages.samples import RooflineSample
from swarm_protocol.trust import attestation as arithmetic
from swarm_protocol.units import NS_PER_MS, NS_PER_S

ANN, BEN = "a" * 16, "b" * 16
SIZE = arithmetic.SIZE


@pytest.fixture(scope="module")
def prepared() -> ComputeAttestation:
    challenges = ComputeAttestation(random.Random(5))
    challenges.prepare()
    return challenges


@pytest.fixture
def swarm_state(prepared: ComputeAttestation) -> ComputeAttestation:
    """Fresh, but for the matrix, which takes a while."""
    fresh = ComputeAttestation(random.Random(7))
    fresh._matrix_seed, fresh._checker = prepared._matrix_seed, prepared._checker
    return fresh


@pytest.fixture(scope="module")
def matrix(prepared: ComputeAttestation) -> np.ndarray:
    return arithmetic.matrix(prepared._matrix_seed).astype(np.float32)


@dataclass
class Prover:
    """Honest unless a test makes it otherwise."""

    matrix: np.ndarray
    node_id: str = ANN
    dtype: str = "fp32"

    def work(self, go: ChallengeGo) -> list[bytes]:
        x = arithmetic.first_input(go.seed, self.node_id, go.challenge_id).astype(np.float32)
        outputs = []
        for _ in range(go.steps):
            y = self.matrix @ x
            if self.dtype == "fp16":
                y = y.astype(np.float16).astype(np.float32)
            outputs.append(y.astype("<f4").tobytes())
            x = arithmetic.next_input(y)
        return outputs


def begun(
    swarm_state: ComputeAttestation, session: int = 1, node_id: str = ANN, now_ns: int = 0, dtype: str = "fp32"
) -> ChallengeGo:
    swarm_state.came(session, node_id, now_ns)
    messages, verdicts = swarm_state.due(now_ns)
    assert verdicts == []
    ((sent_to, offer),) = [each for each in messages if each[0] == session]
    assert isinstance(offer, Challenge)
    assert sent_to == session
    ready = ChallengeReady(challenge_id=offer.challenge_id, dtype=dtype, step_ms=15.0)
    go, verdict = swarm_state.heard(session, node_id, ready, now_ns)
    assert isinstance(go, ChallengeGo)
    assert verdict is None
    return go


def shown(
    swarm_state: ComputeAttestation,
    go: ChallengeGo,
    outputs: list[bytes],
    now_ns: int,
    session: int = 1,
    node_id: str = ANN,
) -> Verdict | None:
    commit = ChallengeCommit(challenge_id=go.challenge_id, hashes=b"".join(arithmetic.commitment(y) for y in outputs))
    opening, verdict = swarm_state.heard(session, node_id, commit, now_ns)
    if verdict is not None:
        return verdict
    assert isinstance(opening, ChallengeOpen)
    opened = ChallengeOpened(challenge_id=go.challenge_id, outputs=tuple(outputs[step] for step in opening.steps))
    return swarm_state.heard(session, node_id, opened, now_ns)[1]


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_node_that_computes_in_time_is_verified_for_a_while(
    swarm_state: ComputeAttestation, matrix: np.ndarray, dtype: str
) -> None:
    go = begun(swarm_state, dtype=dtype)
    assert go.steps == 16
    verdict = shown(swarm_state, go, Prover(matrix, dtype=dtype).work(go), 300 * NS_PER_MS)
    assert verdict is not None
    assert verdict.passed, verdict.detail
    size = 4 if dtype == "fp32" else 2
    assert f"16 products of 4096×4096 in {dtype} within 300 ms" in verdict.detail
    assert swarm_state.record(ANN).shown_gbps == pytest.approx(16 * SIZE**2 * size / 0.3 / 1e9)
    assert swarm_state.verified(ANN, NS_PER_S)
    assert not swarm_state.verified(ANN, VALID_NS + NS_PER_S)
    assert not swarm_state.verified(BEN, NS_PER_S)


def test_a_wrong_product_is_found_wherever_it_was_committed_to(
    swarm_state: ComputeAttestation, matrix: np.ndarray
) -> None:
    """A tenth of one output is not what the matrix gives; every product is wrong in this way."""
    go = begun(swarm_state)
    x = arithmetic.first_input(go.seed, ANN, go.challenge_id).astype(np.float32)
    outputs = []
    for _ in range(go.steps):
        y = matrix @ x
        y[: SIZE // 10] = 0.0
        outputs.append(y.astype("<f4").tobytes())
        x = arithmetic.next_input(y)
    verdict = shown(swarm_state, go, outputs, NS_PER_MS)
    assert verdict == Verdict(ANN, False, "product 0 of 16 is wrong")
    assert not swarm_state.verified(ANN, NS_PER_S)
    assert swarm_state.record(ANN).failed == 1


def test_another_nodes_answer_is_not_this_ones(swarm_state: ComputeAttestation, matrix: np.ndarray) -> None:
    """Ann hands her seed to Ben's honest probe, which computes for Ben."""
    go = begun(swarm_state)
    verdict = shown(swarm_state, go, Prover(matrix, node_id=BEN).work(go), NS_PER_MS)
    assert verdict == Verdict(ANN, False, "product 0 of 16 is wrong")


def test_an_answer_to_another_nodes_challenge_is_refused(swarm_state: ComputeAttestation, matrix: np.ndarray) -> None:
    mine = begun(swarm_state)
    theirs = begun(swarm_state, 2, BEN)
    commit = ChallengeCommit(challenge_id=theirs.challenge_id, hashes=b"\0" * 32 * theirs.steps)
    verdict = swarm_state.heard(1, ANN, commit, NS_PER_MS)[1]
    assert verdict == Verdict(ANN, False, "an answer to a challenge that was another node's")
    assert swarm_state.heard(2, BEN, commit, NS_PER_MS)[1] is None
    assert shown(swarm_state, mine, Prover(matrix).work(mine), NS_PER_MS) is not None


def test_a_late_answer_is_refused(swarm_state: ComputeAttestation, matrix: np.ndarray) -> None:
    go = begun(swarm_state)
    assert go.deadline_ms == 2_000.0 + 4.0 * 16 * 15.0
    late_ns = round(go.deadline_ms * NS_PER_MS) + 1
    commit = ChallengeCommit(challenge_id=go.challenge_id, hashes=b"\0" * 32 * go.steps)
    assert swarm_state.heard(1, ANN, commit, late_ns) == (None, None)  # a machine may be busy once
    assert not swarm_state.verified(ANN, late_ns)
    again_ns = late_ns + SOON_NS
    ((_, offer),) = swarm_state.due(again_ns)[0]
    assert isinstance(offer, Challenge)
    ready = ChallengeReady(challenge_id=offer.challenge_id, dtype="fp32", step_ms=15.0)
    again, _ = swarm_state.heard(1, ANN, ready, again_ns)
    assert isinstance(again, ChallengeGo)
    assert again.seed != go.seed
    commit = ChallengeCommit(challenge_id=again.challenge_id, hashes=b"\0" * 32 * again.steps)
    verdict = swarm_state.heard(1, ANN, commit, again_ns + late_ns)[1]
    assert verdict == Verdict(ANN, False, "answered after 2960 ms, later than allowed, 2 times in a row")


def test_a_node_that_never_answers_is_asked_again_and_then_marked(swarm_state: ComputeAttestation) -> None:
    go = begun(swarm_state)
    past_ns = round(go.deadline_ms * NS_PER_MS) + 1
    assert swarm_state.due(past_ns) == ([], [])
    assert swarm_state.due(past_ns + NS_PER_S) == ([], [])
    ((_, offer),) = swarm_state.due(past_ns + SOON_NS)[0]
    assert isinstance(offer, Challenge)
    ready = ChallengeReady(challenge_id=offer.challenge_id, dtype="fp32", step_ms=15.0)
    swarm_state.heard(1, ANN, ready, past_ns + SOON_NS)
    messages, verdicts = swarm_state.due(past_ns + SOON_NS + past_ns)
    assert messages == []
    (verdict,) = verdicts
    assert verdict.detail == "no answer to a challenge within its deadline, 2 times in a row"
    assert swarm_state.record(ANN).failed == 1


def test_an_offer_without_an_answer_is_no_failure(swarm_state: ComputeAttestation) -> None:
    swarm_state.came(1, ANN, 0)
    swarm_state.due(0)
    assert swarm_state.due(OFFER_NS + 1) == ([], [])
    assert swarm_state.record(ANN).failed == 0


def test_a_seed_counts_once(swarm_state: ComputeAttestation, matrix: np.ndarray) -> None:
    go = begun(swarm_state)
    outputs = Prover(matrix).work(go)
    first = shown(swarm_state, go, outputs, NS_PER_MS)
    assert first is not None
    assert first.passed
    again = shown(swarm_state, go, outputs, 2 * NS_PER_MS)
    assert again == Verdict(ANN, False, "an answer to a challenge that is over: a seed counts once")
    assert not swarm_state.verified(ANN, 3 * NS_PER_MS)


def test_showing_something_else_than_committed_to_is_refused(
    swarm_state: ComputeAttestation, matrix: np.ndarray
) -> None:
    """The cheat that commits to noise within the deadline and computes afterwards."""
    go = begun(swarm_state)
    commit = ChallengeCommit(challenge_id=go.challenge_id, hashes=random.Random(1).randbytes(32 * go.steps))
    opening, _ = swarm_state.heard(1, ANN, commit, NS_PER_MS)
    assert isinstance(opening, ChallengeOpen)
    outputs = Prover(matrix).work(go)
    opened = ChallengeOpened(challenge_id=go.challenge_id, outputs=tuple(outputs[step] for step in opening.steps))
    verdict = swarm_state.heard(1, ANN, opened, 9 * NS_PER_S)[1]
    assert verdict == Verdict(ANN, False, "showed another product 0 than it had committed to")


def test_a_chain_that_restarts_in_the_middle_is_detected(swarm_state: ComputeAttestation, matrix: np.ndarray) -> None:
    """Half of the products are of inputs that no product made: they were had in parallel, or kept from before."""
    go = begun(swarm_state)
    outputs = Prover(matrix).work(go)
    stale = matrix @ np.ones(SIZE, np.float32)
    outputs[go.steps // 2 :] = [stale.astype("<f4").tobytes()] * (go.steps - go.steps // 2)
    verdict = shown(swarm_state, go, outputs, NS_PER_MS)
    assert verdict is not None
    assert not verdict.passed


@pytest.mark.parametrize("hashes", [b"", b"\0" * 31, b"\0" * 32 * 17], ids=["none", "a cut one", "one too many"])
def test_another_number_of_hashes_than_products_is_refused(swarm_state: ComputeAttestation, hashes: bytes) -> None:
    go = begun(swarm_state)
    verdict = swarm_state.heard(1, ANN, ChallengeCommit(challenge_id=go.challenge_id, hashes=hashes), NS_PER_MS)[1]
    assert verdict == Verdict(ANN, False, "committed to another number of products than requested")


def test_outputs_that_are_no_numbers_are_refused(swarm_state: ComputeAttestation) -> None:
    go = begun(swarm_state)
    verdict = shown(swarm_state, go, [np.full(SIZE, np.nan, "<f4").tobytes()] * go.steps, NS_PER_MS)
    assert verdict == Verdict(ANN, False, "product 0 of 16 is wrong")


def test_a_node_that_cannot_take_part_is_not_verified_and_not_blamed(swarm_state: ComputeAttestation) -> None:
    swarm_state.came(1, ANN, 0)
    ((_, offer),) = swarm_state.due(0)[0]
    assert isinstance(offer, Challenge)
    trouble = ChallengeReady(challenge_id=offer.challenge_id, trouble="torch is not installed")
    assert swarm_state.heard(1, ANN, trouble, 1) == (None, None)
    assert (swarm_state.verified(ANN, 2), swarm_state.record(ANN).failed) == (False, 0)
    assert swarm_state.due(AGAIN_NS // 2) == ([], [])


def test_claims_far_beyond_what_was_shown_take_the_mark_away_and_blame_nobody(
    swarm_state: ComputeAttestation, matrix: np.ndarray
) -> None:
    go = begun(swarm_state)
    shown(swarm_state, go, Prover(matrix).work(go), 300 * NS_PER_MS)
    rate = swarm_state.record(ANN).shown_gbps

    def says(gbps: float) -> str | None:
        sample = RooflineSample(at_ns=1, device="d", dtype="fp16", mem_gbps=gbps, tflops=1.0)
        return swarm_state.claims(1, ANN, sample, NS_PER_S)

    assert says(rate * MAX_CLAIM * 0.99) is None
    assert swarm_state.verified(ANN, NS_PER_S)
    assert says(rate * MAX_CLAIM * 1.01) == "at least 3.58 GB/s shown, 72 claimed: not verified for now"
    assert says(rate * MAX_CLAIM * 1.01) is None  # told once
    assert not swarm_state.verified(ANN, NS_PER_S)
    assert swarm_state.record(ANN).failed == 0
    assert isinstance(swarm_state.due(NS_PER_S + LATER_NS)[0][0][1], Challenge)


def test_inputs_do_not_die_out_over_a_long_chain(matrix: np.ndarray) -> None:
    x = arithmetic.first_input(b"s" * 32, ANN, 1).astype(np.float32)
    for _ in range(60):
        x = arithmetic.next_input(matrix @ x)
    assert 4.0 < float(x.std()) < 12.0
