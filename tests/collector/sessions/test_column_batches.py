"""Batches in columns: stored and shown as the same batch in rows, whatever has to be changed or left out of it."""

from __future__ import annotations

import random
import time

import msgspec
import pytest
from collector_fixtures import id_of
from collector_rig import collector, note, stored, uplink
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swarm_collector.ingest.batch_validation import AHEAD_NS, BEHIND_NS, are_admissible, are_plain, check
from swarm_collector.verification.anomalies import are_ordinary, is_ordinary
from swarm_protocol.messages.column_batch import ColumnBatch, LinkColumns
from swarm_protocol.messages.probe_messages import Ack
from swarm_protocol.messages.samples import ComputeSample, HopSample, HostSample, LinkSample, Sample, UplinkSample
from swarm_protocol.units import NS_PER_S

ME, PEER, STRANGER = "a" * 16, "b" * 16, "c" * 16
NOW_NS = 1_800_000_000 * NS_PER_S
AT = st.sampled_from((NOW_NS, NOW_NS - NS_PER_S, NOW_NS + AHEAD_NS, NOW_NS + AHEAD_NS + 1, NOW_NS - BEHIND_NS - 1))
PEERS = st.sampled_from((PEER, PEER, PEER, ME, STRANGER))
FIGURE = st.sampled_from((None, 0.01, 0.02, 1.0, 2.0))


def hop(at_ns: int, peer: str) -> HopSample:
    return HopSample(
        at_ns=at_ns, peer=peer, size_bytes=9, cadence_ms=1.0, n=1, min_ms=1.0, p50_ms=1.0, p95_ms=1.0, p99_ms=1.0
    )


def layer(at_ns: int) -> ComputeSample:
    return ComputeSample(
        at_ns=at_ns, device="A", model="m", dtype="fp16", phase="decode", batch=1, context=1, ms_per_layer=1.0,
        ms_p95=1.0, n=1, verified=True,
    )  # fmt: skip


WINDOWS = st.lists(
    st.builds(
        LinkSample, at_ns=AT, peer=PEERS, path=st.just("direct"), sent=st.just(10), lost=st.sampled_from((0, 10, 11)),
        rtt_min_ms=FIGURE, rtt_p50_ms=FIGURE, rtt_p95_ms=FIGURE, rtt_p99_ms=FIGURE,
    ),
    min_size=1, max_size=4,
)  # fmt: skip
OTHERS = st.lists(st.one_of(st.builds(hop, AT, PEERS), st.builds(note, AT, st.just("x")), st.builds(uplink, AT, PEERS)))


@given(windows=WINDOWS)
def test_windows_stay_in_columns_only_where_a_check_would_keep_them_as_they_are(windows):
    as_rows = check(tuple(windows), ME, {ME, PEER}.__contains__, NOW_NS)
    kept = are_admissible(LinkColumns.of(windows), ME, {ME, PEER}, NOW_NS)
    assert kept == (as_rows.samples == tuple(windows))


@given(others=OTHERS)
def test_other_samples_stay_apart_only_where_a_check_keeps_them_all(others):
    as_rows = check(tuple(others), ME, {ME, PEER}.__contains__, NOW_NS)
    kept = as_rows.samples == tuple(others) and not any(isinstance(sample, UplinkSample) for sample in others)
    assert are_plain(others, ME, {ME, PEER}, NOW_NS) == kept


@given(windows=WINDOWS)
def test_columns_are_ordinary_where_every_window_is(windows):
    assert are_ordinary(LinkColumns.of(windows)) == all(map(is_ordinary, windows))


