"""Create hosts as nameless network namespaces, each with one TUN interface whose other end the router holds.

Nothing is left to clean up: a namespace lives as long as a process or a file descriptor of ours, and the TUN interface
with it, so that even kill -9 of everything leaves no trace. Interfaces are set up with the ioctls of netdevice(7): no
iproute2 is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLONE_NEWNET: Final = 0x40000000
CLONE_NEWUSER: Final = 0x10000000
_PR_SET_PDEATHSIG: Final = 1
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFFLAGS, _SIOCSIFMTU, _SIOCSIFTXQLEN = 0x8916, 0x891C, 0x8914, 0x8922, 0x8943
_SIOCADDRT: Final = 0x890B
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_RTF_UP: Final = 0x1
TUN: Final = Path("/dev/net/tun")
INTERFACE: Final = "eth0"
MTU_BYTES: Final = 1500
TX_QUEUE_PACKETS: Final = 2000  # the router reads immediately; packets wait here only while the router does not run

_CONGESTION: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_CONGESTION_ALLOWED: Final = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")

# sysctls; the first must not be 0, the second must not be 0 (Debian), the third must not be 1 (Ubuntu)
_USER_NAMESPACE_SETTINGS: Final = (
    "user.max_user_namespaces",
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
)

_libc = ctypes.CDLL(None, use_errno=True)


class LabUnavailable(Exception):
    """This machine cannot run the lab; one line that says why."""


class TunUnavailable(LabUnavailable):
    """The TUN device cannot be opened; the line says what makes it usable."""


@dataclass(frozen=True, slots=True)
class HostNet:
    """A network stack of its own. The caller closes both descriptors."""

    namespace_fd: int
    tun_fd: int
    address: str
    congestion: str  # the TCP congestion control it has: the machine's own where it may not be changed


class _Route(ctypes.Structure):
    """struct rtentry of route(7)."""

    _fields_ = (
        ("pad1", ctypes.c_ulong),
        ("destination", ctypes.c_char * 16),
        ("gateway", ctypes.c_char * 16),
        ("mask", ctypes.c_char * 16),
        ("flags", ctypes.c_ushort),
        ("pad2", ctypes.c_short),
        ("pad3", ctypes.c_ulong),
        ("pad4", ctypes.c_void_p),
        ("metric", ctypes.c_short),
        ("device", ctypes.c_char_p),
        ("mtu", ctypes.c_ulong),
        ("window", ctypes.c_ulong),
        ("irtt", ctypes.c_ushort),
    )


def why_unavailable() -> str | None:
    """Return one line that says what is missing here, or None. It tries, because permissions cannot be predicted."""
    if not hasattr(_libc, "setns"):
        return "the lab needs Linux (network namespaces and TUN)"
    who = "root, or user namespaces" if os.geteuid() else "the right to make network namespaces (CAP_SYS_ADMIN)"
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # a process of its own, so that a half-made namespace ends with it
        status = 1
        try:
            if os.geteuid() != 0:
                enter_user_namespace()
            make_host("198.18.255.1")
            status = 0
        except TunUnavailable as error:
            os.write(write_end, f"the lab needs the TUN device: {error}".encode())
        except (LabUnavailable, OSError) as error:
            os.write(write_end, f"the lab needs {who}: {error}".encode())
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        trouble = reader.read().decode()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return None
    return trouble or f"the lab needs {who}: the trial ended with status {status} and without a reason"


def enter_user_namespace() -> None:
    """Become root of a user namespace, where the machine allows that. Raises LabUnavailable.

    It includes a network namespace to come back to, since the machine's own may not be entered. Only a process with a
    single thread may do this (unshare(2)).
    """
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNET), f"a user namespace; {_why_no_user_namespace()}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _why_no_user_namespace() -> str:
    """Return the settings that usually forbid it, with their values here."""
    found = []
    for name in _USER_NAMESPACE_SETTINGS:
        with contextlib.suppress(OSError):
            found.append(f"{name} = {Path('/proc/sys', name.replace('.', '/')).read_text().strip()}")
    return ", ".join(found) or "this kernel has none"


def make_host(address: str, congestion: str = "cubic") -> HostNet:
    """Return a namespace with loopback and `eth0` up, everything routed to the TUN. Raises LabUnavailable.

    `congestion`: the TCP of this host; the machine's own setting does not describe a home.
    """
    with _allowed(congestion), _restored_namespace():
        _check(_libc.unshare(CLONE_NEWNET), "a network namespace")
        namespace_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # no IPv6 in this kernel: nothing to turn off
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        tun_fd = _open_tun()
        fcntl.ioctl(tun_fd, _TUNSETIFF, struct.pack("16sH22x", INTERFACE.encode(), _IFF_TUN | _IFF_NO_PI))
        _configure(address)
        with contextlib.suppress(OSError):  # the caller reads what there is
            _CONGESTION.write_text(congestion)
        return HostNet(namespace_fd, tun_fd, address, _CONGESTION.read_text().strip())


def _open_tun() -> int:
    """Return a descriptor of the TUN device. Raises TunUnavailable."""
    try:
        return os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TunUnavailable(_why_no_tun(error)) from error


def _why_no_tun(error: OSError) -> str:
    """Return why the device cannot be opened, and the command that helps.

    udev makes the device with mode 0666. Without udev (a minimal root, a container) it is missing or root's alone.
    """
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return (
            f"{TUN} is missing; as root: modprobe tun, and where no udev makes the device: "
            f"mkdir -p {TUN.parent} && mknod -m 0666 {TUN} c 10 200 (in a container: start it with --device {TUN})"
        )
    if error.errno == errno.EACCES:
        mode = ""
        with contextlib.suppress(OSError):
            mode = f" (its mode is {TUN.stat().st_mode & 0o7777:04o})"
        return f"this user may not open {TUN}{mode}; as root: chmod 0666 {TUN}, or run the lab as root"
    if error.errno == errno.EPERM:
        return f"{TUN} may not be opened here ({error.strerror}); in a container: start it with --device {TUN}"
    return f"{TUN} cannot be opened ({error.strerror})"


@contextlib.contextmanager
def _allowed(congestion: str) -> Iterator[None]:
    """Allow our congestion control for a moment: namespaces may only use algorithms that the machine allows to all."""
    try:
        before = _CONGESTION_ALLOWED.read_text()
        if congestion in before.split():
            before = ""
        else:
            _CONGESTION_ALLOWED.write_text(f"{before.strip()} {congestion}")
    except OSError:  # not root of the machine, or the kernel has no such algorithm
        before = ""
    try:
        yield
    finally:
        if before:
            _CONGESTION_ALLOWED.write_text(before)


def _configure(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:

        def ioctl(request: int, interface: str, payload: bytes) -> None:
            fcntl.ioctl(control, request, struct.pack("16s24s", interface.encode(), payload))

        ioctl(_SIOCSIFFLAGS, "lo", struct.pack("H", _IFF_UP | _IFF_RUNNING))
        ioctl(_SIOCSIFADDR, INTERFACE, _sockaddr(address))
        ioctl(_SIOCSIFNETMASK, INTERFACE, _sockaddr("255.255.255.255"))
        ioctl(_SIOCSIFMTU, INTERFACE, struct.pack("i", MTU_BYTES))
        with contextlib.suppress(PermissionError):  # in a user namespace: the kernel's 500 packets must do
            ioctl(_SIOCSIFTXQLEN, INTERFACE, struct.pack("i", TX_QUEUE_PACKETS))
        ioctl(_SIOCSIFFLAGS, INTERFACE, struct.pack("H", _IFF_UP | _IFF_RUNNING))
        anywhere = _sockaddr("0.0.0.0")
        route = _Route(destination=anywhere, mask=anywhere, flags=_RTF_UP, device=INTERFACE.encode())
        fcntl.ioctl(control, _SIOCADDRT, bytes(route))


def _sockaddr(address: str) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


@contextlib.contextmanager
def _restored_namespace() -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        back = _libc.setns(home, CLONE_NEWNET)
        os.close(home)
        _check(back, "a return to the first namespace")


def enter(namespace_fd: int) -> None:
    """Move this thread into the namespace: sockets opened from now on are there."""
    _check(_libc.setns(namespace_fd, CLONE_NEWNET), "to enter a network namespace")


def in_host(namespace_fd: int) -> Callable[[], None]:
    """For subprocess `preexec_fn`: the child runs in the namespace and ends with its parent."""
    parent = os.getpid()

    def prepare() -> None:
        die_with_parent(parent)
        enter(namespace_fd)

    return prepare


def die_with_parent(parent: int) -> None:
    """In a child: send it SIGKILL when the parent ends, even by kill -9 (prctl(2))."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "a signal at the parent's end")
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise LabUnavailable(f"this machine does not give {what} ({os.strerror(ctypes.get_errno())})")
