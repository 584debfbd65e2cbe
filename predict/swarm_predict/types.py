"""Define the types of questions (Workload, Stage) and answers (Prediction, Plan, Impact)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from swarm_predict.errors import BadPlacement as BadPlacement
from swarm_predict.errors import DoesNotFit as DoesNotFit
from swarm_predict.errors import NotMeasured as NotMeasured
from swarm_predict.errors import PredictError as PredictError
from swarm_predict.errors import UnknownModel as UnknownModel
from swarm_predict.options import GGUF_ENGINES as GGUF_ENGINES
from swarm_predict.options import AllReduce as AllReduce
from swarm_predict.options import Cause as Cause
from swarm_predict.options import Engine as Engine
from swarm_predict.options import Objective as Objective
from swarm_predict.options import Role as Role

if TYPE_CHECKING:  # brings the fitted priors, which a dashboard's start does not need
    from swarm_predict.priors.posterior import Priors


@dataclass(frozen=True, slots=True)
class Workload:
    """The load, the engine and the options that a prediction is for."""

    weights: str = "fp16"  # a key of models.WEIGHT_FORMATS
    engine: Engine = "chain"
    context: int = 128  # tokens already in the KV cache
    prompt: int = 128  # tokens, for TTFT
    cached_prompt: int = 0  # of them, those whose KV cache is there from an earlier request
    batch: int = 1  # sequences decoded together in one step
    streams: int = 1  # independent requests in flight
    activations: Literal["fp16", "fp32", "int8"] = "fp16"
    client: str | None = None  # node name; None: the swarm's, else at the first stage
    compute_scale: float = 1.0  # calibration: measured / predicted stage time
    hop_overhead_ms: float = 0.0  # calibration: software cost of each hop
    slow_start: bool = False  # count TCP's window restart after idle on unmeasured hops
    client_ms: float = 0.0  # calibration: what the client itself takes for each step
    model_error: float = 0.0  # calibration: relative error that its runs leave; widens the interval
    prefill_chunk: int = 0  # tokens of the prompt sent through the stages at once; 0: the whole prompt
    tensor_parallel: int = 0  # cards of a machine that split each layer, if the engine does; 0: all that can
    all_reduce: AllReduce | None = None  # how tensor parallel nodes meet; None: as the engine does
    offload_gbps: float = 0.0  # weights that do not fit are read at this rate (GB/s) in every step; 0: they must fit
    offload_cache: bool = False  # the KV cache lies where offloaded weights do, and is read in every step as well
    draft_tokens: int = 0  # speculative decoding: tokens guessed and verified in one step
    draft_accept: float = 0.0  # chance that a guessed token is right, given those before it were
    draft_profile: tuple[float, ...] = ()  # the same by position, where it is known; the last repeats
    draft_ms: float = 0.0  # to guess one token
    windows: int = 1  # verify windows of one stream in flight at once
    tree_branches: int = 1  # alternatives guessed at each position; 1: a plain row of guesses
    tree_accept: float = 0.0  # chance of each further alternative, given that those before it are wrong
    redundancy: int = 1  # machines that compute each stage and are compared
    spot_check: float = 0.0  # fraction of steps that are recomputed later
    proof_ms: float = 0.0  # to prove one layer for one token, before its output is handed on
    seed: int = 0
    draws: int = 2000  # of the bootstrap
    priors: Priors | None = None  # of what is not measured; None: as published results give them

    def __post_init__(self) -> None:
        if self.weights == "mxfp4" and self.engine in GGUF_ENGINES:
            object.__setattr__(self, "weights", "mxfp4_moe")


class Stage(msgspec.Struct, frozen=True):
    """Layers `first`..`last`, inclusive, from 0, on one node."""

    node: str
    first: int
    last: int

    @property
    def layers(self) -> int:
        return self.last - self.first + 1


Placement = tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Quantiles:
    mean: float
    p5: float
    p50: float
    p95: float


class StageCost(msgspec.Struct, frozen=True):
    node: str
    layers: int
    compute_ms: float
    hop_ms: float  # of reaching this stage from the one before (or from the client)
    memory_bytes: float
    memory_free_bytes: float  # left after this stage


class Breakdown(msgspec.Struct, frozen=True):
    """Mean milliseconds of one token, by what they are spent on; they add up to tpot_ms.mean."""

    compute: float
    network: float
    overhead: float
    head: float


@dataclass(frozen=True, slots=True)
class Prediction:
    model: str
    weights: str
    engine: Engine
    client: str | None
    placement: Placement
    fits: bool
    tpot_ms: Quantiles
    tokens_per_s: Quantiles  # of one stream; p5 is the slow end
    throughput_tokens_per_s: float
    ttft_ms: Quantiles
    breakdown_ms: Breakdown
    stages: tuple[StageCost, ...]
    limited_by: Cause
    notes: tuple[str, ...]  # everything that was assumed
    prompt_limited_by: str = ""  # what most of the first token's time goes to; empty: not known
    hops: int = 0  # messages of one step that wait for each other; what hop_overhead_ms counts
    tpot_quantiles_ms: tuple[float, ...] = ()  # time per token at evenly spaced probabilities: its distribution
    measured: float = 1.0  # share of the token's time that rests on measurements (0…1); the rest: what others got
    runs: int = 0  # observed ones that a calibration has learnt from


class LeftOut(msgspec.Struct, frozen=True):
    """A node that a plan could not consider."""

    node: str
    why: str  # what is not known, and what to do


@dataclass(frozen=True, slots=True)
class Plan:
    prediction: Prediction
    objective: Objective
    bound_ms: float  # proven: no placement has a lower p50 time per token under this model (throughput: period)
    gap: float  # (found − bound) / bound
    exact: bool
    losses_ms: float = 0.0  # of expected losses of its nodes, in what the bound is compared with; 0: not asked for
    left_out: tuple[LeftOut, ...] = ()  # nodes that are not known well enough to be considered
    considered: int = 0  # nodes that were
    by_machines: tuple[tuple[int, float], ...] = ()  # where machines share layers: tokens/s of the best of each number


class Impact(msgspec.Struct, frozen=True):
    """The effect of one node on the swarm. None if it cannot be known."""

    node: str
    role: Role
    cost_ms: float | None  # in the placement: its share of a token; of a spare: what using it would add
    gain_ms: float | None  # what the placement wins by re-planning without it; None: nothing fits without it
    cause: Cause | None
    cause_ms: dict[str, float]  # ms that a token would save if that one thing were typical
    share: float | None = None  # of a token's time
    win_ms: float | None = None  # of a token, without it or with it as usual; never what re-planning wins anyway
    without_tokens_per_s: float | None = None  # re-planned without it; None: nothing fits
    typical_tokens_per_s: float | None = None  # with typical figures of this swarm in its place
    stand_by_for: str = ""  # of a spare: the stage that it would take over best
    stand_by_tokens_per_s: float | None = None  # and what the swarm would give then

    @property
    def in_placement(self) -> bool:
        return self.role == "in"
