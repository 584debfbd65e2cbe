"""Claims about what options accept. Every command shares them."""

from __future__ import annotations

import argparse
import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtop import option_types


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.5:9470", "10.0.0.5", 9470),
        ("swarm.example.org", "swarm.example.org", 9470),
        ("[::1]:8000", "::1", 8000),
        ("[fe80::1%eth0]", "fe80::1%eth0", 9470),
        (":8000", "127.0.0.1", 8000),
        ("ws://10.0.0.5:9470", "10.0.0.5", 9470),
    ],
)
def test_an_address_is_host_and_port_and_the_port_may_be_left_out(text: str, host: str, port: int) -> None:
    assert option_types.address(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ftp://10.0.0.5", "ftp://10.0.0.5 is neither HOST:PORT nor a ws:// or wss:// URL; leave out ftp://"),
        ("::1", "::1 is not HOST:PORT; put an IPv6 address in brackets, as in [::1]:9470"),
        ("host:0", "host:0 has no port from 1 to 65535; give HOST:PORT, e.g. 203.0.113.7:9470"),
    ],
)
def test_what_is_no_address_is_reported_with_the_way_to_write_one(text: str, complaint: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        option_types.address(text)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("-90s", 10**18 - 90 * 10**9),
        ("-1h", 10**18 - 3600 * 10**9),
        ("-0.5d", 10**18 - 43_200 * 10**9),
        ("now", 10**18),
        ("1970-01-01T00:00:01", 10**9),
        ("1970-01-01T01:00:01+01:00", 10**9),
        ("1970-01-02", 86_400 * 10**9),
    ],
)
def test_a_time_is_iso_in_utc_or_ago(text: str, at_ns: int) -> None:
    assert option_types.at_ns(option_types.when(text), now_ns=10**18) == at_ns


@given(text=st.text(max_size=40))
def test_any_text_is_a_time_or_one_complaint(text: str) -> None:
    with contextlib.suppress(argparse.ArgumentTypeError):
        option_types.at_ns(option_types.when(text), now_ns=10**18)


def test_a_time_that_begins_with_a_dash_is_no_option() -> None:
    assert option_types.joined_times(["export", "--since", "-1h", "--kind", "link"]) == [
        "export",
        "--since=-1h",
        "--kind",
        "link",
    ]


@given(value=st.one_of(st.floats(), st.integers()))
def test_a_number_out_of_range_or_not_finite_never_passes(value: float) -> None:
    convert = option_types.number(0.0, 60_000.0)
    if math.isfinite(value) and 0 <= value <= 60_000:
        assert convert(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="takes 0 to 60000"):
            convert(repr(value))
