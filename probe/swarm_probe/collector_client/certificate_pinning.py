"""Check that this is the right collector: its certificate must match the invite's pin, or the first one seen.

A collector given as a wss:// URL without a pin is verified by certificate authorities, like a web site. There, and in
plain text, it is known by the id that it states; in plain text nothing proves that id, so a proof is also bound to the
address that the connection leads to (see `signing`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from swarm_probe.collector_client.websocket import ClientConnection
from swarm_protocol.messages.probe_messages import COLLECTOR_HEADER, NONCE_HEADER
from swarm_protocol.trust import certificate_pins
from swarm_protocol.trust.identity import COLLECTOR_ID_BYTES
from swarm_protocol.trust.signing import NONCE_BYTES, Handshake, certificate_binding, plain_text_binding

if TYPE_CHECKING:
    import ssl


class OldCollector(Exception):
    """The collector states no id, or gives nothing to sign: it is an older version, or not a collector. One line."""


class Certificates(msgspec.Struct, frozen=True):
    collector: str  # HOST:PORT
    folder: Path  # of remembered pins
    say: Callable[[str], None]
    pin: str | None = None  # from the invite or the command line
    tls: bool = True
    by_authority: bool = False

    def context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        if not self.by_authority:
            return certificate_pins.client_context()
        import ssl  # late, as there

        return ssl.create_default_context()

    def handshake(self, ws: ClientConnection) -> Handshake:
        """Return what to sign on this connection. Raises OldCollector, and PinError for a collector other than the
        intended one."""
        connection = ws.transport.get_extra_info("ssl_object")
        bound_to = self.check(connection) if connection is not None else plain_text_binding(*ws.remote_address[:2])
        nonce, collector = _header(ws, NONCE_HEADER), _header(ws, COLLECTOR_HEADER)
        if len(nonce) != NONCE_BYTES or len(collector) != COLLECTOR_ID_BYTES:
            raise OldCollector(
                f"{self.collector} is of an older swarmtop, or not a collector: this machine cannot authenticate to "
                "it; ask its operator to update it"
            )
        if connection is None or self.by_authority:  # otherwise the certificate is known, which is enough
            self._check_id(collector.hex())
        return Handshake(nonce, collector, bound_to)

    def _check_id(self, shown: str) -> None:
        entry = f"{self.collector}/id"
        known = certificate_pins.load(self.folder, entry)
        if known is not None and known != shown:
            raise certificate_pins.PinError(
                f"at {self.collector} is another collector than the one known (id {shown}, not {known}); if its "
                f"operator says that it was set up again, remove the line {entry} from "
                f"{self.folder / certificate_pins.PINS_FILE}"
            )
        certificate_pins.remember(self.folder, entry, shown)

    def check(self, connection: ssl.SSLObject) -> bytes:
        """Return the SHA-256 of the certificate shown, which a proof is bound to. Raises PinError for a different
        one."""
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
    """Return a header of the response that opened the connection; empty if it is missing or not hexadecimal."""
    try:
        return bytes.fromhex(ws.response.headers.get(name, "") if ws.response is not None else "")
    except (ValueError, LookupError):  # LookupError: the header is there twice
        return b""
