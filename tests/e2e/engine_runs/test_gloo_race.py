"""gloo (torch.distributed), as `python -m bench engines` runs it on the lab's hosts, uses the hops that are predicted.

What the same engine takes without delays is taken away, and of all tokens the fastest counts: other programs of the
machine make tokens slower and none faster.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

pytest.importorskip("torch")

from swarm_lab.emulation import netns
from swarm_lab.emulation.scenario import parse_scenario
from swarm_lab.lab import Lab
from swarm_predict.cost.all_reduce import messages
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER
from swarm_predict.model.catalogue import model_named

ROOT = Path(__file__).parents[3]
ONE_WAY_MS = 20.0
MODEL = dataclasses.replace(model_named("tiny"), layers=3)  # what is counted is counted for each layer

WHY_NOT = netns.why_unavailable()
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.timeout(240),
]


def scenario(one_way_ms: float) -> str:
    line = f"up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = {one_way_ms / 2}"
    hosts = (f'[[host]]\nname = "{name}"\nprobe = false\naccess = {{ {line} }}\n' for name in "abc")
    return 'title = "gloo"\n' + "".join(hosts)


@pytest.fixture(scope="module")
def network_ms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Case → what its fastest token takes more with delays than without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # hosts run `python -m bench…`
        patch.syspath_prepend(str(ROOT))
        return asyncio.run(run_cases(tmp_path_factory.mktemp("gloo")))


async def run_cases(folder: Path) -> dict[str, float]:
    """On three hosts with delays and three without, at the same time."""
    from bench.engine_runs.engines.gloo import Gloo

    engine = Gloo()
    async with AsyncExitStack() as stack:
        labs = []
        for name, one_way_ms in (("far", ONE_WAY_MS), ("near", 0.0)):
            text = scenario(one_way_ms)
            lab = Lab(parse_scenario(text), text, folder / name, lambda _: None, model="tiny")
            labs.append(await stack.enter_async_context(lab))
        found = {}
        for case in engine.cases(MODEL):
            far, near = await asyncio.gather(*(engine.run(lab, case, MODEL) for lab in labs))
            found[case.name] = min(far.token_ms) - min(near.token_ms)
    return found


def test_a_token_of_a_gloo_pipeline_takes_its_three_hops(network_ms: dict[str, float]) -> None:
    assert network_ms["pipeline"] == pytest.approx(3 * ONE_WAY_MS, abs=ONE_WAY_MS / 2)


def test_every_round_of_gloos_all_reduce_is_announced_before_it_is_sent(network_ms: dict[str, float]) -> None:
    """Two ranks: two rounds of data, and two of receivers that report ready."""
    rounds = ALL_REDUCES_PER_LAYER * MODEL.layers * len(messages("gloo", 2, 1.0))
    assert network_ms["tensor parallel"] == pytest.approx(rounds * ONE_WAY_MS, rel=0.1)
