"""Show overlays over a screen: a list to pick from, a line to type, the help. Each draws plain lines, never markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from textual.events import Click, Key, Paste, Resize
from textual.screen import ModalScreen
from textual.widget import Widget

from swarmtop.dashboard.lines.styled import BLANK, Block, Line, beside, box, clean, fit, line, line_width, pad, wrap
from swarmtop.dashboard.widgets.canvas import Canvas
from swarmtop.dashboard.widgets.strips import Ink

Pick = tuple[str, str, str]  # value, label, what it means


TWO_COLUMNS = 130  # from this width the help has two columns


class Overlay(ModalScreen[str | None]):
    """A framed canvas in the middle; Escape closes it with None."""

    AUTO_FOCUS = None
    DEFAULT_CSS = """
    Overlay { align: center middle; }
    Overlay Canvas { height: 10; width: 40; }
    """

    def __init__(self, ink: Ink) -> None:
        super().__init__()
        self._canvas = Canvas(ink)

    def compose(self) -> Iterable[Widget]:
        yield self._canvas

    def lines(self, width: int, rows: int) -> tuple[Block, int]:
        """Return the block and its width."""
        raise NotImplementedError

    def redraw(self) -> None:
        block, width = self.lines(*self.size)
        self._canvas.styles.width = width
        self._canvas.styles.height = len(block)
        self._canvas.show(block)

    def on_mount(self) -> None:
        self.redraw()

    def on_resize(self, event: Resize) -> None:
        self.redraw()


class Typed(Overlay):
    """An overlay with one line of typed text."""

    def __init__(self, ink: Ink, text: str = "") -> None:
        super().__init__(ink)
        self.text = text

    def edited(self) -> None:
        """Called when the text has changed."""

    def key(self, key: str) -> bool:
        """Handle a key that is not text; return whether it was used."""
        return False

    def on_key(self, event: Key) -> None:
        if event.key == "escape":
            event.stop()
            self.dismiss(None)
        elif event.key == "backspace":
            event.stop()
            self._edit(self.text[:-1])
        elif event.key in ("ctrl+u", "ctrl+w"):
            event.stop()
            self._edit("")
        elif self.key(event.key):
            event.stop()
        elif event.character and event.character.isprintable():
            event.stop()
            self._edit(self.text + event.character)

    def on_paste(self, event: Paste) -> None:
        event.stop()
        self._edit(self.text + "".join(c for c in event.text if c.isprintable()))

    def _edit(self, text: str) -> None:
        self.text = text[:300]
        self.edited()
        self.redraw()


class Picker(Typed):
    """Type to narrow, arrows to move, Enter to take."""

    def __init__(self, ink: Ink, title: str, picks: Sequence[Pick], current: str = "") -> None:
        super().__init__(ink)
        self._title = title
        self._picks = tuple(picks)
        self._current = current
        self._cursor = next((i for i, pick in enumerate(picks) if pick[0] == current), 0)
        self._top = 0
        self._rows = 1

    def matching(self) -> list[Pick]:
        words = self.text.casefold().split()
        found = [p for p in self._picks if all(w in f"{p[1]} {p[2]}".casefold() for w in words)]
        # a name that begins with what was typed comes before one that only contains it
        return sorted(found, key=lambda p: not (words and p[1].casefold().startswith(words[0])))

    def edited(self) -> None:
        self._cursor = 0

    def lines(self, width: int, rows: int) -> tuple[Block, int]:
        outer = min(width - 2, 88)
        found = self.matching()
        self._rows = max(1, min(len(self._picks), rows - 6))
        self._cursor = max(0, min(self._cursor, len(found) - 1))
        self._top = max(0, min(self._top, self._cursor, len(found) - self._rows))
        self._top = max(self._top, self._cursor - self._rows + 1)
        label = min(24, max((len(p[1]) for p in self._picks), default=8) + 2)
        body: Block = [line(("find: ", "dim"), clean(self.text), ("▏", "cursor-mark"))]
        for i, pick in list(enumerate(found))[self._top : self._top + self._rows]:
            body.append(self._line(pick, i == self._cursor, label))
        if not found:
            body.append(line((f"nothing matches {clean(self.text, 40)}", "dim")))
        body += [BLANK] * (self._rows + 1 - len(body))
        body.append(self._keys(len(found)))
        return box(self._title, body, outer, len(body) + 2), outer

    def _keys(self, found: int) -> Line:
        return line(("⏎", "key"), " take   ", ("Esc", "key"), " leave", (f"   {found} of {len(self._picks)}", "dim"))

    def _line(self, pick: Pick, selected: bool, label: int) -> Line:
        mark = "•" if pick[0] == self._current else " "
        return line(
            (">" if selected else " ", "cursor-mark"), f"{mark} ",
            (pad(clean(pick[1]), label), "strong" if selected else ""), (" " + clean(pick[2]), "dim"),
        )  # fmt: skip

    def key(self, key: str) -> bool:
        moves = {"up": -1, "down": 1, "pageup": -self._rows, "pagedown": self._rows, "home": -(1 << 30), "end": 1 << 30}
        if key in moves:
            self._cursor = max(0, self._cursor + moves[key])
            self.redraw()
            return True
        if key == "enter":
            found = self.matching()
            self.dismiss(found[self._cursor][0] if found else None)
            return True
        return False

    def on_canvas_clicked(self, message: Canvas.Clicked) -> None:
        position = message.y - 2 + self._top
        found = self.matching()
        if message.y >= 2 and position < len(found):
            self.dismiss(found[position][0])


class Chooser(Picker):
    """Like Picker, for any number: Space adds or removes one, Enter returns the names in the list's order."""

    def __init__(self, ink: Ink, title: str, picks: Sequence[Pick], chosen: Sequence[str]) -> None:
        super().__init__(ink, title, picks)
        self._chosen = set(chosen)

    def _line(self, pick: Pick, selected: bool, label: int) -> Line:
        mark = "x" if pick[0] in self._chosen else " "
        return line((">" if selected else " ", "cursor-mark"), f"[{mark}] ", (pad(clean(pick[1]), label), "strong"),
                    (" " + clean(pick[2]), "dim"))  # fmt: skip

    def _keys(self, found: int) -> Line:
        return line(("Space", "key"), " in or out   ", ("⏎", "key"), " take   ", ("Esc", "key"), " leave")

    def key(self, key: str) -> bool:
        if key == "space":
            found = self.matching()
            if found:
                self._chosen ^= {found[self._cursor][0]}
                self.redraw()
            return True
        if key == "enter":
            self.dismiss(" ".join(pick[0] for pick in self._picks if pick[0] in self._chosen))
            return True
        return super().key(key)

    def on_canvas_clicked(self, message: Canvas.Clicked) -> None:
        position = message.y - 2 + self._top
        found = self.matching()
        if message.y >= 2 and position < len(found):
            self._cursor = position
            self.key("space")


