"""Claims about `swarmtop report`: one page that needs nothing else, says what `plan` says, and runs nothing."""

from __future__ import annotations

import dataclasses
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Event, Kind, NodeFacts, State, Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.analysis.analysis import analyse
from swarmtop.report import pictures, svg
from swarmtop.report.gather import Report
from swarmtop.report.html import rendered
from swarmtop.sources.source import History

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
MODEL = "llama-2-13b"
HOSTILE = (
    '<script>alert("x")</script>',
    "{{ 7 * 7 }}",
    "\x1b[31mred",
    "a\u202eb",
    "</svg><img src=x onerror=y>",
    "[@click=app.quit]x[/]",
)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action", "xlink:href"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def reported(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = cli.main(["report", "--swarm", str(GARAGE), "--model", MODEL, "--html", "-", *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_the_page_needs_no_network_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(reported(capsys))
    assert (page.addresses, page.handlers) == ([], [])
    assert not {"script", "iframe", "link", "object", "embed", "form"} & set(page.tags)


def test_the_page_says_what_the_plan_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = html.unescape(reported(capsys))
    cli.main(["plan", "--swarm", str(GARAGE), "--model", MODEL])
    plan = capsys.readouterr().out
    speed = re.search(r"one stream\s+(.*\))", plan)
    proof = re.search(r"best latency.*", plan)
    assert speed is not None
    assert proof is not None
    assert speed[1] in text
    assert "of the time per token measured here" in text
    assert proof[0] in text


def test_every_node_and_every_known_pair_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    swarm = parse_swarm(GARAGE.read_text())
    text = html.unescape(reported(capsys))
    for name in swarm.names:
        assert f"<td>{name}</td>" in text
    known = np.isfinite(swarm.links["rtt_p50_ms"]) & ~np.eye(len(swarm), dtype=bool)
    assert len(re.findall(r"<title>[^<]* to [^<]*</title>", text)) == int(known.sum())


def test_each_node_of_the_plan_may_go(capsys: pytest.CaptureFixture[str]) -> None:
    text = reported(capsys)
    assert "If a node of the plan goes" in text


def nobody(names: tuple[str, ...]) -> Swarm:
    swarm = Swarm.empty(
        tuple(NodeFacts(name, name, device=name, note=name) for name in names), at_ns=10**18, source=names[0]
    )
    swarm.nodes["state"][:] = State.OK
    swarm.links["rtt_p50_ms"][:] = 5.0
    swarm.links["kind"][:] = Kind.ESTIMATE
    return dataclasses.replace(swarm, events=(Event(10**18, names[0], names[1], names[2]),))


def page_of(swarm: Swarm, series: tuple[object, ...] = ()) -> str:
    model, load = model_named(MODEL), Workload()
    found = analyse(swarm, model, load)
    return rendered(Report(swarm, model, load, found, None, (), series, 0, swarm.at_ns))  # type: ignore[arg-type]


def test_text_of_strangers_is_text() -> None:
    """Names are checked at the gate; a page must not depend on it."""
    page = page_of(nobody(HOSTILE))
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert parsed.handlers == []
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "{{ 7 * 7 }}" in page


def test_a_swarm_without_anybody_has_a_page_that_says_so() -> None:
    page = page_of(Swarm.empty((), at_ns=10**18, source="empty"))
    assert "<b>No plan:</b> no node yet" in page
    assert "Round trips</h2>" not in page


# ---------------------------------------------------------------- drawings


@given(
    st.lists(st.text(max_size=20), min_size=1, max_size=30, unique=True),
    st.floats(0, 1e6) | st.just(float("nan")),
)
def test_any_names_make_a_drawing_that_is_xml(names: list[str], value: float) -> None:
    values = np.full((len(names), len(names)), value)
    estimated = np.ones(values.shape, bool).tolist()
    ElementTree.fromstring(svg.heat_map(names, values, estimated, (10, 40, 100, 200)))


@given(st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=50))
def test_a_line_breaks_where_nothing_was_measured(values: list[float | None]) -> None:
    history = History(tuple(range(len(values))), tuple(values))
    picture = ElementTree.fromstring(svg.lines("rtt", "ms", [("a", history)]))
    path = picture.find("{http://www.w3.org/2000/svg}path")
    assert path is not None
    runs = sum(value is not None and (i == 0 or values[i - 1] is None) for i, value in enumerate(values))
    assert path.attrib["d"].count("M") == runs


def test_the_bar_shares_out_the_time_of_a_token() -> None:
    picture = ElementTree.fromstring(svg.bar([("compute", 30.0), ("network", 10.0), ("overhead", 0.0)]))
    widths = [float(rect.attrib["width"]) for rect in picture if rect.tag.endswith("rect")]
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.01)
    assert len(widths) == 2


# ---------------------------------------------------------------- a browser


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_opens_it_offline(tmp_path: Path) -> None:
    page, picture = tmp_path / "swarm.html", tmp_path / "page.png"
    assert cli.main(["report", "--swarm", str(GARAGE), "--model", MODEL, "--html", str(page)]) == 0
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,1600", f"--screenshot={picture}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    width, height = (int.from_bytes(picture.read_bytes()[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1100, 1600)
    assert picture.stat().st_size > 50_000  # a blank page of this size has 6 kB


def test_a_place_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["report", "--swarm", str(GARAGE), "--model", MODEL, "--html", "/nowhere/x.html"])
    assert (code, capsys.readouterr().err) == (
        2, "swarmtop: cannot write /nowhere/x.html (No such file or directory); correct --html\n",
    )  # fmt: skip


def test_page_draws_the_token_route_and_the_map_and_names_nothing_internal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = reported(capsys)
    assert "token route" in page
    assert not re.search(r"nat_age|gain_ms|in_placement|tokens_per_s", page)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_page_begins_with_what_runs_and_what_slows_it_down(capsys: pytest.CaptureFixture[str]) -> None:
    text = html.unescape(reported(capsys, "--running", "kiln-2080ti:0-9,attic-3090:10-39"))
    lead = re.findall(r'<p class="lead">(.*?)</p>', text)
    assert lead[0].startswith("You run ")
    assert "tok/s" in lead[0]
    assert re.match(r"<b>\S+</b> holds the swarm back most\. [A-Z]", lead[1])
    assert '<p class="lead">' not in reported(capsys)  # nothing is known to run


def test_legend_leaves_out_a_shade_that_no_figure_has() -> None:
    assert [meaning for _, meaning in svg.legend((20.7, 20.7, 52.7, 101.0), "ms")] == [
        "up to 20.7 ms", "20.7 to 52.7 ms", "52.7 to 101 ms", "over 101 ms"
    ]  # fmt: skip


def test_map_has_machines_of_known_cities_and_is_left_out_without() -> None:
    facts = tuple(NodeFacts(name, name, region=city) for name, city in (("a", "Utrecht"), ("b", "Tokyo"), ("c", "")))
    drawn = pictures.world_map(Swarm.empty(facts), None)
    assert ElementTree.fromstring(drawn) is not None
    assert re.findall(r">(a|b|c)</text>", drawn) == ["a", "b"]
    assert pictures.world_map(Swarm.empty(facts[2:]), None) == ""
