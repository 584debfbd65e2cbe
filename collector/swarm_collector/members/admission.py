"""Run the decisions of `join_rules` in transactions of the store, and apply what they change.

The store decides; this collector's copies (`Register`, `Membership`) are updated once it has committed. Other
collectors on the same database receive the keys of the changed rows and read them again. While the store accepts
nothing, a node may join by this collector's copies if nothing has to be written for it; invites and operator requests
fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeVar

import msgspec

from swarm_collector.clock import Clock
from swarm_collector.members import join_rules
from swarm_collector.members.join_rules import MEMBER_KEY, Change, Joiner, Joining, Register, Unreadable
from swarm_collector.members.membership import Member, Membership, Rejected, token_matches
from swarm_protocol.addresses import address_text
from swarm_protocol.messages.probe_messages import AboutMe, Hello, Refused
from swarm_protocol.text import clean_name
from swarm_protocol.trust import signing
from swarm_protocol.trust.signing import Handshake, Purpose
from swarm_storage.errors import StoreError
from swarm_storage.writer import transaction
from swarm_storage.writer.transaction import Transaction

STORE_RETRY_MS: Final = 5_000.0
REVOKED_NOW: Final = "the operator has revoked this machine's membership"
_T = TypeVar("_T")


def unproven(
    asked: Hello | AboutMe,
    purpose: Purpose,
    nonce: bytes,
    collector_id: bytes,
    bound_to: Collection[bytes],
    own: tuple[str, int] | None,
) -> Rejected | None:
    """Return None if the sender holds the private key of its public key, and signed for this connection to this
    collector; else the rejection. `bound_to`: what the signature may name as the connection. `own`: where a plain-text
    connection arrived; None: TLS."""
    if not asked.public_key or not asked.proof:
        return Rejected("this probe sent no proof of its key: its swarmtop is too old; update it", final=True)
    if asked.bound_to not in bound_to:
        return Rejected(_another_way(own), final=True)
    handshake = Handshake(nonce, collector_id, asked.bound_to)
    if not signing.verified(asked.public_key, handshake.signed(purpose), asked.proof):
        return Rejected(
            "the proof of this node's key is wrong: it was signed for another connection or another collector",
            final=True,
        )
    return None


def _another_way(own: tuple[str, int] | None) -> str:
    if own is None:
        return (
            "this probe saw another certificate than the collector's own: somebody is in between; check the pin, "
            "or name the proxy's certificate with --proxy-cert"
        )
    return (
        f"this probe was connected to another address than {address_text(*own)}, where its plain text arrived: "
        "something in between passes it on; join at that address, or over TLS"
    )


class DecisionStore(Protocol):
    """The part of the store that decides."""

    @property
    def shared_url(self) -> str | None: ...
    async def decide(self, decision: Callable[[Transaction], _T]) -> _T: ...
    async def reading(self, read: Callable[[], _T]) -> _T: ...
    def settings(self) -> dict[str, str]: ...


class AdmissionEffects(Protocol):
    """What the rest of the collector does after a decision."""

    def renamed(self, member: Member, name: str) -> None: ...
    def expel(self, member: Member, refused: Refused) -> None: ...
    def rows_changed(self, keys: tuple[str, ...]) -> None: ...


class Admissions:
    def __init__(
        self,
        clock: Clock,
        token: str,
        membership: Membership,
        register: Register,
        store_client: DecisionStore,
        consequences: AdmissionEffects,
    ) -> None:
        self._clock = clock
        self._token = token
        self._membership = membership
        self._register = register
        self._store_client = store_client
        self._consequences = consequences

    async def admit(self, hello: Hello, host: str) -> Joiner | Rejected:
        """Decide whether a node that has proven its key may join, and store the decision."""
        now_ns = self._clock.wall_ns()
        joining = Joining(
            public_key=hello.public_key,
            former_secret=hello.node_key,
            invite=hello.invite,
            token_ok=token_matches(self._token, hello.token),
            name=clean_name(hello.name),
            max_members=self._membership.max_members,
            recorded_id=self._register.recorded(hello.public_key.hex()),
        )
        facts = msgspec.json.encode(hello.facts).decode()
        if self._store_client.shared_url is None:  # nobody else writes: a refusal by the copy saves a transaction
            foreseen = self._by_copy(joining, now_ns)
            if isinstance(foreseen, Rejected):
                return foreseen

        def decision(store: Transaction) -> Joiner | Rejected:
            try:
                outcome = join_rules.admit(store, joining, now_ns)
            except Unreadable as error:
                return Rejected(str(error), final=False, retry_ms=STORE_RETRY_MS)
            if isinstance(outcome, Joiner):
                _write(store, outcome.changes)
                store.member(transaction.Member(outcome.node_id, outcome.name, host, facts, now_ns))
            return outcome

        try:
            outcome = await self._decide(decision, lambda done: done.changes if isinstance(done, Joiner) else ())
        except StoreError:
            outcome = self._by_copy(joining, now_ns)
            if isinstance(outcome, Joiner) and outcome.changes:
                return Rejected("the collector cannot store anything now", final=False, retry_ms=STORE_RETRY_MS)
            return replace(outcome, stored=False) if isinstance(outcome, Joiner) else outcome
        if isinstance(outcome, Joiner):
            self._register.saw(outcome.node_id, outcome.row)
            if self._register.row(outcome.node_id).revoked_ns:  # by a later revision than the transaction saw
                return Rejected(join_rules.REVOKED, final=True)
        return outcome

    def _by_copy(self, joining: Joining, now_ns: int) -> Joiner | Rejected:
        return join_rules.admit(_Copy(self._membership, self._register), joining, now_ns)

    # ------------------------------------------------------------ the operator's

    async def make_invite(self, label: str, valid_ns: int) -> tuple[str, str]:
        """Return (code, id) of a new invite. Raises StoreError."""
        now_ns = self._clock.wall_ns()
        self._register.forget_old(now_ns)
        code, invite_id, change = join_rules.make_invite(label, now_ns, valid_ns)
        await self._decide(lambda store: _write(store, (change,)), lambda _: (change,))
        return code, invite_id

    async def revoke_invite(self, invite_id: str) -> join_rules.Invite | None:
        """Return the revoked invite as it was; None: there is none. Raises StoreError and Unreadable."""

        def decision(store: Transaction) -> tuple[join_rules.Invite, Change] | None:
            found = join_rules.revoke_invite(store, invite_id)
            _write(store, (found[1],) if found else ())
            return found

        found = await self._decide(_unreadable_as_result(decision), lambda done: (done[1],) if done else ())
        return found[0] if found else None

    async def rename(self, member: Member, name: str) -> bool:
        """Rename a member; return False if another member has this name. Raises StoreError and Unreadable."""

        def decision(store: Transaction) -> Change | None:
            change = join_rules.rename(store, member.node_id, name)
            if change is not None:
                _write(store, (change,))
                store.rename(member.node_id, name)
            return change

        return await self._decide(_unreadable_as_result(decision), lambda done: (done,) if done else ()) is not None

    async def set_revoked(self, member: Member, *, revoked: bool) -> None:
        """Revoke or readmit a member. Raises StoreError and Unreadable."""
        at_ns = self._clock.wall_ns() if revoked else 0

        def decision(store: Transaction) -> Change:
            change = join_rules.set_revoked(store, member.node_id, at_ns)
            _write(store, (change,))
            return change

        await self._decide(_unreadable_as_result(decision), lambda done: (done,))

    # ------------------------------------------------------------ what follows

    async def _decide(self, decision: Callable[[Transaction], _T], changes: Callable[[_T], Sequence[Change]]) -> _T:
        """Run a decision to its end even if the requester is gone, because the copies must follow what is committed."""

        async def decide() -> _T:
            outcome = await self._store_client.decide(decision)
            if isinstance(outcome, Unreadable):
                raise outcome
            if rows := tuple(changes(outcome)):
                self.follow(rows)
                self._consequences.rows_changed(tuple(key for key, _ in rows))
            return outcome

        deciding = asyncio.ensure_future(decide())
        deciding.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return await asyncio.shield(deciding)

    def follow(self, rows: Iterable[Change]) -> None:
        """Take over rows that the store has committed: names, revocations and what is only shown."""
        rows = tuple(rows)
        self._register.update(rows)
        for key, _ in rows:
            member = self._membership.get(key.removeprefix(MEMBER_KEY)) if key.startswith(MEMBER_KEY) else None
            if member is None:
                continue
            row = self._register.row(member.node_id)
            if row.name and row.name != member.name:
                self._consequences.renamed(member, row.name)
            if row.revoked_ns and member.session is not None:
                self._consequences.expel(member, Refused(reason=REVOKED_NOW, final=True))

    async def reread(self, keys: Sequence[str] | None) -> None:
        """Read rows that another collector has changed; None: all of them. Raises StoreError."""
        store_client = self._store_client
        kept = await store_client.reading(store_client.settings)
        self.follow((key, kept[key]) for key in (kept if keys is None else keys) if key in kept)


class _Copy:
    """The `RegisterReader` that this collector has in memory."""

    def __init__(self, membership: Membership, register: Register) -> None:
        self._membership = membership
        self._register = register

    def settings(self, keys: list[str]) -> Mapping[str, str]:
        kept = self._register.kept
        return {key: value for key in keys if (value := kept(key)) is not None}

    def name_of(self, node_id: str) -> str | None:
        member = self._membership.get(node_id)
        return member.name if member is not None else None

    def has_name(self, name: str, but: str) -> bool:
        member = self._membership.named(name)
        return member is not None and member.name == name and member.node_id != but

    def members(self) -> int:
        return len(self._membership)


def _write(store: Transaction, changes: Sequence[Change]) -> None:
    for key, value in changes:
        store.setting(key, value)


def _unreadable_as_result(decision: Callable[[Transaction], _T]) -> Callable[[Transaction], _T]:
    """Return an unreadable row as the result instead of raising it: the store is not at fault."""

    def wrapped(store: Transaction) -> _T:
        try:
            return decision(store)
        except Unreadable as error:
            return error  # type: ignore[return-value]  # `_decide` raises it

    return wrapped
