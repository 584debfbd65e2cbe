"""Define what happens in a swarm, as events.

A collector applies each event to its own state (`state.SwarmState.apply`): those of its own sessions, which it then
publishes, and those that another collector published. The tags are the wire format between collectors.
"""

from __future__ import annotations

import msgspec

from swarm_collector.members.membership import Member
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.probe_messages import Hello, LeaseDone, Reach
from swarm_protocol.messages.samples import EventKind, Sample
from swarm_protocol.messages.viewer_messages import Focus


class ProbeJoined(msgspec.Struct, frozen=True, tag="came"):
    """A probe was admitted. Its hello comes without key, proof and token: only its own collector checks those."""

    node_id: str
    name: str
    hello: Hello
    observed: str
    reached: str
    beat_ns: int
    again: bool = False  # a copy for a collector that has just started: the probe has been connected for some time


class NatReported(msgspec.Struct, frozen=True, tag="reached"):
    """STUN has found how a probe's UDP port can be reached."""

    node_id: str
    reach: Reach


class HeartbeatSeen(msgspec.Struct, frozen=True, tag="beat"):
    node_id: str
    spooled: int


class BatchCommitted(msgspec.Struct, frozen=True, tag="stored"):
    """These samples were stored."""

    node_id: str
    samples: tuple[Sample, ...]
    links: LinkColumns | None = None  # windows in addition; other collectors get them among the samples

    def in_rows(self) -> BatchCommitted:
        """Return the same without columns: a collector of an earlier version knows none."""
        return self if self.links is None else BatchCommitted(self.node_id, (*self.links.samples(), *self.samples))


class ProbeLeft(msgspec.Struct, frozen=True, tag="gone"):
    """A session ended; `goodbye` is the probe's reason, None if the connection broke."""

    node_id: str
    goodbye: str | None


class EventLogged(msgspec.Struct, frozen=True, tag="said"):
    """A line for people: it is shown, stored and logged."""

    at_ns: int
    node_id: str | None
    kind: EventKind
    detail: str


class LeaseEnded(msgspec.Struct, frozen=True, tag="done"):
    """A probe has finished its transfer; the planning collector has to know."""

    node_id: str
    done: LeaseDone


class FocusChanged(msgspec.Struct, frozen=True, tag="aim"):
    """The swarm measures for another model."""

    focus: Focus


# Of one probe's session: applied only if it comes from the collector that holds this session.
SessionEvent = ProbeJoined | NatReported | HeartbeatSeen | ProbeLeft
Event = SessionEvent | BatchCommitted | EventLogged | LeaseEnded | FocusChanged


def joined(member: Member, *, again: bool = False) -> ProbeJoined:
    assert member.hello is not None
    hello = msgspec.structs.replace(member.hello, node_key=None, proof=b"", invite="", token="")
    where = member.where
    return ProbeJoined(member.node_id, member.name, hello, where.observed, where.reached, member.beat_ns, again)
