"""Joins, repeated reads, revocations and renames in every order and concurrently, at one collector and at two.

Hypothesis chooses bursts of operations that all run at once, each begun some turns of the event loop after the others.
A hello carries no token, so an invite is the only way in: as many machines as invites at most, whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import tempfile
from pathlib import Path

import msgspec
from collector_fixtures import id_of
from collector_rig import WAIT_S, Probe, Rig, collector
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from websockets.exceptions import ConnectionClosed

from swarm_collector.members.join_rules import INVITE_KEY, MEMBER_KEY, Invite, Row
from swarm_protocol.messages import operator_messages
from swarm_protocol.messages.probe_messages import Refused, Welcome, decode_from_collector

sys.path.insert(0, str(Path(__file__).parents[2] / "storage"))
from postgres_server import server

NODES = tuple(f"n{i}" for i in range(6))
NAMES = ("kiln", "oven")
LAST = st.integers(0, 3)  # one of the latest invites, counted from the last
OPERATION = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(NODES), LAST),
    st.tuples(st.just("join"), st.sampled_from(NODES), LAST),  # twice as likely as others
    st.tuples(st.just("leave"), st.sampled_from(NODES)),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("revoke"), st.sampled_from(NODES), st.booleans()),
    st.tuples(st.just("rename"), st.sampled_from(NODES), st.sampled_from(NAMES)),
    st.tuples(st.just("revoke_invite"), LAST),
)
BURST = st.lists(st.tuples(OPERATION, st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=10)


class Admissions(RuleBasedStateMachine):
    """`store` is made again for each example; `collectors` share it."""

    collectors = 1

    def store(self) -> str | None:
        return None

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.open = contextlib.AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.rigs: list[Rig] = []
        self.invites: list[operator_messages.Made] = []
        self.over: set[str] = set()  # invites revoked before the burst at hand
        self.probes: dict[str, Probe] = {}
        self.welcomed: set[str] = set()  # nodes, ever
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        store = self.store()
        for _ in range(self.collectors):
            self.rigs.append(
                await self.open.enter_async_context(collector(Path(self.folder.name), store, token="secret"))
            )
        if self.collectors > 1:
            await until(lambda: all(rig.swarm_state.cluster._alive for rig in self.rigs))

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.open.aclose())
            self.loop.close()
            self.folder.cleanup()

    # ------------------------------------------------------------ rules

    @rule(at=st.integers(0, 1))
    def invite(self, at: int) -> None:
        made = self.loop.run_until_complete(
            self._rig(at).server.operator_requests.answer(operator_messages.MakeInvite())
        )
        assert isinstance(made, operator_messages.Made)
        self.invites.append(made)

    @precondition(lambda self: self.invites)
    @rule(burst=BURST)
    def burst(self, burst: list[tuple[tuple[object, ...], int, int]]) -> None:
        before = self._invites()
        self.over = {invite for invite, row in before.items() if row.revoked and row.used_by is None}
        self.loop.run_until_complete(self._burst(burst))
        self._check(before)

    async def _burst(self, burst: list[tuple[tuple[object, ...], int, int]]) -> None:
        async with asyncio.timeout(3 * WAIT_S):
            await asyncio.gather(*(self._later(turns, operation, at) for operation, at, turns in burst))
        await self._quiet()

    async def _later(self, turns: int, operation: tuple[object, ...], at: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        rig = self._rig(at)
        match operation:
            case ("join", str(name), int(back)):
                await self._join(rig, name, self.invites[-1 - back % len(self.invites)].code)
            case ("leave", str(name)):
                if (probe := self.probes.pop(name, None)) is not None:
                    await probe.connection.close()
            case ("read", _):
                await rig.swarm_state.admissions.reread(None)
            case ("revoke", str(name), bool(readmit)):
                await rig.server.operator_requests.answer(operator_messages.Revoke(member=id_of(name), readmit=readmit))
            case ("rename", str(name), str(to)):
                await rig.server.operator_requests.answer(operator_messages.Rename(member=id_of(name), name=to))
            case ("revoke_invite", int(back)):
                invite = self.invites[-1 - back % len(self.invites)].invite
                await rig.server.operator_requests.answer(operator_messages.RevokeInvite(invite=invite))
            case _:
                raise AssertionError(operation)

    async def _join(self, rig: Rig, name: str, code: str) -> None:
        with contextlib.suppress(ConnectionClosed):
            probe = await self.open.enter_async_context(rig.probe(name, invite=code))
            while True:
                message = decode_from_collector(await probe.connection.recv())  # type: ignore[arg-type]
                if isinstance(message, Welcome):
                    self.welcomed.add(name)
                    self.probes[name] = probe
                    return
                if isinstance(message, Refused):
                    return

    # ------------------------------------------------------------ what holds at rest

    async def _quiet(self) -> None:
        """The copies of all collectors agree with the store."""
        kept = self._kept()
        invites = {key: msgspec.json.decode(text, type=Invite) for key, text in kept.items() if key[:7] == INVITE_KEY}
        members = {key: msgspec.json.decode(text, type=Row) for key, text in kept.items() if key[:7] == MEMBER_KEY}
        for rig in self.rigs:
            register = rig.swarm_state.register
            await until(lambda register=register: invites == {INVITE_KEY + i: r for i, r in register.invites.items()})
            await until(lambda register=register: members == {MEMBER_KEY + n: r for n, r in register.rows.items()})
            for node_id, row in register.rows.items():
                if row.revoked_ns:
                    await until(lambda rig=rig, node_id=node_id: self._session(rig, node_id) is None)

    def _check(self, before: dict[str, Invite]) -> None:
        invites, rows = self._invites(), self._rows()
        assert len(self.welcomed) <= len(self.invites)
        came_by = {name: rows[id_of(name)].invite for name in self.welcomed}
        assert len(set(came_by.values())) == len(came_by)
        for name, invite in came_by.items():
            assert invites[invite].used_by == id_of(name)
        for invite, row in before.items():
            assert not row.revoked or invites[invite].revoked
            assert row.used_by is None or invites[invite].used_by == row.used_by
        assert not [invite for invite in self.over if invites[invite].used_by is not None]
        names = [row.name for row in self.rigs[0].swarm_state.store_client._reader.nodes()]
        assert len(names) == len(set(names))
        for rig in self.rigs:
            shown = [member.name for member in rig.swarm_state.membership.everybody()]
            assert len(shown) == len(set(shown))
        for row in rows.values():
            assert not row.name or not row.invite or row.name in names

    # ------------------------------------------------------------ small parts

    def _rig(self, at: int) -> Rig:
        return self.rigs[at % self.collectors]

    def _kept(self) -> dict[str, str]:
        return self.rigs[0].swarm_state.store_client.settings()

    def _invites(self) -> dict[str, Invite]:
        kept = self._kept().items()
        return {key[7:]: msgspec.json.decode(text, type=Invite) for key, text in kept if key[:7] == INVITE_KEY}

    def _rows(self) -> dict[str, Row]:
        kept = self._kept().items()
        return {key[7:]: msgspec.json.decode(text, type=Row) for key, text in kept if key[:7] == MEMBER_KEY}

    @staticmethod
    def _session(rig: Rig, node_id: str) -> int | None:
        member = rig.swarm_state.membership.get(node_id)
        return member.session if member is not None else None


async def until(said) -> None:
    async with asyncio.timeout(WAIT_S):
        while not said():  # noqa: ASYNC110 - the state of several event sources
            await asyncio.sleep(0.005)


def test_admission_at_one_collector():
    run_state_machine_as_test(Admissions, settings=settings(max_examples=15, stateful_step_count=8, deadline=None))


def test_admission_at_two_collectors_on_postgresql(monkeypatch):
    import psycopg

    from swarm_storage.postgres import cluster_bus

    monkeypatch.setattr(cluster_bus, "BEAT_S", 0.1)
    monkeypatch.setattr(cluster_bus, "WAIT_S", 0.02)
    numbers = itertools.count()
    with server() as url:

        class Shared(Admissions):
            collectors = 2

            def store(self) -> str:
                name = f"states{next(numbers)}"
                with psycopg.connect(url.format("postgres"), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE {name}".encode())
                return url.format(name)

        several = settings(
            max_examples=6,
            stateful_step_count=8,
            deadline=None,
            phases=[Phase.generate],  # an example takes a second: none is made smaller
            suppress_health_check=[HealthCheck.too_slow],
        )
        run_state_machine_as_test(Shared, settings=several)