def some_samples(rng: random.Random, peers: list[str], now_ns: int) -> tuple[Sample, ...]:
    """Return a batch with what may have to be changed in it, each time something else."""
    unusual = rng.randrange(6)
    at_ns = now_ns - 10 * NS_PER_S
    found: list[Sample] = []
    for number in range(12):
        rtt_ms = rng.choice((0.01, 12.5, 80.0))
        window = LinkSample(
            at_ns=at_ns + number, peer=peers[number % 2], path="direct", sent=20, lost=rng.choice((0, 1)),
            rtt_min_ms=rtt_ms, rtt_p50_ms=rtt_ms, rtt_p95_ms=rtt_ms, rtt_p99_ms=rtt_ms, pdv_ms=0.0, ttl_out=60,
            address=rng.choice((None, "192.168.1.7", "203.0.113.9", "8.8.8.8")),
        )  # fmt: skip
        if number == 5:
            window = {
                1: replace(window, peer="c" * 32), 2: replace(window, loaded=True, interface="eth0"),
                3: replace(window, path="none", lost=20),
            }.get(unusual, window)  # fmt: skip
        found.append(window)
    found += [HostSample(at_ns=at_ns, cpu_percent=5.0), note(at_ns, "a\x1b[31m"), layer(at_ns)]
    if unusual == 4:
        found += [hop(at_ns + 3, peers[0]), hop(at_ns + 30, peers[1])]
    if unusual == 5:
        found.append(uplink(at_ns + 4, peers[0]))
    rng.shuffle(found)
    return tuple(found)


KINDS = ("link", "hop", "uplink", "compute", "host", "event")


@pytest.mark.parametrize("show_addresses", [False, True])
async def test_a_batch_in_columns_is_stored_and_shown_as_in_rows(tmp_path, show_addresses):
    rng = random.Random(5)
    async with (
        collector(tmp_path, show_addresses=show_addresses) as rig,
        rig.probe("rows") as rows, rig.probe("columns") as columns, rig.probe("one") as one, rig.probe("two") as two,
    ):  # fmt: skip
        for probe in (rows, columns, one, two):
            assert (await probe.welcome()).columns
        now_ns = time.time_ns()
        for seq in range(1, 25):
            samples = some_samples(rng, [id_of("one"), id_of("two")], now_ns + seq * 1000)
            await rows.batch(seq, *samples)
            await columns.send(ColumnBatch.of(7, seq, samples))
            await rows.acked(seq)
            await columns.acked(seq)
        swarm = rig.swarm_state.snapshot()
        i, j = (swarm.index(name) for name in ("rows", "columns"))
        for name, column in swarm.links.items():
            assert column[i].tolist() == pytest.approx(column[j].tolist(), nan_ok=True), name
        doubts = rig.swarm_state.anomaly_monitor.of
        assert doubts(id_of("rows")) == doubts(id_of("columns"))
    for kind in KINDS:
        found = stored(tmp_path, kind)
        assert _of(found, "columns") == _of(found, "rows"), kind
        assert _of(found, "rows"), kind


def _of(found: list[tuple[str, Sample]], name: str) -> list[Sample]:
    """Return what a node sent; joining and the like are events of the collector."""
    own = [sample for node_id, sample in found if node_id == id_of(name)]
    return [sample for sample in own if getattr(sample, "kind", "note") == "note"]


async def test_a_repeated_batch_is_stored_once_in_whichever_form_it_comes(rig, tmp_path):
    async with rig.probe("kiln") as kiln, rig.probe("oven") as oven:
        await kiln.welcome()
        await oven.welcome()
        samples = [
            LinkSample(at_ns=time.time_ns() + i, peer=id_of("oven"), path="direct", sent=9, lost=0) for i in range(3)
        ]
        for message in (ColumnBatch.of(7, 1, samples), ColumnBatch.of(7, 1, samples)):
            await kiln.send(message)
            assert (await kiln.next(Ack)).seq == 1
        await kiln.batch(1, *samples)
        assert (await kiln.next(Ack)).seq == 1
    assert [sample for _, sample in stored(tmp_path, "link")] == samples


async def test_malformed_columns_end_the_session_with_the_reason(rig):
    async with rig.probe("kiln") as kiln:
        await kiln.welcome()
        whole = ColumnBatch.of(7, 1, [LinkSample(at_ns=1, peer="a" * 16, path="direct", sent=9, lost=0)] * 2)
        assert whole is not None
        links = {name: getattr(whole.links, name) for name in ("at_ns", "peer", "path", "sent")}
        await kiln.connection.send(
            msgspec.msgpack.encode({"type": "columns", "epoch": 7, "seq": 1, "links": {**links, "lost": [0]}})
        )
        _, reason = await kiln.closed()
        assert reason == "invalid message (lost has 1 cells, at_ns 2 - at `$.links`)"
