"""The stream: encoded once for all viewers, no queue for slow ones, and complete again after a gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from collector_fixtures import id_of

from swarm_collector.sessions import viewer_stream
from swarm_collector.sessions.viewer_stream import BEAT_NS, MAX_QUEUED_FRAMES, Feed, Hub, Outbox, rate_class
from swarm_protocol.messages.viewer_messages import Diff, Keyframe, decode_from_stream
from swarm_protocol.snapshot.frames import apply_diff, decode_keyframe
from swarm_protocol.snapshot.swarm import NodeFacts, Swarm


class World:
    """A swarm that changes on request."""

    def __init__(self, nodes: int = 3) -> None:
        self.nodes = nodes
        self.at_ns = 1
        self.cpu = 0.0
        self.asked = 0

    def snapshot(self) -> Swarm:
        self.asked += 1
        facts = tuple(NodeFacts(id_of(f"n{i}"), f"n{i}") for i in range(self.nodes))
        swarm = Swarm.empty(facts, at_ns=self.at_ns)
        swarm.nodes["cpu_percent"] = np.full(self.nodes, self.cpu)
        return swarm


@dataclass
class Screen:
    """A viewer whose connection the test opens and blocks."""

    outbox: Outbox
    feed: Feed
    swarm: Swarm | None = None
    seq: int = 0
    keyframes: int = 0

    async def read_all(self) -> None:
        while True:
            data = self.outbox.take()
            if data is None and self.outbox.take_keyframe():
                data = await self.feed.keyframe()
            if data is None:
                return
            message = decode_from_stream(data)
            if isinstance(message, Keyframe):
                self.swarm, self.keyframes = decode_keyframe(message.body), self.keyframes + 1
            else:
                assert isinstance(message, Diff)
                assert self.swarm is not None
                assert message.seq == self.seq + 1
                self.swarm = apply_diff(self.swarm, message.body)
            self.seq = message.seq


def hub_of(world: World, screens: int, rate_hz: float = 4.0) -> tuple[Hub, list[Screen]]:
    hub = Hub(world.snapshot)
    outboxes = [Outbox() for _ in range(screens)]
    return hub, [Screen(outbox, hub.join(outbox, rate_hz)) for outbox in outboxes]


async def tick(hub: Hub, world: World, cpu: float) -> None:
    world.cpu, world.at_ns = cpu, world.at_ns + 1
    hub.changed()
    await hub.step(lambda feed: True)


async def test_fifty_dashboards_cost_one_encoding(monkeypatch):
    encoded = {"diff": 0, "keyframe": 0}

    def counting(kind, real):
        def counted(*args):
            encoded[kind] += 1
            return real(*args)

        return counted

    for kind in encoded:
        monkeypatch.setattr(viewer_stream, f"encode_{kind}", counting(kind, getattr(viewer_stream, f"encode_{kind}")))
    world = World()
    hub, screens = hub_of(world, 50)
    for screen in screens:
        await screen.read_all()
    for cpu in (1.0, 2.0, 3.0):
        await tick(hub, world, cpu)
    for screen in screens:
        await screen.read_all()
        assert screen.swarm is not None
        assert screen.swarm.nodes["cpu_percent"][0] == 3.0
    assert encoded == {"diff": 3, "keyframe": 1}


async def test_a_viewer_that_does_not_read_is_queued_a_bounded_number_and_then_gets_a_keyframe():
    world = World()
    hub, (fast, slow) = hub_of(world, 2)
    await fast.read_all()
    await slow.read_all()
    for step in range(10 * MAX_QUEUED_FRAMES):
        await tick(hub, world, float(step))
        await fast.read_all()
    assert slow.outbox.skipped > 9 * MAX_QUEUED_FRAMES - 2
    await slow.read_all()
    assert slow.swarm is not None
    assert slow.swarm.nodes["cpu_percent"][0] == 10 * MAX_QUEUED_FRAMES - 1
    assert (fast.keyframes, slow.keyframes) == (1, 2)


async def test_diffs_made_while_a_keyframe_is_on_its_way_follow_it():
    world = World()
    hub, (screen,) = hub_of(world, 1)
    assert screen.outbox.take_keyframe()
    keyframe = await screen.feed.keyframe()
    await tick(hub, world, 5.0)
    message = decode_from_stream(keyframe)
    assert isinstance(message, Keyframe)
    screen.swarm, screen.seq = decode_keyframe(message.body), message.seq
    await screen.read_all()
    assert screen.swarm.nodes["cpu_percent"][0] == 5.0


async def test_a_new_member_is_a_keyframe_to_everybody():
    world = World()
    hub, screens = hub_of(world, 2)
    for screen in screens:
        await screen.read_all()
    world.nodes = 4
    await tick(hub, world, 1.0)
    for screen in screens:
        await screen.read_all()
        assert screen.swarm is not None
        assert len(screen.swarm) == 4
        assert screen.keyframes == 2


async def test_nothing_is_sent_while_nothing_changes_but_for_a_beat():
    world = World()
    hub, (screen,) = hub_of(world, 1)
    await screen.read_all()
    world.at_ns += 1
    await hub.step(lambda feed: True)
    assert screen.outbox.take() is None
    world.at_ns += BEAT_NS
    await hub.step(lambda feed: True)
    await screen.read_all()
    assert screen.swarm is not None
    assert screen.swarm.at_ns == world.at_ns


async def test_a_clock_set_back_does_not_stop_the_beat():
    world = World()
    world.at_ns = 10**18
    hub, (screen,) = hub_of(world, 1)
    await screen.read_all()
    world.at_ns = 10**17
    await hub.step(lambda feed: True)
    await screen.read_all()
    assert screen.swarm is not None
    assert screen.swarm.at_ns == 10**17


async def test_without_viewers_nothing_is_encoded():
    world = World()
    hub, (screen,) = hub_of(world, 1)
    hub.leave(screen.outbox, screen.feed)
    asked = world.asked
    hub.changed()
    await hub.step(lambda feed: True)
    assert (world.asked, hub.viewers) == (asked, 0)


async def test_a_swarm_large_enough_for_a_thread_streams_the_same():
    world = World(nodes=150)
    hub, (screen,) = hub_of(world, 1)
    await screen.read_all()
    await tick(hub, world, 7.0)
    await screen.read_all()
    assert screen.swarm is not None
    assert screen.swarm.nodes["cpu_percent"][149] == 7.0


@pytest.mark.parametrize(
    ("asked", "given"), [(30.0, 10.0), (10.0, 10.0), (4.0, 4.0), (3.9, 2.0), (0.3, 0.1), (0.01, 0.1)]
)
def test_a_rate_is_never_faster_than_asked_for_but_for_the_slowest(asked, given):
    assert rate_class(asked) == given
