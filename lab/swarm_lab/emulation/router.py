"""Run the router process: read every host's TUN, ask the emulator, write each packet when it is due.

Runs at real-time priority if allowed (the p99 error on a busy machine falls from milliseconds to 0.05 ms), and waits
with select(2), whose timeout is finer than epoll's millisecond, until `SPIN_NS` before the deadline. Started by `lab`
as `python -m swarm_lab.emulation.router`; ends when its standard input closes.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import sys
import time
from pathlib import Path

import numpy as np

from swarm_lab.emulation.cities import round_trips_ms
from swarm_lab.emulation.emulator import Emulator
from swarm_lab.emulation.scenario import Event, city_delays_ms, parse_scenario
from swarm_lab.emulation.truth import TruthWriter
from swarm_protocol.units import NS_PER_S

SPIN_NS = 60_000  # measured: sleeping up to 60 µs before the deadline and spinning the rest halves the p50 error
READ_BATCH = 32  # packets of one host before those of the others are read
REAL_TIME_PRIORITY = 50
NETWORK_ACTIONS = ("path", "access", "cut", "heal", "leave", "join", "rebind")


def route(emulator: Emulator, tuns: list[int], control: int, truth: TruthWriter, timeline: list[Event]) -> None:
    """Route until the other side closes `control`. `timeline` is ordered; its times count from the first byte on
    `control`."""
    mono_ns = time.monotonic_ns
    host_of = {fd: index for index, fd in enumerate(tuns)}
    watched = [*tuns, control]
    upcoming: list[tuple[int, Event]] = []
    while True:
        now_ns = mono_ns()
        while upcoming and upcoming[0][0] <= now_ns:
            emulator.apply(upcoming.pop(0)[1])
        for delivery in emulator.due(now_ns):
            taken = _write(tuns[delivery.host], delivery.packet)
            emulator.delivered(delivery, mono_ns(), taken=taken)
        now_ns = mono_ns()
        wait_ns = _wait_ns(now_ns, emulator.next_ns(), upcoming[0][0] if upcoming else None)
        if wait_ns > SPIN_NS and truth.wants_flush:
            truth.flush()
        timeout_s = max(wait_ns - SPIN_NS, 0) / NS_PER_S
        for fd in select.select(watched, (), (), timeout_s)[0]:
            if fd == control:
                if not os.read(control, 4096):
                    return
                upcoming = [(mono_ns() + round(event.at_s * NS_PER_S), event) for event in timeline]
                continue
            _read(emulator, host_of[fd], fd)


def _wait_ns(now_ns: int, *moments_ns: int | None) -> int:
    due = [moment for moment in moments_ns if moment is not None]
    return max(min(due) - now_ns, 0) if due else NS_PER_S


def _read(emulator: Emulator, host: int, fd: int) -> None:
    for _ in range(READ_BATCH):
        try:
            packet = os.read(fd, 65536)
        except BlockingIOError:
            return
        emulator.offer(time.monotonic_ns(), host, packet)


def _write(fd: int, packet: bytes) -> bool:
    try:
        os.write(fd, packet)
    except OSError:  # the host's interface is down or its queue is full: the packet is lost there, and counted so
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="swarm_lab.emulation.router")
    parser.add_argument("--scenario", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--tuns", required=True, help="file descriptors in the order of the hosts, 3,4,5")
    arguments = parser.parse_args()
    scenario = parse_scenario(arguments.scenario.read_text())
    delays_ms = city_delays_ms(scenario, round_trips_ms(scenario.matrix))
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY))
        priority = "real time"
    except (PermissionError, OSError):
        priority = "normal"
    wall_minus_mono_ns = time.time_ns() - time.monotonic_ns()
    with arguments.truth.open("wb") as file:
        truth = TruthWriter(file, wall_minus_mono_ns)
        emulator = Emulator(scenario, delays_ms, truth.add)
        timeline = sorted((e for e in scenario.event if e.action in NETWORK_ACTIONS), key=lambda e: e.at_s)
        tuns = [int(fd) for fd in arguments.tuns.split(",")]
        print(f"ready {priority}", flush=True)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection is a visible pause; the emulator makes no cycles
        try:
            route(emulator, tuns, sys.stdin.fileno(), truth, timeline)
        finally:
            truth.flush()
    return 0


if __name__ == "__main__":
    np.seterr(all="raise")
    raise SystemExit(main())
