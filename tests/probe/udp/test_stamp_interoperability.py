"""Our STAMP packets in other programs, and other packets at our port: neither a crash nor an answer."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm_probe.measure.paths import Paths, PathsConfig
from swarm_probe.udp.stamp.stamp_reflector import Accepted, Announced, Reflector
from swarm_protocol.messages.probe_messages import Peer, Plan
from swarm_protocol.packets import stamp_packet
from swarm_protocol.rate_limit import TokenBucket

KEY = bytes(range(32))
T1 = stamp_packet.ntp_from_ns(1_764_000_000_123_456_789)
T2 = stamp_packet.ntp_from_ns(1_764_000_001_000_000_000)
T3 = stamp_packet.ntp_from_ns(1_764_000_001_500_000_000)
SENDER = stamp_packet.SenderPacket(seq=7, sent_ntp=T1, error=0x0A0B, ssid=4242)
REFLECTED = stamp_packet.ReflectedPacket(
    seq=3, sent_ntp=T3, error=0x0102, ssid=4242, received_ntp=T2, sender_seq=7, sender_ntp=T1, sender_error=0x0A0B,
    sender_ttl=61,
)  # fmt: skip


def capture(path: Path, *payloads: bytes) -> Path:
    """A pcap file of UDP packets between two addresses, port 862 as RFC 8762 has it, written by hand."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))  # link type 101: bare IP
        for number, payload in enumerate(payloads):
            udp = struct.pack("!HHHH", 862, 862, 8 + len(payload), 0) + payload
            ends = socket.inet_aton("198.18.0.10") + socket.inet_aton("198.18.0.11")
            packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0) + ends + udp
            file.write(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
    return path


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed (apt-get install tshark)")
def test_tshark_reads_both_packet_kinds_as_twamp_test(tmp_path: Path) -> None:
    """tshark 4.0 knows the unauthenticated layout of TWAMP-Test, which STAMP shares, and none of the authenticated:
    of those it shows the protocol and the sequence number, at which the two layouts agree."""
    payloads = [
        stamp_packet.encode_sender(SENDER, None),
        stamp_packet.encode_reflected(REFLECTED, None),
        stamp_packet.encode_sender(SENDER, KEY),
        stamp_packet.encode_reflected(REFLECTED, KEY),
    ]
    file = capture(tmp_path / "stamp.pcap", *payloads)
    command = ["tshark", "-r", str(file), "-d", "udp.port==862,twamp.test", "-T", "json", "-J", "twamp.test udp frame"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    packets = [packet["_source"]["layers"] for packet in json.loads(done.stdout)]
    assert [int(packet["udp"]["udp.length"]) for packet in packets] == [52, 52, 120, 120]
    seen = [packet["twamp.test"] for packet in packets]
    assert [int(fields["twamp.test.seq_number"]) for fields in seen] == [7, 3, 7, 3]
    sender, reflected = seen[:2]
    assert int(sender["twamp.test.mbz1"], 0) == 4242  # RFC 8972 put the session id there
    assert int(sender["twamp.test.error_estimate"], 0) == 0x0A0B
    assert "2025 16:00:00.1234567" in sender["twamp.test.timestamp"]
    assert int(reflected["twamp.test.sender_seq_number"]) == 7
    assert int(reflected["twamp.test.sender_ttl"]) == 61
    assert "2025 16:00:00.1234567" in reflected["twamp.test.sender_timestamp"]
    assert int(reflected["twamp.test.sender_error_estimate"], 0) == 0x0A0B


def test_scapys_sender_is_answered_by_our_reflector_and_reads_the_answer() -> None:
    layers = pytest.importorskip("scapy.contrib.stamp", reason="scapy is not installed")
    reflector = Reflector(TokenBucket(100.0, 100.0))
    reflector.announce([Announced(ssid=9, key=None)], 0)
    request = layers.STAMPSessionSenderTestUnauthenticated(seq=11, ts=1_764_000_000.25, ssid=9)
    accepted = reflector.accept(bytes(request), 1)
    assert isinstance(accepted, Accepted)
    answer = reflector.answer(
        accepted, received_ns=1_764_000_000_500_000_000, sent_ns=1_764_000_000_500_040_000, ttl=60, error=0x0101
    )
    assert len(answer.data) == len(bytes(request))
    read = layers.STAMPSessionReflectorTestUnauthenticated(answer.data)
    assert (read.seq, read.seq_sender, read.ttl_sender, read.ssid) == (0, 11, 60, 9)
    assert float(read.ts_sender) == pytest.approx(float(request.ts), abs=1e-6)
    assert float(read.ts - read.ts_rx) == pytest.approx(40e-6, abs=1e-6)
    assert read.err_estimate.scale << 8 | read.err_estimate.multiplier == 0x0101


# ---------------------------------------------------------------- what is no packet of a member


@pytest.fixture
async def probe() -> AsyncIterator[Paths]:
    one = Paths(PathsConfig("127.0.0.1"), lambda _: None)
    await one.start()
    peer = Peer(
        node_id="b" * 16, name="b", hosts=(), udp_port=0, tcp_port=0, stamp_key=KEY, ssid_out=2, ssid_in=1,
        measure=False,
    )  # fmt: skip
    one.update(
        Plan(revision=1, peers=(peer,), stamp_interval_ms=1000, window_ms=1000, hop_bytes=1, hop_cadence_ms=1,
             hop_every_ms=1000, host_every_ms=1000)
    )  # fmt: skip
    yield one
    await one.close()


def hostile() -> list[bytes]:
    good = stamp_packet.encode_sender(stamp_packet.SenderPacket(1, T1, 1, 1), KEY)
    open_good = stamp_packet.encode_sender(stamp_packet.SenderPacket(1, T1, 1, 1), None)
    rng = random.Random(4)
    flipped = [good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :] for at in range(len(good))]
    return [
        *(good[:size] for size in range(len(good))),
        good + b"\0",
        open_good,  # not signed at all
        *(rng.randbytes(rng.choice((0, 1, 43, 44, 45, 111, 112, 113, 600, 1400))) for _ in range(200)),
        *flipped,
        stamp_packet.encode_sender(stamp_packet.SenderPacket(1, T1, 1, 1), b"x" * 32),
        stamp_packet.encode_sender(stamp_packet.SenderPacket(1, T1, 1, 77), KEY),  # a session nobody announced
        stamp_packet.encode_reflected(REFLECTED, KEY),
    ]


async def test_nothing_that_is_no_members_packet_is_answered_and_all_of_it_is_counted(probe: Paths) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        stranger.bind(("127.0.0.1", 0))
        to = ("127.0.0.1", probe.udp_port)
        packets = hostile()
        for number, packet in enumerate(packets):
            stranger.sendto(packet, to)
            while probe.counters().get("udp_packets_received", 0) < number:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)  # the kernel's queue must not overflow
        good = stamp_packet.encode_sender(stamp_packet.SenderPacket(1, T1, 1, 1), KEY)
        stranger.sendto(good, to)
        stranger.sendto(good, to)  # the very same again
        async with asyncio.timeout(90):
            answer = await loop.sock_recv(stranger, 2048)
        assert stamp_packet.decode_reflected(answer, KEY).sender_seq == 1  # the first that came back is the good one's
        assert len(answer) <= len(good)
        stranger.sendto(stamp_packet.encode_sender(stamp_packet.SenderPacket(2, T1 + 1, 1, 1), KEY), to)
        async with asyncio.timeout(90):
            assert stamp_packet.decode_reflected(await loop.sock_recv(stranger, 2048), KEY).sender_seq == 2
    counted = Counter(probe.counters())
    assert counted["stamp_answered"] == 2
    ignored = {name: count for name, count in counted.items() if name.startswith(("ignored_", "stun_"))}
    assert counted["udp_packets_received"] == len(packets) + 3
    assert sum(ignored.values()) >= len(packets) + 1 - 3  # random bytes may look like STUN, which counts for itself
    assert ignored["ignored_replay"] == 1
    assert ignored["ignored_hmac"] >= 1
    assert ignored["ignored_ssid"] >= 1
    assert ignored["ignored_length"] >= 100
