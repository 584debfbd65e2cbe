"""Find the operator's collector on this machine, and send requests to it.

A collector leaves a file in its state folder that only its owner can read. One POST a question; over loopback it is
plain text, else TLS with the certificate that the file names.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_protocol.addresses import address_text
from swarm_protocol.messages import operator_messages
from swarm_protocol.messages.probe_messages import OPERATE_PATH
from swarm_protocol.text import safe
from swarm_protocol.trust import certificate_pins
from swarmtop.errors import UNREACHABLE, CommandError
from swarmtop.local.own_collector import folders

ASK_WITHIN_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 << 20
EVERYWHERE: Final = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class OperatorClient:
    """A collector that this user operates."""

    operator: operator_messages.Operator

    @property
    def here(self) -> str:
        """Return the address at which this machine reaches it."""
        host = self.operator.host
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

    def ask(self, request: operator_messages.Request) -> operator_messages.Answer:
        """Raises CommandError: it does not answer, or refuses."""
        where = address_text(self.here, self.operator.port)
        try:
            with contextlib.closing(self._connection()) as connection:
                connection.connect()
                self._require_pin(connection, where)
                headers = {"Authorization": f"Bearer {self.operator.secret}", "Content-Type": "application/json"}
                connection.request("POST", OPERATE_PATH, msgspec.json.encode(request), headers)
                response = connection.getresponse()
                body = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandError(
                f"the collector at {where} does not answer ({safe(said, 100)}); is it running?", UNREACHABLE
            ) from error
        if response.status != http.HTTPStatus.OK:
            raise CommandError(
                f"what answers at {where} is not the collector of this state folder (HTTP {response.status}); "
                f"name its folder with --state",
                UNREACHABLE,
            )
        try:
            answer: operator_messages.Answer = operator_messages.answer_decoder.decode(body)
        except msgspec.DecodeError as error:
            raise CommandError(f"the collector at {where} is of another version ({safe(str(error), 80)})") from error
        if isinstance(answer, operator_messages.No):
            raise CommandError(safe(answer.text))
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if not self.operator.pin or self.here.startswith("127.") or self.here == "::1":
            return http.client.HTTPConnection(self.here, self.operator.port, timeout=ASK_WITHIN_S)
        context = certificate_pins.client_context()
        return http.client.HTTPSConnection(self.here, self.operator.port, timeout=ASK_WITHIN_S, context=context)

    def _require_pin(self, connection: http.client.HTTPConnection, where: str) -> None:
        """Before the secret is sent."""
        if not isinstance(connection.sock, ssl.SSLSocket):
            return
        certificate = connection.sock.getpeercert(binary_form=True) or b""
        try:
            certificate_pins.require(where, self.operator.pin, certificate_pins.fingerprint(certificate))
        except certificate_pins.PinError as error:
            raise CommandError(str(error), UNREACHABLE) from error


def find(given: str | None, port: int | None = None) -> OperatorClient | None:
    """The collector that this user operates here, on this port if one is named; None: there is no sign of one."""
    clients = [
        OperatorClient(found)
        for folder in folders(given)
        if (found := operator_messages.read_operator(folder)) is not None
    ]
    fitting = [client for client in clients if port is None or client.operator.port == port]
    return _answering(fitting) or next(iter(fitting), None)


def need(given: str | None) -> OperatorClient:
    """Raises CommandError if this user operates none here."""
    client = find(given)
    if client is None:
        raise CommandError(
            "no collector of yours has run on this machine; run this where swarm-collector or swarmtop --listen runs, "
            "as the same user, or name its state folder with --state"
        )
    return client


def _answering(clients: Sequence[OperatorClient]) -> OperatorClient | None:
    """The first that answers, where there are several: one of them may have ended long ago."""
    if len(clients) == 1:
        return clients[0]
    for client in clients:
        with contextlib.suppress(CommandError):
            client.ask(operator_messages.ListInvites())
            return client
    return None
