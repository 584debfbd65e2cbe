"""The node's key on disk: made once, for its owner alone, whole or not at all; and what is said if it cannot be."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

import pytest

from swarm_protocol.trust import identity
from swarm_protocol.trust.identity import (
    IdentityError,
    NodeKey,
    default_state_dir,
    load_or_create_key,
    load_or_create_node_key,
    node_id,
)

SEED, SECRET = b"s" * 32, b"o" * 32


def nobody() -> tuple[str, ...]:
    raise AssertionError("asked although there was no file of before")


def test_ids_are_those_that_databases_hold() -> None:
    """SHA-256 by another program: an id that came out otherwise would cut every node off from its past."""
    assert node_id(SEED) == "db0b77974f3cb82fe61c675c8817fa08"
    assert identity.legacy_node_id(SEED) == "ff272976d3b478a4"
    assert identity.collector_id(SEED) == bytes.fromhex("8ec6a7a107ece89db7626fe7233268bc")
    assert node_id(SECRET) != node_id(SEED)


def test_a_key_is_made_with_its_folders_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "node.key"
    key = load_or_create_node_key(path, nobody)
    assert (len(key.seed), key.former, key.former_known_to) == (32, None, ())
    assert path.read_text() == f"swarmtop node key 1\nseed {key.seed.hex()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_node_key(path, nobody) == key
    assert list(path.parent.iterdir()) == [path]
    assert load_or_create_node_key(tmp_path / "other.key", nobody).seed != key.seed


def test_the_file_of_before_is_taken_over_once(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(SECRET)
    path.chmod(0o644)
    key = load_or_create_node_key(path, lambda: ("a_1", "b_2"))
    assert (key.former, key.former_known_to) == (SECRET, ("a_1", "b_2"))
    assert key.seed != SECRET
    assert len(key.seed) == 32
    assert path.read_text() == f"swarmtop node key 1\nseed {key.seed.hex()}\nformer {SECRET.hex()} a_1 b_2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_node_key(path, nobody) == key
    assert (key.former_for("b_2"), key.former_for("c_3")) == (SECRET, None)
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_of_before_that_is_unknown_is_kept_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(SECRET)
    load_or_create_node_key(path, tuple)
    key = load_or_create_node_key(path, nobody)
    assert (key.former, key.former_known_to) == (SECRET, ())
    assert key.former_for("a_1") is None
    assert NodeKey(SEED).former_for("a_1") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "swarmtop node key 1",
        "swarmtop node key 1\n",
        "swarmtop node key 1\n\n",
        f"swarmtop node key 2\nseed {SEED.hex()}\n",
        f"swarmtop node key 1\nseeds {SEED.hex()}\n",
        f"swarmtop node key 1\nseed {SEED.hex()} more\n",
        "swarmtop node key 1\nseed\n",
        "swarmtop node key 1\nseed xyz\n",
        f"swarmtop node key 1\nseed {SEED.hex()[:-2]}\n",
        f"swarmtop node key 1\nseed {SEED.hex()}00\n",
        f"swarmtop node key 1\nseed {SEED.hex()}\nformer\n",
        f"swarmtop node key 1\nseed {SEED.hex()}\nformer xyz a_1\n",
        "\x00" * 31,
        "\x00" * 33,
    ],
)
def test_a_file_that_holds_no_key_is_left_alone_and_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_text(text)
    with pytest.raises(IdentityError) as caught:
        load_or_create_node_key(path, nobody)
    assert str(caught.value) == f"{path} holds no node key; delete it to create a new identity"
    assert path.read_text() == text


def test_a_file_that_is_no_text_is_told_too(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(b"\xff" * 33)
    with pytest.raises(IdentityError, match="holds no node key"):
        load_or_create_node_key(path, nobody)


def test_lines_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_text(f"swarmtop node key 1\nseed {SEED.hex()}\nlater thing\n")
    assert load_or_create_node_key(path, nobody) == NodeKey(SEED)


@pytest.mark.parametrize("load", [load_or_create_key, lambda path: load_or_create_node_key(path, nobody)])
def test_where_no_key_can_be_read_or_written_one_line_says_what_to_do(load, tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"cannot read {tmp_path} (Is a directory); give --state another folder"
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError) as caught:
        load(tmp_path / "file" / "node.key")
    assert str(caught.value) == (
        f"cannot read {tmp_path / 'file' / 'node.key'} (Not a directory); give --state another folder"
    )


@pytest.mark.parametrize("load", [load_or_create_key, lambda path: load_or_create_node_key(path, nobody)])
def test_a_key_that_cannot_be_written_leaves_nothing_behind(
    load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(identity.os, "fsync", full)
    path = tmp_path / "node.key"
    with pytest.raises(IdentityError) as caught:
        load(path)
    assert str(caught.value) == f"cannot write {path} (No space left on device); give --state another folder"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(13, os.strerror(13))

    monkeypatch.setattr(identity.Path, "mkdir", refuse)
    path = tmp_path / "not" / "there" / "node.key"
    with pytest.raises(IdentityError) as caught:
        load_or_create_node_key(path, nobody)
    assert str(caught.value) == f"cannot write {path} (Permission denied); give --state another folder"


def test_the_whole_key_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves a whole key or none."""
    synced: list[tuple[int, bool]] = []
    path = tmp_path / "node.key"
    monkeypatch.setattr(identity.os, "fsync", lambda fd: synced.append((os.fstat(fd).st_size, path.exists())))
    load_or_create_node_key(path, nobody)
    assert synced == [(path.stat().st_size, False)]


def test_a_file_of_before_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    path = tmp_path / "node.key"
    path.write_bytes(SECRET)
    monkeypatch.setattr(identity.os, "fsync", full)
    with pytest.raises(IdentityError, match=r"^cannot write .*node\.key \(No space left on device\); give --state"):
        load_or_create_node_key(path, tuple)
    assert path.read_bytes() == SECRET


def test_of_two_that_make_a_key_at_once_both_have_that_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.key"
    real = os.link

    def another_is_first(draft: Path, where: Path) -> None:
        path.write_text(f"swarmtop node key 1\nseed {SEED.hex()}\n")
        real(draft, where)

    monkeypatch.setattr(identity.os, "link", another_is_first)
    assert load_or_create_node_key(path, nobody) == NodeKey(SEED)
    assert list(tmp_path.iterdir()) == [path]


def test_a_plain_secret_is_made_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    made = load_or_create_key(path)
    assert len(made) == 32
    assert load_or_create_key(path) == made == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(secrets.token_bytes(31))
    with pytest.raises(IdentityError) as caught:
        load_or_create_key(path)
    assert str(caught.value) == f"{path} holds 31 bytes, not a 32-byte key; delete it to create a new identity"


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.delenv("SWARMTOP_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_state_dir() == Path("/home/x/.local/state/swarmtop")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_state_dir() == Path("/state/swarmtop")
    monkeypatch.setenv("SWARMTOP_HOME", "/srv/swarmtop")
    assert default_state_dir() == Path("/srv/swarmtop")
