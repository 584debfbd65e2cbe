"""What the processes of the footprint benchmark run, as Python for `-c`."""

from __future__ import annotations

from typing import Final

UNWATCHED_S: Final = 20  # after the last viewer a collector calls itself unwatched; ten minutes otherwise
UNWATCHED: Final = (
    "import swarm_collector.scheduling.dispatcher as c, swarm_collector.state as h\n"
    f"c.UNWATCHED_AFTER_NS = h.UNWATCHED_AFTER_NS = {UNWATCHED_S} * 10**9\n"
    "import swarm_collector.cli as cli\n"
    "cli.is_loopback = lambda host: False"  # so that it makes a certificate
)
PROBE: Final = "from swarm_probe.cli import main\nimport sys\nsys.exit(main())"
NO_TORCH: Final = "import sys\nsys.modules['torch'] = None"  # what find_spec and import take for "not installed"
IMPORTS: Final = (
    "import swarm_probe.cli, swarm_probe.arguments, swarm_probe.daemon, swarm_probe.measure.paths\n"
    "import websockets.asyncio.client"
)
IMPORTS_OF_QUIC: Final = (
    "import swarm_probe.light_imports as light\n"
    "light.asyncio_without_tls()\n"
    "light.aioquic_without_verification()\n"
    "import swarm_probe.streams.quic_endpoint"
)
# the least a member could be: Python, asyncio, one WebSocket, a heartbeat; `ssl` is loaded by asyncio in any case
FLOOR: Final = """
import asyncio, ssl, sys
from websockets.asyncio.client import connect
async def main():
    tls = None
    if sys.argv[1].startswith("wss:"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with connect(sys.argv[1], compression=None, ssl=tls) as ws:
        while True:
            await ws.send(b"alive")
            await asyncio.sleep(5)
asyncio.run(main())
"""


def only_by_quic(*names: str) -> str:
    """Return what a probe runs first so that its hops to these members go over QUIC, as through a punched hole. The
    daemon's modules are imported when it would import them, so that its memory is that of any probe with QUIC."""
    return f"""
import swarm_probe.cli as cli
run = cli._run
def run_by_quic(config):
    from swarm_probe.measure.dialer import Dialer
    from swarm_probe.streams.channel import NoAnswer
    dial = Dialer.dial
    async def by_quic(self, member, purpose, size):
        if member.peer.name not in {names!r}:
            return await dial(self, member, purpose, size)
        rtt = member.rtt
        if rtt is None or rtt.session.host is None:
            raise NoAnswer("no packet has come back yet")
        return await self._quic_port().dial(rtt.targets[rtt.session.host], member.caller, purpose, size), "quic"
    Dialer.dial = by_quic
    return run(config)
cli._run = run_by_quic
"""
