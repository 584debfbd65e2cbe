"""Count every byte of the connection to the collector, and detect traffic that no honest collector sends.

It counts what the kernel has seen (TCP_INFO, Linux): payload, TLS, control frames and failed handshakes alike, with the
headers of every segment; elsewhere what came out of TLS, with a share for headers. Two things end a connection: the
owner's daily bytes are used, or a rate that no honest collector needs.

What an honest collector needs: its largest message is a plan, which names at most 512 members of 1.3 kB each, in
practice 96 members of 250 bytes (32 that are measured, 64 that are answered) whether the swarm has a hundred members or
ten thousand. A small swarm that forms makes a new plan twice a second: 60 kB a second while it lasts. In addition, the
collector relays hops for pairs that nothing else connects, at most 1 MB at once from each member. So 64 KiB a second,
and 4 MiB at once: several whole messages, and four such members. Frames are counted too, since an empty ping costs as
much processor time as a message: acknowledgements of a spool come 50 a second after 500 at once.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

from swarm_probe.collector_client.hangups import Kind
from swarm_probe.owner_limits.traffic_budget import TCP_CONNECTION, TCP_SHARE, TrafficBudget
from swarm_protocol.messages.codec import MAX_MESSAGE_BYTES
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.sizes_durations import size_text

BYTES_PER_S: Final = 64 << 10
BURST_BYTES: Final = 4 << 20
FRAMES_PER_S: Final = 200.0
FRAME_BURST: Final = 2_000.0
RECEIVE_BUFFER_BYTES: Final = 256 << 10  # what arrives while reading is paused; the kernel's usual limit is 6 MB
SEGMENT_BYTES: Final = {socket.AF_INET: 52, socket.AF_INET6: 72}  # headers, with TCP's timestamps

# struct tcp_info, <linux/tcp.h>: bytes acked, bytes received, segments out, segments in
_INFO: Final = struct.Struct("@QQII")
_INFO_AT: Final = 120
Breach = tuple[Kind, str]


class Meter:
    """The traffic of all connections to one collector, one after the other."""

    def __init__(self, traffic_budget: TrafficBudget, wall_ns: Callable[[], int], mono_ns: Callable[[], int]) -> None:
        self._traffic_budget = traffic_budget
        self._wall_ns = wall_ns
        self._mono_ns = mono_ns
        self._bytes = TokenBucket(BYTES_PER_S, BURST_BYTES)
        self._frames = TokenBucket(FRAMES_PER_S, FRAME_BURST)
        self._booked = (0, 0)  # of this connection: sent, received
        self._payload = [0, 0]
        self.breach: Breach | None = None  # of this connection: why it has to end

    @property
    def day_used(self) -> str:
        return f"the {(self._traffic_budget.daily_bytes or 0) / 1e6:g} MB of 24 hours are used"

    def begin(self) -> None:
        """Start counting another connection."""
        self._booked, self._payload, self.breach = (0, 0), [0, 0], None

    def sent(self, size: int) -> None:
        self._payload[0] += size

    def received(self, size: int, connected: Any) -> Breach | None:
        """Count payload; return why to hang up now. `connected`: the socket."""
        self._payload[1] += size
        return self.look(connected)

    def frame(self) -> Breach | None:
        """Count one frame of any kind."""
        if self.breach is None and not self._frames.take(self._mono_ns()):
            self.breach = "rate", f"it sent more than {FRAMES_PER_S:g} frames a second"
        return self.breach

    def too_large(self) -> None:
        """Note that a message exceeded the limit, for which websockets closed the connection before the rate was
        seen."""
        if self.breach is None:
            self.breach = "rate", f"it sent a message of more than {size_text(MAX_MESSAGE_BYTES)}"

    def look(self, connected: Any) -> Breach | None:
        """Account for what is new; also what never came out of TLS."""
        found = tcp_bytes(connected)
        if found is None:
            found = round(self._payload[0] * TCP_SHARE), round(self._payload[1] * TCP_SHARE)
        more = tuple(max(0, now - before) for now, before in zip(found, self._booked, strict=True))
        self._booked = found[0], found[1]
        now_ns = self._wall_ns()
        if any(more):
            self._traffic_budget.spend("collector", "", more[0], more[1], now_ns)
        if self.breach is None and self._bytes.wait_s(self._mono_ns(), more[1]) > 0:
            self.breach = (
                "rate",
                f"it sent more than {BYTES_PER_S >> 10} KiB a second, after {BURST_BYTES >> 20} MiB at once",
            )
        if self.breach is None and self._traffic_budget.over(now_ns):
            self.breach = "day", self.day_used
        return self.breach

    def failed(self, connected: socket.socket | None) -> None:
        """Account for an attempt that gave no connection."""
        found = tcp_bytes(connected) if connected is not None else None
        sent, received = found or (TCP_CONNECTION // 2, 0)
        self._traffic_budget.spend("collector", "", max(0, sent - self._booked[0]), max(0, received - self._booked[1]),
                           self._wall_ns())  # fmt: skip
        self._booked = max(sent, self._booked[0]), max(received, self._booked[1])


def tcp_bytes(connected: Any) -> tuple[int, int] | None:
    """Return (sent, received) by this connection since it was opened, with headers; None if the kernel does not report
    it."""
    if connected is None or not sys.platform.startswith("linux"):
        return None
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_AT + _INFO.size)
    except OSError:
        return None
    if len(info) < _INFO_AT + _INFO.size:
        return None
    acked, received, segments_out, segments_in = _INFO.unpack_from(info, _INFO_AT)
    headers = SEGMENT_BYTES.get(connected.family, 72)
    return acked + headers * segments_out, received + headers * segments_in
