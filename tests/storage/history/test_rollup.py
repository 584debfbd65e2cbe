"""Raw samples are removed and their content kept: rolled up once, in steps, again if more comes, never twice the
same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_fixtures import T0, A, B, C, batch, event, host, link, uplink

from swarm_protocol.messages.samples import Sample
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.retention import prune_rollups_step, prune_step
from swarm_storage.history.roll_forward import roll_step
from swarm_storage.history.rollup import DAY_NS, MINUTE
from swarm_storage.rows import BUCKET_NS
from swarm_storage.sql import SqliteDb
from swarm_storage.sqlite.connect import connect_writer
from swarm_storage.store import open_store
from swarm_storage.store_base import Store

MINUTE_NS, HOUR_NS = 60 * NS_PER_S, 3600 * NS_PER_S
H0 = T0 // HOUR_NS * HOUR_NS + HOUR_NS  # the start of an hour


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "swarm.db"))
    yield opened
    opened.close()


class Kept:
    """Writes without a writer's thread, so that a test says when upkeep runs."""

    def __init__(self, store: Store) -> None:
        from swarm_storage.writer.transaction import Known

        self.db = SqliteDb(connect_writer(store.path))
        self._known = Known()
        self._seq = 0

    def put(self, *samples: Sample, node_id: str = A) -> None:
        from swarm_storage.writer.transaction import Transaction

        self._seq += 1
        self.db.begin()
        transaction = Transaction(self.db, self._known)
        transaction.batch(batch(self._seq, samples, node_id))
        transaction.flush()
        self.db.commit()
        transaction.committed()

    def roll(self, now_ns: int, max_rows: int = 4000) -> int:
        """How many steps it took."""
        steps = 0
        while (bucket := roll_step(self.db, now_ns, max_rows)) is not None:
            self._known.pending.discard(bucket)
            steps += 1
        return steps

    def prune(self, cutoff_ns: int) -> None:
        while prune_step(self.db, cutoff_ns):
            pass

    def rows(self, table: str) -> list[tuple[object, ...]]:
        return self.db.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")


@pytest.fixture
def kept(store: Store) -> Iterator[Kept]:
    made = Kept(store)
    yield made
    made.db.close()


def links(n: int, every_ns: int = 10 * NS_PER_S, start_ns: int = H0, peer: str = B) -> list[Sample]:
    return [
        link(start_ns + i * every_ns, peer, rtt_p50_ms=10.0 + i % 7, sent=10, lost=i % 2, rtt_min_ms=9.0 - i % 3)
        for i in range(n)
    ]


def test_minutes_and_hours_say_what_the_samples_said(store: Store, kept: Kept):
    kept.put(*links(360))
    kept.roll(H0 + 2 * HOUR_NS)
    views = store.reader.query("SELECT time, n, sent, lost, rtt_min_ms, rtt_p50_ms FROM link_minute ORDER BY time")
    assert len(views) == 60
    assert views[0][1:] == (6, 60, 3, 7.0, 12.5)  # exact within a minute: 10 11 12 13 14 15
    ((_, n, sent, lost, least, p50),) = store.reader.query(
        "SELECT time, n, sent, lost, rtt_min_ms, rtt_p50_ms FROM link_hour"
    )
    assert (n, sent, lost, least) == (360, 3600, 180, 7.0)
    assert p50 == pytest.approx(13.0, rel=0.01)


def test_history_continues_in_rollups_where_the_samples_are_gone(store: Store, kept: Kept):
    kept.put(*links(720))  # two hours
    before = store.reader.history("rtt_p50", A, B, H0, H0 + 2 * HOUR_NS, 12)
    loss = store.reader.history("loss", A, B, H0, H0 + 2 * HOUR_NS, 12)
    assert before.rolled_until_ns == 0
    kept.roll(H0 + 4 * HOUR_NS)
    kept.prune(H0 + HOUR_NS)
    after = store.reader.history("rtt_p50", A, B, H0, H0 + 2 * HOUR_NS, 12)
    assert after.rolled_until_ns == H0 + HOUR_NS
    assert after.values == pytest.approx(before.values, rel=0.01)
    assert after.values[6:] == before.values[6:]  # still raw
    assert store.reader.history("loss", A, B, H0, H0 + 2 * HOUR_NS, 12).values == loss.values
    assert store.reader.history("rtt_p50", A, None, H0, H0 + 2 * HOUR_NS, 12).values == pytest.approx(after.values)


def test_hours_answer_where_the_minutes_are_gone_too(store: Store, kept: Kept):
    kept.put(*links(720))
    kept.roll(H0 + 4 * HOUR_NS)
    kept.prune(H0 + 4 * HOUR_NS)
    while prune_rollups_step(kept.db, H0 + HOUR_NS + MINUTE.keep_ns, 0):
        pass
    history = store.reader.history("rtt_p50", A, B, H0, H0 + 2 * HOUR_NS, 8)
    assert history.values == pytest.approx((13.0,) * 8, rel=0.02)  # a quarter of an hour shows its hour
    while prune_rollups_step(kept.db, H0 + 500 * DAY_NS, 0):
        pass
    assert set(store.reader.history("rtt_p50", A, B, H0, H0 + 2 * HOUR_NS, 8).values) == {None}


