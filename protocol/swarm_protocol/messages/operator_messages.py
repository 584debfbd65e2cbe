"""Define an operator's requests to a collector, and the answers: JSON over one POST each to OPERATE_PATH.

The collector writes OPERATOR_FILE into its state folder at each start, readable by its owner alone: the address it
listens on, its certificate's fingerprint and a new secret. Whoever can read the file is the operator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from swarm_protocol.messages.samples import Line, NodeId, WallNs

OPERATOR_FILE: Final = "operator.json"
MAX_REQUEST_BYTES: Final = 4096


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of OPERATOR_FILE."""

    host: str
    port: int
    pin: str  # empty: plain text
    secret: str


def read_operator(folder: Path) -> Operator | None:
    """Read the file; None: no collector has ever run with this state folder, or somebody else owns it."""
    try:
        return msgspec.json.decode((folder / OPERATOR_FILE).read_bytes(), type=Operator)
    except (OSError, msgspec.DecodeError):
        return None


InviteId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}$")]


class MakeInvite(msgspec.Struct, frozen=True, kw_only=True, tag="make_invite"):
    label: Line = ""
    valid_s: Annotated[int, Meta(ge=60, le=366 * 86_400)] = 86_400


class RevokeInvite(msgspec.Struct, frozen=True, kw_only=True, tag="revoke_invite"):
    invite: InviteId


class ListInvites(msgspec.Struct, frozen=True, kw_only=True, tag="list_invites"):
    pass


class ListMembers(msgspec.Struct, frozen=True, kw_only=True, tag="list_members"):
    pass


class Rename(msgspec.Struct, frozen=True, kw_only=True, tag="rename"):
    member: Line  # name or node id
    name: Line


class Revoke(msgspec.Struct, frozen=True, kw_only=True, tag="revoke"):
    member: Line
    readmit: bool = False  # the reverse


Request = MakeInvite | RevokeInvite | ListInvites | ListMembers | Rename | Revoke


class Made(msgspec.Struct, frozen=True, kw_only=True, tag="made"):
    invite: InviteId
    code: str
    expires_ns: WallNs


class InviteRow(msgspec.Struct, frozen=True, kw_only=True):
    invite: InviteId
    label: Line
    made_ns: WallNs
    expires_ns: WallNs
    state: str  # open, expired, revoked, or: used by NAME


class Invites(msgspec.Struct, frozen=True, kw_only=True, tag="invites"):
    rows: tuple[InviteRow, ...]


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    node_id: NodeId
    state: str  # connected, away, left, revoked, or never here since the collector started
    address: str
    heard_ns: WallNs  # 0: not since the collector started
    came_by: str  # invite ID, token, open
    label: Line
    doubts: tuple[str, ...] = ()  # why its figures are in doubt


class Members(msgspec.Struct, frozen=True, kw_only=True, tag="members"):
    rows: tuple[MemberRow, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    text: str


class No(msgspec.Struct, frozen=True, kw_only=True, tag="no"):
    """A refusal, in one line."""

    text: str


Answer = Made | Invites | Members | Done | No

request_decoder: Final = msgspec.json.Decoder(Request)
answer_decoder: Final = msgspec.json.Decoder(Answer)
