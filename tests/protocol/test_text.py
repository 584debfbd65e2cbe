"""Text from strangers: which names are accepted, and what reaches a screen, a log or a spreadsheet."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.csv_cells import csv_cell
from swarm_protocol.text import NAME_MAX, clean_name, is_name, safe


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("kiln-07", True), ("A.b_c-9", True), ("x", True), ("x" * 32, True),
        ("", False), ("x" * 33, False), ("a b", False), ("a\n", False), ("caf\u00e9", False), ("a/b", False),
        ("\u0661", False),
    ],
)  # fmt: skip
def test_what_a_node_may_be_called(text: str, legal: bool) -> None:
    assert is_name(text) is legal


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kiln-07", "kiln-07"),
        ("my GPU  box!", "my-GPU-box"),
        ("-x-", "x"),
        ("XX-RayX", "XX-RayX"),
        ("X" * 40, "X" * 32),
        ("", "node"),
        ("\u00e9\u00e9", "node"),
        ("x" * 40, "x" * 32),
        ("x" * 31 + " y", "x" * 31),
    ],
)
def test_the_nearest_legal_name(text: str, name: str) -> None:
    assert clean_name(text) == name


@given(st.text())
def test_a_cleaned_name_is_always_legal(text: str) -> None:
    assert is_name(clean_name(text))
    assert NAME_MAX == 32


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, \u00e9 \u2192 \u4e2d", "plain text, \u00e9 \u2192 \u4e2d"),
        ("\x1b[2J", "?[2J"),  # Cc
        ("a\u202eb", "a?b"),  # Cf: right to left override
        ("\ud800", "?"),  # Cs
        ("\ue000", "?"),  # Co
        ("\u0378", "?"),  # Cn
        ("\u2028", "?"),  # Zl
        ("\u2029", "?"),  # Zp
        ("a\nb\tc", "a?b?c"),
    ],
)
def test_characters_that_steer_a_terminal_are_shown_as_question_marks(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_long_text_is_cut_and_says_so() -> None:
    assert safe("x" * 200) == "x" * 200
    assert safe("x" * 201) == "x" * 199 + "\u2026"
    assert safe("abcdef", limit=4) == "abc\u2026"


def test_safe_agrees_with_unicode_on_every_character() -> None:
    """It does without the tables of `unicodedata`, which a probe need not load."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    hidden = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    expected = "".join("?" if unicodedata.category(c) in hidden else c for c in everything)
    assert safe(everything, limit=len(everything)) == expected


@given(st.text(), st.integers(1, 300))
def test_safe_text_is_one_line_within_its_limit(text: str, limit: int) -> None:
    shown = safe(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in shown)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_that_a_spreadsheet_would_run_is_defused(first: str) -> None:
    """OWASP, CSV injection: all of its first characters."""
    assert csv_cell(first + "SUM(1)") == "'" + safe(first + "SUM(1)")


@pytest.mark.parametrize("text", ["kiln-07", "a=b", "1+1", "x@y", "", "'=1"])
def test_other_cells_are_left_as_they_are(text: str) -> None:
    assert csv_cell(text) == text


def test_a_cell_holds_a_thousand_characters() -> None:
    assert csv_cell("x" * 1000) == "x" * 1000
    assert csv_cell("x" * 1001) == "x" * 999 + "\u2026"
    assert csv_cell("a\x1bb") == "a?b"
