"""Admission: certificates, proofs of a key, invites, and what an operator can do. Volunteers read each line here."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import ssl
import stat
import time

import msgspec
import pytest
from collector_fixtures import hello, id_of, key_of
from collector_rig import Probe, collector, handshake_of, link, note
from websockets.asyncio.client import connect

from swarm_collector.transport import certificate
from swarm_protocol.messages import operator_messages
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import AboutMe, AboutYou, Refused
from swarm_protocol.snapshot.swarm import State
from swarm_protocol.trust import certificate_pins, identity, signing
from swarm_protocol.units import NS_PER_S

DAY_NS = 86_400 * NS_PER_S


@contextlib.asynccontextmanager
async def behind_tls(tmp_path, **changes):
    own = certificate.load_or_make(tmp_path)
    async with collector(tmp_path, certificate=own, **changes) as rig:
        yield rig, own


@contextlib.asynccontextmanager
async def tls_probe(rig, name, *, bound_to=None, **changes):
    url = f"wss://127.0.0.1:{rig.port}/probe"
    async with connect(url, ssl=certificate_pins.client_context(), compression=None, proxy=None) as connection:
        shown = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        seen = handshake_of(connection)
        seen = seen if bound_to is None else msgspec.structs.replace(seen, bound_to=bound_to)
        await connection.send(encode(hello(name, handshake=seen, **changes)))
        yield Probe(connection, name), shown


# ---------------------------------------------------------------- the connection


async def test_a_probe_joins_over_tls_and_sees_the_certificate_of_the_invite(tmp_path):
    async with behind_tls(tmp_path) as (rig, own), tls_probe(rig, "kiln") as (probe, shown):
        assert (await probe.welcome()).node_id == id_of("kiln")
        assert certificate_pins.fingerprint(shown) == own.fingerprint
    again = certificate.load_or_make(tmp_path)
    assert again.digest == own.digest
    assert stat.S_IMODE((tmp_path / certificate.KEY_FILE).stat().st_mode) == 0o600


async def test_plain_text_from_this_machine_still_works_on_the_same_port(tmp_path):
    async with behind_tls(tmp_path) as (rig, _), rig.probe("kiln") as probe, tls_probe(rig, "oven") as (other, _):
        assert (await probe.welcome()).name == "kiln"
        assert (await other.welcome()).name == "oven"


async def test_plain_text_from_another_machine_is_answered_in_plain_text_and_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("swarm_collector.transport.tls_listener.is_loopback", lambda _: False)
    async with behind_tls(tmp_path) as (rig, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"GET /probe HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(10):
            said = await reader.read()
        writer.close()
        assert said.startswith(b"HTTP/1.1 426 ")
        assert b"only TLS from other machines" in said
        assert rig.server.connection_limiter.refused["plain text from another machine"] == 1


async def test_silent_clients_and_broken_handshakes_cost_nothing_for_long(tmp_path):
    from swarm_collector.transport.connection_limits import Limits

    async with behind_tls(tmp_path, limits=Limits(http_s=0.3)) as (rig, _):
        silent, _ = await asyncio.open_connection("127.0.0.1", rig.port)
        broken, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"\x16\x03\x01\x00\x05hello")
        async with asyncio.timeout(10):
            assert await silent.read() == b""
            await broken.read()
        assert rig.server.connection_limiter.refused["not a session in time"] >= 1
        async with rig.probe("kiln") as probe:
            await probe.welcome()


def test_a_certificate_without_its_key_is_one_line(tmp_path):
    certificate.load_or_make(tmp_path)
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    certificate.load_or_make(elsewhere)
    (elsewhere / certificate.KEY_FILE).replace(tmp_path / certificate.KEY_FILE)
    with pytest.raises(certificate.CertificateError, match="do not belong together"):
        certificate.load_or_make(tmp_path)


# ---------------------------------------------------------------- proofs


async def test_a_proof_made_for_another_certificate_is_refused(tmp_path):
    """Somebody in between shows a certificate of their own: what is signed for it is of no use here."""
    async with behind_tls(tmp_path) as (rig, _), tls_probe(rig, "kiln", bound_to=b"x" * 32) as (probe, _):
        assert "saw another certificate" in (await probe.next(Refused)).reason


async def test_a_proof_is_good_for_one_connection(tmp_path):
    async with collector(tmp_path) as rig:
        async with connect(rig.url("/probe"), proxy=None) as first:
            recorded = encode(hello("kiln", handshake=handshake_of(first)))
        async with connect(rig.url("/probe"), proxy=None) as second:
            await second.send(recorded)
            refused = await Probe(second, "kiln").next(Refused)
        assert refused.reason.startswith("the proof of this node's key is wrong")
        assert refused.final


async def test_nobody_joins_with_the_public_key_of_another(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln:
        await kiln.welcome()
        async with rig.probe("thief", public_key=signing.public_key(key_of("kiln"))) as thief:
            assert (await thief.next(Refused)).final
        assert rig.swarm_state.membership.get(id_of("kiln")).session is not None


@pytest.mark.parametrize("changes", [{"public_key": b""}, {"proof": b""}, {"public_key": b"\0" * 32}])
async def test_no_proof_no_session(tmp_path, changes):
    async with collector(tmp_path) as rig, rig.probe("kiln", **changes) as probe:
        assert (await probe.next(Refused)).final


# ---------------------------------------------------------------- invites


async def test_an_invite_lets_one_machine_in_without_the_token(tmp_path):
    async with collector(tmp_path, token="secret") as rig:
        made = await rig.server.operator_requests.answer(operator_messages.MakeInvite(label="alice"))
        async with rig.probe("kiln", invite=made.code) as probe:
            await probe.welcome()
        async with rig.probe("kiln", invite=made.code) as probe:  # the same line pasted again
            await probe.welcome()
        async with rig.probe("oven", invite=made.code) as other:
            assert (await other.next(Refused)).reason == (
                "this invite has been used by another machine, and each is good for one; ask the operator for another"
            )
        (row,) = (await rig.server.operator_requests.answer(operator_messages.ListInvites())).rows
        assert (row.state, row.label) == ("used by kiln", "alice")
    async with collector(tmp_path, token="secret") as again:
        async with again.probe("kiln") as probe:  # enrolled: neither invite nor token from now on
            await probe.welcome()
        async with again.probe("oven", invite=made.code) as other:
            assert "used by another machine" in (await other.next(Refused)).reason


# ---------------------------------------------------------------- the operator


async def test_a_revoked_member_is_turned_out_and_stays_out(tmp_path):
    async with collector(tmp_path, token="secret") as rig, rig.probe("kiln", token="secret") as probe:
        await probe.welcome()
        await rig.server.operator_requests.answer(operator_messages.Revoke(member="kiln"))
        assert (await probe.next(Refused)).reason == "the operator has revoked this machine's membership"
        shown = rig.swarm_state.snapshot()  # at once: it was shown as ok for 12 s, and as lost from then on
        assert [(name, State(state)) for name, state in zip(shown.names, shown.nodes["state"], strict=True)] == [
            ("kiln", State.LEFT)
        ]
        assert [event.detail for event in shown.events if event.kind == "left"] == [
            "the operator has revoked this machine's membership"
        ]
        async with rig.probe("kiln", token="secret") as back:
            assert "ask them to readmit it" in (await back.next(Refused)).reason
        await rig.server.operator_requests.answer(operator_messages.Revoke(member="kiln", readmit=True))
        async with rig.probe("kiln", token="secret") as back:
            await back.welcome()


async def test_a_member_keeps_the_name_that_the_operator_gave(tmp_path):
    async with collector(tmp_path) as rig:
        async with rig.probe("kiln") as probe, rig.probe("oven") as oven:
            await probe.welcome()
            await oven.welcome()
            assert await rig.server.operator_requests.answer(
                operator_messages.Rename(member="kiln", name="attic")
            ) == operator_messages.Done(text="kiln is called attic from now on")
            taken = await rig.server.operator_requests.answer(operator_messages.Rename(member="attic", name="oven"))
            assert taken == operator_messages.No(text="another member is called oven; choose another name")
            wrong = await rig.server.operator_requests.answer(operator_messages.Rename(member="attic", name="[red]x"))
            assert wrong == operator_messages.No(text="[red]x is not a valid name: 1 to 32 of A-Z a-z 0-9 . _ -")
        async with rig.probe("kiln") as probe:
            assert (await probe.welcome()).name == "attic"
    async with collector(tmp_path) as again, again.probe("kiln") as probe:
        assert (await probe.welcome()).name == "attic"


async def test_only_a_user_who_can_read_the_state_folder_is_the_operator(tmp_path):
    async with collector(tmp_path) as rig:
        for head in (
            "",
            "Authorization: Bearer wrong\r\n",
            f"Authorization: Bearer {rig.server.operator_requests.secret}\r\nOrigin: x\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(f"POST /operate HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 2\r\n\r\n{{}}".encode())
            async with asyncio.timeout(10):
                assert (await reader.readline()).startswith(b"HTTP/1.1 403")
            writer.close()


# ---------------------------------------------------------------- keys and pins on disk


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "node.key"
    key = identity.load_or_create_node_key(path, tuple)
    assert identity.load_or_create_node_key(path, tuple) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signing.sign_elsewhere(key.seed, b"message")[0] == signing.public_key(key.seed)


def test_the_old_secret_is_accepted_only_from_its_owner(tmp_path):
    path = tmp_path / "node.key"
    path.write_bytes(b"o" * 32)
    identity.load_or_create_node_key(path, lambda: ("203.0.113.7_9470",))
    key = identity.load_or_create_node_key(path, tuple)
    assert key.former_for("203.0.113.7_9470") == b"o" * 32
    assert key.former_for("198.51.100.1_9470") is None
    assert key.seed != b"o" * 32


def test_a_changed_certificate_is_refused_in_one_line(tmp_path):
    first, second = certificate_pins.fingerprint(b"one"), certificate_pins.fingerprint(b"two")
    certificate_pins.remember(tmp_path, "host:1", first)
    assert certificate_pins.load(tmp_path, "host:1") == first
    assert certificate_pins.load(tmp_path, "host:2") is None
    with pytest.raises(certificate_pins.PinError) as caught:
        certificate_pins.require("host:1", certificate_pins.load(tmp_path, "host:1"), second)
    assert str(caught.value) == (
        f"host:1 shows another certificate than the one known ({second}, not {first}): somebody may be in between; "
        f"if its operator says that it was replaced, give --fingerprint {second}"
    )


@pytest.mark.parametrize("text", ["", "SHA256:", "SHA256:abc", "MD5:" + "A" * 43, "SHA256:" + "A" * 44, "é" * 50])
def test_an_invalid_fingerprint_is_one_line(text):
    with pytest.raises(certificate_pins.PinError, match="43 characters"):
        certificate_pins.digest_of(text)


def test_a_client_takes_nothing_older_than_tls_1_3():
    assert certificate_pins.client_context().minimum_version is ssl.TLSVersion.TLSv1_3


# ---------------------------------------------------------------- what is stored of a volunteer


async def about_me(rig, name: str, *, forget: bool = False) -> AboutYou:
    async with connect(rig.url("/probe"), proxy=None) as connection:
        handshake = handshake_of(connection)
        proof = signing.sign(key_of(name), handshake.signed("forget" if forget else "show"))
        public = signing.public_key(key_of(name))
        asked = AboutMe(public_key=public, proof=proof, bound_to=handshake.bound_to, forget=forget)
        await connection.send(encode(asked))
        return await Probe(connection, name).next(AboutYou)


async def test_a_volunteer_sees_what_is_stored_and_has_it_taken_out(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("oven") as oven:
        await oven.welcome()
        async with rig.probe("kiln") as kiln:
            await kiln.welcome()
            await kiln.batch(1, link(time.time_ns(), id_of("oven")), note(time.time_ns(), "hello"))
            await kiln.acked(1)
        await oven.batch(1, link(time.time_ns(), id_of("kiln")))
        await oven.acked(1)
        lines = (await about_me(rig, "kiln")).lines
        assert any(line.startswith("node      ") and "called kiln" in line for line in lines)
        (links,) = [line for line in lines if line.startswith("link ")]
        assert "1 samples of yours, 1 that others measured of you" in links
        (gone,) = (await about_me(rig, "kiln", forget=True)).lines
        assert gone.startswith("forgotten: ")
        assert (await about_me(rig, "kiln")).lines == (f"nothing is stored about node {id_of('kiln')}",)
        assert id_of("kiln") not in rig.swarm_state.builder
        await oven.batch(2, note(time.time_ns(), "goes on"))
        await oven.acked(2)
    with sqlite3.connect(tmp_path / "swarm.db") as db:
        assert db.execute("SELECT name FROM node WHERE member").fetchall() == [("oven",)]
        assert db.execute("SELECT count(*) FROM link_sample").fetchone() == (0,)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_no_node_sees_or_deletes_the_data_of_another(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln:
        await kiln.welcome()
        async with connect(rig.url("/probe"), proxy=None) as connection:
            handshake = handshake_of(connection)
            proof = signing.sign(key_of("thief"), handshake.signed("forget"))
            public = signing.public_key(key_of("kiln"))
            asked = AboutMe(public_key=public, proof=proof, bound_to=handshake.bound_to, forget=True)
            await connection.send(encode(asked))
            assert (await Probe(connection, "thief").next(Refused)).final
        assert rig.swarm_state.knows(id_of("kiln"))
