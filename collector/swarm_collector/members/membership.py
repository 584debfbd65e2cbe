"""Keep the list of members: their names, their sessions, and whether they are still connected.

A node is identified by its key: the id is derived from it. The name is for people, cleaned and made unique, and stays
with the node over restarts of either side. The latest session of a node counts. Pure: time is passed in, sessions are
numbers; nothing here knows a socket.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from swarm_collector.members.addresses import MemberAddresses
from swarm_protocol.messages.probe_messages import PROTOCOL_VERSION, Hello, Reach
from swarm_protocol.messages.samples import EventKind
from swarm_protocol.text import NAME_MAX, clean_name, safe
from swarm_protocol.trust import identity
from swarm_protocol.units import NS_PER_S

HEARTBEAT_NS: Final = 5 * NS_PER_S
HEARTBEAT_MEMBERS: Final = 1_000  # above, heartbeats are further apart: 200 a second in total
LONGEST_HEARTBEAT_NS: Final = 30 * NS_PER_S
LOST_BEATS: Final = 4  # silence after which a node is lost: three missed heartbeats, and a slow link
# a broken connection to the collector says nothing about the paths between peers
STAY_IN_PLANS_NS: Final = 120 * NS_PER_S
REPORT_LEFT_NS: Final = 600 * NS_PER_S  # so that probes which were away learn of it when they come back
MAX_MEMBERS: Final = 20_000  # as many as a frame can carry
REPLACED_RETRY_NS: Final = 60 * NS_PER_S  # two probes with one key replace each other no faster than this
NO_TOKEN: Final = (
    "wrong or missing token; ask the swarm's operator for an invite, or for the token and give it with --token"
)
MAX_LEFT: Final = 64  # sent with a plan
_SUFFIX = re.compile(r"-[0-9]{1,5}")


@dataclass(slots=True)
class Member:
    node_id: str
    name: str
    hello: Hello | None = None  # None: known from the store only
    where: MemberAddresses = field(default_factory=lambda: MemberAddresses("", (), ""))
    reach: Reach = field(default_factory=Reach)  # as found by STUN
    session: int | None = None  # None: not connected
    beat_ns: int = HEARTBEAT_NS  # interval of its heartbeats, as last sent to it
    version: int = 0  # counts changes of what other members receive about it
    heard_ns: int = 0
    gone_ns: int = 0  # when its session ended; 0: never had one
    goodbye: bool = False
    lost: bool = False
    restored: bool = False  # read from the store, and not come back yet


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something that people should know about a node; None: about the swarm."""

    node_id: str | None
    kind: EventKind
    detail: str


