"""A real probe and a collector that sends as much as the line carries: the probe hangs up, says so, and stays away."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import COLLECTOR_HEADER, NONCE_HEADER, Welcome

pytestmark = pytest.mark.timeout(60)
WELCOME = Welcome(node_id="00112233445566aa", name="v", committed_seq=0, heartbeat_ms=1e4, observed_host="127.0.0.1")


def test_a_flood_ends_after_a_few_megabytes_and_is_in_the_status_over_restarts(tmp_path: Path) -> None:
    """2.34 GB in 20 s came through "50 MB a day" before."""
    pushed, connections = 0, 0

    def flood(ws: ServerConnection) -> None:
        nonlocal pushed, connections
        connections += 1
        with contextlib.suppress(ConnectionClosed):
            ws.recv()
            ws.send(encode(WELCOME))
            while True:
                ws.send(b"x" * 500_000)
                pushed += 500_000

    def introduce(ws: ServerConnection, request: Request, response: Response) -> None:
        response.headers.update({NONCE_HEADER: bytes(32).hex(), COLLECTOR_HEADER: bytes(16).hex()})

    with serve(flood, "127.0.0.1", 0, compression=None, process_response=introduce) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"127.0.0.1:{server.socket.getsockname()[1]}"
        state = tmp_path / "state"
        command = [sys.executable, "-m", "swarm_probe", "--join", where, "--state", str(state)]
        for _ in range(2):
            with (tmp_path / "probe.log").open("wb") as log:
                probe = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                shown = _status_with(state, "hung up on")
            finally:
                probe.terminate()
                assert probe.wait(20) == 0
            assert (
                f"hung up on {where}: it sent more than 64 KiB a second, after 4 MiB at once; tries again at" in shown
            )
        server.shutdown()
    booked = TrafficBudget.open(None, state, time.time_ns()).used_bytes(time.time_ns())
    print(f"pushed {pushed / 1e6:.1f} MB, booked {booked / 1e6:.1f} MB, {connections} connection")
    assert connections == 1  # the second start did not even call
    assert 4 << 20 <= booked <= 12 << 20


def _status_with(state: Path, part: str) -> str:
    until = time.monotonic() + 25
    while time.monotonic() < until:
        asked = [sys.executable, "-m", "swarm_probe", "status", "--state", str(state)]
        shown = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        if part in shown:
            return shown
    raise AssertionError(shown)
