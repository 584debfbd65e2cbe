"""Read the memory and processor time of a process that this one has started; on Linux from /proc, elsewhere by psutil.

Functions raise ProcessLookupError if it has ended, and whatever odd files and psutil make them raise.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from swarm_probe.operating_system.small_files import small_file
from swarm_probe.operating_system.system import LINUX

_PARENT, _USER, _SYSTEM, _STARTED = 1, 11, 12, 19  # of the figures after the name in /proc/PID/stat (proc_pid_stat(5))
_RESIDENT, _SHARED = 1, 2  # pages, in /proc/PID/statm


class Process(msgspec.Struct, frozen=True):
    """A process, distinguished from a later one with its number."""

    pid: int
    started: float  # in a unit of the system's


def process(pid: int) -> Process:
    if LINUX:
        return Process(pid, _figures(pid)[_STARTED])
    import psutil  # late: Linux needs none

    try:
        return Process(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(str(error)) from error


def own_bytes(of: Process) -> int:
    """Return its resident memory, without libraries that are only mapped."""
    if LINUX:
        try:
            pages = small_file(f"/proc/{of.pid}/statm").split()
        except FileNotFoundError as error:
            raise ProcessLookupError(f"no process {of.pid}") from error
        return (int(pages[_RESIDENT]) - int(pages[_SHARED])) * os.sysconf("SC_PAGE_SIZE")
    import psutil  # late: as above

    try:
        info = psutil.Process(of.pid).memory_info()
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(str(error)) from error
    return int(info.rss - getattr(info, "shared", 0))


def tree_s(of: Process) -> float:
    """Return the processor time of a process and of those it has started."""
    if LINUX:
        return _proc_tree_s(of)
    import psutil  # late: as above

    total = 0.0
    try:
        first = psutil.Process(of.pid)
        for each in (first, *first.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                if each is first:
                    raise
                continue
            total += times.user + times.system
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(str(error)) from error
    return total


def _proc_tree_s(of: Process) -> float:
    all_of_them: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                all_of_them[int(name)] = _figures(int(name))
            except (OSError, IndexError, ValueError):  # it has ended meanwhile, or is hidden
                continue
    if of.pid not in all_of_them or all_of_them[of.pid][_STARTED] != of.started:
        raise ProcessLookupError(f"no process {of.pid}")
    tree, before = {of.pid}, 0
    while len(tree) > before:
        before = len(tree)
        tree |= {pid for pid, figures in all_of_them.items() if figures[_PARENT] in tree}
    return sum(all_of_them[pid][_USER] + all_of_them[pid][_SYSTEM] for pid in tree) / _TICKS


def _figures(pid: int) -> list[int]:
    try:
        said = small_file(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    # the name, in brackets, may contain anything; then comes the state, a letter
    return [0, *map(int, said[said.rindex(b")") + 4 :].split()[:_STARTED])]


_TICKS: Final = os.sysconf("SC_CLK_TCK")
