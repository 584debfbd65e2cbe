"""Decide who may join: invites, the keys behind node ids, names given by the operator, revocations.

An invite is good for one machine, until it expires or is revoked; the same machine may use it again. Only its hash is
stored. Rows go into the store's settings, and only where they cannot be derived: a node with an id of 128 bits that
came with the token is identified by its key and needs no row.

Every decision (`admit`, `revoke_invite`, `rename`, …) reads a `RegisterReader` and returns the rows to be written; the
caller runs it in one transaction of the store, so that two of them never act on the same state. A `Register` is this
collector's copy of the rows, for what is only shown. Pure: time is passed in.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import msgspec

from swarm_collector.members.membership import NO_TOKEN, Rejected, is_numbered, numbered, swarm_is_full
from swarm_protocol.messages.samples import Line, NodeId, WallNs
from swarm_protocol.text import clean_name
from swarm_protocol.trust import identity
from swarm_protocol.trust.ed25519_curve import may_be_public_key
from swarm_protocol.units import NS_PER_S

INVITE_KEY: Final = "invite/"
MEMBER_KEY: Final = "member/"
PUBLIC_KEY: Final = "key/"  # public key → node id, where it is not derived from it: an index of the member rows
MAX_INVITES: Final = 10_000  # open or recently used; older ones are forgotten
CODE_BYTES: Final = 16
KEPT_AFTER_NS: Final = 30 * 86_400 * NS_PER_S  # until then an expired one can be distinguished from one never made
_T = TypeVar("_T", bound=msgspec.Struct)


class Invite(msgspec.Struct, kw_only=True, frozen=True):
    """One row `invite/ID`. The id is public: the first 8 hex digits of the code's hash."""

    code_sha256: str
    label: Line = ""  # whom it was for; members of one label count as one reporter
    made_ns: WallNs
    expires_ns: WallNs
    used_by: NodeId | None = None
    used_ns: WallNs = 0
    revoked: bool = False
    revision: int = 0  # of this row: the later of two counts


class Row(msgspec.Struct, kw_only=True, frozen=True):
    """One row `member/NODE_ID`: what cannot be derived from the node's key."""

    public_key: str = ""  # hex; empty: the id is derived from the key, or its owner has not come back yet
    invite: str = ""  # id of the invite it came with
    label: Line = ""  # of that invite
    name: str = ""  # given by the operator; empty: the probe's own
    revoked_ns: WallNs = 0
    revision: int = 0


Change = tuple[str, str]  # key and value of a row to be kept


class RegisterReader(Protocol):
    """The store inside one transaction, or a copy of it."""

    def settings(self, keys: list[str]) -> Mapping[str, str]: ...
    def name_of(self, node_id: str) -> str | None: ...
    def has_name(self, name: str, but: str) -> bool: ...
    def members(self) -> int: ...


# ---------------------------------------------------------------- joining


@dataclass(frozen=True, slots=True)
class Joining:
    """The request of a node that has proven to hold the private key of `public_key`."""

    public_key: bytes
    former_secret: bytes | None  # that identified it before keys were used for signing
    invite: str
    token_ok: bool
    name: str
    max_members: int
    recorded_id: str | None = None  # from a member row seen before: older databases have no rows `key/…`


@dataclass(frozen=True, slots=True)
class Joiner:
    """A node that may join."""

    node_id: str
    name: str  # unique in the store
    changes: tuple[Change, ...]
    row: Row  # with these changes applied
    stored: bool = True  # False: the store accepts nothing now; the node is stored later


