"""What is wrong with a file is said with its table and key, and with what would be right."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from swarm_protocol.text import safe
from swarm_protocol.toml_errors import toml_error


class _Layer(msgspec.Struct, forbid_unknown_fields=True):
    ms: Annotated[float, Meta(gt=0)]


class _Node(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=9)]
    up_mbps: Annotated[float, Meta(ge=0)] | None = None
    count: Annotated[int, Meta(ge=1, le=64)] = 1
    tcp: Literal["cubic", "bbr"] | None = None
    spare: bool = False
    layer: tuple[_Layer, ...] = ()


class _Client(msgspec.Struct, forbid_unknown_fields=True):
    node: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    node: Annotated[tuple[_Node, ...], Meta(min_length=1)]
    client: _Client | None = None


def said_of(text: str, kind: Any = _File) -> str:
    with pytest.raises((msgspec.DecodeError, UnicodeError)) as caught:
        msgspec.toml.decode(text.encode(), type=kind)
    return toml_error(caught.value, text, kind)


A = '[[node]]\nname = "attic"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no [[node]]; write at least one"),
        ("node = []", "line 1: node: takes at least 1 of them"),
        ('[node]\nname = "a"', "line 1: [node] needs two brackets: [[node]]"),
        ("[[node]]", "line 1: [[node]] 1: name is missing"),
        (A + A + "up_mbps = -1", "line 5: [[node]] 2 (attic), up_mbps: takes a number of at least 0"),
        (A + "up_mbs = 1", "line 3: [[node]] 1 (attic): unknown key 'up_mbs'; did you mean up_mbps?"),
        (A + "x = 1", "line 3: [[node]] 1 (attic): unknown key 'x'; there are name, up_mbps, count, tcp, spare, layer"),
        (A + 'up_mbps = "10"', "line 3: [[node]] 1 (attic), up_mbps: takes a number, not text in quotes"),
        (A + "count = 1.5", "line 3: [[node]] 1 (attic), count: takes a whole number, not a fraction"),
        (A + "count = 65", "line 3: [[node]] 1 (attic), count: takes a whole number of at most 64"),
        (A + 'tcp = "reno"', "line 3: [[node]] 1 (attic), tcp: takes bbr, cubic"),
        (A + "spare = 1", "line 3: [[node]] 1 (attic), spare: takes true or false, not a whole number"),
        (A + "[[node.layer]]\nms = 0.0", "line 4: [[node.layer]] 1, ms: takes a number above 0"),
        ('[[node]]\nname = "much too long"', "line 2: [[node]] 1 (much too long), name: takes at most 9 characters"),
        (A + "[client]", "line 3: [client]: node is missing"),
        (A + "[client]\nnode = 3", "line 4: [client], node: takes text in quotes, not a whole number"),
        ("# hosts\n[[nodes]]\nname = 1", "line 2: unknown key 'nodes'; did you mean node?"),
        (A + "up_mbps = 10 Mbit", "line 3: more stands behind the value; put text in quotes, and leave out units"),
        (A + "tcp = bbr", "line 3: this is no value; put text in quotes"),
        (A + 'tcp = "bbr', "at the end: the text in quotes does not end"),
        (A + 'tcp = "bbr\n', "line 3: the text in quotes does not end on this line"),
        (A + 'name = "loft"\n', "line 3: this key stands twice in its table"),
        ("[[node]\n", "line 1: Expected ']]' at the end of an array declaration"),
    ],
)
def test_each_mistake_has_its_place_and_what_would_be_right(text: str, said: str) -> None:
    assert said_of(text) == said


def test_the_line_is_of_the_table_around_it_where_the_key_stands_in_none_of_its_own() -> None:
    text = A + "[[node.layer]]\nms = 1.0\n" + A + "layer = [\n  {ms = 0.0}]\n"
    assert said_of(text) == "line 7: [[node.layer]] 1, ms: takes a number above 0"
    quoted = A + "\n[[ node . layer ]]  # first\n'ms' = 0.0\n"
    assert said_of(quoted) == "line 5: [[node.layer]] 1, ms: takes a number above 0"


def test_a_table_of_its_own_is_named() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"nodes": 1}, _Client)
    assert toml_error(caught.value, "", _Client, "client") == "client: unknown key 'nodes'; did you mean node?"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(["up_mbps", "tcp", "layer", "count"]),
)
def test_nothing_of_the_file_reaches_the_terminal_raw(text: str, key: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(letter):08x}" for letter in text) + '"'
    written = f"[[node]]\nname = {quoted}\n{key} = {quoted}\n[{quoted}]\n"
    said = said_of(written)
    assert safe(said, 1_000) == said
