"""Keep the open sessions: probes, here and at other collectors, and viewers."""

from __future__ import annotations

from typing import Protocol

from swarm_collector.cluster.connection import ProbeConnection
from swarm_collector.transport.keepalive import SessionOver
from swarm_protocol.messages.probe_messages import CollectorMessage


class ViewerConnection(Protocol):
    @property
    def number(self) -> int: ...
    def notice(self, text: str) -> None: ...
    def end(self, over: SessionOver) -> None: ...


class SessionTable:
    def __init__(self) -> None:
        self.probes: dict[int, ProbeConnection] = {}
        self.viewers: dict[int, ViewerConnection] = {}
        self._of_node: dict[str, ProbeConnection] = {}

    def add_probe(self, node_id: str, connection: ProbeConnection) -> ProbeConnection | None:
        """Add a session; return the connection that it replaces, if the node has another."""
        before = self._of_node.get(node_id)
        self.probes[connection.number] = self._of_node[node_id] = connection
        if before is None or before is connection:
            return None
        self.probes.pop(before.number, None)
        return before

    def remove_probe(self, node_id: str, connection: ProbeConnection) -> None:
        self.probes.pop(connection.number, None)
        if self._of_node.get(node_id) is connection:
            del self._of_node[node_id]

    def of_node(self, node_id: str) -> ProbeConnection | None:
        return self._of_node.get(node_id)

    def send(self, number: int, message: CollectorMessage) -> None:
        """Send to the probe of this session, if it is still connected."""
        if (probe := self.probes.get(number)) is not None:
            probe.send(message)

    def notice(self, line: str) -> None:
        """Show a line to every viewer."""
        for viewer in self.viewers.values():
            viewer.notice(line)

    def end_all(self, over: SessionOver) -> None:
        for probe in tuple(self.probes.values()):
            probe.end(over)
        for viewer in tuple(self.viewers.values()):
            viewer.end(over)
