"""Plain text is allowed to this machine only: which addresses count as it."""

from __future__ import annotations

import pytest

from swarm_protocol.trust.loopback import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "::1%lo"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "192.168.0.1",
        "::ffff:192.0.2.1",
        "fe80::1%eth0",
        "localhost.example",
        "127.1",
        "",
        "%lo",
        "127.0.0.1%lo",
    ],
)
def test_anything_else(host: str) -> None:
    assert not is_loopback(host)
