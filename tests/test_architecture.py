"""The plan of the package as data, held against what its files import and say."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "mfcore"

# Layer: the layers it may import.  What is not listed here is in no layer, and fails.
BASE = {"gradcheck", "validation", "parallel", "atomic", "persistence"}
MIDDLE = {"data", "objectives", "nn", "metrics"}
TOP = {"cli", "plots", "distributed"}
LAYERS = {
    **dict.fromkeys(BASE, BASE),
    "kernels": {"kernels"},
    "data": BASE | {"kernels", "data"},
    "objectives": BASE | {"kernels", "data", "objectives"},
    "nn": BASE | {"kernels", "nn"},
    "metrics": BASE | {"kernels", "data", "metrics"},
    "solvers": BASE | {"kernels"} | MIDDLE | {"solvers"},
    "models": BASE | MIDDLE | {"solvers", "models"},            # never a kernel
    **{name: BASE | MIDDLE | {"mfcore", "solvers", "models", name} for name in TOP},
    "cli": BASE | MIDDLE | {"mfcore", "solvers", "models", "plots", "cli"},    # the demo draws
    "__main__": {"cli"},
    "mfcore": {"gradcheck"},
}
# A kernel knows arrays and arithmetic only; one file speaks to LAPACK, one
# to the cache, one draws.
KERNEL_IMPORTS = {"__future__", "collections.abc", "functools", "typing", "math", "numpy",
                  "numba", "mfcore.kernels.options"}
KERNEL_EXCEPTIONS = {
    "mfcore.kernels.options": {"warnings"},
    "mfcore.kernels.lapack": {"llvmlite.binding", "numba.core", "numba.extending",
                              "scipy.linalg", "scipy.linalg.cython_blas",
                              "scipy.linalg.cython_lapack"},
    "mfcore.kernels.prefetch": {"llvmlite", "numba.core", "numba.extending"},
    "mfcore.kernels.bpr": {"mfcore.kernels.draws"},
    "mfcore.kernels.logistic": {"mfcore.kernels.draws", "mfcore.kernels.sgd"},
    "mfcore.kernels.sgd": {"mfcore.kernels.prefetch"},
    "mfcore.kernels.cg": {"mfcore.kernels.prefetch"},
    "mfcore.kernels.subspace": {"mfcore.kernels.lapack", "mfcore.kernels.prefetch"},
    "mfcore.kernels.exact": {"mfcore.kernels.lapack", "mfcore.kernels.prefetch"},
}
# Read only by the function that needs them.
HEAVY = {"pandas", "polars", "pyarrow", "duckdb", "matplotlib", "sklearn", "dask",
         "distributed", "urllib.request", "http", "scipy.optimize", "scipy.stats", "IPython"}
FORBIDDEN_IN_KERNELS = {"prange", "parallel", "random", "default_rng"}
FORBIDDEN_CALLS = {"print", "breakpoint", "eval", "exec", "input"}
LONGEST_FILE = 400


class Module(NamedTuple):
    """A module: its dotted name, its syntax tree and its length."""

    name: str
    tree: ast.Module
    n_lines: int

    @property
    def layer(self):
        return layer_of(self.name)


class Import(NamedTuple):
    """One imported module, and the circumstances."""

    name: str
    in_function: bool
    for_types: bool


def layer_of(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def module(name, source):
    return Module(name, ast.parse(source), len(source.splitlines()))


def read_modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield module(".".join(parts).removesuffix(".__init__"), path.read_text("utf-8"))


MODULES = {each.name: each for each in read_modules()}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def imports_of(module: Module) -> Iterator[Import]:
    """Yield what a module imports, names of modules resolved (`from mfcore import parallel`)."""
    def visit(node, in_function, for_types):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [resolved(node.module, alias.name) for alias in node.names]
        else:
            names = []
        yield from (Import(name, in_function, for_types) for name in names)
        in_function |= isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, in_function, for_types)

    yield from visit(module.tree, False, False)


def resolved(origin, name):
    """`from a import b` imports a.b if that is a module, else a."""
    below = f"{origin}.{name}"
    return below if below in {*MODULES, *HEAVY, "llvmlite.binding"} else origin


# -------------------------------------------------------------------- the checks

def layer_complaints(module):
    if module.layer not in LAYERS:
        return [f"{module.name} is in no layer"]
    return [f"{module.name} ({module.layer}) imports {each.name}"
            for each in imports_of(module) if each.name.split(".")[0] == "mfcore"
            and layer_of(each.name) not in LAYERS[module.layer]
            and not (module.name == "mfcore" and each.for_types)]


def kernel_complaints(module):
    allowed = KERNEL_IMPORTS | KERNEL_EXCEPTIONS.get(module.name, set())
    strange = [f"{module.name} imports {each.name}" for each in imports_of(module)
               if each.name not in allowed]
    words = [f"{module.name}:{node.lineno} says {word}" for node in ast.walk(module.tree)
             for word in (getattr(node, "id", ""), getattr(node, "attr", ""),
                          getattr(node, "arg", "")) if word in FORBIDDEN_IN_KERNELS]
    classes = [f"{module.name} has class {node.name}" for node in ast.walk(module.tree)
               if isinstance(node, ast.ClassDef)]
    return strange + words + classes


def jit_complaints(module):
    """Compiled code stands in kernels/, with options by name, compiled when first called."""
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "njit"):
            continue
        if module.layer != "kernels":
            yield f"{module.name} compiles outside kernels/"
        elif node.args or [keyword.arg for keyword in node.keywords] != [None]:
            yield f"{module.name}: njit takes options as **NAME and no signature"


def heavy_complaints(module):
    return [f"{module.name} imports {each.name} at its top" for each in imports_of(module)
            if not each.in_function and not each.for_types
            and any(f"{each.name}.".startswith(f"{heavy}.") for heavy in HEAVY)]


def speech_complaints(module):
    """No print, no assert, no bare except, no star import, no global randomness."""
    for node in ast.walk(module.tree):
        called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if called in FORBIDDEN_CALLS:
            yield f"{module.name}:{node.lineno} calls {called}"
        elif isinstance(node, ast.Assert):
            yield f"{module.name}:{node.lineno} asserts"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{module.name}:{node.lineno} has a bare except"
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield f"{module.name}:{node.lineno} imports *"
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("np.random.") \
                and node.attr[0].islower() and node.attr != "default_rng":
            yield f"{module.name}:{node.lineno} uses the global {ast.unparse(node)}"


def functions_that_write(module):
    """Names of the functions that write to standard output."""
    return [node.name for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef)
            for inner in ast.walk(node) if ast.unparse(inner) == "sys.stdout"]


def cycles(edges):
    """Names that can be reached from themselves."""
    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            fresh = edges.get(waiting.pop(), set()) - seen
            seen |= fresh
            waiting.extend(fresh)
        return seen

    return sorted(name for name in edges if name in reached(name))


# ---------------------------------------------------------- held against the files

@every_module
def test_imports_go_down_only(module):
    assert layer_complaints(module) == []


def test_no_module_reaches_itself_through_its_imports():
    edges = {each.name: {i.name for i in imports_of(each) if not i.for_types} - {each.name}
             for each in MODULES.values()}
    assert cycles(edges) == []


@pytest.mark.parametrize("module", [m for m in MODULES.values() if m.layer == "kernels"],
                         ids=lambda module: module.name)
def test_kernels_know_arrays_and_arithmetic_only(module):
    assert kernel_complaints(module) == []


@every_module
def test_compiled_code_stands_in_kernels_with_named_options(module):
    assert list(jit_complaints(module)) == []


@every_module
def test_heavy_modules_are_imported_by_the_functions_that_need_them(module):
    assert heavy_complaints(module) == []


@every_module
def test_the_library_neither_prints_nor_asserts_nor_swallows(module):
    assert list(speech_complaints(module)) == []


@every_module
def test_standard_output_is_written_by_one_function_of_the_command_line(module):
    writers = functions_that_write(module)
    assert len(writers) <= (1 if module.layer == "cli" else 0)


@every_module
def test_files_can_be_read_at_one_sitting(module):
    assert module.n_lines < LONGEST_FILE


# ------------------------------------------------- each check sees what it is for

@pytest.mark.parametrize(("name", "source", "seen"), [
    ("mfcore.solvers.als", "from mfcore.models.base import load", True),
    ("mfcore.solvers.als", "def f():\n    import mfcore.models.base", True),
    ("mfcore.models.base", "from mfcore.kernels import cg", True),
    ("mfcore.models.base", "from mfcore import kernels", True),
    ("mfcore.data.ratings", "from mfcore.metrics.rating import rmse", True),
    ("mfcore.metrics.rating", "from mfcore import Ratings", True),
    ("mfcore.extra", "import math", True),
    ("mfcore", "from mfcore.models.base import load", True),
    ("mfcore", "if TYPE_CHECKING:\n    from mfcore.models.base import load", False),
    ("mfcore.cli", "from mfcore import Ratings", False),
    ("mfcore.data.ratings", "from mfcore import validation", False),
])
def test_an_import_that_goes_up_is_seen(name, source, seen):
    assert bool(layer_complaints(module(name, source))) == seen


@pytest.mark.parametrize("source", [
    "from mfcore import validation", "from mfcore.kernels.cg import solve", "import scipy",
    "numba.prange(3)", "class State: pass", "rng = np.random.default_rng()",
    "@njit(parallel=True)\ndef f(): pass", "from numba import njit, prange\nprange(3)"])
def test_a_kernel_that_knows_too_much_is_seen(source):
    assert kernel_complaints(module("mfcore.kernels.new", source)) != []


@pytest.mark.parametrize(("name", "source"), [
    ("mfcore.kernels.new", "@njit('f8(f8)', **KERNEL)\ndef f(x): pass"),
    ("mfcore.kernels.new", "@njit(fastmath=True)\ndef f(x): pass"),
    ("mfcore.solvers.als", "@njit(**KERNEL)\ndef f(x): pass"),
])
def test_compiled_code_out_of_place_is_seen(name, source):
    assert list(jit_complaints(module(name, source))) != []


@pytest.mark.parametrize(("source", "seen"), [
    ("import pandas as pd", True), ("from scipy import optimize", True),
    ("from urllib.request import urlopen", True), ("import scipy.optimize", True),
    ("try:\n    import pyarrow.csv\nexcept ImportError:\n    pass", True),
    ("class A:\n    import pandas", True),
    ("def f():\n    import pandas", False), ("import scipy.sparse", False),
])
def test_a_heavy_import_at_the_top_is_seen(source, seen):
    assert bool(heavy_complaints(module("mfcore.data.new", source))) == seen


@pytest.mark.parametrize("source", [
    "print(1)", "assert x", "try:\n    f()\nexcept:\n    pass", "from math import *",
    "np.random.seed(0)", "x = np.random.rand(3)"])
def test_careless_speech_is_seen(source):
    assert list(speech_complaints(module("mfcore.data.new", source))) != []


def test_a_cycle_is_seen():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_a_function_that_writes_is_seen():
    source = "def f():\n    sys.stdout.write('x')\ndef g():\n    sys.stderr.write('x')"
    assert functions_that_write(module("mfcore.cli", source)) == ["f"]


# ------------------------------------------------------------- what importing does

def run_python(*arguments):
    """Run a new interpreter without measuring coverage, which would slow it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run([sys.executable, *arguments], env=env, check=True, text=True,
                          capture_output=True).stdout


