"""Read processor times, memory, battery and addresses of this machine.

On Linux from its own files and the kernel; psutil, which does it elsewhere, takes 0.7 MB and twice as long. Functions
raise whatever odd files and psutil make them raise; `readings` turns that into words.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from swarm_probe.operating_system.readings import Unreadable
from swarm_probe.operating_system.small_files import small_file
from swarm_probe.operating_system.sysfs import first_number, text

LINUX: Final = sys.platform == "linux"
STAT: Final = Path("/proc/stat")
MEMINFO: Final = Path("/proc/meminfo")
POWER_SUPPLIES: Final = Path("/sys/class/power_supply")
_IDLE: Final = (3, 4)  # idle and iowait, of the figures of /proc/stat (proc_stat(5))
_GUEST: Final = 8  # this figure and the next are parts of user and nice
_KIB: Final = 1024
# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_addr.h>: Python names none of these
_NETLINK_ROUTE: Final = 0
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLM_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ADDRESS: Final = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, interface
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_ALIGNED: Final = 4
_ANSWER_BYTES: Final = 1 << 16  # the kernel sends half of that at once, at most
_ANSWER_S: Final = 2.0  # it answers within microseconds


class Address(msgspec.Struct, frozen=True):
    family: int
    address: str


class Battery(msgspec.Struct, frozen=True):
    percent: float
    plugged: bool | None  # None: the firmware does not say


def cpu_times() -> tuple[float, float]:
    """Return (busy, all) time of all cores together since the start, in a unit of the system's."""
    if LINUX:
        first = small_file(STAT).partition(b"\n")[0].split()
        if first[:1] != [b"cpu"]:
            raise Unreadable(f"{STAT} does not begin with the processor's times")
        ticks = [int(figure) for figure in first[1:]][:_GUEST]
        return float(sum(ticks) - sum(ticks[at] for at in _IDLE)), float(sum(ticks))
    import psutil  # late: see above

    times = psutil.cpu_times()
    return sum(times) - times.idle, sum(times)


def memory_bytes() -> tuple[int, int]:
    """Return (available, all) memory of the machine."""
    if LINUX:
        lines = small_file(MEMINFO).splitlines()
        figures = {name: int(line.split(None, 1)[0]) * _KIB for name, _, line in (x.partition(b":") for x in lines[:5])}
        total, free = figures[b"MemTotal"], figures[b"MemFree"]
        available = figures.get(b"MemAvailable", 0)
        # a kernel before 3.14 has no such line; in some containers it is that of the host, and more than all there is
        return (available if 0 < available <= total else free), total
    import psutil  # late: see above

    virtual = psutil.virtual_memory()
    return int(virtual.available), int(virtual.total)


def battery() -> Battery | None:
    """Return the state of the first battery; None: there is none, or the system does not tell."""
    if LINUX:
        return _sysfs_battery(POWER_SUPPLIES)
    import psutil  # late: see above

    look = getattr(psutil, "sensors_battery", None)  # not on every platform
    found = look() if look is not None else None
    return Battery(float(found.percent or 0), found.power_plugged) if found is not None else None


def _sysfs_battery(folder: Path) -> Battery | None:
    """As psutil has it: a folder named like a battery; plugged in if a mains adapter says so, else by its status."""
    names = sorted(name for name in os.listdir(folder) if name.startswith("BAT") or "battery" in name.lower())
    if not names:
        return None
    of = folder / names[0]
    left = first_number(of / "energy_now", of / "charge_now")
    full = first_number(of / "energy_full", of / "charge_full")
    percent = 100 * left / full if left is not None and full else first_number(of / "capacity")
    if percent is None or percent < 0:
        return None
    online = first_number(folder / "AC0" / "online", folder / "AC" / "online")
    if online is not None:
        return Battery(percent, online == 1)
    by_status = {"discharging": False, "charging": True, "full": True}
    return Battery(percent, by_status.get(text(of / "status").lower()))


def interface_addresses() -> Mapping[str, Sequence[Address]]:
    """Return interface → its IP addresses, and others on some systems."""
    if not LINUX:
        import psutil  # late: see above

        return {name: [Address(each.family, each.address) for each in of] for name, of in psutil.net_if_addrs().items()}
    found: dict[str, list[Address]] = {}
    for family, index, packed in _netlink_addresses():
        try:
            name = socket.if_indextoname(index)
        except OSError:  # it has gone meanwhile
            continue
        found.setdefault(name, []).append(Address(family, socket.inet_ntop(family, packed)))
    return found


def _netlink_addresses() -> Iterator[tuple[int, int, bytes]]:
    """Yield (family, number of the interface, address) as the kernel lists them (rtnetlink(7))."""
    request = _HEADER.pack(_HEADER.size + _ADDRESS.size, _RTM_GETADDR, _NLM_REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as asking:
        asking.settimeout(_ANSWER_S)
        asking.send(request + bytes(_ADDRESS.size))
        while True:
            answer = asking.recv(_ANSWER_BYTES)
            while answer:
                size, kind, *_ = _HEADER.unpack_from(answer)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR or size < _HEADER.size:
                    raise Unreadable("the kernel does not list addresses")
                if kind == _RTM_NEWADDR and (one := _address_in(answer[_HEADER.size : size])) is not None:
                    yield one
                answer = answer[_aligned(size) :]


def _address_in(message: bytes) -> tuple[int, int, bytes] | None:
    family, _, _, _, index = _ADDRESS.unpack_from(message)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    attributes: dict[int, bytes] = {}
    rest = message[_ADDRESS.size :]
    while len(rest) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(rest)
        if size < _ATTRIBUTE.size:
            break
        attributes[kind] = rest[_ATTRIBUTE.size : size]
        rest = rest[_aligned(size) :]
    own = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))  # the other end's, on a point-to-point link
    return (family, index, own) if own is not None else None


def _aligned(size: int) -> int:
    return (size + _ALIGNED - 1) // _ALIGNED * _ALIGNED
