"""Derive the answers between two readings of an engine's Prometheus metrics. Pure.

    llama-server  llamacpp:tokens_predicted_total and …_seconds_total: tokens and the time that their requests took for
                  them. It counts no requests, so neither first tokens nor the length of an answer are known.
                  ggml-org/llama.cpp tools/server (start it with --metrics). A request is added at its end, n tokens
                  with the time of the n − 1 gaps between them: 64-token answers seem 1.6 % too fast
    vLLM          vllm:inter_token_latency_seconds (before 0.11: time_per_output_token_seconds),
                  vllm:time_to_first_token_seconds, generation_tokens, prompt_tokens: vllm/v1/metrics/loggers.py;
                  what it accepts of guesses: `acceptance`

Text format: prometheus.io/docs/instrumenting/exposition_formats. Only means are taken: a quantile out of a histogram's
few buckets would be a guess.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import Final

from swarmtop.watch.acceptance import MAX_GUESSES, by_position
from swarmtop.watch.completion_stream import Observation

_LINE: Final = re.compile(
    r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?[ \t]+(NaN|[+-]?Inf|[+-]?[0-9.]+(?:[eE][+-]?\d{1,3})?)(?:[ \t]+-?\d+)?[ \t]*$",
    re.MULTILINE,
)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ACCEPTED: Final = (
    "vllm:spec_decode_num_accepted_tokens_per_pos_total",
    "vllm:spec_decode_num_accepted_tokens_per_pos",
)
_VLLM_TOKENS: Final = ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")


class MetricsError(ValueError):
    """These are no metrics of an engine that is known; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters since the engine started. None: it does not count that."""

    engine: str  # llama-server | vLLM
    model: str  # empty: the metrics do not say
    tokens: float  # that `decode_s` is of
    decode_s: float
    answers: float | None
    first_s: float | None  # sum of the times to the first token
    prompt_tokens: float
    in_flight: float | None  # requests at this moment
    steps: float | None = None  # llama-server: batches that it computed
    busy: float | None = None  # llama-server: slots that were busy in them, summed up
    drafts: float = 0.0  # vLLM: steps that verified guesses
    drafted: float = 0.0  # guesses in them
    accepted: tuple[float, ...] = ()  # of them, by position


def totals(text: str, model: str = "") -> Totals:
    """`model`: which, where several are served. Raises MetricsError."""
    found = _samples(text)
    if "llamacpp:tokens_predicted_total" in found:
        steps = _sum(found, "llamacpp:n_decode_total")
        return Totals(
            engine="llama-server",
            model="",
            tokens=_sum(found, "llamacpp:tokens_predicted_total"),
            decode_s=_sum(found, "llamacpp:tokens_predicted_seconds_total"),
            answers=None,
            first_s=None,
            prompt_tokens=_sum(found, "llamacpp:prompt_tokens_total"),
            in_flight=None,
            steps=steps,
            busy=steps * _sum(found, "llamacpp:n_busy_slots_per_decode"),
        )
    name = next((name for name in _VLLM_TOKENS if f"{name}_sum" in found), None)
    if name is not None:
        return _of_vllm(found, name, model)
    raise MetricsError("no metrics of llama-server or vLLM there; give the address of the engine's own /metrics")


def _of_vllm(found: dict[str, list[tuple[dict[str, str], float]]], name: str, model: str) -> Totals:
    served = sorted({labels["model_name"] for labels, _ in found[f"{name}_sum"] if "model_name" in labels})
    if not model and len(served) > 1:
        raise MetricsError(f"it serves {', '.join(served)[:200]}; name one with --served-model")
    if model and served and model not in served:
        raise MetricsError(f"it serves {', '.join(served)[:200]}, not {model[:80]!r}; correct --served-model")

    def of(metric: str) -> float:
        return _sum(found, metric, model)

    running = "vllm:num_requests_running"
    return Totals(
        engine="vLLM",
        model=model or (served[0] if served else ""),
        tokens=of(f"{name}_count"),
        decode_s=of(f"{name}_sum"),
        answers=of("vllm:time_to_first_token_seconds_count"),
        first_s=of("vllm:time_to_first_token_seconds_sum"),
        prompt_tokens=of("vllm:prompt_tokens_total"),
        in_flight=of(running) if running in found else None,
        drafts=of("vllm:spec_decode_num_drafts_total"),
        drafted=of("vllm:spec_decode_num_draft_tokens_total"),
        accepted=_by_position(found, model),
    )


def _by_position(found: dict[str, list[tuple[dict[str, str], float]]], model: str) -> tuple[float, ...]:
    """Return vLLM's accepted guesses at position 0, 1 …, over the engine's parts."""
    counts: dict[int, float] = {}
    for name in _ACCEPTED:
        for labels, value in found.get(name, []):
            position = labels.get("position", "")
            if position.isascii() and position.isdigit() and (not model or labels.get("model_name", model) == model):
                counts[int(position)] = counts.get(int(position), 0.0) + value
    return tuple(counts.get(position, 0.0) for position in range(min(max(counts, default=-1) + 1, MAX_GUESSES)))


def between(before: Totals, after: Totals, seconds: float) -> Observation | None:
    """The answers of the `seconds` between two readings as one observation; None: no token came, or the engine was
    started again."""
    tokens, decode_s = after.tokens - before.tokens, after.decode_s - before.decode_s
    if tokens < 1 or decode_s <= 0 or after.prompt_tokens < before.prompt_tokens:
        return None
    answers, first_ms = None, None
    if after.answers is not None and before.answers is not None:
        answers = round(after.answers - before.answers)
        if answers >= 1 and after.first_s is not None and before.first_s is not None:
            first_ms = 1e3 * (after.first_s - before.first_s) / answers
    prompts = after.prompt_tokens - before.prompt_tokens
    return Observation(
        ttft_ms=first_ms,
        tokens=max(1, round(tokens / answers)) if answers else round(tokens),
        counted=True,
        prompt_tokens=round(prompts / answers) if answers else None,
        tpot_ms=1e3 * decode_s / tokens,
        tpot_p50_ms=None,
        tpot_p95_ms=None,
        finished=True,
        answers=answers if answers else None,
        in_flight=_in_flight(before, after, decode_s / max(seconds, 1e-9)),
        acceptance=by_position(
            after.drafts - before.drafts,
            after.drafted - before.drafted,
            [now - then for now, then in itertools.zip_longest(after.accepted, before.accepted, fillvalue=0.0)],
        ),
    )


def _in_flight(before: Totals, after: Totals, at_least: float) -> float:
    """Requests that shared the engine, in the mean; 0: it does not say.

    llama-server counts busy slots. vLLM tells how many run at each reading, and counts every token when it comes:
    streams that took more time together than passed were `at_least` so many."""
    if after.steps is not None and before.steps is not None and after.busy is not None and before.busy is not None:
        steps = after.steps - before.steps
        return (after.busy - before.busy) / steps if steps > 0 else 0.0
    known = [each.in_flight for each in (before, after) if each.in_flight is not None]
    return max(at_least, sum(known) / len(known) if known else 0.0)


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every sample by metric; what is not a number is left out."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for metric, labels, value in _LINE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            found.setdefault(metric, []).append((dict(_LABEL.findall(labels)), number))
    return found


def _sum(found: dict[str, list[tuple[dict[str, str], float]]], metric: str, model: str = "") -> float:
    """Over the engine's parts (a label each); 0: it has not counted any yet."""
    return sum(
        value for labels, value in found.get(metric, []) if not model or labels.get("model_name", model) == model
    )
