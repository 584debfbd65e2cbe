"""Claims about the children of `swarmtop`: they are ready when reported so, and never outlive it."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swarmtop.errors import CommandError
from swarmtop.local.child_process import Child
from swarmtop.local.embedded import EmbeddedProcesses, EmbeddedPrograms, free_port, home

# A program as `swarm-collector` is one: says where it listens, ends on SIGTERM. Its open fd tells that it lives.
PROGRAM = """
import signal, sys, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
print("ready, listening on 127.0.0.1:4711", flush=True)
ended.wait()
print("ended in order", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pretended.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_child_is_ready_when_it_says_where_it_listens_and_ends_in_order(program: Path) -> None:
    child = Child("pretended", [], program)
    assert child.listening_port() == 4711
    child.end()
    assert (program / "pretended.log").read_text() == "ready, listening on 127.0.0.1:4711\nended in order\n"


def test_a_child_that_fails_to_start_is_reported_in_its_own_words(program: Path) -> None:
    (program / "broken.py").write_text("import sys; sys.exit('port 9470 is in use; give --listen another')")
    with pytest.raises(CommandError) as caught:
        Child("broken", [], program).listening_port()
    assert str(caught.value) == (
        f"broken did not start: port 9470 is in use; give --listen another; its log is {program / 'broken.log'}"
    )


def test_a_child_that_dies_meanwhile_is_reported_at_the_end(program: Path) -> None:
    (program / "mortal.py").write_text("import sys; print('listening on 127.0.0.1:1', flush=True); sys.exit('no disk')")
    child = Child("mortal", [], program)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.died() == (f"mortal ended by itself (exit code 1): no disk; its log is {program / 'mortal.log'}")


def test_a_log_that_cannot_be_written_does_not_stop_a_child(program: Path) -> None:
    (program / "pretended.log").mkdir()
    child = Child("pretended", [], program)
    assert child.listening_port() == 4711
    child.end()


# Stands in for both programs: notes how it was called, and listens where it was told to, in words.
NOTING = """
import os, pathlib, signal, sys, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
called = [os.environ["SWARMTOP_TOKEN"], *sys.argv[1:]]
print("listening on 127.0.0.1:4711", flush=True)
pathlib.Path(os.environ["NOTES"], pathlib.Path(__file__).stem).write_text("\\n".join(called))
ended.wait()
"""


@pytest.fixture
def pretended_swarm(program: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in ("swarm_collector", "swarm_probe"):
        (program / f"{module}.py").write_text(NOTING)
        os.mkfifo(program / module)  # reading it waits until the program has noted how it was called
    monkeypatch.setenv("NOTES", str(program))
    return program


def unused_port() -> int:
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


def called(folder: Path, module: str) -> list[str]:
    return (folder / module).read_text().split("\n")


def test_without_a_collector_one_is_started_on_loopback_with_a_probe_that_joins_it(pretended_swarm: Path) -> None:
    port, state = unused_port(), pretended_swarm / "state"
    with home(state_dir=state, port=port) as found:
        assert dataclasses.replace(found, keep=None, programs=None) == EmbeddedProcesses(
            "127.0.0.1", 4711, "", None, state / "local"
        )
        local = state / "local"
        assert called(pretended_swarm, "swarm_collector") == [
            "", "--listen", f"127.0.0.1:{port}", "--store", f"sqlite:///{local / 'swarm.db'}", "--state", str(local)
        ]  # fmt: skip
        assert called(pretended_swarm, "swarm_probe") == [
            "",
            "--join",
            "127.0.0.1:4711",
            "--state",
            f"{local / 'probe'}",
        ]


def test_a_killed_collector_is_started_again_where_all_come_back_to_it(
    pretended_swarm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its screen said `trying again` for ever. A port of its own choice was given to the first one only."""
    state = pretended_swarm / "state"
    with home(listen=("127.0.0.1", 0), state_dir=state) as found:
        assert "127.0.0.1:0" in called(pretended_swarm, "swarm_collector")
        called(pretended_swarm, "swarm_probe")
        assert isinstance(found.programs, EmbeddedPrograms)
        killed = found.programs.collector.child
        os.kill(killed.pid, signal.SIGKILL)
        while not (told := found.programs.poll()):  # the test's own time limit ends it
            time.sleep(0.01)
        found.programs.poll()
        assert told == ("swarm-collector was killed (SIGKILL); starting it again",)
        assert "127.0.0.1:4711" in called(pretended_swarm, "swarm_collector")
        assert found.programs.collector.child.pid != killed.pid
        assert found.programs.trouble == ""
    assert capsys.readouterr().err == ""
    log = state / "local" / "swarm-collector.log"
    assert log.read_text() == "listening on 127.0.0.1:4711\n" * 2  # of both


def test_a_collector_that_cannot_come_back_is_told_and_not_kept(
    pretended_swarm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`the collector goes on` was said to who left."""
    mortal = "import sys; print('listening on 127.0.0.1:4711', flush=True); print('no disk'); sys.exit(2)"
    (pretended_swarm / "swarm_collector.py").write_text(mortal)
    log = pretended_swarm / "state" / "local" / "swarm-collector.log"
    with home(state_dir=pretended_swarm / "state", port=unused_port()) as found:
        called(pretended_swarm, "swarm_probe")
        assert found.programs is not None
        assert found.keep is not None
        while not (told := found.programs.poll()):  # the test's own time limit ends it
            time.sleep(0.01)
        kept = found.keep()
    died = f"swarm-collector ended by itself (exit code 2): no disk; its log is {log}"
    assert told == (f"the collector started here has ended: quit, and start swarmtop again ({died})",)
    assert kept == ""
    assert capsys.readouterr().err == f"swarmtop: {died}\n"


def test_a_default_port_in_use_is_left_alone(pretended_swarm: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        assert free_port(somebody.getsockname()[1]) == 0


def test_a_collector_for_others_has_a_token_that_no_process_list_shows(pretended_swarm: Path) -> None:
    with home(listen=("0.0.0.0", 0), state_dir=pretended_swarm / "state") as found:
        assert len(found.token) >= 16
        assert found.host == "127.0.0.1"
        assert found.join is not None
        for module in ("swarm_collector", "swarm_probe"):
            token, *arguments = called(pretended_swarm, module)
            assert token == found.token
            assert found.token not in arguments


def test_children_die_with_a_parent_that_is_killed(program: Path) -> None:
    """The child inherits the writing end of a pipe: it reads as ended only when parent and child are both gone."""
    reading, writing = os.pipe()
    parent_program = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'swarmtop.local.parent_watchdog', 'pretended']\n"
        "child = subprocess.Popen(command, stdin=subprocess.PIPE,\n"
        f"                         stdout=subprocess.PIPE, pass_fds=[{writing}], start_new_session=True)\n"
        "print(child.stdout.readline().decode(), flush=True)\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_program], stdout=subprocess.PIPE, pass_fds=[writing], cwd=program
    )
    os.close(writing)
    assert parent.stdout is not None
    assert b"listening" in parent.stdout.readline()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert os.read(reading, 1) == b""
    os.close(reading)
