"""Measure what other programs take from a timing: time spent waiting for a processor, and preemptions.

The child that times layers has a low priority (nice), so on a busy machine it mostly waits; a layer that takes 9 ms
then reads 60 to 250. The machine's speed is the time without the waiting; the load shows in the host's CPU figure.
Linux reports both; elsewhere nothing counts as taken.

What a quota takes is not subtracted: so much processor time takes at least so long (`cpu_quota`).
"""

from __future__ import annotations

import functools
import os
import resource
import time
from pathlib import Path
from typing import Final

import msgspec

from swarm_probe.operating_system.cpu_quota import Quota, quota_of_this_process
from swarm_protocol.units import NS_PER_S

_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")  # on the processor, waiting for it (ns), turns: proc(5)


class Preemption(msgspec.Struct, frozen=True):
    """The time that other programs took from the thread that created this."""

    schedstat_fd: int | None
    quota: Quota | None  # None: no limit

    @classmethod
    def of_this_thread(cls) -> Preemption:
        try:
            found = cls(os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC), quota_of_this_process())
            found.waited_s()
        except (OSError, ValueError, IndexError):  # not Linux, a kernel without CONFIG_SCHED_INFO, or a sandbox's file
            return cls(None, quota_of_this_process())
        return found

    def waited_s(self) -> float:
        """Return the seconds this thread was ready to run and did not. Reading takes about a microsecond."""
        if self.schedstat_fd is None:
            return 0.0
        return int(os.pread(self.schedstat_fd, 64, 0).split()[1]) / NS_PER_S

    def preemptions(self) -> int:
        """Return how often any thread of this process was stopped for another program."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

    def used_s(self) -> float:
        """Return the processor time of this process so far, all threads."""
        return time.process_time()

    def least_s(self, used_s: float) -> float:
        """Return the least duration of so much processor time."""
        return self.quota.least_s(used_s) if self.quota is not None else 0.0


@functools.cache  # everything is timed in the child's one thread
def thread_preemption() -> Preemption:
    return Preemption.of_this_thread()