def test_free_memory_and_uplinks_are_rolled_up_as_they_are_shown(store: Store, kept: Kept):
    kept.put(
        host(H0, vram_free_bytes=1 << 30), host(H0, vram_free_bytes=2 << 30), uplink(H0, mbps=40.0, sent_bytes=1000),
        uplink(H0 + 1, mbps=44.0, sent_bytes=500),
    )  # fmt: skip
    kept.roll(H0 + HOUR_NS)
    kept.prune(H0 + HOUR_NS)
    assert store.reader.history("vram_free", A, None, H0, H0 + MINUTE_NS, 1).values == pytest.approx(
        (float(3 << 30),), rel=0.01
    )
    assert store.reader.query("SELECT sent_bytes, mbps FROM uplink_minute") == [(1500, 42.0)]


def test_steps_however_small_and_cut_short_make_the_same_rows(store: Store, kept: Kept):
    kept.put(*links(60), *links(60, peer=C), host(H0))
    kept.put(*links(30), node_id=C)
    kept.roll(H0 + 3 * HOUR_NS)
    whole = {table: kept.rows(table) for table in ("link_minute_rollup", "link_hour_rollup", "newest")}
    for table in (*whole, "pending"):
        kept.db.run(f"DELETE FROM {table}")
    kept._known.pending.clear()
    kept.db.run("INSERT INTO pending SELECT DISTINCT 'bucket', bucket, 0, 0 FROM link_sample")
    assert kept.roll(H0 + 3 * HOUR_NS, max_rows=1) >= 10
    assert {table: kept.rows(table) for table in whole} == whole
    assert kept.rows("pending") == []


def test_what_comes_late_is_rolled_up_with_the_rest(store: Store, kept: Kept):
    kept.put(*links(60))
    kept.roll(H0 + 3 * HOUR_NS)
    kept.put(link(H0 + 1, rtt_p50_ms=11.0, sent=30, lost=0))
    kept.roll(H0 + 3 * HOUR_NS)
    assert store.reader.query("SELECT sum(n), sum(sent) FROM link_hour") == [(61, 630)]


def test_what_comes_after_the_raw_samples_were_removed_is_added_and_not_kept(store: Store, kept: Kept):
    kept.put(*links(60))
    kept.roll(H0 + 3 * HOUR_NS)
    kept.prune(H0 + 2 * HOUR_NS)
    assert list(store.reader.samples(kinds=("link",))) == []
    kept.put(link(H0 + 1, rtt_p50_ms=11.0, sent=30, lost=0))
    kept.prune(H0 + 2 * HOUR_NS)  # must not take it before it was added
    kept.roll(H0 + 3 * HOUR_NS)
    kept.roll(H0 + 3 * HOUR_NS)
    assert store.reader.query("SELECT sum(n), sum(sent) FROM link_hour") == [(61, 630)]
    assert store.reader.query("SELECT count(*) FROM link_sample") == [(0,)]


def test_nothing_is_removed_before_it_was_rolled_up_unless_room_counts_more(store: Store, kept: Kept):
    kept.put(*links(60))
    kept.prune(H0 + HOUR_NS)
    assert store.reader.query("SELECT count(*) FROM link_sample") == [(60,)]
    while prune_step(kept.db, H0 + HOUR_NS, unrolled=True):
        pass
    assert store.reader.query("SELECT count(*) FROM link_sample") == [(0,)]
    assert kept.rows("pending") == []


def test_the_present_bucket_waits_for_its_end(kept: Kept):
    kept.put(*links(3))
    assert kept.roll(H0 + BUCKET_NS) == 0
    assert kept.roll(H0 + 2 * BUCKET_NS) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pr"), st.integers(0, 7200), st.sampled_from((B, C))), max_size=30))
def test_whatever_the_order_of_writing_and_rolling_each_sample_counts_once(steps: list[tuple[str, int, str]]):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"{folder}/swarm.db")
        kept = Kept(store)
        put = set()
        for what, second, peer in steps:
            if what == "p":
                kept.put(link(H0 + second * NS_PER_S, peer), event(H0))
                put.add((second, peer))
            else:
                kept.roll(H0 + second * NS_PER_S, max_rows=1)
        kept.roll(H0 + 10 * HOUR_NS)
        ((minutes, hours),) = kept.db.query(
            "SELECT (SELECT coalesce(sum(n), 0) FROM link_minute), (SELECT coalesce(sum(n), 0) FROM link_hour)"
        )
        assert (minutes, hours) == (len(put), len(put))
        newest = {(peer, max(second for second, other in put if other == peer)) for _, peer in put}
        listed = kept.db.query("SELECT node_id, ts FROM newest JOIN node ON node.id = dst")
        assert {(peer, (ts - H0) // NS_PER_S) for peer, ts in listed} == newest
        kept.db.close()
        store.close()


def test_the_latest_view_shows_each_links_newest_sample(store: Store, kept: Kept):
    kept.put(*links(60), *links(5, peer=C))
    kept.roll(H0 + 3 * HOUR_NS)
    kept.put(link(H0 + 4 * HOUR_NS, rtt_p50_ms=99.0))  # in no rollup yet
    assert store.reader.query("SELECT dst, rtt_p50_ms FROM link_latest ORDER BY dst") == [(B, 99.0), (C, 14.0)]
