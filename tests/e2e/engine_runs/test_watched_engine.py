"""`swarmtop watch` on a running engine: a gloo pipeline on the lab's hosts, on a path that degrades and recovers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch")

from swarm_lab.emulation import netns
from swarm_lab.emulation.scenario import parse_scenario
from swarm_lab.engine.config import EngineShape
from swarm_lab.lab import Lab
from swarm_predict.model.catalogue import model_named

ROOT = Path(__file__).parents[3]
HOSTS = "abc"
ONE_WAY_MS, SLOW_MS = 40.0, 240.0
SLOW_S = 12.0  # three answers of some three seconds, and one that was under way
PORT, MEETING = 8000, 29611
MODEL = model_named("tiny")
THIRD = MODEL.layers // 3
STAGES = tuple((k * THIRD, (k + 1) * THIRD - 1 if k < 2 else MODEL.layers - 1) for k in range(3))
PLACEMENT = ",".join(f"{host}:{first}-{last}" for host, (first, last) in zip(HOSTS, STAGES, strict=True))
READY_WITHIN_S, LINE_WITHIN_S = 90.0, 60.0

WHY_NOT = netns.why_unavailable()
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.timeout(240),
]


def scenario() -> str:
    line = f"up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = {ONE_WAY_MS / 2}"
    hosts = (f'[[host]]\nname = "{name}"\nprobe = false\naccess = {{ {line} }}\n' for name in HOSTS)
    more = ((0.0, SLOW_MS - ONE_WAY_MS), (SLOW_S, 0.0))
    path = 'action = "path"\nfrom = "a"\nto = "b"'
    events = (f"[[event]]\nat_s = {at_s}\n{path}\ndelay_ms = {ms}\n" for at_s, ms in more)
    return 'title = "watched"\n' + "".join(hosts) + "".join(events)


def swarm_file() -> str:
    """What was measured before the engine ran, written down."""
    layer = f'[[node.layer]]\nmodel = "{MODEL.name}"\nphase = "decode"\nbatch = 1\ncontext = 128\nms = 1.0\n'
    prefill = layer.replace("decode", "prefill")
    line = "vram_gib = 8.0\nup_mbps = 1000.0\ndown_mbps = 1000.0\n"
    nodes = (f'[[node]]\nname = "{name}"\n{line}{layer}{prefill}' for name in HOSTS)
    paths = f'[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = {2 * ONE_WAY_MS}\n'
    return "".join(nodes) + paths


def start_engine(lab: Lab) -> subprocess.Popen[bytes]:
    """Start the ranks; return the first, which answers requests."""
    from bench.engine_runs.engines.gloo_worker import Rank

    shape = EngineShape(
        layer=MODEL.layer, layers=MODEL.layers, vocab=MODEL.vocab, capacity=256, head_at="last", dtype="fp32",
        activations="fp16",
    )  # fmt: skip
    ranks = []
    for number, host in enumerate(HOSTS):
        words = ["-m", "bench.engine_runs.engines.gloo_server", str(PORT)]
        rank = lab.start(host, words, "engine.log", talk=True, first=True)
        config = Rank(
            shape=shape, pattern="pipeline", rank=number, stages=STAGES, prompt_tokens=0, steps=0, warm_up_steps=0,
            meeting=f"{lab.hosts['a'].net.address}:{MEETING}", idle_ms=0.0,
        )  # fmt: skip
        assert rank.stdin is not None
        rank.stdin.write(msgspec.json.encode(config))
        rank.stdin.close()
        ranks.append(rank)
    return ranks[0]


async def lines(process: subprocess.Popen[bytes], within_s: float) -> AsyncIterator[str]:
    assert process.stdout is not None
    while line := await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), within_s):
        yield line.decode().strip()


async def watched(folder: Path) -> list[str]:
    """Return what `watch` prints: the path gets slow after four answers."""
    said: list[str] = []
    (folder / "swarm.toml").write_text(swarm_file())
    async with Lab(parse_scenario(scenario()), scenario(), folder / "lab", lambda _: None, model=MODEL.name) as lab:
        async for line in lines(start_engine(lab), READY_WITHIN_S):
            assert line == "ready", (lab.hosts["a"].folder / "engine.log").read_text()
            break
        words = ["-m", "swarmtop", "watch", f"http://127.0.0.1:{PORT}", "--swarm", str(folder / "swarm.toml")]
        words += ["--model", MODEL.name, "--weights", "fp32", "--engine", "ring", "--placement", PLACEMENT]
        words += ["--every", "0", "--max-tokens", "10", "--requests", "60"]
        watch = lab.start("a", words, "watch.log", talk=True, first=True)
        playing: asyncio.Task[None] | None = None
        async for line in lines(watch, LINE_WITHIN_S):
            said.append(line)
            if "again" in line:
                break
            if playing is None and sum("tok/s" in each for each in said) == 4:
                playing = asyncio.create_task(lab.play_timeline())
        assert playing is not None, (lab.hosts["a"].folder / "watch.log").read_text()
        await playing
    return said


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # hosts run `python -m bench…`
        patch.syspath_prepend(str(ROOT))
        return asyncio.run(watched(tmp_path_factory.mktemp("watched")))


def test_a_slower_path_is_noticed_while_the_engine_runs_and_so_is_its_end(said: list[str]) -> None:
    (noticed,) = [k for k, line in enumerate(said) if line.startswith("slower than predicted for longer than noise")]
    assert "3 runs since" in said[noticed]
    assert said[-1] == "engine and prediction agree again"


def test_what_it_looks_like_is_a_round_trip_and_not_a_layer(said: list[str]) -> None:
    looks = [line for line in said if line.startswith("it looks like")]
    assert "round trip" in looks[0] or "every token" in looks[0]
    assert "layers" not in looks[0]


def test_a_calibration_is_offered_with_the_options_of_the_watch(said: list[str]) -> None:
    offer = next(line for line in said if "swarmtop calibrate" in line)
    assert offer.startswith("engine and prediction agreed before, so something has changed")
    assert f"--run {PLACEMENT}=" in offer
    assert "--engine ring" in offer
