"""Open the lists and prompts of every screen: model, engine, theme, a time to go to, command palette, help.

Imported when the first of them is opened: the first paint does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from swarm_predict.model.catalogue import catalogue
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Engine
from swarmtop.dashboard import keymap
from swarmtop.dashboard.lines import timeline_lines
from swarmtop.dashboard.lines.help_lines import help_lines
from swarmtop.dashboard.screens.overlays import Help, Picker, Prompt
from swarmtop.dashboard.settings import THEMES

if TYPE_CHECKING:
    from swarmtop.dashboard.screen_api import DashboardBase
    from swarmtop.dashboard.screens.page import Page

THEME_HELP: Final = {
    "dark": "for dark terminals",
    "light": "for light terminals",
    "contrast": "white on black, for projectors",
    "ansi": "the sixteen colours of your terminal, as it has them",
}
ENGINE_HELP: Final[dict[str, str]] = {
    "chain": "each stage sends to the next (vLLM, torch pipelines)",
    "star": "every stage through the client",
    "ring": "a chain without a client of its own",
    "petals": "star through the client",
    "llama.cpp": "star; the last server returns the logits",
    "mesh-llm": "llama.cpp whose servers push to each other; nobody farther than 80 ms",
    "shard": "chain with verify windows in flight, drafted by the client",
    "vllm": "chain",
    "vllm-tp": "a pipeline of equal groups, each tensor-parallel inside",
    "sglang": "chain",
    "sglang-tp": "a pipeline of equal groups, each tensor-parallel inside",
    "parallax": "chain",
    "exo": "ring",
    "exo-0": "ring, before exo 1.0",
    "exo-rdma": "ring over RDMA",
    "exo-tensor": "two all-reduces a layer over RDMA, each to each",
    "exo-tensor-tcp": "two all-reduces a layer around a ring of sockets",
    "mlx": "ring",
    "mlx-tensor": "two all-reduces a layer around a ring of sockets",
    "prima.cpp": "ring",
    "distributed-llama": "two all-reduces a layer, each to each",
    "tensor-parallel": "two all-reduces a layer",
    "hybrid": "a pipeline of groups, each tensor-parallel inside",
}
TIME_HINT: Final = "14:02, 2026-11-23 14:02 or -10m"


def choose_model(board: DashboardBase) -> None:
    def choose(name: str | None) -> None:
        if name:
            board.choose_model(name)

    own, picks = board.options.model, [(n, n, _about(entry.shape)) for n, entry in catalogue().items()]
    if own.name not in catalogue():
        picks.insert(0, (own.name, own.name, _about(own) + " (from a file)"))
    board.push_screen(Picker(board.ink, "model", picks, board.session.model.name), choose)


def _about(shape: ModelShape) -> str:
    size = shape.params / 1e9
    text = f"{size:.3g} B" if size >= 1 else f"{1e3 * size:.3g} M"
    return f"{text} parameters, {shape.layers} layers, hidden {shape.hidden}"


def choose_engine(board: DashboardBase) -> None:
    def choose(name: str | None) -> None:
        for engine in get_args(Engine):
            if engine == name:
                board.choose_engine(engine)

    picks = [(e, e, ENGINE_HELP.get(e, "")) for e in get_args(Engine)]
    board.push_screen(Picker(board.ink, "engine", picks, board.session.workload.engine), choose)


def ask_leaving(board: DashboardBase, others: int) -> None:
    """Ask what becomes of the collector that this dashboard started, if others have joined it."""

    def leave(what: str | None) -> None:
        if what == "stop":
            board.finish(0)
        elif what == "keep":
            board.leave_running()

    who = "1 other machine is" if others == 1 else f"{others} other machines are"
    picks = [
        ("keep", "keep it running", "the collector and this machine's probe keep running; swarmtop reconnects to them"),
        ("stop", "stop", "the collector stops; the others keep their measurements and wait for it"),
        ("cancel", "cancel", "back to the dashboard"),
    ]
    board.push_screen(Picker(board.ink, f"{who} joined to the collector started here", picks, "cancel"), leave)


def choose_theme(board: DashboardBase) -> None:
    def choose(name: str | None) -> None:
        if name:
            board.use_theme(name)
            board.say(f'to keep it: theme = "{name}" in config.toml')

    board.push_screen(Picker(board.ink, "theme", [(n, n, THEME_HELP[n]) for n in THEMES], board.ink.theme), choose)


def ask_time(board: DashboardBase) -> None:
    def parsed(text: str) -> int | str:
        view = board.view()
        if view is None or not text.strip():
            return f"a time: {TIME_HINT}"
        try:
            return timeline_lines.parse_time(text, view)
        except timeline_lines.TimeError as error:
            return str(error)

    def check(text: str) -> str:
        found = parsed(text)
        return found if isinstance(found, str) else ""

    def go(text: str | None) -> None:
        found = parsed(text or "")
        if isinstance(found, int):
            board.travel.go_to(found)

    board.push_screen(Prompt(board.ink, "go to", TIME_HINT, "", check), go)


def show_help(board: DashboardBase, page: Page) -> None:
    board.push_screen(Help(board.ink, f"help: {keymap.TITLES[page.NAME]}", help_lines(page.NAME, page.shown_keys())))


def show_palette(board: DashboardBase, page: Page) -> None:
    """Show every action of the screen, found by any word of its name or help."""

    def do(name: str | None) -> None:
        if name:
            page.perform(name)

    picks = [(a.name, a.label, f"{a.help} ({keymap.shown(a.keys[0])})") for a in page.shown_keys()]
    board.push_screen(Picker(board.ink, "actions", picks), do)
