"""Import libraries without their parts that the daemon never uses, to save memory. Import this module first.

`websockets.version` loads importlib.metadata (with zipfile, email, shutil and compressors: 1.5 MB) to find its own
version in a checkout of its sources; a released version states it. msgspec takes typing_extensions (0.4 MB) where it
is installed, and the same names from `typing` otherwise; and decimal (0.4 MB) to recognise its numbers, which no
message has. argparse loads shutil with its compressors (0.5 MB). hashlib and asyncio load OpenSSL (5 MB): hashlib for
hashes that Python has too, as fast for packets of 100 bytes; asyncio for TLS, which a collector on this machine does
not need.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

_METADATA = "importlib.metadata"
_EXTENSIONS = "typing_extensions"
_DECIMAL = "decimal"
CERT_NONE = 0  # of `ssl`


@contextlib.contextmanager
def _in_place_of(name: str, module: ModuleType | None) -> Iterator[None]:
    """Let imports in the block find `module`, None: nothing, under this name; unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]  # None: as if not installed
    try:
        yield
    finally:
        del sys.modules[name]


def asyncio_without_tls() -> None:
    """Import asyncio, if it is not imported yet, for a process that opens no TLS connection by it. `import ssl` works
    as before; asyncio does not look for it again."""
    with _in_place_of("ssl", None):
        importlib.import_module("asyncio")


def shutil_without_compressors() -> None:
    """Import shutil, if it is not imported yet, for argparse, which asks it for the width of the terminal."""
    with _in_place_of("bz2", None), _in_place_of("lzma", None):
        importlib.import_module("shutil")


def aioquic_without_verification() -> None:
    """Import aioquic's TLS, if it is not imported yet, without what verifies certificates (certifi, service_identity
    with attrs and idna, pyOpenSSL: 4 MB; ssl, of which it takes two constants; email, for addresses in certificates:
    0.4 MB). A certificate proves nothing here: both ends prove their key afterwards."""
    names = ("certifi", "service_identity", "OpenSSL", "ssl", "email", "email.utils")
    absent = {name: ModuleType(name) for name in names}
    vars(absent["OpenSSL"])["crypto"] = ModuleType("OpenSSL.crypto")
    vars(absent["ssl"]).update(CERT_NONE=CERT_NONE, CERT_REQUIRED=2)
    vars(absent["email.utils"])["parseaddr"] = None
    with contextlib.ExitStack() as imports:
        for name, module in absent.items():
            imports.enter_context(_in_place_of(name, module))
        imports.enter_context(_in_place_of(_EXTENSIONS, None))
        importlib.import_module("aioquic.tls")


def encoded(host: str) -> str | bytes:
    """Return a host's name or address for the system and for TLS: in bytes, unless it needs the codec for names in
    other scripts, which Python loads for any text (0.5 MB, with Unicode's tables)."""
    return host.encode() if host.isascii() else host


def proxies_set() -> bool:
    """Return whether the owner has set a proxy. Linux has no setting but the environment, so that urllib, which asks
    other systems, is not loaded there without one."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") and to for name, to in os.environ.items()):
        return False
    from urllib.request import getproxies

    return bool(getproxies())


_no_decimals = ModuleType(_DECIMAL)
vars(_no_decimals)["Decimal"] = type("Decimal", (), {})
with _in_place_of(_EXTENSIONS, None), _in_place_of(_DECIMAL, _no_decimals):
    import msgspec  # noqa: F401
with _in_place_of(_METADATA, ModuleType(_METADATA)), contextlib.suppress(AttributeError):  # not released: loaded later
    import websockets.version  # noqa: F401
if find_spec("_sha1") and (find_spec("_sha256") or find_spec("_sha2")):  # otherwise this Python has OpenSSL's alone
    with _in_place_of("_hashlib", None):
        import hashlib  # noqa: F401
        import hmac  # noqa: F401