def admit(reader: RegisterReader, joining: Joining, now_ns: int) -> Joiner | Rejected:
    """Decide whether a node may join, under which id and name."""
    node_id, claims = _identify(reader, joining)
    row = _row(reader, node_id)
    if row.revoked_ns:
        return Rejected(REVOKED, final=True)
    changes: list[Change] = []
    vouched = bool(row.invite) or claims == "secret"  # the secret: only this node and the collector know it
    if claims:
        row = msgspec.structs.replace(row, public_key=joining.public_key.hex())
    if joining.invite and not vouched:
        invite_id = id_of(joining.invite)
        invite = _invite(reader, invite_id)
        if (refusal := _why_not(invite, joining.invite, node_id, now_ns)) is not None:
            return Rejected(refusal, final=True)
        assert invite is not None
        changes.append(_kept(INVITE_KEY + invite_id, msgspec.structs.replace(invite, used_by=node_id, used_ns=now_ns)))
        row = msgspec.structs.replace(row, invite=invite_id, label=invite.label)
        vouched = True
    if not vouched and not joining.token_ok:
        return Rejected(NO_TOKEN, final=True)
    before = reader.name_of(node_id)
    if before is None and reader.members() >= joining.max_members:
        return swarm_is_full(joining.max_members)
    if claims or changes:
        row = _next(row)
        changes.append((MEMBER_KEY + node_id, _text(row)))
    if claims:
        changes.append((PUBLIC_KEY + joining.public_key.hex(), node_id))
    return Joiner(node_id, _unique(reader, row.name or joining.name, node_id, before), tuple(changes), row)


def _identify(reader: RegisterReader, joining: Joining) -> tuple[str, str]:
    """Return the id of a node, and what proves its claim to a 64-bit id without a recorded key: "secret", "key" or
    ""."""
    recorded = PUBLIC_KEY + joining.public_key.hex()
    if (node_id := reader.settings([recorded]).get(recorded)) is not None:
        return node_id, ""
    if joining.recorded_id and _row(reader, joining.recorded_id).public_key == joining.public_key.hex():
        return joining.recorded_id, ""
    if joining.former_secret is not None and not may_be_public_key(joining.former_secret):
        # Older databases do not say whether an id was made of a secret or of a public key, and both were hashed alike:
        # what may be the public key of another node is never accepted as a secret.
        former = identity.legacy_node_id(joining.former_secret)
        if _is_free(reader, former):
            return former, "secret"
    legacy = identity.legacy_node_id(joining.public_key)
    if _is_free(reader, legacy):
        return legacy, "key"
    return identity.node_id(joining.public_key), ""


def _is_free(reader: RegisterReader, legacy_id: str) -> bool:
    """Return whether this is a node of an older version whose key is not recorded yet."""
    key = MEMBER_KEY + legacy_id
    has_row = key in reader.settings([key])
    return not _row(reader, legacy_id).public_key and (has_row or reader.name_of(legacy_id) is not None)


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


# ---------------------------------------------------------------- what an operator does


def make_invite(label: str, now_ns: int, valid_ns: int) -> tuple[str, str, Change]:
    """Return (code, id, row to store). The code is shown once and never stored."""
    code = secrets.token_urlsafe(CODE_BYTES)
    invite = Invite(code_sha256=_hash(code), label=label, made_ns=now_ns, expires_ns=now_ns + valid_ns)
    return code, id_of(code), _kept(INVITE_KEY + id_of(code), invite)


def revoke_invite(reader: RegisterReader, invite_id: str) -> tuple[Invite, Change] | None:
    """Return the invite and its changed row; None: there is no such invite."""
    invite = _invite(reader, invite_id)
    if invite is None:
        return None
    return invite, _kept(INVITE_KEY + invite_id, msgspec.structs.replace(invite, revoked=True))


def rename(reader: RegisterReader, node_id: str, name: str) -> Change | None:
    """Return the changed row; None: another member has this name."""
    if reader.has_name(name, node_id):
        return None
    return _kept(MEMBER_KEY + node_id, msgspec.structs.replace(_row(reader, node_id), name=name))


def set_revoked(reader: RegisterReader, node_id: str, revoked_ns: int) -> Change:
    """Return the changed row; `revoked_ns` 0 readmits."""
    return _kept(MEMBER_KEY + node_id, msgspec.structs.replace(_row(reader, node_id), revoked_ns=revoked_ns))


# ---------------------------------------------------------------- this collector's copy


