"""Send messages with pauses between them over TCP connections on the lab's emulated paths.

Each flow has two hosts and a path of its own; all run at once, each end in a process of its own. A message is timed
until a byte of acknowledgement is back, beside what the sender's kernel says of the connection before it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.support.harness import folder
from bench.support.namespaces import routed
from swarm_lab.emulation import netns

PORT: Final = 9999
CONTROLS: Final = ("reno", "cubic", "bbr")
MAX_FLOWS: Final = 31  # two hosts each, of the 64 that a scenario may have
QUEUE_MS: Final = 200.0  # a bottleneck's, as home routers have
_AVAILABLE: Final = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
# of struct tcp_info (linux/tcp.h), all u32: rto and rtt in µs, windows in segments, retransmissions so far
_RTO_AT, _RTT_AT, _SSTHRESH_AT, _CWND_AT, _RETRANSMITTED_AT = 8, 68, 76, 80, 100
_INFO_BYTES: Final = 104


@dataclass(frozen=True, slots=True)
class Leg:
    """Messages in a row over one connection."""

    size_bytes: int
    gap_ms: float  # from the acknowledgement to the next message
    messages: int
    warm: int = 6  # messages before them, WARM_GAP_MS apart, that open the window
    settle: int = 0  # messages before them with this gap


@dataclass(frozen=True, slots=True)
class Flow:
    """One sender: its legs follow each other, each on a new connection."""

    control: str
    oneway_ms: float
    mbps: float
    loss: float  # of the packets of its messages; acknowledgements arrive
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Message:
    flow: int
    leg: int
    took_ms: float  # until the acknowledgement was back
    rto_ms: float  # these as the kernel had them before the message
    srtt_ms: float
    window: int  # segments
    ssthresh: int  # segments; above 2³⁰: none yet
    retransmitted: int  # segments, by this message


WARM_GAP_MS: Final = 50.0


def controls() -> list[str]:
    """Return the congestion controls that this kernel has."""
    return [name for name in CONTROLS if name in _AVAILABLE.read_text().split()]


def messages(flows: Sequence[Flow], seed: int = 1) -> Iterator[Message]:
    """Yield each message when it is done. Needs root."""
    if len(flows) > MAX_FLOWS:
        raise ValueError(f"{len(flows)} flows; the lab has hosts for {MAX_FLOWS}")
    with folder() as where, routed(_scenario(flows, seed), where) as nets, contextlib.ExitStack() as stack:
        ends: list[multiprocessing.connection.Connection] = []
        for k, flow in enumerate(flows):
            to, here = nets[2 * k], nets[2 * k + 1]
            ours, theirs = multiprocessing.Pipe()
            for process in (
                multiprocessing.Process(target=_serve, args=(to,), daemon=True),
                multiprocessing.Process(target=_send, args=(here, to.address, k, flow, theirs), daemon=True),
            ):
                process.start()
                stack.callback(process.kill)
            theirs.close()
            ends.append(ours)
        while ends:
            for end in multiprocessing.connection.wait(ends):
                assert isinstance(end, multiprocessing.connection.Connection)
                if (message := end.recv()) is None:
                    ends.remove(end)
                else:
                    yield message


def _scenario(flows: Sequence[Flow], seed: int) -> str:
    text = [f'title = "tcp"\nseed = {seed}\n']
    for k, flow in enumerate(flows):
        rates = f"up_mbps = {flow.mbps}, down_mbps = {flow.mbps}"
        line = f"{{ {rates}, delay_ms = {flow.oneway_ms / 2}, queue_ms = {QUEUE_MS} }}"
        text += [f'[[host]]\nname = "{role}-{k}"\naccess = {line}\ntcp = "{flow.control}"\n' for role in ("to", "from")]
    for k, flow in enumerate(flows):
        text.append(f'[[path]]\nfrom = "from-{k}"\nto = "to-{k}"\nboth = false\nloss = {{ rate = {flow.loss} }}\n')
    return "".join(text)


def _serve(net: netns.HostNet) -> None:
    netns.enter(net.namespace_fd)
    with socket.create_server((net.address, PORT)) as listener:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                (size,) = struct.unpack("!I", _exactly(connection, 4) or bytes(4))
                while size and _exactly(connection, size) is not None:
                    connection.sendall(b"a")


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    got = bytearray()
    while len(got) < size:
        piece = connection.recv(min(1 << 16, size - len(got)))
        if not piece:
            return None
        got += piece
    return bytes(got)


def _send(net: netns.HostNet, to: str, number: int, flow: Flow, answer: multiprocessing.connection.Connection) -> None:
    netns.enter(net.namespace_fd)
    for at, leg in enumerate(flow.legs):
        with socket.create_connection((to, PORT)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(struct.pack("!I", leg.size_bytes))
            for k in range(leg.warm + leg.settle + leg.messages):
                time.sleep((WARM_GAP_MS if k < leg.warm else leg.gap_ms) / 1e3)
                before = _info(connection)
                began = time.perf_counter()
                connection.sendall(bytes(leg.size_bytes))
                _exactly(connection, 1)
                took_ms = (time.perf_counter() - began) * 1e3
                if k >= leg.warm + leg.settle:
                    retransmitted = _info(connection)[4] - before[4]
                    rto_us, rtt_us, ssthresh, window, _ = before
                    answer.send(
                        Message(number, at, took_ms, rto_us / 1e3, rtt_us / 1e3, window, ssthresh, retransmitted)
                    )
    answer.send(None)


def _info(connection: socket.socket) -> tuple[int, int, int, int, int]:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    rto, rtt, ssthresh, window, again = (
        struct.unpack_from("=I", info, at)[0] for at in (_RTO_AT, _RTT_AT, _SSTHRESH_AT, _CWND_AT, _RETRANSMITTED_AT)
    )
    return rto, rtt, ssthresh, window, again
