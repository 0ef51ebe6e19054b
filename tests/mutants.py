"""Mutants of the library: small changes, one at a time, that a good test suite should notice.

The changes are cosmic-ray's.  Some kinds of them say nothing about tests and are left out: those
that Python does not compile, those in what Python does not run (annotations, and what Numba alone
reads), an operator on numbers in place of one on bits (which fails wherever it runs), `is` in place
of `==`, and decorators.  `+=`, which cosmic-ray leaves alone, is mutated too: kernels are made of
sums.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import product
from os.path import commonprefix
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import Operator as Token

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".mutation" / "mutants"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
SEED = 20
HERE = Path(__file__).read_text("utf-8")
# An operator is replaced by others of its family.
FAMILIES = ({"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
            {"RShift", "LShift", "BitOr", "BitAnd", "BitXor"},
            {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"}, {"Is", "IsNot"})


class Mutant(NamedTuple):
    """A change: where, and what became of the lines that differ.

    `ordinal` tells equal changes of equal lines of one function from each other, so that a mutant
    is known by what it is, wherever in the file its function has moved to.
    """

    file: str
    function: str
    before: str
    after: str
    ordinal: int
    lines: tuple[int, int]
    span: tuple[int, int]
    put: str

    @property
    def key(self) -> str:
        """A name that lasts as long as the function."""
        what = json.dumps(self[:5])
        return hashlib.sha256(f"{SEED} {what}".encode()).hexdigest()[:16]

    def source(self) -> str:
        """Return the text of the mutated file: `put` in place of the characters of `span`."""
        text = (ROOT / self.file).read_text("utf-8")
        return text[:self.span[0]] + self.put + text[self.span[1]:]


class ReplaceAugmented(Operator):
    """`+=` becomes `-=` or `=`, and so on for the others."""

    OTHERS = {"+=": ("-=", "="), "-=": ("+=", "="), "*=": ("/=", "="), "/=": ("*=", "="),
              "|=": ("&=", "=")}

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if isinstance(node, Token):
            for _ in self.OTHERS.get(node.value, ()):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = self.OTHERS[node.value][index]
        return node

    @classmethod
    def examples(cls) -> Any:
        return ()


def _operators() -> dict[str, type[Operator]]:
    """Return those that take no arguments, but for decorators and mixtures of families."""
    provided = OperatorProvider()
    found = {name: provided[name] for name in provided if not provided[name].arguments()}
    kept = {name: each for name, each in found.items() if name != "RemoveDecorator"
            and (not name.startswith(("ReplaceBinary", "ReplaceComparison"))
                 or any({*name.split("_")[1:]} <= family for family in FAMILIES))}
    return {**kept, "ReplaceAugmented": ReplaceAugmented}


OPERATORS = _operators()


def mutants_of(file: str) -> list[Mutant]:
    """Return all mutants of a file of the library."""
    text = (ROOT / file).read_text("utf-8")
    kept = CACHE / hashlib.sha256(f"{file} {text} {HERE}".encode()).hexdigest()[:16]
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(list(_mutants(file, text))), "utf-8")
    return [Mutant(*each) for each in json.loads(kept.read_text("utf-8"))]


def _mutants(file: str, text: str) -> Iterator[Mutant]:
    still, plain, functions = _not_run(text), compiled(text, file), _functions(text)
    seen: Counter[tuple[str, ...]] = Counter()
    for (start, end), changed in _changes(text):
        if any(lo <= start < hi for lo, hi in still) or _says_nothing(changed, file, plain):
            continue
        function = max((each for each in functions if start[0] in each[0]),
                       key=lambda each: each[0].start, default=(range(0), "module"))[1]
        what = (file, function, *_difference(text.splitlines(), changed.splitlines()))
        span, put = _replaced(text, changed)
        yield Mutant(*what, seen[what], (start[0], end[0]), span, put)
        seen[what] += 1


def _changes(text: str) -> Iterator[tuple[Any, str]]:
    """Yield the place and the changed text of what each operator would do.

    (cosmic-ray parses the text again for each; here a change of the one tree is taken back.)
    """
    tree = get_ast(text)
    for operator, node in product([kind() for kind in OPERATORS.values()], [*ast_nodes(tree)]):
        for index, place in enumerate([*operator.mutation_positions(node)]):
            below = [*ast_nodes(node)]
            values = [(each, each.value) for each in below if hasattr(each, "value")]
            children = [(each, each.children[:]) for each in below if hasattr(each, "children")]
            siblings = node.parent.children if node.parent else []
            number = next((n for n, each in enumerate(siblings) if each is node), 0)
            with suppress(AttributeError):      # cosmic-ray 8.7 on `except module.Error`
                siblings[number:number + 1] = [operator.mutate(node, index)]
            yield place, tree.get_code()
            siblings[number:number + 1] = [node]
            for each, value in values:
                each.value = value
            for each, kept in children:
                each.children = kept


def drawn(files: list[str]) -> list[Mutant]:
    """Return all mutants of files in a drawn order, of which each beginning is a fair sample."""
    return sorted((each for file in files for each in mutants_of(file)), key=lambda each: each.key)


def compiled(text: str, file: str) -> CodeType:
    """Return the code of a module as Python would import it."""
    code: CodeType = compile(text, str(ROOT / file), "exec", dont_inherit=True)
    return code


def _says_nothing(changed: str, file: str, plain: CodeType) -> bool:
    try:
        return compiled(changed, file) == plain
    except (SyntaxError, ValueError):
        return True


def _not_run(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the spans of annotations, of tests for TYPE_CHECKING, and of what is only compiled."""
    spans = []
    for node in ast.walk(ast.parse(text)):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            parts.append(node.test)
        if isinstance(node, ast.If) and "DISABLE_JIT" in ast.dump(node.test):
            parts += [node.test, *node.body]
        spans += [((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset))
                  for part in parts if isinstance(part, ast.AST)]
    return spans


