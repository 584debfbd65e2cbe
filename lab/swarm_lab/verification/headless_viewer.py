"""View the swarm without a screen, so that probes measure as often as they do for a dashboard.

Started by `lab` on the collector's host as `python -m swarm_lab.verification.headless_viewer HOST:PORT [PLACEMENT]`;
the token comes in SWARMTOP_TOKEN.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from websockets.asyncio.client import ClientConnection, connect

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.viewer_messages import (
    VIEW_PATH,
    VIEW_PROTOCOL_VERSION,
    RunKept,
    RunningReport,
    Subscribe,
    decode_from_stream,
)
from swarm_protocol.trust.certificate_pins import client_context

RATE_HZ = 0.5  # the frames are not used; nobody else is on this network, so the certificate is not checked
REPORT_EVERY_S = 2.0  # until all the machines of the placement have joined


async def watch(address: str, token: str, running: str = "") -> None:
    """Watch. `running`: the placement to report as running, as soon as its machines are there."""
    async for connection in connect(f"wss://{address}{VIEW_PATH}", max_size=None, ssl=client_context()):
        await connection.send(encode(Subscribe(protocol=VIEW_PROTOCOL_VERSION, token=token, rate_hz=RATE_HZ)))
        reporter = asyncio.create_task(_report_running(connection, running)) if running else None
        async for data in connection:
            message = decode_from_stream(data if isinstance(data, bytes) else data.encode())
            if isinstance(message, RunKept) and not message.refused and reporter is not None:
                reporter.cancel()


async def _report_running(connection: ClientConnection, running: str) -> None:
    for number in itertools.count(1):
        report = Running(running, source="lab scenario")
        await connection.send(encode(RunningReport(request_id=number, running=report)))
        await asyncio.sleep(REPORT_EVERY_S)


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1], os.environ.get("SWARMTOP_TOKEN", ""), *sys.argv[2:3]))
