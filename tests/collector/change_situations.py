"""Play a situation from tests/scenarios/changes: packets on links, windows as probes report them, reported changes."""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from swarm_collector.changes.detected_change import Found, describe
from swarm_collector.changes.detector import ChangeDetector
from swarm_protocol.messages.samples import (
    ComputeSample,
    EventSample,
    HostSample,
    LinkSample,
    Sample,
    UplinkSample,
)
from swarm_protocol.units import NS_PER_S

SCENARIOS = Path(__file__).parent.parent / "scenarios" / "changes"
T0 = 1_790_000_000 * NS_PER_S


class Step(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """From `at_s` on; a link's figures need `node` and `peer` ("*": every peer, both ways), a node's need `node`."""

    at_s: float
    node: str
    peer: str = "*"
    rtt_ms: float | None = None
    jitter_ms: float | None = None
    loss: float | None = None
    loaded: bool | None = None
    up_mbps: float | None = None
    layer_ms: float | None = None
    throttled: bool | None = None
    away: bool | None = None


class Told(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    kind: str
    node: str  # "": the swarm
    text: str
    after_s: float
    before_s: float


class Situation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    about: str
    nodes: Annotated[list[str], Meta(min_length=2)]
    seconds: float
    window_s: float = 8.0
    packets: int = 16
    rtt_ms: float = 20.7
    jitter_ms: float = 0.2
    loss: float = 0.0
    up_mbps: float = 0.0  # 0: nothing is uploaded
    upload_every_s: float = 120.0
    layer_ms: float = 0.0  # 0: nothing is timed
    layer_every_s: float = 60.0
    host_every_s: float = 0.0  # 0: no readings
    step: list[Step] = []
    told: list[Told] = []


def situations() -> list[Path]:
    return sorted(SCENARIOS.glob("*.toml"))


def load(path: Path) -> Situation:
    return msgspec.convert(tomllib.loads(path.read_text()), Situation)


def play(situation: Situation, seed: int) -> list[tuple[Found, str]]:
    """Return what the detector reports, with its text, checked every second."""
    detector = ChangeDetector()
    found: list[tuple[Found, str]] = []
    second = 0
    for node, sample in samples(situation, seed):
        while T0 + second * NS_PER_S <= sample.at_ns:
            found += [(each, describe(each, str)) for each in detector.advance(T0 + second * NS_PER_S)]
            second += 1
        if isinstance(sample, EventSample):
            detector.away(node)
        else:
            detector.add(node, sample)
    found += [(each, describe(each, str)) for each in detector.advance(T0 + second * NS_PER_S)]
    return found


def samples(situation: Situation, seed: int) -> list[tuple[str, Sample]]:
    rng = random.Random(seed)
    made = [*_windows(situation, rng), *_of_nodes(situation, rng)]
    return sorted(made, key=lambda each: each[1].at_ns)


def _figure(situation: Situation, name: str, at_s: float, node: str, peer: str = "") -> float:
    value = getattr(situation, name, 0.0)
    for step in situation.step:
        here = (step.node == node and step.peer in ("*", peer)) or (step.node == peer and step.peer in ("*", node))
        if step.at_s <= at_s and here and (said := getattr(step, name)) is not None:
            value = said
    return float(value)


def _windows(situation: Situation, rng: random.Random) -> Iterator[tuple[str, Sample]]:
    phase_s = {node: rng.uniform(0, situation.window_s) for node in situation.nodes}
    for src in situation.nodes:
        for dst in situation.nodes:
            if src == dst:
                continue
            end_s = phase_s[src] + situation.window_s
            while end_s < situation.seconds:
                if not _figure(situation, "away", end_s, src):
                    yield src, _window(situation, rng, src, dst, end_s)
                end_s += situation.window_s


def _window(situation: Situation, rng: random.Random, src: str, dst: str, end_s: float) -> LinkSample:
    gap_s = situation.window_s / situation.packets
    trips = []
    for k in range(situation.packets):
        at_s = end_s - situation.window_s + (k + rng.random()) * gap_s

        def now(name: str, at_s: float = at_s) -> float:
            return _figure(situation, name, at_s, src, dst)

        if rng.random() >= now("loss") and not now("away"):
            trips.append(now("rtt_ms") + rng.expovariate(1.0) * now("jitter_ms"))
    trips.sort()
    least, p50, p95 = [_quantile(trips, q) for q in (0.0, 0.5, 0.95)]
    return LinkSample(
        at_ns=T0 + round(end_s * NS_PER_S), peer=dst, path="direct", sent=situation.packets,
        lost=situation.packets - len(trips), rtt_min_ms=least, rtt_p50_ms=p50, rtt_p95_ms=p95, rtt_p99_ms=p95,
        pdv_ms=None if p95 is None or least is None else p95 - least,
        loaded=any(_figure(situation, "loaded", end_s - back_s, src, dst) for back_s in (0, situation.window_s)),
    )  # fmt: skip


def _quantile(ordered: list[float], q: float) -> float | None:
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else None


def _of_nodes(situation: Situation, rng: random.Random) -> Iterator[tuple[str, Sample]]:
    for node in situation.nodes:
        peers = [peer for peer in situation.nodes if peer != node]
        for k in range(int(situation.seconds / situation.upload_every_s) if situation.up_mbps else 0):
            at_s = (k + 0.5) * situation.upload_every_s
            mbps = _figure(situation, "up_mbps", at_s, node) * rng.uniform(0.95, 1.0)
            yield node, UplinkSample(
                at_ns=T0 + round(at_s * NS_PER_S), peer=peers[k % len(peers)], sent_bytes=4 << 20, mbps=mbps,
                bound=False, seconds=0.4,
            )  # fmt: skip
        for k in range(int(situation.seconds / situation.layer_every_s) if situation.layer_ms else 0):
            at_s = (k + 0.5) * situation.layer_every_s
            ms = _figure(situation, "layer_ms", at_s, node) * rng.uniform(0.98, 1.02)
            yield node, ComputeSample(
                at_ns=T0 + round(at_s * NS_PER_S), device="RTX 3090", model="m", dtype="fp16", phase="decode", batch=1,
                context=128, ms_per_layer=ms, ms_p95=ms, n=50,
            )  # fmt: skip
        for k in range(int(situation.seconds / situation.host_every_s) if situation.host_every_s else 0):
            at_s = k * situation.host_every_s
            held = bool(_figure(situation, "throttled", at_s, node))
            yield node, HostSample(
                at_ns=T0 + round(at_s * NS_PER_S), cpu_percent=3.0, ram_free_bytes=1 << 33, ram_total_bytes=1 << 34,
                gpu="RTX 3090", throttled=held, throttle="thermal" if held else "",
                clock_mhz=1200.0 if held else 1900.0,
            )  # fmt: skip
        for step in situation.step:
            if step.node == node and step.away:
                yield node, EventSample(at_ns=T0 + round(step.at_s * NS_PER_S), kind="left", detail="")
