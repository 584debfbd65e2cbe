"""Save text to a new file, or copy it to the terminal's clipboard.

The name is prompted for, nothing is overwritten, and the line below the screen says what was written or why not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.screens.overlays import Picker, Prompt

if TYPE_CHECKING:
    from swarmtop.dashboard.screen_api import DashboardBase


@dataclass(frozen=True, slots=True)
class Export:
    """One item that can be saved. `make` is called when the name is known."""

    name: str
    label: str
    help: str
    file: str  # suggested
    make: Callable[[], str] | None  # None: `stream` writes it
    stream: Callable[[Path], None] | None = None


def choose(board: DashboardBase, exports: Sequence[Export]) -> None:
    """Ask which item to save, and under which name."""

    def chosen(name: str | None) -> None:
        for export in exports:
            if export.name == name:
                save_as(board, export)

    picks = [(e.name, e.label, e.help) for e in exports]
    board.push_screen(Picker(board.ink, "export", picks), chosen)


def save_as(board: DashboardBase, export: Export) -> None:
    def save(text: str | None) -> None:
        if text is None:
            return
        path = Path(text.strip()).expanduser()
        if export.stream is not None:
            export.stream(path)
        elif export.make is not None:
            board.say(write_new(path, export.make()))

    hint = f"{export.label}: name of a new file"
    board.push_screen(Prompt(board.ink, "save as", hint, free_name(export.file), problem), save)


def problem(text: str) -> str:
    """Return why this name cannot be used, or ""."""
    name = text.strip()
    if not name:
        return "a file needs a name"
    path = Path(name).expanduser()
    try:
        if path.exists():
            return f"{clean(name, 40)} exists already; enter another name"
        if not path.parent.is_dir():
            return f"there is no folder {clean(str(path.parent), 40)}"
    except OSError as error:
        return f"cannot access the folder ({error.strerror})"
    return ""


def free_name(name: str) -> str:
    """Return `plan.json`, or `plan-2.json` if that is taken."""
    path = Path(name)
    for number in range(2, 1000):
        if not path.exists():
            break
        path = Path(name).with_stem(f"{Path(name).stem}-{number}")
    return str(path)


def write_new(path: Path, text: str) -> str:
    """Write a file, never over an existing one; return what to tell the person."""
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        return f"cannot write {clean(str(path), 80)} ({error.strerror}); nothing was saved"
    count = text.count("\n")
    return f"wrote {clean(str(path), 80)} ({count} line{'' if count == 1 else 's'})"


def copy(board: DashboardBase, text: str, what: str) -> None:
    """Copy to the terminal's clipboard (OSC 52), which some terminals do not allow."""
    board.copy_to_clipboard(text)
    board.say(f"copied {clean(what, 80)}, if this terminal lets programs copy")
