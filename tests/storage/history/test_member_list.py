"""The list of members, which the first paint shows before numpy is loaded, says what the snapshot after it says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sample_fixtures import FACTS, T0, A, B, C, bare_host, event
from store_contract import put

from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.members import list_members, members_at
from swarm_storage.store import open_store

SECONDS = st.integers(0, 600)
NODES = st.sampled_from((A, B, C))


@settings(max_examples=25, deadline=None)
@given(
    joined=st.lists(SECONDS, min_size=3, max_size=3),
    read=st.lists(st.tuples(NODES, SECONDS), max_size=8),
    told=st.lists(st.tuples(NODES, SECONDS, st.sampled_from(("left", "lost", "joined"))), max_size=4),
    at_s=SECONDS,
)
def test_names_devices_and_states_are_those_of_the_members_snapshot(
    joined: list[int], read: list[tuple[str, int]], told: list[tuple[str, int, str]], at_s: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "swarm.db"))
        writer = store.writer(retain_ns=None)
        for node_id, name, seconds in zip((A, B, C), ("ann", "ben", "cat"), joined, strict=True):
            facts = FACTS if node_id != C else None
            writer.upsert_node(node_id, name, facts=facts, seen_ns=T0 + seconds * NS_PER_S).result()
        for seq, node_id in enumerate(dict(read), 1):
            readings = [bare_host(T0 + seconds * NS_PER_S) for sender, seconds in read if sender == node_id]
            put(writer, *readings, node_id=node_id, seq=seq)
        for node_id, seconds, kind in told:
            writer.event(event(T0 + seconds * NS_PER_S, kind=kind), node_id).result()
        at_ns = T0 + at_s * NS_PER_S
        listed, snapshot = list_members(store.reader, at_ns), members_at(store.reader, at_ns)
        store.close()
    assert [(member.name, member.device) for member in listed] == [(f.name, f.device) for f in snapshot.facts]
    assert [member.state for member in listed] == [State(state) for state in snapshot.nodes["state"].tolist()]
