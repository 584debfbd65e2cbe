"""Define the networks that engines are run on: three hosts, a, b and c, each path a few lines of a lab scenario.

Each network has an unshaped twin, the same hosts without delay, loss or a limit that matters. What an engine takes
there is its computation and its own software; what it takes more on the real one is the network.

Engines that send weights would do so for minutes on most of these. When the timeline is played, all lines are fast and
no packet is lost for `LOADING_S`; then all is as it was. Delays stay: a connection that has seen a shorter round trip
takes the later one for a queue and ends its slow start at 16 packets (HyStart, RFC 9406), which no real path does to
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm_lab.emulation.scenario import Scenario, parse_scenario

HOSTS: Final = ("a", "b", "c")
UNSHAPED_MBPS: Final = 10_000.0
DOWN_MBPS: Final = 100.0  # at least
_NOTHING: Final = "\njitter = { p95_ms = 0.0 }\nloss = { rate = 0.0 }"
LOADING_S: Final = 45.0
LOADING_MBPS: Final = 2_000.0


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    about: str
    up_mbps: float
    delay_ms: float  # one way, between any two hosts
    around_ms: tuple[float, float] | None = None  # instead: one way a → b → c → a, and the other way round
    jitter_p95_ms: float = 0.0
    loss: float = 0.0

    def scenario(self, running: str) -> tuple[Scenario, str]:
        """Return the scenario and its text; `running` is the placement that the hosts run."""
        lines = [f'title = "{self.name}"', f'running = "{running}"']
        access = (
            f"up_mbps = {self.up_mbps}, down_mbps = {max(self.up_mbps, DOWN_MBPS)}, delay_ms = 0.0, queue_ms = 200.0"
        )
        for host in HOSTS:
            lines += ["[[host]]", f'name = "{host}"', f"access = {{ {access} }}"]
        extra = f"\njitter = {{ p95_ms = {self.jitter_p95_ms} }}" if self.jitter_p95_ms else ""
        extra += f"\nloss = {{ rate = {self.loss} }}" if self.loss else ""
        lines += [f"[[path]]\n{way}\nboth = false\ndelay_ms = {delay_ms}{extra}" for way, delay_ms in self._ways()]
        shaped = [self._access(host, self.up_mbps) for host in HOSTS]
        lines += _events(0.0, [self._access(host, LOADING_MBPS) for host in HOSTS])
        lines += _events(
            0.0, [f'action = "path"\n{way}\ndelay_ms = {delay_ms}{_NOTHING}' for way, delay_ms in self._ways()]
        )
        lines += _events(LOADING_S, shaped)
        lines += _events(
            LOADING_S, [f'action = "path"\n{way}\ndelay_ms = {delay_ms}{extra}' for way, delay_ms in self._ways()]
        )
        text = "\n".join(lines) + "\n"
        return parse_scenario(text), text

    def _access(self, host: str, up_mbps: float) -> str:
        return f'action = "access"\nhost = "{host}"\nup_mbps = {up_mbps}\ndown_mbps = {max(up_mbps, DOWN_MBPS)}'

    def _ways(self) -> list[tuple[str, float]]:
        """Return every directed pair as TOML, with its delay."""
        onward, back = self.around_ms or (self.delay_ms, self.delay_ms)
        found = []
        for k, host in enumerate(HOSTS):
            after = HOSTS[(k + 1) % len(HOSTS)]
            for start, end, delay_ms in ((host, after, onward), (after, host, back)):
                found.append((f'from = "{start}"\nto = "{end}"', delay_ms))
        return found


def _events(at_s: float, bodies: list[str]) -> list[str]:
    return [f"[[event]]\nat_s = {at_s}\n{body}" for body in bodies]


def unshaped() -> tuple[Scenario, str]:
    """Return the twin without a network to speak of. No probes: nothing competes with the engine."""
    lines = ['title = "unshaped"']
    rates = f"up_mbps = {UNSHAPED_MBPS}, down_mbps = {UNSHAPED_MBPS}, delay_ms = 0.0"
    for host in HOSTS:
        lines += ["[[host]]", f'name = "{host}"', "probe = false", f"access = {{ {rates} }}"]
    text = "\n".join(lines) + "\n"
    return parse_scenario(text), text


_NETWORKS: Final = (
    Network("near", "1 ms one way, 1 Gbit/s", 1000.0, 1.0),
    Network("even", "25 ms one way, 100 Mbit/s", 100.0, 25.0),
    Network("asymmetric", "10 ms one way around, 60 ms the other way", 100.0, 35.0, around_ms=(10.0, 60.0)),
    Network("thin", "15 ms one way, 5 Mbit/s up", 5.0, 15.0),
    Network("lossy", "20 ms one way, 0.5 % loss", 100.0, 20.0, loss=0.005),
    Network("far", "75 ms one way, jitter, 20 Mbit/s up", 20.0, 75.0, jitter_p95_ms=6.0),
)
NETWORKS: Final[dict[str, Network]] = {network.name: network for network in _NETWORKS}
