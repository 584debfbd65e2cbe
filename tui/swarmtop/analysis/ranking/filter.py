"""Parse and apply filters of the ranking: parts of names, and comparisons over its columns.

    rtt99>200 and state!=lost        berlin or osaka        not (up < 20 or loss>1%)        device~3090

Terms in a row must all hold, as with `and`; `or` binds less, brackets and `not` as in Python. A term without a
comparison is part of a name (quote it where a name contains "and"); `~` is "contains". A comparison with an unknown
figure holds under no operator, nor under `not`: an unknown value is neither above nor below anything.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from swarm_protocol.snapshot.lazy_numpy import np
from swarmtop.analysis.ranking.node_figures import Bools
from swarmtop.dashboard.lines.columns import BY_NAME
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.state.view import View

_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "==": operator.eq, "<": operator.lt, ">": operator.gt,
    "=": operator.eq, "~": operator.contains,
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"""\s*(?: (?P<bracket>[()]) | (?P<compare><=|>=|!=|==|[<>=~])
            | "(?P<quoted>[^"]*)" | (?P<word>[^\s()<>=~"!]+|!) )""",
    re.VERBOSE,
)
_ORDERED: Final = frozenset({"<", ">", "<=", ">="})
_PER_CENT: Final = frozenset({"loss"})  # stored as fractions, written in percent
_GIB: Final = frozenset({"vram"})
DEEPEST: Final = 20  # nested brackets: more is no filter, and must not crash


class FilterError(ValueError):
    """This is no filter; one line says what to write instead."""


class Term(msgspec.Struct, frozen=True):
    column: str  # "" for a part of the name
    compare: str
    value: str


class Both(msgspec.Struct, frozen=True):
    """`and` or `or` of its parts."""

    how: Literal["and", "or"]
    parts: tuple[Node, ...]


class Not(msgspec.Struct, frozen=True):
    part: Node


Node = Term | Both | Not


class Filter(msgspec.Struct, frozen=True):
    text: str = ""
    node: Node = msgspec.field(default_factory=lambda: Both("and", ()))

    def mask(self, view: View) -> Bools:
        return _mask(self.node, view)[0]


def parse(text: str) -> Filter:
    """Parse a filter. Raises FilterError."""
    return Filter(text.strip(), _Parser(text).whole())


# ---------------------------------------------------------------- reading


class _Token(msgspec.Struct, frozen=True):
    kind: str  # bracket, compare, quoted, word
    text: str


class _Parser:
    """Recursive descent: or, and, not, then one term or a bracket."""

    def __init__(self, text: str) -> None:
        self._tokens: list[_Token] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise FilterError(f"{clean(text[at:].strip(), 20)} is not understood; quotes come in pairs")
            kind = str(match.lastgroup)
            self._tokens.append(_Token(kind, match[kind]))
            at = match.end()
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        found = self._or() if self._tokens else Both("and", ())
        if self._at < len(self._tokens):
            raise FilterError(f"{clean(self._tokens[self._at].text, 20)} has nothing to apply to")
        return found

    def _peek(self, *words: str) -> bool:
        if self._at >= len(self._tokens):
            return False
        token = self._tokens[self._at]
        return token.kind != "quoted" and token.text.casefold() in words

    def _take(self, *words: str) -> bool:
        found = self._peek(*words)
        self._at += found
        return found

    def _or(self) -> Node:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Both("or", tuple(parts))

    def _and(self) -> Node:
        parts = [self._not()]
        while self._at < len(self._tokens) and not self._peek("or", ")"):
            self._take("and")
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else Both("and", tuple(parts))

    def _not(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise FilterError(f"more than {DEEPEST} brackets or nots within each other")
        try:
            if self._take("not", "!"):
                return Not(self._not())
            if self._take("("):
                found = self._or()
                if not self._take(")"):
                    raise FilterError("a bracket is not closed")
                return found
            return self._term()
        finally:
            self._depth -= 1

    def _term(self) -> Term:
        token = self._next("a name or a comparison")
        if self._at >= len(self._tokens) or self._tokens[self._at].kind != "compare":
            if token.kind == "compare":
                raise FilterError(f"{token.text} needs a column before it")
            return Term("", "", token.text.casefold())
        column, compare = token.text.casefold(), self._tokens[self._at].text
        self._at += 1
        if column not in BY_NAME:
            raise FilterError(f"no column {clean(column, 20)}; there are {', '.join(sorted(BY_NAME))}")
        if self._at >= len(self._tokens) or self._tokens[self._at].kind not in ("word", "quoted"):
            raise FilterError(f"{column}{compare} needs a value after it")
        value = self._next("a value").text.casefold()
        if compare in _ORDERED and not _is_number(value.removesuffix("%")):
            raise FilterError(f"{column}{compare} needs a number, not {clean(value, 20)}")
        return Term(column, compare, value)

    def _next(self, what: str) -> _Token:
        if self._at >= len(self._tokens) or self._peek("and", "or", ")"):
            raise FilterError(f"here {what} is missing")
        token = self._tokens[self._at]
        self._at += 1
        return token


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------- holding it against a swarm


def _mask(node: Node, view: View) -> tuple[Bools, Bools]:
    """Return (it holds, it is known to hold or not) for each row."""
    if isinstance(node, Term):
        return _holds(node, view)
    if isinstance(node, Not):
        holds, known = _mask(node.part, view)
        return ~holds & known, known
    every: Bools = np.ones(len(view.swarm), np.bool_)
    if not node.parts:
        return every, every
    masks = [_mask(part, view) for part in node.parts]
    yes = np.array([holds for holds, _ in masks])
    no = np.array([known & ~holds for holds, known in masks])
    all_of, any_of = np.logical_and.reduce, np.logical_or.reduce
    if node.how == "and":
        return all_of(yes), all_of(yes) | any_of(no)
    return any_of(yes), any_of(yes) | all_of(no)


def _holds(term: Term, view: View) -> tuple[Bools, Bools]:
    every: Bools = np.ones(len(view.swarm), np.bool_)
    if not term.column:
        return np.array([term.value in f.name.casefold() for f in view.swarm.facts], np.bool_), every
    column = BY_NAME[term.column]
    number = term.value.removesuffix("%")
    values = column.values(view)
    if isinstance(values, list) or column.name == "state" or not _is_number(number) or term.compare == "~":
        texts = values if isinstance(values, list) else list(view.words) if column.name == "state" else None
        if texts is None:
            texts = [column.cell(view, row)[0].casefold() for row in range(len(view.swarm))]
        return np.array([_COMPARE[term.compare](t, term.value) for t in texts], np.bool_), every
    wanted = float(number) * (0.01 if column.name in _PER_CENT else 2**30 if column.name in _GIB else 1.0)
    array = np.asarray(values, np.float64)
    known: Bools = np.isfinite(array)
    return known & np.asarray(_COMPARE[term.compare](array, wanted), np.bool_), known
