"""Define settings and reports of the engine's processes: plain data, so that the parent loads no torch."""

from __future__ import annotations

from typing import Literal

import msgspec

from swarm_protocol.layer_shape import LayerShape


class EngineShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model and the formats it runs in, equal for all processes of a run."""

    layer: LayerShape
    layers: int
    vocab: int
    capacity: int  # tokens that the caches hold
    head_at: Literal["last", "client"]  # as in a chain, as in a star
    dtype: str = "fp32"
    activations: str = "fp16"
    seed: int = 0


class StageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shape: EngineShape
    first: int
    last: int
    listen_host: str
    times_file: str
    threads: int = 0  # 0: as many as torch takes by itself, as the probes do


class Visit(msgspec.Struct, frozen=True, array_like=True):
    """One message through one stage. Clock: this machine's monotonic, which all hosts of a lab share."""

    step: int
    received_ns: int  # the whole message is here
    computed_ns: int  # the answer is about to be passed to the kernel


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Speculative decoding: guesses that the driver drafts, and that are accepted at random."""

    guesses: int  # in each window
    accept: tuple[float, ...]  # chance by position, given that those before are right; the last repeats
    ms: float  # to draft one
    windows: int = 1  # in flight at most
    seed: int = 0


class DriverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shape: EngineShape
    pattern: Literal["chain", "star"]
    stages: tuple[tuple[str, int], ...]  # host, port; in the order of the layers
    own_host: str  # where the last stage of a chain reaches the driver
    prompt_tokens: int
    steps: int  # decode steps after the prompt
    warm_up_steps: int  # of them, not reported, while connections, caches and the allocator settle
    batch: int = 1
    # before the prompt, as requests come after a pause: beyond a retransmission timeout TCP's windows have shrunk
    idle_ms: float = 1500.0
    pause_ms: float = 0.0  # between steps: what a client does with a token
    threads: int = 0  # 0: as many as torch takes by itself, as the probes do
    draft: Draft | None = None  # of a chain with one sequence; `steps` are then tokens


class WindowResult(msgspec.Struct, frozen=True, array_like=True):
    """When the result of a verify window arrived, and the tokens that it yields."""

    at_ns: int
    tokens: int  # 0: it was stale


class Hop(msgspec.Struct, frozen=True, array_like=True):
    """When the driver was about to pass a message to the kernel, and when the answer was complete."""

    step: int
    stage: int  # that was sent to; a chain is sent to at its first
    sent_ns: int
    received_ns: int


class DriverReport(msgspec.Struct, frozen=True):
    ttft_ms: float
    step_ms: tuple[float, ...]  # one a reported decode step
    first_reported_step: int
    hops: tuple[Hop, ...]
    tokens: tuple[int, ...]  # the first sequence's, prompt left out: equal for every placement of the same model
    windows: tuple[WindowResult, ...] = ()  # of speculative decoding, after the warm-up, in order; then without steps
