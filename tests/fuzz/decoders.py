"""Every decoder that gets bytes from strangers: its input, the errors it may raise, and a valid example to corrupt.

Used by the test beside this (Hypothesis, in CI) and by `tools/fuzz.py` (Atheris, by hand). A decoder gives a value or
its own error; anything else is a finding, which is kept in `findings/NAME-…` and tried by the test from then on.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from swarm_predict.model.gguf import from_gguf
from swarm_predict.model.hf_config import from_config
from swarm_predict.types import PredictError
from swarm_probe.spool import Spool
from swarm_protocol.messages import codec, operator_messages, probe_messages, viewer_messages
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.samples import EventSample, LinkSample
from swarm_protocol.packets import stamp_packet, stun_packet
from swarm_protocol.snapshot import frames
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import NodeFacts, Swarm
from swarm_protocol.swarm_files import swarm_file
from swarm_protocol.trust import certificate_pins, identity
from swarm_storage.errors import StoreError
from swarm_storage.history.replay import fill
from swarm_storage.store import open_store

KEY = b"k" * 16
NOW_NS = 1_790_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Decoder:
    name: str
    decode: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    examples: tuple[bytes, ...]
    slow: bool = False  # opens files: fewer tries


def _text(decode: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: decode(data.decode("utf-8", "surrogateescape"))


def _spool(data: bytes) -> object:
    """A file of an earlier run with these bytes in it, opened, read, written to and closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{NOW_NS:020d}-{1:016d}.seg").write_bytes(data)
        spool = Spool(folder, now_ns=lambda: NOW_NS, say=lambda _: None)
        spool.append([EventSample(at_ns=NOW_NS, kind="note", detail="new")])
        seq = 0
        while (record := spool.next_after(seq)) is not None:
            seq = record[0]
        spool.close()
        return seq


def _spool_example() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        spool = Spool(Path(name), now_ns=lambda: NOW_NS, say=lambda _: None)
        for n in range(3):
            spool.append([EventSample(at_ns=n, kind="note", detail="x" * n)])
        spool.close()
        return next(Path(name).glob("*.seg")).read_bytes()


