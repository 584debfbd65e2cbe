"""A transport that records what a WebSocket connection does with it, and frames as a client sends them."""

from __future__ import annotations

import asyncio

from websockets.frames import Frame, Opcode


class Transport(asyncio.Transport):
    """Keeps what is written and what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.gone = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.gone

    def close(self) -> None:
        self.gone = True

    def abort(self) -> None:
        self.gone = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def frames(self) -> list[int]:
        """Opcodes of what was written, all of it short."""
        found, at = [], 0
        while at < len(self.written):
            found.append(self.written[at] & 0x0F)
            at += 2 + self.written[at + 1]
        return found


def sent(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)
