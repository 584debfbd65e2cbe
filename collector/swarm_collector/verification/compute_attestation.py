"""Compute attestation: offer challenges, enforce deadlines, check answers, remember which nodes passed.

The steps of a challenge: offer (draw the matrix) → ready (with the time of one product) → go (the seed; the clock runs)
→ commit (hashes of all outputs) → open (a few of them, chosen now) → opened → verdict. The arithmetic, and the test
that each opened output passes, are `swarm_protocol.trust.attestation`. The node states how long a product takes and is
held to it: so a slow node passes, and what it has shown bounds what it may claim later. Pure: time and randomness are
passed in.

For trust: `record` is what is known of a node; every `Verdict` is reported through `judged`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from swarm_protocol.messages.probe_messages import (
    Challenge,
    ChallengeCommit,
    ChallengeGo,
    ChallengeOpen,
    ChallengeOpened,
    ChallengeReady,
    CollectorMessage,
)
from swarm_protocol.messages.samples import RooflineSample
from swarm_protocol.trust import attestation as arithmetic
from swarm_protocol.units import NS_PER_MS, NS_PER_S

AT_ONCE: Final = 4  # answers in progress in the whole swarm: each is some hundred KB
OFFER_NS: Final = 600 * NS_PER_S  # from the offer to being ready: torch may load from a cold disk, or be busy measuring
OPEN_NS: Final = 120 * NS_PER_S  # for the outputs to arrive over a slow uplink: they are committed to already
AGAIN_NS: Final = 6 * 3600 * NS_PER_S
LATER_NS: Final = 900 * NS_PER_S  # after an offer without result
VALID_NS: Final = 2 * AGAIN_NS
WORK_MS: Final = 250.0  # of products: more than a round trip, little enough to go unnoticed
SLACK: Final = 4.0  # times what the node itself stated
GRACE_MS: Final = 2_000.0  # round trip, and whatever else the machine does meanwhile
MAX_LATE: Final = 2  # in a row: a machine may be busy once, and is challenged again
SOON_NS: Final = 60 * NS_PER_S
SLOWEST_MS: Final = 2_000.0  # of one product: a slower machine computes no layer in useful time
MAX_CLAIM: Final = 20.0  # times what was shown: launches and the network cost something, but not that much
PICKED: Final = 6  # products that are checked: a node that made up a tenth is caught every third time
ITEMSIZE: Final = {"fp32": 4, "fp16": 2, "bf16": 2}


Answered = ChallengeReady | ChallengeCommit | ChallengeOpened


@dataclass(frozen=True, slots=True)
class Verdict:
    node_id: str
    passed: bool
    detail: str  # one line


@dataclass(slots=True)
class Record:
    """What is known of one node."""

    passed: int = 0
    failed: int = 0
    passed_ns: int | None = None  # steady time of the last pass; None since a failure
    late: int = 0  # in a row
    doubted: bool = False  # claims more than it has shown, which may be due to load: neither verified nor failed
    shown_gbps: float = 0.0  # matrix bytes a second shown in the last pass: a lower bound
    last: str = ""


@dataclass(slots=True)
class _Open:
    """One challenge in progress."""

    challenge_id: int
    node_id: str
    until_ns: int
    seed: bytes = b""
    steps: int = 0
    dtype: str = ""
    sent_ns: int = 0
    elapsed_ms: float = 0.0
    hashes: bytes = b""
    picked: tuple[int, ...] = ()


@dataclass(slots=True)
class ComputeAttestation:
    rng: random.Random  # unpredictable
    make_checker: Callable[[bytes, bytes], arithmetic.Checker] = arithmetic.Checker
    dtype: str = "fp16"  # of the focused model
    _matrix_seed: bytes = b""
    _checker: arithmetic.Checker | None = None
    _waiting: deque[tuple[int, int, str]] = field(default_factory=deque)  # not before, session, node
    _open: dict[int, _Open] = field(default_factory=dict)  # by session
    _used: dict[int, int] = field(default_factory=dict)  # challenge → session, of those sent
    _records: dict[str, Record] = field(default_factory=dict)

    # ------------------------------------------------------------ members

    def came(self, session: int, node_id: str, now_ns: int) -> None:
        """Add a session whose probe has torch."""
        self._waiting.append((now_ns, session, node_id))

    def gone(self, session: int) -> None:
        self._open.pop(session, None)
        self._waiting = deque(each for each in self._waiting if each[1] != session)

    def record(self, node_id: str) -> Record:
        return self._records.setdefault(node_id, Record())

    def verified(self, node_id: str, now_ns: int) -> bool:
        known = self._records.get(node_id)
        if known is None or known.passed_ns is None or known.doubted:
            return False
        return now_ns - known.passed_ns < VALID_NS

    def claims(self, session: int, node_id: str, sample: RooflineSample, now_ns: int) -> str | None:
        """Return a line if a node claims far more than it has shown: it is then not verified, and challenged again."""
        known = self._records.get(node_id)
        if known is None or known.passed_ns is None or known.doubted:
            return None
        if sample.mem_gbps <= MAX_CLAIM * known.shown_gbps:
            return None
        known.doubted = True
        self._reschedule(session, node_id, now_ns + LATER_NS)
        return f"at least {known.shown_gbps:.3g} GB/s shown, {sample.mem_gbps:.0f} claimed: not verified for now"

    # ------------------------------------------------------------ going on

    @property
    def unprepared(self) -> bool:
        """Return whether a matrix is needed: call `prepare`, in a thread of its own."""
        return self._checker is None and bool(self._waiting)

    def prepare(self) -> None:
        """Draw the matrix and project it: about 0.1 s, once in a collector's life. All nodes get the same."""
        seed = self.rng.randbytes(arithmetic.SEED_BYTES)
        checker = self.make_checker(seed, self.rng.randbytes(arithmetic.SEED_BYTES))
        self._matrix_seed, self._checker = seed, checker

    def due(self, now_ns: int) -> tuple[list[tuple[int, CollectorMessage]], list[Verdict]]:
        """Return (what to send to which session, verdicts on missed deadlines)."""
        verdicts = []
        for session, each in list(self._open.items()):
            if now_ns <= each.until_ns:
                continue
            del self._open[session]
            late = self._late(each.node_id, "no answer to a challenge within its deadline") if each.steps else None
            verdicts += [late] if late is not None else []
            self._reschedule(session, each.node_id, now_ns + (SOON_NS if each.steps else LATER_NS))
        messages: list[tuple[int, CollectorMessage]] = []
        for _ in range(len(self._waiting)):
            if self._checker is None or len(self._open) >= AT_ONCE:
                break
            not_before_ns, session, node_id = self._waiting.popleft()
            if now_ns < not_before_ns:
                self._waiting.append((not_before_ns, session, node_id))
                continue
            number = self.rng.getrandbits(52)
            self._open[session] = _Open(number, node_id, now_ns + OFFER_NS)
            self._used[number] = session
            messages.append((session, Challenge(challenge_id=number, matrix_seed=self._matrix_seed, dtype=self.dtype)))
        return messages, verdicts

    def heard(
        self, session: int, node_id: str, message: Answered, now_ns: int
    ) -> tuple[CollectorMessage | None, Verdict | None]:
        """Take a message of a node. Return (answer, verdict if this ended the challenge)."""
        mine = self._open.get(session)
        if mine is None or mine.challenge_id != message.challenge_id:
            return None, self._stray(session, node_id, message)
        if isinstance(message, ChallengeReady) and not mine.steps:
            return self._go(session, mine, message, now_ns), None
        if isinstance(message, ChallengeCommit) and mine.steps and not mine.hashes:
            return self._committed(session, mine, message, now_ns)
        if isinstance(message, ChallengeOpened) and mine.hashes:
            return None, self._opened(session, mine, message, now_ns)
        return None, self._end(session, mine, False, f"a {type(message).__name__} out of its turn", now_ns)

    def _stray(self, session: int, node_id: str, message: Answered) -> Verdict | None:
        if isinstance(message, ChallengeReady):
            return None  # of an offer that was withdrawn meanwhile
        owner = self._used.get(message.challenge_id)
        if owner is None:
            return self._judge(node_id, False, "an answer to a challenge that was never sent")
        whose = "that was another node's" if owner != session else "that is over: a seed counts once"
        return self._judge(node_id, False, f"an answer to a challenge {whose}")

    def _go(self, session: int, mine: _Open, ready: ChallengeReady, now_ns: int) -> ChallengeGo | None:
        if ready.trouble or ready.dtype not in ITEMSIZE or not 0 < ready.step_ms < SLOWEST_MS:
            del self._open[session]
            self._waiting.append((now_ns + AGAIN_NS, session, mine.node_id))
            self.record(mine.node_id).last = ready.trouble or f"one product takes {ready.step_ms:g} ms"
            return None
        fewest, most = arithmetic.STEPS
        steps = round(WORK_MS / ready.step_ms / arithmetic.STEP_OF) * arithmetic.STEP_OF
        mine.steps = max(fewest, min(steps, most))
        mine.dtype, mine.seed, mine.sent_ns = ready.dtype, self.rng.randbytes(arithmetic.SEED_BYTES), now_ns
        deadline_ms = GRACE_MS + SLACK * mine.steps * ready.step_ms
        mine.until_ns = now_ns + round(deadline_ms * NS_PER_MS)
        return ChallengeGo(challenge_id=mine.challenge_id, seed=mine.seed, steps=mine.steps, deadline_ms=deadline_ms)

    def _committed(
        self, session: int, mine: _Open, commit: ChallengeCommit, now_ns: int
    ) -> tuple[ChallengeOpen | None, Verdict | None]:
        mine.elapsed_ms = (now_ns - mine.sent_ns) / NS_PER_MS
        if now_ns > mine.until_ns:
            del self._open[session]
            self._reschedule(session, mine.node_id, now_ns + SOON_NS)
            return None, self._late(mine.node_id, f"answered after {mine.elapsed_ms:.0f} ms, later than allowed")
        if len(commit.hashes) != arithmetic.HASH_BYTES * mine.steps:
            return None, self._end(
                session, mine, False, "committed to another number of products than requested", now_ns
            )
        mine.hashes = commit.hashes
        # the first, which holds the seed, and the last; each output with the one that its input was made of
        products = {0, mine.steps - 1, *(self.rng.randrange(mine.steps) for _ in range(PICKED - 2))}
        mine.picked = tuple(sorted(products | {step - 1 for step in products if step}))
        mine.until_ns = now_ns + OPEN_NS
        return ChallengeOpen(challenge_id=mine.challenge_id, steps=mine.picked), None

    def _opened(self, session: int, mine: _Open, opened: ChallengeOpened, now_ns: int) -> Verdict:
        if (wrong := self._wrong(mine, opened)) is not None:
            return self._end(session, mine, False, wrong, now_ns)
        moved = mine.steps * arithmetic.SIZE**2 * ITEMSIZE[mine.dtype]
        self.record(mine.node_id).shown_gbps = shown = moved / (mine.elapsed_ms / 1000) / 1e9
        size = f"{mine.steps} products of {arithmetic.SIZE}×{arithmetic.SIZE} in {mine.dtype}"
        return self._end(
            session, mine, True, f"{size} within {mine.elapsed_ms:.0f} ms, at least {shown:.3g} GB/s", now_ns
        )

    def _wrong(self, mine: _Open, opened: ChallengeOpened) -> str | None:
        assert self._checker is not None
        if len(opened.outputs) != len(mine.picked):
            return "showed another number of products than requested"
        found: dict[int, arithmetic.Vector] = {}
        for step, output in zip(mine.picked, opened.outputs, strict=True):
            at = step * arithmetic.HASH_BYTES
            if arithmetic.commitment(output) != mine.hashes[at : at + arithmetic.HASH_BYTES]:
                return f"showed another product {step} than it had committed to"
            if len(output) != 4 * arithmetic.SIZE:
                return f"product {step} has {len(output)} bytes"
            found[step] = np.frombuffer(output, "<f4").astype(np.float32)
        for step, y in found.items():
            if step and step - 1 not in found:
                continue  # shown as an input only
            if step == 0:
                x = arithmetic.first_input(mine.seed, mine.node_id, mine.challenge_id).astype(np.float32)
            else:
                x = arithmetic.next_input(found[step - 1])
            if not self._checker.holds(x, y, mine.dtype):
                return f"product {step} of {mine.steps} is wrong"
        return None

    def _late(self, node_id: str, detail: str) -> Verdict | None:
        known = self.record(node_id)
        known.late += 1
        known.last = detail
        return self._judge(node_id, False, f"{detail}, {known.late} times in a row") if known.late >= MAX_LATE else None

    def _reschedule(self, session: int, node_id: str, not_before_ns: int) -> None:
        """Challenge this session again, instead of at the time planned before."""
        self._waiting = deque(each for each in self._waiting if each[1] != session)
        self._waiting.append((not_before_ns, session, node_id))

    def _end(self, session: int, mine: _Open, passed: bool, detail: str, now_ns: int) -> Verdict:
        del self._open[session]
        self._reschedule(session, mine.node_id, now_ns + round(AGAIN_NS * self.rng.uniform(0.8, 1.2)))
        if passed:
            known = self.record(mine.node_id)
            known.passed_ns, known.late, known.doubted = now_ns, 0, False
        return self._judge(mine.node_id, passed, detail)

    def _judge(self, node_id: str, passed: bool, detail: str) -> Verdict:
        known = self.record(node_id)
        known.last = detail
        if passed:
            known.passed += 1
        else:
            known.failed += 1
            known.passed_ns = None
        return Verdict(node_id, passed, detail)
