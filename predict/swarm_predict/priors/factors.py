"""Name the effects that the speed of a machine depends on, shared by published results.

Each quantity is the exponential of a sum of effects, from the most common to the most particular:

    decode   how much more than FASTEST of its data sheet's time a machine takes to read a layer, in times of that
    launch   milliseconds that a layer takes beyond reading: kernels that are started, threads that meet, and cards of
             one machine that split a layer and exchange their sums (`launch_rounds`)
    visit    milliseconds of software for one message between machines, at its receiver
    reduce   milliseconds of software for one round of an all-reduce
    prefill  how many times longer than its data sheet's matrix rate says a machine takes to compute a prompt
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import weight_format
from swarm_protocol.snapshot.swarm import NodeFacts, Swarm

Kind = Literal["decode", "launch", "visit", "reduce", "prefill"]
WeightGroup = Literal["16", "8", "4", "below"]

# of the data sheet's time: bytes are counted within some percent, and memory is not faster than itself
FASTEST: Final = 0.9
CLASSES: Final = (
    "datacenter-gpu", "gaming-gpu", "laptop-gpu", "workstation-gpu", "apple", "apu", "x86", "arm", "board",
)  # fmt: skip

# cards for servers with the chips and memory of workstation cards: the A40 is an A6000, the L40S a 6000 Ada, the P40 a
# P6000 without fans. One sequence reads a larger share of GDDR's bandwidth than of HBM's, which needs more in flight.
_GDDR: Final = re.compile(r"\b(a40|l40s?|l20|l4|a10g?|a16|a2|t4|p40|p4|m40|m60)\b")

PROCESSORS: Final = ("x86", "arm", "board")  # of CLASSES: without a graphics processor that computes

# engines that compute with another's kernels, and those whose messages are another's
_KERNELS: Final = {
    "prima.cpp": "llama.cpp", "mesh-llm": "llama.cpp", "parallax": "vllm", "vllm-tp": "vllm", "sglang": "vllm",
    "sglang-tp": "vllm", "exo-0": "exo", "exo-rdma": "exo", "exo-tensor": "exo", "exo-tensor-tcp": "exo", "mlx": "exo",
    "mlx-tensor": "exo",
}  # fmt: skip
_MESSAGES: Final = {
    "mesh-llm": "llama.cpp", "vllm-tp": "vllm", "sglang": "vllm", "sglang-tp": "vllm", "exo-rdma": "exo", "mlx": "exo",
    "exo-tensor": "exo", "exo-tensor-tcp": "exo", "mlx-tensor": "exo",
}  # fmt: skip
# of a message's software over TCP, where both kernels are bypassed (mlx docs/src/usage/distributed.rst, JACCL: "an
# order of magnitude lower than the ring backend")
RDMA_SHARE: Final = 0.1
RDMA: Final = frozenset({"exo-rdma", "exo-tensor"})
NCCL: Final = frozenset({"vllm", "vllm-tp", "sglang", "sglang-tp"})  # takes InfiniBand or RoCE where hosts have it
KERNELS_RTT_MS: Final = 0.03  # two kernels' sockets do not answer in less, whatever lies between them
PLAIN: Final = frozenset({"chain", "star", "ring", "tensor-parallel", "hybrid"})  # a pattern of messages, not a program


# engines that compute with torch, as probes time layers
TORCH: Final = PLAIN | {"petals", "shard"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The known attributes of a kind of machine."""

    device_class: str  # of CLASSES; empty: not known
    device: str = ""  # canonical name; empty: not known
    host: str = ""  # class of what drives it, where that is not what usually does
    cards: int = 1  # of it, that split each layer


@dataclass(frozen=True, slots=True)
class Load:
    """The parts of the question that decide how well a machine is used."""

    engine: str
    weights: WeightGroup
    routed: bool
    model: str = ""  # name of the model
    format: str = ""  # name of the weights


def class_of(named: str, device: str) -> str:
    """Return the class whose use of its memory a device shares. `device`: its canonical name."""
    return "workstation-gpu" if named == "datacenter-gpu" and _GDDR.search(device) else named


def launch_rounds(cards: int) -> float:
    """Return how many times the launches of a layer take where cards split it: once, and a round of exchanges each
    time that the number of cards doubles."""
    return 1.0 + math.log2(cards)


def over_rdma(engine: str, swarm: Swarm, rows: Sequence[int]) -> bool:
    """Return whether an engine's messages between these machines leave both kernels out."""
    if engine in RDMA:
        return True
    if engine not in NCCL or len(rows) < 2:
        return False
    rtt_ms = swarm.links["rtt_min_ms"][np.ix_(list(rows), list(rows))][~np.eye(len(rows), dtype=bool)]
    return bool((rtt_ms < KERNELS_RTT_MS).all())


def load_of(model: ModelShape, weights: str, engine: str) -> Load:
    kind = weight_format(weights)
    routed = model.layer.experts > 0
    bits = kind.expert_bits if routed and kind.expert_bits is not None else kind.layer_bits
    group: WeightGroup = "16" if bits > 12 else "8" if bits > 6 else "4" if bits > 3.9 else "below"
    return Load(engine, group, routed, model.name, weights)


def kernels_of(engine: str, device_class: str = "") -> str:
    """Return the engine whose kernels compute. distributed-llama's for graphics processors (Vulkan) share nothing with
    those for processors, which are its own."""
    if engine == "distributed-llama" and device_class not in ("", *PROCESSORS):
        return "distributed-llama-vulkan"
    return _KERNELS.get(engine, engine)


