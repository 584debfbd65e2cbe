"""A moment of a recording with many links is not read link by link."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from replay_contract import OUT_MS, windows
from sample_fixtures import T0
from store_contract import members, put

from swarm_protocol.units import NS_PER_S
from swarm_storage.history import replay
from swarm_storage.history.replay import swarm_at
from swarm_storage.store import open_store


def test_of_many_links_only_those_that_show_no_delay_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_MAX_EARLIER", 2)
    store = open_store(f"sqlite:///{tmp_path}/swarm.db")
    writer = store.writer()
    members(writer)
    recorded = [*windows(0), *windows(1)[:1], *windows(1, loaded=True)[1:]]
    for seq, (node_id, sample) in enumerate(recorded, 1):
        put(writer, sample, node_id=node_id, seq=seq)
    delays = swarm_at(store.reader, T0 + 60 * NS_PER_S).links["oneway_ms"]
    assert np.isfinite(delays).sum() == 2 * len(OUT_MS)
    assert delays[0, 1] + delays[1, 2] + delays[2, 0] == pytest.approx(60.0 + 12.0 + 30.0, abs=4.0)
    store.close()
