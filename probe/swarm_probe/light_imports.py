"""Import libraries without their parts that the daemon never uses, to save memory. Import this module first.

`websockets.version` loads importlib.metadata (with zipfile, email, shutil and compressors: 1.5 MB) to find its own
version in a checkout of its sources; a released version states it. msgspec takes typing_extensions (0.4 MB) where it
is installed, and the same names from `typing` otherwise; and decimal (0.4 MB) to recognise its numbers, which no
message has. argparse loads shutil with its compressors (0.5 MB). The standard library loads what describes Python code
(inspect, with ast and dis: 0.8 MB) and tracebacks (0.2 MB), the names of all locales (0.2 MB) and more that hardly any
program uses: those come when they are used.
hashlib and asyncio load OpenSSL (5 MB): hashlib for hashes that Python has too, as fast for packets of 100 bytes;
asyncio for TLS, which a collector on this machine does not need.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

_METADATA = "importlib.metadata"
_EXTENSIONS = "typing_extensions"
_DECIMAL = "decimal"
_SSH_KEYS = "cryptography.hazmat.primitives.serialization.ssh"
_CERTIFICATES = "cryptography.x509"
_BINDING = "cryptography.hazmat.bindings.openssl.binding"
_OF_CERTIFICATES = ("Certificate", "load_der_x509_certificate", "load_pem_x509_certificate")  # what aioquic's TLS uses
_OTHER_HASHES = {  # of hashlib: none that a probe uses
    "_blake2": "blake2b blake2s",
    "_sha3": "sha3_224 sha3_256 sha3_384 sha3_512 shake_128 shake_256",
}
_CO_COROUTINE = 0x80  # of `inspect`: the flag of a function's code that makes a call of it a coroutine
CERT_NONE = 0  # of `ssl`
TLS_RECORD_BYTES = 16 << 10


class _Absent(ModuleType):
    """Has any name, for imports from it, and nothing behind them."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # what Python asks of modules
            raise AttributeError(name)


class _Later(ModuleType):
    """Stands for a module that is loaded when something of it is asked for that is not `known`."""

    _asked_for: tuple[str, ...] = ()  # names with underscores that load it too

    def __init__(self, name: str, **known: Any) -> None:
        super().__init__(name)
        vars(self).update(known)

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            if name.startswith("__") and name not in self._asked_for:  # what Python asks of modules
                raise AttributeError(name)
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _PackageLater(_Later):
    _asked_for = ("__path__",)  # to find modules in it


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
        if sys.modules.get(name) is module:  # otherwise it was asked for meanwhile, and is loaded
            del sys.modules[name]


