"""Collect the collector's own condition for `/health` and `/metrics`."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from pathlib import Path

from swarm_collector.metrics import Metric
from swarm_collector.process import file_descriptors
from swarm_collector.state import SwarmState
from swarm_collector.transport.connection_limits import ConnectionLimiter
from swarm_protocol.snapshot.swarm import State


def health(swarm_state: SwarmState) -> dict[str, object]:
    intake, store_client = swarm_state.intake, swarm_state.store_client
    store = store_trouble(swarm_state)
    down = swarm_state.parts.down
    return {
        "status": "store" if store is not None else "parts" if down else "ok",
        "store": store,
        "last_commit_s": _rounded(store_client.since_commit_s),
        "queued": store_client.queued,
        "last_check_s": _rounded(store_client.checked_s),
        "check_failed": swarm_state.store_watch.unchecked,
        "down": list(down),
        "restarted": swarm_state.parts.troubles,
        "members": len(swarm_state.membership),
        "probes": swarm_state.probe_count,
        "viewers": swarm_state.viewer_count,
        "batches": intake.committed_batches,
        "samples": intake.committed_samples,
        "refused_batches": intake.refused_batches,
        "descriptors_left": file_descriptors.left(),  # null if the system does not report it
        "descriptors_limit": file_descriptors.limit(),
    }


def store_trouble(swarm_state: SwarmState) -> str | None:
    """Return why nothing can be stored, as a batch or a check of the store has shown."""
    condition = swarm_state.store_client.condition
    return swarm_state.intake.trouble or (str(condition) if condition is not None else None)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def metrics(swarm_state: SwarmState, connection_limiter: ConnectionLimiter) -> list[Metric]:
    intake, sizes = swarm_state.intake, swarm_state.store_client.sizes()
    opened = file_descriptors.in_use()
    states = Counter(int(state) for state in swarm_state.states())
    return [
        Metric("swarmtop_members", "gauge", "Nodes ever admitted, by state.",
               {state.name.lower(): states[state] for state in State if state is not State.UNKNOWN or states[state]},
               "state"),
        Metric("swarmtop_probes", "gauge", "Probes connected now.", swarm_state.probe_count),
        Metric("swarmtop_viewers", "gauge", "Dashboards connected now.", swarm_state.viewer_count),
        Metric("swarmtop_connections", "gauge", "TCP connections held.", len(connection_limiter)),
        Metric("swarmtop_connections_refused_total", "counter", "Connections cut before they were sessions, by reason.",
               dict(connection_limiter.refused), "reason"),
        Metric("swarmtop_connections_half_open", "gauge", "Of the connections held, those that are not sessions yet.",
               connection_limiter.half_open),
        Metric("swarmtop_stun_refused_total", "counter", "STUN requests over a rate, not answered.",
               swarm_state.stun.refused),
        Metric("swarmtop_sessions_ended_total", "counter", "Sessions that ended with a reason to log.",
               swarm_state.sessions_ended),
        Metric("swarmtop_batches_committed_total", "counter", "Batches acknowledged.", intake.committed_batches),
        Metric("swarmtop_samples_committed_total", "counter", "Samples in them.", intake.committed_samples),
        Metric("swarmtop_batches_refused_total", "counter", "Batches left to the probes' spools.",
               intake.refused_batches),
        Metric("swarmtop_commit_seconds", "histogram", "From a checked batch to its commit.", intake.commit_s),
        Metric("swarmtop_store_trouble", "gauge", "1 while nothing can be stored.",
               int(store_trouble(swarm_state) is not None)),
        Metric("swarmtop_part_ends_total", "counter", "Ends of tasks and threads that are meant to last.",
               sum(swarm_state.parts.ends.values())),
        Metric("swarmtop_store_queued_samples", "gauge", "Samples that wait for the writer.",
               swarm_state.store_client.queued),
        Metric("swarmtop_store_bytes", "gauge", "Size of the store on the disk, by part.", sizes, "part"),
        Metric("swarmtop_leases_active", "gauge", "Transfers under way.", len(swarm_state.dispatcher.leases.active)),
        *((Metric("process_open_fds", "gauge", "File descriptors open.", opened),) if opened is not None else ()),
        Metric("process_max_fds", "gauge", "File descriptors that may be open.", file_descriptors.limit()),
        Metric("process_cpu_seconds_total", "counter", "CPU time of the collector.", time.process_time()),
        Metric("process_resident_memory_bytes", "gauge", "Memory of the collector.", resident_bytes()),
        Metric("process_start_time_seconds", "gauge", "When it started, since 1970.", swarm_state.started_ns / 1e9),
    ]  # fmt: skip


def resident_bytes() -> int:
    """Return resident memory now, on Linux; the highest elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()
