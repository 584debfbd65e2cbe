"""The dashboard on a real pseudo-terminal: it starts, obeys keys and signals, and restores the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyte
import pytest

APP = Path(__file__).parent / "dash_pty_app.py"
WAIT_S = 30  # a loaded machine starts Python and Textual slowly; a healthy run waits for none of it
_PRIVATE = re.compile(rb"\x1b\[\?([\d;]+)([hl])")
# queries and the kitty protocol, which pyte would print as text
_UNKNOWN = re.compile(rb"\x1b\[[<>=?][\d;]*(?:\$p|u)|\x1b\[<u")
ALT_SCREEN, CURSOR, WRAP = 1049, 25, 7
LEFT_OFF = (1000, 1002, 1003, 1004, 1006, 1015, 1016, 2004, 2048, ALT_SCREEN)


class Terminal:
    """One process on a pseudo-terminal of its own, and what its screen shows."""

    def __init__(self, home: Path, words: Sequence[str] = (sys.executable, str(APP)), **environment: str) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.raw = b""
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLORTERM", "TEXTUAL")}
        env |= {"TERM": "xterm-256color", "SWARMTOP_HOME": str(home), "LC_ALL": "C.UTF-8"} | environment
        self.process = subprocess.Popen(
            words,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def read(self, wait_s: float = 0.1) -> None:
        if select.select([self.master], [], [], wait_s)[0]:
            data = os.read(self.master, 65536)
            self.raw += data
            self._stream.feed(_UNKNOWN.sub(b"", data))

    def until(self, text: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while text not in self.text():
            assert time.monotonic() < deadline, f"no {text!r} on the screen:\n{self.text()}"
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.text()}"
            self.read()

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """The exit code; reads on, so that a process that still writes is not held up."""
        deadline = time.monotonic() + WAIT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read()
        for _ in range(20):
            if not select.select([self.master], [], [], 0.05)[0]:
                break
            self.read()
        return self.process.returncode

    def modes(self) -> dict[int, bool]:
        """The last word about each private mode."""
        found: dict[int, bool] = {}
        for numbers, what in _PRIVATE.findall(self.raw):
            for number in numbers.split(b";"):
                found[int(number)] = what == b"h"
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)
        self.master = self.slave = -1


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    made = Terminal(home)
    try:
        made.until("kiln-berlin-07")
        yield made
    finally:
        made.close()


def assert_given_back(terminal: Terminal) -> None:
    modes = terminal.modes()
    assert [mode for mode in LEFT_OFF if modes.get(mode)] == []
    assert modes[CURSOR]
    assert modes[WRAP]
    assert terminal.raw.count(b"\x1b[>") == terminal.raw.count(b"\x1b[<u")  # kitty's stack is as it was
    assert without_pending(termios.tcgetattr(terminal.slave)) == without_pending(terminal.before)


def without_pending(modes: list[Any]) -> list[Any]:
    """Without PENDIN, which the kernel sets by itself where canonical mode comes back."""
    return [*modes[:3], modes[3] & ~getattr(termios, "PENDIN", 0), *modes[4:]]


def test_keys_change_the_screen_and_q_gives_the_terminal_back(terminal: Terminal) -> None:
    assert terminal.modes()[ALT_SCREEN]
    assert not terminal.modes()[CURSOR]
    terminal.until("1.54 tok/s")
    terminal.press("4")
    terminal.until("within 2.2% of the optimum")
    terminal.press("3")
    terminal.until("links: RTT p50 ms")
    fcntl.ioctl(terminal.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.until("terminal too small")
    terminal.press("q")
    assert terminal.ended() == 0
    assert_given_back(terminal)


def test_nothing_a_node_is_called_reaches_the_terminal_as_an_escape(terminal: Terminal) -> None:
    terminal.until("evil")
    terminal.press("2")
    terminal.until("node 1/8")
    terminal.press("5")
    terminal.until("EVENTS")
    terminal.press("q")
    assert terminal.ended() == 0
    assert b"\x1b]0;owned" not in terminal.raw
    ours = terminal.raw.replace(b"\x1b]22;default\x07", b"")  # Textual's pointer shape
    assert b"\x07" not in ours
    assert b"\x1b]" not in ours


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=lambda v: str(v)
)
def test_signal_ends_it_with_its_code_and_gives_the_terminal_back(
    terminal: Terminal, number: signal.Signals, code: int
) -> None:
    os.kill(terminal.process.pid, number)
    assert terminal.ended() == code
    assert_given_back(terminal)


def test_ctrl_c_ends_it_with_130(terminal: Terminal) -> None:
    terminal.press("\x03")
    assert terminal.ended() == 130
    assert_given_back(terminal)


def test_crash_ends_with_1_one_line_and_a_traceback_in_the_log(terminal: Terminal, home: Path) -> None:
    os.kill(terminal.process.pid, signal.SIGUSR1)
    assert terminal.ended() == 1
    assert_given_back(terminal)
    after = terminal.raw.rsplit(b"\x1b[?1049l", 1)[1].decode()
    reported = re.sub(r"\x1b\[[?<]?[\d;]*[a-zA-Z]", "", after).split()
    log = home / "swarmtop.log"
    assert " ".join(reported).startswith(
        "swarmtop: internal error (KeyError: 'a bug\\x1b[2J in the source'); please report"
    )
    assert "Traceback" not in after
    assert "KeyError" in log.read_text()
    assert "Traceback" in log.read_text()


def test_terminal_that_hangs_up_ends_it(home: Path) -> None:
    """The window is closed: the kernel sends SIGHUP, and there is nothing left to write to."""
    terminal = Terminal(home)
    try:
        terminal.until("kiln-berlin-07")
        os.close(terminal.master)
        os.close(terminal.slave)
        terminal.master = terminal.slave = -1
        assert terminal.process.wait(WAIT_S) == 129
    finally:
        terminal.close()


def test_leaving_does_not_wait_for_the_planner(home: Path) -> None:
    terminal = Terminal(home, DASH_HANG="1")
    try:
        terminal.until("planning…")
        terminal.press("q")
        assert terminal.ended() == 0
        assert_given_back(terminal)
    finally:
        terminal.close()


@pytest.mark.parametrize("leave", ["q", "\x03", signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=repr)
def test_leaving_in_the_middle_of_a_search_leaves_no_process(home: Path, leave: str | signal.Signals) -> None:
    terminal = Terminal(home, DASH_NODES="25")
    try:
        terminal.until("planning…")
        dashboard = psutil.Process(terminal.process.pid)
        while not (workers := dashboard.children()):
            terminal.read()
        if leave != signal.SIGKILL:
            workers[0].suspend()  # it has not answered, nor will it end by itself
        terminal.press(leave) if isinstance(leave, str) else os.kill(terminal.process.pid, leave)
        terminal.ended()
        _, left = psutil.wait_procs(workers, WAIT_S)
        assert left == []
    finally:
        terminal.close()


def test_no_color_writes_no_colour(home: Path) -> None:
    terminal = Terminal(home, NO_COLOR="1")
    try:
        terminal.until("kiln-berlin-07")
        terminal.until("1.54 tok/s")
        terminal.press("q")
        assert terminal.ended() == 0
        colours = re.findall(rb"\x1b\[[\d;]*\b(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])\b[\d;]*m", terminal.raw)
        assert colours == []
    finally:
        terminal.close()


@pytest.mark.skipif(shutil.which("bash") is None, reason="only a shell with job control can stop and continue it")
def test_ctrl_z_gives_the_shell_back_and_fg_the_dashboard(tmp_path: Path) -> None:
    """As a person does it: started from an interactive shell, put aside, taken up again, left."""
    quiet = tmp_path / "inputrc"
    quiet.write_text("set enable-bracketed-paste off\n")  # the shell's own, which would look like ours left on
    terminal = Terminal(tmp_path, ("bash", "--norc", "--noprofile", "-i"), PS1="$ ", INPUTRC=str(quiet))
    try:
        terminal.until("$ ")
        terminal.press(f"{sys.executable} {APP}\n")
        terminal.until("kiln-berlin-07")
        assert terminal.modes()[ALT_SCREEN]
        terminal.press("\x1a")
        terminal.until("Stopped")
        modes = terminal.modes()
        assert [mode for mode in LEFT_OFF if modes.get(mode)] == []
        assert modes[CURSOR]
        terminal.press("echo still $((20+3))\n")
        terminal.until("still 23")
        terminal.screen.reset()
        terminal.press("fg\n")
        terminal.until("kiln-berlin-07")
        assert terminal.modes()[ALT_SCREEN]
        terminal.press("3")
        terminal.until("links: RTT p50")
        terminal.press("q")
        terminal.until("$ ")
        terminal.press("exit $((40+2))\n")
        assert terminal.ended() == 42
    finally:
        terminal.close()
