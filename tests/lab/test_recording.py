"""The recording that ships with swarmtop, and the message if hosts cannot be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_lab.bundled_scenarios import bundled_text
from swarm_lab.emulation import netns
from swarm_lab.emulation.scenario import parse_scenario
from swarm_lab.recording import RECORDED, pack, unpack
from swarm_storage.store import open_store
from swarmtop import cli


def test_the_recording_holds_the_scenario_and_what_befell_it(tmp_path: Path) -> None:
    """the bad minutes of the line of paris are in it, whatever schema it was recorded with."""
    store = open_store(f"sqlite:///{unpack(tmp_path)[0]}", read_only=True)
    try:
        names = {node.node_id: node.name for node in store.reader.nodes()}
        probes = {host.name for host in parse_scenario(bundled_text(RECORDED)).host if host.probe}
        assert probes <= set(names.values())
        round_trips = [
            sample.rtt_p50_ms
            for node_id, sample in store.reader.samples(kinds=("link",))
            if names[node_id] == "paris" and sample.rtt_p50_ms is not None
        ]
        assert min(round_trips) < 40 < 150 < max(round_trips)
    finally:
        store.close()


def test_what_is_packed_is_what_was_there(tmp_path: Path) -> None:
    import lzma

    database, _ = unpack(tmp_path)
    packed = tmp_path / "again.db.xz"
    assert pack(database, packed) == packed.stat().st_size
    assert lzma.decompress(packed.read_bytes()).startswith(b"SQLite format 3")
    assert not list(tmp_path.glob(".again*"))


def test_where_hosts_cannot_be_built_one_line_says_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(netns, "why_unavailable", lambda: "the lab needs Linux (network namespaces and TUN)")
    assert cli.main(["lab"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith(
        "the lab needs Linux (network namespaces and TUN); a recorded run needs nothing: swarmtop lab --recording"
    )
    assert "\n" not in said


def test_without_a_terminal_the_recording_is_unpacked_and_the_command_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert cli.main(["lab", "--recording", "--keep", str(folder)]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[:4] == ["swarmtop", "--db", str(folder / "swarm.db"), "--at"]
    assert printed[5:] == ["--model", "llama-3.2-1b", "--weights", "fp32"]
    assert (folder / "swarm.db").exists()
    assert cli.main(["lab", "--recording"]) == 2
    assert "--keep DIR" in capsys.readouterr().err
