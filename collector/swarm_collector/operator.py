"""What the operator asks for: invites, who is a member, other names, and nobody in again.

Decides and answers; the house keeps what has to be kept and ends the session of a member that is revoked.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from aiohttp import web

from swarm_collector.membership import Member
from swarm_protocol import operate
from swarm_protocol.messages import Refused
from swarm_protocol.text import is_name, safe
from swarm_protocol.units import NS_PER_S

if TYPE_CHECKING:
    from swarm_collector.house import House

SECRET_BYTES: Final = 32


class OperatorDesk:
    def __init__(self, house: House) -> None:
        self._house = house
        self.secret = secrets.token_urlsafe(SECRET_BYTES)

    def may(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return "Origin" not in request.headers and hmac.compare_digest(given.encode(), self.secret.encode())

    def answer(self, request: operate.Request) -> operate.Answer:
        if isinstance(request, operate.MakeInvite):
            return self._make(request)
        if isinstance(request, operate.RevokeInvite):
            return self._revoke_invite(request)
        if isinstance(request, operate.ListInvites):
            return self._invites()
        if isinstance(request, operate.ListMembers):
            rows = (self._row(member) for member in self._house.membership.everybody())
            return operate.Members(rows=tuple(sorted(rows, key=lambda row: row.name)))
        member = self._house.membership.named(request.member)
        if member is None:
            return operate.No(text=f"there is no member {safe(request.member, 40)}; swarmtop members lists them")
        if isinstance(request, operate.Rename):
            return self._rename(member, request.name)
        return self._revoke(member, readmit=request.readmit)

    def _make(self, request: operate.MakeInvite) -> operate.Answer:
        house = self._house
        now_ns = house.clock.wall_ns()
        code, invite, changes = house.register.invite(safe(request.label), now_ns, request.valid_s * NS_PER_S)
        house.keep(changes)
        return operate.Made(invite=invite, code=code, expires_ns=house.register.invites[invite].expires_ns)

    def _revoke_invite(self, request: operate.RevokeInvite) -> operate.Answer:
        changes = self._house.register.revoke_invite(request.invite)
        if changes is None:
            return operate.No(text=f"there is no invite {request.invite}; swarmtop invite --list shows them")
        self._house.keep(changes)
        used = self._house.register.invites[request.invite].used_by
        more = f"; {self._name(used)} stays a member: swarmtop members --revoke ends that" if used else ""
        return operate.Done(text=f"invite {request.invite} is no longer good{more}")

    def _invites(self) -> operate.Answer:
        now_ns = self._house.clock.wall_ns()
        rows = []
        for invite, each in self._house.register.invites.items():
            state = "expired" if now_ns > each.expires_ns else "open"
            state = "revoked" if each.revoked else f"used by {self._name(each.used_by)}" if each.used_by else state
            rows.append(
                operate.InviteRow(
                    invite=invite, label=each.label, made_ns=each.made_ns, expires_ns=each.expires_ns, state=state
                )
            )
        return operate.Invites(rows=tuple(sorted(rows, key=lambda row: row.made_ns)))

    def _row(self, member: Member) -> operate.MemberRow:
        house = self._house
        row = house.register.row(member.node_id)
        state = "connected" if member.session is not None else "left" if member.goodbye else "away"
        since_ns = house.clock.steady_ns() - member.heard_ns
        return operate.MemberRow(
            name=member.name,
            node_id=member.node_id,
            state="revoked" if row.revoked_ns else state,
            address=member.where.observed,
            heard_ns=max(0, house.clock.wall_ns() - since_ns) if member.heard_ns else 0,
            came_by=f"invite {row.invite}" if row.invite else "token" if house.token else "open door",
            label=row.label,
            doubts=house.scrutiny.of(member.node_id),
        )

    def _rename(self, member: Member, name: str) -> operate.Answer:
        if not is_name(name):
            return operate.No(text=f"{safe(name, 40)} is no name: 1 to 32 of A-Z a-z 0-9 . _ -")
        taken = self._house.membership.named(name)
        if taken is not None and taken is not member:
            return operate.No(text=f"another member is called {name}; choose another name")
        before = member.name
        self._house.keep(self._house.register.rename(member.node_id, name))
        self._house.renamed(member, name)
        return operate.Done(text=f"{before} is called {name} from now on")

    def _revoke(self, member: Member, *, readmit: bool) -> operate.Answer:
        house = self._house
        if readmit:
            house.keep(house.register.readmit(member.node_id))
            return operate.Done(text=f"{member.name} may join again")
        house.keep(house.register.revoke(member.node_id, house.clock.wall_ns()))
        house.turn_out(member, Refused(reason="the operator has revoked this machine's membership", final=True))
        return operate.Done(text=f"{member.name} is no longer a member; what it measured stays in the store")

    def _name(self, node_id: str | None) -> str:
        member = self._house.membership.get(node_id) if node_id else None
        return member.name if member else "nobody"
