"""Show volunteers what is stored about their machine, or delete it. A request is proven with the node's key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from swarm_collector.ingest.store_client import StoreClient
from swarm_collector.members.admission import unproven
from swarm_collector.members.join_rules import Register
from swarm_collector.members.membership import Membership
from swarm_collector.settings import Settings
from swarm_protocol.messages.probe_messages import AboutMe, AboutYou, Refused
from swarm_protocol.text import safe
from swarm_protocol.trust.signing import Purpose
from swarm_protocol.units import iso_utc
from swarm_storage.errors import StoreError


class DataRequests:
    """Answer requests. `forget` deletes everything about a node and returns the number of rows; it may raise
    StoreError."""

    def __init__(
        self,
        settings: Settings,
        membership: Membership,
        register: Register,
        store_client: StoreClient,
        forget: Callable[[str], Awaitable[int]],
    ) -> None:
        self._settings = settings
        self._membership = membership
        self._register = register
        self._store_client = store_client
        self._forget = forget

    async def answer(self, asked: AboutMe, nonce: bytes, own: tuple[str, int] | None) -> AboutYou | Refused:
        """Answer one request. `own`: where a plain-text connection arrived; None: TLS."""
        settings = self._settings
        purpose: Purpose = "forget" if asked.forget else "show"
        wrong = unproven(asked, purpose, nonce, settings.collector_id, settings.bound_to(own), own)
        if wrong is not None:
            return Refused(reason=wrong.reason, final=True)
        node_id = self._register.id_of_key(asked.public_key, lambda known: self._membership.get(known) is not None)
        try:
            lines = await self._lines(node_id)
            if asked.forget:
                gone = await self._forget(node_id)
                lines = [f"forgotten: {gone} rows of node {node_id} were deleted from the store and from every screen"]
        except StoreError as error:
            return Refused(reason=f"the store does not respond: {safe(str(error), 200)}", final=True)
        return AboutYou(lines=tuple(line[:300] for line in lines))

    async def _lines(self, node_id: str) -> list[str]:
        member = self._membership.get(node_id)
        if member is None:
            return [f"nothing is stored about node {node_id}"]
        row = self._register.row(node_id)
        held = await self._store_client.reading(lambda: self._store_client.held(node_id))
        seen_by = "every viewer" if self._settings.show_addresses else "the operator; viewers are not shown it"
        lines = [f"node      {node_id}, called {member.name}{', a name the operator gave' if row.name else ''}"]
        lines.append(
            f"address   {member.where.observed or 'not known now'} (seen by {seen_by}; members measure you there)"
        )
        if member.hello is not None:
            facts = member.hello.facts
            gpus = ", ".join(gpu.name for gpu in facts.gpus) or "no GPU"
            machine = f"machine   {facts.system}, {facts.cpu}, {facts.cores} cores, {gpus}, {member.hello.software}"
            lines.append(safe(machine, 300))
            lines.append(safe(f"own       addresses you reported: {', '.join(member.hello.addresses) or 'none'}", 300))
        if row.invite:
            lines.append(safe(f"came by   invite {row.invite}{f' for {row.label}' if row.label else ''}", 300))
        for each in held:
            about = f", {each.about} that others measured of you" if each.about else ""
            span = f"{iso_utc(each.first_ns)[:19]} to {iso_utc(each.last_ns)[:19]}"
            lines.append(f"{each.kind:<9} {each.own} samples of yours{about}, {span}")
        lines.append("rollups of these by minute and hour are kept longer; swarm-probe forget deletes all of it")
        return lines
