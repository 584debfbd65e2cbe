"""CSV files, cell by cell: what people's scripts and spreadsheets rely on.

Goldens are in goldens/*.csv; UPDATE_GOLDENS=1 writes them again.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_fixtures import T0, A, B, batch, event, link, one_of_each, run

from swarm_storage import csv_format
from swarm_storage.errors import StoreError
from swarm_storage.history.recording import EVER_NS, Reader
from swarm_storage.store import open_store
from swarm_storage.store_base import Store

GOLDENS = Path(__file__).parent / "goldens"
PROMISED = {  # promised columns: change only with a strong reason
    "link": "time,src,dst,path,sent,lost,rtt_min_ms,rtt_p50_ms,rtt_p95_ms,rtt_p99_ms,pdv_ms,jitter_rfc3550_ms,hop_ms,"
    "loaded,timestamps,ipdv_ms,duplicates,reordered,ttl_out,ttl_back,why,stamped_out_ms,stamped_back_ms,"
    "address,interface",
    "uplink": "time,src,dst,bytes,mbps,bound,rtt_idle_ms,rtt_loaded_ms,seconds,transport",
    "compute": "time,node,device,model,dtype,phase,batch,context,ms_per_layer,ms_p95,verified,ms_p5,n,"
    "marks,stage_layers",
    "host": "time,node,cpu_percent,ram_free_gib,gpu,gpu_util_percent,vram_free_gib,temp_c,power_w,throttled,"
    "clock_mhz,throttle,others,on_battery,nat,collector_rtt_ms,tcp,"
    "tcp_slow_start_after_idle,cpu_pressure_percent",
    "event": "time,node,kind,detail",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "swarm.db"))
    yield opened
    opened.close()


@pytest.fixture
def reader(store: Store) -> Reader:
    """Two named nodes, one sample of each kind, one link of which nothing came back."""
    writer = store.writer()
    writer.upsert_node(A, "ann", seen_ns=T0)
    writer.upsert_node(B, "ben", seen_ns=T0)
    silent = dict.fromkeys(
        ("rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "pdv_ms", "jitter_rfc3550_ms", "hop_ms")
    )
    writer.submit(batch(1, one_of_each(T0 + 123_456_789)))
    last = [link(T0 + 10**9, path="none", why="hard-nats", lost=10, loaded=True, **silent)]
    writer.submit(batch(2, last)).result(20)
    writer.event(run(T0 + 7)).result(20)
    return store.reader


def text_of(reader: Reader, kind: str, since_ns: int = 0, until_ns: int = EVER_NS) -> str:
    return "".join(text for text, _ in csv_format.chunks(reader, kind, since_ns, until_ns))


@pytest.mark.parametrize("kind", csv_format.CSV_KINDS)
def test_each_kind_is_written_as_its_golden_says(kind: str, reader: Reader):
    golden = GOLDENS / f"{kind}.csv"
    text = text_of(reader, kind)
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("kind", PROMISED)
def test_the_header_is_what_was_promised_and_comes_even_without_rows(kind: str, store: Store):
    assert text_of(store.reader, kind) == PROMISED[kind] + "\n"


@pytest.mark.parametrize("kind", csv_format.CSV_KINDS)
def test_the_view_in_the_database_says_the_same_as_the_csv(kind: str, reader: Reader):
    """Who opens the file in Datasette sees what who exports it gets (yes and no are 1 and 0 there)."""
    columns = [name for (name,) in reader.query(f"SELECT name FROM pragma_table_info('{kind}')")]
    assert columns == csv_format.header(kind)
    shown = [
        ["" if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in row]
        for row in reader.query(f"SELECT * FROM {kind} ORDER BY time")
    ]
    plain = {"true": "1", "false": "0"}
    assert shown == [[plain.get(cell, cell) for cell in row] for row in csv_format.rows(reader, kind)]


def test_only_rows_of_the_asked_span_are_written(reader: Reader):
    assert len(text_of(reader, "link", T0 + 10**9, T0 + 10**9 + 1).splitlines()) == 2
    assert len(text_of(reader, "link", 0, T0 + 10**9).splitlines()) == 2


def test_old_rows_carry_the_latest_name(store: Store, reader: Reader):
    store._writer.upsert_node(A, "anna", seen_ns=T0).result(20)  # type: ignore[union-attr]
    assert [row[1] for row in csv_format.rows(reader, "link")] == ["anna", "anna"]


def test_a_peer_that_never_joined_is_shown_by_its_id(store: Store):
    store.writer().submit(batch(1, [link()])).result(20)
    assert [row[1:3] for row in csv_format.rows(store.reader, "link")] == [[A, B]]


def test_cells_that_a_spreadsheet_would_run_are_defused(store: Store):
    store.writer().submit(batch(1, [event(detail='=HYPERLINK("http://x")'), event(T0 + 1, detail="a\x1b[2Jb")])).result(
        20
    )
    details = [row[-1] for row in csv.reader(io.StringIO(text_of(store.reader, "event")))][1:]
    assert details == ['\'=HYPERLINK("http://x")', "a?[2Jb"]


def test_pieces_join_to_the_whole_and_count_their_rows(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_format, "CHUNK_ROWS", 3)
    store.writer().submit(batch(1, [event(T0 + i, detail=str(i)) for i in range(7)])).result(20)
    pieces = list(csv_format.chunks(store.reader, "event"))
    assert [count for _, count in pieces] == [3, 6, 7]
    assert "".join(text for text, _ in pieces) == text_of(store.reader, "event")


def test_an_unknown_kind_is_refused_with_the_known_ones(store: Store):
    with pytest.raises(StoreError, match="there is no kind 'links'; there are link, hop, uplink, compute"):
        text_of(store.reader, "links")


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0, 3_600_000), min_size=1, max_size=20))
def test_floats_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]):
    opened = open_store(str(tmp_path_factory.mktemp("csv") / "swarm.db"))
    opened.writer().submit(batch(1, [link(T0 + i, rtt_p50_ms=ms) for i, ms in enumerate(values)])).result(20)
    cells = [row["rtt_p50_ms"] for row in csv.DictReader(io.StringIO(text_of(opened.reader, "link")))]
    opened.close()
    assert [float(cell) for cell in cells] == values
