"""Keys of pairs come from it: probes and earlier collectors compute the same with the standard library's HMAC."""

from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from swarm_collector.scheduling.keyed_hash import KeyedHash


@given(st.binary(max_size=200), st.lists(st.binary(max_size=200), max_size=3))
def test_it_is_hmac_sha_256(key: bytes, messages: list[bytes]):
    keyed = KeyedHash(key)
    assert [keyed.digest(message) for message in messages] == [
        hmac.digest(key, message, "sha256") for message in messages
    ]
