"""What a message takes by the congestion control of its sender, which probes report and swarm files may name."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import Box, swarm_of

from swarm_predict.cost.network.delivery_times import Links, links
from swarm_predict.cost.network.window_after_loss import CUBIC, RENO, Control, mean_flights
from swarm_predict.forecast.draws import Trip, draw_trips
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Workload
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.nodes.node_figures import congestion_of, host_figures
from swarm_protocol.snapshot.swarm import Congestion, Swarm, Tcp
from swarm_protocol.swarm_files.swarm_file import parse_swarm

RTT_MS = 60.0
LOSS = 0.02
FILE = """
[[node]]
name = "a"
tcp = "{0}"
[[node]]
name = "b"
[[link]]
from = "a"
to = "b"
rtt_ms = 60
loss = 0.02
mbps = 100
[[link]]
from = "b"
to = "a"
rtt_ms = 60
"""


def lossy(congestion: Congestion) -> Swarm:
    swarm = swarm_of([Box("a"), Box("b")], RTT_MS)
    swarm.links["loss"][:] = LOSS
    swarm.nodes["congestion"][0] = congestion
    swarm.nodes["tcp"][0] = Tcp.PACES if congestion is Congestion.BBR else Tcp.SHRINKS
    return swarm


def mean_ms(paths: Links, size_bytes: float) -> float:
    trips = [Trip(0, 1, size_bytes, 1)]
    return float(draw_trips(paths, trips, np.random.default_rng(1), 40_000, None, False).ms.mean())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cubic", Congestion.CUBIC), ("reno", Congestion.RENO), ("newreno", Congestion.RENO), ("bbr", Congestion.BBR),
        ("bbr3", Congestion.BBR), ("htcp", Congestion.OTHER), (None, Congestion.UNKNOWN),
    ],
)  # fmt: skip
def test_what_a_probe_reports_is_the_congestion_control_of_its_node(name: str | None, shown: Congestion) -> None:
    assert congestion_of(name) is shown
    sample = HostSample(at_ns=1, tcp=name, tcp_slow_start_after_idle=True)
    assert host_figures([sample], None)["congestion"] == shown


@pytest.mark.parametrize(
    ("congestion", "control"),
    [
        (Congestion.RENO, RENO), (Congestion.CUBIC, CUBIC), (Congestion.UNKNOWN, CUBIC), (Congestion.OTHER, CUBIC),
    ],
)  # fmt: skip
def test_a_loss_leaves_the_window_that_the_senders_own_control_keeps(congestion: Congestion, control: Control) -> None:
    size, one_way = 65_536.0, np.array([1 - np.sqrt(1 - LOSS)])
    paths = links(lossy(congestion), range(2))
    flights = mean_flights(46, 0, one_way, control)[0]
    each_ms = RTT_MS - size / (flights + 1) * 8 / (paths.rate_mbps[0, 1] * 1e3)
    assert paths.lossy_window_ms(size)[0, 1] == pytest.approx(flights * each_ms)
    assert paths.assumed_cubic[0] == (congestion in (Congestion.UNKNOWN, Congestion.OTHER))


def test_reno_and_cubic_differ_in_tables_and_in_draws_alike() -> None:
    reno, cubic = (links(lossy(control), range(2)) for control in (Congestion.RENO, Congestion.CUBIC))
    for size in (33_000.0, 131_072.0):
        tables = reno.lossy_window_ms(size)[0, 1] - cubic.lossy_window_ms(size)[0, 1]
        assert abs(tables) > 1
        assert mean_ms(reno, size) - mean_ms(cubic, size) == pytest.approx(tables, rel=0.2, abs=2.0)


def test_a_swarm_file_names_the_congestion_control() -> None:
    found = {name: parse_swarm(FILE.format(name)) for name in ("cubic", "reno", "bbr")}
    assert [int(swarm.nodes["congestion"][0]) for swarm in found.values()] == [
        Congestion.CUBIC, Congestion.RENO, Congestion.BBR,
    ]  # fmt: skip
    assert all(swarm.nodes["congestion"][1] == Congestion.UNKNOWN for swarm in found.values())
    times = {name: mean_ms(links(swarm, range(2)), 131_072.0) for name, swarm in found.items()}
    assert times["bbr"] < times["cubic"]
    assert times["bbr"] < times["reno"]


def test_the_note_about_small_windows_names_whose_control_is_only_assumed() -> None:
    model, load = model_named("llama-2-13b"), Workload(batch=8)
    said = {}
    for congestion in (Congestion.UNKNOWN, Congestion.CUBIC):
        swarm = lossy(congestion)
        swarm.nodes["congestion"][1] = Congestion.CUBIC
        placement = parse_placement("a:0-19,b:20-39", model, swarm, load.engine)
        notes = predict(swarm, model, placement, load).notes
        said[congestion] = next(line for line in notes if "keep TCP's window below the message" in line)
    assert said[Congestion.UNKNOWN].endswith("control of a is assumed to be cubic, which is every system's default")
    assert said[Congestion.CUBIC].endswith("about one round trip a message")