def messages_of(engine: str) -> str:
    """Return the engine whose messages travel."""
    return _MESSAGES.get(engine, engine)


def effects(kind: Kind, machine: Machine, load: Load) -> tuple[str, ...]:
    """The names of the effects whose sum is the logarithm of this quantity."""
    named, device = class_of(machine.device_class, machine.device) or "?", machine.device
    found: list[str] = [kind]
    if kind in ("decode", "prefill"):
        found += [
            f"{kind}.class:{named}",
            f"{kind}.weights:{load.weights}",
            f"{kind}.class-weights:{named}/{load.weights}",
        ]
        if load.routed:
            found += [f"{kind}.routed:yes", f"{kind}.class-routed:{named}"]
        if load.engine not in PLAIN:
            kernels = kernels_of(load.engine, machine.device_class)
            found += [f"{kind}.engine:{kernels}", f"{kind}.class-engine:{named}/{kernels}"]
        else:
            found.append(f"{kind}.engine:?")
        if device:
            found.append(f"{kind}.device:{device}")
    elif kind == "launch":
        found.append(f"launch.class:{named}")
        if load.routed:
            found.append("launch.routed:yes")
        if load.engine in PLAIN:
            found.append("launch.engine:?")
        else:  # graphs of kernels take one launch, where an engine records them for this kind of machine
            kernels = kernels_of(load.engine, machine.device_class)
            found += [f"launch.engine:{kernels}", f"launch.class-engine:{named}/{kernels}"]
        if machine.host:
            found.append(f"launch.host:{machine.host}")
        if machine.cards > 1:
            found.append("launch.cards:together")
        if device:
            found.append(f"launch.device:{device}")
    else:
        found.append(f"{kind}.class:{named}")
        if load.engine not in PLAIN:
            found.append(f"{kind}.engine:{messages_of(load.engine)}")
        elif kind == "reduce":  # over home networks it is hardly ever another
            found.append("reduce.engine:distributed-llama")
        else:  # some software of an unknown engine
            found.append(f"{kind}.engine:?")
        if kind == "reduce" and device:  # a small processor takes long for each of many small messages
            found.append(f"reduce.device:{device}")
    return tuple(found)


def group_of(effect: str) -> str:
    return effect.partition(":")[0]


# ---------------------------------------------------------------- which machine it is

_NOISE: Final = re.compile(
    r"\b(nvidia|geforce|amd|intel|apple|radeon|graphics|gpu|corporation|generation|with|tesla|quadro)\b|\(r\)|\(tm\)"
)
_COUNT: Final = re.compile(r"^\s*\d+\s*[x×]\s*")
_BY_NAME: Final[tuple[tuple[str, str], ...]] = (
    (r"raspberry|\bpi ?[345]\b|\bcm[45]\b|jetson|rock ?5|orange ?pi|rk3588", "board"),
    (r"8060s|8050s|ai max|strix|gb10|dgx spark|780m|890m|radeon [67]80m", "apu"),
    (r"\bm[1-9]\b( (pro|max|ultra))?|apple", "apple"),
    (r"rtx pro \d000(?!.*laptop)", "workstation-gpu"),
    (r"laptop|mobile|max-q|\bt1200\b|\bt[56]00\b|rtx [a-z]?\d{4}m\b", "laptop-gpu"),
    (r"\b[ahb][1-5]00?\b(?<!a[2-5]00)|\ba10g\b|gb200|h20\b|\bv100|\bp100|\bp40\b|\bt4\b|\bl4\b|\bl40s?\b|\ba[1-4]0\b"
     r"|\bmi\d{2,3}x?\b", "datacenter-gpu"),
    (r"rtx (pro )?a\d{3,4}|\ba[2-6]000\b|rtx \d000( ada)?\b|ada\b|w[67]\d00|r9700|pro \d{4}|quadro"
     r"|\bp[1-6]000\b", "workstation-gpu"),
    (r"\b[gr]tx ?\d{3,4}|rx ?\d{4}|\barc\b|\btitan\b", "gaming-gpu"),
    (r"ampere(one)?|graviton|neoverse|cix|cortex|snapdragon|kirin|aarch64|arm", "arm"),
    (r"^cpu:|xeon|epyc|ryzen|threadripper|core\b|i[3579]-|n1\d\d\b", "x86"),
)  # fmt: skip


def canonical(device: str) -> str:
    """`NVIDIA GeForce RTX 3090` and `2× RTX 3090` are `rtx 3090`."""
    text = _NOISE.sub(" ", _COUNT.sub("", device.lower()))
    return " ".join(text.split())


def key_of(facts: NodeFacts) -> str:
    """Return what names one machine from run to run: its name and its device. With another device it is another."""
    return f"{facts.name}|{canonical(facts.device)}"


def machine_of(facts: NodeFacts) -> Machine:
    """The class as the device table knows it, else as the device's name says; empty if neither does."""
    known = getattr(facts, "device_class", "")
    device = canonical(facts.device)
    if known in CLASSES:
        return Machine(known, device)
    lowered = facts.device.lower()
    for pattern, named in _BY_NAME:
        if lowered and re.search(pattern, lowered):
            return Machine(named, device)
    return Machine("", device)
