"""What a computing process takes, with all that it has started, as psutil has it; and that it has ended."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from swarm_probe.operating_system import processes
from swarm_probe.operating_system.processes import Process

WORKING = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "sum(range(10**7)); print('done', flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
sum(range(10**7))
print("done", flush=True)
input()
child.communicate(b"\\n")
"""


def test_memory_and_time_of_a_process_and_its_children_are_those_of_psutil() -> None:
    working = subprocess.Popen([sys.executable, "-c", WORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert working.stdout is not None
        working.stdout.readline()
        found, by_psutil = processes.process(working.pid), psutil.Process(working.pid)
        info = by_psutil.memory_info()
        assert processes.own_bytes(found) == pytest.approx(info.rss - getattr(info, "shared", 0), rel=0.2)
        times = [each.cpu_times() for each in (by_psutil, *by_psutil.children(recursive=True))]
        assert len(times) == 2
        assert min(each.user for each in times) > 0
        assert processes.tree_s(found) == pytest.approx(sum(each.user + each.system for each in times), abs=0.05)
        with pytest.raises(ProcessLookupError):  # another process with that number
            processes.tree_s(Process(working.pid, found.started - 1))
    finally:
        working.communicate(b"\n")
    for read in (processes.own_bytes, processes.tree_s):
        with pytest.raises(ProcessLookupError):
            read(found)
    with pytest.raises(ProcessLookupError):
        processes.process(working.pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are in brackets in /proc")
def test_a_name_may_contain_brackets_and_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"77 (a) S 1 (b) R 42 " + b" ".join(str(figure).encode() for figure in range(5, 60))
    monkeypatch.setattr(processes, "small_file", lambda path: said)
    assert processes.process(77) == Process(77, 22)
