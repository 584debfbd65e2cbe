"""Ed25519 (RFC 8032): what a node signs to show that it holds its key, and how that is checked.

`cryptography` costs 9 MB once imported, which is a quarter of a probe. So nothing here imports it before it is used,
and a probe has a short-lived child sign (`python -m swarm_protocol.trust.signing`, 100 ms at each joining): the seed
and the message go in on stdin, the public key and the signature come out on stdout; nothing stands in a process list.

What is signed at a joining is the collector's fresh nonce and the hash of the certificate that the probe saw
(`tls-server-end-point`, RFC 5929: Python's ssl has no exporter for RFC 9266's `tls-exporter`). Somebody in between has
another certificate, and one collector cannot use at another what was signed for it.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
NONCE_BYTES: Final = 32
NOT_TLS: Final = b""  # what a proof is bound to where the connection is plain text, on one machine
_CONTEXT: Final = b"swarmtop join 1\x00"
_SIGN_WITHIN_S: Final = 30.0  # a start of Python on a machine that is out of memory


class SigningError(Exception):
    """The child that signs did not; one line."""


def joining(nonce: bytes, bound_to: bytes) -> bytes:
    """What is signed. `bound_to`: SHA-256 of the certificate seen, or NOT_TLS."""
    return _CONTEXT + len(nonce).to_bytes(1, "big") + nonce + bound_to


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
    """(public key, signature), made by a child. Blocks for as long as that takes. Raises SigningError."""
    command = [sys.executable, "-m", "swarm_protocol.trust.signing"]
    try:
        done = subprocess.run(command, input=seed + message, capture_output=True, timeout=_SIGN_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SigningError(f"no program could be started to sign with this machine's key ({error})") from error
    if done.returncode or len(done.stdout) != PUBLIC_BYTES + SIGNATURE_BYTES:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SigningError(f"signing with this machine's key failed ({said[-1] if said else 'no word of why'})")
    return done.stdout[:PUBLIC_BYTES], done.stdout[PUBLIC_BYTES:]


def main() -> None:
    given = sys.stdin.buffer.read()
    seed, message = given[:SEED_BYTES], given[SEED_BYTES:]
    sys.stdout.buffer.write(public_key(seed) + sign(seed, message))


if __name__ == "__main__":
    main()
