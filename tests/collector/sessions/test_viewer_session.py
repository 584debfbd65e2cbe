"""A running collector and its viewers: the swarm as it is now, its history on request, the chosen model."""

from __future__ import annotations

import asyncio
import socket
import time

import msgspec
import numpy as np
import pytest
from collector_fixtures import FOCUS, LAYER, id_of
from collector_rig import WAIT_S, collector, link, note
from websockets.asyncio.client import connect

from swarm_collector.state import SwarmState
from swarm_collector.transport.keepalive import KeepaliveTimes
from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.probe_messages import Batch, Plan, decode_from_probe
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.messages.viewer_messages import (
    Diff,
    ExportChunk,
    ExportRequest,
    HistoryReply,
    HistoryRequest,
    Keyframe,
    KeyframeRequest,
    Notice,
    RunKept,
    RunningReport,
    RunReport,
    Subscribe,
)
from swarm_protocol.snapshot.swarm import State


async def test_what_is_committed_is_shown_with_its_figures(rig):
    async with rig.probe("kiln") as kiln, rig.probe("oven") as oven, rig.viewer() as viewer:
        await kiln.welcome()
        await oven.welcome()
        await kiln.batch(1, link(time.time_ns(), id_of("oven"), rtt_ms=42.0))
        swarm = await viewer.until(lambda swarm: len(swarm) == 2 and (swarm.links["sent"] > 0).any())
        cell = swarm.index("kiln"), swarm.index("oven")
        assert swarm.links["rtt_p50_ms"][cell] == 42.0
        assert np.isnan(swarm.links["rtt_p50_ms"][cell[::-1]])


def watched(endpoint: str = "h:1") -> RunSample:
    return RunSample(at_ns=1, endpoint=endpoint, model="m", tokens=64, counted=True, ttft_ms=300.0, tpot_ms=80.0)


async def test_a_watched_run_is_committed_and_shown_to_everybody(rig):
    async with rig.viewer() as watcher, rig.viewer() as other:
        before_ns = time.time_ns()
        await watcher.connection.send(encode(RunReport(request_id=5, run=watched(endpoint="h\x1b[31m:1"))))
        kept = await watcher.next(RunKept)
        assert (kept.request_id, kept.refused) == (5, "")
        (run,) = (await other.until(lambda swarm: len(swarm.runs) == 1)).runs
        assert (run.endpoint, run.tokens, run.tokens_per_s) == ("h?[31m:1", 64, 12.5)
        assert run.at_ns >= before_ns  # the collector's clock, whatever the watcher says


async def test_runs_that_come_too_fast_are_refused(rig):
    async with rig.viewer() as watcher:
        for request_id in (1, 2):
            await watcher.connection.send(encode(RunReport(request_id=request_id, run=watched())))
        answers = [await watcher.next(RunKept) for _ in range(2)]
        assert sorted(answer.refused for answer in answers) == ["", "more than one run a second; report less often"]


async def test_what_runs_is_reported_once_and_shown_to_everybody_stored_and_replayed(tmp_path):
    """Also where the collector is started again, and in a recording of that time."""
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln, rig.viewer() as teller, rig.viewer() as other:
        await kiln.welcome()
        await other.until(lambda swarm: len(swarm) == 1)
        stated = Running("kiln: 0-31", engine="petals", source="launch lines")
        await teller.connection.send(encode(RunningReport(request_id=5, running=stated)))
        kept = await teller.next(RunKept)
        assert (kept.request_id, kept.refused) == (5, "")
        swarm = await other.until(lambda swarm: swarm.running is not None)
        assert (swarm.running.placement, swarm.running.engine) == ("kiln:0-31", "petals")
        assert [event.detail for event in swarm.events if event.kind == "running"] == [
            "kiln:0-31 engine=petals told by launch lines"
        ]
    async with collector(tmp_path) as rig, rig.viewer() as viewer:
        swarm = await viewer.until(lambda swarm: swarm.running is not None)
        assert (swarm.running.placement, swarm.running.source) == ("kiln:0-31", "launch lines")


async def test_a_placement_of_nodes_that_are_not_there_is_refused(rig):
    async with rig.viewer() as teller:
        await teller.connection.send(encode(RunningReport(request_id=1, running=Running("nobody:0-31"))))
        assert (await teller.next(RunKept)).refused == "there is no node 'nobody' in this swarm"


def test_a_probe_cannot_say_what_an_engine_took():
    """Viewers report runs; a batch that contains one is refused."""
    batch = Batch(epoch=7, seq=1, samples=(watched(),))  # type: ignore[arg-type]
    with pytest.raises(DecodeError, match="Invalid value 'run'"):
        decode_from_probe(encode(batch))


