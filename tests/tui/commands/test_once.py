"""Claims about `swarmtop --once`: one ranking in three forms, cell by cell the same."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cli_golden import golden

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Cause, Impact, Workload
from swarm_protocol.snapshot.swarm import Kind, NodeFacts, State, Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.analysis.analysis import analyse, unplanned
from swarmtop.analysis.ranking.node_rows import RunningSummary, rows_of
from swarmtop.commands.monitoring import once
from swarmtop.commands.monitoring.once import COLUMNS, as_csv, as_object, as_table
from swarmtop.text import quantities
from swarmtop.text.ascii_text import prepare

ROOT = Path(__file__).parents[3]
GARAGE = ROOT / "examples" / "garage.toml"
KEYS = [
    "rank", "name", "state", "role", "share", "win_tokens_per_s", "cause", "typical_tokens_per_s",
    "without_tokens_per_s", "cost_ms", "gain_ms", "in_placement", "rtt_p50_ms", "jitter_ms", "loss", "up_mbps",
    "layer_ms", "device", "vram_free_gib", "age_s", "nat", "nat_age_s", "why",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = cli.main(["--once", "--swarm", str(GARAGE), *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_json_has_exactly_the_keys_that_scripts_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "--json"))
    assert list(found) == [
        "schema", "time", "collector", "model", "weights", "engine", "tokens_per_s", "running", "best", "why_not",
        "notes", "links", "nodes",
    ]  # fmt: skip
    assert (found["schema"], found["running"]) == (1, None)
    assert list(found["best"]) == ["placement", "tokens_per_s", "limited_by"]
    assert list(found["tokens_per_s"]) == ["p5", "p50", "p95"]
    assert [list(node) for node in found["nodes"]] == [KEYS] * 6
    assert (found["time"], found["collector"], found["model"]) == (None, "garage.toml", "llama-3.1-8b")


def test_table_csv_and_json_say_the_same_cell_by_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """One list of columns makes all three; this holds the printed outputs against each other, not the list."""
    nodes = json.loads(run(capsys, "--json"))["nodes"]
    rows = list(csv.DictReader(io.StringIO(run(capsys, "--csv"))))
    table = run(capsys).splitlines()
    head = next(i for i, line in enumerate(table) if line.lstrip().startswith("#"))
    assert len(rows) == len(nodes) == 6
    for node, row, line in zip(nodes, rows, table[head + 1 : head + 7], strict=True):
        for key, value in node.items():
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            assert row[key] == text
        for key, write in (
            ("cost_ms", quantities.figure),
            ("rtt_p50_ms", quantities.figure),
            ("loss", quantities.percent),
        ):
            assert f" {write(node[key])} " in f" {line} "
        assert f" {node['name']} " in line
        assert f" {node['rank']} " in f" {line}"


def test_a_narrow_terminal_loses_the_least_important_columns_and_no_line_is_longer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = {}
    for width in (200, 100, 60, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = run(capsys).splitlines()
        assert all(quantities.width(line) <= width for line in lines)
        titles[width] = next(line for line in lines if line.lstrip().startswith("#")).split()
    assert "DEVICE" in titles[200]
    assert "DEVICE" not in titles[60]
    assert all(word in titles[40] for word in ("NODE", "STATE", "GAIN"))


def strange() -> Swarm:
    """What a live swarm can bring: bounds, estimates, a lost node, names and devices that mean harm."""
    facts = (
        NodeFacts(node_id="a" * 16, name="kiln-07", device="=cmd|'/c calc'!A1"),
        NodeFacts(node_id="b" * 16, name="[red]x", device="\x1b[31mRTX\u202e 3090"),
        NodeFacts(node_id="c" * 16, name="gone"),
    )
    swarm = Swarm.empty(facts, at_ns=1_790_000_000 * 10**9, source="10.0.0.5:9470")
    swarm.nodes["state"][:] = [State.OK, State.STALE, State.LOST]
    swarm.nodes["seen_ns"][:] = [swarm.at_ns - 2 * 10**9, swarm.at_ns - 200 * 10**9, 0]
    swarm.nodes["up_mbps"][:2] = [38.0, 9.5]
    swarm.nodes["up_kind"][:2] = [Kind.BOUND, Kind.MEASURED]
    swarm.links["kind"][0, 1] = Kind.ESTIMATE
    swarm.links["rtt_p50_ms"][0, 1] = 142.0
    return swarm


def test_bounds_and_estimates_are_marked_in_the_table_and_plain_numbers_in_json() -> None:
    swarm = strange()
    found = analyse(swarm, model_named("llama-3.1-8b"), Workload())
    line = next(line for line in as_table(swarm, found, None).splitlines() if "kiln-07" in line)
    assert "≥38.0" in line
    assert "~142" in line
    first = next(n for n in as_object(swarm, found)["nodes"] if n["name"] == "kiln-07")  # type: ignore[attr-defined]
    assert (first["up_mbps"], first["rtt_p50_ms"], first["layer_ms"]) == (38.0, 142.0, None)


def test_nothing_that_a_member_calls_itself_reaches_a_terminal_or_a_spreadsheet() -> None:
    swarm = strange()
    found = analyse(swarm, model_named("llama-3.1-8b"), Workload())
    table, sheet = as_table(swarm, found, 120), as_csv(found)
    assert not any(c in table + sheet for c in "\x1b\u202e")
    devices = [row["device"] for row in csv.DictReader(io.StringIO(sheet))]
    assert "'=cmd|'/c calc'!A1" in devices


def test_without_a_plan_the_table_says_what_is_missing_and_json_has_null() -> None:
    swarm = strange()
    found = analyse(swarm, model_named("llama-3.1-8b"), Workload())
    assert as_object(swarm, found)["tokens_per_s"] is None
    assert "no memory figure yet of [red]x, kiln-07" in as_table(swarm, found, None)


def test_an_empty_swarm_points_to_the_volunteers_line() -> None:
    swarm = Swarm.empty((), at_ns=10**18, source="127.0.0.1:9470")
    found = analyse(swarm, model_named("llama-3.1-8b"), Workload())
    assert as_table(swarm, found, None).endswith(
        "\n`swarmtop invite` prints the line that volunteers paste\n\nno node yet\n"
    )


def test_every_cell_of_the_table_comes_from_the_value_that_json_has() -> None:
    """A value that is not known is – in the table and null in JSON, never one without the other."""
    swarm = parse_swarm(GARAGE.read_text(), "garage.toml")
    for frame in (swarm, strange()):
        for row in analyse(frame, model_named("llama-3.1-8b"), Workload()).rows:
            for column in COLUMNS:
                value = column.value(row)
                assert not (isinstance(value, float) and not math.isfinite(value))
                blank = column.text(row) in (quantities.UNMEASURED, "not possible")
                assert blank == (value is None or value == ""), column.key


class Changing:
    """A live source in which two states come."""

    title = "10.0.0.5:9470"

    async def frames(self) -> AsyncIterator[Swarm]:
        for up_mbps in (38.0, 12.0):
            swarm = strange()
            swarm.nodes["up_mbps"][0] = up_mbps
            yield swarm

    async def close(self) -> None:
        self.title = "closed"


def test_a_stream_repeats_with_one_header(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = Changing()
    monkeypatch.setattr(once, "open_source", lambda args: source)
    assert cli.main(["--once", "--stream", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["up_mbps"] for row in rows if row["name"] == "kiln-07"] == ["38.0", "12.0"]
    assert len(rows) == 6
    assert source.title == "closed"


def spare(node: str, cost_ms: float, cause: Cause | None) -> Impact:
    return Impact(node, "spare", cost_ms, 0.0, cause, {}, without_tokens_per_s=9.8, stand_by_for="kiln-2080ti",
                  stand_by_tokens_per_s=11.0)  # fmt: skip


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_reads_as_it_did(width: int) -> None:
    swarm = parse_swarm(GARAGE.read_text(), "garage.toml")
    found = unplanned(swarm, model_named("llama-3.1-8b"), Workload())
    impacts = {
        "barn-3060": spare("barn-3060", 41.1, "rtt"),
        "kiln-2080ti": Impact("kiln-2080ti", "in", 55.0, 50.0, "upload", {"upload": 40.0}, 0.53, 40.0, 20.4, 15.1),
        "attic-3090": Impact("attic-3090", "in", 47.0, None, "compute", {}, 0.47, 0.0, None, 9.8),
    }
    notes = ("no layer time of llama-3.1-8b yet on x (x: torch not installed: pip install 'swarmtop[torch]')",)
    standing = RunningSummary(impacts, ["kiln-2080ti", "attic-3090"], 9.8)
    ranked = dataclasses.replace(found, rows=rows_of(swarm, found.model, standing), notes=notes)
    golden(f"once-{width}.txt", as_table(swarm, ranked, width))


def test_with_something_running_the_ranking_is_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The machines in it first, by what the swarm would gain; spares are never slow; the figures are those of plan."""
    reported = "kiln-2080ti:0-15,lab-a4000:16-31"
    found = json.loads(run(capsys, "--json", "--running", reported))
    now, best, nodes = found["running"], found["best"], found["nodes"]
    assert (now["source"], [stage["node"] for stage in now["placement"]]) == ("--running", ["kiln-2080ti", "lab-a4000"])
    assert now["tokens_per_s"]["p50"] < best["tokens_per_s"]["p50"]
    assert [node["role"] for node in nodes] == ["in"] * 2 + ["spare"] * 3 + ["out"]
    assert (nodes[0]["name"], nodes[0]["state"]) == ("kiln-2080ti", "slow")
    assert all(node["state"] != "slow" for node in nodes if node["role"] != "in")
    assert sum(node["share"] for node in nodes[:2]) == pytest.approx(1.0, abs=1e-4)
    wins = [node["win_tokens_per_s"] for node in nodes[:2]]
    assert wins == sorted(wins, reverse=True)
    cli.main(["plan", "--swarm", str(GARAGE), "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert (plan["tokens_per_s"], plan["placement"]) == (best["tokens_per_s"], best["placement"])
    cli.main(["predict", "--swarm", str(GARAGE), "--placement", reported, "--json"])
    assert json.loads(capsys.readouterr().out)["tokens_per_s"] == now["tokens_per_s"]
    cli.main(["plan", "--swarm", str(GARAGE), "--forbid", "kiln-2080ti", "--json"])
    without = json.loads(capsys.readouterr().out)["tokens_per_s"]["p50"]
    assert nodes[0]["without_tokens_per_s"] == pytest.approx(without, rel=1e-5)
    low, middle, high = (quantities.figure(now["tokens_per_s"][key]) for key in ("p5", "p50", "p95"))
    better, gain = best["tokens_per_s"]["p50"], best["tokens_per_s"]["p50"] / now["tokens_per_s"]["p50"] - 1
    said = f"you run {middle} tok/s ({low} … {high}), best {quantities.figure(better)} (+{gain:.0%})"
    assert run(capsys, "--running", reported).splitlines()[0].endswith(said.replace("%)", " %)"))


def test_what_runs_stands_in_the_swarm_file_with_its_engine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "swarm.toml"
    reported = '[running]\nplacement = "kiln-2080ti: 0-15, lab-a4000:16-31"\nengine = "petals"\n'
    file.write_text(GARAGE.read_text() + reported)
    assert cli.main(["--once", "--swarm", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engine"], found["running"]["engine"], found["running"]["source"]) == (
        "petals",
        "petals",
        "swarm file",
    )
    assert found["nodes"][0]["role"] == "in"
    file.write_text(GARAGE.read_text() + '[running]\nplacement = "nobody:0-31"\n')
    assert cli.main(["--once", "--swarm", str(file)]) == 2
    assert "there is no node 'nobody'" in capsys.readouterr().err


def test_without_a_model_the_largest_that_fits_is_shown_and_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "swarm.toml"
    one = '[[node]]\nname = "one"\nvram_gib = {}\nmem_gbps = 400\ntflops = 20\n'
    for gib, model, weights in (
        (24, "llama-3.1-8b", "fp16"),
        (6, "llama-3.1-8b", "q4_k_m"),
        (1.6, "llama-3.2-1b", "q8_0"),
    ):
        file.write_text(one.format(gib))
        assert cli.main(["--once", "--swarm", str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["model"], found["weights"]) == (model, weights)
        assert found["tokens_per_s"] is not None
        assert any("does not fit: showing" in note for note in found["notes"]) == (gib != 24)


def test_columns_stay_in_line_where_a_sign_takes_two_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = parse_swarm(GARAGE.read_text("utf-8"))
    found = analyse(swarm, model_named("llama-3.1-8b"), Workload())
    found = dataclasses.replace(
        found, rows=tuple(dataclasses.replace(row, up_kind=Kind.BOUND) for row in found.rows[:1]) + found.rows[1:]
    )
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    prepare(out)
    monkeypatch.setattr("sys.stdout", out)
    out.write(as_table(swarm, found, None))
    out.flush()
    lines = out.buffer.getvalue().decode("ascii").splitlines()[2:]
    ends = lines[0].index("UP Mbit/s") + len("UP Mbit/s")
    rows = lines[1 : 1 + len(found.rows)]
    assert ">=" in rows[0]
    assert all(row[ends - 1] != " " and row[ends] == " " for row in rows)
