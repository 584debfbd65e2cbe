"""Derive layer times of a machine from the tests of llama-bench.

A decode step is all layers and the LM head. The head's share is computed as the predictor does (bytes for bytes, or by
the roofline where the device is known), so that a prediction of the same model on this machine gives the rate back. A
prompt is all layers for its tokens, and the head for one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from swarm_predict.cost.machine.layer_times import Z95
from swarm_predict.cost.machine.roofline import LayerWork, head_work, least_ms
from swarm_predict.model.shapes import ModelShape
from swarmtop.imports import gpu_monitors
from swarmtop.imports.findings import Found, ImportProblem, LayerFound, Names, NodeFound
from swarmtop.imports.gpu.card import Card
from swarmtop.imports.llama_bench import markdown, rows
from swarmtop.imports.llama_bench.models import fits, shape_of, weights_of
from swarmtop.imports.llama_bench.rows import Row

_NO_CARDS: Final = frozenset({"accelerate", "blas", "openblas", "blis", "mkl", "cpu"})
_ON_CPU: Final = frozenset({"", "CPU", "BLAS"})


def read(text: str, node: str | None, model: ModelShape | None, gpu: str | None) -> Found:
    """Return the layer times. `node`: the machine's name; `model`, `gpu`: what was run, where the file does not tell.

    Raises ImportProblem."""
    tests = markdown.read(text) if markdown.is_table(text) else rows.read(text)
    notes: list[str] = []
    machines: dict[str, list[Row]] = {}
    for row in tests:
        if _left_out(row, notes):
            continue
        machines.setdefault(gpu or _device(row), []).append(row)
    if not machines:
        raise ImportProblem("; ".join(dict.fromkeys(notes)))
    if node is not None and len(machines) > 1:
        ran = ", ".join(device or "one that is not named" for device in machines)
        raise ImportProblem(f"this file has tests on {len(machines)} devices ({ran}); leave --node out, or split it")
    names = Names()
    nodes = [
        _node(names.of(device, node or device or "node"), device, tests, model, notes)
        for device, tests in machines.items()
    ]
    count = sum(len(found.layers) for found in nodes)
    first = f"{count} layer times of {len(nodes)} machine{'s' if len(nodes) != 1 else ''}, at batch 1"
    head = "the LM head's share of a token is its bytes' share; what the software takes is inside the layer times"
    return Found(tuple(nodes), (), tuple(dict.fromkeys((first, *notes, head))), "llama-bench")


def _left_out(row: Row, notes: list[str]) -> bool:
    """Return the tests that are not about one machine's layers in one phase, with a line of why."""
    if row.n_prompt and row.n_gen:
        notes.append("tests of prompt and answer together (pp+tg) are left out: their rate is of both")
    elif not row.n_prompt and not row.n_gen:
        notes.append("a test without tokens is left out")
    elif row.n_prompt and row.n_depth:
        notes.append("prompts behind others (@ d) are left out: a swarm file has no such layer time")
    elif "RPC" in row.backend.upper().replace("+", ",").split(","):
        notes.append("tests over RPC are left out: they are of several machines")
    else:
        return False
    return True


def _device(row: Row) -> str:
    """Return the GPUs that the layers ran on, else the processor; empty: not stated."""
    on_cpu = row.gpu_layers == 0 or set(row.backend.upper().replace("+", ",").split(",")) <= _ON_CPU
    if on_cpu and (row.backend or row.gpu_layers == 0):
        return row.cpu
    cards = [card.strip() for card in row.device.split(",")]
    return ", ".join(card for card in cards if card and card.lower() not in _NO_CARDS)


