"""The first two minutes of a swarm of one machine: how others join, and what it looks like when they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmtop.dashboard.lines.styled import Block, clean, line, wrap
from swarmtop.dashboard.screens.overlays import Help

if TYPE_CHECKING:
    from swarmtop.dashboard.board import Dashboard

TEXT_WIDTH: Final = 74
QUIET: Final = 2  # modules around a QR code: the standard asks for four, readers of screens do with two
NOBODY: Final = (
    "Nobody else can join yet: this collector listens on this machine alone. Leave with q and start "
    "swarmtop --listen 0.0.0.0:9470, or run swarm-collector on a machine that the others reach."
)


def show_invite(board: Dashboard) -> None:
    """The line that volunteers paste, and the same as a QR code where the terminal draws blocks."""
    hint = board.options.join_hint
    if not hint:
        text: Block = list(wrap(NOBODY, TEXT_WIDTH))
    else:
        text = [line("On each GPU machine, paste:", ""), (), *wrap(clean(hint, 400), TEXT_WIDTH, "key"), ()]
        if not board.ink.ascii_only:
            text += qr_lines(hint)
    board.push_screen(Help(board.ink, "invite", text))


def qr_lines(text: str) -> Block:
    """A QR code in half blocks, dark on light whatever the theme: two rows of modules a line."""
    import segno  # only who looks at one pays for it

    matrix = [list(map(bool, row)) for row in segno.make(text, error="l", micro=False).matrix]
    size = len(matrix) + 2 * QUIET
    framed = [[False] * size for _ in range(size + size % 2)]
    for y, row in enumerate(matrix):
        framed[y + QUIET][QUIET : QUIET + len(row)] = row
    glyphs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    rows = zip(framed[::2], framed[1::2], strict=True)
    return [line(("".join(glyphs[pair] for pair in zip(*both, strict=True)), "qr")) for both in rows]


def open_demo(board: Dashboard) -> None:
    """Leaves this swarm for a bundled recording; what is measured goes on meanwhile."""
    if len(getattr(board.view(), "swarm", ())) > 1:
        board.say("d opens the demo on a swarm of one machine; swarmtop lab --recording opens it any time")
        return
    board.wants_demo = True
    board.finish(0)
