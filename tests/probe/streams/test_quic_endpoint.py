"""What a QUIC connection leaves behind in a probe."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections import Counter
from typing import Any

import pytest

from swarm_probe.light_imports import aioquic_without_verification
from swarm_probe.sockets import Target
from swarm_probe.streams.channel import Channel
from swarm_probe.streams.tcp_endpoint import Caller, Purpose

pytest.importorskip("aioquic")


async def nothing(_: Channel) -> None:
    pass


async def test_a_connection_that_has_ended_is_freed_without_waiting_for_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python collects what refers to itself when many objects were made, which a quiet probe does not do for hours."""
    aioquic_without_verification()
    from swarm_probe.streams import quic_endpoint

    made: list[weakref.ref[Any]] = []
    begun, freed = asyncio.Event(), asyncio.Event()

    class Noted(quic_endpoint.QuicConnection):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(weakref.ref(self, lambda _: freed.set()))
            begun.set()

    monkeypatch.setattr(quic_endpoint, "QuicConnection", Noted)
    monkeypatch.setattr(quic_endpoint, "COLLECT_AFTER_S", 0.0)
    port = quic_endpoint.QuicPort(lambda _data, _to: None, nothing, Counter())
    gc.disable()
    try:
        to = Target(socket.AF_INET, ("192.0.2.1", 9470))
        for _ in range(2):  # at once after it has ended its task still refers to it: the second one's end frees it
            begun.clear()
            call = asyncio.create_task(port.dial(to, Caller("a" * 16, 7, b"k" * 32), Purpose.HOP, 1))
            await begun.wait()
            call.cancel()
            await asyncio.wait([call])
            del call
        async with asyncio.timeout(10):
            await freed.wait()
    finally:
        gc.enable()
        await port.close()
