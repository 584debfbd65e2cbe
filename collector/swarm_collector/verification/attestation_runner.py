"""Run compute attestation: send challenges, enforce deadlines, report verdicts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from swarm_collector.clock import Clock
from swarm_collector.members.membership import Member, NodeEvent
from swarm_collector.verification.compute_attestation import Answered, ComputeAttestation, Verdict
from swarm_protocol.messages.probe_messages import CollectorMessage
from swarm_protocol.messages.samples import RooflineSample

LOOK_S: Final = 0.25  # how late a missed deadline may be noticed; answers are judged as they come


class AttestationRunner:
    def __init__(
        self, clock: Clock, send: Callable[[int, CollectorMessage], None], report: Callable[[NodeEvent], None]
    ) -> None:
        """Create a runner. `send`: to a session, if it is still connected."""
        self._clock = clock
        self._send = send
        self._report = report
        self.challenges = ComputeAttestation(random.SystemRandom())
        self.judged: list[Callable[[Verdict], None]] = []  # called with each verdict

    def came(self, session: int, member: Member) -> None:
        if member.hello is not None and member.hello.facts.torch is not None:
            self.challenges.came(session, member.node_id, self._clock.steady_ns())

    def gone(self, session: int) -> None:
        self.challenges.gone(session)

    def verified(self, node_id: str) -> bool:
        return self.challenges.verified(node_id, self._clock.steady_ns())

    def heard(self, session: int, member: Member, message: Answered) -> None:
        answer, verdict = self.challenges.heard(session, member.node_id, message, self._clock.steady_ns())
        if answer is not None:
            self._send(session, answer)
        self._judge(verdict)

    def doubt(self, member: Member, sample: RooflineSample) -> None:
        """Report a node that claims far more than it has shown."""
        if member.session is None:
            return
        line = self.challenges.claims(member.session, member.node_id, sample, self._clock.steady_ns())
        if line is not None:
            self._report(NodeEvent(member.node_id, "challenge", line))

    async def run(self) -> None:
        """Offer challenges and enforce the deadlines of answers, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.challenges.unprepared:
                await asyncio.to_thread(self.challenges.prepare)
            messages, verdicts = self.challenges.due(self._clock.steady_ns())
            for session, message in messages:
                self._send(session, message)
            for verdict in verdicts:
                self._judge(verdict)

    def _judge(self, verdict: Verdict | None) -> None:
        if verdict is None:
            return
        self._report(
            NodeEvent(verdict.node_id, "challenge", f"{'passed' if verdict.passed else 'failed'}: {verdict.detail}")
        )
        for hear in self.judged:
            hear(verdict)
