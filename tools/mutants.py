"""Run mutation tests: change one thing in a module at a time, and check that its tests fail.

    python tools/mutants.py [MODULE …] [--sample N] [--seed N] [--list] [--show INDEX]

MODULE is a name of the table in tools/mutants.toml (default: all), which says where a module lies, which tests cover
it, and which mutants are equivalent. --sample N tries at most N mutants of each module, drawn by --seed. Prints each
survivor and the share that was killed; exit code 1 if a module is below 90 %. Not part of CI: it takes minutes.

Nothing is written: each mutant is compiled in a process of its own when the tests import the module. What is mutated:
comparisons, arithmetic, conditions, numbers, booleans, short strings, returned values; and statements are left out
(calls, assignments to attributes, raise). What is not: annotations, decorators, docstrings and sentences, whose wording
is no behaviour.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import os
import random
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tools" / "mutants.toml"
MIN_KILLED = 0.9
PATIENCE = 5.0  # a mutant that takes so many times what the unchanged module takes has hung
PATIENCE_S = 20.0  # and this more: other programs use the machine
LONGEST_WORD = 16  # of a string that counts as a key or a kind, and not as a sentence

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Module:
    name: str  # as it is imported
    path: Path
    tests: tuple[str, ...]  # arguments of pytest
    equivalent: dict[tuple[str, str], str]  # (source line, change) → why nobody can see the difference


@dataclass(frozen=True)
class Mutant:
    index: int
    line: int
    change: str


class Mutator(ast.NodeTransformer):
    """Offer every change in the order of the source; make the one with index `wanted`."""

    def __init__(self, wanted: int = -1) -> None:
        self.wanted = wanted
        self.found: list[Mutant] = []
        self._depth = 0  # of functions

    def offer(self, node: ast.AST, change: str, make: Callable[[], ast.AST]) -> ast.AST | None:
        """Return the changed node if this change is the wanted one."""
        self.found.append(Mutant(len(self.found), node.lineno, change))  # type: ignore[attr-defined]
        if len(self.found) - 1 != self.wanted:
            return None
        return ast.copy_location(make(), node)

    # ------------------------------------------------------------ what is left as it is

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(each) for each in node.defaults]
        node.kw_defaults = [each and self.visit(each) for each in node.kw_defaults]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._depth += 1
        self.visit(node.args)
        node.body = self._body(node.body)
        self._depth -= 1
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = self._body(node.body)
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = self._body(node.body)
        return node

    def _body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        return [self.visit(statement) for statement in statements]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            if (left_out := self._left_out(node, isinstance(node.target, ast.Attribute))) is not None:
                return left_out
            node.value = self.visit(node.value)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node  # a sentence

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return node if ast.unparse(node.value) == "Literal" else self.generic_visit(node)  # a type

    def visit_Import(self, node: ast.Import) -> ast.AST:
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node  # for the type checker

    # ------------------------------------------------------------ statements

    def _left_out(self, node: ast.stmt, may: bool) -> ast.AST | None:
        return self.offer(node, "left out", ast.Pass) if may and self._depth else None

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return node  # a docstring
        return self._left_out(node, True) or self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        kept = any(isinstance(each, ast.Attribute | ast.Subscript) for each in node.targets)
        if (left_out := self._left_out(node, kept)) is not None:
            return left_out
        node.value = self.visit(node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        if (left_out := self._left_out(node, True)) is not None:
            return left_out
        node.value = self.visit(node.value)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self._left_out(node, True) or self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> ast.AST:
        return self._left_out(node, True) or node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if node.value is None:
            return self.offer(node, "return → pass", ast.Pass) or node
        if not (isinstance(node.value, ast.Constant) and node.value.value in (None, False, True)):
            made = self.offer(node, "returns None", lambda: ast.Return(ast.copy_location(ast.Constant(None), node)))
            if made is not None:
                return made
        return self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> ast.AST:
        return self.offer(node, "break → continue", ast.Continue) or node

    def visit_Continue(self, node: ast.Continue) -> ast.AST:
        return self.offer(node, "continue → pass", ast.Pass) or node

    # ------------------------------------------------------------ expressions

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for position, old in enumerate(node.ops):
            new = _COMPARE[type(old)]

            def make(position: int = position, new: type[ast.cmpop] = new) -> ast.AST:
                changed = copy.deepcopy(node)
                changed.ops[position] = new()
                return changed

            if (made := self.offer(node, f"{type(old).__name__} → {new.__name__}", make)) is not None:
                return made
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        new = _ARITHMETIC.get(type(node.op))
        if new is not None:
            change = f"{type(node.op).__name__} → {new.__name__}"
            made = self.offer(node, change, lambda: ast.BinOp(node.left, new(), node.right))
            if made is not None:
                return made
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        change = f"{type(node.op).__name__} → {type(other).__name__}"
        return self.offer(node, change, lambda: ast.BoolOp(other, node.values)) or self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not | ast.USub):
            made = self.offer(node, f"{type(node.op).__name__} dropped", lambda: node.operand)
            if made is not None:
                return made
        return self.generic_visit(node)

    def _condition(self, node: ast.If | ast.While | ast.IfExp) -> ast.AST:
        def make() -> ast.AST:
            changed = copy.deepcopy(node)
            changed.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
            return ast.fix_missing_locations(changed)

        return self.offer(node, "condition negated", make) or self.generic_visit(node)

    visit_If = visit_While = visit_IfExp = _condition  # noqa: N815

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        others: list[object] = []
        if isinstance(value, bool):
            others = [not value]
        elif isinstance(value, int | float):
            others = [value + 1] if self._depth or value in (0, 1) else [value + 1, value * 10]
        elif isinstance(value, str) and value and len(value) <= LONGEST_WORD and " " not in value:
            others = [f"XX{value}"]
        elif isinstance(value, bytes) and value:
            others = [b"XX" + value]
        for other in others:
            made = self.offer(node, f"{value!r} → {other!r}", lambda other=other: ast.Constant(other))  # type: ignore[misc]
            if made is not None:
                return made
        return node


def mutants_of(source: str) -> list[Mutant]:
    mutator = Mutator()
    mutator.visit(ast.parse(source))
    return mutator.found


def mutated(source: str, index: int) -> ast.Module:
    tree = Mutator(index).visit(ast.parse(source))
    return ast.fix_missing_locations(tree)


# ---------------------------------------------------------------- trying one


class _Loader(importlib.abc.Loader):
    def __init__(self, module: Module, index: int) -> None:
        self._module, self._index = module, index

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._module.path)
        exec(compile(mutated(self._module.path.read_text(), self._index), str(self._module.path), "exec"), vars(module))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: Module, index: int) -> None:
        self._module, self._index = module, index
        self.found = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._module.name:
            return None
        self.found = True
        return importlib.machinery.ModuleSpec(name, _Loader(self._module, self._index), origin=str(self._module.path))


def passes(module: Module, index: int, within_s: float) -> bool | None:
    """Return whether the tests pass with this mutant (-1: without a change); None: they did not end in time."""
    child = os.fork()
    if child == 0:
        os.setsid()
        status = 1
        try:
            status = _run_tests(module, index)
        finally:
            os._exit(status)
    ends = time.monotonic() + within_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        if time.monotonic() > ends:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.01)


def _run_tests(module: Module, index: int) -> int:
    import pytest
    from hypothesis import settings

    settings.register_profile("mutants", database=None, derandomize=True, deadline=None, max_examples=20)
    settings.load_profile("mutants")
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    finder = _Finder(module, index)
    sys.meta_path.insert(0, finder)
    os.chdir(ROOT)
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", *module.tests])
    return int(status) if finder.found else 70  # tests that never import the module would let every mutant pass


# ---------------------------------------------------------------- all of them


def modules() -> dict[str, Module]:
    """Return the table. Raises SystemExit where it names what does not exist."""
    found = {}
    for name, entry in tomllib.loads(TABLE.read_text()).items():
        path = ROOT / entry["path"]
        if not path.is_file():
            raise SystemExit(f"{TABLE.name}: there is no {entry['path']}; correct the entry of {name}")
        equivalent = {(each["line"], each["change"]): each["why"] for each in entry.get("equivalent", [])}
        found[name] = Module(entry["module"], path, tuple(entry["tests"]), equivalent)
    return found


def tried(label: str, module: Module, sample: int | None, seed: int) -> float:
    """Try the mutants of a module; return the share killed of those that could be."""
    source = module.path.read_text()
    lines = source.splitlines()
    everything = mutants_of(source)
    keys = {(lines[each.line - 1].strip(), each.change) for each in everything}
    if gone := module.equivalent.keys() - keys:
        raise SystemExit(f"{label}: no such mutant any more, take it out of {TABLE.name}: {sorted(gone)}")
    real = [each for each in everything if (lines[each.line - 1].strip(), each.change) not in module.equivalent]
    chosen = real if sample is None else random.Random(seed).sample(real, min(sample, len(real)))
    began = time.monotonic()
    if not passes(module, -1, 600.0):
        raise SystemExit(f"{label}: the tests fail without any change; mend them first")
    within_s = PATIENCE * (time.monotonic() - began) + PATIENCE_S
    survived = []
    for count, mutant in enumerate(sorted(chosen, key=lambda each: each.index), 1):
        if passes(module, mutant.index, within_s):
            survived.append(mutant)
            print(f"  {label}:{mutant.line}: {mutant.change}: {lines[mutant.line - 1].strip()}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{label}: {count} of {len(chosen)}, {len(survived)} survive ", end="", file=sys.stderr)
    share = 1 - len(survived) / len(chosen)
    killed, equivalent = len(chosen) - len(survived), len(everything) - len(real)
    drawn = f", a sample of {len(real)}" if len(chosen) < len(real) else ""
    rest = f", {equivalent} equivalent left out" if equivalent else ""
    took_s = time.monotonic() - began
    print(f"{label:10} {killed} of {len(chosen)} killed ({share:.1%}){drawn}{rest}; {took_s:.0f} s", flush=True)
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation testing of the modules in tools/mutants.toml.")
    parser.add_argument("module", nargs="*")
    parser.add_argument("--sample", type=int, help="mutants of each module (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="the mutants, untried")
    parser.add_argument("--show", type=int, metavar="INDEX", help="the source of one mutant")
    options = parser.parse_args()
    table = modules()
    if unknown := set(options.module) - table.keys():
        parser.error(f"no module {', '.join(sorted(unknown))}; the table has {', '.join(table)}")
    chosen = {name: table[name] for name in options.module or table}
    if options.list or options.show is not None:
        for name, module in chosen.items():
            source = module.path.read_text()
            if options.show is not None:
                print(ast.unparse(mutated(source, options.show)))
                continue
            for each in mutants_of(source):
                print(f"{name} {each.index:4} line {each.line}: {each.change}")
        return 0
    # what tests import and nobody mutates, once, before the forks
    import aiohttp, cryptography, hypothesis, msgspec, numpy, psutil, pytest, pytest_asyncio, websockets  # noqa: E401, F401, I001

    shares = [tried(name, module, options.sample, options.seed) for name, module in chosen.items()]
    return 0 if min(shares) >= MIN_KILLED else 1


if __name__ == "__main__":
    sys.exit(main())
