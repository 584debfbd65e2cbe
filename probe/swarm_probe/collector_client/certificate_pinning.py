"""Is this the collector that was meant? Its certificate against the pin of an invite, else against what was seen first.

A collector given as wss:// URL without a pin is vouched for by certificate authorities, as a web site is. On one
machine there is no certificate and nothing to check.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarm_protocol.trust import certificate_pins
from swarm_protocol.trust.signing import NOT_TLS


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

    def check(self, connection: ssl.SSLObject | None) -> bytes:
        """SHA-256 of the certificate shown: what a proof is bound to. Raises PinError where it is another one."""
        certificate = connection.getpeercert(binary_form=True) if connection is not None else None
        if certificate is None:
            return NOT_TLS
        digest = hashlib.sha256(certificate).digest()
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
