"""Create the collector's own certificate on first start; its SHA-256 identifies it.

It needs no certificate authority: an invite contains its fingerprint, and a probe remembers the one it saw first. It is
valid for decades, since a new one is a new identity that every member would have to learn.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_protocol.trust import certificate_pins

CERTIFICATE_FILE: Final = "collector.crt"
KEY_FILE: Final = "collector.tls.key"
VALID_DAYS: Final = 36_500


class CertificateError(Exception):
    """The certificate cannot be made or used; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    context: ssl.SSLContext
    digest: bytes  # SHA-256 of its DER, which proofs are bound to

    @property
    def fingerprint(self) -> str:
        return certificate_pins.text_of(self.digest)


def load_or_make(folder: Path) -> Certificate:
    """Return the certificate, made if there is none. Raises CertificateError."""
    certificate, key = folder / CERTIFICATE_FILE, folder / KEY_FILE
    try:
        if not certificate.exists():
            _make(certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # a connection lasts for days: nothing to resume, and two packets less for each
        context.load_cert_chain(certificate, key)
        digest = digest_of(certificate)
    except ssl.SSLError as error:
        raise CertificateError(
            f"{certificate} and {key} do not belong together ({error.reason}); remove both to have new ones made, "
            "and then tell every member"
        ) from error
    except OSError as error:
        raise CertificateError(f"cannot use {certificate} ({error.strerror}); give --state another folder") from error
    return Certificate(context, digest)


def digest_of(path: Path) -> bytes:
    """SHA-256 of the (first) certificate in a PEM file. Raises OSError and CertificateError."""
    text = path.read_text(errors="replace")
    begin, end = text.find("-----BEGIN CERTIFICATE-----"), text.find("-----END CERTIFICATE-----")
    try:
        der = ssl.PEM_cert_to_DER_cert(text[begin : end + len("-----END CERTIFICATE-----")])
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificate in PEM; give another file") from error
    return hashlib.sha256(der).digest()


def _make(certificate: Path, key: Path) -> None:
    from cryptography import x509  # once in the life of a collector
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "swarmtop collector")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # clocks differ
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .sign(secret, hashes.SHA256())
    )
    secret_pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret_pem)
    draft = certificate.with_name(f"{certificate.name}.{os.getpid()}")
    draft.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    draft.replace(certificate)  # last: with it, the pair is complete
