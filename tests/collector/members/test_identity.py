"""Nobody can join as another node: what a modified client tries, and what older databases still allow.

The `RegisterReader` of these tests is the store's own transaction where it matters, else a copy in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time

import msgspec
import pytest
from collector_fixtures import FACTS, hello, id_of, key_of
from collector_rig import SECRET, Probe, collector, handshake_of, note
from websockets.asyncio.client import connect

from swarm_collector.members.join_rules import MEMBER_KEY, PUBLIC_KEY, Row
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import AboutMe, Refused
from swarm_protocol.trust import identity, signing
from swarm_protocol.trust.ed25519_curve import may_be_public_key
from swarm_storage.store import open_store

PUBLIC = signing.public_key(key_of("kiln"))
FORMER = next(
    secret for i in range(1000) if not may_be_public_key(secret := hashlib.sha256(f"former {i}".encode()).digest())
)
AMBIGUOUS = next(
    secret for i in range(1000) if may_be_public_key(secret := hashlib.sha256(f"former {i}".encode()).digest())
)


def before(tmp_path, *members: tuple[str, str], rows: dict[str, dict[str, object]] | None = None) -> None:
    """A database as f53bc9f left it: members with 64-bit ids, and member rows without a revision or an index."""
    with contextlib.closing(open_store(f"sqlite:///{tmp_path / 'swarm.db'}")) as store:
        writer = store.writer()
        for node_id, name in members:
            writer.upsert_node(node_id, name, facts=FACTS, seen_ns=time.time_ns()).result(10)
        for node_id, row in (rows or {}).items():
            writer.set_setting(MEMBER_KEY + node_id, msgspec.json.encode(row).decode()).result(10)


# ---------------------------------------------------------------- ids


def test_an_id_has_128_bits_and_is_of_the_public_key():
    assert len(id_of("kiln")) == 32
    assert id_of("kiln")[:16] != identity.legacy_node_id(PUBLIC)


def test_every_public_key_may_be_one_and_most_secrets_may_not():
    assert all(may_be_public_key(signing.public_key(os.urandom(32))) for _ in range(50))
    made = [hashlib.sha256(f"secret {i}".encode()).digest() for i in range(400)]
    assert sum(may_be_public_key(secret) for secret in made) < 400 / 8  # 1 in 16
    for never in (b"", bytes(31), bytes(33), b"\xff" * 32):
        assert not may_be_public_key(never)


# ---------------------------------------------------------------- a victim's public key as a former secret


@pytest.mark.parametrize("insecure", [False, True])
async def test_a_public_key_shown_as_a_former_secret_gives_no_id(tmp_path, insecure):
    before(tmp_path, (identity.legacy_node_id(PUBLIC), "kiln"))
    async with collector(tmp_path, token="secret", insecure=insecure) as rig:
        async with rig.probe("thief", node_key=PUBLIC) as thief:
            assert (await thief.next(Refused)).reason.startswith("wrong or missing token")
        async with rig.probe("thief", node_key=PUBLIC, token="secret") as thief:
            assert (await thief.welcome()).node_id == id_of("thief")
        async with rig.probe("kiln", token="secret") as kiln:
            assert (await kiln.welcome()).node_id == identity.legacy_node_id(PUBLIC)
            async with rig.probe("thief", node_key=PUBLIC, token="secret") as thief:
                assert (await thief.welcome()).node_id == id_of("thief")
            await kiln.batch(1, note(time.time_ns(), "undisturbed"))
            await kiln.acked(1)


async def test_a_key_alone_without_proof_is_of_no_use(tmp_path):
    """A probe of the first release showed its secret and nothing else; a public key could be shown just so."""
    before(tmp_path, (identity.legacy_node_id(PUBLIC), "kiln"))
    async with collector(tmp_path, insecure=True) as rig:
        async with rig.probe("thief", public_key=b"", proof=b"", node_key=PUBLIC) as thief:
            assert "no proof of its key" in (await thief.next(Refused)).reason
        async with rig.probe("thief", public_key=b"", proof=b"", node_key=PUBLIC, protocol=1) as thief:
            assert "update the probe" in (await thief.next(Refused)).reason


async def test_another_node_of_128_bits_cannot_be_named_by_its_key_either(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln:
        assert (await kiln.welcome()).node_id == id_of("kiln")
        async with rig.probe("thief", node_key=PUBLIC) as thief:
            assert (await thief.welcome()).node_id == id_of("thief")


# ---------------------------------------------------------------- swarms of before keep their ids


async def test_a_node_of_before_keeps_the_id_of_its_public_key(tmp_path):
    legacy = identity.legacy_node_id(PUBLIC)
    before(tmp_path, (legacy, "kiln"))
    for _ in range(2):
        async with collector(tmp_path) as rig, rig.probe("kiln") as probe:
            welcome = await probe.welcome()
            assert (welcome.node_id, welcome.name) == (legacy, "kiln")
    with contextlib.closing(sqlite3.connect(tmp_path / "swarm.db")) as db:
        (index,) = db.execute("SELECT value FROM setting WHERE key = ?", (PUBLIC_KEY + PUBLIC.hex(),)).fetchone()
    assert index == legacy


async def test_a_node_of_before_keeps_the_id_of_its_former_secret_once(tmp_path):
    legacy = identity.legacy_node_id(FORMER)
    before(tmp_path, (legacy, "attic"))
    async with collector(tmp_path, token="secret") as rig:
        async with rig.probe("attic", node_key=FORMER) as probe:  # the secret vouches for it
            welcome = await probe.welcome()
            assert (welcome.node_id, welcome.name) == (legacy, "attic")
        async with rig.probe("attic", seed=b"t" * 32, node_key=FORMER, token="secret") as thief:
            assert (await thief.welcome()).node_id != legacy
    async with collector(tmp_path, token="secret") as again, again.probe("attic", token="secret") as probe:
        assert (await probe.welcome()).node_id == legacy


async def test_a_secret_that_may_be_a_public_key_is_not_taken(tmp_path):
    """One in 16: the node begins again rather than that a stranger could go on as another node."""
    before(tmp_path, (identity.legacy_node_id(AMBIGUOUS), "attic"))
    async with collector(tmp_path) as rig, rig.probe("attic", node_key=AMBIGUOUS) as probe:
        welcome = await probe.welcome()
        assert (welcome.node_id, welcome.name) == (id_of("attic"), "attic-2")


async def test_a_key_that_the_database_of_before_has_recorded_keeps_its_id(tmp_path):
    legacy = identity.legacy_node_id(FORMER)
    before(tmp_path, (legacy, "attic"), rows={legacy: {"public_key": PUBLIC.hex(), "invite": "0" * 8}})
    async with collector(tmp_path, token="secret") as rig, rig.probe("kiln") as probe:
        assert (await probe.welcome()).node_id == legacy


async def test_a_secret_for_an_unused_id_has_no_effect(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("attic", node_key=FORMER) as probe:
        assert (await probe.welcome()).node_id == id_of("attic")


@pytest.mark.parametrize("changes", [{}, {"node_key": FORMER}])
async def test_a_node_revoked_earlier_stays_out(tmp_path, changes):
    """Also where all else of it was forgotten."""
    legacy = identity.legacy_node_id(FORMER if changes else PUBLIC)
    before(tmp_path, rows={legacy: {"revoked_ns": 1}})
    async with collector(tmp_path) as rig, rig.probe("kiln", **changes) as probe:
        assert "revoked" in (await probe.next(Refused)).reason


def test_a_row_of_before_is_read():
    assert msgspec.json.decode(b'{"public_key":"","invite":"","label":"","name":"x","revoked_ns":0}', type=Row) == Row(
        name="x"
    )


# ---------------------------------------------------------------- a proof at a second collector


@contextlib.asynccontextmanager
async def two_collectors(tmp_path):
    folders = tmp_path / "mine", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    async with collector(folders[0]) as mine, collector(folders[1], secret=SECRET[::-1]) as other:
        yield mine, other


async def test_a_proof_shown_to_one_collector_is_of_no_use_at_a_second(tmp_path):
    """The first one is hostile: it gives its probe the nonce of the second, and passes on what the probe signs."""
    async with two_collectors(tmp_path) as (honest, hostile), connect(honest.url("/probe"), proxy=None) as relayed:
        async with connect(hostile.url("/probe"), proxy=None) as victim:
            seen = handshake_of(victim)
        given = signing.Handshake(handshake_of(relayed).nonce, seen.collector, seen.bound_to)
        await relayed.send(encode(hello("kiln", handshake=given)))
        refused = await Probe(relayed, "kiln").next(Refused)
    assert refused.reason.startswith("this probe was connected to another address than 127.0.0.1:")


@pytest.mark.parametrize("lie", ["address", "id"])
async def test_nor_if_the_hostile_one_gives_itself_out_as_the_second(tmp_path, lie):
    """It can name the second one's id, but the probe signs where its connection leads to; and the other way round."""
    async with two_collectors(tmp_path) as (honest, hostile), connect(honest.url("/probe"), proxy=None) as relayed:
        target = handshake_of(relayed)
        async with connect(hostile.url("/probe"), proxy=None) as victim:
            seen = handshake_of(victim)
        given = (
            signing.Handshake(target.nonce, target.collector, seen.bound_to)
            if lie == "id"
            else signing.Handshake(target.nonce, seen.collector, target.bound_to)
        )
        signed = hello("kiln", handshake=given)
        for shown in (signed.bound_to, target.bound_to):  # what it says it is bound to is changed on the way
            async with connect(honest.url("/probe"), proxy=None) as again:
                await again.send(encode(msgspec.structs.replace(signed, bound_to=shown)))
                assert (await Probe(again, "kiln").next(Refused)).final
        await relayed.send(encode(msgspec.structs.replace(signed, bound_to=target.bound_to)))
        assert (await Probe(relayed, "kiln").next(Refused)).reason.startswith("the proof of this node's key is wrong")
        assert honest.swarm_state.membership.get(id_of("kiln")) is None


