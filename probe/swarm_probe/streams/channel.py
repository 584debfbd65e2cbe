"""Define the connection that hops and transfers need, over TCP, QUIC or the collector.

PeerError      one line for people: what, the value, what to do
├── Unreachable    no connection, or it broke
│   └── NoAnswer       none could be made at all
├── NotMember      the other end does not hold the key
└── Busy           the other end runs a transfer; ask again later
"""

from __future__ import annotations

import socket
from typing import Protocol


class PeerError(Exception):
    pass


class Unreachable(PeerError):
    pass


class NoAnswer(Unreachable):
    pass


class NotMember(PeerError):
    pass


class Busy(PeerError):
    pass


class Channel(Protocol):
    """Bytes in order. Errors of the connection are Unreachable."""

    @property
    def kernel(self) -> socket.socket | None:
        """Return the kernel's view of the connection; None: it is not the kernel's."""
        ...

    async def write(self, data: bytes | memoryview) -> None: ...

    async def read_into(self, buffer: memoryview) -> int:
        """Return the number of bytes read, 0 at the end of the stream."""
        ...

    def stamp_arrivals(self) -> None:
        """Make `read_stamped` return arrival times from now on, where they are available."""
        ...

    async def read_stamped(self, buffer: memoryview) -> tuple[int, int]:
        """Return bytes read (0 at the end of the stream), and how long ago the last of them arrived at this machine, in
        ns."""
        ...

    def finish_writing(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None:
        """Close; bytes written and not sent yet are dropped."""
        ...


async def read_exactly(stream: Channel, size: int) -> bytes:
    """Read exactly so many bytes. Raises Unreachable where the stream ends before."""
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        got = await stream.read_into(view)
        if got == 0:
            raise Unreachable(f"the connection was closed {len(view)} bytes early")
        view = view[got:]
    return bytes(buffer)
