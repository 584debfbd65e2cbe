"""Who may join, beyond the shared token: invites, keys that were enrolled with one, names given and members revoked.

An invite is good for one machine, until it expires or is revoked; the same machine may paste it again. Only its hash is
kept. What is kept goes into the store's settings, a row each, and only where it cannot be worked out again: a node
that came with the token is its key and needs no row. Pure: time is passed in, what has to be kept is handed out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_collector.members.membership import Rejected
from swarm_protocol.messages.probe_messages import Hello
from swarm_protocol.messages.samples import Line, NodeId, WallNs
from swarm_protocol.trust import identity, signing
from swarm_protocol.units import NS_PER_S

INVITE_KEY: Final = "invite/"
MEMBER_KEY: Final = "member/"
MAX_INVITES: Final = 10_000  # open or used, of late; older ones are forgotten
CODE_BYTES: Final = 16
DEFAULT_VALID_NS: Final = 86_400 * NS_PER_S
KEPT_AFTER_NS: Final = 30 * 86_400 * NS_PER_S  # so long one that is over is still told apart from one never made


class Invite(msgspec.Struct, kw_only=True):
    """One row `invite/ID`. The id is public: the first 8 hex digits of the code's hash."""

    code_sha256: str
    label: Line = ""  # whom it was for; members of one label count as one voice
    made_ns: WallNs
    expires_ns: WallNs
    used_by: NodeId | None = None
    used_ns: WallNs = 0
    revoked: bool = False


