"""What --join takes, and how the wait before a reconnect is chosen."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.collector_client.client_times import Backoff
from swarm_probe.collector_client.join_url import JoinError, parse_join
from swarm_protocol.text import safe


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(JoinError, match=r"^--join takes no user or password; a token goes into --token") as caught:
        parse_join("ws://user:secret@host:1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("203.0.113.7:9470", "wss://203.0.113.7:9470/probe"),
        ("swarm.example", "wss://swarm.example:9470/probe"),
        ("[2001:db8::7]:99", "wss://[2001:db8::7]:99/probe"),
        ("127.0.0.1:9470", "ws://127.0.0.1:9470/probe"),
        ("ws://[::1]:9470", "ws://[::1]:9470/probe"),
        ("localhost", "ws://localhost:9470/probe"),
        ("wss://swarm.example", "wss://swarm.example:443/probe"),
        ("https://swarm.example/pool/", "wss://swarm.example:443/pool/probe"),
    ],
)
def test_join_takes_what_people_paste(text: str, url: str) -> None:
    assert parse_join(text) == url


@pytest.mark.parametrize("text", ["swarm.example:1", "ws://swarm.example:1/probe", "http://swarm.example:1"])
def test_plain_text_to_another_machine_must_be_asked_for(text: str) -> None:
    assert parse_join(text, insecure=True) == "ws://swarm.example:1/probe"
    if "://" in text:
        with pytest.raises(JoinError) as caught:
            parse_join(text)
        assert str(caught.value) == (
            f"--join '{text}' is plain text, which anyone on the path can read and change; "
            "leave out the scheme for TLS, or add --insecure"
        )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "--join '' names no host; give HOST:PORT, e.g. --join 203.0.113.7:9470"),
        (
            "host:99999",
            "--join 'host:99999': Port out of range 0-65535; give HOST:PORT, e.g. --join 203.0.113.7:9470",
        ),
        (":9470", "--join ':9470' names no host; give HOST:PORT, e.g. --join 203.0.113.7:9470"),
        ("host:0", "--join 'host:0': nothing listens on port 0; give HOST:PORT, e.g. --join 203.0.113.7:9470"),
        (
            "ftp://host",
            "--join 'ftp://host' is neither HOST:PORT nor a ws:// or wss:// URL; give HOST:PORT, "
            "e.g. --join 203.0.113.7:9470",
        ),
        (
            "2001:db8::7",
            "--join '2001:db8::7': write an IPv6 address in brackets, e.g. --join '[2001:db8::7]:9470'",
        ),
    ],
)
def test_join_refuses_an_invalid_address_in_one_line(text: str, line: str) -> None:
    with pytest.raises(JoinError) as caught:
        parse_join(text)
    assert str(caught.value) == line


@given(st.text(max_size=40))
def test_any_join_text_gives_a_url_or_one_clear_line(text: str) -> None:
    try:
        url = parse_join(text)
    except JoinError as error:
        url = f"{error}/probe"
    assert safe(url, 1000) == url
    assert url.endswith("/probe")


@given(st.integers(min_value=0, max_value=2**32))
def test_backoff_is_spread_over_the_whole_span_and_never_above_the_cap(seed: int) -> None:
    backoff = Backoff(1.0, 60.0, random.Random(seed))
    waits = [backoff.next_s() for _ in range(40)]
    assert all(0 <= wait <= min(60.0, 2.0**n) for n, wait in enumerate(waits))
    backoff.reset()
    assert backoff.next_s(at_least_s=5.0) <= 6.0
