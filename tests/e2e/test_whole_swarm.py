"""The whole of swarmtop as people run it: a collector and four probes as processes, kills, and what comes out."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import csv
import io
import json
import random
import signal
import sqlite3
import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from swarm_rig import TOKEN, SwarmRig
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from swarm_predict.model.catalogue import model_named
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    PROBE_PATH,
    PROTOCOL_VERSION,
    Ack,
    Batch,
    Hello,
    HostFacts,
    Welcome,
    decode_from_collector,
)
from swarm_protocol.messages.samples import EventSample
from swarm_protocol.snapshot.swarm import Kind, State, Swarm
from swarm_protocol.trust import signing
from swarmtop.sources.live import LiveSource

pytest.importorskip("torch")

NAMES = ("alder", "birch", "cedar", "dogwood")
TIMING = ("alder", "birch")  # these time layers too, one after the other
WITNESS = "witness"  # counts acknowledgements; it measures nothing and nobody measures it
NARROW, WIDE = "tiny", "gpt2"  # layers of 256 and of 768 in width

pytestmark = pytest.mark.quiet


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmRig]:
    rig = SwarmRig(tmp_path_factory.mktemp("swarm"))
    try:
        rig.start_collector(NARROW)
        for name in NAMES:
            start_probe(rig, name)
        yield rig
    finally:
        rig.stop()


def start_probe(rig: SwarmRig, name: str) -> None:
    rig.start_probe(name, *(() if name in TIMING else ("--compute-budget", "0")))


def rows(swarm: Swarm, names: tuple[str, ...] = NAMES) -> list[int]:
    return [swarm.index(name) for name in names]


def pairs(swarm: Swarm, column: str) -> np.ndarray:
    """The column's cells between different probes."""
    among = swarm.links[column][np.ix_(rows(swarm), rows(swarm))]
    return among[~np.eye(len(NAMES), dtype=bool)]


def all_measured(swarm: Swarm, model: str) -> bool:
    return (
        set(NAMES) <= set(swarm.names)
        and all(any(t.model == model for t in swarm.facts[i].layers) for i in rows(swarm, TIMING))
        and bool(np.isfinite(pairs(swarm, "rtt_p50_ms")).all())
        and bool(np.isfinite(pairs(swarm, "hop_p50_ms")).all())
        and bool(np.isfinite(swarm.nodes["up_mbps"][rows(swarm)]).all())
    )


@pytest.mark.timeout(600)
async def test_four_probes_measure_each_other_and_survive_kills(rig: SwarmRig) -> None:
    swarm = await rig.seen(lambda s: all_measured(s, NARROW), "every pair, uplink and layer measured")

    # what loopback can be
    assert pairs(swarm, "rtt_p50_ms").max() < 5
    assert pairs(swarm, "rtt_p50_ms").min() > 0
    assert np.nanmax(pairs(swarm, "loss")) == 0
    assert (pairs(swarm, "hop_p50_ms") >= pairs(swarm, "rtt_min_ms") * 0.5).all()
    assert swarm.nodes["up_mbps"][rows(swarm)].min() > 100
    assert set(swarm.nodes["up_kind"][rows(swarm)]) <= {Kind.MEASURED, Kind.BOUND}
    assert all(t.ms > 0 for f in swarm.facts for t in f.layers)

    # kill -9 of the collector and of a probe at random moments, twice each; both come back to what was known
    acknowledged: set[str] = set()
    witness = asyncio.create_task(bear_witness(rig, acknowledged))
    rng = random.Random()
    for _ in range(2):
        victim = rng.choice(NAMES)
        collector, probe = rig.collector, rig.probes[victim]
        assert collector is not None
        for process in rng.sample([collector, probe], 2):
            with pytest.raises(TimeoutError):  # it lives until it is killed
                await asyncio.wait_for(asyncio.to_thread(process.wait, 5), rng.uniform(0.2, 1.5))
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        killed_ns = time.time_ns()
        await asyncio.to_thread(rig.start_collector, NARROW)
        start_probe(rig, victim)
        swarm = await rig.seen(
            lambda s, since=killed_ns: (  # type: ignore[misc]
                all_measured(s, NARROW)
                and bool((s.nodes["state"][rows(s)] == State.OK).all())
                and bool((pairs(s, "at_ns") > since).all())
            ),
            f"everybody back and measuring after {victim} and the collector were killed",
        )
    assert sorted(set(swarm.names) - {WITNESS}) == sorted(NAMES)  # nobody came back as somebody else
    witness.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await witness

    assert len(acknowledged) > 10
    connection = sqlite3.connect(f"file:{rig.database}?mode=ro", uri=True)
    with contextlib.closing(connection):
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = collections.Counter(detail for (detail,) in connection.execute("SELECT detail FROM event"))
    assert {detail: stored[detail] for detail in acknowledged} == dict.fromkeys(acknowledged, 1)


