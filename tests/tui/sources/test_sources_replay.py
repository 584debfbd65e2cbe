"""Claims about a recorded database as a source, and about exporting it. The store is a real one."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import msgspec
import pytest

from swarm_predict.model.catalogue import model_named
from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.running import RUNNING_SETTING, Running
from swarm_protocol.messages.samples import ComputeSample, EventSample, HostSample, LinkSample, UplinkSample
from swarm_protocol.messages.viewer_messages import FOCUS_SETTING, Focus
from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import NS_PER_S, ns_from_iso
from swarm_storage.csv_format import CSV_KINDS
from swarm_storage.store import open_store
from swarm_storage.writer.transaction import NodeBatch
from swarmtop import cli
from swarmtop.commands.data.export import KINDS, ROLLUPS
from swarmtop.sources import replay
from swarmtop.sources.replay import ReplaySource
from swarmtop.sources.source import SourceError, first_frame

A, B = "a" * 16, "b" * 16
BEGAN = ns_from_iso("2026-11-23T14:00:00")
MINUTES = 10
GIB = 1 << 30
FACTS = HostFacts(
    system="Linux 6.1", cpu="test", cores=8, ram_bytes=32 * GIB, gpus=(GpuFacts(name="RTX 3090", vram_bytes=24 * GIB),)
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes, ten minutes, a window of round trips each minute that grows by a millisecond."""
    path = tmp_path_factory.mktemp("recorded") / "swarm.db"
    store = open_store(str(path))
    writer = store.writer(retain_ns=None)
    for node, name in ((A, "kiln-07"), (B, "attic")):
        writer.upsert_node(node, name, facts=FACTS, seen_ns=BEGAN).result()
    for number in range(1, MINUTES + 1):
        at_ns = BEGAN + number * 60 * NS_PER_S
        for node, peer in ((A, B), (B, A)):
            samples = [
                LinkSample(
                    at_ns=at_ns, peer=peer, path="direct", sent=100, lost=1, rtt_min_ms=20.0, rtt_p50_ms=20.0 + number,
                    rtt_p95_ms=30.0, rtt_p99_ms=40.0, pdv_ms=10.0,
                ),
                UplinkSample(at_ns=at_ns, peer=peer, sent_bytes=1 << 20, mbps=38.0, bound=True, seconds=0.2),
                ComputeSample(
                    at_ns=at_ns, device="RTX 3090", model="llama-3.1-8b", dtype="fp16", phase="decode", batch=1,
                    context=128, ms_per_layer=0.6, ms_p95=0.7, n=20,
                ),
                HostSample(
                    at_ns=at_ns, cpu_percent=5.0, ram_free_bytes=16 * GIB, ram_total_bytes=32 * GIB, gpu="RTX 3090",
                    vram_free_bytes=20 * GIB, vram_total_bytes=24 * GIB,
                ),
            ]  # fmt: skip
            writer.submit(NodeBatch(node, 1, number, at_ns, samples)).result()
    writer.event(EventSample(at_ns=BEGAN + 90 * NS_PER_S, kind="note", detail="=1+1"), A).result()
    store.close()
    return path


async def test_a_replay_begins_at_the_end_of_the_recording_or_at_the_moment_asked_for(database: Path) -> None:
    for at, rtt in ((None, 30.0), ("2026-11-23T14:05:10", 25.0)):
        source = ReplaySource(str(database), at)
        swarm = await first_frame(source)
        await source.close()
        assert swarm.names == ("kiln-07", "attic")
        assert swarm.links["rtt_p50_ms"][0, 1] == rtt
        assert swarm.source == "swarm.db"


async def test_a_moment_in_words_counts_from_the_end_and_one_before_the_recording_is_refused(database: Path) -> None:
    source = ReplaySource(str(database), "-295s")
    assert (await first_frame(source)).links["rtt_p50_ms"][0, 1] == 25.0
    await source.close()
    early = ReplaySource(str(database), "-2h")
    with pytest.raises(SourceError) as caught:
        await first_frame(early)
    await early.close()
    assert str(caught.value) == "swarm.db begins at 2026-11-23 14:01:00 UTC; --at -2h is before that"


