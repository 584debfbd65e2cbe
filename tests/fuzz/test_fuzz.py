"""Any bytes give a value or the decoder's own error: random ones, corrupted valid ones, and every past finding."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from decoders import DECODERS, Decoder

FINDINGS = Path(__file__).with_name("findings")


def attempt(decoder: Decoder, data: bytes) -> None:
    with contextlib.suppress(*decoder.allowed):  # it says no in its own words
        decoder.decode(data)


@st.composite
def spoiled(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """A good one with some bytes changed, cut, doubled or put in."""
    data = bytearray(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("change", "cut", "double", "insert", "zero"))):
            case "change" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "zero":
                end = min(len(data), at + draw(st.integers(1, 16)))
                data[at:end] = bytes(end - at)
    return bytes(data)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_any_bytes_give_a_value_or_its_own_error(decoder: Decoder) -> None:
    tries = 25 if decoder.slow else 150
    strategy = st.one_of(st.binary(max_size=300), spoiled(decoder.examples), spoiled(decoder.examples))

    @settings(max_examples=tries, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(strategy)
    def run(data: bytes) -> None:
        attempt(decoder, data)

    run()
    for example in decoder.examples:
        decoder.decode(example)  # else nothing that is spoiled says much


@pytest.mark.parametrize("finding", sorted(FINDINGS.glob("*-*")), ids=lambda path: path.name)
def test_what_was_found_once_is_not_found_again(finding: Path) -> None:
    (decoder,) = [decoder for decoder in DECODERS if decoder.name == finding.name.split("-")[0]]
    attempt(decoder, finding.read_bytes())
