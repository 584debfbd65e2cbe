"""Identify a node: an Ed25519 key made on first start, and the public id derived from it.

Samples, links and the database carry the id; the name is for people and may change. Ids used to have 64 bits, derived
from public keys and from the secrets that probes of the first release sent to their collectors alike; such an id stays
with its node in the databases that hold it, and no new node gets one. The secret of an old key file is sent once more,
only to collectors that know it already, so that the node keeps its id and history there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarm_protocol.trust.state_dir import default_state_dir as default_state_dir

KEY_BYTES: Final = 32
COLLECTOR_ID_BYTES: Final = 16
_HEAD: Final = "swarmtop node key 1"


class IdentityError(Exception):
    """The key file cannot be read or made; the text says what to do."""


def node_id(public_key: bytes) -> str:
    """Return 32 hex digits, safe to show: the first 128 bits of SHA-256 over the public key."""
    return hashlib.sha256(b"swarmtop node id 2\x00" + public_key).hexdigest()[:32]


def legacy_node_id(key: bytes) -> str:
    """Return the 64-bit id of a public key, or of a former secret, in databases made before ids had 128 bits.

    One hash for both kinds: the caller must know which kind the id in question is of.
    """
    return hashlib.sha256(b"swarmtop node id\x00" + key).hexdigest()[:16]


def collector_id(secret: bytes) -> bytes:
    """Return 16 bytes that name a collector, or all collectors of one database, without revealing their secret."""
    return hashlib.sha256(b"swarmtop collector id\x00" + secret).digest()[:COLLECTOR_ID_BYTES]


class NodeKey(msgspec.Struct, frozen=True):
    seed: bytes  # secret
    former: bytes | None = None  # the older secret; None: this node never had one
    former_known_to: tuple[str, ...] = ()  # collectors that were joined with it

    def former_for(self, collector: str) -> bytes | None:
        return self.former if collector in self.former_known_to else None


def load_or_create_node_key(path: Path, known_to: Callable[[], tuple[str, ...]]) -> NodeKey:
    """Return the node's key in `path`, made on first use with mode 0600. `known_to`: collectors joined before, read
    where the file is an old one.

    Raises IdentityError if the file is unreadable, unwritable or not a key.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        _write_new(path, _text_of(NodeKey(secrets.token_bytes(KEY_BYTES))))
        return load_or_create_node_key(path, known_to)
    except OSError as error:
        raise IdentityError(f"cannot read {path} ({error.strerror}); give --state another folder") from error
    if len(data) == KEY_BYTES:
        key = NodeKey(secrets.token_bytes(KEY_BYTES), former=data, former_known_to=known_to())
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            _write_draft(draft, _text_of(key))
            draft.replace(path)
        except OSError as error:
            raise IdentityError(f"cannot write {path} ({error.strerror}); give --state another folder") from error
        return key
    key_read = _of_text(data)
    if key_read is None:
        raise IdentityError(f"{path} holds no node key; delete it to create a new identity")
    return key_read


def _text_of(key: NodeKey) -> bytes:
    former = f"former {key.former.hex()} {' '.join(key.former_known_to)}\n" if key.former is not None else ""
    return f"{_HEAD}\nseed {key.seed.hex()}\n{former}".encode()


def _of_text(data: bytes) -> NodeKey | None:
    lines = data.decode(errors="replace").splitlines()
    words = [line.split() for line in lines[1:]]
    if lines[:1] != [_HEAD] or not words or len(words[0]) != 2 or words[0][0] != "seed":
        return None
    try:
        seed = bytes.fromhex(words[0][1])
        former = words[1] if len(words) > 1 and words[1][:1] == ["former"] else None
        key = NodeKey(seed, bytes.fromhex(former[1]), tuple(former[2:])) if former else NodeKey(seed)
    except (ValueError, IndexError):
        return None
    return key if len(seed) == KEY_BYTES else None


def load_or_create_key(path: Path) -> bytes:
    """Return the secret in `path`, made on first use with mode 0600.

    Raises IdentityError if the file is unreadable, unwritable or not a key.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        _write_new(path, secrets.token_bytes(KEY_BYTES))
        return load_or_create_key(path)
    except OSError as error:
        raise IdentityError(f"cannot read {path} ({error.strerror}); give --state another folder") from error
    if len(key) != KEY_BYTES:
        raise IdentityError(
            f"{path} holds {len(key)} bytes, not a {KEY_BYTES}-byte key; delete it to create a new identity"
        )
    return key


def _write_new(path: Path, data: bytes) -> None:
    """Write this to `path`, unless another process was first. Raises IdentityError."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_draft(draft, data)
        # a link appears whole or not at all: two probes started at once end with the same key
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError as error:
        raise IdentityError(f"cannot write {path} ({error.strerror}); give --state another folder") from error
    finally:
        draft.unlink(missing_ok=True)


def _write_draft(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
