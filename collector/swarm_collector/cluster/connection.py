"""Define the connection to a probe as the rest of the collector sees it: held by this collector or by another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from swarm_collector.transport.keepalive import SessionOver
from swarm_protocol.messages.probe_messages import CollectorMessage


class ProbeConnection(Protocol):
    number: int  # of the session; below 0: another collector holds it

    def send(self, message: CollectorMessage) -> None: ...
    def end(self, over: SessionOver) -> None: ...
    def look(self, now_ns: int) -> None:
        """End a session that has been silent or stuck for too long."""

    def clock_set(self, step_ns: int) -> None:
        """This collector's wall clock was set ahead by so much."""


class RemoteProbe:
    """A probe that another collector holds: `forward` carries messages to that collector."""

    def __init__(
        self, number: int, collector: int, node_id: str, forward: Callable[[RemoteProbe, CollectorMessage], None]
    ) -> None:
        self.number = number
        self.collector = collector
        self.node_id = node_id
        self._forward = forward

    def send(self, message: CollectorMessage) -> None:
        self._forward(self, message)

    def end(self, over: SessionOver) -> None:
        """Do nothing: the collector that holds the session ends it."""

    def look(self, now_ns: int) -> None:
        """Do nothing: the collector that holds the session watches it."""

    def clock_set(self, step_ns: int) -> None:
        """Do nothing: the collector that holds the session dates its samples."""
