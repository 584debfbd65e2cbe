"""Run the hosts of a scenario in namespaces, with the lab's router between them and without probes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from swarm_lab.emulation import netns
from swarm_lab.emulation.emulator import own_address
from swarm_lab.emulation.scenario import parse_scenario


@contextlib.contextmanager
def routed(text: str, folder: Path) -> Iterator[list[netns.HostNet]]:
    """Yield the hosts in the order of the scenario `text`. `folder`/truth records what happened to each packet."""
    scenario = parse_scenario(text)
    (folder / "scenario.toml").write_text(text)
    nets = [netns.make_host(own_address(scenario, i), host.tcp) for i, host in enumerate(scenario.host)]
    tuns = [net.tun_fd for net in nets]
    command = [sys.executable, "-m", "swarm_lab.emulation.router", "--scenario", str(folder / "scenario.toml")]
    command += ["--truth", str(folder / "truth"), "--tuns", ",".join(map(str, tuns))]
    router = subprocess.Popen(command, pass_fds=tuns, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert router.stdin is not None
    assert router.stdout is not None
    router.stdout.readline()
    try:
        yield nets
    finally:
        router.stdin.close()
        router.wait(10)
        for net in nets:
            os.close(net.tun_fd)
            os.close(net.namespace_fd)
