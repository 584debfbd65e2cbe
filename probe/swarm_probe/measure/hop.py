"""Measure one hop as a token takes it: the time from an activation-sized message to its acknowledgement.

The first message of a round uses a fresh connection and is reported apart: what exceeds TCP's initial window pays a
second round trip there. So are the last ones, each after a pause in which TCP forgets how fast it may send: a pipeline
whose token takes longer than that has this delay on every hop. The acknowledgement says how long the other program took
to send it, the kernel how long this one took to notice it: both are subtracted, so that the path and TCP remain. A
transfer at either end stops the round, which then consists of the messages before it: behind a home uplink's queue of a
second the others would say nothing about a token. A round is bounded in messages and in bytes, to spare a volunteer's
uplink.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from typing import Final

import msgspec

from swarm_probe.quantiles import quantile
from swarm_probe.streams.channel import Channel, Unreachable
from swarm_protocol.hop_round import AFTER_IDLE, MESSAGES_MIN, messages_in_round
from swarm_protocol.units import NS_PER_S

MAX_MESSAGE_BYTES: Final = 1 << 20
IDLE_NS: Final = 800_000_000  # longer than the retransmission timeout of any path on earth
MAX_CADENCE_NS: Final = 10 * NS_PER_S  # slower than any decoding that is worth planning for
ANSWER_S: Final = 10.0  # for one acknowledgement: four lost in a row on a slow path take less
IDLE_S: Final = 90.0  # how long a caller may pause between messages, and how long one message may take
SERVED_MESSAGES: Final = 64  # more than any of our rounds has

_ACK: Final = struct.Struct("!BI")  # a mark, and ns from the arrival of the message's last byte to this
ACK_BYTES: Final = _ACK.size
_ACK_MARK: Final = 6
_ACK_BESIDE_TRANSFER: Final = 7
_MAX_ACK: Final = 2**32 - 1
_BUFFER_BYTES: Final = 1 << 16


class HopRound(msgspec.Struct, frozen=True):
    first_ns: int
    ordered_ns: tuple[int, ...]  # those at cadence, ascending; never empty
    after_idle_ns: int | None = None  # median of those after a pause; None: not requested, or interrupted

    def at(self, share: float) -> int:
        return quantile(self.ordered_ns, share)


async def measure(
    stream: Channel,
    size_bytes: int,
    cadence_ns: int,
    mono_ns: Callable[[], int],
    interrupted: Callable[[], bool],
    *,
    messages: int | None = None,
    after_idle: int = AFTER_IDLE,
) -> HopRound | None:
    """Run one round over a fresh connection: the first message, `messages` at cadence (None: the usual number), then
    `after_idle` after pauses. None if it was interrupted too early to say anything. Raises PeerError."""
    payload = os.urandom(size_bytes)  # nothing on the way may compress it
    stream.stamp_arrivals()
    times: list[int] = []
    at_cadence = 1 + (messages or messages_in_round(size_bytes, cadence_ns))
    for number in range(at_cadence + after_idle):
        if number >= at_cadence:
            await asyncio.sleep(IDLE_NS / NS_PER_S)
        if interrupted():
            break
        sent_ns = mono_ns()
        try:
            async with asyncio.timeout(ANSWER_S):
                await stream.write(payload)
                noticed_ns, turnaround_ns, quiet = await _acknowledged(stream)
        except TimeoutError as error:
            raise Unreachable(f"no acknowledgement of a {size_bytes}-byte message within {ANSWER_S:g} s") from error
        now_ns = mono_ns()
        if not quiet or interrupted():
            break
        times.append(max(1, now_ns - sent_ns - noticed_ns - turnaround_ns))
        # a decode step starts when the one before has ended, not before the cadence
        await asyncio.sleep(max(0, sent_ns + cadence_ns - now_ns) / NS_PER_S)
    if len(times) <= MESSAGES_MIN:
        return None
    idle = sorted(times[at_cadence:])
    return HopRound(times[0], tuple(sorted(times[1:at_cadence])), quantile(idle, 0.5) if idle else None)


async def _acknowledged(stream: Channel) -> tuple[int, int, bool]:
    """Return how long ago the acknowledgement arrived, what the other end took to send it (ns), and whether no transfer
    ran there."""
    answer = bytearray(_ACK.size)
    view, waited_ns = memoryview(answer), 0
    while view:
        got, waited_ns = await stream.read_stamped(view)
        if got == 0:
            raise Unreachable("the peer closed the connection in the middle of a round")
        view = view[got:]
    mark, turnaround_ns = _ACK.unpack(answer)
    if mark not in (_ACK_MARK, _ACK_BESIDE_TRANSFER):
        raise Unreachable(f"the peer acknowledged with {mark}, not {_ACK_MARK}")
    return waited_ns, turnaround_ns, mark == _ACK_MARK


async def serve(
    stream: Channel, size_bytes: int, mono_ns: Callable[[], int], transferring: Callable[[], bool] = lambda: False
) -> None:
    """Serve the other end: acknowledge every `size_bytes`. Raises PeerError or TimeoutError if the caller breaks
    off."""
    buffer = memoryview(bytearray(min(size_bytes, _BUFFER_BYTES)))
    stream.stamp_arrivals()
    for _ in range(SERVED_MESSAGES):
        async with asyncio.timeout(IDLE_S):
            missing, waited_ns, noticed_ns = size_bytes, 0, 0
            while missing:
                got, waited_ns = await stream.read_stamped(buffer[: min(missing, len(buffer))])
                noticed_ns = mono_ns()
                if got == 0:
                    return
                missing -= got
            turnaround_ns = waited_ns + mono_ns() - noticed_ns
            mark = _ACK_BESIDE_TRANSFER if transferring() else _ACK_MARK
            await stream.write(_ACK.pack(mark, min(turnaround_ns, _MAX_ACK)))
