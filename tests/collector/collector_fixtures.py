"""Hellos, members and a model for the tests of the collector."""

from __future__ import annotations

import hashlib
from typing import Any

from swarm_collector.members.membership import Admitted, Member, Membership
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.probe_messages import PROTOCOL_VERSION, Hello, HostFacts
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.trust import identity, signing
from swarm_protocol.trust.signing import Handshake

LAYER = LayerShape(architecture="llama", hidden=8192, intermediate=28672, heads=64, kv_heads=8, head_dim=128)
FOCUS = Focus(model="llama-2-70b", layer=LAYER, dtype="fp16", hop_bytes=16_384)
FACTS = HostFacts(system="Linux 6.1 x86_64", cpu="EPYC", cores=8, ram_bytes=1 << 34)


def key_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def id_of(name: str) -> str:
    return identity.node_id(signing.public_key(key_of(name)))


NOWHERE = Handshake(b"", b"", b"")


def hello(
    name: str, *, key: str | None = None, seed: bytes | None = None, handshake: Handshake = NOWHERE, **changes: Any
) -> Hello:
    seed = seed or key_of(key or name)
    fields: dict[str, Any] = {
        "protocol": PROTOCOL_VERSION,
        "public_key": signing.public_key(seed),
        "proof": signing.sign(seed, handshake.signed("join")),
        "bound_to": handshake.bound_to,
        "name": name,
        "epoch": 7,
        "udp_port": 4000,
        "tcp_port": 4001,
        "software": "swarmtop 0.1.0",
        "facts": FACTS,
    }
    return Hello(**(fields | changes))


def joined(membership: Membership, name: str, session: int, *, observed: str = "", **changes: Any) -> Member:
    outcome = membership.admit(session, hello(name, **changes), observed or "203.0.113.7", "198.51.100.1", now_ns=1)
    assert isinstance(outcome, Admitted)
    return outcome.member
