"""One invite admits one machine, and nobody joins after a revocation, with concurrent requests at any collector."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from collector_fixtures import id_of, key_of
from collector_rig import Rig, collector
from websockets.exceptions import ConnectionClosed

from swarm_collector.members import join_rules
from swarm_collector.members.join_rules import Joiner, Joining, Register
from swarm_collector.members.membership import Rejected
from swarm_protocol.messages import operator_messages
from swarm_protocol.messages.probe_messages import Refused
from swarm_protocol.trust import signing
from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import Full
from swarm_storage.postgres import cluster_bus

sys.path.insert(0, str(Path(__file__).parents[2] / "storage"))
from postgres_server import server

DAY_NS = 86_400 * NS_PER_S


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@contextlib.asynccontextmanager
async def two_on_postgres(tmp_path, postgres, name, monkeypatch, **changes):
    import psycopg

    monkeypatch.setattr(cluster_bus, "BEAT_S", 0.1)
    monkeypatch.setattr(cluster_bus, "WAIT_S", 0.02)
    with psycopg.connect(postgres.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    store = postgres.format(name)
    async with collector(tmp_path, store, **changes) as one, collector(tmp_path, store, **changes) as other:
        await until(lambda: one.swarm_state.cluster._alive and other.swarm_state.cluster._alive)
        yield one, other


async def until(said) -> None:
    async with asyncio.timeout(10):
        while not said():  # noqa: ASYNC110 - the state of several event sources
            await asyncio.sleep(0.01)


async def answered(rig: Rig, name: str, **changes: object) -> bool:
    """Is it welcome?"""
    async with rig.probe(name, **changes) as probe:
        with contextlib.suppress(ConnectionClosed):
            await probe.welcome()
            return True
    return False


async def ask(rig: Rig, request: operator_messages.Request) -> operator_messages.Answer:
    return await rig.server.operator_requests.answer(request)


# ---------------------------------------------------------------- invites


async def test_one_invite_lets_one_of_ten_simultaneous_machines_in(tmp_path):
    async with collector(tmp_path, token="secret") as rig:
        made = await ask(rig, operator_messages.MakeInvite())
        welcome = await asyncio.gather(*(answered(rig, f"n{i}", invite=made.code) for i in range(10)))
        assert sum(welcome) == 1
        assert len(rig.swarm_state.membership) == 1
        (row,) = (await ask(rig, operator_messages.ListInvites())).rows
        assert row.state == f"used by n{welcome.index(True)}"
    with contextlib.closing(sqlite3.connect(tmp_path / "swarm.db")) as db:
        assert db.execute("SELECT count(*) FROM node").fetchone() == (1,)


async def test_one_invite_lets_one_machine_in_at_two_collectors(tmp_path, postgres, monkeypatch):
    async with two_on_postgres(tmp_path, postgres, "invites", monkeypatch, token="secret") as rigs:
        made = await ask(rigs[0], operator_messages.MakeInvite())
        hellos = (answered(rigs[i % 2], f"n{i}", invite=made.code) for i in range(10))
        welcome = await asyncio.gather(*hellos)
        assert sum(welcome) == 1
        winner = f"n{welcome.index(True)}"

        for rig in rigs:
            await until(lambda rig=rig: rig.swarm_state.register.row(id_of(winner)).invite == made.invite)
            (row,) = (await ask(rig, operator_messages.ListInvites())).rows
            assert row.state == f"used by {winner}"


async def test_an_invite_revoked_at_one_collector_is_no_good_at_the_other(tmp_path, postgres, monkeypatch):
    async with two_on_postgres(tmp_path, postgres, "revoked_invite", monkeypatch, token="secret") as (one, other):
        made = await ask(one, operator_messages.MakeInvite())
        await ask(one, operator_messages.RevokeInvite(invite=made.invite))
        assert not await answered(other, "kiln", invite=made.code)


async def test_a_client_that_leaves_during_the_decision_has_used_its_invite(tmp_path):
    """The commit is final, so memory must follow it."""
    async with collector(tmp_path, token="secret") as rig:
        made = await ask(rig, operator_messages.MakeInvite())
        async with rig.probe("kiln", invite=made.code):
            pass  # gone before the answer
        await until(lambda: rig.swarm_state.register.invites[made.invite].used_by or not rig.swarm_state.probe_count)
        used_by = rig.swarm_state.register.invites[made.invite].used_by
        assert await answered(rig, "kiln", invite=made.code)
        assert used_by in (None, id_of("kiln"))


@pytest.mark.parametrize(
    ("later_ns", "revoked", "code", "line"),
    [
        (DAY_NS + 1, False, None, "this invite expired on 1970-01-02 at 00:00 UTC; ask the operator for another"),
        (1, True, None, "this invite was revoked; ask the operator for another"),
        (
            1,
            False,
            "made-up",
            "this collector made no such invite; copy the whole line, or ask its operator for another",
        ),
    ],
)
def test_an_invite_that_is_no_good_says_why(later_ns, revoked, code, line):
    book = Rows()
    made, invite_id, change = join_rules.make_invite("", 0, DAY_NS)
    book.keep(change)
    if revoked:
        book.keep(join_rules.revoke_invite(book, invite_id)[1])
    assert join_rules.admit(book, joining("kiln", invite=code or made), later_ns) == Rejected(line, final=True)


def test_no_code_is_kept_anywhere():
    code, invite_id, change = join_rules.make_invite("alice", 0, DAY_NS)
    assert code not in change[0] + change[1]
    assert Register(dict([change])).invites[invite_id].label == "alice"


def test_a_row_read_before_a_commit_does_not_undo_it():
    """Several collectors, and several awaits in one, read rows and take them over at any time later."""
    book = Rows()
    code, invite_id, change = join_rules.make_invite("", 0, DAY_NS)
    book.keep(change)
    copy = Register(book.kept)
    read_before = dict(book.kept)
    joiner = join_rules.admit(book, joining("kiln", invite=code), 1)
    assert isinstance(joiner, Joiner)
    copy.update(joiner.changes)
    copy.update(read_before.items())
    assert copy.invites[invite_id].used_by == id_of("kiln")


# ---------------------------------------------------------------- revocations


async def test_a_node_revoked_at_one_collector_is_disconnected_from_the_other(tmp_path, postgres, monkeypatch):
    async with (
        two_on_postgres(tmp_path, postgres, "revoked", monkeypatch) as (one, other),
        other.probe("kiln") as probe,
    ):
        await probe.welcome()
        await until(lambda: one.swarm_state.knows(id_of("kiln")))
        await ask(one, operator_messages.Revoke(member="kiln"))
        assert (await probe.next(Refused)).final
        assert not await answered(other, "kiln")
        await ask(one, operator_messages.Revoke(member="kiln", readmit=True))
        assert await answered(other, "kiln")


async def test_a_revocation_during_joins_leaves_no_session_connected(tmp_path):
    async with collector(tmp_path) as rig:
        assert await answered(rig, "kiln")
        for _ in range(10):
            joins = [asyncio.ensure_future(answered(rig, "kiln")) for _ in range(3)]
            await ask(rig, operator_messages.Revoke(member="kiln"))
            await asyncio.gather(*joins)
            await until(lambda: rig.swarm_state.membership.get(id_of("kiln")).session is None)
            assert not await answered(rig, "kiln")
            await ask(rig, operator_messages.Revoke(member="kiln", readmit=True))


# ---------------------------------------------------------------- names


async def test_two_members_cannot_get_one_name_at_two_collectors(tmp_path, postgres, monkeypatch):
    async with two_on_postgres(tmp_path, postgres, "names", monkeypatch) as rigs:
        for rig, name in zip(rigs, ("kiln", "oven"), strict=True):
            assert await answered(rig, name)
        for rig in rigs:
            await until(lambda rig=rig: all(rig.swarm_state.knows(id_of(name)) for name in ("kiln", "oven")))
        answers = await asyncio.gather(
            ask(rigs[0], operator_messages.Rename(member="kiln", name="attic")),
            ask(rigs[1], operator_messages.Rename(member="oven", name="attic")),
        )
        assert {type(each) for each in answers} == {operator_messages.Done, operator_messages.No}
        for rig in rigs:
            await until(lambda rig=rig: rig.swarm_state.membership.named("attic") is not None)


async def test_machines_of_one_name_that_join_two_collectors_at_once_are_distinguished(tmp_path, postgres, monkeypatch):
    async with two_on_postgres(tmp_path, postgres, "same_names", monkeypatch) as rigs:

        async def name(number: int) -> str:
            async with rigs[number % 2].probe("kiln", seed=bytes([number]) * 32) as probe:
                return (await probe.welcome()).name

        names = await asyncio.gather(*(name(number) for number in range(8)))
        assert sorted(names) == sorted(["kiln", *(f"kiln-{i}" for i in range(2, 9))])


# ---------------------------------------------------------------- a store that takes nothing


async def test_without_a_store_only_clients_that_need_no_write_join(tmp_path, monkeypatch):
    async with collector(tmp_path, token="secret") as rig:
        made = await ask(rig, operator_messages.MakeInvite())
        assert await answered(rig, "kiln", token="secret")
        monkeypatch.setattr(rig.swarm_state.store_client, "decide", failing)
        assert await answered(rig, "kiln", token="secret")
        async with rig.probe("oven", invite=made.code) as probe:
            refused = await probe.next(Refused)
        assert (refused.reason, refused.final) == ("the collector cannot store anything now", False)
        said = await ask(rig, operator_messages.Revoke(member="kiln"))
        assert said == operator_messages.No(text="nothing was changed, because the store refused it: the disk is full")
        monkeypatch.undo()
        assert await answered(rig, "oven", invite=made.code)


async def failing(decision: object) -> None:
    raise Full("the disk is full")


# ---------------------------------------------------------------- small parts


class Rows:
    """A `RegisterReader` of nothing but rows."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def keep(self, *changes: join_rules.Change) -> None:
        self.kept.update(changes)

    def settings(self, keys: list[str]) -> dict[str, str]:
        return {key: self.kept[key] for key in keys if key in self.kept}

    def name_of(self, node_id: str) -> str | None:
        return None

    def has_name(self, name: str, but: str) -> bool:
        return False

    def members(self) -> int:
        return 0


def joining(name: str, *, invite: str = "", token_ok: bool = True) -> Joining:
    return Joining(signing.public_key(key_of(name)), None, invite, token_ok, name, 100)
