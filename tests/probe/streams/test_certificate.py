"""The certificate of a QUIC server, which is written by hand, is one that others can read."""

from __future__ import annotations

import datetime as dt

import pytest

pytest.importorskip("aioquic")

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from swarm_probe.streams.certificate import _der, made_up_certificate


def test_it_is_read_by_the_whole_library_and_signed_by_its_own_key() -> None:
    made, key = made_up_certificate("swarmtop")
    read = x509.load_der_x509_certificate(made.public_bytes(Encoding.DER))
    assert read.version == x509.Version.v3  # RFC 8446 §4.4.2.2 asks for it
    assert read.subject == read.issuer == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarmtop")])
    assert read.not_valid_before_utc == dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert read.not_valid_after_utc == dt.datetime(2120, 1, 1, tzinfo=dt.UTC)
    assert read.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert read.serial_number > 1 << 120
    assert list(read.extensions) == []
    read.verify_directly_issued_by(read)
    read_key = read.public_key()
    assert isinstance(read_key, ec.EllipticCurvePublicKey)
    assert read_key.public_numbers() == key.public_key().public_numbers()


def test_each_has_a_number_and_a_key_of_its_own() -> None:
    one, other = (made_up_certificate("swarmtop")[0] for _ in range(2))
    assert one.serial_number != other.serial_number
    assert one.public_bytes(Encoding.DER) != other.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("size", "header"), [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100")]
)
def test_lengths_are_those_of_der(size: int, header: str) -> None:
    assert _der(0x04, bytes(size)) == bytes.fromhex(header) + bytes(size)
