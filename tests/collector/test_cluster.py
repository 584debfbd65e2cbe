"""Several collectors on one PostgreSQL serve one swarm: any viewer sees all of it, one of them plans, any may die."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from collector_fixtures import id_of
from collector_rig import collector, link

from swarm_collector.cluster.events import ProbeJoined
from swarm_protocol.messages.probe_messages import Plan
from swarm_protocol.snapshot.swarm import State
from swarm_storage.postgres import cluster_bus
from swarm_storage.store import open_store

sys.path.insert(0, str(Path(__file__).parent.parent / "storage"))
from postgres_server import server

pytest.importorskip("psycopg", reason="needs psycopg: pip install 'swarmtop[postgresql]'")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def store(postgres: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    import psycopg

    monkeypatch.setattr(cluster_bus, "BEAT_S", 0.1)
    monkeypatch.setattr(cluster_bus, "WAIT_S", 0.02)
    name = f"t{abs(hash(request.node.name))}"
    with psycopg.connect(postgres.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres.format(name)


async def until(said) -> None:
    async with asyncio.timeout(10):
        while not said():  # noqa: ASYNC110 - the state of several event sources
            await asyncio.sleep(0.01)


async def test_viewers_of_either_see_the_whole_swarm_and_one_plans_for_both(tmp_path, store):
    async with collector(tmp_path, store) as one, collector(tmp_path, store) as other:
        await until(lambda: one.swarm_state.cluster.leading != other.swarm_state.cluster.leading)
        async with one.probe("kiln") as kiln, other.probe("attic") as attic, other.viewer() as viewer:
            await kiln.plan_with("attic")
            plan = await attic.plan_with("kiln")
            assert plan.peers[0].node_id == id_of("kiln")
            swarm = await viewer.until(lambda swarm: len(swarm) == 2)
            await kiln.batch(1, link(time.time_ns(), id_of("attic"), 12.5))
            await kiln.acked(1)
            swarm = await viewer.until(lambda swarm: (swarm.links["rtt_p50_ms"] == 12.5).any())
            assert swarm.links["rtt_p50_ms"][swarm.index("kiln"), swarm.index("attic")] == 12.5
            assert (one.health()["probes"], other.health()["probes"]) == (1, 1)
        await until(lambda: not one.health()["probes"])


async def test_when_the_leader_ends_the_other_plans_and_its_probes_move_over(tmp_path, store):
    async with collector(tmp_path, store) as stays:
        async with contextlib.AsyncExitStack() as ending:
            await until(lambda: stays.swarm_state.cluster.leading)
            leaves = await ending.enter_async_context(collector(tmp_path, store))
            await until(lambda: len(stays.swarm_state.cluster._alive) == 1)
            async with leaves.probe("kiln") as kiln, stays.probe("attic") as attic:
                await kiln.plan_with("attic")
                await kiln.batch(1, sample := link(time.time_ns(), id_of("attic"), 9.0))
                await kiln.acked(1)
                await attic.plan_with("kiln")
        async with stays.probe("kiln") as kiln, stays.probe("attic") as attic:
            welcome = await kiln.welcome()
            assert welcome.committed_seq == 1
            await kiln.batch(1, sample)  # as if its acknowledgement had been lost
            await kiln.acked(1)
            await kiln.plan_with("attic")
    reader = open_store(store, read_only=True).reader
    assert len(list(reader.samples(kinds=("link",)))) == 1
    reader.close()


async def test_a_leader_that_lets_go_is_followed(tmp_path, store):
    async with collector(tmp_path, store) as second_first:
        await until(lambda: second_first.swarm_state.cluster.leading)
        async with collector(tmp_path, store) as other:
            await until(lambda: len(other.swarm_state.cluster._alive) == 1)
            assert not other.swarm_state.cluster.leading
            await asyncio.to_thread(second_first.swarm_state.cluster.close)
            await until(lambda: other.swarm_state.cluster.leading)
            async with other.probe("kiln") as kiln, other.probe("attic") as attic:
                await kiln.plan_with("attic")
                await attic.next(Plan)


async def test_a_probe_that_comes_to_the_other_collector_has_one_session_only(tmp_path, store):
    async with collector(tmp_path, store) as one, collector(tmp_path, store) as other, other.viewer() as viewer:
        await until(lambda: one.swarm_state.cluster._alive and other.swarm_state.cluster._alive)
        async with one.probe("kiln") as before:
            await before.welcome()
            await viewer.until(lambda swarm: len(swarm) == 1)
            async with other.probe("kiln") as after:
                await after.welcome()
                assert (await before.closed())[0] == 1008
                await until(lambda: not one.health()["probes"])
                swarm = await viewer.until(lambda swarm: len(swarm) == 1)
                assert swarm.nodes["state"][0] == State.OK
                assert one.swarm_state.membership.get(id_of("kiln")).session < 0


async def test_a_repeated_event_does_not_end_a_session_that_began_since(tmp_path, store):
    """A collector announces all its probes to a new one; a probe may just have moved there."""
    async with collector(tmp_path, store) as one, one.probe("kiln") as probe:
        await probe.welcome()
        member = one.swarm_state.membership.get(id_of("kiln"))
        late = ProbeJoined(member.node_id, member.name, member.hello, "203.0.113.7", "", member.beat_ns, again=True)
        one.swarm_state.cluster._apply(99, late)
        await probe.batch(1, link(time.time_ns(), id_of("other")))
        await probe.acked(1)
        one.swarm_state.cluster._apply(99, msgspec.structs.replace(late, again=False))
        assert (await probe.closed())[0] == 1008


async def test_collectors_share_the_keys_that_they_hand_out(tmp_path, store):
    from swarm_collector.ingest.store_client import StoreClient

    with contextlib.closing(StoreClient(store)) as store_client:
        assert store_client.secret(b"a" * 32) == b"a" * 32
        assert store_client.secret(b"b" * 32) == b"a" * 32
        assert "collector_secret" not in store_client.settings()
