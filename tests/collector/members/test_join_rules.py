"""What the register decides, and the rows it writes, key by key: without a store, a socket or a clock.

Keys and numbers are written out here, not imported: databases hold them.
"""

from __future__ import annotations

import hashlib
import json

import pytest
from collector_fixtures import id_of, key_of

from swarm_collector.members import join_rules
from swarm_collector.members.join_rules import Invite, Joiner, Joining, Register, Row, Unreadable
from swarm_collector.members.membership import NO_TOKEN, Rejected
from swarm_protocol.trust import identity, signing
from swarm_protocol.trust.ed25519_curve import may_be_public_key

DAY_NS = 86_400 * 1_000_000_000
PUBLIC = signing.public_key(key_of("kiln"))
KILN, OVEN = id_of("kiln"), id_of("oven")
LEGACY = identity.legacy_node_id(PUBLIC)
SECRETS = [hashlib.sha256(f"former {i}".encode()).digest() for i in range(1000)]
FORMER = next(secret for secret in SECRETS if not may_be_public_key(secret))
AMBIGUOUS = next(secret for secret in SECRETS if may_be_public_key(secret))
NO_ROW = {"public_key": "", "invite": "", "label": "", "name": "", "revoked_ns": 0, "revision": 0}


class Rows:
    """A `RegisterReader`: rows, and the names of members."""

    def __init__(self, rows: dict[str, str] | None = None, names: dict[str, str] | None = None) -> None:
        self.rows = dict(rows or {})
        self.names = dict(names or {})  # node id → name

    def settings(self, keys: list[str]) -> dict[str, str]:
        return {key: self.rows[key] for key in keys if key in self.rows}

    def name_of(self, node_id: str) -> str | None:
        return self.names.get(node_id)

    def has_name(self, name: str, but: str) -> bool:
        return any(name == each and node_id != but for node_id, each in self.names.items())

    def members(self) -> int:
        return len(self.names)


def joining(
    name: str = "kiln",
    *,
    former: bytes | None = None,
    invite: str = "",
    token_ok: bool = True,
    max_members: int = 100,
    recorded_id: str | None = None,
) -> Joining:
    return Joining(signing.public_key(key_of(name)), former, invite, token_ok, name, max_members, recorded_id)


def member(**fields: object) -> str:
    return json.dumps(NO_ROW | fields)


def admitted(book: Rows, asks: Joining, now_ns: int = 5) -> Joiner:
    outcome = join_rules.admit(book, asks, now_ns)
    assert isinstance(outcome, Joiner), outcome
    return outcome


def written(joiner: Joiner) -> dict[str, object]:
    """Its rows; those of JSON decoded."""
    return {key: value if key.startswith("key/") else json.loads(value) for key, value in joiner.changes}


def with_invite(label: str = "") -> tuple[Rows, str, str]:
    code, invite_id, (key, value) = join_rules.make_invite(label, 3, DAY_NS)
    return Rows({key: value}), code, invite_id


# ---------------------------------------------------------------- joining


def test_a_client_with_the_token_joins_under_the_id_of_its_key_and_nothing_is_written():
    assert admitted(Rows(), joining()) == Joiner(KILN, "kiln", (), Row(), stored=True)


def test_a_client_without_token_or_invite_is_refused_for_good():
    assert join_rules.admit(Rows(), joining(token_ok=False), 5) == Rejected(NO_TOKEN, final=True)


def test_a_revoked_node_is_refused_as_such_whatever_it_shows():
    book, code, _ = with_invite()
    book.rows[f"member/{KILN}"] = member(revoked_ns=1)
    refused = Rejected("the operator has revoked this machine's membership; ask them to readmit it", final=True)
    assert join_rules.admit(book, joining(), 5) == refused
    assert join_rules.admit(book, joining(invite=code), 5) == refused
    book.rows[f"member/{KILN}"] = member(revoked_ns=0)
    assert admitted(book, joining()).node_id == KILN


def test_a_full_swarm_admits_no_new_member_and_keeps_its_members():
    book = Rows(names={OVEN: "oven", "other": "other"})
    assert join_rules.admit(book, joining(max_members=2), 5) == Rejected(
        "the swarm is full (2 nodes)", final=False, retry_ms=600_000
    )
    assert admitted(book, joining(max_members=3)).node_id == KILN
    assert admitted(book, joining("oven", max_members=2)).node_id == OVEN
    assert admitted(book, joining("oven", max_members=1)).node_id == OVEN


