"""Print what `swarm-probe` would measure, send and store, and how much of it per day (`--dry-run`).

Opens nothing. The collector decides the pace; the figures are for what swarm-collector requests of a swarm that nobody
watches (a test compares the two), and say so.
"""

from __future__ import annotations

from typing import Final, get_args

from swarm_probe.collector_client.join_url import collector_of
from swarm_probe.owner_limits.compute_budget import Allowance
from swarm_probe.spool import MAX_BYTES
from swarm_protocol.messages.samples import KINDS, ProbeSample
from swarm_protocol.text import safe

MEMBERS: Final = 8  # others in the example swarm
PACKETS_PER_S: Final = 0.31  # round trips begun here, to all members together
PACKET_BYTES: Final = 152 + 28  # authenticated STAMP with a follow-up, UDP and IPv4
WINDOW_PACKETS: Final = 16  # round trips in one sample
HOP_BYTES: Final = 8_000_000  # a day, in both directions
TRANSFER_BYTES: Final = 16 << 20  # a day, in both directions
HOST_EVERY_S: Final = 60.0
HEARTBEAT_BYTES: Final = 20_000  # a day; and the pings that keep the connection open
SAMPLE_BYTES: Final = 250  # one sample in its batch, on the wire
DAY_S: Final = 86_400


def daily_sent_bytes() -> dict[str, int]:
    """Return what this probe sends in a day, by kind; as much comes in, except samples."""
    samples = DAY_S * PACKETS_PER_S / WINDOW_PACKETS + DAY_S / HOST_EVERY_S
    return {
        "round trips": round(2 * PACKETS_PER_S * PACKET_BYTES * DAY_S),  # ours, and answers to the others'
        "hops": HOP_BYTES // 2,
        "transfers": TRANSFER_BYTES // 2,
        "samples": round(samples * SAMPLE_BYTES) + HEARTBEAT_BYTES,
    }


def dry_run_lines(
    url: str,
    name: str,
    state: str,
    *,
    token: bool,
    torch: str | None,
    daily_bytes: int | None,
    processor: Allowance,
    gpu: str,
) -> list[str]:
    limit = "your line carries" if daily_bytes is None else f"{daily_bytes / 1e6:g} MB"
    sent = daily_sent_bytes()
    per_day = ", ".join(f"{what} {size / 1e6:.0f}" for what, size in sent.items())
    layers = (
        f"decoder layers of the swarm's model with torch {safe(torch or '')} (random weights, a child process of low",
        "priority, at most half of the free memory, about 20 s when the model changes and every 6 h);",
        "products of random matrices, which the collector picks and checks, so that times are believed (every 6 h);",
    )
    rows = {
        "join": (f"{collector_of(url)} as {safe(name)}, {'with' if token else 'without'} a token",),
        "measure": (
            "round trips to the other members (UDP); the time of activation-sized messages (TCP);",
            "its upload now and then (at most 4 MiB, when the collector leases a slot);",
            "which address the collector sees (STUN), and where a router stands in between, a hole through it (UDP);",
            *(layers if torch else ("no decoder layers: torch is not installed (pip install 'swarmtop[torch]');",)),
            "processor, memory and GPU state",
        ),
        "compute": (
            f"processor: {processor} at most, all cores together (--compute-budget);",
            f"GPU: {gpu} at most (--gpu-budget), whatever the collector asks for",
        ),
        "listen": ("on one UDP and one TCP port that the system picks; only members of the swarm are answered",),
        "send": (
            "to the collector: a key that names this machine, its name, local addresses, processor, GPUs, memory,",
            "versions; and of each kind of sample these figures:",
            *(f"  {kind}: {', '.join(fields)}" for kind, fields in _sent_fields().items()),
        ),
        "store": (
            f"in {safe(state, 120)}:",
            f"the key, samples not yet committed (at most {MAX_BYTES >> 20} MiB), status",
        ),
        "a day": (
            f"about {sum(sent.values()) / 1e6:.0f} MB sent with {MEMBERS} other members, nobody watching ({per_day}),",
            "about as much received; more while somebody has the dashboard open: the collector sets the pace,",
            f"but never more than {limit} in 24 hours (--daily-bytes), both directions together, whoever asks",
        ),
    }
    head = "nothing was opened, written or sent; without --dry-run this probe would:"
    return [head, *(f"{key if not i else '':<9}{line}" for key, lines in rows.items() for i, line in enumerate(lines))]


def _sent_fields() -> dict[str, tuple[str, ...]]:
    kinds = get_args(ProbeSample)  # people who watch an engine send the others
    return {name: kind.__struct_fields__ for name, kind in KINDS.items() if kind in kinds}
