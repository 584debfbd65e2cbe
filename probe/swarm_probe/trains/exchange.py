"""Run both ends of a test with trains: send them at their pace, collect them, report arrivals."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Callable
from typing import Final

import msgspec

from swarm_probe.streams.channel import Channel, PeerError, Unreachable, read_exactly
from swarm_probe.trains import wire
from swarm_probe.trains.dispersion import Train
from swarm_probe.trains.port import Collection, TrainPort
from swarm_probe.trains.rounds import MIN_PACKET_BYTES, TRAIN_S, Round, TrainTest
from swarm_protocol.units import BITS_PER_BYTE, NS_PER_MS, NS_PER_S

TICK_S: Final = 0.001  # between two looks at what is due
AT_ONCE: Final = 32  # packets; then others of this program have a turn
LATE_NS: Final = int(2 * TRAIN_S * NS_PER_S)  # a train that takes longer is ended: this machine's own line is slow
SILENCE_NS: Final = 150 * NS_PER_MS  # after which nothing of a train comes any more
COLLECT_S: Final = 3.0  # for the rest of a train, once the sender is done
TEST_S: Final = 60.0  # for all of it, at either end
REPORT_S: Final = 5.0
CLOSE_S: Final = 1.0
_FILLER_BYTES: Final = 1 << 16


class PacketSender(msgspec.Struct, frozen=True):
    """How packets are sent: `send` sends as many of them as it can at once, and returns how many."""

    send: Callable[[list[bytes]], int]
    payload_bytes: int  # of a datagram, so that its IP packet has the test's size


async def send(
    stream: Channel,
    test: TrainTest,
    sender: PacketSender,
    mono_ns: Callable[[], int],
    sent: Callable[[], None] = lambda: None,
) -> None:
    """Send the trains of the test; `sent` is called when the last packet of each has left. Raises
    PeerError."""
    async with asyncio.timeout(TEST_S):
        token = await read_exactly(stream, wire.TOKEN_BYTES)
    number = 0
    while (wanted := test.next_round()) is not None:
        sent_ns = await _send_train(wanted, token, number, test.packet_bytes, sender, mono_ns)
        sent()
        await stream.write(wire.encode_order(wire.Order.TRAIN_SENT, number, len(sent_ns)))
        try:
            async with asyncio.timeout(REPORT_S):
                arrived, dropped = wire.decode_report_head(await read_exactly(stream, wire.REPORT_BYTES))
                encoded = await read_exactly(stream, arrived * wire.ARRIVAL_BYTES)
        except TimeoutError as error:
            raise Unreachable(f"no report of {len(sent_ns)} packets within {REPORT_S:g} s") from error
        arrivals = wire.decode_arrivals(encoded, len(sent_ns))
        test.take(len(sent_ns), Train(test.packet_bytes, sent_ns, arrivals, dropped) if sent_ns else None)
        number += 1


async def finish(stream: Channel) -> None:
    """Tell the other end that nothing follows, and wait until it has closed, for a moment."""
    await stream.write(wire.encode_order(wire.Order.END, 0, 0))
    with contextlib.suppress(TimeoutError, PeerError):
        async with asyncio.timeout(CLOSE_S):
            await stream.read_into(memoryview(bytearray(1)))


async def _send_train(
    wanted: Round, token: bytes, train: int, packet_bytes: int, sender: PacketSender, mono_ns: Callable[[], int]
) -> list[int]:
    """Return when each packet was sent; fewer than wanted where the system refused one, or took too long."""
    filler = memoryview(os.urandom(_FILLER_BYTES))  # nothing on the path may compress it
    size = sender.payload_bytes - wire.HEADER_BYTES
    between_ns = 0.0 if math.isinf(wanted.mbps) else packet_bytes * BITS_PER_BYTE * 1e3 / wanted.mbps
    sent_ns: list[int] = []
    began_ns = mono_ns()
    paced_ns = began_ns  # when the burst had left
    while len(sent_ns) < wanted.packets and mono_ns() - began_ns < LATE_NS:
        sent = len(sent_ns)
        if sent < wanted.burst:
            due = wanted.burst
        else:
            due = wanted.burst + int((mono_ns() - paced_ns) / between_ns) if between_ns else wanted.packets
        ready = []
        for index in range(sent, min(due, wanted.packets, sent + AT_ONCE)):
            at = index * size % (_FILLER_BYTES - size)
            ready.append(wire.encode_packet(wire.Packet(token, train, index), filler[at : at + size]))
        before_ns = mono_ns()
        try:
            taken = sender.send(ready)
        except OSError:
            break
        after_ns = mono_ns()
        sent_ns += [before_ns + (after_ns - before_ns) * (k + 1) // taken for k in range(taken)]
        if sent < wanted.burst <= len(sent_ns):
            paced_ns = after_ns
        more = taken == len(ready) and min(due, wanted.packets) > len(sent_ns)
        await asyncio.sleep(0 if more else TICK_S)
    return sent_ns


async def receive(stream: Channel, max_bytes: int, peer: str, port: TrainPort, mono_ns: Callable[[], int]) -> int:
    """Collect trains until the sender has no more; return how many bytes of a transfer follow. PeerError or
    TimeoutError where the sender breaks off."""
    with port.collect(peer, max_bytes // MIN_PACKET_BYTES) as collection:
        dropped_before = port.dropped
        await stream.write(collection.token)
        async with asyncio.timeout(TEST_S):
            while True:
                try:
                    order, train, size = wire.decode_order(await read_exactly(stream, wire.ORDER_BYTES))
                except ValueError as error:
                    raise Unreachable("the peer sent an order that this version does not know") from error
                if order is not wire.Order.TRAIN_SENT:
                    left = max_bytes - collection.received_bytes
                    return min(size, left) if order is wire.Order.TRANSFER else 0
                await _rest_of(collection, train, size, mono_ns)
                dropped, dropped_before = port.dropped - dropped_before, port.dropped
                await stream.write(wire.encode_report(collection.trains.get(train, []), dropped))


async def _rest_of(collection: Collection, train: int, sent: int, mono_ns: Callable[[], int]) -> None:
    """Wait until a train is complete, or silent."""
    since_ns = mono_ns()
    while len(collection.trains.get(train, ())) < sent:
        now_ns = mono_ns()
        silent = now_ns - max(since_ns, collection.latest_ns) > SILENCE_NS
        if silent or now_ns - since_ns > COLLECT_S * NS_PER_S:
            return
        await asyncio.sleep(TICK_S)
