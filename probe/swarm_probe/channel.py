"""What a hop and a transfer need of a connection, whatever carries it: TCP, or QUIC through a punched hole."""

from __future__ import annotations

import socket
from typing import Protocol


class Channel(Protocol):
    """Bytes in order. Errors of the connection are `tcp_peer.Unreachable`."""

    @property
    def kernel(self) -> socket.socket | None:
        """The connection as the kernel has it; None: it is not the kernel's."""
        ...

    async def write(self, data: bytes | memoryview) -> None: ...

    async def read_into(self, buffer: memoryview) -> int:
        """Bytes read, 0 at the end of the stream."""
        ...

    async def read_exactly(self, size: int) -> bytes: ...

    def stamp_arrivals(self) -> None:
        """From now on `read_stamped` knows when bytes came, where that can be told."""
        ...

    async def read_stamped(self, buffer: memoryview) -> tuple[int, int]:
        """Bytes read (0 at the end of the stream), and how long ago the last of them arrived at this machine, in ns."""
        ...

    def finish_writing(self) -> None: ...

    def close(self) -> None: ...
