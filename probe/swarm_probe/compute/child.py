"""Watch the resources of the computing process, and stop it if it exceeds its limits."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from typing import Final

from swarm_probe.machine.host import memory
from swarm_probe.operating_system import processes
from swarm_probe.operating_system.readings import Readings, reason
from swarm_probe.owner_limits.compute_budget import ComputeBudget
from swarm_protocol.units import BYTES_PER_GIB

FREE_SHARE: Final = 0.5  # of the memory that is free when the child starts


class Watched:
    """One child process, from before its start to after its end."""

    def __init__(self, budget: ComputeBudget, wall_ns: Callable[[], int], *, on_gpu: bool) -> None:
        self.on_gpu = on_gpu  # it has a GPU for itself now
        self._budget = budget
        self._wall_ns = wall_ns
        self._children_s = _children_s()
        self._booked_s = 0.0

    async def watch(self, pid: int, limit_bytes: int, every_s: float) -> str:
        """Wait until the process has to end, and return why; it may never have to."""
        loop = asyncio.get_running_loop()
        try:
            process, looked = processes.process(pid), loop.time()
            while True:
                own = processes.own_bytes(process)
                if own > limit_bytes:
                    return (
                        f"ended because it took {own / BYTES_PER_GIB:.2f} GiB of memory; "
                        f"{limit_bytes / BYTES_PER_GIB:.2f} may be used (half of what is free)"
                    )
                now = loop.time()
                self._book(processes.tree_s(process), now - looked if self.on_gpu else 0.0)
                looked = now
                if (why := self._budget.why_end(self._wall_ns())) is not None:
                    return f"ended: {why}"
                await asyncio.sleep(every_s)
        except ProcessLookupError:  # it has ended
            return await asyncio.Future[str]()
        except Exception as error:  # noqa: BLE001 - odd files and psutil raise anything
            return f"ended because its memory cannot be watched ({reason(error)})"

    def ended(self) -> None:
        """Account for what the last check missed, once the process has been waited for, and write the record."""
        self._book(_children_s() - self._children_s, 0.0)
        self._budget.write(self._wall_ns())

    def _book(self, processor_s: float, gpu_s: float) -> None:
        more_s = max(0.0, processor_s - self._booked_s)
        self._booked_s += more_s
        self._budget.spend(more_s, gpu_s, self._wall_ns())


def free_bytes() -> tuple[int | None, str]:
    """Return the memory that is free now; or None and why that is not known. A system without /proc/meminfo still
    reports how much is entirely unused, which is less."""
    readings = Readings()
    if (found := readings.ask("memory", memory)) is not None:
        return found.free_bytes, ""
    unused = readings.ask("unused", lambda: os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return (unused if unused is not None and unused > 0 else None), readings.reasons["memory"]


def why_unwatched() -> str | None:
    """Return why no process could be watched here, in one line."""
    readings = Readings()
    if readings.ask("process", _watched_now) is None:
        return (
            f"the memory of a timing process cannot be watched here ({readings.reasons['process']}), so none is started"
        )
    return None


def _watched_now() -> float:
    process = processes.process(os.getpid())
    return processes.own_bytes(process) + processes.tree_s(process)


def _children_s() -> float:
    """Return the processor time of all children of this process that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
