"""What the operator asks for: invites, who is a member, other names, and nobody in again.

Decides and answers; the house keeps what has to be kept and ends the session of a member that is revoked.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from aiohttp import web

from swarm_collector.members.membership import Member
from swarm_protocol.messages import operator_messages
from swarm_protocol.messages.probe_messages import Refused
from swarm_protocol.text import is_name, safe
from swarm_protocol.units import NS_PER_S

if TYPE_CHECKING:
    from swarm_collector.state import SwarmState

SECRET_BYTES: Final = 32


class OperatorDesk:
    def __init__(self, swarm_state: SwarmState) -> None:
        self._swarm_state = swarm_state
        self.secret = secrets.token_urlsafe(SECRET_BYTES)

    def may(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return "Origin" not in request.headers and hmac.compare_digest(given.encode(), self.secret.encode())

    def answer(self, request: operator_messages.Request) -> operator_messages.Answer:
        if isinstance(request, operator_messages.MakeInvite):
            return self._make(request)
        if isinstance(request, operator_messages.RevokeInvite):
            return self._revoke_invite(request)
        if isinstance(request, operator_messages.ListInvites):
            return self._invites()
        if isinstance(request, operator_messages.ListMembers):
            rows = (self._row(member) for member in self._swarm_state.membership.everybody())
            return operator_messages.Members(rows=tuple(sorted(rows, key=lambda row: row.name)))
        member = self._swarm_state.membership.named(request.member)
        if member is None:
            return operator_messages.No(
                text=f"there is no member {safe(request.member, 40)}; swarmtop members lists them"
            )
        if isinstance(request, operator_messages.Rename):
            return self._rename(member, request.name)
        return self._revoke(member, readmit=request.readmit)

    def _make(self, request: operator_messages.MakeInvite) -> operator_messages.Answer:
        swarm_state = self._swarm_state
        now_ns = swarm_state.clock.wall_ns()
        code, invite, changes = swarm_state.register.invite(safe(request.label), now_ns, request.valid_s * NS_PER_S)
        swarm_state.keep(changes)
        return operator_messages.Made(
            invite=invite, code=code, expires_ns=swarm_state.register.invites[invite].expires_ns
        )

    def _revoke_invite(self, request: operator_messages.RevokeInvite) -> operator_messages.Answer:
        changes = self._swarm_state.register.revoke_invite(request.invite)
        if changes is None:
            return operator_messages.No(text=f"there is no invite {request.invite}; swarmtop invite --list shows them")
        self._swarm_state.keep(changes)
        used = self._swarm_state.register.invites[request.invite].used_by
        more = f"; {self._name(used)} stays a member: swarmtop members --revoke ends that" if used else ""
        return operator_messages.Done(text=f"invite {request.invite} is no longer good{more}")

    def _invites(self) -> operator_messages.Answer:
        now_ns = self._swarm_state.clock.wall_ns()
        rows = []
        for invite, each in self._swarm_state.register.invites.items():
            state = "expired" if now_ns > each.expires_ns else "open"
            state = "revoked" if each.revoked else f"used by {self._name(each.used_by)}" if each.used_by else state
            rows.append(
                operator_messages.InviteRow(
                    invite=invite, label=each.label, made_ns=each.made_ns, expires_ns=each.expires_ns, state=state
                )
            )
        return operator_messages.Invites(rows=tuple(sorted(rows, key=lambda row: row.made_ns)))

    def _row(self, member: Member) -> operator_messages.MemberRow:
        swarm_state = self._swarm_state
        row = swarm_state.register.row(member.node_id)
        state = "connected" if member.session is not None else "left" if member.goodbye else "away"
        since_ns = swarm_state.clock.steady_ns() - member.heard_ns
        return operator_messages.MemberRow(
            name=member.name,
            node_id=member.node_id,
            state="revoked" if row.revoked_ns else state,
            address=member.where.observed,
            heard_ns=max(0, swarm_state.clock.wall_ns() - since_ns) if member.heard_ns else 0,
            came_by=f"invite {row.invite}" if row.invite else "token" if swarm_state.token else "open door",
            label=row.label,
            doubts=swarm_state.anomaly_monitor.of(member.node_id),
        )

    def _rename(self, member: Member, name: str) -> operator_messages.Answer:
        if not is_name(name):
            return operator_messages.No(text=f"{safe(name, 40)} is no name: 1 to 32 of A-Z a-z 0-9 . _ -")
        taken = self._swarm_state.membership.named(name)
        if taken is not None and taken is not member:
            return operator_messages.No(text=f"another member is called {name}; choose another name")
        before = member.name
        self._swarm_state.keep(self._swarm_state.register.rename(member.node_id, name))
        self._swarm_state.renamed(member, name)
        return operator_messages.Done(text=f"{before} is called {name} from now on")

    def _revoke(self, member: Member, *, readmit: bool) -> operator_messages.Answer:
        swarm_state = self._swarm_state
        if readmit:
            swarm_state.keep(swarm_state.register.readmit(member.node_id))
            return operator_messages.Done(text=f"{member.name} may join again")
        swarm_state.keep(swarm_state.register.revoke(member.node_id, swarm_state.clock.wall_ns()))
        swarm_state.turn_out(member, Refused(reason="the operator has revoked this machine's membership", final=True))
        return operator_messages.Done(text=f"{member.name} is no longer a member; what it measured stays in the store")

    def _name(self, node_id: str | None) -> str:
        member = self._swarm_state.membership.get(node_id) if node_id else None
        return member.name if member else "nobody"
