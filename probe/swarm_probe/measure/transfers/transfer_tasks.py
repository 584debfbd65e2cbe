"""Run each leased transfer in a task, and report its end to the collector."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from swarm_protocol.messages.probe_messages import LeaseDone, UplinkLease
from swarm_protocol.text import safe


class TransferTasks:
    def __init__(
        self,
        run: Callable[[UplinkLease], Awaitable[tuple[bool, str, bool]]],
        send: Callable[[LeaseDone], Awaitable[bool]],
    ) -> None:
        """Create it. `run`: (whether it succeeded, why not, whether anything was sent)."""
        self._run = run
        self._send = send
        self.running: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None

    def failed(self) -> asyncio.Future[None]:
        """Raise the first unforeseen error of a transfer."""
        self._failed = asyncio.get_running_loop().create_future()
        return self._failed

    def begin(self, lease: UplinkLease) -> None:
        task = asyncio.get_running_loop().create_task(self._transfer(lease))
        self.running.add(task)
        task.add_done_callback(self._ended)

    async def _transfer(self, lease: UplinkLease) -> None:
        try:
            async with asyncio.timeout(lease.expires_ms / 1000):
                ok, detail, begun = await self._run(lease)
        except TimeoutError:
            ok, detail, begun = False, f"not done within the {lease.expires_ms:.0f} ms of the lease", True
        await self._send(LeaseDone(lease_id=lease.lease_id, ok=ok, detail=safe(detail, 300), begun=begun))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)