async def test_the_past_of_a_figure_has_its_gaps_as_none(database: Path) -> None:
    source = ReplaySource(str(database))
    span = await source.span()
    past = await source.history("rtt_p50", A, B, BEGAN, BEGAN + 20 * 60 * NS_PER_S, 20)
    await source.close()
    assert span.last_ns == BEGAN + MINUTES * 60 * NS_PER_S
    assert past.values == (None, *(20.0 + n for n in range(1, MINUTES + 1)), *([None] * 9))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [("missing.db", None, "there is no "), ("text.db", b"no database at all, but long enough", "is not an SQLite")],
)
def test_a_file_that_is_no_recording_is_one_line_and_exit_2(
    name: str, content: bytes | None, complaint: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=complaint) as caught:
        ReplaySource(str(tmp_path / name))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def export(database: Path, *words: str) -> int:
    return cli.main(["export", "--db", str(database), *words])


def test_export_to_a_pipe_has_the_columns_that_scripts_rely_on(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(database, "--kind", "link", "--since", "2026-11-23T14:08:30", "--until", "2026-11-23T14:09:30") == 0
    out, err = capsys.readouterr()
    assert err == ""
    promised = (  # more may follow, none of these may move
        "time,src,dst,path,sent,lost,rtt_min_ms,rtt_p50_ms,rtt_p95_ms,rtt_p99_ms,pdv_ms,jitter_rfc3550_ms,hop_ms,"
        "loaded,timestamps"
    )
    header, *rows = out.splitlines()
    assert header.startswith(promised + ",")
    assert sorted(",".join(row.split(",")[: len(promised.split(","))]) for row in rows) == [
        "2026-11-23T14:09:00.000000Z,attic,kiln-07,direct,100,1,20.0,29.0,30.0,40.0,10.0,,,false,user",
        "2026-11-23T14:09:00.000000Z,kiln-07,attic,direct,100,1,20.0,29.0,30.0,40.0,10.0,,,false,user",
    ]


def test_an_export_of_the_last_hour_of_an_old_recording_says_why_it_is_empty(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Relative times count from now, and a header alone looked like a swarm without links."""
    assert export(database, "--kind", "link", "--since", "-1h") == 0
    told = capsys.readouterr()
    assert told.out.count("\n") == 1
    assert re.fullmatch(
        r"no rows: \S+ covers 2026-11-23T\S+Z to 2026-11-23T\S+Z; --since -1h is later \(-1h counts from now\)\n",
        told.err,
    )
    assert export(database, "--kind", "link", "--until", "2026-11-01") == 0
    assert capsys.readouterr().err.endswith("; --until 2026-11-01 is earlier\n")


def test_export_without_a_kind_makes_one_file_a_kind(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(database, "--csv", str(tmp_path / "samples")) == 0
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == sorted(f"{kind}.csv" for kind in KINDS)
    rows = {
        kind: list(csv.DictReader(io.StringIO((tmp_path / "samples" / f"{kind}.csv").read_text()))) for kind in KINDS
    }
    assert {kind: len(found) for kind, found in rows.items()} == {
        "link": 20, "uplink": 20, "compute": 20, "host": 20, "event": 1, "hop": 0, "roofline": 0, "run": 0,
    }  # fmt: skip
    assert rows["event"][0]["detail"] == "'=1+1"
    assert f"{tmp_path / 'samples' / 'link.csv'}: 20 rows\n" in capsys.readouterr().err


def test_an_export_that_cannot_be_written_leaves_what_was_there(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    assert export(database, "--kind", "link", "--csv", str(tmp_path / "file" / "link.csv")) == 2
    assert capsys.readouterr().err.startswith(f"swarmtop: cannot write {tmp_path / 'file' / 'link.csv'} (")
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_times_the_wrong_way_round_are_refused(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(database, "--kind", "link", "--since", "-1h", "--until", "-2h") == 2
    assert capsys.readouterr().err == "swarmtop: --since -1h is after --until -2h\n"


def test_a_file_written_by_hand_has_nothing_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swarm = Path(__file__).parents[3] / "examples" / "garage.toml"
    assert cli.main(["export", "--swarm", str(swarm), "--kind", "link"]) == 2
    assert capsys.readouterr().err == (
        "swarmtop: garage.toml is written by hand and has no samples; export takes --db or --connect\n"
    )


def test_every_kind_that_the_store_has_can_be_exported() -> None:
    assert {*KINDS, *ROLLUPS} == set(CSV_KINDS)


def test_a_recording_ranks_like_the_live_swarm_it_was(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--once", "--db", str(database)]) == 0
    out = capsys.readouterr().out
    assert "kiln-07" in out
    assert "≥38.0" in out
    assert "2026-11-23 14:10:00 UTC" in out


def test_parquet_has_the_rows_of_the_csv_with_their_types(database: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'swarmtop[parquet]'")
    assert cli.main(["export", "--db", str(database), "--parquet", f"{tmp_path}/p/"]) == 0
    assert cli.main(["export", "--db", str(database), "--csv", f"{tmp_path}/c/"]) == 0
    for kind in KINDS:
        rows = list(csv.DictReader(io.StringIO((tmp_path / "c" / f"{kind}.csv").read_text())))
        table = parquet.read_table(tmp_path / "p" / f"{kind}.parquet")
        assert table.num_rows == len(rows)
        assert table.column_names == (list(rows[0]) if rows else table.column_names)
    link = parquet.read_table(tmp_path / "p" / "link.parquet")
    first = next(csv.DictReader(io.StringIO((tmp_path / "c" / "link.csv").read_text())))
    cells = link.slice(0, 1).to_pylist()[0]
    assert cells["time"].isoformat().replace("+00:00", ".000000Z") == first["time"]
    assert (cells["sent"], cells["rtt_p50_ms"], cells["loaded"], cells["hop_ms"]) == (
        int(first["sent"]), float(first["rtt_p50_ms"]), first["loaded"] == "true", None
    )  # fmt: skip


def test_parquet_asks_for_a_place_it_can_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "--db", "x.db", "--parquet", "-", "--kind", "link"]) == 2
    assert "Parquet does not go through a pipe" in capsys.readouterr().err


ENDED = BEGAN + 600 * NS_PER_S  # when the first of them leaves


def recorded(
    path: Path,
    *,
    model: str = "qwen2.5-0.5b",
    dtypes: tuple[str, ...] = ("q8_0",),
    leaving: bool = False,
    focus: str | None = None,
) -> Path:
    """Two nodes with layer times; `leaving`: both leave, ten seconds apart, and a note comes an hour later."""
    store = open_store(str(path))
    writer = store.writer(retain_ns=None)
    for number, (node, name) in enumerate(((A, "kiln-07"), (B, "attic"))):
        at_ns = ENDED - 30 * NS_PER_S
        writer.upsert_node(node, name, facts=FACTS, seen_ns=BEGAN).result()
        samples = [
            ComputeSample(
                at_ns=at_ns,
                device="RTX 3090",
                model=model,
                dtype=dtypes[number % len(dtypes)],
                phase="decode",
                batch=1,
                context=128,
                ms_per_layer=0.6,
                ms_p95=0.7,
                n=20,
            ),
            HostSample(
                at_ns=at_ns,
                cpu_percent=5.0,
                ram_free_bytes=16 * GIB,
                ram_total_bytes=32 * GIB,
                gpu="RTX 3090",
                vram_free_bytes=20 * GIB,
                vram_total_bytes=24 * GIB,
            ),
            LinkSample(
                at_ns=at_ns,
                peer=B if node == A else A,
                path="direct",
                sent=100,
                lost=1,
                rtt_min_ms=20.0,
                rtt_p50_ms=21.0,
                rtt_p95_ms=30.0,
                rtt_p99_ms=40.0,
                pdv_ms=10.0,
            ),
        ]
        writer.submit(NodeBatch(node, 1, 1, at_ns, samples)).result()
    if leaving:
        for number, node in enumerate((A, B)):
            writer.event(EventSample(at_ns=ENDED + number * 10 * NS_PER_S, kind="left", detail=""), node).result()
        writer.event(EventSample(at_ns=ENDED + 3600 * NS_PER_S, kind="note", detail="later")).result()
    if focus is not None:
        shape = model_named(model)
        asked = Focus(model=model, layer=shape.layer, dtype=focus, hop_bytes=1792)
        writer.set_setting(FOCUS_SETTING, msgspec.json.encode(asked).decode()).result()
    store.close()
    return path


def asked_of(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    assert cli.main(["--once", "--json", "--db", str(path), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    return found["model"], found["weights"]


def test_a_recording_brings_its_model_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "r.db")
    assert asked_of(path, capsys) == ("qwen2.5-0.5b", "q8_0")
    assert asked_of(path, capsys, "--weights", "fp16") == ("qwen2.5-0.5b", "fp16")
    assert asked_of(path, capsys, "--model", "qwen2.5-0.5b") == ("qwen2.5-0.5b", "q8_0")
    assert asked_of(path, capsys, "--model", "llama-3.2-1b") == ("llama-3.2-1b", "fp16")


def test_the_weights_that_were_asked_for_go_before_those_that_a_machine_could_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = recorded(tmp_path / "mixed.db", dtypes=("fp32", "q8_0"))
    assert asked_of(mixed, capsys) == ("qwen2.5-0.5b", "fp16")
    told = recorded(tmp_path / "told.db", dtypes=("fp32", "q8_0"), focus="q8_0")
    assert asked_of(told, capsys) == ("qwen2.5-0.5b", "q8_0")


def test_a_recording_of_an_unknown_model_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "r.db", model="my-own-thing")
    assert cli.main(["--once", "--db", str(path)]) == 0
    assert (
        "recorded for my-own-thing, which is not in the catalogue: give its file with --model"
        in capsys.readouterr().out
    )


def test_the_engine_that_ran_is_the_one_that_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "r.db")
    store = open_store(str(path))
    writer = store.writer(retain_ns=None)
    running = Running("kiln-07:0-11,attic:12-23", engine="petals", source="test", at_ns=BEGAN)
    writer.set_setting(RUNNING_SETTING, msgspec.json.encode(running).decode()).result()
    store.close()
    assert cli.main(["--once", "--json", "--db", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["weights"], found["engine"]) == ("qwen2.5-0.5b", "q8_0", "petals")


async def test_a_recording_that_everybody_has_left_opens_before_the_first_of_them_went(tmp_path: Path) -> None:
    source = ReplaySource(str(recorded(tmp_path / "r.db", leaving=True)))
    swarm = await first_frame(source)
    end = await source.swarm_at((await source.span()).last_ns)
    await source.close()
    assert swarm.at_ns == ENDED - 1
    assert swarm.nodes["state"].tolist() == [State.OK, State.OK]
    assert end.nodes["state"].tolist() == [State.LEFT, State.LEFT]


async def test_before_any_layer_was_timed_a_recording_has_the_model_that_was_timed_first(tmp_path: Path) -> None:
    """The dashboard asked about llama-3.1-8b there, with the placement of another model."""
    source = ReplaySource(str(recorded(tmp_path / "r.db")))
    before = await source.swarm_at(BEGAN)
    await source.close()
    assert before.measured_for == ("qwen2.5-0.5b", "q8_0")


async def test_the_end_of_a_recording_can_still_be_asked_for(tmp_path: Path) -> None:
    source = ReplaySource(str(recorded(tmp_path / "r.db", leaving=True)), "now")
    swarm = await first_frame(source)
    await source.close()
    assert swarm.nodes["state"].tolist() == [State.LEFT, State.LEFT]


async def test_a_screen_gets_the_members_of_many_first_and_their_links_next(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read first is right as far as it goes, and says that the rest is to come."""
    monkeypatch.setattr(replay, "MANY", 2)
    source = ReplaySource(str(database), for_screen=True)
    try:
        frames = source.frames()
        members, whole = await anext(frames), await anext(frames)
    finally:
        await source.close()
    assert (members.unread, whole.unread) == (True, False)
    assert members.names == whole.names
    assert members.at_ns == whole.at_ns
    assert members.nodes["state"].tolist() == whole.nodes["state"].tolist() == [State.OK, State.OK]
    assert members.nodes["vram_free_bytes"].tolist() == whole.nodes["vram_free_bytes"].tolist()
    assert not members.links["kind"].any()
    assert whole.links["rtt_p50_ms"][0, 1] == 20.0 + MINUTES


async def test_a_screen_gets_few_members_with_their_links_at_once(database: Path) -> None:
    source = ReplaySource(str(database), for_screen=True)
    try:
        first = await first_frame(source)
    finally:
        await source.close()
    assert not first.unread
    assert first.links["rtt_p50_ms"][0, 1] == 20.0 + MINUTES
