"""Acknowledged once, stored once: against a model that repeats, skips and reorders, and against kill -9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sample_fixtures import T0, A, B, batch, event

from swarm_storage.store import open_store

WAIT_S = 20.0
EPOCHS = [(node_id, epoch) for node_id in (A, B) for epoch in (7, 8)]


class Probes(RuleBasedStateMachine):
    """Two probes of two epochs each, that send in order, repeat, skip numbers, and lose sight of the store."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(f"{self.folder.name}/swarm.db")
        self.writer = self.store.writer()
        self.kept = dict.fromkeys(EPOCHS, 0)  # what must be acknowledged: the cursor
        self.stored: set[tuple[str, int, int]] = set()

    def send(self, key: tuple[str, int], seq: int) -> None:
        node_id, epoch = key
        at_ns = T0 + epoch * 1000 + seq
        answer = self.writer.submit(batch(seq, [event(at_ns, detail=f"{epoch} {seq}")], node_id, epoch))
        if seq > self.kept[key]:
            self.kept[key] = seq
            self.stored.add((node_id, epoch, seq))
        assert answer.result(WAIT_S) == self.kept[key]

    @rule(key=st.sampled_from(EPOCHS), ahead=st.integers(1, 4))
    def sends_the_next_or_skips_what_its_spool_dropped(self, key: tuple[str, int], ahead: int) -> None:
        self.send(key, self.kept[key] + ahead)

    @rule(key=st.sampled_from(EPOCHS), behind=st.integers(0, 5))
    def sends_again_what_it_has_no_answer_to(self, key: tuple[str, int], behind: int) -> None:
        self.send(key, max(1, self.kept[key] - behind))

    @rule()
    def the_collector_is_restarted(self) -> None:
        self.store.close()
        self.store = open_store(f"{self.folder.name}/swarm.db")
        self.writer = self.store.writer()

    @invariant()
    def each_is_there_once(self) -> None:
        found = [
            (node_id, *map(int, sample.detail.split()))  # type: ignore[union-attr]
            for node_id, sample in self.store.reader.samples()
        ]
        assert sorted(found) == sorted(self.stored)
        assert {key: self.store.reader.committed_seq(*key) for key in EPOCHS} == self.kept

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestProbes = pytest.mark.filterwarnings("ignore")(Probes.TestCase)
TestProbes.settings = settings(max_examples=8, stateful_step_count=15, deadline=None)

WRITING = """
import sys
from sample_fixtures import A, T0, batch, event, link
from swarm_storage.errors import QueueFull
from swarm_storage.store import open_store

store = open_store(sys.argv[1])
writer = store.writer()
seq = store.reader.committed_seq(A, 7)
print("from", seq, flush=True)
waiting = []
while True:
    seq += 1
    waiting.append(writer.submit(batch(seq, [link(T0 + seq * 10 + i) for i in range(3)])))
    if len(waiting) >= 4:
        print(waiting.pop(0).result(20), flush=True)
"""


def test_a_writer_killed_at_any_moment_has_every_acknowledged_batch_once(tmp_path: Path):
    """Each life goes on where the file says, as a spool does; the kill falls after a random number of answers."""
    path = tmp_path / "swarm.db"
    rng = random.Random(20)
    acknowledged = 0
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITING, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )
        assert child.stdout is not None
        begin = int(child.stdout.readline().removeprefix("from "))
        assert begin >= acknowledged
        for _ in range(rng.randrange(1, 40)):
            acknowledged = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().splitlines()  # what it had printed before it died
        acknowledged = int(rest[-1]) if rest and rest[-1].isdigit() else acknowledged
        child.wait(WAIT_S)
        store = open_store(str(path), read_only=True)
        committed = store.reader.committed_seq(A, 7)
        times = [sample.at_ns - T0 for _, sample in store.reader.samples()]
        store.close()
        assert committed >= acknowledged
        assert times == [seq * 10 + i for seq in range(1, committed + 1) for i in range(3)]


def test_a_caller_that_goes_away_does_not_take_the_commit_with_it(tmp_path: Path):
    store = open_store(str(tmp_path / "swarm.db"))
    future = store.writer().submit(batch(1, [event()]))
    assert not future.cancel()
    assert future.result(WAIT_S) == 1
    store.close()