class Row(msgspec.Struct, kw_only=True):
    """One row `member/NODE_ID`: what cannot be worked out from the node's key."""

    public_key: str = ""  # hex; empty: the id is made of it
    invite: str = ""  # id of the invite it came with
    label: Line = ""  # of that invite
    name: str = ""  # given by the operator; empty: the probe's own
    revoked_ns: WallNs = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A node that has proven who it is."""

    node_id: str
    name: str  # the operator's choice; empty: the probe's
    vouched: bool  # by an invite: the token is not asked for


Change = tuple[str, str]  # key and value of a row to be kept


class Register:
    def __init__(self, kept: Mapping[str, str]) -> None:
        """`kept`: the store's settings; rows that cannot be read are left alone."""
        self.invites: dict[str, Invite] = {}
        self.rows: dict[str, Row] = {}
        self._by_key: dict[str, str] = {}  # public key → node id, where that is not made of it
        self.unreadable = 0
        self.update(kept)

    def update(self, kept: Mapping[str, str]) -> None:
        """What the store has now: other collectors may use it too."""
        self.unreadable = 0
        for key, value in kept.items():
            try:
                if key.startswith(INVITE_KEY):
                    self.invites[key.removeprefix(INVITE_KEY)] = msgspec.json.decode(value, type=Invite)
                elif key.startswith(MEMBER_KEY):
                    node_id = key.removeprefix(MEMBER_KEY)
                    row = self.rows[node_id] = msgspec.json.decode(value, type=Row)
                    if row.public_key:
                        self._by_key[row.public_key] = node_id
            except msgspec.DecodeError:
                self.unreadable += 1

    # ------------------------------------------------------------ joining

    def identify(
        self, hello: Hello, nonce: bytes, bound_to: frozenset[bytes], *, revoked_too: bool = False
    ) -> Entry | Rejected:
        """Who says hello. `bound_to`: the certificates it can have seen. Takes nothing: see `enrol`."""
        if not hello.public_key and hello.node_key is not None and signing.NOT_TLS in bound_to:
            return self._of_before(hello.node_key)
        if not hello.public_key or not hello.proof:
            return Rejected("this probe brings no proof of its key: it is of an older swarmtop; update it", final=True)
        if hello.bound_to not in bound_to:
            return Rejected(
                "this probe saw another certificate than the collector's own: somebody is in between; check the pin, "
                "or name the proxy's certificate with --proxy-cert",
                final=True,
            )
        if not signing.verified(hello.public_key, signing.joining(nonce, hello.bound_to), hello.proof):
            return Rejected("the proof of this node's key is wrong; try again with swarmtop of one version", final=True)
        node_id = self._by_key.get(hello.public_key.hex()) or identity.node_id(hello.public_key)
        row = self.rows.get(node_id, _NO_ROW)
        if row.revoked_ns and not revoked_too:
            return Rejected(
                "the operator has revoked this machine's membership; ask them to readmit it",
                final=True,
            )
        return Entry(node_id, row.name, vouched=bool(row.invite))

    def _of_before(self, node_key: bytes) -> Entry | Rejected:
        """A probe of the first release: it shows its secret, which is no worse than plain text is anyway."""
        node_id = identity.node_id(node_key)
        row = self.rows.get(node_id, _NO_ROW)
        if row.public_key:
            return Rejected("this node has proven its key since: its older swarmtop cannot; update it", final=True)
        if row.revoked_ns:
            return Rejected("the operator has revoked this machine's membership; ask them", final=True)
        return Entry(node_id, row.name, vouched=bool(row.invite))

    def enrol(self, entry: Entry, hello: Hello, known: bool, now_ns: int) -> tuple[Entry, list[Change]] | Rejected:
        """Takes the invite and the former key that a hello brings, where the node needs them. `known`: there was a
        node of the former key."""
        changes: list[Change] = []
        public = hello.public_key.hex()
        if public and hello.node_key is not None and known and public not in self._by_key:
            former = identity.node_id(hello.node_key)
            row = self.rows.setdefault(former, Row())
            if row.revoked_ns:
                return Rejected("the operator has revoked this machine's membership; ask them", final=True)
            if not row.public_key:
                row.public_key = public
                self._by_key[public] = former
                entry = Entry(former, row.name, vouched=True)  # it knows what only this node and we were told
                changes.append(self._row(former))
        if hello.invite and not entry.vouched:
            invite_id = id_of(hello.invite)
            invite = self.invites.get(invite_id)
            refusal = _why_not(invite, hello.invite, entry.node_id, now_ns)
            if refusal is not None:
                return Rejected(refusal, final=True)
            assert invite is not None
            invite.used_by, invite.used_ns = entry.node_id, now_ns
            row = self.rows.setdefault(entry.node_id, Row())
            row.invite, row.label = invite_id, invite.label
            changes += [self._invite(invite_id), self._row(entry.node_id)]
            entry = Entry(entry.node_id, entry.name, vouched=True)
        return entry, changes

    # ------------------------------------------------------------ what an operator does

    def invite(self, label: str, now_ns: int, valid_ns: int) -> tuple[str, str, list[Change]]:
        """(code, id, rows to keep). The code is shown once and kept nowhere."""
        self._forget_old(now_ns)
        code = secrets.token_urlsafe(CODE_BYTES)
        invite_id = id_of(code)
        self.invites[invite_id] = Invite(
            code_sha256=_hash(code), label=label, made_ns=now_ns, expires_ns=now_ns + valid_ns
        )
        return code, invite_id, [self._invite(invite_id)]

    def revoke_invite(self, invite_id: str) -> list[Change] | None:
        """None: there is no such invite."""
        invite = self.invites.get(invite_id)
        if invite is None:
            return None
        invite.revoked = True
        return [self._invite(invite_id)]

    def rename(self, node_id: str, name: str) -> list[Change]:
        self.rows.setdefault(node_id, Row()).name = name
        return [self._row(node_id)]

    def revoke(self, node_id: str, now_ns: int) -> list[Change]:
        self.rows.setdefault(node_id, Row()).revoked_ns = now_ns
        return [self._row(node_id)]

    def readmit(self, node_id: str) -> list[Change]:
        self.rows.setdefault(node_id, Row()).revoked_ns = 0
        return [self._row(node_id)]

    def row(self, node_id: str) -> Row:
        return self.rows.get(node_id, _NO_ROW)

    # ------------------------------------------------------------ small parts

    def _row(self, node_id: str) -> Change:
        return MEMBER_KEY + node_id, msgspec.json.encode(self.rows[node_id]).decode()

    def _invite(self, invite_id: str) -> Change:
        return INVITE_KEY + invite_id, msgspec.json.encode(self.invites[invite_id]).decode()

    def _forget_old(self, now_ns: int) -> None:
        """From memory; their rows stay, a few hundred bytes each."""
        for invite_id in [i for i, each in self.invites.items() if now_ns > each.expires_ns + KEPT_AFTER_NS]:
            del self.invites[invite_id]
        while len(self.invites) >= MAX_INVITES:
            del self.invites[next(iter(self.invites))]


_NO_ROW: Final = Row()


def _why_not(invite: Invite | None, code: str, node_id: str, now_ns: int) -> str | None:
    if invite is None or not secrets.compare_digest(invite.code_sha256, _hash(code)):
        return "this collector made no such invite; copy the whole line, or ask its operator for another"
    if invite.revoked:
        return "this invite was revoked; ask the operator for another"
    if invite.used_by is not None and invite.used_by != node_id:
        return "this invite has been used by another machine, and each is good for one; ask the operator for another"
    if invite.used_by is None and now_ns > invite.expires_ns:
        expired = dt.datetime.fromtimestamp(invite.expires_ns // NS_PER_S, dt.UTC)
        return f"this invite expired on {expired:%Y-%m-%d at %H:%M} UTC; ask the operator for another"
    return None


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def id_of(code: str) -> str:
    return _hash(code)[:8]