def _functions(text: str) -> list[tuple[range, str]]:
    """Return the lines and the dotted name of each function and class, decorators included."""
    def inside(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[range, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
                own = (*names, child.name)
                yield range(first, (child.end_lineno or 0) + 1), ".".join(own)
                yield from inside(child, own)
            else:
                yield from inside(child, names)
    return [*inside(ast.parse(text), ())]


def _replaced(text: str, changed: str) -> tuple[tuple[int, int], str]:
    """Return the span of the characters that differ, and what stands there instead."""
    start = len(commonprefix([text, changed]))
    same = len(commonprefix([text[:start - 1:-1], changed[:start - 1:-1]])) if start else 0
    return (start, len(text) - same), changed[start:len(changed) - same]


def _difference(text: list[str], changed: list[str]) -> tuple[str, str]:
    """Return the lines that differ, stripped, before and after."""
    old, new = ([line.strip() for line in each] for each in (text, changed))
    shorter = min(len(old), len(new))
    first = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    last = next((n for n in range(shorter - first) if old[-1 - n] != new[-1 - n]),
                shorter - first)
    return "\n".join(old[first:len(old) - last]), "\n".join(new[first:len(new) - last])


@cache
def equivalent() -> dict[tuple[str, str, str, str], str]:
    """Return (file, function, line, mutated line): why nothing that is promised can tell them."""
    return {(each["file"], each["function"], each["line"], mutant): each["reason"]
            for each in json.loads(EQUIVALENT.read_text("utf-8")) for mutant in each["mutants"]}


# ---------------------------------------------------------------- code objects, by their place

def codes(code: CodeType, path: tuple[int, ...] = ()) -> dict[tuple[int, ...], CodeType]:
    """Return a module's code and all that is in it, by place among the constants."""
    found = {path: code}
    for n, constant in enumerate(each for each in code.co_consts if isinstance(each, CodeType)):
        found.update(codes(constant, (*path, n)))
    return found


def changed_inside(plain: CodeType, changed: CodeType) -> dict[tuple[int, ...], CodeType] | None:
    """Return the code of functions that differ; None if something outside functions does."""
    old, new = codes(plain), codes(changed)
    if old.keys() != new.keys():
        return None
    differ = [path for path in old if old[path] != new[path]]
    deepest = max(differ, key=len)
    own = [deepest[:n] for n in range(len(deepest) + 1)
           if old[deepest[:n]].co_flags & inspect.CO_OPTIMIZED]
    if not own or any(path != deepest[:len(path)] for path in differ):
        return None
    return {path: new[path] for path in own}


