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
from swarm_protocol.snapshot.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.analysis.analysis import analyse, rank, unplanned
from swarmtop.commands import once
from swarmtop.commands.once import COLUMNS, as_csv, as_object, as_table
from swarmtop.text import quantities

ROOT = Path(__file__).parents[2]
GARAGE = ROOT / "examples" / "garage.toml"
KEYS = [
    "rank", "name", "state", "cost_ms", "gain_ms", "cause", "in_placement", "rtt_p50_ms", "jitter_ms", "loss",
    "up_mbps", "layer_ms", "device", "vram_free_gib", "age_s", "nat", "nat_age_s",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = cli.main(["--once", "--swarm", str(GARAGE), *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_json_has_exactly_the_keys_that_scripts_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "--json"))
    assert list(found) == ["time", "collector", "model", "weights", "engine", "tokens_per_s", "links", "nodes"]
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
    assert all(word in titles[40] for word in ("NODE", "STATE", "COST"))


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
                assert (column.text(row) == quantities.UNMEASURED) == (value is None or value == ""), column.key


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


def costing(node: str, cost_ms: float, cause: Cause | None, *, used: bool = False) -> Impact:
    return Impact(node, used, cost_ms, -cost_ms if used else 0.0, cause, {})


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_reads_as_it_did(width: int) -> None:
    swarm = parse_swarm(GARAGE.read_text(), "garage.toml")
    found = unplanned(swarm, model_named("llama-3.1-8b"), Workload())
    impacts = {
        "barn-3060": costing("barn-3060", 41.1, "rtt"),
        "kiln-2080ti": costing("kiln-2080ti", 135.0, "upload"),
        "attic-3090": costing("attic-3090", -17.3, None, used=True),
    }
    notes = ("no layer time of llama-3.1-8b yet on x (x: torch not installed: pip install 'swarmtop[torch]')",)
    ranked = dataclasses.replace(found, rows=rank(swarm, found.model, impacts, None), notes=notes)
    golden(f"once-{width}.txt", as_table(swarm, ranked, width))