def test_a_row_that_cannot_be_read_decides_nothing():
    book = Rows({f"member/{KILN}": "{"})
    with pytest.raises(Unreadable, match=f"the row member/{KILN} of the store cannot be read"):
        join_rules.admit(book, joining(), 5)


# ---------------------------------------------------------------- invites


def test_an_invite_is_a_row_with_the_hash_of_its_code():
    code, invite_id, (key, value) = join_rules.make_invite("alice", 3, DAY_NS)
    code_sha256 = hashlib.sha256(code.encode()).hexdigest()
    assert len(code) == 22  # 16 bytes in base64, without padding
    assert invite_id == code_sha256[:8] == join_rules.id_of(code)
    assert key == f"invite/{invite_id}"
    assert json.loads(value) == {
        "code_sha256": code_sha256,
        "label": "alice",
        "made_ns": 3,
        "expires_ns": 3 + DAY_NS,
        "used_by": None,
        "used_ns": 0,
        "revoked": False,
        "revision": 1,
    }
    assert join_rules.make_invite("alice", 3, DAY_NS)[0] != code


def test_a_client_with_an_invite_needs_no_token_then_or_later():
    book, code, invite_id = with_invite("alice")
    made = json.loads(book.rows[f"invite/{invite_id}"])
    joiner = admitted(book, joining(invite=code, token_ok=False))
    row = NO_ROW | {"invite": invite_id, "label": "alice", "revision": 1}
    assert written(joiner) == {
        f"invite/{invite_id}": made | {"used_by": KILN, "used_ns": 5, "revision": 2},
        f"member/{KILN}": row,
    }
    assert joiner.row == Row(invite=invite_id, label="alice", revision=1)
    book.rows.update(joiner.changes)
    again = admitted(book, joining(token_ok=False))
    assert (again.node_id, again.changes) == (KILN, ())


def test_a_member_by_invite_that_shows_another_does_not_use_it_up():
    book, code, _ = with_invite()
    book.rows[f"member/{KILN}"] = member(invite="12345678")
    assert admitted(book, joining(invite=code)).changes == ()
    assert admitted(book, joining(invite="made-up")).changes == ()


def test_the_machine_that_used_an_invite_may_use_it_again_after_it_expired():
    book, code, invite_id = with_invite()
    used = dict(admitted(book, joining(invite=code)).changes)
    book = Rows({f"invite/{invite_id}": used[f"invite/{invite_id}"]})  # the member was forgotten
    assert admitted(book, joining(invite=code, token_ok=False), 3 * DAY_NS).node_id == KILN
    assert join_rules.admit(book, joining("oven", invite=code), 5) == Rejected(
        "this invite has been used by another machine, and each is good for one; ask the operator for another",
        final=True,
    )


def test_an_invite_is_good_to_its_last_nanosecond():
    book, code, _ = with_invite()
    assert admitted(book, joining(invite=code), 3 + DAY_NS).node_id == KILN
    assert join_rules.admit(book, joining(invite=code), 4 + DAY_NS) == Rejected(
        "this invite expired on 1970-01-02 at 00:00 UTC; ask the operator for another", final=True
    )


def test_a_code_that_shares_no_more_than_its_id_with_an_invite_is_not_it():
    no_such = Rejected(
        "this collector made no such invite; copy the whole line, or ask its operator for another", final=True
    )
    book, code, invite_id = with_invite()
    made = json.loads(book.rows[f"invite/{invite_id}"])
    book.rows[f"invite/{invite_id}"] = json.dumps(made | {"code_sha256": made["code_sha256"][:8] + 56 * "0"})
    assert join_rules.admit(book, joining(invite=code), 5) == no_such
    assert join_rules.admit(Rows(), joining(invite=code), 5) == no_such


def test_revoking_an_invite_writes_its_row_and_ends_it():
    book, code, invite_id = with_invite("alice")
    made = json.loads(book.rows[f"invite/{invite_id}"])
    revoked = join_rules.revoke_invite(book, invite_id)
    assert revoked is not None
    was, (key, value) = revoked
    assert (was.label, was.revoked, key) == ("alice", False, f"invite/{invite_id}")
    assert json.loads(value) == made | {"revoked": True, "revision": 2}
    book.rows[key] = value
    assert join_rules.admit(book, joining(invite=code), 5) == Rejected(
        "this invite was revoked; ask the operator for another", final=True
    )
    assert join_rules.revoke_invite(book, "00000000") is None