class Register:
    def __init__(self, kept: Mapping[str, str]) -> None:
        """Build the copy from the store's settings `kept`; unreadable rows are left alone."""
        self.invites: dict[str, Invite] = {}
        self.rows: dict[str, Row] = {}
        self._by_key: dict[str, str] = {}  # public key → node id, where it is not derived from it
        self.unreadable = 0
        self.update(kept.items())

    def update(self, kept: Iterable[Change]) -> None:
        """Take over rows of the store, unless a later revision of a row is here already."""
        for key, value in kept:
            try:
                if key.startswith(INVITE_KEY):
                    _put(self.invites, key.removeprefix(INVITE_KEY), msgspec.json.decode(value, type=Invite))
                elif key.startswith(MEMBER_KEY):
                    node_id = key.removeprefix(MEMBER_KEY)
                    _put(self.rows, node_id, msgspec.json.decode(value, type=Row))
                    if public_key := self.rows[node_id].public_key:
                        self._by_key[public_key] = node_id
            except msgspec.DecodeError:
                self.unreadable += 1

    def saw(self, node_id: str, row: Row) -> None:
        """Note a row that a transaction has found or written."""
        _put(self.rows, node_id, row)

    def recorded(self, public_key: str) -> str | None:
        """Return the id that a member row assigns to this key (hex)."""
        return self._by_key.get(public_key)

    def id_of_key(self, public_key: bytes, knows: Callable[[str], bool]) -> str:
        """Return the id under which the holder of this key would join, as far as known here. `knows`: of members."""
        if (node_id := self._by_key.get(public_key.hex())) is not None:
            return node_id
        legacy = identity.legacy_node_id(public_key)
        if (legacy in self.rows or knows(legacy)) and not self.row(legacy).public_key:
            return legacy
        return identity.node_id(public_key)

    def kept(self, key: str) -> str | None:
        """Return the row as the store has it."""
        kind, _, rest = key.partition("/")
        if kind == "key":
            return self._by_key.get(rest)
        row: Row | Invite | None = self.rows.get(rest) if kind == "member" else self.invites.get(rest)
        return _text(row) if row is not None else None

    def row(self, node_id: str) -> Row:
        return self.rows.get(node_id, _NO_ROW)

    def forget_old(self, now_ns: int) -> None:
        """Forget old invites in memory; their rows stay, a few hundred bytes each."""
        for invite_id in [i for i, each in self.invites.items() if now_ns > each.expires_ns + KEPT_AFTER_NS]:
            del self.invites[invite_id]
        while len(self.invites) >= MAX_INVITES:
            del self.invites[next(iter(self.invites))]


def _put(rows: dict[str, _T], key: str, row: _T) -> None:
    have = rows.get(key)
    if have is None or row.revision >= have.revision:  # type: ignore[attr-defined]
        rows[key] = row


# ---------------------------------------------------------------- small parts

_NO_ROW: Final = Row()
REVOKED: Final = "the operator has revoked this machine's membership; ask them to readmit it"


class Unreadable(Exception):
    """A row that a decision needs cannot be read; one line."""


def _row(reader: RegisterReader, node_id: str) -> Row:
    return _read(reader, MEMBER_KEY + node_id, Row) or _NO_ROW


def _invite(reader: RegisterReader, invite_id: str) -> Invite | None:
    return _read(reader, INVITE_KEY + invite_id, Invite)


def _read(reader: RegisterReader, key: str, kind: type[_T]) -> _T | None:
    value = reader.settings([key]).get(key)
    try:
        return msgspec.json.decode(value, type=kind) if value is not None else None
    except msgspec.DecodeError as error:
        raise Unreadable(
            f"the row {key} of the store cannot be read; it is from a later swarmtop, or damaged"
        ) from error


def _kept(key: str, row: Invite | Row) -> Change:
    return key, _text(_next(row))


def _next(row: _T) -> _T:
    return msgspec.structs.replace(row, revision=row.revision + 1)  # type: ignore[attr-defined]


def _text(row: Invite | Row) -> str:
    return msgspec.json.encode(row).decode()


def _unique(reader: RegisterReader, wanted: str, node_id: str, before: str | None) -> str:
    """Return `wanted`, or `wanted-2` and so on if others have it; a node keeps the number it got."""
    name = clean_name(wanted)
    if before is not None and (before == name or is_numbered(before, name)):
        return before
    candidate, number = name, 1
    while reader.has_name(candidate, node_id):
        number += 1
        candidate = numbered(name, number)
    return candidate


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def id_of(code: str) -> str:
    return _hash(code)[:8]
