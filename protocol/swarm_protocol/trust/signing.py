"""Sign with Ed25519 (RFC 8032) to prove that a node holds its key, and verify such signatures.

`cryptography` costs 9 MB once imported, which is a quarter of a probe. So nothing here imports it before use, and a
probe has a short-lived child sign (`python -m swarm_protocol.trust.signing`, 100 ms for each joining): the seed and the
message go in on stdin, the public key and the signature come out on stdout; nothing appears in a process list.

What is signed (`Handshake`) names the collector's fresh nonce, the collector's id, the connection that the probe sees,
and the purpose of the signature. Over TLS the connection is the hash of the certificate that the probe saw
(`tls-server-end-point`, RFC 5929: Python's ssl has no exporter for RFC 9266's `tls-exporter`); in plain text it is the
address that the connection leads to, since nothing else tells an honest collector from one that relays messages. A
machine in between has another certificate or another address, so a signature for one collector is useless at another.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import subprocess
import sys
from typing import Final, Literal

import msgspec

from swarm_protocol.child_environment import without_secrets

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
NONCE_BYTES: Final = 32
Purpose = Literal["join", "show", "forget"]
_SIGN_WITHIN_S: Final = 30.0  # a start of Python on a machine that is out of memory


class SigningError(Exception):
    """The signing child failed; one line."""


class Handshake(msgspec.Struct, frozen=True):
    """One opened connection between a probe and a collector, as each of the two sees it."""

    nonce: bytes  # chosen by the collector for this connection
    collector: bytes  # its id
    bound_to: bytes  # `certificate_binding` or `plain_text_binding`

    def signed(self, purpose: Purpose) -> bytes:
        """Return what a node signs with its key to prove its identity on this connection."""
        fields = (self.nonce, self.collector, self.bound_to)
        return f"swarmtop {purpose} 2\x00".encode() + b"".join(bytes((len(field),)) + field for field in fields)


def certificate_binding(certificate: bytes) -> bytes:
    """Return what a proof over TLS is bound to. `certificate`: in DER."""
    return hashlib.sha256(certificate).digest()


def plain_text_binding(host: str, port: int) -> bytes:
    """Return what a proof in plain text is bound to: the collector's end of the TCP connection. `host`: an IP
    address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return hashlib.sha256(f"swarmtop plain text\x00{host} {port}".encode()).digest()
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return hashlib.sha256(f"swarmtop plain text\x00{address} {port}".encode()).digest()


def public_key(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verified(public: bytes, message: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign_elsewhere(seed: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Return (public key, signature), made by a child. Blocks for as long as that takes. Raises SigningError."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "swarm_protocol.trust.signing",
    ]  # -P: nothing in the working folder is imported
    try:
        done = subprocess.run(
            command,
            input=seed + message,
            capture_output=True,
            timeout=_SIGN_WITHIN_S,
            check=False,
            env=without_secrets(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SigningError(f"no program could be started to sign with this machine's key ({error})") from error
    if done.returncode or len(done.stdout) != PUBLIC_BYTES + SIGNATURE_BYTES:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SigningError(f"signing with this machine's key failed ({said[-1] if said else 'no reason given'})")
    return done.stdout[:PUBLIC_BYTES], done.stdout[PUBLIC_BYTES:]


def main() -> None:
    given = sys.stdin.buffer.read()
    seed, message = given[:SEED_BYTES], given[SEED_BYTES:]
    sys.stdout.buffer.write(public_key(seed) + sign(seed, message))


if __name__ == "__main__":
    main()
