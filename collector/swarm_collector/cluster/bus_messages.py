"""Encode what collectors send each other: events, and a few messages for one or all collectors, packed as a tuple."""

from __future__ import annotations

from typing import Final

import msgspec

from swarm_collector.cluster.events import Event


class Deliver(msgspec.Struct, frozen=True, tag="deliver"):
    """A message from the planning collector for a probe that the receiver holds."""

    node_id: str
    message: bytes


class RowsChanged(msgspec.Struct, frozen=True, tag="kept"):
    """The sender changed these rows of invites and members in the store; the receiver reads them again."""

    keys: tuple[str, ...]


class TellAll(msgspec.Struct, frozen=True, tag="tell_all"):
    """The sender has just started and needs to know all probes of the receiver."""


BusItem = Event | Deliver | RowsChanged | TellAll
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[BusItem, ...])


def encode_bus_message(items: tuple[BusItem, ...]) -> bytes:
    return _encoder.encode(items)


def decode_bus_message(body: bytes) -> tuple[BusItem, ...]:
    """Decode a bus message. Raises msgspec.DecodeError."""
    return _decoder.decode(body)
