"""The reference engine gives the same tokens however its layers are split: only then is its time worth predicting."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch")

from swarm_lab.engine import driver, framing, worker
from swarm_lab.engine.config import Draft, DriverConfig, DriverReport, EngineShape, StageConfig, Visit
from swarm_lab.engine.framing import Body, Message, WireError
from swarm_lab.engine.stage import StageCompute
from swarm_lab.engine.verify_windows import WindowAccount
from swarm_protocol.layer_shape import LayerShape

LAYER = LayerShape(architecture="llama", hidden=32, intermediate=48, heads=4, kv_heads=2, head_dim=8)
HERE = "127.0.0.1"


def shape(pattern: str) -> EngineShape:
    head_at = "last" if pattern == "chain" else "client"
    return EngineShape(layer=LAYER, layers=6, vocab=101, capacity=40, head_at=head_at, seed=3)


class Stages:
    """Stages as threads of this process, each on a port of its own."""

    def __init__(self, pattern: str, splits: list[tuple[int, int]], folder: Path) -> None:
        self.ports: list[int] = []
        self.files = [folder / f"{first}.json" for first, _ in splits]
        self.threads = []
        for (first, last), file in zip(splits, self.files, strict=True):
            announced: list[int] = []
            known = threading.Event()
            config = StageConfig(shape(pattern), first, last, HERE, str(file))
            thread = threading.Thread(target=worker.serve, args=(config, _Announce(announced, known)), daemon=True)
            thread.start()
            assert known.wait(30)
            self.ports += announced
            self.threads.append(thread)

    def run(self, pattern: str, **changes: object) -> DriverReport:
        config = DriverConfig(
            shape=shape(pattern),
            pattern=pattern,
            stages=tuple((HERE, port) for port in self.ports),
            own_host=HERE,
            prompt_tokens=5,
            steps=8,
            warm_up_steps=2,
            idle_ms=0.0,
        )
        report = driver.run(msgspec.structs.replace(config, **changes))
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        return report


class _Announce:
    def __init__(self, ports: list[int], known: threading.Event) -> None:
        self._ports, self._known = ports, known

    def __call__(self, port: int) -> None:
        self._ports.append(port)
        self._known.set()


@pytest.mark.parametrize("pattern", ["chain", "star"])
def test_split_output_equals_unsplit_output(pattern, tmp_path):
    whole = Stages(pattern, [(0, 5)], tmp_path).run(pattern)
    split = Stages(pattern, [(0, 1), (2, 2), (3, 5)], tmp_path).run(pattern)
    assert split.tokens == whole.tokens
    assert len(set(whole.tokens)) > 1
    assert len(split.step_ms) == 6


def test_chain_and_star_are_the_same_model(tmp_path):
    chain = Stages("chain", [(0, 2), (3, 5)], tmp_path).run("chain")
    star = Stages("star", [(0, 2), (3, 5)], tmp_path).run("star")
    assert chain.tokens == star.tokens


def test_every_stage_writes_down_every_visit(tmp_path):
    stages = Stages("chain", [(0, 2), (3, 5)], tmp_path)
    report = stages.run("chain")
    first, second = (msgspec.json.decode(file.read_bytes(), type=list[Visit]) for file in stages.files)
    assert [visit.step for visit in first] == list(range(9))
    for early, late in zip(first, second, strict=True):
        assert early.received_ns < early.computed_ns < late.received_ns < late.computed_ns
    assert len(report.hops) == 9


def test_a_batch_decodes_every_sequence_alike(tmp_path):
    one = Stages("chain", [(0, 5)], tmp_path).run("chain")
    three = Stages("chain", [(0, 5)], tmp_path).run("chain", batch=3)
    assert three.tokens == one.tokens


@pytest.mark.parametrize("data", [b"", b"\x02\x00\x00", b"\x09" + b"\x00" * 15, b"\x02" + b"\xff" * 15])
def test_nonsense_on_the_wire_is_one_kind_of_error(data):
    here, there = socket.socketpair()
    with here, there:
        here.sendall(data)
        here.shutdown(socket.SHUT_WR)
        with pytest.raises(WireError):
            framing.receive(there)


def test_a_message_comes_back_as_it_was():
    here, there = socket.socketpair()
    message = Message(Body.ACTIVATION, 2, 7, 128, b"abc" * 100)
    with here, there:
        framing.send(here, message)
        assert framing.receive(there) == message


def test_a_window_overwrites_what_a_stale_one_has_left_in_the_caches(tmp_path):
    """Roll-back: windows behind a miss have been computed; the next valid one begins at an earlier position."""
    prompt = Message(Body.TOKENS, 1, 0, 0, driver._ids((1, 2, 3, 4, 5)))
    stale = Message(Body.TOKENS, 1, 1, 5, driver._ids((90, 91, 92, 93)))
    valid = Message(Body.TOKENS, 1, 2, 5, driver._ids((7, 8, 9, 10)))
    one, other = (StageCompute(shape("chain"), 0, 5, 1) for _ in range(2))
    one.step(prompt)
    one.step(stale)
    other.step(prompt)
    assert one.step(valid) == other.step(valid)


def test_every_position_of_a_window_is_sampled(tmp_path):
    compute = StageCompute(shape("chain"), 0, 5, 1)
    assert len(compute.step(Message(Body.TOKENS, 1, 0, 0, driver._ids((1, 2, 3))))[1]) == 4
    assert len(compute.step(Message(Body.TOKENS, 1, 1, 3, driver._ids((4, 5, 6))))[1]) == 12


@pytest.mark.parametrize("windows", [1, 3])
def test_windows_in_flight_yield_what_the_coin_says(tmp_path, windows):
    """Valid windows yield what an account of the same seed yields; stale ones nothing."""
    draft = Draft(guesses=3, accept=(0.7,), ms=1.0, windows=windows, seed=4)
    stages = Stages("chain", [(0, 2), (3, 5)], tmp_path)
    report = stages.run("chain", draft=draft, steps=20, warm_up_steps=0)
    got = [home.tokens for home in report.windows]
    assert sum(got) >= 20
    again = WindowAccount(draft, 5)
    seen = []
    while len(seen) < len(got):
        seen.append(again.verified(again.send().number))
    valid = [tokens for tokens in got if tokens]
    assert valid == seen[: len(valid)]
    assert (0 in got) <= (windows > 1)
    assert [home.at_ns for home in report.windows] == sorted(home.at_ns for home in report.windows)
