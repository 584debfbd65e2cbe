"""Run hosts behind routers until the awaited samples are stored, restart one router, and wait again.

`python nat_run.py FOLDER SCENARIO`, a process of its own because an ordinary user's lab enters a namespace. Prints one
JSON object: when the router was restarted, and what was compared with the truth. Where something awaited does not come
in time, the run ends all the same: the tests say what is missing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from swarm_lab.emulation.scenario import parse_scenario
from swarm_lab.lab import Lab
from swarm_lab.verification.report import stored_samples, verify_json, verify_run
from swarm_protocol.messages.samples import HopSample, LinkSample
from swarm_protocol.units import NS_PER_S

KINDS = {
    "cone-1": "endpoint-independent", "cone-2": "endpoint-independent", "hard-1": "symmetric", "hard-2": "symmetric",
}  # fmt: skip
PUNCHED = (("cone-1", "cone-2"), ("cone-2", "cone-1"))
RELAYED = tuple(pair for pair in itertools.permutations(KINDS, 2) if pair not in PUNCHED)
RESTARTED = "cone-1"
PORT_FOUND = "UDP as the collector sees it: a NAT that holes can be punched through"  # logged for each outside port
WINDOW_NS = 6 * NS_PER_S
WITHIN_S = 80.0  # for either half; nothing waits for it to pass
LOOK_S = 0.5


def links(database: Path) -> dict[tuple[str, str], list[LinkSample | HopSample]]:
    """(src, dst) → samples, in order of time."""
    found: dict[tuple[str, str], list[LinkSample | HopSample]] = defaultdict(list)
    for src, dst, sample in stored_samples(database):
        if isinstance(sample, LinkSample | HopSample):
            found[src, dst].append(sample)
    return found


def is_back(sample: object, restarted_ns: int) -> bool:
    """A window that began after the restart, over the hole, with most of its packets answered."""
    return (
        isinstance(sample, LinkSample)
        and sample.at_ns - WINDOW_NS > restarted_ns
        and sample.path == "punched"
        and 3 * sample.lost <= sample.sent
    )


def all_known(database: Path) -> bool:
    found = links(database)
    return all(
        any(isinstance(sample, LinkSample) and sample.path == "punched" for sample in found[pair])
        and any(isinstance(sample, HopSample) for sample in found[pair])
        for pair in PUNCHED
    ) and all(any(isinstance(s, LinkSample) and s.path == "relayed" for s in found[pair]) for pair in RELAYED)


def all_back(database: Path, log: Path, restarted_ns: int) -> bool:
    found = links(database)
    back = all(any(is_back(sample, restarted_ns) for sample in found[pair]) for pair in PUNCHED)
    return back and log.read_text().count(PORT_FOUND) >= 2


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process writes what is read
        await asyncio.sleep(LOOK_S)


async def play(folder: Path, text: str) -> dict[str, object]:
    scenario = parse_scenario(text)
    async with Lab(scenario, text, folder, lambda _: None) as lab:
        database, log = lab.database, lab.hosts[RESTARTED].folder / "probe.log"
        await until(lambda: all_known(database))
        await lab.play_timeline()
        restarted_ns = time.time_ns()
        await until(lambda: all_back(database, log, restarted_ns))
        await lab.close()
    rows = verify_run(scenario, lab.truth_file, database)
    return {"restarted_ns": restarted_ns, "rows": json.loads(verify_json(rows))}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(play(Path(sys.argv[1]), sys.argv[2]))))
