"""Make the certificate that TLS requires of a QUIC server: RFC 5280, in DER (X.690), signed by its own key.

It proves nothing, and names nobody. cryptography's builder would load all that certificates may contain: 2 MB.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Final

from aioquic.tls import load_pem_x509_certificates
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from cryptography import x509

_INTEGER, _BIT_STRING, _UTF8, _SEQUENCE, _SET = 0x02, 0x03, 0x0C, 0x30, 0x31
_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_V3: Final = b"\x02\x01\x02"
_ECDSA_SHA256: Final = bytes.fromhex("06082a8648ce3d040302")  # 1.2.840.10045.4.3.2, RFC 5758 §3.2
_COMMON_NAME: Final = bytes.fromhex("0603550403")  # 2.5.4.3
_SERIAL_BYTES: Final = 16
_SHORT: Final = 0x80  # lengths from this on take more bytes


def made_up_certificate(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return a certificate of this name, valid for a century, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = _der(_SEQUENCE, _ECDSA_SHA256)
    named = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME + _der(_UTF8, name.encode()))))
    valid = _der(_SEQUENCE, _der(_UTC_TIME, b"200101000000Z") + _der(_GENERALIZED_TIME, b"21200101000000Z"))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    serial = _der(_INTEGER, b"\x01" + os.urandom(_SERIAL_BYTES))  # positive by its first byte
    signed = _der(_SEQUENCE, _der(_VERSION, _V3) + serial + algorithm + named + valid + named + public)
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    whole = _der(_SEQUENCE, signed + algorithm + _der(_BIT_STRING, b"\x00" + signature))
    text = base64.encodebytes(whole).decode()
    (certificate,) = load_pem_x509_certificates(
        f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n".encode()
    )
    return certificate, key


def _der(kind: int, content: bytes) -> bytes:
    size = len(content)
    if size < _SHORT:
        return bytes((kind, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((kind, _SHORT | len(length))) + length + content