@pytest.mark.parametrize("purpose", ["join", "show"])
async def test_a_proof_for_one_purpose_does_not_serve_another(tmp_path, purpose):
    """Whoever is in between cannot have a node forgotten with what it signed to join."""
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln:
        await kiln.welcome()
        async with connect(rig.url("/probe"), proxy=None) as connection:
            handshake = handshake_of(connection)
            proof = signing.sign(key_of("kiln"), handshake.signed(purpose))
            asked = AboutMe(public_key=PUBLIC, proof=proof, bound_to=handshake.bound_to, forget=True)
            await connection.send(encode(asked))
            assert (await Probe(connection, "kiln").next(Refused)).reason.startswith("the proof of this node's key")
        assert rig.swarm_state.knows(id_of("kiln"))


@pytest.mark.parametrize(
    ("one", "other"), [("127.0.0.1", "::ffff:127.0.0.1"), ("fe80::1", "fe80::1%eth0"), ("::1", "0:0:0:0:0:0:0:1")]
)
def test_one_address_written_in_two_ways_is_one(one, other):
    assert signing.plain_text_binding(one, 9470) == signing.plain_text_binding(other, 9470)
    assert signing.plain_text_binding(one, 9470) != signing.plain_text_binding(one, 9471)


def test_signed_fields_cannot_run_into_each_other():
    a, b = signing.Handshake(b"ab", b"c", b""), signing.Handshake(b"a", b"bc", b"")
    assert a.signed("join") != b.signed("join")
    assert a.signed("join") != a.signed("forget")
