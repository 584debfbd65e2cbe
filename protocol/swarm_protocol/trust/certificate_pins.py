"""Remember which certificate belongs to which collector: pinned by an invite, else the one seen first (as ssh does).

A collector makes its own certificate, so its SHA-256 identifies it instead of an authority. The file holds one line for
each collector, `HOST:PORT SHA256:…`, and may be edited by hand.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

PINS_FILE: Final = "known_collectors"
_PREFIX: Final = "SHA256:"
_HEAD: Final = "# collectors and the certificates they were first seen with; remove a line to forget one\n"


class PinError(ValueError):
    """A fingerprint or its file cannot be used, or a certificate differs from the known one; one line."""


def fingerprint(certificate: bytes) -> str:
    """Return the fingerprint of a certificate in DER: `SHA256:` and 43 characters, as ssh shows a host key."""
    return text_of(hashlib.sha256(certificate).digest())


def text_of(digest: bytes) -> str:
    return _PREFIX + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def digest_of(text: str) -> bytes:
    """Return the 32 bytes of a fingerprint. Raises PinError."""
    kind, colon, rest = text.partition(":")
    try:
        digest = base64.b64decode(rest + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if not colon or kind.upper() != "SHA256" or len(digest) != hashlib.sha256().digest_size:
        raise PinError("a fingerprint is SHA256: and 43 characters, as swarmtop invite prints it; copy it whole")
    return digest


def require(collector: str, known: str | None, shown: str) -> None:
    """Raise PinError if the certificate shown is not the known one."""
    if known is not None and known != shown:
        raise PinError(
            f"{collector} shows another certificate than the one known ({shown}, not {known}): somebody may be in "
            f"between; if its operator says that it was replaced, give --fingerprint {shown}"
        )


def load(folder: Path, collector: str) -> str | None:
    """Return the known fingerprint; None: it was never seen. Raises PinError for a file that cannot be read."""
    return _read(folder / PINS_FILE).get(collector)


def remember(folder: Path, collector: str, shown: str) -> None:
    """Store the fingerprint. Raises PinError if it cannot be written."""
    path = folder / PINS_FILE
    pins = _read(path)
    if pins.get(collector) == shown:
        return
    pins[collector] = shown
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(_HEAD + "".join(f"{name} {pin}\n" for name, pin in sorted(pins.items())))
        draft.replace(path)
    except OSError as error:
        raise PinError(f"cannot write {path} ({error.strerror}); free space or give --state another folder") from error


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PinError(f"cannot read {path} ({error.strerror}); correct its permissions") from error
    found = {}
    for line in lines:
        words = line.split()
        if len(words) == 2 and not line.startswith("#"):
            found[words[0]] = words[1]
    return found


def client_context() -> ssl.SSLContext:
    """Return a context for TLS 1.3 to a collector whose certificate is compared with a fingerprint, not authorities."""
    import ssl  # late: 4.4 MB, which a connection in plain text does not need

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