# ---------------------------------------------------------------- ids of databases of before


@pytest.mark.parametrize("known_by", ["row", "name"])
def test_a_node_of_before_keeps_its_short_id_and_its_key_is_recorded(known_by):
    book = Rows({f"member/{LEGACY}": member(label="lab")}) if known_by == "row" else Rows(names={LEGACY: "kiln"})
    label = "lab" if known_by == "row" else ""
    joiner = admitted(book, joining())
    assert (joiner.node_id, joiner.name) == (LEGACY, "kiln")
    assert written(joiner) == {
        f"member/{LEGACY}": NO_ROW | {"public_key": PUBLIC.hex(), "label": label, "revision": 1},
        f"key/{PUBLIC.hex()}": LEGACY,
    }
    book.rows.update(joiner.changes)
    again = admitted(book, joining())
    assert (again.node_id, again.changes) == (LEGACY, ())


def test_the_key_of_a_node_of_before_does_not_stand_in_for_the_token():
    book = Rows(names={LEGACY: "kiln"})
    assert join_rules.admit(book, joining(token_ok=False), 5) == Rejected(NO_TOKEN, final=True)


def test_a_former_secret_gives_the_id_of_before_without_the_token():
    former_id = identity.legacy_node_id(FORMER)
    book, code, _ = with_invite()
    book.names[former_id] = "kiln"
    joiner = admitted(book, joining(former=FORMER, token_ok=False, invite=code))
    assert joiner.node_id == former_id
    assert written(joiner) == {
        f"member/{former_id}": NO_ROW | {"public_key": PUBLIC.hex(), "revision": 1},
        f"key/{PUBLIC.hex()}": former_id,
    }


def test_a_former_secret_that_is_unknown_or_taken_gives_nothing():
    former_id = identity.legacy_node_id(FORMER)
    assert admitted(Rows(), joining(former=FORMER)).node_id == KILN
    taken = Rows({f"member/{former_id}": member(public_key="ab")}, {former_id: "oven"})
    assert admitted(taken, joining(former=FORMER)).node_id == KILN
    assert join_rules.admit(taken, joining(former=FORMER, token_ok=False), 5) == Rejected(NO_TOKEN, final=True)


def test_what_may_be_the_public_key_of_another_is_no_secret():
    book = Rows(names={identity.legacy_node_id(AMBIGUOUS): "oven"})
    assert admitted(book, joining(former=AMBIGUOUS)).node_id == KILN


def test_a_key_that_is_recorded_for_a_node_is_that_node():
    book = Rows({f"key/{PUBLIC.hex()}": "0123456789abcdef"}, {LEGACY: "kiln"})
    joiner = admitted(book, joining())
    assert (joiner.node_id, joiner.changes) == ("0123456789abcdef", ())


def test_a_member_row_of_before_the_index_names_its_key_too():
    book = Rows({"member/0123456789abcdef": member(public_key=PUBLIC.hex()), "member/other": member(public_key="ab")})
    joiner = admitted(book, joining(recorded_id="0123456789abcdef"))
    assert (joiner.node_id, joiner.changes) == ("0123456789abcdef", ())
    assert admitted(book, joining(recorded_id="other")).node_id == KILN
    assert admitted(book, joining()).node_id == KILN


# ---------------------------------------------------------------- names


def test_the_second_of_a_name_is_numbered_and_keeps_its_number():
    book = Rows(names={"a": "kiln"})
    assert admitted(book, joining()).name == "kiln-2"
    book.names["b"] = "kiln-2"
    assert admitted(book, joining()).name == "kiln-3"
    assert admitted(Rows(names={KILN: "kiln-2"}), joining()).name == "kiln-2"
    assert admitted(Rows(names={KILN: "kiln"}), joining()).name == "kiln"
    assert admitted(Rows(names={KILN: "oven"}), joining()).name == "kiln"  # it calls itself otherwise now


def test_the_name_that_the_operator_gave_is_the_one_that_counts():
    book = Rows({f"member/{KILN}": member(name="rack-7")})
    assert admitted(book, joining()).name == "rack-7"


