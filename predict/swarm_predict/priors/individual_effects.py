"""Name the effects of one machine, one model and one swarm beyond their class, which published results cannot show.

A run on a machine is about all of these at once (`conditioning`). Their widths come from the fit: how far systems of
one kind lie apart (`node`), and what is left of single results (`left`). The latter is shared out among the model, the
one question (model, weights and engine on one machine) and the run itself.
"""

from __future__ import annotations

from typing import Final, Literal

from swarm_predict.priors.engine_errors import width_of
from swarm_predict.priors.factors import PROCESSORS, TORCH, Load, kernels_of, messages_of

Rate = Literal["decode", "prefill"]
PathKind = Literal["near", "far", "lossy"]
PATH_KINDS: Final[tuple[PathKind, ...]] = ("near", "far", "lossy")  # `Links.kinds` are positions in it
# the same card under hosts of unlike single threads took 11.5 to 50 ms for the same layers: four standard deviations
HOST_SPREAD: Final = 0.37
# of the variance that single results leave. Engines repeat within about 4 %, and with many results of a model on many
# machines hardly anything is left that they have in common. The sum is above 1: in the fit a part of what is left went
# into the effects of the very device, which a new machine does not share
LEFT_SHARES: Final = {"model": 0.25, "question": 0.85, "run": 0.15}
# of the variance between systems of several machines; few are published with several models, so it is split evenly
SEVERAL_SHARES: Final = {"site": 0.5, "model": 0.5}
# of the logarithm of an engine's layer times on processors over what memory takes (`machine.engine_kernels`), where no
# run of the engine showed it: as far as published results of processors lie apart
KERNELS_APART: Final = 0.21
WRITTEN: Final = 0.04  # the same of what a person wrote down: that will be of the engine itself, which repeats so


def machine(rate: Rate, key: str, device_class: str) -> str:
    """Name the effects of one machine; those that compute on their processor differ more from each other."""
    return f"machine.{'processor' if rate == 'decode' and device_class in PROCESSORS else rate}:{key}"


def host(key: str) -> str:
    return f"machine.host:{key}"


def model(rate: Rate, load: Load) -> str:
    return f"model.{rate}:{load.model}/{kernels_of(load.engine)}"


def question(rate: Rate, key: str, load: Load) -> str:
    return f"question.{rate}:{key}/{load.model}/{load.format}/{kernels_of(load.engine)}"


def several(load: Load) -> tuple[str, str]:
    """Name the effects of placements on several machines: the site under an engine, and the model there."""
    engine = messages_of(load.engine)
    return f"several.site:{engine}", f"several.model:{load.model}/{load.format}/{engine}"


def layers(load: Load, device_class: str, *, written: bool) -> tuple[str, ...]:
    """Name the effects of measured layers under an engine; `written`: down by a person, who will have timed the engine.

    Probes time layers with torch. On processors other engines have kernels of their own, at the pace of memory."""
    kernels = kernels_of(load.engine)
    if written:
        return (f"written.layers:{kernels}",)
    if device_class in PROCESSORS and load.engine not in TORCH:
        return f"measured.layers:{kernels}", f"measured.processor:{kernels}"
    return (f"measured.layers:{kernels}",)


def paths(load: Load, kind: PathKind, *, written: bool) -> tuple[str, ...]:
    """Name the effects of the times of paths under an engine: of all, and of all of this kind where they were
    measured."""
    engine = messages_of(load.engine)
    if written:
        return (f"written.paths:{engine}",)
    return f"measured.paths:{engine}", f"measured.kind:{engine}/{kind}"


def width(group: str, effect: str, node: dict[str, float], left: dict[str, float]) -> float:
    """Return the standard deviation of an effect of this module before any run is known; 0 for any other."""
    kind, _, rate = group.partition(".")
    if group == "machine.host":
        return HOST_SPREAD
    if kind == "machine":
        return node.get(rate, 0.0)
    if kind in LEFT_SHARES:
        return float(left.get(rate, 0.0) * LEFT_SHARES[kind] ** 0.5)
    if kind == "several":
        return float(node.get("several", 0.0) * SEVERAL_SHARES[rate] ** 0.5)
    if kind == "written":
        return WRITTEN
    if group == "measured.processor":
        return KERNELS_APART
    if kind == "measured":
        return width_of(rate, effect.partition(":")[2].partition("/")[0])
    return 0.0


def run_noise(rate: Rate, left: dict[str, float]) -> float:
    """Return how far two runs of the same thing lie apart (standard deviation of the logarithm)."""
    return float(left.get(rate, 0.0) * LEFT_SHARES["run"] ** 0.5)


def measured_noise(load: Load) -> float:
    """Return what no figure and no other run explains of a run on measured machines (relative, standard deviation)."""
    return width_of("run", messages_of(load.engine))


def pace_noise(load: Load) -> float:
    """Return the same of what computes in it, beside that."""
    return width_of("pace", messages_of(load.engine))
