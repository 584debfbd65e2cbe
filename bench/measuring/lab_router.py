"""Measure the lab's router: its own delay error at 5,000 packets/s, and Mbit/s through one pair against bare loopback.

Needs root (or user namespaces); `--busy` keeps every core busy meanwhile, as probes and engines do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.support.harness import record
from bench.support.namespaces import routed
from swarm_lab.emulation import netns
from swarm_lab.emulation.truth import Truth

SCENARIO = """
title = "one pair"
[[host]]
name = "a"
access = { up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = 10.0, queue_ms = 200.0 }
[[host]]
name = "b"
access = { up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = 10.0, queue_ms = 200.0 }
"""
PACKETS_PER_S, SECONDS, SIZE = 5000, 5, 200
GOAL_ERROR_MS, GOAL_MBPS = 0.2, 100


def main() -> int:
    if why := netns.why_unavailable():
        print(f"skipped: {why}")
        return 0
    for busy in (False, True):
        with _hogs() if busy else contextlib.nullcontext():
            error_ms = _emulation_error_ms()
        p50, p99, p999 = np.quantile(error_ms, (0.5, 0.99, 0.999))
        label = f"{os.cpu_count()} busy cores" if busy else "idle machine"
        print(
            f"{label:<14} {len(error_ms)} packets at {PACKETS_PER_S}/s: delay error p50 {p50:.3f}  p99 {p99:.3f}  "
            f"p99.9 {p999:.3f} ms   goal p99 ≤ {GOAL_ERROR_MS}: {p99 / GOAL_ERROR_MS:.2f} of it"
        )
        record(f"{label}: delay error p99", float(p99), "ms")
    through, bare = _goodput_mbps()
    record("one TCP stream through the router", through, "Mbit/s", peer=("loopback", bare), more_is_better=True)
    print(
        f"one TCP stream through the router {through:.0f} Mbit/s (goal {GOAL_MBPS}: {through / GOAL_MBPS:.1f} of it), "
        f"bare loopback {bare:.0f}: ratio {through / bare:.3f}"
    )
    return 0


@contextlib.contextmanager
def _hogs() -> Iterator[None]:
    hogs = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for hog in hogs:
        hog.start()
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.join()


def _spin() -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


def _emulation_error_ms() -> np.ndarray:
    with tempfile.TemporaryDirectory() as name:
        with routed(SCENARIO, Path(name)) as nets:
            sender = multiprocessing.Process(target=_send, args=(nets[0], nets[1]))
            sender.start()
            sender.join()
        return Truth.read(Path(name) / "truth").emulation_error_ms()


def _send(here: netns.HostNet, there: netns.HostNet) -> None:
    netns.enter(there.namespace_fd)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((there.address, 9000))
    netns.enter(here.namespace_fd)
    with receiver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        started = time.monotonic()
        for k in range(PACKETS_PER_S * SECONDS):
            ahead = started + k / PACKETS_PER_S - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            sender.sendto(b"x" * (SIZE - 28), (there.address, 9000))
        time.sleep(0.2)  # the last ones are under way for 20 ms


def _goodput_mbps() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name, routed(SCENARIO, Path(name)) as nets:
        through = _stream_mbps(nets[1], nets[0])
    return through, _stream_mbps(None, None)


def _stream_mbps(server: netns.HostNet | None, client: netns.HostNet | None) -> float:
    ready, answer = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(server, answer))
    process.start()
    port = ready.recv()
    sender = multiprocessing.Process(target=_pour, args=(client, server.address if server else "127.0.0.1", port))
    sender.start()
    rate = ready.recv()
    sender.join()
    process.join()
    return float(rate)


def _serve(net: netns.HostNet | None, answer: multiprocessing.connection.Connection) -> None:
    if net:
        netns.enter(net.namespace_fd)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        answer.send(listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            total, measured_from = 0, 0.0
            began = time.monotonic()
            while data := connection.recv(1 << 20):
                now = time.monotonic()
                if now - began > 2:  # slow start is over
                    measured_from = measured_from or now
                    total += len(data)
            answer.send(total * 8 / (time.monotonic() - measured_from) / 1e6)


def _pour(net: netns.HostNet | None, address: str, port: int) -> None:
    if net:
        netns.enter(net.namespace_fd)
    with socket.create_connection((address, port)) as connection:
        end = time.monotonic() + 6
        block = b"\x00" * (1 << 18)
        while time.monotonic() < end:
            connection.sendall(block)


if __name__ == "__main__":
    raise SystemExit(main())
