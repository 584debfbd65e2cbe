"""Run rounds of hops with each peer at the plan's rate: a task a peer, one round at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from swarm_probe.clocks import Clocks
from swarm_probe.measure import hop
from swarm_probe.measure.dialer import Dialer
from swarm_probe.measure.peer import PeerState
from swarm_probe.measure.slot_scheduler import SlotScheduler
from swarm_probe.streams.channel import Busy, Channel, NoAnswer, PeerError
from swarm_probe.streams.tcp_endpoint import Purpose
from swarm_protocol.hop_round import AFTER_IDLE, MESSAGES_MIN, PREFILL_ROUNDS, ROUND_BYTES
from swarm_protocol.messages.probe_messages import Plan
from swarm_protocol.messages.samples import HopSample, Phase, ProbeSample
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS, NS_PER_S, ms_from_ns

FIRST_HOP_S: Final = 2.0  # rounds with a new peer begin within this, since people wait for the first figure
POSTPONED_NS: Final = 30 * NS_PER_S  # a round that would disturb others is tried again after this
RETRY_NS: Final = 5 * NS_PER_S  # after a round that a transfer cut short, or that gave nothing
RETRIES: Final = 3  # in a row, of the latter
MIN_EVERY_NS: Final = NS_PER_S
MAX_QUIC_BYTES: Final = 32 << 10  # of a message: for 128 KB, TCP takes 102 ms where aioquic takes 120 to 450

log = logging.getLogger(__name__)


class _Interrupted(Exception):
    """A transfer began before the round could say anything."""


def hop_config(plan: Plan) -> tuple[int, float, float]:
    return plan.hop_bytes, plan.hop_cadence_ms, plan.hop_every_ms


class HopRounds:
    def __init__(
        self,
        dialer: Dialer,
        line: SlotScheduler,
        emit: Callable[[ProbeSample], None],
        counts: Counter[str],
        clocks: Clocks,
        rng: random.Random,
    ) -> None:
        self._dialer = dialer
        self._line = line
        self._emit = emit
        self._counts = counts
        self._clocks = clocks
        self._rng = rng

    async def with_peer(self, member: PeerState, plan: Plan) -> None:
        """Measure one peer until cancelled."""
        every_ns = max(MIN_EVERY_NS, int(plan.hop_every_ms * NS_PER_MS))
        soon_ns = int(self._rng.random() * min(FIRST_HOP_S * NS_PER_S, every_ns))
        due_ns = self._clocks.mono_ns() + soon_ns
        if member.hop_began is not None and member.hop_began[1] == plan.hop_bytes:
            # only the rate changed, as it does whenever a member joins or leaves: no reason for a round
            due_ns = max(due_ns, member.hop_began[0] + every_ns)
        in_vain = 0  # failed rounds, in a row
        while True:
            await self._rest(member, due_ns)
            if self._line.why_waiting(ROUND_BYTES) is not None:
                self._counts["hops_postponed"] += 1
                due_ns = self._clocks.mono_ns() + min(every_ns, POSTPONED_NS)
                continue
            began_ns = self._clocks.mono_ns()
            member.hop_began = began_ns, plan.hop_bytes
            wait_ns = every_ns
            try:
                await self._round(member, plan)
                in_vain, error = 0, ""
            except _Interrupted:
                self._counts["hops_interrupted"] += 1
                error = member.hop_error
                wait_ns = RETRY_NS
            except PeerError as failed:
                self._counts["hops_failed"] += 1
                error = str(failed)
                in_vain += 1
                if in_vain <= RETRIES:  # a hole may not be open yet, or the peer serves a transfer
                    wait_ns = RETRY_NS
                elif isinstance(failed, Busy):
                    wait_ns = POSTPONED_NS
            if error != member.hop_error:
                log.info("hops to %s: %s", safe(member.peer.name), error or "measured again")
                member.hop_error = error
            if wait_ns < every_ns:
                member.hop_began = None  # a new plan is no reason to wait longer for the figure
            due_ns = began_ns + min(wait_ns, every_ns)

    async def _rest(self, member: PeerState, due_ns: int) -> None:
        """Wait until then, or until a NAT hole to the peer opens that the last round did not have."""
        rest_s = max(0, due_ns - self._clocks.mono_ns()) / NS_PER_S
        if member.rtt is None:
            await asyncio.sleep(rest_s)
            return
        await asyncio.sleep(0)  # let other tasks run even if a round is overdue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await member.rtt.opened.wait()
        member.rtt.opened.clear()

    async def serve(self, stream: Channel, peer: str, size: int) -> None:
        """Serve the other end of a round."""
        with self._line.serving_hops():
            try:
                await hop.serve(stream, size, self._clocks.mono_ns, lambda: self._line.transferring)
            finally:
                self._line.book("hop", peer, stream)

    async def _round(self, member: PeerState, plan: Plan) -> None:
        """Measure a prefill chunk now and then, then a decode step's: the newest figure of a link is always a decode
        step's."""
        cadence_ns = min(hop.MAX_CADENCE_NS, int(plan.hop_cadence_ms * NS_PER_MS))
        await self._line.no_transfer.wait()
        if plan.prefill_bytes and member.hop_rounds >= member.prefill_at:
            try:
                await self._hop(member, plan.prefill_bytes, cadence_ns, "prefill")
                member.prefill_at = member.hop_rounds + PREFILL_ROUNDS
            except NoAnswer:
                if not self._dialer.others(member, Purpose.HOP, plan.hop_bytes):
                    raise
        if await self._hop(member, plan.hop_bytes, cadence_ns, "decode"):
            member.hop_rounds += 1

    async def _hop(self, member: PeerState, size_bytes: int, cadence_ns: int, phase: Phase) -> bool:
        """Return False if nothing of this size is measured on this path. Raises PeerError or _Interrupted."""
        decode = phase == "decode"
        if size_bytes > MAX_QUIC_BYTES and self._dialer.by_quic(member):
            self._counts["hops_not_by_quic"] += 1  # it would measure aioquic, not the path
            return False
        stream, transport = await self._dialer.dial(member, Purpose.HOP, size_bytes)
        try:
            if size_bytes > MAX_QUIC_BYTES and transport == "quic":
                self._counts["hops_not_by_quic"] += 1
                return False
            async with self._line.hop_turn:
                measured = await hop.measure(
                    stream,
                    size_bytes,
                    cadence_ns,
                    self._clocks.mono_ns,
                    lambda: self._line.transferring,
                    messages=None if decode else MESSAGES_MIN,
                    after_idle=AFTER_IDLE if decode and transport == "tcp" else 0,
                )
        finally:
            stream.close()
            self._line.book("hop", member.peer.node_id, stream)
        if measured is None:
            raise _Interrupted
        self._counts["hops_measured"] += 1
        # over QUIC it would not show that TCP works, which a link's sample implies
        if decode and member.rtt is not None and transport == "tcp":
            member.rtt.hop_ms = ms_from_ns(measured.at(0.50))
        self._emit(
            HopSample(
                at_ns=self._clocks.wall_ns(),
                peer=member.peer.node_id,
                size_bytes=size_bytes,
                cadence_ms=ms_from_ns(cadence_ns),
                n=len(measured.ordered_ns),
                first_ms=ms_from_ns(measured.first_ns),
                after_idle_ms=None if measured.after_idle_ns is None else ms_from_ns(measured.after_idle_ns),
                min_ms=ms_from_ns(measured.ordered_ns[0]),
                p50_ms=ms_from_ns(measured.at(0.50)),
                p95_ms=ms_from_ns(measured.at(0.95)),
                p99_ms=ms_from_ns(measured.at(0.99)),
                transport=transport,
                phase=phase,
            )
        )
        return True
