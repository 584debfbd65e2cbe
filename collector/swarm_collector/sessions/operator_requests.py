"""Answer the operator's requests: make and revoke invites, list, rename, revoke and readmit members.

The decisions and their consequences are in `members.admission`.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from aiohttp import web

from swarm_collector.clock import Clock
from swarm_collector.members.admission import Admissions
from swarm_collector.members.join_rules import Register, Unreadable
from swarm_collector.members.membership import Member, Membership
from swarm_protocol.messages import operator_messages
from swarm_protocol.text import is_name, safe
from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import StoreError

SECRET_BYTES: Final = 32


class OperatorRequests:
    """Answer the operator. `anomalies_of`: node id → why its figures are in doubt."""

    def __init__(
        self,
        clock: Clock,
        token: str,
        membership: Membership,
        register: Register,
        admissions: Admissions,
        anomalies_of: Callable[[str], tuple[str, ...]],
    ) -> None:
        self._clock = clock
        self._token = token
        self._membership = membership
        self._register = register
        self._admissions = admissions
        self._anomalies_of = anomalies_of
        self.secret = secrets.token_urlsafe(SECRET_BYTES)

    def may(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return "Origin" not in request.headers and self.knows(given)

    def knows(self, secret: str) -> bool:
        """Return whether this is the operator's secret."""
        return hmac.compare_digest(secret.encode(), self.secret.encode())

    async def answer(self, request: operator_messages.Request) -> operator_messages.Answer:
        try:
            return await self._answer(request)
        except (StoreError, Unreadable) as error:
            return operator_messages.No(
                text=f"nothing was changed, because the store refused it: {safe(str(error), 200)}"
            )

    async def _answer(self, request: operator_messages.Request) -> operator_messages.Answer:
        if isinstance(request, operator_messages.MakeInvite):
            return await self._make(request)
        if isinstance(request, operator_messages.RevokeInvite):
            return await self._revoke_invite(request)
        if isinstance(request, operator_messages.ListInvites):
            return self._invites()
        if isinstance(request, operator_messages.ListMembers):
            rows = (self._row(member) for member in self._membership.everybody())
            return operator_messages.Members(rows=tuple(sorted(rows, key=lambda row: row.name)))
        member = self._membership.named(request.member)
        if member is None:
            return operator_messages.No(
                text=f"there is no member {safe(request.member, 40)}; swarmtop members lists them"
            )
        if isinstance(request, operator_messages.Rename):
            return await self._rename(member, request.name)
        return await self._revoke(member, readmit=request.readmit)

    async def _make(self, request: operator_messages.MakeInvite) -> operator_messages.Answer:
        code, invite = await self._admissions.make_invite(safe(request.label), request.valid_s * NS_PER_S)
        return operator_messages.Made(invite=invite, code=code, expires_ns=self._register.invites[invite].expires_ns)

    async def _revoke_invite(self, request: operator_messages.RevokeInvite) -> operator_messages.Answer:
        invite = await self._admissions.revoke_invite(request.invite)
        if invite is None:
            return operator_messages.No(text=f"there is no invite {request.invite}; swarmtop invite --list shows them")
        stays = f"; {self._name(invite.used_by)} stays a member: swarmtop members --revoke ends that"
        return operator_messages.Done(
            text=f"invite {request.invite} is no longer valid{stays if invite.used_by else ''}"
        )

    def _invites(self) -> operator_messages.Answer:
        now_ns = self._clock.wall_ns()
        rows = []
        for invite, each in self._register.invites.items():
            state = "expired" if now_ns > each.expires_ns else "open"
            state = "revoked" if each.revoked else f"used by {self._name(each.used_by)}" if each.used_by else state
            rows.append(
                operator_messages.InviteRow(
                    invite=invite, label=each.label, made_ns=each.made_ns, expires_ns=each.expires_ns, state=state
                )
            )
        return operator_messages.Invites(rows=tuple(sorted(rows, key=lambda row: row.made_ns)))

    def _row(self, member: Member) -> operator_messages.MemberRow:
        row = self._register.row(member.node_id)
        state = "connected" if member.session is not None else "left" if member.goodbye else "away"
        since_ns = self._clock.steady_ns() - member.heard_ns
        return operator_messages.MemberRow(
            name=member.name,
            node_id=member.node_id,
            state="revoked" if row.revoked_ns else state,
            address=member.where.observed,
            heard_ns=max(0, self._clock.wall_ns() - since_ns) if member.heard_ns else 0,
            came_by=f"invite {row.invite}" if row.invite else "token" if self._token else "open door",
            label=row.label,
            doubts=self._anomalies_of(member.node_id),
        )

    async def _rename(self, member: Member, name: str) -> operator_messages.Answer:
        if not is_name(name):
            return operator_messages.No(text=f"{safe(name, 40)} is not a valid name: 1 to 32 of A-Z a-z 0-9 . _ -")
        before = member.name
        if not await self._admissions.rename(member, name):
            return operator_messages.No(text=f"another member is called {name}; choose another name")
        return operator_messages.Done(text=f"{before} is called {name} from now on")

    async def _revoke(self, member: Member, *, readmit: bool) -> operator_messages.Answer:
        await self._admissions.set_revoked(member, revoked=not readmit)
        if readmit:
            return operator_messages.Done(text=f"{member.name} may join again")
        return operator_messages.Done(text=f"{member.name} is no longer a member; what it measured stays in the store")

    def _name(self, node_id: str | None) -> str:
        member = self._membership.get(node_id) if node_id else None
        return member.name if member else "nobody"
