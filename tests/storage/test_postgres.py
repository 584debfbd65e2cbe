"""PostgreSQL does what every store must do, for several collectors at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from postgres_server import server
from replay_contract import REPLAY_CHECKS
from sample_fixtures import T0, A, B, batch, event, host, link, one_of_each
from store_contract import CHECKS, Maker

from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import Corrupt, NotADatabase, OlderVersion, ReadOnly, StoreError, Unreachable
from swarm_storage.history.roll_forward import raw_floor
from swarm_storage.postgres.postgres_backend import DAY_NS, PostgresBackend, PostgresDb, connect, name_of
from swarm_storage.sqlite import sqlite_backend as backend_module
from swarm_storage.sqlite.schema import VERSION
from swarm_storage.store import open_store
from swarm_storage.store_base import Store
from swarm_storage.writer.transaction import Known
from swarm_storage.writer.writer import Writer

pytest.importorskip("psycopg", reason="needs psycopg: pip install 'swarmtop[postgresql]'")
WAIT_S = 20.0
HOUR_NS = 3600 * NS_PER_S
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def template() -> Iterator[str]:
    """A server with one database that has our tables; copying it is quicker than making them."""
    with server() as url:
        _run(url, "CREATE DATABASE template_of_ours")
        open_store(url.format("template_of_ours")).close()
        yield url


@pytest.fixture
def url(template: str) -> str:
    name = f"swarm_{next(_numbers)}"
    _run(template, f"CREATE DATABASE {name} TEMPLATE template_of_ours")
    return template.format(name)


def _run(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url.format("postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def db(url: str) -> Iterator[PostgresDb]:
    opened = connect(url, read_only=False)
    yield opened
    opened.close()


@pytest.mark.parametrize("check", [*CHECKS, *REPLAY_CHECKS], ids=lambda check: check.__name__)
def test_postgresql(check: Callable[[Maker], None], url: str):
    check(lambda: open_store(url))


def test_two_collectors_write_one_database_and_a_probe_goes_from_one_to_the_other(url: str):
    """A batch that both took (the first one's answer was lost) is there once, and the cursor never goes back."""
    one, other = open_store(url), open_store(url)
    writers = [one.writer(), other.writer()]
    for writer in writers:
        for seq in (1, 2):
            taken = writer.submit(batch(seq, [link(T0 + seq), host(T0 + seq), event(T0 + seq)])).result(WAIT_S)
            assert taken == (seq if writer is writers[0] else 2)
    assert writers[1].submit(batch(3, [event(T0 + 3)])).result(WAIT_S) == 3
    assert writers[0].submit(batch(2, [event(T0 + 9)])).result(WAIT_S) == 3  # told what the other has
    assert writers[0].submit(batch(4, [event(T0 + 4)])).result(WAIT_S) == 4
    assert [sample.at_ns - T0 for _, sample in other.reader.samples(kinds=("event",))] == [1, 2, 3, 4]
    assert len(list(other.reader.samples())) == 8
    one.close()
    other.close()


def test_many_writers_at_once_neither_lose_nor_double_nor_wait_for_ever(url: str):
    stores = [open_store(url) for _ in range(3)]
    futures = [
        store.writer().submit(batch(1, [link(T0 + i), event(T0 + i)], node_id=f"{i:016x}"))
        for i, store in enumerate(stores)
    ]
    futures += [
        store._writer.submit(batch(seq, [link(T0 + seq, peer=A), event(T0 + seq)], node_id=f"{i:016x}"))  # type: ignore[attr-defined]
        for seq in range(2, 60)
        for i, store in enumerate(stores)
    ]
    for future in futures:
        future.result(WAIT_S)
    assert len(list(stores[0].reader.samples())) == 2 * len(futures)
    for store in stores:
        store.close()


def keeper_at(url: str, now_ns: int, retain_ns: int) -> PostgresBackend:
    return PostgresBackend(url, retain_ns=retain_ns, clock_ns=lambda: now_ns, steady_ns=lambda: now_ns)


def test_days_are_rolled_up_then_dropped_and_charts_continue(url: str, db: PostgresDb):
    store = open_store(url)
    every = 60 * NS_PER_S
    store.writer().submit(batch(1, [link(T0 + i * every, rtt_p50_ms=20.0) for i in range(300)])).result(WAIT_S)
    store._writer.submit(batch(2, one_of_each(T0 + 3 * DAY_NS))).result(WAIT_S)  # type: ignore[attr-defined]
    backend = keeper_at(url, T0 + 3 * DAY_NS, DAY_NS)
    backend._prunes.begin(db)
    while backend.tidy(db, Known(), busy=False, well=True) == backend_module.STEP_PAUSE_S:
        pass
    backend.tidy(db, Known(), busy=False, well=True)
    assert raw_floor(db) > T0 // 300 // NS_PER_S
    assert db.query("SELECT count(*) FROM link_sample WHERE ts < ?", (T0 + DAY_NS,)) == [(0,)]
    assert len(list(store.reader.samples(T0 + 3 * DAY_NS))) == len(one_of_each())
    history = store.reader.history("rtt_p50", A, B, T0, T0 + 5 * HOUR_NS, 5)
    assert history.values == pytest.approx((20.0,) * 5, rel=0.01)
    assert history.rolled_until_ns > T0
    store.close()


def test_only_one_collector_does_the_upkeep(url: str, db: PostgresDb):
    store = open_store(url)
    store.writer().submit(batch(1, [link(T0)])).result(WAIT_S)
    other = connect(url, read_only=False)
    backend = keeper_at(url, T0 + HOUR_NS, DAY_NS)
    backend._prunes.begin(db)
    other.query("SELECT pg_advisory_lock(?)", (0x5357_0001,))
    backend.tidy(db, Known(), busy=False, well=True)
    assert db.query("SELECT count(*) FROM pending WHERE unit = 'bucket'") == [(1,)]
    other.query("SELECT pg_advisory_unlock(?)", (0x5357_0001,))
    other.close()
    backend.tidy(db, Known(), busy=False, well=True)
    assert db.query("SELECT count(*) FROM pending WHERE unit = 'bucket'") == [(0,)]
    store.close()


def test_a_server_that_restarts_costs_a_pause_and_nothing_else(url: str, db: PostgresDb, monkeypatch):
    from swarm_storage.writer import writer as writer_module

    monkeypatch.setattr(writer_module, "RETRY_S", (0.0, 0.0))
    store = open_store(url)
    writer = store.writer()
    assert writer.submit(batch(1, [event(T0)])).result(WAIT_S) == 1
    db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(
        Unreachable, match=r"^postgresql://.* does not answer \(.*\); start it there, or correct its URL"
    ):
        writer.submit(batch(2, [event(T0 + 2)])).result(WAIT_S)
    assert writer.submit(batch(2, [event(T0 + 2)])).result(WAIT_S) == 2
    assert len(store.reader.events()) == 2
    store.close()


def test_what_cannot_be_used_is_one_line_without_a_password(template: str):
    with pytest.raises(Unreachable) as refused:
        open_store("postgresql://me:secret@127.0.0.1:1/swarm")
    assert "secret" not in str(refused.value)
    assert name_of("postgresql://me:secret@db.example/swarm") == "postgresql://db.example/swarm"
    _run(template, "CREATE DATABASE empty_one")
    with pytest.raises(NotADatabase, match="holds nothing of swarmtop"):
        open_store(template.format("empty_one"), read_only=True)
    _run(template, "CREATE DATABASE of_others")
    other = connect_raw(template.format("of_others"))
    other.execute(b"CREATE TABLE something (a int)")
    other.close()
    with pytest.raises(NotADatabase, match="has tables of another program"):
        open_store(template.format("of_others"))


def connect_raw(url: str):
    import psycopg

    return psycopg.connect(url, autocommit=True)


def test_read_only_is_read_only(url: str):
    store: Store = open_store(url, read_only=True)
    with pytest.raises(ReadOnly):
        store.writer()
    with pytest.raises(StoreError):
        store.reader.query("DELETE FROM node")
    store.close()


def test_a_newer_database_is_refused(url: str, db: PostgresDb):
    db.run("UPDATE setting SET value = '99' WHERE key = 'postgres_version'")
    with pytest.raises(StoreError, match=f"is of version 99, this swarmtop knows up to {VERSION}; upgrade swarmtop"):
        open_store(url)


def test_an_older_database_gets_what_it_lacks_and_its_rows_stay(url: str, db: PostgresDb):
    store = open_store(url)
    store.writer().submit(batch(1, [link(T0)])).result(WAIT_S)
    store.close()
    db.run("ALTER TABLE link_sample DROP COLUMN duplicates")
    db.run("DROP TABLE hop_sample")
    db.run("UPDATE setting SET value = '1' WHERE key = 'postgres_version'")
    with pytest.raises(OlderVersion, match=f"is of version 1, this swarmtop reads {VERSION}"):
        open_store(url, read_only=True)
    store = open_store(url)
    assert store.writer().submit(batch(2, one_of_each(T0 + 1))).result(WAIT_S) == 2
    assert [sample.at_ns for _, sample in store.reader.samples(kinds=("link", "hop"))] == [T0, T0 + 1, T0 + 2]
    store.close()


def test_every_writer_leaves_its_thread_at_the_end(url: str):
    store = open_store(url)
    writer: Writer = store.writer()
    store.close()
    assert not writer._thread.is_alive()


def test_checksums_that_fail_stop_intake_and_a_sound_server_passes(url: str, monkeypatch: pytest.MonkeyPatch):
    store = open_store(url)
    writer = store.writer()
    assert store.check_due
    store.check()
    assert not store.check_due
    monkeypatch.setattr(store.reader, "query", lambda *_: [(3,)])  # no server here can be made to find one
    with pytest.raises(Corrupt, match="do not match their checksums"):
        store.check()
    assert isinstance(writer.condition, Corrupt)
    store.close()