async def test_a_lost_frame_is_made_good_by_a_keyframe(rig):
    async with rig.probe("kiln") as kiln, rig.viewer() as viewer:
        await viewer.until(lambda swarm: len(swarm) == 1)
        await kiln.batch(1, note(time.time_ns(), "first"))
        assert isinstance(await viewer.next(Diff), Diff)  # dropped on the way, as the viewer sees it
        await viewer.connection.send(encode(KeyframeRequest()))
        message = await viewer.next(Keyframe)
        viewer.swarm, viewer.seq = None, 0
        assert message.seq >= 2
        await viewer.connection.send(encode(KeyframeRequest()))
        viewer.seq = (await viewer.next(Keyframe)).seq


async def test_a_wrong_token_is_told_to_the_person_and_the_connection_ends(tmp_path):
    async with collector(tmp_path, token="secret") as rig:
        async with rig.viewer(token="guess") as viewer:
            notice = await viewer.next(Notice)
            assert (notice.final, "--token" in notice.text) == (True, True)
            await asyncio.wait_for(viewer.connection.wait_closed(), 10)
        async with rig.viewer(token="secret") as viewer:
            assert len(await viewer.frame()) == 0
        async with rig.viewer(operator=rig.server.operator_requests.secret) as viewer:  # who made the token up
            assert len(await viewer.frame()) == 0
        async with rig.viewer(operator="guess") as viewer:
            assert (await viewer.next(Notice)).final


@pytest.mark.parametrize("payload", [b"\x00\xff", "text", encode(KeyframeRequest())])
async def test_a_viewer_that_does_not_subscribe_is_let_go_and_the_others_see_on(rig, payload):
    async with rig.viewer() as good:
        await good.frame()
        async with connect(rig.url("/view"), proxy=None) as bad:
            await bad.send(payload)
            await asyncio.wait_for(bad.wait_closed(), 10)
        async with rig.probe("kiln"):
            await good.until(lambda swarm: len(swarm) == 1)


async def test_history_is_answered_with_gaps_as_none(rig):
    at_ns = time.time_ns()
    async with rig.probe("kiln") as kiln, rig.probe("oven"), rig.viewer() as viewer:
        await viewer.until(lambda swarm: len(swarm) == 2)
        await kiln.batch(1, link(at_ns - 1, id_of("oven"), rtt_ms=5.0))
        await kiln.acked(1)
        request = HistoryRequest(
            request_id=3,
            metric="rtt_p50",
            node=id_of("kiln"),
            peer=id_of("oven"),
            since_ns=at_ns - 100 * 10**9,
            until_ns=at_ns,
            points=10,
        )
        await viewer.connection.send(encode(request))
        reply = await viewer.next(HistoryReply)
        assert (reply.request_id, len(reply.at_ns), reply.values) == (3, 10, (None,) * 9 + (5.0,))


async def test_an_unknown_metric_gets_a_line_and_an_empty_answer(rig):
    async with rig.viewer() as viewer:
        request = HistoryRequest(request_id=4, metric="x\x1b[2J", node="0" * 16, since_ns=0, until_ns=10)
        await viewer.connection.send(encode(request))
        notice = await viewer.next(Notice)
        assert "no metric" in notice.text
        assert "\x1b" not in notice.text
        assert (await viewer.next(HistoryReply)).at_ns == ()


async def test_an_export_comes_in_chunks_that_make_a_csv_with_every_row(rig):
    at_ns = time.time_ns()
    async with rig.probe("kiln") as kiln, rig.viewer() as viewer:
        for seq in range(1, 6):
            await kiln.batch(seq, *(note(at_ns - 10**6 * (500 * seq + i), f"event {seq} {i}") for i in range(500)))
        await kiln.acked(5)
        await viewer.connection.send(encode(ExportRequest(request_id=9, kind="event")))
        text, chunk = "", await viewer.next(ExportChunk)
        while not chunk.done:
            text += chunk.text
            chunk = await viewer.next(ExportChunk)
        lines = text.splitlines()
        assert lines[0] == "time,node,kind,detail"
        assert sum(",note,event " in line for line in lines) == 2500
        assert chunk.rows_total == len(lines) - 1


async def test_nothing_of_an_unknown_kind_is_exported(rig):
    async with rig.viewer() as viewer:
        await viewer.connection.send(encode(ExportRequest(request_id=1, kind="passwords")))
        assert "nothing of the kind" in (await viewer.next(Notice)).text
        assert (await viewer.next(ExportChunk)).done


