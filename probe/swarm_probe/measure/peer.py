"""Hold the state of one peer of the plan."""

from __future__ import annotations

import asyncio

import msgspec

from swarm_probe.sockets import Target
from swarm_probe.streams.tcp_endpoint import Caller
from swarm_probe.udp.rtt_session import RttSession
from swarm_protocol.messages.probe_messages import Peer


class PeerState(msgspec.Struct):
    peer: Peer
    tcp: tuple[Target, ...]
    tcp_first: int = 0  # index of the address that answered last
    tcp_again_ns: int = 0  # when TCP is tried again, after it failed
    pace: tuple[int, int] = (0, 0)  # interval and window of its round trips, ns
    rtt: RttSession | None = None  # None: it only answers, has no UDP, or we have none
    hop_task: asyncio.Task[None] | None = None
    hop_began: tuple[int, int] | None = None  # (monotonic ns, bytes a message) of the latest round
    hop_rounds: int = 0  # that gave a figure
    prefill_at: int = 0  # round in which a prefill chunk is sent next
    hop_error: str = ""

    @property
    def caller(self) -> Caller:
        """Return this probe, as the peer knows it."""
        return Caller(self.peer.node_id, self.peer.ssid_out, self.peer.stamp_key)