def test_importing_the_package_takes_less_than_six_tenths_of_a_second():
    script = ("import time; start = time.perf_counter(); import mfcore; "
              "print(time.perf_counter() - start)")
    assert min(float(run_python("-c", script)) for _ in range(3)) < 0.6


def test_importing_the_package_reads_no_more_than_numpy():
    loaded = run_python("-c", "import sys, mfcore; print(*sys.modules)").split()
    assert "mfcore.gradcheck" in loaded
    for heavy in (*HEAVY, "numba", "scipy", "llvmlite", "tqdm"):
        assert heavy not in loaded


def test_importing_every_module_compiles_nothing_and_reads_nothing_heavy():
    script = ("import importlib, sys\n"
              "from numba.core import event\n"
              "with event.install_recorder('numba:compile') as seen:\n"
              "    for name in sys.argv[1:]: importlib.import_module(name)\n"
              "print(len(seen.buffer), *sys.modules)")
    names = [name for name in MODULES if name != "mfcore.__main__"]
    compiled, *loaded = run_python("-c", script, *names).split()
    assert int(compiled) == 0
    assert set(names) <= set(loaded)
    assert not {"pandas", "polars", "pyarrow", "matplotlib", "sklearn", "dask",
                "scipy.optimize"} & set(loaded)


def test_the_compilation_recorder_sees_a_compilation():
    script = ("from numba import njit\n"
              "from numba.core import event\n"
              "with event.install_recorder('numba:compile') as seen:\n"
              "    njit('f8(f8)')(lambda x: x)\n"
              "print(len(seen.buffer))")
    if os.environ.get("NUMBA_DISABLE_JIT") in (None, "", "0"):
        assert int(run_python("-c", script)) > 0
