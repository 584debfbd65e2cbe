"""Two machines with two network cards, one of them a direct cable: the card that carries a path is chosen and reported.

Needs root on Linux with iproute2; elsewhere this is skipped with the reason shown.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_protocol.messages.samples import LinkSample
from swarm_storage.store import open_store

WITHIN_S = 60.0
_numbers = itertools.count()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def may_make_namespaces() -> bool:
    if not shutil.which("ip") or os.geteuid() != 0:
        return False
    name = f"cable-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        ip("netns", "del", name)
    return made


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not may_make_namespaces(), reason="needs root, ip(8) and network namespaces"),
]


@pytest.fixture
def machines() -> Iterator[tuple[str, str]]:
    """Two namespaces: `lan0` with private addresses, `cable0` with link-local ones."""
    number = f"{os.getpid()}-{next(_numbers)}"
    one, other = f"cable-a-{number}", f"cable-b-{number}"
    with contextlib.ExitStack() as stack:
        for each in (one, other):
            ip("netns", "add", each)
            stack.callback(ip, "netns", "del", each)
            ip("-n", each, "link", "set", "lo", "up")
        for card, addresses in (
            ("lan0", ("10.77.0.1/24", "10.77.0.2/24")),
            ("cable0", ("169.254.7.1/16", "169.254.7.2/16")),
        ):
            ip("link", "add", card, "netns", one, "type", "veth", "peer", "name", card, "netns", other)
            for each, address in zip((one, other), addresses, strict=True):
                ip("-n", each, "addr", "add", address, "dev", card)
                ip("-n", each, "link", "set", card, "up")
        yield one, other


@contextlib.contextmanager
def swarm(machines: tuple[str, str], folder: Path, join: str, *options: str) -> Iterator[Path]:
    """A collector and a probe on the first machine, a probe on the other; the database."""
    with contextlib.ExitStack() as stack:

        def start(machine: str, module: str, *words: str) -> None:
            command = ["ip", "netns", "exec", machine, sys.executable, "-m", module, *words]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)

        ready = folder / "ready"
        start(
            machines[0],
            "swarm_collector",
            "--listen",
            "0.0.0.0:9470",
            "--state",
            str(folder),
            "--ready-file",
            str(ready),
        )
        until(ready.exists)
        for machine, name, where in ((machines[0], "a", "127.0.0.1:9470"), (machines[1], "b", join)):
            words = ["--join", where, "--name", name, "--state", str(folder / name), *options]
            start(machine, "swarm_probe", *words)
        yield folder / "swarm.db"


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def links(db: Path) -> dict[str, LinkSample]:
    """Return the newest round trips of each node, or the reason why there are none."""
    found = {}
    with contextlib.closing(open_store(f"sqlite:///{db}", read_only=True)) as store:
        names = {row.node_id: row.name for row in store.reader.nodes()}
        for node_id, sample in store.reader.samples(0, 2**62, ("link",)):
            assert isinstance(sample, LinkSample)
            if sample.path == "direct" or sample.why == "link-local":
                found[names[node_id]] = sample
    return found


def test_a_cable_is_measured_and_told(machines: tuple[str, str], tmp_path: Path) -> None:
    """The collector is at the other end of it, and the probes keep to it though there is a LAN."""
    with swarm(machines, tmp_path, "169.254.7.1:9470", "--interface", "cable0") as db:
        until(lambda: len(links(db)) == 2)
        found = links(db)
    assert {name: link.interface for name, link in found.items()} == {"a": "cable0", "b": "cable0"}
    assert all(link.rtt_p50_ms is not None and link.address for link in found.values())
