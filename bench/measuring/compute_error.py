"""Compare whole models with the sum of their layers: decode steps and prompts, on this machine's processor or GPU.

    python -m bench compute_error                       this machine's first device, models that suit it
    python -m bench compute_error --models llama-3.1-8b,falcon-7b --dtype bf16 --batches 1,8 --contexts 128,2048

The layers are timed as a probe times them, at the points the collector asks for, and predicted from as the predictor
does, by the fitted curve: none of the batches and contexts that are predicted is measured. The whole model is as many
layers, with embedding, LM head and KV caches, run with torch, in turn with the layers; how far its own runs lie apart
(`noise`) is the ceiling. `share`: bytes a decode step must read (weights and KV cache), over its time, over the memory
bandwidth measured.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import msgspec
import psutil
import torch

from bench.support.harness import record
from swarm_collector.scheduling.measurement_plan import BATCHES, CONTEXTS, EXPERTS_BATCHES, PREFILL_TOKENS
from swarm_predict.cost.machine.layer_times import layer_columns
from swarm_predict.cost.machine.roofline import LayerWork
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_probe.compute.devices import Device, Format, choose_format, devices
from swarm_probe.compute.job import Measured, Trouble
from swarm_probe.compute.layers.cuda_graphs import captured, captures
from swarm_probe.compute.layers.decoder_layer import Weights, build_layers
from swarm_probe.compute.layers.model_ends import Embedding, Head
from swarm_probe.compute.timing.convergence import TooSlow, quantile, repeat
from swarm_probe.compute.timing.device_timing import MAX_PASS_S, is_memory, measure_device
from swarm_probe.operating_system.preemption import thread_preemption
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.probe_messages import ComputeTask
from swarm_protocol.messages.samples import ComputeSample, RooflineSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import Swarm

NODE = "0" * 16
GOAL = 0.05
WHOLE_S = 0.3  # for one point of a whole model, each time
MIN_WHOLES = 2  # of a point in a round

_LLAMA = LayerShape(architecture="llama", hidden=1024, intermediate=2816, heads=16, kv_heads=4, head_dim=64)


def _sizes(name: str, base: LayerShape, layers: tuple[int, int, int], vocab: int) -> list[ModelShape]:
    """Return three sizes of one architecture, small enough for a processor."""
    found = []
    for hidden, count in zip((1024, 1536, 2048), layers, strict=True):
        times = hidden // 64 / base.heads
        changes: dict[str, int] = {"hidden": hidden, "intermediate": int(base.intermediate * hidden / base.hidden)}
        changes |= {"heads": hidden // 64, "kv_heads": max(1, int(base.kv_heads * times))}
        layer = msgspec.structs.replace(base, **changes)
        found.append(ModelShape(f"{name}-{hidden}", count, layer, vocab, tied=False))
    return found


def cpu_models() -> list[ModelShape]:
    plain = msgspec.structs.replace(_LLAMA, gated_mlp=False, kv_heads=16, intermediate=4096)
    kinds = {
        "llama": _LLAMA,
        "qwen3": msgspec.structs.replace(_LLAMA, qk_norm=True, kv_heads=8),
        "falcon": msgspec.structs.replace(plain, architecture="falcon", kv_heads=1),
        "bloom": msgspec.structs.replace(plain, architecture="bloom", bias=True),
        "mixtral": msgspec.structs.replace(
            _LLAMA, architecture="mixtral", intermediate=1408, experts=8, experts_active=2
        ),
    }
    return [
        model
        for name, base in kinds.items()
        for model in _sizes(name, base, (8, 6, 4) if base.experts else (16, 12, 8), 32_000)
    ]


GPU_MODELS = ("llama-3.2-1b", "qwen3-0.6b", "llama-3.2-3b", "qwen3-4b", "falcon-7b", "bloom-7b1", "llama-3.1-8b")


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    dtype: str
    what: str
    predicted_ms: float
    whole_ms: float
    error: float  # predicted over measured, less one: the median of the rounds, each beside itself
    noise: float  # of the whole model's runs: the ninth decile over the first, less one
    share: float | None  # of the memory bandwidth; None for a prompt


class Whole:
    """As many layers as the model has, with both ends."""

    def __init__(self, model: ModelShape, device: Device, kept: Format, capacity: int) -> None:
        self._model, self._device, self._kept = model, device, kept
        hidden, name = model.hidden, device.torch_name
        self._layers = build_layers(
            model.layer, model.layers, capacity=capacity, dtype=kept.dtype, device=name, seed=100,
            quantised=kept.quantised,
        )  # fmt: skip
        self._embedding = Embedding(model.vocab, hidden, Weights(7, kept.dtype, name))
        self._head = Head(model.vocab, hidden, Weights(8, kept.dtype, name))

    def step(self, phase: str, batch: int, tokens: int) -> Callable[[], object]:
        """Run a decode step with `tokens` in the cache, or a prompt of `tokens`; each call begins with other ids."""
        count, position = (1, tokens) if phase == "decode" else (tokens, 0)
        drawn = Weights(1, self._kept.dtype, self._device.torch_name)
        caches = [layer.new_cache(batch, position + count, fill=drawn) for layer in self._layers]
        ids = itertools.cycle([torch.randint(self._model.vocab, (batch, count)) for _ in range(8)])

        def through(x: torch.Tensor) -> torch.Tensor:
            for layer, cache in zip(self._layers, caches, strict=True):
                x = layer.forward(x, cache, position)
            return self._head.choose(x)

        if not captures(self._device.torch_name, self._model.layer):
            return lambda: through(self._embedding.forward(next(ids))).cpu()
        begins = self._embedding.forward(next(ids))
        chosen = torch.empty(batch, 1, dtype=torch.int64, device=begins.device)
        replay = captured(self._device.torch_name, lambda: chosen.copy_(through(begins)))

        @torch.inference_mode()
        def act() -> None:
            begins.copy_(self._embedding.forward(next(ids)))
            replay()
            chosen.cpu()

        return act


def measured(device: Device, model: ModelShape, args: argparse.Namespace) -> Iterator[ComputeSample | RooflineSample]:
    """Return what a probe measures of this device and model."""
    task = ComputeTask(
        task_id=1, model=model.name, layer=model.layer, dtype=args.dtype,
        batches=args.measured_batches or (EXPERTS_BATCHES if model.layer.experts else BATCHES),
        contexts=args.measured_contexts, prefill_tokens=args.measured_prompts, vocab=model.vocab,
        budget_ms=args.budget * 1000,
    )  # fmt: skip
    for report in measure_device(device, task):
        if isinstance(report, Trouble):
            print(f"  ! {report.reason}", file=sys.stderr)
        elif isinstance(report, Measured):
            yield report.sample
            if args.verbose:
                print(f"  {report.sample}", file=sys.stderr)


def seen_by_the_predictor(samples: list[ComputeSample | RooflineSample]) -> tuple[Swarm, float]:
    """Return a swarm of one node that measured these (the median of the rounds), and its memory bandwidth."""
    builder = SwarmBuilder()
    builder.node(NODE, "this", seen_ns=time.time_ns())
    layers: dict[tuple[str, int, int], list[ComputeSample]] = {}
    rates = [sample for sample in samples if isinstance(sample, RooflineSample)]
    for sample in samples:
        if isinstance(sample, ComputeSample):
            layers.setdefault((sample.phase, sample.batch, sample.context), []).append(sample)
    for same in layers.values():
        ms = statistics.median(sample.ms_per_layer for sample in same)
        builder.sample(NODE, msgspec.structs.replace(same[-1], ms_per_layer=ms))
    gbps = statistics.median(sample.mem_gbps for sample in rates)
    tflops = statistics.median(sample.tflops for sample in rates)
    builder.sample(NODE, msgspec.structs.replace(rates[-1], mem_gbps=gbps, tflops=tflops))
    return builder.snapshot(time.time_ns()), gbps


def predicted_ms(swarm: Swarm, model: ModelShape, weights: str, phase: str, batch: int, tokens: int) -> float:
    columns = layer_columns(swarm, [0], model, weights, phase, batch, tokens)  # type: ignore[arg-type]
    head = layer_columns(swarm, [0], model, weights, "decode", batch, tokens)
    return float(columns.ms[0] * model.layers + head.head_ms[0])


Place = tuple[str, int, int]  # phase, batch, tokens


@dataclass(frozen=True, slots=True)
class Round:
    samples: list[ComputeSample | RooflineSample]  # of the layers
    wholes: dict[Place, list[float]]  # ms


def rows_of(model: ModelShape, device: Device, args: argparse.Namespace) -> list[Row]:
    """Return whole and layers in turn, point by point, `rounds` times, comparing within each round: a machine that is
    slower for a while is so for both."""
    kept = choose_format(device, args.dtype)
    points = [("decode", b, c) for b in args.batches for c in args.contexts]
    points += [("prefill", 1, c) for c in args.prompts]
    whole = Whole(model, device, kept, max(tokens for _, _, tokens in points) + 1)
    rounds = [_round(model, device, whole, points, args) for _ in range(args.rounds)]
    del whole
    _free(device)
    rows = []
    for point in points:
        phase, batch, tokens = point
        predicted, errors = [], []
        for one in rounds:
            swarm, _ = seen_by_the_predictor(one.samples)
            predicted.append(predicted_ms(swarm, model, kept.name, phase, batch, tokens))
            errors.append(predicted[-1] / statistics.median(one.wholes[point]) - 1)
        times = sorted(ms for one in rounds for ms in one.wholes[point])
        ms, share = statistics.median(times), None
        if phase == "decode":
            _, gbps = seen_by_the_predictor([sample for one in rounds for sample in one.samples])
            size = LayerWork(model, "decode")(kept.name, batch, tokens).size_bytes * model.layers
            share = (size + model.head_bytes(kept.name)) / (ms / 1000) / (gbps * 1e9)
        what = f"decode b{batch} c{tokens}" if phase == "decode" else f"prompt {tokens}"
        noise = quantile(times, 0.9) / quantile(times, 0.1) - 1
        expected, error = statistics.median(predicted), statistics.median(errors)
        rows.append(Row(model.name, kept.name, what, expected, ms, error, noise, share))
    return rows


def _round(model: ModelShape, device: Device, whole: Whole, points: list[Place], args: argparse.Namespace) -> Round:
    """Time each point of the layers followed by one of the whole, and each of these at least twice."""
    samples: list[ComputeSample | RooflineSample] = []
    wholes: dict[Place, list[float]] = {point: [] for point in points}
    turn = itertools.cycle(points)
    for sample in measured(device, model, args):
        samples.append(sample)
        point = next(turn)
        wholes[point].append(timed(whole, device, *point))
        _free(device)
    for point, times in wholes.items():
        while len(times) < MIN_WHOLES:
            times.append(timed(whole, device, *point))
            _free(device)
    return Round(samples, wholes)


def timed(whole: Whole, device: Device, phase: str, batch: int, tokens: int) -> float:
    """Return the milliseconds of one step."""
    step = whole.step(phase, batch, tokens)
    return repeat(step, WHOLE_S, time.perf_counter, thread_preemption(), device.wait, MAX_PASS_S).median_s * 1000


def _free(device: Device) -> None:
    gc.collect()
    if device.torch_name.startswith("cuda"):
        torch.cuda.empty_cache()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="", help="cpu, or cuda (default: the first accelerator, else cpu)")
    parser.add_argument(
        "--models", default="", help="names as --model takes them, or for a processor: llama, bloom-2048"
    )
    parser.add_argument("--dtype", default="bf16", help="fp32, fp16, bf16, int8, int4_g128, nf4 (default bf16)")
    parser.add_argument("--batches", type=_numbers, default=(1, 3))
    parser.add_argument("--contexts", type=_numbers, default=(256, 768))
    parser.add_argument("--prompts", type=_numbers, default=(96, 384), help="tokens of a prompt")
    parser.add_argument("--measured-batches", type=_numbers, default=())
    parser.add_argument("--measured-contexts", type=_numbers, default=CONTEXTS)
    parser.add_argument("--measured-prompts", type=_numbers, default=PREFILL_TOKENS)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for the layers of one model, a round")
    parser.add_argument("--rounds", type=int, default=5, help="of whole model and layers in turn (default 5)")
    parser.add_argument("--json", default="", help="also write the rows here")
    parser.add_argument("--verbose", action="store_true", help="print what the probe measured")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    args = arguments(given if given is not None else [])
    found = devices(int(psutil.virtual_memory().available * 0.5))
    if args.device == "cpu" and found[0].torch_name != "cpu":
        print("hide the GPU with CUDA_VISIBLE_DEVICES= to time the processor", file=sys.stderr)
        return 2
    device = found[0]
    if device.torch_name == "cpu":
        wanted = args.models.split(",") if args.models else [""]
        models = [m for m in cpu_models() if any(m.name.startswith(name) for name in wanted)]
    else:
        models = [model_named(name) for name in (args.models.split(",") if args.models else GPU_MODELS)]
    print(f"{device.label}, torch {torch.__version__}, {args.dtype}")
    print(
        f"{'model':<16}{'weights':<10}{'what':<18}{'predicted':>10}{'whole ms':>10}{'error':>8}{'noise':>8}{'share':>7}"
    )
    rows: list[Row] = []
    for model in models:
        try:
            some = rows_of(model, device, args)
        except (TooSlow, torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, TooSlow) and not is_memory(error):
                raise
            print(f"{model.name:<16}{str(error).splitlines()[0]}")
            _free(device)
            continue
        for row in some:
            share = f"{row.share:>7.0%}" if row.share is not None else f"{'':>7}"
            print(
                f"{row.model:<16}{row.dtype:<10}{row.what:<18}{row.predicted_ms:>10.3f}{row.whole_ms:>10.3f}"
                f"{row.error:>+8.1%}{row.noise:>8.1%}{share}",
                flush=True,
            )
        rows += some
    if not rows:
        return 1
    errors, noises = [abs(row.error) for row in rows], [row.noise for row in rows]
    print(
        f"{len(rows)} points: error median {statistics.median(errors):.1%}, worst {max(errors):.1%}, within {GOAL:.0%}:"
        f" {sum(e <= GOAL for e in errors)}; the whole model's own runs differ by: median"
        f" {statistics.median(noises):.1%},"
        f" worst {max(noises):.1%}"
    )
    record(f"layer times of whole models on {device.label}", 100 * statistics.median(errors), "% off, median",
           peer=("two runs of one", 100 * statistics.median(noises)))  # fmt: skip
    if args.json:
        with open(args.json, "w") as out:
            json.dump([asdict(row) for row in rows], out, indent=1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