@contextlib.contextmanager
def _attribute(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module in the block; nothing if it has none of this name."""
    before = vars(module).get(name)
    if before is None:
        yield
        return
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def asyncio_without_tls() -> None:
    """Import asyncio, if it is not imported yet, for a process that opens no TLS connection by it. `import ssl` works
    as before; asyncio does not look for it again."""
    with _in_place_of("ssl", None):
        importlib.import_module("asyncio")


def small_tls_buffers() -> None:
    """Let asyncio's TLS connections read into the size of one record (RFC 8446 §5.1), not into 256 KiB each."""
    from asyncio.sslproto import SSLProtocol  # late: the caller decides how asyncio is imported

    SSLProtocol.max_size = TLS_RECORD_BYTES


def shutil_without_compressors() -> None:
    """Import shutil, if it is not imported yet, for argparse, which asks it for the width of the terminal."""
    with _in_place_of("zlib", None), _in_place_of("bz2", None), _in_place_of("lzma", None):
        importlib.import_module("shutil")


def _import_with_later(importing: str, *later: _Later) -> None:
    """Import a module for which these are loaded when it first asks for something of them."""
    with contextlib.ExitStack() as imports:
        for module in later:
            imports.enter_context(_in_place_of(module.__name__, module))
        importlib.import_module(importing)


def aioquic_without_verification() -> None:
    """Import aioquic, if it is not imported yet, without what verifies certificates (certifi, service_identity with
    attrs and idna, pyOpenSSL: 4 MB; ssl, of which it takes two constants; email, for addresses in certificates: 0.4 MB)
    and without keys in the formats of SSH and the parts of certificates (2 MB). A certificate proves nothing here: both
    ends prove their key afterwards. It is read whole, by cryptography's own functions in Rust. Data classes without a
    docstring get no signature in its place (inspect: 1 MB), json comes when a log of packets is written, and OpenSSL's
    functions are not listed for those who call them by name (pyOpenSSL: 0.3 MB)."""
    import dataclasses

    from cryptography.hazmat.bindings._rust import _openssl, x509  # late: 7 MB

    known = {name: getattr(x509, name) for name in _OF_CERTIFICATES if hasattr(x509, name)}
    if _CERTIFICATES not in sys.modules and len(known) == len(_OF_CERTIFICATES):
        # it stays there: reading a certificate looks there for the version
        certificates = _PackageLater(_CERTIFICATES, Version=SimpleNamespace(v1=0, v3=2), **known)
        sys.modules[_CERTIFICATES] = vars(sys.modules["cryptography"])["x509"] = certificates
    names = ("certifi", "service_identity", "OpenSSL", "ssl", "email", "email.utils", _SSH_KEYS)
    absent = {name: _Absent(name) for name in names}
    vars(absent["ssl"]).update(CERT_NONE=CERT_NONE, CERT_REQUIRED=2)
    binding = ModuleType(_BINDING)
    vars(binding)["Binding"] = lambda: SimpleNamespace(ffi=_openssl.ffi, lib=_openssl.lib)
    with contextlib.ExitStack() as imports:
        for name, module in absent.items():
            imports.enter_context(_in_place_of(name, module))
        imports.enter_context(_in_place_of(_EXTENSIONS, None))
        imports.enter_context(_in_place_of("json", _Later("json")))
        imports.enter_context(_in_place_of(_BINDING, binding))
        imports.enter_context(_attribute(dataclasses, "inspect", SimpleNamespace(signature=lambda _: "")))
        importlib.import_module("cryptography.hazmat.backends.openssl.backend")
        importlib.import_module("aioquic.quic.connection")


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


def _load_when_used(module: _Later) -> None:
    """Let everybody find `module` until something of it is asked for, unless it is loaded already."""
    sys.modules.setdefault(module.__name__, module)


def standing_in() -> list[str]:
    """Return the names of modules that have not been loaded, because nothing of them was asked for yet."""
    return [name for name, module in sys.modules.items() if isinstance(module, _Later)]


def _function_of(module: str, name: str) -> Callable[..., Any]:
    """Return a function that loads the module when it is called: for what others take out of it at their import."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **options)

    return call


def _extract_stack(frame: FrameType | None = None, limit: int | None = None) -> Any:
    """`traceback.extract_stack`, which asyncio takes when it is imported, and calls for debugging."""
    from traceback import StackSummary, walk_stack  # not known of it: loads it

    stack = StackSummary.extract(walk_stack(frame or sys._getframe(1)), limit=limit)
    stack.reverse()
    return stack


def _is_coroutine_function(function: Any) -> bool:
    """`inspect.iscoroutinefunction`, which asyncio calls with each handler of a signal."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


if sys.version_info < (3, 14):  # later ones were not looked at
    _load_when_used(_Later("inspect", iscoroutinefunction=_is_coroutine_function))
    _load_when_used(_Later("traceback", extract_stack=_extract_stack))
    _load_when_used(_Later("linecache"))  # with tokenize
    _load_when_used(_Later("array"))  # for sockets that pass file descriptors
    _import_with_later("subprocess", _Later("locale"))
    if hasattr(os, "uname"):
        with _in_place_of("_uuid", None):  # libuuid, for numbers made of the time and the network card's address
            _import_with_later("uuid", _Later("platform", system=lambda: os.uname().sysname))
_no_decimals = ModuleType(_DECIMAL)
vars(_no_decimals)["Decimal"] = type("Decimal", (), {})
with _in_place_of(_EXTENSIONS, None), _in_place_of(_DECIMAL, _no_decimals):
    schemas = {name: _function_of("msgspec._json_schema", name) for name in ("schema", "schema_components")}
    _import_with_later("msgspec", _Later("msgspec.inspect"), _Later("msgspec._json_schema", **schemas))
with _in_place_of(_METADATA, ModuleType(_METADATA)), contextlib.suppress(AttributeError):  # not released: loaded later
    import websockets.version  # noqa: F401
if find_spec("_sha1") and (find_spec("_sha256") or find_spec("_sha2")):  # otherwise this Python has OpenSSL's alone
    with _in_place_of("_hashlib", None), contextlib.ExitStack() as imports:
        for module, names in _OTHER_HASHES.items():
            functions = ModuleType(module)
            vars(functions).update({name: _function_of(module, name) for name in names.split()})
            imports.enter_context(_in_place_of(module, functions))
        import hashlib  # noqa: F401
        import hmac  # noqa: F401
