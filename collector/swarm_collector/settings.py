"""Hold the operator's settings of this collector."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from swarm_collector.scheduling.measurement_plan import FocusError, check_focus
from swarm_collector.scheduling.transfer_leases import DAILY_BYTES
from swarm_collector.transport.certificate import Certificate, CertificateError, digest_of
from swarm_collector.transport.connection_limits import Limits
from swarm_collector.transport.keepalive import KeepaliveTimes
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.text import safe
from swarm_protocol.trust.identity import collector_id
from swarm_protocol.trust.signing import plain_text_binding

_log = logging.getLogger("swarm_collector")


@dataclass(frozen=True, slots=True)
class Settings:
    focus: Focus
    secret: bytes
    token: str = ""
    focus_is_named: bool = False  # by the operator: takes precedence over what a viewer chose before a restart
    show_addresses: bool = False  # show members' addresses to viewers
    certificate: Certificate | None = None  # None: plain text only
    insecure: bool = False  # accept plain text from other machines too
    proxy_cert: Path | None = None  # of a TLS proxy on this machine: the certificate that probes behind it see
    wheel: str | None = None  # what volunteers install: a file, "none", or None: this installation
    limits: Limits = field(default_factory=Limits)
    pulse: KeepaliveTimes = field(default_factory=KeepaliveTimes)
    transfer_bytes: int = DAILY_BYTES  # a node's daily share for transfers, in and out

    @property
    def collector_id(self) -> bytes:
        """Return the id that proofs name this collector by: the same for all collectors of one database, over
        restarts."""
        return collector_id(self.secret)

    def bound_to(self, own: tuple[str, int] | None) -> frozenset[bytes]:
        """Return what the proof of a peer that is connected now may be bound to. `own`: this end of a plain-text
        connection; None: TLS."""
        if own is None:
            assert self.certificate is not None
            return frozenset((self.certificate.digest,))
        plain = plain_text_binding(*own)
        proxy = self.proxy_cert
        if proxy is None:
            return frozenset((plain,))
        try:
            return frozenset((plain, digest_of(proxy)))  # read each time: it is renewed every few weeks
        except (OSError, CertificateError) as error:
            _log.error("the proxy's certificate cannot be used: %s", safe(str(error)))
            return frozenset((plain,))

    def first_focus(self, kept: str | None) -> Focus:
        """Return the model to measure for at the start: the stored one, unless the operator names one now."""
        own = msgspec.structs.replace(self.focus, chosen=self.focus_is_named)
        if self.focus_is_named or kept is None:
            return own
        try:
            focus = msgspec.json.decode(kept, type=Focus)
            check_focus(focus)
        except (msgspec.DecodeError, FocusError) as error:
            _log.warning("the model kept in the store cannot be used (%s)", safe(str(error)))
            return own
        return msgspec.structs.replace(focus, chosen=focus.chosen is True)
