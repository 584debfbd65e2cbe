"""The mark and differences from it, chosen columns, themes, settings, saving and copying."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest

from swarm_protocol.snapshot.swarm import NodeFacts, State, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard import settings
from swarmtop.dashboard.lines.columns import COLUMNS, choose, offered
from swarmtop.dashboard.run import Dashboard, run_dashboard, with_settings
from swarmtop.dashboard.screens.overlays import Chooser
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state import mark
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.colours import PALETTES


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dash_pilot.brisk(monkeypatch)
    monkeypatch.chdir(tmp_path)


def view_of(frame: Swarm) -> View:
    session = Session("10.0.0.5:9470", "live", fakes.options())
    session.accept(frame)
    session.show(frame)
    question = session.ask()
    assert question is not None
    session.answer(question, fakes.analyse(frame, session.model, session.workload, None))
    view = session.view(frame.at_ns)
    assert view is not None
    return view


def later(**changes: Any) -> Swarm:
    return fakes.swarm(at_ns=fakes.NOW_NS + 60 * NS_PER_S, **changes)


def text(block: Any) -> list[str]:
    return ["".join(part for part, _ in row) for row in block]


# ---------------------------------------------------------------- mark


def test_nothing_has_changed_reads_so() -> None:
    kept = mark.take(view_of(fakes.swarm()))
    assert text(mark.change_lines(view_of(later()), kept, 80)) == ["nothing has changed"]
    assert mark.changes(view_of(later()), kept) == []


def test_change_of_a_node_is_reported_with_both_figures_and_the_difference() -> None:
    kept = mark.take(view_of(fakes.swarm()))
    frame = later()
    frame.links["rtt_p99_ms"][1] *= 3
    frame.links["rtt_p99_ms"][:, 1] *= 3
    found = next(c for c in mark.changes(view_of(frame), kept) if c.now is not None and c.now.name == fakes.NAMES[1])
    assert found.before is not None
    assert found.now is not None
    assert found.rtt99_ms == pytest.approx(found.now.rtt99_ms - found.before.rtt99_ms)  # type: ignore[operator]
    line = next(row for row in text(mark.change_lines(view_of(frame), kept, 100)) if fakes.NAMES[1] in row)
    assert f"rtt99 {found.before.rtt99_ms:.0f} → {found.now.rtt99_ms:.0f} (+" in line


def test_who_came_and_who_is_gone_stand_first() -> None:
    kept = mark.take(view_of(fakes.swarm()))
    frame = later()
    facts = (*frame.facts[:5], NodeFacts(node_id="f" * 16, name="fresh"))  # the sixth is another machine
    view = view_of(Swarm(frame.at_ns, facts, frame.nodes, frame.links))
    lines = text(mark.change_lines(view, kept, 80))
    assert any("fresh  new since the mark" in row for row in lines[:3])
    assert any("den-oslo-7  gone since the mark" in row for row in lines[:3])


def test_figure_that_was_not_known_at_the_mark_is_no_difference() -> None:
    kept = mark.take(view_of(fakes.swarm()))
    frame = later()
    frame.nodes["up_mbps"][4] = 55.0
    changed = next(c for c in mark.changes(view_of(frame), kept) if c.now is not None and c.now.up_mbps == 55.0)
    line = next(row for row in text(mark.change_lines(view_of(frame), kept, 100)) if changed.now.name in row)  # type: ignore[union-attr]
    assert "up – → 55.0" in line


def test_change_of_state_is_told_in_words() -> None:
    kept = mark.take(view_of(fakes.swarm()))
    frame = later()
    frame.nodes["state"][2] = State.LOST
    assert any("→ lost" in row for row in text(mark.change_lines(view_of(frame), kept, 80)))


async def test_mark_puts_differences_into_ranking_and_time_and_a_second_press_drops_it() -> None:
    source = fakes.FakeSource(fakes.swarm())
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        assert "ΔRTT99" not in fakes.screen_text(app)
        await pilot.press("M")
        frame = later()
        frame.links["rtt_p99_ms"][:] *= 2
        source.put(frame)
        await fakes.until(pilot, lambda: app.session.analysis.at_ns == frame.at_ns)
        await fakes.settle(app, pilot)
        assert "ΔRTT99" in fakes.screen_text(app)
        kiln = next(row for row in fakes.screen_text(app).splitlines() if " 1 kiln-berlin-07" in row)
        assert "+1160" in kiln
        await pilot.press("5")
        await fakes.settle(app, pilot)
        assert "changes since the mark at 14:02:17" in fakes.screen_text(app)
        await pilot.press("M", "M")
        await fakes.settle(app, pilot)
        assert "changes since the mark" not in fakes.screen_text(app)


# ---------------------------------------------------------------- columns, themes, settings


def test_columns_chosen_are_the_only_ones_and_the_name_stays() -> None:
    found = [c.name for c, _ in choose(200, offered(("cost", "device"), marked=False))]
    always = [c.name for c in COLUMNS if c.rank <= 0]
    assert sorted(found) == sorted({*always, "cost", "device"})
    assert "rtt50" not in found


async def test_columns_are_chosen_with_space_and_enter() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("c")
        assert isinstance(app.screen, Chooser)
        await pilot.press(*"rtt50", "space", "enter")
        await fakes.settle(app, pilot)
        assert "RTT50" not in fakes.screen_text(app)
        assert "RTT99" in fakes.screen_text(app)
        assert 'columns = ["' in app.notice()


async def test_theme_is_chosen_and_seen() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("ctrl+t", *"light", "enter")
        await fakes.settle(app, pilot)
        ground = app.screen.styles.background.hex.lower()
        assert ground == PALETTES["light"].ground
        found = {
            s.style.color.name for strip in app.screen._compositor.render_strips() for s in strip
            if s.style and s.style.color and s.text.strip()
        }  # fmt: skip
        assert PALETTES["light"].dim in found
        assert PALETTES["dark"].dim not in found


def test_settings_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('theme = "light"\nascii = true\ncolumns = ["cost"]\n[keys]\nquit = "ctrl+x"\n')
    found = settings.load(file)
    assert found == settings.Settings("light", True, ("cost",), (), {"quit": "ctrl+x"})
    options = with_settings(fakes.options(), found)
    assert (options.theme, options.ascii, options.columns, options.keys) == (
        "light", True, ("cost",), {"quit": "ctrl+x"}
    )  # fmt: skip
    assert settings.load(tmp_path / "none.toml") == settings.Settings()


def test_a_column_by_its_former_name_is_still_known() -> None:
    assert settings.parse('columns = ["state", "win"]').columns == ("state", "gain")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("theme = 3", "no theme 3; choose one of dark, light, contrast, ansi"),
        ("colour = true", "no setting colour; there are theme, ascii, columns, alerts and [keys]"),
        ("alerts = 3", 'alerts is a list of rules, as ["state!=lost for 1m"]'),
        ('alerts = ["rtt_p99_ms<250 for ever"]', "ever is not a duration; give 90s, 15m, 2h, 7d or 4w"),
        ('ascii = "yes"', "ascii is true or false"),
        ('columns = ["speed"]', "no column speed; there are "),
        ('columns = "cost"', "columns is a list of names"),
        ('[keys]\nfly = "x"', "no action fly to give the key x"),
        ('[keys]\nsort = "q"', "the key q would be sort and quit on overview"),
        ("[keys]\nsort = 3", "[keys] has lines like"),
        ("theme = ", "not TOML ("),
    ],
)
def test_setting_that_is_not_understood_is_refused_in_one_line(said: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(said)
    with pytest.raises(settings.SettingsError) as caught:
        settings.load(file)
    assert str(caught.value).startswith(f"{file}: {complaint}")
    assert "\n" not in str(caught.value)


def test_dashboard_does_not_begin_with_settings_it_does_not_understand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('theme = "pink"')
    source = fakes.FakeSource(fakes.swarm())
    assert run_dashboard(source, fakes.options()) == 2
    assert source.closed
    assert "no theme pink" in capsys.readouterr().err


def test_settings_lie_where_the_person_keeps_such_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "b"))
    assert settings.path() == tmp_path / "a" / "config.toml"
    monkeypatch.delenv("SWARMTOP_HOME")
    assert settings.path() == tmp_path / "b" / "swarmtop" / "config.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.path() == tmp_path / ".config" / "swarmtop" / "config.toml"


# ---------------------------------------------------------------- out


async def save(app: Dashboard, pilot: Any, what: str, name: str) -> Path:
    await pilot.press("x", *what, "enter")
    await pilot.press("ctrl+u", *name, "enter")
    await fakes.until(pilot, lambda: f"wrote {name}" in app.notice(), "the file")
    return Path(name)


async def test_ranking_is_saved_as_csv_and_json_and_the_screen_as_a_picture() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        table = list(csv.DictReader((await save(app, pilot, "ranking, csv", "r.csv")).read_text().splitlines()))
        found = json.loads((await save(app, pilot, "ranking, json", "r.json")).read_text())
        picture = ET.fromstring((await save(app, pilot, "picture", "p.svg")).read_text())
    assert [row["name"] for row in table] == [node["name"] for node in found["nodes"]]
    words = "".join(picture.itertext()).replace("\xa0", " ")
    assert "kiln-berlin-07" in words
    assert "export" not in words.split("events")[0]  # the picture is of the screen, not of the list over it


async def test_samples_are_streamed_into_a_file_with_their_count() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        assert (await save(app, pilot, "layer times", "c.csv")).read_text() == "time\n"
        assert app.notice() == "wrote c.csv (0 rows)"


async def test_file_that_cannot_be_written_is_reported() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press(
            "x", *"ranking", "comma", "space", *"csv", "enter", "ctrl+u", *"none", "slash", *"r.csv", "enter"
        )
        await pilot.pause()
        assert "there is no folder none" in fakes.screen_text(app)


async def test_row_under_the_cursor_is_copied() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("y")
        assert "kiln-berlin-07" in app.clipboard
        assert "GAIN +0.22" in app.clipboard
        assert "copied kiln-berlin-07" in app.notice()
