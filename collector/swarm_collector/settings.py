"""What the operator has decided about this collector."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from swarm_collector.scheduling.transfer_leases import DAILY_BYTES
from swarm_collector.transport.certificate import Certificate, CertificateError, digest_of
from swarm_collector.transport.connection_limits import Limits
from swarm_collector.transport.keepalive import Pulse
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.text import safe
from swarm_protocol.trust.signing import NOT_TLS

_log = logging.getLogger("swarm_collector")


@dataclass(frozen=True, slots=True)
class Settings:
    focus: Focus
    secret: bytes
    token: str = ""
    focus_is_named: bool = False  # by the operator: goes before what a viewer chose in a former life
    show_addresses: bool = False  # members' addresses in what viewers are sent
    certificate: Certificate | None = None  # None: plain text only
    insecure: bool = False  # plain text from other machines too
    proxy_cert: Path | None = None  # of a TLS proxy on this machine: what probes that come through it see
    limits: Limits = field(default_factory=Limits)
    pulse: Pulse = field(default_factory=Pulse)
    transfer_bytes: int = DAILY_BYTES  # a node's share for transfers in a day, in and out

    def bound_to(self, *, tls: bool) -> frozenset[bytes]:
        """The certificates (SHA-256) that somebody who is here now can have seen; empty bytes: none."""
        if tls:
            assert self.certificate is not None
            return frozenset((self.certificate.digest,))
        proxy = self.proxy_cert
        if proxy is None:
            return frozenset((NOT_TLS,))
        try:
            return frozenset((NOT_TLS, digest_of(proxy)))  # read each time: it is renewed every few weeks
        except (OSError, CertificateError) as error:
            _log.error("the proxy's certificate cannot be used: %s", safe(str(error)))
            return frozenset((NOT_TLS,))
