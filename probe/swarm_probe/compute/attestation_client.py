"""Pass challenge messages between the collector and the child that answers them. No torch here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from swarm_probe.compute.job import Job, Order, Trouble, report_from_line, to_line
from swarm_protocol.messages.probe_messages import Challenge, ChallengeCommit, ChallengeOpened, ChallengeReady
from swarm_protocol.text import safe

Answer = ChallengeReady | ChallengeCommit | ChallengeOpened


class Challenger:
    """One challenge, from its arrival to its last answer."""

    def __init__(self, challenge: Challenge, node_id: str, send: Callable[[Answer], None]) -> None:
        """Create it. It does not wait for other probes: it is short, and its deadline allows for contention."""
        self._challenge = challenge
        self._node_id = node_id
        self._send = send
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._committed = False
        self.over = asyncio.Event()  # the connection that it came over has ended, and with it the challenge

    def order(self, order: Order) -> None:
        if order.challenge_id == self._challenge.challenge_id:
            self._orders.put_nowait(order)

    def give_up(self, why: str) -> None:
        if not self._committed and not self.over.is_set():
            self._send(ChallengeReady(challenge_id=self._challenge.challenge_id, trouble=safe(why, 300)))

    async def converse(self, child: asyncio.subprocess.Process, ram_bytes: int) -> bool:
        """Return True once the outputs were shown; False if the child ends before."""
        assert child.stdin is not None
        assert child.stdout is not None
        job = Job(challenge=self._challenge, node_id=self._node_id, ram_limit_bytes=ram_bytes)
        passing_on = asyncio.create_task(self._pass_on(child.stdin, job))
        try:
            while line := await child.stdout.readline():
                report = report_from_line(line)
                if isinstance(report, Answer):
                    self._committed = self._committed or isinstance(report, ChallengeCommit)
                    self._send(report)
                if isinstance(report, ChallengeOpened):
                    return True
                if isinstance(report, Trouble):
                    self.give_up(report.reason)
                    return True
        except (ValueError, msgspec.DecodeError):  # a line without end, or an invalid one
            return False
        finally:
            passing_on.cancel()
            await asyncio.gather(passing_on, return_exceptions=True)
        return False

    async def _pass_on(self, stdin: asyncio.StreamWriter, job: Job) -> None:
        line = to_line(job)
        with contextlib.suppress(ConnectionError):  # the child is gone: reading says so
            while True:
                stdin.write(line)
                await stdin.drain()
                line = to_line(await self._orders.get())
