"""Check that this is the right collector: its certificate must match the invite's pin, or the first one seen.

A collector given as wss:// URL without a pin is vouched for by certificate authorities, as a web site is. There, and in
plain text, it is known by the id that it names; in plain text that is its word alone, so a proof is bound to the
address that the connection leads to as well (see `signing`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from websockets.asyncio.client import ClientConnection

from swarm_protocol.messages.probe_messages import COLLECTOR_HEADER, NONCE_HEADER
from swarm_protocol.trust import certificate_pins
from swarm_protocol.trust.identity import COLLECTOR_ID_BYTES
from swarm_protocol.trust.signing import NONCE_BYTES, Handshake, certificate_binding, plain_text_binding


class OldCollector(Exception):
    """It does not say who it is, or gives nothing to sign: it is of an older version, or no collector. One line."""


@dataclass(frozen=True, slots=True)
class Certificates:
    collector: str  # HOST:PORT
    folder: Path  # of what is known
    say: Callable[[str], None]
    pin: str | None = None  # of the invite or the command line
    tls: bool = True
    by_authority: bool = False

    def context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        return ssl.create_default_context() if self.by_authority else certificate_pins.client_context()

    def handshake(self, ws: ClientConnection) -> Handshake:
        """What is to be signed on this connection. Raises OldCollector, and PinError where it is not the collector that
        was meant."""
        connection = ws.transport.get_extra_info("ssl_object")
        bound_to = self.check(connection) if connection is not None else plain_text_binding(*ws.remote_address[:2])
        nonce, collector = _header(ws, NONCE_HEADER), _header(ws, COLLECTOR_HEADER)
        if len(nonce) != NONCE_BYTES or len(collector) != COLLECTOR_ID_BYTES:
            raise OldCollector(
                f"{self.collector} is of an older swarmtop, or no collector at all: this machine cannot prove to it "
                "who it is; ask its operator to update it"
            )
        if connection is None or self.by_authority:  # else its certificate is known, and says it all
            self._check_id(collector.hex())
        return Handshake(nonce, collector, bound_to)

    def _check_id(self, shown: str) -> None:
        entry = f"{self.collector}/id"
        known = certificate_pins.load(self.folder, entry)
        if known is not None and known != shown:
            raise certificate_pins.PinError(
                f"at {self.collector} is another collector than the one known (id {shown}, not {known}); if its "
                f"operator says that it was set up anew, remove the line {entry} from "
                f"{self.folder / certificate_pins.PINS_FILE}"
            )
        certificate_pins.remember(self.folder, entry, shown)

    def check(self, connection: ssl.SSLObject) -> bytes:
        """SHA-256 of the certificate shown: what a proof is bound to. Raises PinError where it is another one."""
        certificate = connection.getpeercert(binary_form=True)
        assert certificate is not None  # a TLS server always shows one
        digest = certificate_binding(certificate)
        if self.by_authority:
            return digest
        shown = certificate_pins.text_of(digest)
        known = self.pin or certificate_pins.load(self.folder, self.collector)
        certificate_pins.require(self.collector, known, shown)
        if known is None:
            self.say(
                f"first time at {self.collector}: it shows {shown}, which is remembered and required from now on; "
                "compare it with what its operator sees (swarmtop members)"
            )
        certificate_pins.remember(self.folder, self.collector, shown)
        return digest


def _header(ws: ClientConnection, name: str) -> bytes:
    """Of the answer that opened the connection; empty where it is missing or not hexadecimal."""
    try:
        return bytes.fromhex(ws.response.headers.get(name, "") if ws.response is not None else "")
    except (ValueError, LookupError):  # LookupError: it stands there twice
        return b""
