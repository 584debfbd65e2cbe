"""What every store must do, whatever is behind its URL. `check_store(maker)` runs all of it.

`maker()` opens the same store each time it is called within one check, and a new empty one for each check.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sample_fixtures import (
    FACTS,
    T0,
    A,
    B,
    C,
    bare_host,
    batch,
    compute,
    event,
    hop,
    host,
    link,
    one_of_each,
    run,
)

from swarm_protocol.messages.samples import Sample
from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import Closed, StoreError
from swarm_storage.history.replay import restored, swarm_at
from swarm_storage.store_base import Store
from swarm_storage.writer.writer import Committed, Writer

Maker = Callable[[], Store]
WAIT_S = 20.0


def put(writer: Writer, *samples: Sample, seq: int = 1, node_id: str = A) -> int:
    return writer.submit(batch(seq, samples, node_id)).result(WAIT_S)


def members(writer: Writer) -> None:
    for node_id, name in ((A, "ann"), (B, "ben"), (C, "cat")):
        writer.upsert_node(node_id, name, host="203.0.113.7", seen_ns=T0).result(WAIT_S)


def every_kind_of_sample_reads_back_as_it_was_written(maker: Maker) -> None:
    store = maker()
    put(store.writer(), *one_of_each())
    assert [sample for _, sample in store.reader.samples()] == list(one_of_each())
    assert {node_id for node_id, _ in store.reader.samples()} == {A}
    store.close()


def figures_that_only_some_samples_of_a_commit_have_stay_with_them(maker: Maker) -> None:
    """Columns that no row of a commit has are not written at all."""
    lacking = {"hop_ms": None, "ttl_out": None, "ttl_back": None, "rtt_p99_ms": None, "lost_out": None}
    windows = [link(T0 + i, loaded=i % 2 == 0, **({} if i in (13, 30) else lacking)) for i in range(35)]
    windows[30] = link(T0 + 30, address="10.0.0.7", why=None, **{**lacking, "ttl_back": 7})
    store = maker()
    writer = store.writer()
    put(writer, *windows)
    put(writer, *[link(T0 + 100 + i, **lacking) for i in range(9)], seq=2)
    found = [sample for _, sample in store.reader.samples()]
    assert found == [*windows, *[link(T0 + 100 + i, **lacking) for i in range(9)]]
    store.close()


def what_was_committed_is_there_after_reopening(maker: Maker) -> None:
    store = maker()
    assert put(store.writer(), *one_of_each(), seq=5) == 5
    store.close()
    store = maker()
    assert store.reader.committed_seq(A, 7) == 5
    assert len(list(store.reader.samples())) == len(one_of_each())
    store.close()


def a_batch_sent_twice_is_there_once_and_acknowledged_twice(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    assert put(writer, event(), seq=2) == 2
    assert put(writer, event(), seq=2) == 2
    assert put(writer, event(detail="older"), seq=1) == 2
    assert len(list(store.reader.samples())) == 1
    store.close()


def epochs_and_nodes_have_cursors_of_their_own(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    put(writer, event(), seq=9)
    writer.submit(batch(1, [event()], epoch=8)).result(WAIT_S)
    put(writer, event(), seq=1, node_id=B)
    assert [store.reader.committed_seq(*key) for key in ((A, 7), (A, 8), (B, 7), (C, 7))] == [9, 1, 1, 0]
    assert len(list(store.reader.samples())) == 3
    store.close()


def runs_of_a_watched_engine_are_of_no_node_and_come_back_in_replay(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    later, bare = run(T0 + 9), run(T0 + 5, prompt_tokens=None, tpot_ms=None, tpot_p50_ms=None, tpot_p95_ms=None,
                                   predicted_p5=None, predicted_p50=None, predicted_p95=None)  # fmt: skip
    for each in (later, bare):
        writer.event(each).result(WAIT_S)
    assert list(store.reader.samples()) == [("", bare), ("", later)]
    assert restored(store.reader, T0 + 9, 10**12).snapshot(T0 + 9).runs == (bare, later)
    assert restored(store.reader, T0 + 8, 10**12).snapshot(T0 + 8).runs == (bare,)
    store.close()


def two_gpus_at_one_moment_are_two_samples(maker: Maker) -> None:
    store = maker()
    put(store.writer(), host(), host())
    assert [sample for _, sample in store.reader.samples()] == [host(), host()]
    store.close()


def members_keep_the_latest_name_and_their_facts(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    writer.upsert_node(A, "ann", host="h", facts=FACTS, seen_ns=T0).result(WAIT_S)
    writer.upsert_node(A, "anna", host="h2", seen_ns=T0 + 5).result(WAIT_S)
    put(writer, link(peer=C), seq=1)  # C is named by another only: no member
    (row,) = store.reader.nodes()
    assert (row.node_id, row.name, row.host, row.facts, row.first_ns, row.seen_ns) == (
        A,
        "anna",
        "h2",
        FACTS,
        T0,
        T0 + 5,
    )
    store.close()


def settings_are_kept(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    writer.set_setting("model", "llama-2-70b").result(WAIT_S)
    writer.set_setting("model", "tiny").result(WAIT_S)
    assert store.reader.settings()["model"] == "tiny"
    store.close()


def the_hook_hears_of_each_commit_what_may_be_acknowledged(maker: Maker) -> None:
    store = maker()
    heard: list[Committed] = []
    writer = store.writer(on_commit=heard.extend)
    put(writer, event(), seq=3)
    put(writer, event(), seq=4, node_id=B)
    writer.close()
    assert heard == [Committed(A, 7, 3), Committed(B, 7, 4)]
    store.close()


def a_hook_that_fails_does_not_end_the_writing(maker: Maker) -> None:
    store = maker()

    def hook(_: object) -> None:
        raise RuntimeError("of the caller")

    writer = store.writer(on_commit=hook)
    put(writer, event(), seq=1)
    assert put(writer, event(), seq=2) == 2
    store.close()


def a_closed_writer_takes_nothing_and_has_written_what_it_took(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    futures = [writer.submit(batch(seq, [event(T0 + seq)])) for seq in range(1, 50)]
    assert writer.close() == []
    assert [future.result(0) for future in futures] == list(range(1, 50))
    with pytest.raises(Closed):
        writer.submit(batch(50, [event()]))
    store.close()


def history_has_the_median_of_each_bucket_and_none_for_gaps(maker: Maker) -> None:
    store = maker()
    minute = 60 * NS_PER_S
    put(
        store.writer(),
        *(link(T0 + i, rtt_p50_ms=ms) for i, ms in enumerate((1.0, 9.0, 2.0))),
        link(T0 + 2 * minute, rtt_p50_ms=5.0),
        link(T0 + 2 * minute + 1, peer=C, rtt_p50_ms=7.0),
    )
    history = store.reader.history("rtt_p50", A, B, T0, T0 + 3 * minute, 3)
    assert history.values == (2.0, None, 5.0)
    assert history.at_ns == tuple(T0 + minute * i + minute // 2 for i in range(3))
    assert store.reader.history("rtt_p50", A, None, T0, T0 + 3 * minute, 3).values == (2.0, None, 6.0)
    assert store.reader.history("rtt_p50", C, None, T0, T0 + 3 * minute, 3).values == (None, None, None)
    assert store.reader.history("rtt_p50", "f" * 16, B, T0, T0 + minute, 1).values == (None,)
    store.close()


def loss_in_history_is_lost_over_sent_not_a_median_of_ratios(maker: Maker) -> None:
    store = maker()
    put(store.writer(), link(T0, sent=10, lost=10), link(T0 + 1, sent=90, lost=0), link(T0 + 2, sent=0, lost=0))
    assert store.reader.history("loss", A, B, T0, T0 + NS_PER_S, 1).values == (0.1,)
    store.close()


def where_there_is_no_path_nothing_is_lost_and_a_detour_is_no_measurement(maker: Maker) -> None:
    store = maker()
    put(
        store.writer(),
        link(T0, sent=10, lost=1, rtt_p50_ms=2.5),
        link(T0 + 1, path="none", sent=9, lost=9, rtt_p50_ms=None, why="no-answer"),
        link(T0 + 2, path="relayed", sent=0, lost=0, rtt_p50_ms=900.0, why="hard-nats"),
    )
    assert store.reader.history("loss", A, B, T0, T0 + NS_PER_S, 1).values == (0.1,)
    assert store.reader.history("rtt_p50", A, B, T0, T0 + NS_PER_S, 1).values == (2.5,)
    store.close()


def history_across_many_buckets_meets_every_sample(maker: Maker) -> None:
    store = maker()
    hour = 3600 * NS_PER_S
    put(store.writer(), *(hop(T0 + i * hour // 40, p50_ms=float(i)) for i in range(40)))
    assert store.reader.history("hop", A, B, T0, T0 + hour, 40).values == tuple(map(float, range(40)))
    assert store.reader.history("hop", A, B, 0, 2**62, 1).values == (19.5,)
    store.close()


def history_of_layers_follows_one_layer_only(maker: Maker) -> None:
    store = maker()
    put(
        store.writer(),
        compute(T0, model="bloom-176b", ms_per_layer=50.0),
        compute(T0 + 1, batch=8, ms_per_layer=8.0),
        compute(T0 + 2, phase="prefill", ms_per_layer=30.0),
        compute(T0 + 3, context=1024, ms_per_layer=3.0),
        compute(T0 + 4, ms_per_layer=2.0),
    )
    assert store.reader.history("layer", A, None, T0, T0 + NS_PER_S, 1).values == (2.0,)
    store.close()


def history_of_free_memory_adds_the_gpus_of_one_moment(maker: Maker) -> None:
    store = maker()
    put(store.writer(), host(T0, vram_free_bytes=1 << 30), host(T0, vram_free_bytes=2 << 30), bare_host(T0 + 1))
    assert store.reader.history("vram_free", A, None, T0, T0 + NS_PER_S, 1).values == (float(3 << 30),)
    assert store.reader.history("cpu", A, None, T0, T0 + NS_PER_S, 1).values == (8.75,)
    store.close()


def history_of_throttling_is_the_share_of_the_cards_whose_clock_was_held_down(maker: Maker) -> None:
    store = maker()
    put(store.writer(), host(T0, throttled=True), host(T0, throttled=False), host(T0 + NS_PER_S, throttled=True))
    values = store.reader.history("throttled", A, None, T0, T0 + 3 * NS_PER_S, 3).values
    assert values == (0.5, 1.0, None)
    store.close()


def an_unknown_metric_is_refused_with_the_known_ones(maker: Maker) -> None:
    store = maker()
    with pytest.raises(StoreError, match=r"there is no metric 'rtt'; there are rtt_p50, .*"):
        store.reader.history("rtt", A, B, T0, T0 + 1, 1)
    store.close()


def span_ends_at_the_samples_and_says_where_nothing_was_recorded(maker: Maker) -> None:
    store = maker()
    minute = 60 * NS_PER_S
    assert store.reader.span().first_ns == store.reader.span().last_ns == 0
    put(store.writer(), link(T0 + 5), event(T0 + 2 * minute), host(T0 + 10 * minute + 7))
    span = store.reader.span()
    assert (span.first_ns, span.last_ns) == (T0 + 5, T0 + 10 * minute + 7)
    assert span.gaps == ((T0 + 3 * minute, T0 + 10 * minute),)
    store.close()


def samples_come_in_time_order_whatever_order_they_came_in(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    put(writer, link(T0 + 900 * NS_PER_S), event(T0 + 3), seq=1)
    put(writer, host(T0 + 1), link(T0 + 2), seq=1, node_id=B)
    assert [sample.at_ns - T0 for _, sample in store.reader.samples()] == [1, 2, 3, 900 * NS_PER_S]
    assert [sample.at_ns - T0 for _, sample in store.reader.samples(T0 + 2, T0 + 4)] == [2, 3]
    assert [type(sample) for _, sample in store.reader.samples(kinds=("event",))] == [type(event())]
    store.close()


def events_come_with_names_and_the_swarms_own_without(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    members(writer)
    put(writer, event(T0 + 2, detail="by the probe"))
    writer.event(event(T0 + 1, "joined", "ben joined"), B).result(WAIT_S)
    writer.event(event(T0 + 3, "disk", "full")).result(WAIT_S)
    assert [(e.node, e.kind) for e in store.reader.events()] == [("ben", "joined"), ("ann", "note"), ("", "disk")]
    assert [e.kind for e in store.reader.events(T0 + 2, T0 + 3)] == ["note"]
    assert [e.kind for e in store.reader.events(limit=1)] == ["disk"]
    assert [(e.node, e.kind) for e in swarm_at(store.reader, T0 + 2).events] == [("ben", "joined"), ("ann", "note")]
    store.close()


CHECKS: tuple[Callable[[Maker], None], ...] = (
    every_kind_of_sample_reads_back_as_it_was_written,
    figures_that_only_some_samples_of_a_commit_have_stay_with_them,
    what_was_committed_is_there_after_reopening,
    a_batch_sent_twice_is_there_once_and_acknowledged_twice,
    epochs_and_nodes_have_cursors_of_their_own,
    runs_of_a_watched_engine_are_of_no_node_and_come_back_in_replay,
    two_gpus_at_one_moment_are_two_samples,
    members_keep_the_latest_name_and_their_facts,
    settings_are_kept,
    the_hook_hears_of_each_commit_what_may_be_acknowledged,
    a_hook_that_fails_does_not_end_the_writing,
    a_closed_writer_takes_nothing_and_has_written_what_it_took,
    history_has_the_median_of_each_bucket_and_none_for_gaps,
    loss_in_history_is_lost_over_sent_not_a_median_of_ratios,
    where_there_is_no_path_nothing_is_lost_and_a_detour_is_no_measurement,
    history_across_many_buckets_meets_every_sample,
    history_of_layers_follows_one_layer_only,
    history_of_free_memory_adds_the_gpus_of_one_moment,
    history_of_throttling_is_the_share_of_the_cards_whose_clock_was_held_down,
    an_unknown_metric_is_refused_with_the_known_ones,
    span_ends_at_the_samples_and_says_where_nothing_was_recorded,
    samples_come_in_time_order_whatever_order_they_came_in,
    events_come_with_names_and_the_swarms_own_without,
)
