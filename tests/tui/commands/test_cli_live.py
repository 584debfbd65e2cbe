"""Claims about commands on a running collector. One in this process speaks the real protocol over a real socket."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.viewer_messages import (
    ExportChunk,
    ExportRequest,
    Keyframe,
    Notice,
    Subscribe,
    decode_from_viewer,
)
from swarm_protocol.snapshot.frames import encode_keyframe
from swarm_protocol.snapshot.swarm import Kind, NodeFacts, State, Swarm
from swarmtop import cli

TOKEN = "s3cret words"


def two_nodes() -> Swarm:
    swarm = Swarm.empty(
        tuple(NodeFacts(node_id=f"{i:016x}", name=name) for i, name in enumerate(("kiln-07", "attic"))),
        at_ns=1_790_000_000 * 10**9,
        source="127.0.0.1:9470",
    )
    swarm.nodes["state"][:] = [State.OK, State.LOST]
    swarm.nodes["seen_ns"][:] = swarm.at_ns - 3 * 10**9
    swarm.nodes["up_mbps"][0] = 38.0
    swarm.nodes["up_kind"][0] = Kind.MEASURED
    swarm.links["rtt_p99_ms"][0, 0] = 1.0  # the diagonal is never read
    return swarm


def answer(connection: ServerConnection) -> None:
    first = decode_from_viewer(bytes(connection.recv()))
    assert isinstance(first, Subscribe)
    if first.token != TOKEN:
        connection.send(encode(Notice(text="wrong or missing token; give it with --token", final=True)))
        return
    swarm = two_nodes()
    connection.send(encode(Keyframe(seq=1, at_ns=swarm.at_ns, body=encode_keyframe(swarm))))
    while True:
        asked = decode_from_viewer(bytes(connection.recv()))
        if isinstance(asked, ExportRequest):
            text = f"time,kind\n{asked.since_ns},{asked.kind}\n"
            connection.send(encode(ExportChunk(request_id=asked.request_id, text=text, done=True)))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            answer(connection)

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.socket.getsockname()[1])
        server.shutdown()
        thread.join()


@pytest.fixture
def connected(port: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("SWARMTOP_TOKEN", TOKEN)
    return ["--connect", f"127.0.0.1:{port}"]


def test_the_ranking_waits_for_the_first_frame(connected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--once", "--json", *connected]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["time"] == "2026-09-21T14:13:20.000000Z"
    assert found["tokens_per_s"] is None
    assert [(node["name"], node["state"], node["up_mbps"], node["age_s"]) for node in found["nodes"]] == [
        ("kiln-07", "ok", 38.0, 3.0),
        ("attic", "lost", None, 3.0),
    ]


def test_a_wrong_token_is_exit_2_in_the_collectors_words(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--once", "--connect", f"127.0.0.1:{port}", "--token", "no"]) == 2
    assert capsys.readouterr().err == (
        f"swarmtop: 127.0.0.1:{port} refuses: wrong or missing token; give it with --token\n"
    )


@pytest.mark.parametrize(
    ("rules", "code", "lines"),
    [
        (["nodes_ok>=1", "up_mbps>30"], 0, ["2 rules hold on 2 nodes"]),
        (["state!=lost", "up_mbps>50"], 4, ["state!=lost: attic is lost", "up_mbps>50: kiln-07 has 38.0"]),
        (["rtt_p99_ms<250"], 4, ["rtt_p99_ms<250: nothing to evaluate, no rtt_p99_ms is known yet"]),
    ],
)
def test_check_has_a_line_for_each_breach_and_exit_4(
    rules: list[str], code: int, lines: list[str], connected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for rule in rules for word in ("--rule", rule)]
    assert cli.main(["check", *connected, *words]) == code
    assert capsys.readouterr().out.splitlines() == lines


def test_a_rule_that_is_none_is_exit_2_before_anybody_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--connect", "127.0.0.1:1", "--rule", "rtt99<1"]) == 2
    assert capsys.readouterr().err.startswith("swarmtop: there is no metric 'rtt99'; there are rtt_min_ms, ")


def test_an_invitation_can_be_pasted_whatever_the_token(
    connected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["invite", *connected]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"pip install 'swarmtop[torch,quic]' && SWARMTOP_TOKEN='{TOKEN}' swarm-probe --join ")
    first, second = err.splitlines()
    assert first.startswith("2 members so far; ")
    assert second.startswith("the line takes swarmtop from a package index, since this collector serves none (")


def test_an_export_comes_through_the_collector(connected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", *connected, "--kind", "host", "--since", "1970-01-01T00:00:01"]) == 0
    assert capsys.readouterr().out == "time,kind\n1000000000,host\n"


def test_ctrl_c_while_waiting_is_exit_130_and_silent() -> None:
    """A listener that takes the connection and never answers: the command waits when it is interrupted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [sys.executable, "-m", "swarmtop", "--once", "--connect", f"127.0.0.1:{listener.getsockname()[1]}"]
        # what a shell starts in the background ignores SIGINT, and so would this child of it
        heeded = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heeded) as process:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")
