"""Frame messages between the engine's processes: a fixed header and a body of raw bytes, over TCP without Nagle."""

from __future__ import annotations

import enum
import socket
import struct
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("!BxHIII")  # kind, batch, step, positions so far, body bytes
MAX_BODY_BYTES: Final = 1 << 30  # a prefill of 4,096 tokens of a 16,384-wide model in fp16 is an eighth of this


class WireError(ConnectionError):
    """The other side sent an invalid message or hung up in the middle of one."""


class Body(enum.IntEnum):
    TOKENS = 1  # int32 ids, (batch, tokens)
    ACTIVATION = 2  # hidden states, (batch, tokens, hidden), in the engine's activation format
    RESET = 3  # forget the cache
    BYE = 4
    WIRING = 5  # where answers go: the first message of every connection


@dataclass(frozen=True, slots=True)
class Message:
    body: Body
    batch: int
    step: int
    position: int  # tokens in the cache before this message
    data: bytes


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((host, port), timeout_s)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, message: Message) -> None:
    header = _HEADER.pack(message.body, message.batch, message.step, message.position, len(message.data))
    connection.sendall(header + message.data)  # one write: the header must not travel alone


def receive(connection: socket.socket) -> Message:
    """Receive a message. Raises WireError if the connection ends or the bytes are no message."""
    kind, batch, step, position, size = _HEADER.unpack(_exactly(connection, _HEADER.size))
    if size > MAX_BODY_BYTES:
        raise WireError(f"a message of {size} bytes; at most {MAX_BODY_BYTES} are taken")
    try:
        body = Body(kind)
    except ValueError as error:
        raise WireError(f"a message of unknown kind {kind}") from error
    return Message(body, batch, step, position, bytes(_exactly(connection, size)))


def _exactly(connection: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view, filled = memoryview(buffer), 0
    while filled < size:
        count = connection.recv_into(view[filled:])
        if count == 0:
            raise WireError(f"the connection ended {size - filled} bytes before the end of a message")
        filled += count
    return buffer
