"""One word for each state: on the screens, in all forms of `--once`, and in the report."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import dash_fakes as fakes

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Event, State
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop.analysis.analysis import analyse
from swarmtop.analysis.ranking.states import WORDS
from swarmtop.commands.monitoring.once import as_csv, as_object, as_table
from swarmtop.dashboard.app import Dashboard
from swarmtop.report.gather import Report
from swarmtop.report.html import rendered

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
RUNS = "kiln-2080ti:0-15,lab-a4000:16-31"
GIVEN = {"lab-a4000": State.STALE, "attic-3090": State.OK, "barn-3060": State.LOST, "home": State.UNKNOWN}
MODEL, LOAD = model_named("llama-3.1-8b"), Workload()


async def test_every_place_says_the_same_word_of_each_node() -> None:
    swarm = parse_swarm(GARAGE.read_text())
    swarm.at_ns = fakes.NOW_NS
    for row, name in enumerate(swarm.names):
        swarm.nodes["state"][row] = GIVEN.get(name, State.OK)
    worse = "desk-4070"
    swarm.events = (Event(swarm.at_ns - 10**9, worse, "degraded", "RTT 21 → 101 ms to all peers"),)
    swarm.running = Running(RUNS, "chain")
    found = analyse(swarm, MODEL, LOAD)

    words = {node["name"]: node["state"] for node in as_object(swarm, found)["nodes"]}  # type: ignore[attr-defined]
    assert words[worse] == "degraded"
    assert set(words.values()) == set(WORDS)

    assert {row["name"]: row["state"] for row in csv.DictReader(io.StringIO(as_csv(found)))} == words
    assert said_beside(words, as_table(swarm, found, None)) == words
    page = rendered(Report(swarm, MODEL, LOAD, found, None, (), (), 0, swarm.at_ns))
    assert said_beside(words, "\n".join(re.sub(r"<[^>]+>", " ", row) for row in page.split("<tr"))) == words

    source = fakes.FakeSource(swarm)
    app = Dashboard(source, fakes.options(model=MODEL, workload=LOAD, analyse=lambda *_: found))
    async with app.run_test(size=(160, 50)) as pilot:
        await fakes.ready(app, pilot)
        await fakes.until(pilot, lambda: "slow" in fakes.screen_text(app))
        assert said_beside(words, fakes.screen_text(app)) == words


def test_a_node_that_left_says_why() -> None:
    """Who reads `has left` of a machine whose membership was revoked looks for a fault of the machine."""
    swarm = parse_swarm(GARAGE.read_text())
    swarm.at_ns = fakes.NOW_NS
    for name in ("barn-3060", "kiln-2080ti"):
        swarm.nodes["state"][swarm.names.index(name)] = State.LEFT
    swarm.events = tuple(
        Event(swarm.at_ns - 10**9, name, "left", why)
        for name, why in (("barn-3060", "an older reason"), ("barn-3060", "revoked"), ("kiln-2080ti", "stopped"))
    )
    swarm.running = Running(RUNS, "chain")
    said = {row.name: row.why for row in analyse(swarm, MODEL, LOAD).rows}
    assert said["barn-3060"] == "has left: revoked"
    assert said["kiln-2080ti"].startswith("has left: stopped; the placement needs it")


def said_beside(names: dict[str, str], text: str) -> dict[str, str]:
    """Return node → the word in its row of the ranking."""
    found = {}
    for line in text.splitlines():
        for name in names:
            match = re.search(rf"\b{re.escape(name)}\s+(?:\S\s+)?({'|'.join(WORDS)})\b", line)
            if match:
                found.setdefault(name, match[1])
    return found