@dataclass(frozen=True, slots=True)
class Admitted:
    member: Member
    replaced: int | None  # the session that this one replaces
    events: tuple[NodeEvent, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    reason: str
    final: bool
    retry_ms: float = 0.0


class Membership:
    def __init__(self, token: str = "", max_members: int = MAX_MEMBERS) -> None:
        self._token = token
        self._max_members = max_members
        self._members: dict[str, Member] = {}
        self._by_session: dict[int, Member] = {}
        self._names: dict[str, str] = {}  # name → node id, every node ever known
        self._left: dict[str, int] = {}  # node id → when it said goodbye, or ceased to be a member
        self._longest_beat_ns = HEARTBEAT_NS  # of a member, as far as this collector knows

    def restore(self, known: Iterable[tuple[str, str]]) -> None:
        """(node id, name) of nodes in the store: they keep their names."""
        for node_id, name in known:
            unique = self._unique(name, node_id)
            self._members.setdefault(node_id, Member(node_id, unique))
            self._names[unique] = node_id
        self._longest_beat_ns = max(self._longest_beat_ns, heartbeat_ns(len(self._members)))

    def was_present(self, node_id: str, hello: Hello, where: MemberAddresses, reach: Reach, now_ns: int) -> None:
        """The node was connected when the collector stopped, moments ago: keep it in plans as after a broken
        connection."""
        member = self._members.get(node_id)
        if member is not None and member.session is None and member.hello is None:
            member.hello, member.where, member.reach, member.gone_ns = hello, where, reach, now_ns
            member.restored = True

    # ------------------------------------------------------------ coming and going

    def admit(
        self,
        session: int,
        hello: Hello,
        observed: str,
        reached: str,
        now_ns: int,
        *,
        node_id: str = "",
        name: str = "",
        vouched: bool = False,
    ) -> Admitted | Rejected:
        """Admit a node whose key is proven. `node_id`: where it is not derived from the key; `name`: as the store has
        it, unique there; `vouched`: no token is needed."""
        if (outdated := other_protocol(hello)) is not None:
            return outdated
        if not vouched and not token_matches(self._token, hello.token):
            return Rejected(NO_TOKEN, final=True)
        node_id = node_id or identity.node_id(hello.public_key)
        member = self._members.get(node_id)
        if member is None and len(self._members) >= self._max_members:
            return swarm_is_full(self._max_members)
        if name:
            self._clear(name, node_id)
        events = []
        if member is None:
            member = Member(node_id, self._unique(name or clean_name(hello.name), node_id))
            self._members[node_id] = member
            self._names[member.name] = node_id
            events.append(NodeEvent(member.node_id, "joined", _of(hello)))
        else:
            events += self._rename(member, name or hello.name, exactly=bool(name))
            if member.session is None:
                kind: EventKind = "joined" if member.hello is None or member.restored else "back"
                events.append(NodeEvent(member.node_id, kind, _of(hello)))
        replaced = member.session
        if replaced is not None:
            del self._by_session[replaced]
            events.append(NodeEvent(member.node_id, "note", "a new session of this node replaced the one before"))
        announced = _announced(member)
        member.hello = hello
        member.where = MemberAddresses(observed, hello.addresses, reached)
        member.version += _announced(member) != announced
        member.session = session
        member.beat_ns = heartbeat_ns(len(self._members))
        self._longest_beat_ns = max(self._longest_beat_ns, member.beat_ns)
        member.heard_ns = now_ns
        member.goodbye = member.lost = member.restored = False
        self._by_session[session] = member
        return Admitted(member, replaced, tuple(events))

    def adopt(
        self, session: int, node_id: str, name: str, hello: Hello, where: MemberAddresses, beat_ns: int, now_ns: int
    ) -> int | None:
        """Another collector of this swarm has admitted this node; return the session that it replaces."""
        self.restore([(node_id, name)])
        member = self._members[node_id]
        self._clear(name, node_id)
        self._rename(member, name, exactly=True)
        replaced = member.session if member.session != session else None
        if replaced is not None:
            self._by_session.pop(replaced, None)
        announced = _announced(member)
        member.hello = hello
        member.where = where
        member.version += _announced(member) != announced
        member.session = session
        member.beat_ns = beat_ns
        self._longest_beat_ns = max(self._longest_beat_ns, beat_ns)
        member.heard_ns = now_ns
        member.goodbye = member.lost = member.restored = False
        self._by_session[session] = member
        return replaced

    def forget(self, node_id: str, now_ns: int) -> None:
        """Forget a node whose session has ended."""
        member = self._members.pop(node_id, None)
        if member is not None:
            self._left[node_id] = now_ns
            self._names.pop(member.name, None)
            if member.session is not None:
                self._by_session.pop(member.session, None)

    def beat_ns(self, member: Member) -> int:
        """Return how far apart a member's heartbeats may be. Another collector may have told it to send fewer, as it
        does when the swarm grows, and both know how large the swarm is."""
        return max(member.beat_ns, self._longest_beat_ns)

    def fewer_heartbeats(self, member: Member) -> bool:
        """Lengthen the interval of a member that joined when the swarm was half as large or smaller; return whether it
        has to be told. (Never the other way: until it knows, it would seem to be silent.)"""
        beat_ns = heartbeat_ns(len(self._members))
        if beat_ns < 2 * member.beat_ns:
            return False
        member.beat_ns = beat_ns
        return True

    def heard(self, session: int, now_ns: int) -> None:
        if member := self._by_session.get(session):
            member.heard_ns = now_ns

    def reached(self, session: int, reach: Reach) -> bool:
        """Note how a member's UDP port can be reached; return whether that has changed."""
        member = self._by_session.get(session)
        if member is None or member.reach == reach:
            return False
        member.reach = reach
        member.version += 1
        return True

    def gone(self, session: int, now_ns: int, goodbye: str | None) -> NodeEvent | None:
        """The session has ended; `goodbye` is the probe's own reason, None if the connection broke.

        Return None for a session that was replaced before: the node is still connected.
        """
        member = self._by_session.pop(session, None)
        if member is None:
            return None
        member.session = None
        member.gone_ns = now_ns
        member.goodbye = member.goodbye or goodbye is not None
        if goodbye is not None:
            self._left[member.node_id] = now_ns
        if goodbye is None:
            return None  # `poll` reports it as lost if it does not come back
        return NodeEvent(member.node_id, "left", safe(goodbye))

    def poll(self, now_ns: int) -> list[NodeEvent]:
        """Return nodes that have been silent for too long, each once."""
        events = []
        for member in self._members.values():
            # a broken connection says nothing about heartbeats
            beat_ns = self.beat_ns(member) if member.session is not None else HEARTBEAT_NS
            silent = now_ns - member.heard_ns >= LOST_BEATS * beat_ns
            if silent and member.heard_ns and not member.lost and not member.goodbye:
                member.lost = True
                seconds = (now_ns - member.heard_ns) // NS_PER_S
                events.append(NodeEvent(member.node_id, "lost", f"nothing heard for {seconds} s"))
        return events

    # ------------------------------------------------------------ who is here

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ids(self) -> Set[str]:
        """Return the ids of all members, now and later on."""
        return self._members.keys()

    def get(self, node_id: str) -> Member | None:
        return self._members.get(node_id)

    def of_session(self, session: int) -> Member | None:
        return self._by_session.get(session)

    @property
    def max_members(self) -> int:
        return self._max_members

    @property
    def sessions(self) -> int:
        return len(self._by_session)

    def everybody(self) -> list[Member]:
        return list(self._members.values())

    def named(self, text: str) -> Member | None:
        """Return the member of this name, else of this id."""
        node_id = self._names.get(text, text)
        return self._members.get(node_id)

    def rename(self, member: Member, name: str) -> list[NodeEvent]:
        """Give a member the name that the store has now; the next plans carry it."""
        self._clear(name, member.node_id)
        events = self._rename(member, name, exactly=True)
        member.version += 1
        return events

    def connected(self) -> list[Member]:
        return list(self._by_session.values())

    def in_plans(self, now_ns: int) -> list[Member]:
        """Return the members that others measure: connected ones, and those that left lately without a goodbye."""
        return [
            member
            for member in self._members.values()
            if member.hello is not None
            and not member.goodbye
            and (member.session is not None or now_ns - member.gone_ns < STAY_IN_PLANS_NS)
        ]

    def revoke(self, member: Member, now_ns: int) -> None:
        """End a membership that the operator has revoked."""
        member.goodbye = True
        self._left[member.node_id] = now_ns

    def left(self, now_ns: int) -> tuple[str, ...]:
        """Return nodes that left lately, the latest last: a probe keeps measuring all other nodes that it knows."""
        for node_id, since_ns in list(self._left.items()):
            member = self._members.get(node_id)
            here = member is not None and member.session is not None and not member.goodbye
            if now_ns - since_ns >= REPORT_LEFT_NS or here:
                del self._left[node_id]
        return tuple(self._left)[-MAX_LEFT:]

    # ------------------------------------------------------------ names

    def _clear(self, name: str, node_id: str) -> None:
        """Free a name that the store has given to `node_id`: whoever has it here got another one there."""
        holder = self._members.get(self._names.get(name, node_id))
        if holder is not None and holder.node_id != node_id:
            self._names[name] = node_id
            holder.name = self._unique(name, holder.node_id)
            self._names[holder.name] = holder.node_id
            holder.version += 1

    def _rename(self, member: Member, wanted: str, *, exactly: bool = False) -> list[NodeEvent]:
        name = clean_name(wanted)
        if member.name == name or (not exactly and is_numbered(member.name, name)):
            return []
        old = member.name
        if self._names.get(old) == member.node_id:
            del self._names[old]
        member.name = self._unique(name, member.node_id)
        self._names[member.name] = member.node_id
        return [NodeEvent(member.node_id, "name_changed", f"was {old}")]

    def _unique(self, name: str, node_id: str) -> str:
        candidate, number = name, 1
        while self._names.get(candidate, node_id) != node_id:
            number += 1
            candidate = numbered(name, number)
        return candidate


def _announced(member: Member) -> object:
    """Return what peers are sent about a member, including its own choice of name."""
    hello = member.hello
    return None if hello is None else (member.where, hello.name, hello.udp_port, hello.tcp_port)


def other_protocol(hello: Hello) -> Rejected | None:
    """Return why the probe's protocol cannot be used; None: it is this collector's."""
    if hello.protocol == PROTOCOL_VERSION:
        return None
    older = "probe" if hello.protocol < PROTOCOL_VERSION else "collector"
    return Rejected(
        f"the probe speaks protocol {hello.protocol}, the collector {PROTOCOL_VERSION}; update the {older}", final=True
    )


def swarm_is_full(max_members: int) -> Rejected:
    return Rejected(f"the swarm is full ({max_members} nodes)", final=False, retry_ms=600_000)


def token_matches(wanted: str, given: str) -> bool:
    """Compare in constant time. Without a required token everything matches."""
    return not wanted or hmac.compare_digest(wanted.encode(), given.encode())


def heartbeat_ns(members: int) -> int:
    return min(max(HEARTBEAT_NS, HEARTBEAT_NS * members // HEARTBEAT_MEMBERS), LONGEST_HEARTBEAT_NS)


def numbered(name: str, number: int) -> str:
    suffix = f"-{number}"
    return name[: NAME_MAX - len(suffix)] + suffix


def is_numbered(name: str, wanted: str) -> bool:
    """Return whether `name` is `wanted` with a number, given because the plain name was taken."""
    match = _SUFFIX.search(name, pos=max(0, name.rfind("-")))
    return match is not None and numbered(wanted, int(match.group()[1:])) == name


def _of(hello: Hello) -> str:
    gpus = ", ".join(gpu.name for gpu in hello.facts.gpus) or "no GPU"
    return safe(f"{hello.facts.system}, {gpus}, {hello.software}", limit=160)
