"""Prometheus metrics: the exact format, and counts of what has happened."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import aiohttp
import pytest
from collector_rig import collector, note

from swarm_collector.metrics import Histogram, Metric, exposition

_LINE = re.compile(r'[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\.)*"\})? [0-9.e+-]+|[a-z_]+_bucket\{le="\+Inf"\} \d+')
DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json"


def test_counters_gauges_labels_and_histograms_in_the_exposition_format():
    histogram = Histogram(bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert exposition(
        [
            Metric("a_total", "counter", "As.", 3),
            Metric("b", "gauge", "Bs.", {'with "quotes"\n': 1.5, "plain": 0}, "kind"),
            Metric("c_seconds", "histogram", "Cs.", histogram),
        ]
    ) == (
        "# HELP a_total As.\n# TYPE a_total counter\na_total 3\n"
        '# HELP b Bs.\n# TYPE b gauge\nb{kind="plain"} 0\nb{kind="with \\"quotes\\"\\n"} 1.5\n'
        "# HELP c_seconds Cs.\n# TYPE c_seconds histogram\n"
        'c_seconds_bucket{le="0.1"} 2\nc_seconds_bucket{le="1"} 3\nc_seconds_bucket{le="+Inf"} 4\n'
        "c_seconds_sum 7.65\nc_seconds_count 4\n"
    )


@pytest.fixture
async def scraped(tmp_path) -> str:
    """After one batch of two samples of one probe."""
    async with collector(tmp_path, token="secret") as rig, rig.probe("kiln", token="secret") as probe:
        await probe.batch(1, note(time.time_ns(), "x"), note(time.time_ns(), "y"))
        await probe.acked(1)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{rig.port}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return await answer.text()


def test_a_running_collector_says_what_it_took(scraped: str):
    lines = [line for line in scraped.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not _LINE.fullmatch(line)] == []
    assert {
        'swarmtop_members{state="ok"} 1',
        "swarmtop_probes 1",
        "swarmtop_batches_committed_total 1",
        "swarmtop_samples_committed_total 2",
        "swarmtop_commit_seconds_count 1",
        "swarmtop_store_trouble 0",
    } <= set(lines)
    assert "kiln" not in scraped  # names are for those who have the token


def test_the_bundled_dashboard_asks_only_for_what_there_is(scraped: str):
    dashboard = json.loads(DASHBOARD.read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"\b(?:swarmtop|process)_[a-z_]+", target["expr"])
    }
    known = set(re.findall(r"^((?:swarmtop|process)_[a-z_]+)", scraped, re.MULTILINE))
    known |= {"swarmtop_connections_refused_total"}  # has no line before the first refusal
    assert len(asked) > 8
    assert asked <= known
