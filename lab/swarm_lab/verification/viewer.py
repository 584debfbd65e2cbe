"""A viewer without a screen, so that probes measure as densely as they do under a dashboard.

Started by `lab` on the collector's host as `python -m swarm_lab.verification.viewer HOST:PORT`; the token comes in
SWARMTOP_TOKEN.
"""

from __future__ import annotations

import asyncio
import os
import sys

from websockets.asyncio.client import connect

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.viewer_messages import VIEW_PATH, VIEW_PROTOCOL_VERSION, Subscribe
from swarm_protocol.trust.certificate_pins import client_context

RATE_HZ = 0.5  # nobody reads what comes, and nobody else is on this wire: the certificate is not looked at


async def watch(address: str, token: str) -> None:
    async for connection in connect(f"wss://{address}{VIEW_PATH}", max_size=None, ssl=client_context()):
        await connection.send(encode(Subscribe(protocol=VIEW_PROTOCOL_VERSION, token=token, rate_hz=RATE_HZ)))
        async for _ in connection:
            pass


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1], os.environ.get("SWARMTOP_TOKEN", "")))