def test_a_member_is_renamed_unless_another_is_called_that():
    book = Rows({f"member/{KILN}": member(label="lab", revision=4)}, {KILN: "kiln", OVEN: "oven"})
    assert join_rules.rename(book, KILN, "oven") is None
    change = join_rules.rename(book, KILN, "rack-7")
    assert change is not None
    assert change[0] == f"member/{KILN}"
    assert json.loads(change[1]) == NO_ROW | {"label": "lab", "name": "rack-7", "revision": 5}
    assert join_rules.rename(book, OVEN, "oven") is not None  # its own


def test_a_revocation_and_its_end_are_written_to_the_member_s_row():
    book = Rows({f"member/{KILN}": member(label="lab", name="rack-7")})
    key, value = join_rules.set_revoked(book, KILN, 9)
    assert key == f"member/{KILN}"
    assert json.loads(value) == NO_ROW | {"label": "lab", "name": "rack-7", "revoked_ns": 9, "revision": 1}
    book.rows[key] = value
    assert json.loads(join_rules.set_revoked(book, KILN, 0)[1])["revoked_ns"] == 0


# ---------------------------------------------------------------- the copy in memory


def test_the_copy_gives_back_the_rows_that_it_took_over():
    book, _, invite_id = with_invite("alice")
    kept = book.rows | {f"member/{LEGACY}": member(public_key=PUBLIC.hex()), "member/bad": "{", "schema": "1"}
    copy = Register(kept)
    assert copy.unreadable == 1
    assert json.loads(copy.kept(f"invite/{invite_id}") or "") == json.loads(kept[f"invite/{invite_id}"])
    assert json.loads(copy.kept(f"member/{LEGACY}") or "") == json.loads(kept[f"member/{LEGACY}"])
    assert copy.kept(f"key/{PUBLIC.hex()}") == LEGACY
    assert copy.recorded(PUBLIC.hex()) == LEGACY
    assert [copy.kept(key) for key in ("invite/none", "member/none", "key/none", f"member/{invite_id}")] == [None] * 4
    assert copy.recorded("none") is None
    assert (copy.row(LEGACY), copy.row("none")) == (Row(public_key=PUBLIC.hex()), Row())
    assert (set(copy.rows), set(copy.invites)) == ({LEGACY}, {invite_id})


def test_rows_without_a_key_are_in_no_index():
    assert Register({f"member/{KILN}": member(name="rack-7")}).recorded("") is None


def test_of_two_revisions_of_a_row_the_later_counts():
    copy = Register({f"member/{KILN}": member(name="second", revision=2)})
    copy.update([(f"member/{KILN}", member(name="first", revision=1))])
    assert copy.row(KILN).name == "second"
    copy.update([(f"member/{KILN}", member(name="same", revision=2))])
    assert copy.row(KILN).name == "same"
    copy.saw(KILN, Row(name="third", revision=3))
    assert copy.row(KILN).name == "third"
    copy.saw(KILN, Row(name="second", revision=2))
    assert copy.row(KILN).name == "third"


def test_the_id_that_a_key_would_join_under():
    def nobody(_: str) -> bool:
        return False

    recorded = Register({"member/0123456789abcdef": member(public_key=PUBLIC.hex())})
    assert recorded.id_of_key(PUBLIC, nobody) == "0123456789abcdef"
    assert Register({}).id_of_key(PUBLIC, nobody) == KILN
    assert Register({}).id_of_key(PUBLIC, LEGACY.__eq__) == LEGACY
    assert Register({f"member/{LEGACY}": member()}).id_of_key(PUBLIC, nobody) == LEGACY
    of_another = Register({f"member/{LEGACY}": member(public_key="ab")})
    assert of_another.id_of_key(PUBLIC, LEGACY.__eq__) == KILN


def test_an_invite_is_remembered_for_30_days_after_it_expired():
    book, _, invite_id = with_invite()
    copy = Register(book.rows)
    copy.forget_old(3 + 31 * DAY_NS)
    assert set(copy.invites) == {invite_id}
    copy.forget_old(4 + 31 * DAY_NS)
    assert copy.invites == {}


def test_of_10_000_invites_the_oldest_makes_room():
    copy = Register({})
    copy.invites = {str(i): Invite(code_sha256="", made_ns=i, expires_ns=DAY_NS) for i in range(9_999)}
    copy.forget_old(5)
    assert len(copy.invites) == 9_999
    copy.invites |= {str(i): Invite(code_sha256="", made_ns=i, expires_ns=DAY_NS) for i in range(9_999, 10_002)}
    copy.forget_old(5)
    assert list(copy.invites)[:1] == ["3"]
    assert len(copy.invites) == 9_999
