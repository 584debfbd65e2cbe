"""Every widget shows every payload, in every field that a stranger fills: the result is nothing but text."""

from __future__ import annotations

import dataclasses

import dash_fakes as fakes
import dash_pilot
import pytest
from textual.geometry import Offset

from swarm_protocol.snapshot.swarm import Event, LayerTime, Swarm
from swarmtop.dashboard.app import Dashboard

PAYLOADS = (
    *fakes.HOSTILE,
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31mC1",
    "\u2066isolate\u2069\ufeff",
    "[/]]] [bold",
    "{0.__class__} %s $(reboot) `id`",
    "=cmd|' /C calc'!A0",
    "'; DROP TABLE node; --",
    "../../etc/passwd\x00",
    "\ud800",
)


def hostile() -> Swarm:
    """Each node carries one payload in all its words; the events and the source carry them too."""
    made = fakes.swarm([f"n{i}" for i in range(len(PAYLOADS))])
    facts = tuple(
        dataclasses.replace(
            each,
            name=text,
            device=text,
            system=text,
            host=text,
            region=text,
            note=text,
            layers=(LayerTime(text, "decode", 1, 128, 3.0, dtype=text, at_ns=fakes.NOW_NS), *each.layers),
        )
        for each, text in zip(made.facts, PAYLOADS, strict=True)
    )
    events = tuple(Event(at_ns=fakes.NOW_NS, node=text, kind=text[:20], detail=text) for text in PAYLOADS)
    return dataclasses.replace(made, facts=facts, events=events, source=PAYLOADS[2])


@pytest.mark.parametrize("size", [(40, 12), (140, 40)])
async def test_every_screen_shows_every_payload_as_text(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)
    app = Dashboard(fakes.FakeSource(hostile()), fakes.options())
    async with app.run_test(size=size) as pilot:
        await fakes.ready(app, pilot)
        for key in ("1", "2", "3", "4", "5", "question_mark", "escape", "slash", "escape", "colon", "escape"):
            await pilot.press(key)
            for step in ("down", "enter") if key.isdigit() else ():
                await pilot.press(step)
            await fakes.settle(app, pilot)
            for strip in app.screen._compositor.render_strips():
                assert strip.text.isprintable(), (key, strip.text)
                for segment in strip:
                    assert not (segment.style and (segment.style.meta.get("@click") or segment.style.link)), segment


async def test_a_click_on_any_cell_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)
    app = Dashboard(fakes.FakeSource(hostile()), fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        for y in range(2, 22, 3):
            await pilot.click(offset=Offset(6, y))
        await fakes.settle(app, pilot)
        assert app.is_running
        assert app.return_code is None