async def bear_witness(rig: SwarmRig, acknowledged: set[str]) -> None:
    """A probe that sends one numbered event a batch and remembers which the collector acknowledged.

    After each kill it sends again whatever was not acknowledged, as the spool does.
    """
    facts = HostFacts(system="none", cpu="none", cores=1, ram_bytes=1)
    fields = {"protocol": PROTOCOL_VERSION, "name": WITNESS, "token": TOKEN, "epoch": 1}
    seed = b"w" * 32
    hello = Hello(**fields, udp_port=0, tcp_port=0, software="test", facts=facts)  # type: ignore[arg-type]
    waiting: dict[int, str] = {}
    seq = 0
    while True:
        with contextlib.suppress(OSError, WebSocketException):
            async with connect(f"ws://{rig.address}{PROBE_PATH}", proxy=None) as connection:
                assert connection.response is not None
                headers = connection.response.headers
                handshake = signing.Handshake(
                    bytes.fromhex(headers[NONCE_HEADER]),
                    bytes.fromhex(headers[COLLECTOR_HEADER]),
                    signing.plain_text_binding(*connection.remote_address),
                )
                proven = msgspec.structs.replace(
                    hello,
                    public_key=signing.public_key(seed),
                    proof=signing.sign(seed, handshake.signed("join")),
                    bound_to=handshake.bound_to,
                )
                await connection.send(encode(proven))
                for number in list(waiting):
                    await connection.send(_event(number, waiting[number]))
                while True:
                    if len(waiting) < 4:
                        seq += 1
                        waiting[seq] = f"witness {seq}"
                        await connection.send(_event(seq, waiting[seq]))
                    message = decode_from_collector(await connection.recv())
                    if isinstance(message, Ack | Welcome):
                        until = message.seq if isinstance(message, Ack) else message.committed_seq
                        acknowledged.update(waiting.pop(n) for n in list(waiting) if n <= until)
        await asyncio.sleep(0.05)  # the collector is down: look again


def _event(seq: int, detail: str) -> bytes:
    sample = EventSample(at_ns=time.time_ns(), kind="note", detail=detail)
    return encode(Batch(epoch=1, seq=seq, samples=(sample,)))


@pytest.mark.timeout(400)
async def test_a_wider_layer_takes_longer(rig: SwarmRig) -> None:
    shape = model_named(WIDE)
    await rig.seen(lambda s: all_measured(s, NARROW), f"layers of {NARROW} where they are timed")
    source = LiveSource("127.0.0.1", rig.port, token=TOKEN)
    try:
        frames = source.frames()
        await anext(frames)
        await source.focus(WIDE, shape.layer, "fp32", int(shape.hop_bytes(1, "fp16")))
        swarm = await rig.seen(lambda s: all_measured(s, WIDE), f"layers of {WIDE} where they are timed")
    finally:
        await source.close()

    def decode_ms(model: str) -> float:
        times = [t.ms for f in swarm.facts for t in f.layers if t.model == model and t.phase == "decode"]
        return float(np.median(times))

    # nine times the weights; caches and call overheads keep it from being nine times the time
    assert decode_ms(WIDE) > 1.5 * decode_ms(NARROW)


def test_the_ranking_names_every_node(rig: SwarmRig) -> None:
    done = rig.run("--once", "--json", "--connect", rig.address, "--model", NARROW, "--weights", "fp32")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    nodes = [node for node in answer["nodes"] if node["name"] != WITNESS]
    assert sorted(node["name"] for node in nodes) == sorted(NAMES)
    assert answer["tokens_per_s"]["p5"] <= answer["tokens_per_s"]["p50"] <= answer["tokens_per_s"]["p95"]
    for node in nodes:
        assert 0 < node["rtt_p50_ms"] < 5
        assert node["up_mbps"] > 100
    assert {node["name"] for node in nodes if node["layer_ms"]} == set(TIMING)


def test_a_prediction_is_possible_for_this_machine(rig: SwarmRig) -> None:
    placement = "alder:0-3,birch:4-7"
    asked = ("--model", NARROW, "--weights", "fp32", "--placement", placement, "--json")
    done = rig.run("predict", "--connect", rig.address, *asked)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["fits"] is True
    layer_ms = sum(stage["compute_ms"] for stage in answer["stages"])
    # no token is faster than its layers, and on loopback it is not a hundred times slower
    assert layer_ms < answer["tpot_ms"]["p50"] < 100 * layer_ms + 100
    offline = rig.run("predict", "--db", str(rig.database), *asked)
    assert json.loads(offline.stdout)["stages"][0]["compute_ms"] == pytest.approx(
        answer["stages"][0]["compute_ms"], rel=0.5
    )


def test_the_csv_holds_what_was_measured(rig: SwarmRig) -> None:
    done = rig.run("export", "--db", str(rig.database), "--kind", "link", "--csv", "-")
    assert (done.returncode, done.stderr) == (0, "")
    links = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {(row["src"], row["dst"]) for row in links} == {(a, b) for a in NAMES for b in NAMES if a != b}
    for row in links:
        assert int(row["lost"]) <= int(row["sent"])
    done = rig.run("export", "--connect", rig.address, "--kind", "compute", "--csv", "-")
    times = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["node"] for row in times} == set(TIMING)
    assert all(float(row["ms_per_layer"]) > 0 for row in times)
