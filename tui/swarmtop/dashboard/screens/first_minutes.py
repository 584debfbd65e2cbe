"""Help the first user of a swarm of one machine: how others join, and a demo of a larger swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmtop.dashboard.lines.styled import Block, clean, line, wrap
from swarmtop.dashboard.screens.overlays import Help

if TYPE_CHECKING:
    from swarmtop.dashboard.screen_api import DashboardBase

TEXT_WIDTH: Final = 74
QUIET: Final = 2  # modules around a QR code: the standard asks for four, but scanners manage with two
NOBODY: Final = (
    "Nobody else can join yet: this collector listens on this machine alone. Leave with q and start "
    "swarmtop --listen 0.0.0.0:9470, or run swarm-collector on a machine that the others reach."
)


ELSEWHERE: Final = (
    "swarmtop invite --connect {where} prints the line that volunteers paste. On the collector's own machine, run by "
    "its user, it makes an invite for one machine each time."
)
MEANS: Final = (
    "It fetches the swarmtop that this collector runs, checks its hash, installs it with uv or pipx where there is "
    "one, else into ~/.local/share/swarmtop, and joins. Good for one machine and one day; swarmtop invite makes more."
)
MAX_CHARACTERS: Final = 1200
COPIED: Final = "copied, if this terminal lets programs copy (OSC 52); swarmtop invite prints a line too"


def show_invite(board: DashboardBase) -> None:
    """Show the line that volunteers paste; it can be copied, and shown as a QR code if the terminal draws blocks."""
    hint = board.options.join_hint
    if not hint:
        where = board.options.join_elsewhere
        nobody = ELSEWHERE.format(where=clean(where, 80)) if where else NOBODY
        board.push_screen(Help(board.ink, "invite", wrap(nobody, TEXT_WIDTH)))
        return
    text = [
        line("On each GPU machine, paste this one line:", ""),
        (),
        *wrap(clean(hint, MAX_CHARACTERS), TEXT_WIDTH, "key"),
        (),
    ]
    text += wrap(MEANS, TEXT_WIDTH, "dim")
    offers = [("y", "copy the line"), *([] if board.ink.ascii_only else [("c", "QR code")])]

    def do(what: str | None) -> None:
        if what == "copy the line":
            board.copy_to_clipboard(hint)
            board.say(COPIED)
        elif what == "QR code":
            _show_code(board, hint)

    board.push_screen(Help(board.ink, "invite", text, offers), do)


def _show_code(board: DashboardBase, hint: str) -> None:
    code = qr_lines(hint)
    wide, high = len(code[0][0][0]) + 6, len(code) + 5
    if board.size.width < wide or board.size.height < high:
        board.say(
            f"the code needs {wide} columns and {high} rows, and this terminal has "
            f"{board.size.width} and {board.size.height}; make it larger, or the font smaller"
        )
        return
    board.push_screen(Help(board.ink, "invite", code, [("y", "close")]))


def qr_lines(text: str) -> Block:
    """Return a QR code in half blocks, dark on light whatever the theme: two rows of modules a line."""
    import segno  # imported only when a QR code is shown

    matrix = [list(map(bool, row)) for row in segno.make(text, error="l", micro=False).matrix]
    size = len(matrix) + 2 * QUIET
    framed = [[False] * size for _ in range(size + size % 2)]
    for y, row in enumerate(matrix):
        framed[y + QUIET][QUIET : QUIET + len(row)] = row
    glyphs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    rows = zip(framed[::2], framed[1::2], strict=True)
    return [line(("".join(glyphs[pair] for pair in zip(*both, strict=True)), "qr")) for both in rows]


def open_demo(board: DashboardBase) -> None:
    """Leave this swarm for a bundled recording; measurements continue meanwhile."""
    if len(getattr(board.view(), "swarm", ())) > 1:
        board.say("d opens the demo on a swarm of one machine; swarmtop lab --recording opens it any time")
        return
    board.wants_demo = True
    board.finish(0)
