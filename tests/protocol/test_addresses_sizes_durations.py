"""Claims about what people type: one grammar for addresses, sizes and durations, one clear line for all else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.addresses import DEFAULT_PORT, Address, address_text, parse_address
from swarm_protocol.sizes_durations import duration_text, parse_duration_s, parse_size, size_text
from swarm_protocol.units import BYTES_PER_GIB, gib_apart


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("203.0.113.7:9000", Address("203.0.113.7", 9000)),
        ("kiln.example.org", Address("kiln.example.org", DEFAULT_PORT)),
        ("my_host-2:1", Address("my_host-2", 1)),
        (":9471", Address("127.0.0.1", 9471)),
        ("[::1]", Address("::1", DEFAULT_PORT)),
        ("[2001:db8::7]:9470", Address("2001:db8::7", 9470)),
        ("[fe80::1%eth0]", Address("fe80::1%eth0", DEFAULT_PORT)),
        ("ws://kiln:9470", Address("kiln", 9470, tls=False)),
        ("wss://kiln", Address("kiln", 443, tls=True)),
        ("HTTP://[::1]:80/", Address("::1", 80, tls=False)),
    ],
)
def test_an_address_is_read_in_every_form(text: str, found: Address) -> None:
    assert parse_address(text) == found


def test_an_address_to_listen_on_may_name_every_interface_and_any_port() -> None:
    assert parse_address(":0", any_host="0.0.0.0", least_port=0) == Address("0.0.0.0", 0)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "nothing names no host; give HOST:PORT, e.g. 203.0.113.7:9470"),
        ("::1:9470", "::1:9470 is not HOST:PORT; put an IPv6 address in brackets, as in [::1]:9470"),
        ("[kiln]:9470", "[kiln]:9470 is not an IPv6 address; write it as [::1]:9470"),
        ("kiln:port", "kiln:port is not HOST:PORT; a port is a number from 1 to 65535"),
        ("kiln:0", "kiln:0 has no port from 1 to 65535; give HOST:PORT, e.g. 203.0.113.7:9470"),
        ("ftp://kiln", "ftp://kiln is neither HOST:PORT nor a ws:// or wss:// URL; leave out ftp://"),
        ("me:secret@kiln:1", "an address takes no user or password; leave them out"),
        ("kiln:9470/view", "kiln:9470/view holds more than HOST:PORT; leave out the path"),
        ("a b", "a b names no host; give HOST:PORT, e.g. 203.0.113.7:9470"),
    ],
)
def test_what_is_no_address_gets_one_line_that_says_what_to_type(text: str, line: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_address(text)
    assert str(raised.value) == line


def test_a_port_alone_is_no_host() -> None:
    """`--connect 9470` asked 0.0.36.254, and said that it speaks no TLS."""
    with pytest.raises(ValueError, match=r"^9470 names no host; give HOST:9470, or :9470 for this machine$"):
        parse_address("9470")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4096", 4096), ("50MB", 50_000_000), ("50mib", 50 << 20), ("1.5 GB", 1_500_000_000), ("2G", 2_000_000_000),
     ("16MiB", 16 << 20), ("1KiB", 1024), ("7B", 7)],
)  # fmt: skip
def test_a_size_is_read_in_every_form(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MB", "-5MB", "5XB", "5 parsecs", "1e3", "٣MB", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size|is less than 1"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604_800), ("4w", 2_419_200), ("1h30m", 5400),
     ("1.5h", 5400), ("30min", 1800), ("2 days", 172_800), ("1week", 604_800), ("1 hour 30 minutes", 5400),
     ("10sec", 10), ("2hrs", 7200)],
)  # fmt: skip
def test_a_duration_is_read_in_every_form(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "-3m", "3 fortnights", "1h 30", "1e3s", "3 months", "5 mss", "2 dayz"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; give 90s, 15m, 2h, 7d or 4w"):
        parse_duration_s(text)


@given(st.integers(1, 1 << 60))
def test_a_size_reads_back(size_bytes: int) -> None:
    assert parse_size(size_text(size_bytes)) == size_bytes


@given(st.integers(1, 10**9))
def test_a_duration_reads_back(milliseconds: int) -> None:
    assert math.isclose(parse_duration_s(duration_text(milliseconds / 1e3)), milliseconds / 1e3, rel_tol=1e-5)


@given(st.sampled_from(["kiln", "203.0.113.7", "::1", "2001:db8::7"]), st.integers(1, 65535))
def test_an_address_reads_back(host: str, port: int) -> None:
    assert parse_address(address_text(host, port)) == Address(host, port)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    for parse in (parse_address, parse_size, parse_duration_s):
        assert _refusal(parse, text) is None or "\n" not in str(_refusal(parse, text))


def _refusal(parse: Callable[[str], object], text: str) -> ValueError | None:
    try:
        parse(text)
    except ValueError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("needed", "has", "shown"),
    [
        (41.2, 16.0, ("41.2", "16.0")),
        (15.93, 15.91, ("15.93", "15.91")),
        (0.0102, 0.009, ("0.010", "0.009")),
    ],
)
def test_sizes_that_are_compared_have_the_digits_that_tell_them_apart(
    needed: float, has: float, shown: tuple[str, str]
) -> None:
    """`needs 0.0 GiB for layers 0-2, has 0.0` told nobody anything."""
    assert gib_apart(needed * BYTES_PER_GIB, has * BYTES_PER_GIB) == shown
