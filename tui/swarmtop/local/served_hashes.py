"""Ask a collector which swarmtop version it serves to volunteers, with the hashes that an invite contains."""

from __future__ import annotations

import http.client
import re
import ssl
from dataclasses import dataclass
from typing import Final

from swarm_protocol.trust import certificate_pins

ASK_WITHIN_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 4096
SUMS_PATH: Final = "/SHA256SUMS"
_ROW = re.compile(r"^([0-9a-f]{64})  (join\.sh|swarmtop-[0-9A-Za-z.+]+-py3-none-any\.whl)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Served:
    script_sha256: str  # of /join.sh
    wheel_sha256: str


def served(host: str, port: int, pin: str, *, tls: bool) -> Served | str:
    """Return what that collector serves, or why it serves nothing. `pin`: the fingerprint that TLS must show."""
    connection: http.client.HTTPConnection
    if tls:
        context = certificate_pins.client_context()
        connection = http.client.HTTPSConnection(host, port, timeout=ASK_WITHIN_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=ASK_WITHIN_S)
    try:
        connection.connect()
        if isinstance(connection.sock, ssl.SSLSocket):
            certificate = connection.sock.getpeercert(binary_form=True) or b""
            if certificate_pins.fingerprint(certificate) != pin:
                return "its certificate is not the one that is known"
        connection.request("GET", SUMS_PATH)
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        return body.strip() or f"HTTP {response.status}"
    rows = {name: sha256 for sha256, name in _ROW.findall(body)}
    script = rows.pop("join.sh", "")
    if not script or len(rows) != 1:
        return "it answers with something else"
    return Served(script, *rows.values())