async def test_a_focus_reaches_the_probes_as_a_new_plan(rig):
    async with rig.probe("kiln") as kiln, rig.viewer(operator=rig.server.operator_requests.secret) as viewer:
        before = await kiln.next(Plan)
        focus = msgspec.structs.replace(FOCUS, model="bloom-176b", hop_bytes=28_672)
        await viewer.connection.send(encode(focus))
        after = await kiln.next(Plan)
        assert (after.hop_bytes, after.compute.model) == (28_672, "bloom-176b")
        assert after.compute.task_id != before.compute.task_id
        assert after.revision > before.revision


@pytest.mark.parametrize("secret", ["", "a guess"])
async def test_on_an_open_collector_only_the_operator_changes_the_model(rig, secret):
    """Every change has everybody's machine compute for some 20 s."""
    async with rig.probe("kiln") as kiln, rig.viewer(operator=secret) as viewer:
        await kiln.next(Plan)
        await viewer.connection.send(encode(msgspec.structs.replace(FOCUS, model="bloom-176b")))
        assert "only this swarm's operator changes the model" in (await viewer.next(Notice)).text
        await viewer.connection.send(encode(FOCUS))  # what is measured anyhow is nobody's change: no notice
        await viewer.connection.send(encode(ExportRequest(request_id=1, kind="passwords")))
        assert "nothing of the kind" in (await viewer.next(Notice)).text
        assert rig.swarm_state.dispatcher.scheduler.focus == msgspec.structs.replace(FOCUS, chosen=False)


async def test_with_a_token_viewers_change_the_model_a_few_times_and_then_rarely(tmp_path, monkeypatch):
    monkeypatch.setattr("swarm_collector.scheduling.dispatcher.FOCUS_EVERY_NS", 0)  # another test's
    async with collector(tmp_path, token="t") as rig, rig.viewer(token="t") as viewer:
        for number in range(8):
            await viewer.connection.send(encode(msgspec.structs.replace(FOCUS, model=f"model-{number}")))
        assert (
            "too often lately, and every machine measures it again; try again in 600 s"
            in (await viewer.next(Notice)).text
        )
        assert rig.swarm_state.dispatcher.scheduler.focus.model == "model-2"


async def test_a_focus_that_no_machine_should_build_is_refused_with_the_reason(rig):
    async with rig.probe("kiln") as kiln, rig.viewer(operator=rig.server.operator_requests.secret) as viewer:
        await kiln.next(Plan)
        huge = msgspec.structs.replace(LAYER, hidden=10**9)
        await viewer.connection.send(encode(msgspec.structs.replace(FOCUS, layer=huge)))
        assert "cannot measure that model" in (await viewer.next(Notice)).text
        assert rig.swarm_state.dispatcher.scheduler.focus == msgspec.structs.replace(FOCUS, chosen=False)


async def test_a_viewer_that_takes_nothing_is_let_go_and_the_others_see_on(tmp_path, monkeypatch):
    """Its answers are read from the store no faster than it takes them, so it costs a bounded amount of memory."""
    ended = asyncio.Queue()
    monkeypatch.setattr(SwarmState, "session_line", lambda _, text, member=None: ended.put_nowait(text))
    async with (
        collector(tmp_path, pulse=KeepaliveTimes(send_s=0.5)) as rig,
        rig.probe("kiln") as kiln,
        rig.viewer() as good,
    ):
        rig.server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # accepted ones inherit it
        await kiln.welcome()  # before it, no message may be as large as these batches
        at_ns = time.time_ns()
        for seq in range(1, 9):
            await kiln.batch(seq, *(note(at_ns - 10**6 * (500 * seq + i), "x" * 300) for i in range(500)))
        await kiln.acked(8)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", rig.port))
        async with connect(rig.url("/view"), sock=raw, proxy=None, max_queue=1, close_timeout=0.1) as lazy:
            await lazy.send(encode(Subscribe(protocol=1, rate_hz=1.0)))
            await lazy.send(encode(ExportRequest(request_id=1, kind="event")))
            async with asyncio.timeout(WAIT_S):
                assert (await ended.get()).endswith("ends: read nothing for 0.5 s")
        assert rig.health()["viewers"] == 1
        await kiln.batch(9, note(at_ns, "afterwards"))
        await good.until(lambda swarm: any(event.detail == "afterwards" for event in swarm.events))


async def test_members_addresses_are_hidden_unless_the_operator_says_so(tmp_path):
    for shown, host in ((False, ""), (True, "127.0.0.1")):
        async with (
            collector(tmp_path, show_addresses=shown) as rig,
            rig.probe("kiln"),
            rig.viewer() as viewer,
        ):
            swarm = await viewer.until(lambda swarm: len(swarm) == 1 and swarm.nodes["state"][0] == State.OK)
            assert swarm.facts[0].host == host
