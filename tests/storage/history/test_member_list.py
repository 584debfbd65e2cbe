"""The list of members, which the first paint shows before numpy is loaded, says what the snapshot after it says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sample_fixtures import FACTS, T0, A, B, C, bare_host, batch, event
from store_contract import put

from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.members import list_members, members_at, newest_hosts
from swarm_storage.history.replay import swarm_at
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


def test_a_node_in_a_gap_was_last_heard_before_it(tmp_path: Path) -> None:
    """If it sent more afterwards, at its last reading until then; if not, when its last batch was received."""
    gap_ns, hour_ns = T0 + 5 * 3600 * NS_PER_S, 3600 * NS_PER_S
    store = open_store(str(tmp_path / "swarm.db"))
    writer = store.writer(retain_ns=None)
    for node_id, name in ((A, "ann"), (B, "ben")):
        writer.upsert_node(node_id, name, facts=FACTS, seen_ns=T0).result()
    for node_id, hours, received in ((A, (0, 1, 12), 12), (B, (2,), 3)):
        readings = [bare_host(T0 + number * hour_ns) for number in hours]
        writer.submit(batch(1, readings, node_id, received_ns=T0 + received * hour_ns)).result()
    swarm = swarm_at(store.reader, gap_ns)
    heard_ns = dict(zip((facts.name for facts in swarm.facts), swarm.nodes["seen_ns"].tolist(), strict=True))
    store.close()
    assert heard_ns == {"ann": T0 + hour_ns, "ben": T0 + 3 * hour_ns}


def test_a_window_of_many_hours_is_searched_to_its_end(tmp_path: Path) -> None:
    at_ns = T0 + 30 * 3600 * NS_PER_S
    store = open_store(str(tmp_path / "swarm.db"))
    writer = store.writer(retain_ns=None)
    writer.upsert_node(A, "ann", facts=FACTS, seen_ns=T0).result()
    put(writer, bare_host(T0 + 1), bare_host(T0 + 7), node_id=A, seq=1)
    (reading,) = newest_hosts(store.reader, at_ns, 30 * 3600 * NS_PER_S)
    assert list(newest_hosts(store.reader, at_ns, 29 * 3600 * NS_PER_S)) == []
    store.close()
    assert reading[1].at_ns == T0 + 7
