"""Keep measuring members that the first plans of a new session do not name yet.

A collector that has just started knows only the members that have reconnected, which takes them up to a minute. A
member is dropped from measurement when the plan says that it has left, or when the session is old enough for everybody
to be back. Then it is only answered for a while, as the other end may still measure this one. Pure: time is passed in.
"""

from __future__ import annotations

from typing import Final

import msgspec

from swarm_protocol.messages.probe_messages import Peer, Plan
from swarm_protocol.units import NS_PER_S

MEASURED_NS: Final = 120 * NS_PER_S  # of a session: two of the longest waits between a probe's tries
ANSWERED_NS: Final = 240 * NS_PER_S  # of a session: until the other end, which reconnected later, has stopped too
MAX_PEERS: Final = 512  # of a plan


class RetainedMembers:
    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}  # of earlier sessions
        self._plan: Plan | None = None  # the last one as the collector sent it
        self._carried_out: Plan | None = None  # the latest one with retained members added
        self._joined_ns = 0

    def joined(self, now_ns: int) -> None:
        """Note that another session has begun."""
        self._joined_ns = now_ns
        self._peers = {peer.node_id: peer for peer in self._carried_out.peers} if self._carried_out is not None else {}

    def plan(self, plan: Plan, now_ns: int) -> Plan:
        """Return the plan to carry out now that this plan has come."""
        self._plan = plan
        for node_id in (*plan.left, *(peer.node_id for peer in plan.peers)):
            self._peers.pop(node_id, None)
        self._carried_out = self._completed(plan, now_ns)
        return self._carried_out

    def due(self, now_ns: int) -> Plan | None:
        """Return the plan to carry out from now on, where time has changed it."""
        if self._plan is None or not self._peers:
            return None
        before, self._carried_out = self._carried_out, self._completed(self._plan, now_ns)
        return self._carried_out if self._carried_out != before else None

    def _completed(self, plan: Plan, now_ns: int) -> Plan:
        age_ns = now_ns - self._joined_ns
        if age_ns >= ANSWERED_NS:
            self._peers.clear()
        out, into = {peer.ssid_out for peer in plan.peers}, {peer.ssid_in for peer in plan.peers}
        more: list[Peer] = []
        for peer in self._peers.values():
            if len(plan.peers) + len(more) >= MAX_PEERS:
                break
            if peer.ssid_out in out or peer.ssid_in in into:
                continue  # the SSID belongs to another pair by now
            more.append(peer if age_ns < MEASURED_NS else msgspec.structs.replace(peer, measure=False))
        return msgspec.structs.replace(plan, peers=(*plan.peers, *more)) if more else plan
