"""Run one rank of a torch.distributed engine over gloo: a pipeline (send, recv) or tensor parallel (all_reduce).

`python -m bench.engine_runs.engines.gloo_worker` with a JSON Rank on standard input. Rank 0 drives the loop: it holds
the prompt, and prints its times as JSON. Layers are those that the probes time. In a pipeline the last rank computes
the head and sends the token to rank 0. Gloo sends data only for a receive that the other side has announced, so each
rank keeps two receives posted: with one, no token would come sooner than a round trip of any hop, which on a ring whose
ways differ can be longer than the ring. With tensor parallel every rank has a share of the heads and of the MLP, and
adds up the shares after each, as Megatron-LM does. Its small head is computed by every rank whole.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_lab.engine.config import EngineShape
from swarm_lab.engine.framing import Body, Message
from swarm_lab.engine.stage import Ends, StageCompute
from swarm_probe.compute.layers.decoder_layer import NORM_EPS, build_layers
from swarm_protocol.units import NS_PER_MS

WAIT = timedelta(seconds=60)
POSTED = 2  # receives


class Rank(msgspec.Struct, frozen=True):
    shape: EngineShape
    pattern: str  # pipeline or tensor-parallel
    rank: int
    stages: tuple[tuple[int, int], ...]  # first and last layer, by rank
    meeting: str  # address of rank 0, host:port
    prompt_tokens: int
    steps: int
    warm_up_steps: int
    idle_ms: float


class Inbox:
    """Receives from one rank, in order, with the next ones posted ahead."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._sizes: deque[int] = deque()
        self._posted: deque[tuple[dist.Work, torch.Tensor]] = deque()

    def expect(self, sizes: Sequence[int]) -> None:
        """Say how many bytes each message to come has."""
        self._sizes.extend(sizes)
        for _ in range(POSTED):
            self._post()

    def take(self) -> bytes:
        work, buffer = self._posted.popleft()
        work.wait()
        self._post()
        return bytes(buffer.numpy().tobytes())

    def _post(self) -> None:
        if self._sizes:
            buffer = torch.empty(self._sizes.popleft(), dtype=torch.uint8)
            work = dist.irecv(buffer, self._rank)
            assert work is not None  # only of a rank outside the group
            self._posted.append((work, buffer))


class Pipeline:
    """Layers of one rank; activations go to the next rank, the token from the last to the first."""

    def __init__(self, config: Rank) -> None:
        first, last = config.stages[config.rank]
        self._compute = StageCompute(config.shape, first, last, threads=1)
        self._rank, self._last = config.rank, len(config.stages) - 1
        self._token_bytes = config.shape.layer.hidden * {"fp32": 4, "fp16": 2}[config.shape.activations]
        self._inbox = Inbox(self._last if self._rank == 0 else self._rank - 1)

    def begin(self, tokens: Sequence[int]) -> None:
        """Start anew. `tokens`: of each step to come."""
        self._compute.reset()
        if self._last > 0:
            self._inbox.expect([4 if self._rank == 0 else self._token_bytes * each for each in tokens])

    def step(self, ids: bytes, tokens: int, position: int, step: int) -> bytes:
        """Return the token after this step: at every rank that has it, else nothing."""
        if self._rank == 0:
            body, data = self._compute.step(Message(Body.TOKENS, 1, step, position, ids))
        else:
            body, data = self._compute.step(Message(Body.ACTIVATION, 1, step, position, self._inbox.take()))
        if self._last == 0:
            return data
        if self._rank < self._last:
            _send(data, self._rank + 1)
            return self._inbox.take() if self._rank == 0 else b""
        assert body is Body.TOKENS
        _send(data, 0)
        return data


class TensorParallel:
    """A share of every layer; shares are added up twice a layer."""

    def __init__(self, config: Rank) -> None:
        whole, ranks = config.shape.layer, len(config.stages)
        share = msgspec.structs.replace(
            whole,
            heads=whole.heads // ranks,
            kv_heads=whole.kv_heads // ranks,
            intermediate=whole.intermediate // ranks,
        )
        torch.set_num_threads(1)
        self._shape = config.shape
        self._layers = build_layers(
            share, config.shape.layers, capacity=config.shape.capacity, dtype=torch.float32, device="cpu",
            seed=config.shape.seed + 1000 * config.rank,
        )  # fmt: skip
        self._ends = Ends(config.shape, threads=1)
        self.begin(())

    def begin(self, tokens: Sequence[int]) -> None:
        self._caches = [layer.new_cache(1, self._shape.capacity) for layer in self._layers]

    def step(self, ids: bytes, tokens: int, position: int, step: int) -> bytes:
        with torch.inference_mode():
            hidden = self._ends.unpack(self._ends.embed(ids, 1), 1)
            for layer, cache in zip(self._layers, self._caches, strict=True):
                hidden = hidden + _summed(layer.attention.forward(self._norm(hidden, layer.norm_1), cache, position))
                assert layer.norm_2 is not None  # a Llama has both
                hidden = hidden + _summed(layer.mlp.forward(self._norm(hidden, layer.norm_2)))
            return self._ends.sample_hidden(hidden[:, -1:])

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, (self._shape.layer.hidden,), weight, NORM_EPS)


def _summed(share: torch.Tensor) -> torch.Tensor:
    """Add up the shares of all ranks."""
    share = share.contiguous()
    dist.all_reduce(share)
    return share


def _send(data: bytes, rank: int) -> None:
    dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), rank)


def run(config: Rank) -> dict[str, object]:
    """Run the prompt and the steps, once to warm up and once that counts. Times in milliseconds."""
    engine = Pipeline(config) if config.pattern == "pipeline" else TensorParallel(config)
    ids = [(7 * k + 1) % config.shape.vocab for k in range(config.prompt_tokens)]
    prompt = b"".join(token.to_bytes(4, sys.byteorder) for token in ids)
    engine.begin((len(ids), 1))
    engine.step(engine.step(prompt, len(ids), 0, 0) or prompt[:4], 1, len(ids), 1)
    steps = config.warm_up_steps + config.steps
    engine.begin((len(ids), *[1] * steps))
    time.sleep(config.idle_ms / 1e3)
    began_ns = time.monotonic_ns()
    token = engine.step(prompt, len(ids), 0, 0)
    ttft_ms = (time.monotonic_ns() - began_ns) / NS_PER_MS
    step_ms = []
    for step in range(1, steps + 1):
        began_ns = time.monotonic_ns()
        token = engine.step(token or prompt[:4], 1, len(ids) + step - 1, step)
        if step > config.warm_up_steps:
            step_ms.append((time.monotonic_ns() - began_ns) / NS_PER_MS)
    return {"ttft_ms": ttft_ms, "token_ms": step_ms}


def main() -> int:
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=Rank)
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"  # the only interface of an emulated host
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # torch asks for hosts' names, and no name server answers here
    dist.init_process_group(
        "gloo", init_method=f"tcp://{config.meeting}", rank=config.rank, world_size=len(config.stages), timeout=WAIT
    )
    try:
        report = run(config)
        dist.barrier()
    finally:
        dist.destroy_process_group()
    if config.rank == 0:
        print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
