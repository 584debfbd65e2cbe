"""Describe errors in a hand-written TOML file in its own terms, with the line, the table and the key."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from swarm_protocol.text import safe
from swarm_protocol.toml_lines import Steps, line_of

LONGEST: Final = 60  # characters of what the file says
WORDS: Final = {
    "float": "a number", "int": "a whole number", "str": "text in quotes", "bool": "true or false", "array": "a list",
    "object": "a table",
}  # fmt: skip
_AT: Final = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(.*)`$")
_EXPECTED: Final = re.compile(r"^Expected `([^`]*)`(?: of length)?(?:, got `([^`]*)`| (<=|>=|<|>) (.*))$")
_SYNTAX_AT: Final = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)
_SYNTAX: Final = {
    "Expected newline or end of document after a statement":
        "more stands behind the value; put text in quotes, and leave out units",
    "Invalid value": "this is no value; put text in quotes",
    "Illegal character '\\n'": "the text in quotes does not end on this line",
    "Unterminated string": "the text in quotes does not end",
    "Cannot overwrite a value": "this key stands twice in its table",
}  # fmt: skip
_SIZES: Final = {"<=": "at most", ">=": "at least", "<": "below", ">": "above"}


def toml_error(error: Exception, text: str, kind: Any, table: str = "") -> str:
    """Return one line about an error that `msgspec.toml.decode(text, type=kind)` raised, or the conversion of its
    table `table` to `kind`."""
    if not isinstance(error, msgspec.ValidationError):
        return _syntax(str(error))
    from msgspec import inspect  # only of a wrong file: it is no part of a start that goes well

    said = _AT.fullmatch(str(error))
    assert said is not None  # it matches every text
    what = said[1]
    steps = tuple(name or int(index) for name, index in _STEP.findall(said[2] or "") if index != "...")
    inside = _type_at(inspect.type_info(kind), steps)
    steps = (table, *steps) if table else steps
    if unknown := _UNKNOWN.match(what):
        place = _place(steps, text, unknown[1])
        return f"{place}unknown key {_shown(unknown[1])!r}{_nearest(unknown[1], inside)}"
    if missing := _MISSING.match(what):
        if _type_at(inside, (missing[1], 0)) is not None:
            return f"{_place(steps, text)}there is no [[{missing[1]}]]; write at least one"
        return f"{_place(steps, text)}{missing[1]} is missing"
    if what.startswith("Invalid enum value") and isinstance(inside, inspect.LiteralType):
        return f"{_place(steps, text)}takes {', '.join(map(str, inside.values))}"
    if what == "Expected `array`, got `object`" and len(steps) == 1:
        number = line_of(steps, text)
        return f"{f'line {number}: ' if number else ''}[{steps[0]}] needs two brackets: [[{steps[0]}]]"
    if expected := _EXPECTED.match(what):
        return f"{_place(steps, text)}{_expected(*expected.groups())}"
    return f"{_place(steps, text)}{safe(what, 3 * LONGEST)}"


def _syntax(said: str) -> str:
    """Return the message of the parser with its place first, in words for people who have not read TOML's grammar."""
    match = _SYNTAX_AT.fullmatch(said)
    if match is None:
        return said
    where = f"line {match[2]}" if match[2] else "at the end"
    return f"{where}: {_SYNTAX.get(match[1], match[1])}"


def _expected(kinds: str, got: str | None, sign: str | None, limit: str | None) -> str:
    wanted = " or ".join(WORDS.get(each, each) for each in kinds.split(" | ") if each != "null")
    if got is not None:
        fraction = (kinds.removesuffix(" | null"), got) == ("int", "float")
        return f"takes {wanted}, not {'a fraction' if fraction else WORDS.get(got, got)}"
    limit = (limit or "").removesuffix(".0")
    size = f"{_SIZES[sign or '>=']} {limit}"
    if kinds in ("str", "array"):
        return f"takes {size} {'characters' if kinds == 'str' else 'of them'}"
    return f"takes {wanted} {size}" if sign in ("<", ">") else f"takes {wanted} of {size}"


def _place(steps: Steps, text: str, key: str | None = None) -> str:
    """Return the line, the table and the key, as `line 7: [[node]] 2 (attic), up_mbps: `; no table for the file itself.
    `key`: which is not of the table, and names the line."""
    number = line_of(steps if key is None else (*steps, key), text)
    line = f"line {number}: " if number is not None else ""
    if not steps:
        return line
    found: Any = msgspec.toml.decode(text)
    words: list[str] = []
    for k, step in enumerate(steps):
        if isinstance(step, int):
            found = found[step] if isinstance(found, list) and step < len(found) else None
            name = found.get("name") if isinstance(found, dict) else None
            table = f"[[{'.'.join(str(each) for each in steps[:k] if isinstance(each, str))}]]"
            words = [f"{table} {step + 1}" + (f" ({_shown(name)})" if isinstance(name, str) and name else "")]
        else:
            found = found.get(step) if isinstance(found, dict) else None
            words.append(f"[{step}]" if k == 0 and isinstance(found, dict) else _shown(step))
    return f"{line}{', '.join(words)}: "


def _type_at(kind: Any, steps: tuple[str | int, ...]) -> Any:
    """Return what msgspec knows of the type at this place; None: nothing."""
    for step in steps:
        kind = _plain(kind)
        if isinstance(step, int):
            kind = getattr(kind, "item_type", None)
        else:
            fields = getattr(kind, "fields", ())
            kind = next((field.type for field in fields if field.encode_name == step), None)
    return _plain(kind)


def _plain(kind: Any) -> Any:
    """Return the type without metadata and without None; None where several are possible."""
    from msgspec import inspect

    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        else:
            others = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
            kind = others[0] if len(others) == 1 else None
    return kind


def _nearest(name: str, inside: Any) -> str:
    import difflib

    known = [field.encode_name for field in getattr(inside, "fields", ())]
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(known)}" if known else ""


def _shown(words: str) -> str:
    return safe(words, LONGEST)