class Prompt(Typed):
    """A line to type, low on the screen, so that what it changes is seen above it.

    `changed` is called at each key and returns what is wrong, or "".
    """

    DEFAULT_CSS = "Prompt { align: center bottom; }"

    def __init__(self, ink: Ink, title: str, hint: str, text: str, changed: Callable[[str], str]) -> None:
        super().__init__(ink, text)
        self._title = title
        self._hint = hint
        self._changed = changed
        self._problem = ""

    def edited(self) -> None:
        self._problem = self._changed(self.text)

    def lines(self, width: int, rows: int) -> tuple[Block, int]:
        outer = min(width - 2, 76)
        shown = clean(self.text, 300)
        room = outer - 6
        body = [
            line(shown if len(shown) <= room else "…" + shown[1 - room :], ("▏", "cursor-mark")),
            line((self._problem, "error")) if self._problem else line((self._hint, "dim")),
        ]
        return box(self._title, body, outer, 4), outer

    def key(self, key: str) -> bool:
        if key == "enter":
            self._problem = self._changed(self.text)
            if self._problem:
                self.redraw()
            else:
                self.dismiss(self.text)
            return True
        return False


class Help(Overlay):
    """Lines to read; arrows scroll, the keys of `offers` return their name, any other closes."""

    def __init__(self, ink: Ink, title: str, text: Block, offers: Sequence[tuple[str, str]] = ()) -> None:
        """`offers`: key and what it does, as ("w", "save"); Escape and all others return None."""
        super().__init__(ink)
        self._title = title
        self._text = text
        self._offers = tuple(offers)
        self._top = 0
        self._rows = 1

    def lines(self, width: int, rows: int) -> tuple[Block, int]:
        outer = min(width - 2, 100 if not self._offers else 160)
        text = self._text
        if self._offers:  # commands, which are read in full
            text = [part for row in text for part in _wrapped(row, outer - 4)]
        elif width < TWO_COLUMNS:
            text = [part for row in text for part in _folded(row, outer - 4)]
        if width >= TWO_COLUMNS and not self._offers and len(text) > rows - 5:
            outer = width - 2
            text = [part for row in text for part in _folded(row, (outer - 6) // 2)]
            half, left = -(-len(text) // 2), (outer - 6) // 2
            text = beside([(text[:half], left), ([BLANK] * half, 2), (text[half:], outer - 6 - left)])
        self._rows = max(1, min(len(text), rows - 5))
        self._top = max(0, min(self._top, len(text) - self._rows))
        more = len(text) - self._top - self._rows
        body = [fit(row, outer - 4) for row in text[self._top : self._top + self._rows]]
        offers = [span for key, what in self._offers for span in ((key, "key"), (f" {what}   ", ""))]
        body.append(line(*offers, ("↑↓", "key"), f" scroll ({more} more)   " if more or self._top else " scroll   ",
                         ("Esc", "key"), " close"))  # fmt: skip
        return box(self._title, body, outer, len(body) + 2), outer

    def on_key(self, event: Key) -> None:
        event.stop()
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -self._rows, "pagedown": self._rows,
                 "home": -(1 << 30), "end": 1 << 30}  # fmt: skip
        if event.key in moves:
            self._top = max(0, self._top + moves[event.key])
            self.redraw()
        else:
            self.dismiss(next((what for key, what in self._offers if key == event.key), None))

    def on_click(self, event: Click) -> None:
        event.stop()
        self.dismiss(None)


def _folded(row: Line, width: int) -> Block:
    """Continue a line below if its last part does not fit: nothing of a help is cut."""
    if line_width(row) <= width or len(row) < 2:
        return [row]
    head, (text, role) = row[:-1], row[-1]
    indent = line_width(head)
    first, *rest = wrap(text.strip(), width - indent - 1, role) or [()]
    return [(*head, (" ", ""), *first), *(((" " * (indent + 1), ""), *more) for more in rest)]


def _wrapped(row: Line, width: int) -> Block:
    """Wrap a line of one role; one that fits keeps its spaces."""
    if line_width(row) <= width:
        return [row]
    return wrap("".join(text for text, _ in row), width, row[0][1]) if row else [row]
