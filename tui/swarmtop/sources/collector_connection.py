"""Open the connection to a running collector, check its certificate, and say why a connection failed or ended."""

from __future__ import annotations

import contextlib
import http
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.viewer_messages import MAX_STREAM_BYTES, VIEW_PATH, ViewerMessage
from swarm_protocol.text import safe
from swarm_protocol.trust import certificate_pins
from swarmtop.sources.source import SourceError
from swarmtop.text.connection_failure import why_unreachable

CONNECT_WITHIN_S: Final = 10.0  # a handshake over the slowest usable path


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Refuse every redirect: the token must not go to another host."""
        return exc


class Lost(Exception):
    """The connection has ended; the text says why, in a few words."""


class NoCollector(Lost):
    """Something answers in the collector's place: a collector that stops, or a proxy in front of one."""


@dataclass(slots=True)
class CollectorConnector:
    """Opens connections to one collector, and keeps what its certificate showed."""

    title: str  # host:port
    tls: bool
    pin: str | None  # that the certificate must have; None: the one remembered in `pins_folder`, if any
    pins_folder: Path
    shown_pin: str = ""  # of the collector's certificate, once it was seen
    first_seen: str = ""  # a line for the screen when the certificate was seen for the first time

    async def open(self, stack: contextlib.AsyncExitStack) -> ClientConnection:
        """Open a connection that `stack` closes. Raises Lost (try again) or SourceError (do not)."""
        try:
            connection = await stack.enter_async_context(
                _Connect(
                    f"{'wss' if self.tls else 'ws'}://{self.title}{VIEW_PATH}",
                    ssl=certificate_pins.client_context() if self.tls else None,
                    max_size=MAX_STREAM_BYTES,
                    open_timeout=CONNECT_WITHIN_S,
                    compression=None,  # frames are packed already
                    proxy=None,
                )
            )
            self._check_certificate(connection)
            return connection
        except TimeoutError as error:
            raise Lost(f"no answer within {CONNECT_WITHIN_S:.0f} s") from error
        except certificate_pins.PinError as error:
            raise SourceError(str(error), 3) from error
        except InvalidStatus as error:
            if error.response.status_code == http.HTTPStatus.UPGRADE_REQUIRED:
                raise SourceError(
                    f"{self.title} takes only TLS from other machines; leave out --insecure", 3
                ) from error
            raise NoCollector(f"answers with HTTP {error.response.status_code}") from error
        except InvalidHandshake as error:
            raise SourceError(f"{self.title} answers, but is no swarm-collector; correct --connect", 3) from error
        except OSError as error:  # ssl.SSLError is one
            raise Lost(reason(error)) from error

    def _check_certificate(self, connection: ClientConnection) -> None:
        """Before anything of ours is said. Raises PinError if it is not the one that is known."""
        found = connection.transport.get_extra_info("ssl_object")
        certificate = found.getpeercert(binary_form=True) if found is not None else None
        if certificate is None:
            return
        self.shown_pin = certificate_pins.fingerprint(certificate)
        known = self.pin or certificate_pins.load(self.pins_folder, self.title)
        certificate_pins.require(self.title, known, self.shown_pin)
        certificate_pins.remember(self.pins_folder, self.title, self.shown_pin)
        if known is None:
            self.first_seen = f"first time at {self.title}: it shows {self.shown_pin}, required from now on"


async def send(connection: ClientConnection, message: ViewerMessage) -> None:
    try:
        await connection.send(encode(message))
    except ConnectionClosed as error:
        raise Lost(closed_reason(error)) from error


def reason(error: OSError) -> str:
    """Why a connection could not be opened: `refused`, `unknown host name`, `no route to host`."""
    if isinstance(error, ssl.SSLError):
        return "it speaks no TLS: no collector, or one that takes plain text, for which there is --insecure"
    return why_unreachable(error)


def closed_reason(error: ConnectionClosed) -> str:
    frame = error.rcvd
    return (
        f"closed by the collector: {safe(frame.reason, 120)}" if frame and frame.reason else "closed by the collector"
    )
