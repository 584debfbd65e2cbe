"""Record when the kernel saw each small packet of an interface leave and arrive, independently of the programs
measured.

    python -m bench.support.processes.wire_tap INTERFACE FILE

A packet socket, so the stamps are the kernel's at the device, whenever this process runs. It never waits for a packet,
only for time to pass: to wake it up would be part of what the sender's kernel does between this stamp and its own. A
filter takes UDP and ICMP of at most MOST_BYTES: round trips, not transfers. FILE is there once it listens; it is whole
WITHIN_S after the last packet. Ends with SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from swarm_lab.emulation.packets import ICMP, UDP
from swarm_lab.emulation.truth import classify

MAX_BYTES: Final = 256
TAP_DTYPE: Final = np.dtype([
    ("at_ns", "<i8"),  # wall clock
    ("src", "<u4"),  # IPv4 address as a number
    ("dst", "<u4"),
    ("seq", "<u4"),  # as swarm_lab.emulation.truth.RECORD_DTYPE has it, like the next three
    ("ssid", "<u2"),
    ("size", "<u2"),
    ("kind", "u1"),
    ("outgoing", "u1"),
])  # fmt: skip
_RECORD: Final = struct.Struct("<qIIIHHBB")
assert _RECORD.size == TAP_DTYPE.itemsize
_SO_TIMESTAMPNS, _SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 35, 26, 33  # Linux; not all are in `socket`
_ETH_P_ALL: Final = 3
_PACKET_OUTGOING: Final = 4
_BUFFER_BYTES: Final = 8 << 20
WITHIN_S: Final = 0.05
# classic BPF on the IP header: total length ≤ MAX_BYTES, and UDP or ICMP
_FILTER: Final = (
    (0x28, 0, 0, 2), (0x25, 4, 0, MAX_BYTES), (0x30, 0, 0, 9), (0x15, 1, 0, UDP), (0x15, 0, 1, ICMP),
    (0x06, 0, 0, MAX_BYTES), (0x06, 0, 0, 0),
)  # fmt: skip


def main(interface: str, file: Path) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _FILTER))
    program = struct.pack("HL", len(_FILTER), ctypes.addressof(code))
    tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    tap.bind((interface, _ETH_P_ALL))
    with file.open("wb", buffering=0) as out, contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                packet, attached, _, (_, _, direction, *_) = tap.recvmsg(MAX_BYTES, 64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                time.sleep(WITHIN_S)
                continue
            stamp = next((data for _, kind, data in attached if kind == _SO_TIMESTAMPNS), None)
            if stamp is None or packet[0] >> 4 != 4:
                continue
            seconds, nanoseconds = struct.unpack("qq", stamp[:16])
            size, src, dst = struct.unpack_from("!H", packet, 2)[0], *struct.unpack_from("!II", packet, 12)
            kind, ssid, seq = classify(packet)
            outgoing = direction == _PACKET_OUTGOING
            out.write(_RECORD.pack(seconds * 10**9 + nanoseconds, src, dst, seq, ssid, size, kind, outgoing))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
