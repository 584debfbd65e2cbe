"""Parse the value of `--join` into a URL. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from swarm_protocol.addresses import DEFAULT_PORT
from swarm_protocol.messages.probe_messages import PROBE_PATH
from swarm_protocol.text import safe
from swarm_protocol.trust.loopback import is_loopback

_EXAMPLE: Final = "give HOST:PORT, e.g. --join 203.0.113.7:9470"


class JoinError(ValueError):
    """`--join` names no collector; the text is the whole line."""


def parse_join(text: str, *, insecure: bool = False, pinned: bool = False) -> str:
    """Return the WebSocket URL of `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a ws/wss/http/https URL. Raises JoinError.

    Without a scheme it is TLS, but plain text with `insecure`, and to this machine itself unless `pinned`.
    """
    shown = safe(text, 80)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "wss", text
    scheme = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}.get(scheme.lower(), "")
    if not scheme:
        raise JoinError(f"--join '{shown}' is neither HOST:PORT nor a ws:// or wss:// URL; {_EXAMPLE}")
    if "@" in text:  # not shown: it may be a password
        raise JoinError(f"--join takes no user or password; a token goes into --token or SWARMTOP_TOKEN; {_EXAMPLE}")
    if not separator and text.count(":") > 1 and not text.startswith("["):
        raise JoinError(f"--join '{shown}': write an IPv6 address in brackets, e.g. --join '[2001:db8::7]:9470'")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise JoinError(f"--join '{shown}': {safe(str(error), 120)}; {_EXAMPLE}") from error
    if not host or any(c.isspace() or not c.isprintable() for c in text):
        raise JoinError(f"--join '{shown}' names no host; {_EXAMPLE}")
    if parts.query or parts.fragment:
        raise JoinError(f"--join '{shown}' holds more than a host and a path; {_EXAMPLE}")
    if port == 0:
        raise JoinError(f"--join '{shown}': nothing listens on port 0; {_EXAMPLE}")
    if not separator and not pinned and (insecure or is_loopback(host)):
        scheme = "ws"
    if scheme == "ws" and not insecure and not is_loopback(host):
        raise JoinError(
            f"--join '{shown}' is plain text, which anyone on the path can read and change; "
            f"leave out the scheme for TLS, or add --insecure"
        )
    if port is None:
        port = DEFAULT_PORT if not separator else {"ws": 80, "wss": 443}[scheme]
    path = parts.path.rstrip("/").removesuffix(PROBE_PATH)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}{PROBE_PATH}"


def collector_of(url: str) -> str:
    """Return `HOST:PORT` of a URL made by parse_join, which names the collector in log lines."""
    return urlsplit(url).netloc