def _node(name: str, device: str, tests: list[Row], model: ModelShape | None, notes: list[str]) -> NodeFound:
    machine = NodeFound(name)
    if device:
        cards = [Card(card.strip()) for card in device.split(",")]
        remark = "vram_gib, mem_gbps and tflops are the data sheet's"
        machine = replace(gpu_monitors.machine_of(name, cards, notes), remark=remark, fills=True)
    else:
        notes.append(f"the device of {name} is not named: give --gpu, or write gpu = into the file, before planning")
    if device and machine.vram_gib is None:
        notes.append(f"without vram_gib {name} can serve no layers")
    refused: list[str] = []
    best: dict[tuple[str, str, int, str], tuple[Row, LayerFound]] = {}
    heads_ms: dict[tuple[str, str], float] = {}
    for row in sorted(tests, key=lambda test: (test.n_gen == 0, test.n_depth)):  # an answer tells the prompt's head
        try:
            found = _layer(row, machine, model, heads_ms, notes)
        except ImportProblem as problem:
            refused.append(str(problem))
            continue
        key = (found.model, found.phase, found.tokens, found.dtype)
        other = best.get(key)
        if other is not None:
            notes.append("of several runs of one test with other options the fastest was taken")
        if other is None or _rank(row) > _rank(other[0]):
            best[key] = (row, found)
    if not best:
        raise ImportProblem("; ".join(dict.fromkeys(refused)))
    notes += [f"left out: {problem}" for problem in dict.fromkeys(refused)]
    for row, _ in best.values():
        if not _plain_cache(row):
            notes.append(f"the cache was {'/'.join(row.kv_types)}: longer contexts are scaled as if it were f16")
    return replace(machine, layers=tuple(found for _, found in best.values()))


def _plain_cache(row: Row) -> bool:
    return set(row.kv_types) <= {"f16", "bf16"}


def _rank(row: Row) -> tuple[bool, float]:
    return _plain_cache(row), row.tokens_per_s


def _layer(
    row: Row, machine: NodeFound, given: ModelShape | None, heads_ms: dict[tuple[str, str], float], notes: list[str]
) -> LayerFound:
    """Return one layer time. `heads_ms`: of a model in a format, from its results; else by the data sheet."""
    if given is not None:
        if not fits(row, given):
            raise ImportProblem(
                f"{row.model_type[:60]} has {row.n_params / 1e9:.2f} billion parameters, and {given.name} "
                f"{given.params / 1e9:.2f}; give --model the model that was run"
            )
        shape = given
    else:
        shape, how = shape_of(row)
        notes.append(f"{row.model_type[:60]} is taken for {shape.name}, {how}")
        notes += shape.notes
    weights = weights_of(row)
    if row.experts_on_cpu or (row.gpu_layers is not None and 0 < row.gpu_layers < shape.layers):
        notes.append(f"{machine.name} ran a part of {shape.name} on its processor: layer times are the mean of both")
    if row.gpu_layers == 0 and row.n_prompt and not set(row.backend.upper().split(",")) <= _ON_CPU:
        notes.append(f"prompts on {machine.name} may have used a card all the same (ngl 0 leaves large batches to it)")
    mem = machine.mem_gbps if machine.mem_gbps is not None else math.nan
    tflops = machine.tflops if machine.tflops is not None else math.nan
    head = head_work(shape, weights, 1)
    by_sheet_ms = float(least_ms(head, mem, tflops, "decode"))
    if row.n_gen:
        tokens = max(1, row.n_depth + row.n_gen // 2)  # the cache grows from the depth: its mean
        step = LayerWork(shape, "decode")(weights, 1, tokens)
        ratio = by_sheet_ms / float(least_ms(step, mem, tflops, "decode")) if math.isfinite(by_sheet_ms) else math.nan
        ratio = ratio if math.isfinite(ratio) else head.size_bytes / step.size_bytes
        ms = 1e3 / row.tokens_per_s / (shape.layers + ratio)
        heads_ms.setdefault((shape.name, weights), ms * ratio)
    else:
        tokens = row.n_prompt
        whole_ms = 1e3 * row.n_prompt / row.tokens_per_s
        head_ms = heads_ms.get((shape.name, weights), by_sheet_ms if math.isfinite(by_sheet_ms) else 0.0)
        ms = (whole_ms - head_ms) / shape.layers
        if ms <= 0:
            raise ImportProblem(f"pp{row.n_prompt} took {whole_ms:.3g} ms, and the LM head alone takes {head_ms:.3g}")
    spread = Z95 * row.spread_per_s / row.tokens_per_s
    p95 = ms * math.exp(spread) if 0 < spread < 5 else None
    return LayerFound(ms, shape.name, "decode" if row.n_gen else "prefill", tokens, weights, p95)