def _database(data: bytes) -> object:
    """Open a recording from a stranger as `swarmtop --db` does."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "swarm.db"
        path.write_bytes(data)
        store = open_store(f"sqlite:///{path}", read_only=True)
        try:
            return fill(SwarmBuilder(), store.reader, NOW_NS, 10**12).snapshot(NOW_NS)
        finally:
            store.close()


def _database_example() -> bytes:
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / "swarm.db"
        store = open_store(f"sqlite:///{path}")
        writer = store.writer()
        writer.upsert_node("0" * 15 + "1", "attic", seen_ns=NOW_NS).result()
        writer.event(EventSample(at_ns=NOW_NS, kind="note", detail="x"), "0" * 15 + "1").result()
        store.close()
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("VACUUM")
        return path.read_bytes()
    finally:
        shutil.rmtree(folder)


def _key(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "node.key"
        path.write_bytes(data)
        return identity.load_or_create_node_key(path, tuple)


def _pins(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / certificate_pins.PINS_FILE).write_bytes(data)
        certificate_pins.remember(Path(name), "host:2", "SHA256:x")
        return certificate_pins.load(Path(name), "host:1")


_LINK = LinkSample(at_ns=1, peer="0" * 16, path="direct", sent=2, lost=1, rtt_min_ms=1.5)
_HELLO = probe_messages.Hello(
    protocol=1,
    name="n",
    epoch=1,
    udp_port=1,
    tcp_port=1,
    software="s",
    facts=probe_messages.HostFacts(system="s", cpu="c", cores=1, ram_bytes=1),
)
_SWARM = Swarm.empty((NodeFacts("0" * 16, "attic"), NodeFacts("1" * 16, "kiln")), at_ns=NOW_NS)
_SENDER = stamp_packet.SenderPacket(seq=1, sent_ntp=2, error=3, ssid=4)
_REFLECTED = stamp_packet.ReflectedPacket(
    seq=1, sent_ntp=2, error=3, ssid=4, received_ntp=5, sender_seq=6, sender_ntp=7, sender_error=8, sender_ttl=9
)
_ASKING = msgspec.structs.replace(_SENDER, follow_up=True)
_TELLING = msgspec.structs.replace(_REFLECTED, follow_up=stamp_packet.FollowUp(seq=5, sent_ntp=6))
_GGUF = b"".join(
    (
        b"GGUF", struct.pack("<IQQ", 3, 1, 4),
        *(
            struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value
            for key, kind, value in (
                (b"general.architecture", 8, struct.pack("<Q", 5) + b"llama"),
                (b"llama.block_count", 4, struct.pack("<I", 2)),
                (b"llama.embedding_length", 4, struct.pack("<I", 64)),
                (b"llama.attention.head_count", 4, struct.pack("<I", 4)),
            )
        ),
        struct.pack("<Q", 17) + b"token_embd.weight" + struct.pack("<IQQIQ", 2, 64, 100, 0, 0),
    )
)  # fmt: skip
_CONFIG = (
    b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,'
    b' "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 32000}'
)
_TOML = b'[[node]]\nname = "a"\nvram_gib = 16.0\n[[node.layer]]\nmodel = "*"\nms = 7.1\n[[link]]\n'
_TOML += b'from = "*"\nto = "*"\nrtt_ms = 5.0\n'


def _examples_of(*values: object) -> tuple[bytes, ...]:
    return tuple(codec.encode(value) for value in values)  # type: ignore[arg-type]


_KEYS = (b"swarmtop node key 1\nseed " + b"0" * 64 + b"\n", b"k" * 32)

DECODERS: tuple[Decoder, ...] = (
    Decoder(
        "from_probe",
        probe_messages.decode_from_probe,
        (codec.DecodeError,),
        _examples_of(
            _HELLO,
            probe_messages.Batch(epoch=1, seq=1, samples=(_LINK,)),
            ColumnBatch.of(1, 1, (_LINK, EventSample(at_ns=2, kind="note", detail="x"), _LINK)),
        ),
    ),
    Decoder(
        "from_collector",
        probe_messages.decode_from_collector,
        (codec.DecodeError,),
        _examples_of(probe_messages.Ack(epoch=1, seq=1), probe_messages.Refused(reason="r", final=True)),
    ),
    Decoder(
        "from_viewer",
        viewer_messages.decode_from_viewer,
        (codec.DecodeError,),
        _examples_of(viewer_messages.Subscribe(protocol=1), viewer_messages.ExportRequest(request_id=1, kind="link")),
    ),
    Decoder(
        "from_stream",
        viewer_messages.decode_from_stream,
        (codec.DecodeError,),
        _examples_of(viewer_messages.Notice(text="t"), viewer_messages.Keyframe(seq=1, at_ns=1, body=b"x")),
    ),
    Decoder("keyframe", frames.decode_keyframe, (frames.FrameError,), (frames.encode_keyframe(_SWARM),)),
    Decoder(
        "diff",
        lambda data: frames.apply_diff(_SWARM, data),
        (frames.FrameError, frames.MembershipChanged),
        (frames.encode_diff(_SWARM, _SWARM),),
    ),
    Decoder(
        "stamp_peek",
        stamp_packet.peek,
        (stamp_packet.StampError,),
        (stamp_packet.encode_sender(_SENDER, KEY), stamp_packet.encode_reflected(_TELLING, KEY)),
    ),
    Decoder(
        "stamp_sender",
        lambda data: stamp_packet.decode_sender(data, KEY),
        (stamp_packet.StampError,),
        (stamp_packet.encode_sender(_SENDER, KEY), stamp_packet.encode_sender(_ASKING, KEY)),
    ),
    Decoder(
        "stamp_signed_reply",
        lambda data: stamp_packet.decode_reflected(data, KEY),
        (stamp_packet.StampError,),
        (stamp_packet.encode_reflected(_TELLING, KEY),),
    ),
    Decoder(
        "stamp_reflected",
        lambda data: stamp_packet.decode_reflected(data, None),
        (stamp_packet.StampError,),
        (stamp_packet.encode_reflected(_REFLECTED, None),),
    ),
    Decoder("stun", stun_packet.decode, (stun_packet.StunError,), (stun_packet.encode_request(b"t" * 12),)),
    Decoder(
        "stun_answer",
        lambda data: stun_packet.answer(data, stun_packet.Endpoint("203.0.113.7", 9)),
        (),
        (stun_packet.encode_request(b"t" * 12),),
    ),
    Decoder("gguf", lambda data: from_gguf([data], "m"), (PredictError,), (_GGUF,)),
    Decoder("config_json", _text(lambda text: from_config(text, "m")), (PredictError,), (_CONFIG,)),
    Decoder("swarm_file", _text(swarm_file.parse_swarm), (swarm_file.SwarmFileError,), (_TOML,)),
    Decoder(
        "operate",
        operator_messages.request_decoder.decode,
        (msgspec.DecodeError, UnicodeDecodeError),
        (b'{"type":"make_invite","label":"a"}',),
    ),
    Decoder(
        "fingerprint",
        _text(certificate_pins.digest_of),
        (certificate_pins.PinError,),
        (certificate_pins.fingerprint(b"c").encode(),),
    ),
    Decoder(
        "node_key",
        _key,
        (identity.IdentityError,),
        (b"swarmtop node key 1\nseed " + b"0" * 64 + b"\n", b"k" * 32),
        True,
    ),
    Decoder("known_collectors", _pins, (), (b"# c\nhost:1 SHA256:x\n",), True),
    Decoder("spool", _spool, (), (_spool_example(),), True),
    Decoder("database", _database, (StoreError,), (_database_example(),), True),
)
