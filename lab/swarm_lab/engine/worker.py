"""Run one stage of the engine as a process: load layers, wait, compute, pass on, and record the times.

`python -m swarm_lab.engine.worker` with a JSON StageConfig on standard input. It prints `ready PORT` when the weights
are loaded. In a chain it passes its output to the next stage (or the sampled token to the driver), in a star back to
the sender.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from swarm_lab.engine import framing
from swarm_lab.engine.config import StageConfig, Visit
from swarm_lab.engine.framing import Body, Message
from swarm_lab.engine.stage import StageCompute

CONNECT_TIMEOUT_S = 20.0


class Wiring(msgspec.Struct, frozen=True):
    """The first message on a new connection: (host, port) of every stage after this one.

    Empty: answer on this connection. Each stage connects to the first and sends it the rest.
    """

    onward: tuple[tuple[str, int], ...] = ()


def serve(config: StageConfig, announce: Callable[[int], None]) -> None:
    """Serve one session after another until BYE; one connection at a time, as a pipeline has it.

    `announce` gets the port once the weights are there.
    """
    compute = StageCompute(config.shape, config.first, config.last, config.threads)
    visits: list[Visit] = []
    with socket.create_server((config.listen_host, 0)) as listener:
        announce(listener.getsockname()[1])
        keep_serving = True
        while keep_serving:
            with framing.accept(listener) as upstream:
                keep_serving = _session(compute, upstream, visits)
    Path(config.times_file).write_bytes(msgspec.json.encode(visits))


def _session(compute: StageCompute, upstream: socket.socket, visits: list[Visit]) -> bool:
    """Serve a session; return False after BYE, True if the other side only hung up."""
    try:
        wiring = msgspec.json.decode(framing.receive(upstream).data, type=Wiring)
        downstream = _connect_onward(wiring) or upstream
    except framing.WireError:
        return True
    try:
        while True:
            message = framing.receive(upstream)
            received_ns = time.monotonic_ns()
            if message.body in (Body.RESET, Body.BYE):
                compute.reset()
                if message.body is Body.RESET:
                    visits.clear()  # that was the warm-up
                if downstream is not upstream:
                    framing.send(downstream, message)
                if message.body is Body.BYE:
                    return False
                continue
            body, data = compute.step(message)
            computed_ns = time.monotonic_ns()
            framing.send(downstream, Message(body, message.batch, message.step, message.position, data))
            visits.append(Visit(message.step, received_ns, computed_ns))
    except framing.WireError:
        return True
    finally:
        if downstream is not upstream:
            downstream.close()


def _connect_onward(wiring: Wiring) -> socket.socket | None:
    if not wiring.onward:
        return None
    (host, port), *rest = wiring.onward
    connection = framing.connect(host, port, CONNECT_TIMEOUT_S)
    framing.send(connection, wiring_message(Wiring(tuple(rest))))
    return connection


def wiring_message(wiring: Wiring) -> Message:
    return Message(Body.WIRING, 1, 0, 0, msgspec.json.encode(wiring))


def main() -> int:
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=StageConfig)
    serve(config, lambda port: print(f"ready {port}", flush=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
