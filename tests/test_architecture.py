"""The plan of the package as data, held against what its files import and say.

Each rule is one test for all files, and lists every complaint; a second test shows on a few
lines of source that the rule sees the fault it is there for.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import samples

import mfcore

PACKAGE = Path(__file__).parents[1] / "mfcore"

# Layer: the layers it may import.  What is not listed here is in no layer, and fails.
BASE = {"gradcheck", "validation", "parallel", "atomic", "persistence", "npy", "progress",
        "streams", "calls"}
MIDDLE = {"data", "objectives", "nn", "metrics"}
TOP = {"cli", "plots", "distributed"}
LAYERS = {
    **dict.fromkeys(BASE, BASE),
    "compiled": BASE,                                                     # (writes files)
    "kernels": {"compiled", "kernels"},
    "data": BASE | {"kernels", "data"},
    "objectives": BASE | {"kernels", "data", "objectives"},
    "nn": BASE | {"kernels", "nn"},
    "metrics": BASE | {"kernels", "data", "metrics"},
    "solvers": BASE | {"kernels"} | MIDDLE | {"solvers"},
    "models": BASE | MIDDLE | {"solvers", "models", "registry"},            # never a kernel
    "registry": set(),                                          # a table, read by everybody
    **{name: BASE | MIDDLE | {"mfcore", "solvers", "models", "registry", name} for name in TOP},
    "tuning": BASE | MIDDLE | {"solvers", "models", "registry", "tuning"},
    "precompile": BASE | MIDDLE | {"compiled", "solvers", "models", "registry"},
    "cli": BASE | MIDDLE | {"mfcore", "compiled", "precompile", "solvers", "models", "registry",
                            "plots", "tuning", "cli"},                              # (draws)
    "testing": {"mfcore", "data", "registry"},                     # (asks what users ask)
    "serving": BASE | {"data", "objectives", "registry", "serving"},
    "__main__": {"cli"},
    "mfcore": {"gradcheck", "registry"},
}
# A kernel knows arrays and arithmetic only; one file speaks to LAPACK, one
# to the cache of the processor, one draws.
KERNEL_IMPORTS = {"__future__", "collections.abc", "functools", "typing", "math", "numpy",
                  "mfcore.compiled", "mfcore.kernels.options"}
WRITES_CODE = {"mfcore.kernels.gathered", "mfcore.kernels.code"}     # not compiled from Python
KERNEL_EXCEPTIONS = {
    "mfcore.kernels.lapack": {"llvmlite", "llvmlite.binding", "numba", "numba.core",
                              "numba.extending", "scipy.linalg", "scipy.linalg.cython_blas",
                              "scipy.linalg.cython_lapack"},
    "mfcore.kernels.gathered": {"contextlib", "llvmlite", "llvmlite.binding", "numba",
                                "numba.core", "numba.extending"},
    "mfcore.kernels.code": {"llvmlite", "llvmlite.binding", "numba", "numba.core"},
    "mfcore.kernels.systems": {"llvmlite", "numba", "numba.core", "numba.extending",
                               "mfcore.kernels.code", "mfcore.kernels.gathered"},
    "mfcore.kernels.bpr": {"mfcore.kernels.draws"},
    "mfcore.kernels.ordinal": {"mfcore.kernels.draws"},
    "mfcore.kernels.neighbours": {"mfcore.kernels.lapack", "mfcore.kernels.topk"},
    "mfcore.kernels.logistic": {"mfcore.kernels.draws", "mfcore.kernels.sgd"},
    "mfcore.kernels.sgd": {"mfcore.kernels.gathered"},
    "mfcore.kernels.cg": {"mfcore.kernels.gathered"},
    "mfcore.kernels.subspace": {"mfcore.kernels.lapack", "mfcore.kernels.gathered"},
    "mfcore.kernels.exact": {"mfcore.kernels.lapack", "mfcore.kernels.systems"},
    "mfcore.kernels.dual": {"mfcore.kernels.exact", "mfcore.kernels.lapack",
                            "mfcore.kernels.gathered"},
}
# Read only by the function that needs them.
HEAVY = {"narwhals", "pandas", "polars", "pyarrow", "duckdb", "matplotlib", "sklearn", "dask",
         "distributed", "urllib.request", "http", "scipy.optimize", "scipy.stats", "IPython"}
FORBIDDEN_IN_KERNELS = {"prange", "parallel", "random", "default_rng"}
FORBIDDEN_CALLS = {"print", "breakpoint", "eval", "exec", "input"}
LONGEST_FILE = 400

# A model is its parameters, one base class, and parts that are handed over.
DEEPEST = 4                 # classes above a public estimator, `object` among them
OVERRIDES = 1               # of one method, between an estimator and its root
# Who has a `fit` of its own, and why.  All others have that of the base class.
OWN_FIT = {"NeuralMF": "passes pretrained= on",
           "Segmented": "has no solver: it fits one model per segment"}
# Folders of mfcore/models.  A family imports no other; the files beside them are for all.
FAMILIES = {"ranking", "items", "factorization", "pairs", "autoencoders", "segments"}
FULLEST_FOLDER = 12         # files in a folder of mfcore/models
# What a fitted model is called; outside mfcore/models, nobody looks at its private names.
MODEL_NAMES = {"model", "estimator", "fitted"}
LISTS_OF_MODELS = {"models", "models_"}
BY_NAME = {"getattr", "setattr", "hasattr", "delattr"}
# Modules of mfcore in memory once MatrixFactorization is.  A change may raise this with a reason:
# a feature that every fit needs, not a folder that imports all of its files.
MOST_MODULES = 60


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
    if name == "mfcore.models.registry":
        return "registry"
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def module(name, source):
    return Module(name, ast.parse(source), len(source.splitlines()))


def read_modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield module(".".join(parts).removesuffix(".__init__"), path.read_text("utf-8"))


MODULES = {each.name: each for each in read_modules()}


def public_estimators():
    """Classes that a user of the library fits."""
    public = [getattr(mfcore, name) for name in mfcore.__all__]
    return [each for each in public if isinstance(each, type) and hasattr(each, "fit")]


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
    return below if below in MODULES or below in {*HEAVY, "llvmlite.binding"} else origin


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
               if isinstance(node, ast.ClassDef) and module.name not in WRITES_CODE]
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
            for inner in ast.walk(node)
            if last_name(inner) == "stdout" and ast.unparse(inner) == "sys.stdout"]


def output_complaints(module):
    """One function of each file of the command line writes to standard output, nothing else."""
    writers = functions_that_write(module)
    if len(writers) > (1 if module.layer == "cli" else 0):
        yield f"{module.name} writes to standard output in {', '.join(writers)}"


def length_complaints(module):
    if module.n_lines > LONGEST_FILE:
        yield f"{module.name} has {module.n_lines} lines"


def family_of(name):
    """The family of a module, None for those that stand outside."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["mfcore", "models"] and parts[2:3] and \
        parts[2] in FAMILIES else None


def family_complaints(module):
    own = family_of(module.name)
    return [f"{module.name} ({own}) imports {each.name}" for each in imports_of(module)
            if own is not None and family_of(each.name) not in (None, own)]


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def is_model(node):
    """Whether an expression is called a model: `model`, `task.model`, `models[0]`."""
    if isinstance(node, ast.Subscript):
        return last_name(node.value) in LISTS_OF_MODELS
    return last_name(node) in MODEL_NAMES


def last_name(node):
    return getattr(node, "attr", getattr(node, "id", ""))


def privacy_complaints(module):
    """Outside models/, a model is its public face, whether asked directly or by name."""
    if module.layer == "models":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and is_model(node.value) and is_private(node.attr):
            yield f"{module.name}:{node.lineno} uses {ast.unparse(node)}"
        elif asks_by_name(node) and is_model(node.args[0]) and any(
                is_private(str(getattr(arg, "value", ""))) for arg in node.args[1:2]):
            yield f"{module.name}:{node.lineno} calls {ast.unparse(node)}"


def asks_by_name(node):
    return isinstance(node, ast.Call) and last_name(node.func) in BY_NAME and node.args


def made_up_name_complaints(module):
    """A name put together from text is found by no search."""
    for node in ast.walk(module.tree):
        if asks_by_name(node) and any(isinstance(inner, ast.JoinedStr) for arg in node.args[1:2]
                                      for inner in ast.walk(arg)):
            yield f"{module.name}:{node.lineno} calls {ast.unparse(node)}"


def copy_complaints(module):
    """A model does not smuggle arguments into itself in a copy."""
    for node in ast.walk(module.tree):
        if module.layer == "models" and isinstance(node, ast.Call) and last_name(node.func) in (
                "copy", "deepcopy") and [last_name(arg) for arg in node.args] == ["self"]:
            yield f"{module.name}:{node.lineno} calls {ast.unparse(node)}"


def crowd_complaints(paths):
    """Folders of the given files that hold too many."""
    counts = Counter(path.parent.name for path in paths if path.name != "__init__.py")
    return [f"{folder} holds {count} files" for folder, count in counts.items()
            if count > FULLEST_FOLDER]


METHODS = (staticmethod, classmethod, property, functools.cached_property)


def owners(cls):
    """Name of each method: the classes that define it, those nearest to `cls` first."""
    found = {}
    for each in cls.__mro__[:-1]:                                        # (all but object)
        for name, value in vars(each).items():
            if not name.startswith("__") and (inspect.isfunction(value)
                                              or isinstance(value, METHODS)):
                found.setdefault(name, []).append(each.__name__)
    return found


def depth_complaints(cls):
    depth = len(cls.__mro__) - 1
    if depth > DEEPEST:
        yield f"{cls.__name__} has {depth} classes above it"


def override_complaints(cls):
    return [f"{cls.__name__}.{name} is defined by {', '.join(classes)}"
            for name, classes in owners(cls).items() if len(classes) > 1 + OVERRIDES]


def fit_complaints(cls):
    return [f"{name} overrides fit" for name in owners(cls)["fit"][:-1] if name not in OWN_FIT]


def edges_of(modules):
    """Name of each module: the modules that it imports, for types too."""
    return {each.name: {i.name for i in imports_of(each)} - {each.name} for each in modules}


def complaints_of(check, things=None):
    """What a check says of all modules, or of other things."""
    return [complaint for thing in (MODULES.values() if things is None else things)
            for complaint in check(thing)]


def assert_none(complaints):
    """Fail with all complaints, of which pytest would show the first."""
    assert complaints == [], "\n".join(["", *complaints])


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

def test_imports_go_down_only():
    assert_none(complaints_of(layer_complaints))


def test_no_module_reaches_itself_through_its_imports():
    """Imports for types count: what knows another's names is no layer below it."""
    assert_none(cycles(edges_of(MODULES.values())))


def test_kernels_know_arrays_and_arithmetic_only():
    kernels = [each for each in MODULES.values() if each.layer == "kernels"]
    assert len(kernels) > 20
    assert_none(complaints_of(kernel_complaints, kernels))


def test_compiled_code_stands_in_kernels_with_named_options():
    assert_none(complaints_of(jit_complaints))


def test_heavy_modules_are_imported_by_the_functions_that_need_them():
    assert_none(complaints_of(heavy_complaints))


def test_the_library_neither_prints_nor_asserts_nor_swallows():
    assert_none(complaints_of(speech_complaints))


def test_standard_output_is_written_by_one_function_of_the_command_line():
    assert_none(complaints_of(output_complaints))


def test_files_can_be_read_at_one_sitting():
    assert_none(complaints_of(length_complaints))


# -------------------------------------------------------------- held against the models

def test_every_public_estimator_is_looked_at():
    assert {"MatrixFactorization", "EASE", "NeuralMF", "Segmented"} <= {
        each.__name__ for each in public_estimators()}


def test_no_estimator_stands_on_a_tower():
    assert_none(complaints_of(depth_complaints, public_estimators()))


def test_no_method_is_overridden_twice_on_the_way_to_an_estimator():
    assert_none(complaints_of(override_complaints, public_estimators()))


def test_all_estimators_but_the_named_ones_have_one_fit():
    assert_none(complaints_of(fit_complaints, public_estimators()))


def test_no_family_of_models_imports_another():
    assert_none(complaints_of(family_complaints))


def test_a_folder_of_models_can_be_surveyed():
    assert_none(crowd_complaints((PACKAGE / "models").rglob("*.py")))


def test_nobody_else_looks_into_a_model():
    assert_none(complaints_of(privacy_complaints))


def test_the_guide_looks_into_no_model():
    assert_none([f"{page.name}: {line.strip()}" for page in (PACKAGE.parent / "docs").rglob("*.md")
                 for line in page.read_text("utf-8").splitlines()
                 if re.search(r"\w\._[a-z]", line)])


def test_names_of_attributes_are_written_out():
    assert_none(complaints_of(made_up_name_complaints))


def test_no_model_copies_itself():
    assert_none(complaints_of(copy_complaints))


# ------------------------------------------------- each check sees what it is for

@pytest.mark.parametrize(("name", "source", "seen"), [
    ("mfcore.solvers.als", "from mfcore.models.recommender import load", True),
    ("mfcore.solvers.als", "def f():\n    import mfcore.models.recommender", True),
    ("mfcore.models.recommender", "from mfcore.kernels import cg", True),
    ("mfcore.models.recommender", "from mfcore import kernels", True),
    ("mfcore.data.ratings", "from mfcore.metrics.rating import rmse", True),
    ("mfcore.metrics.rating", "from mfcore import Ratings", True),
    ("mfcore.extra", "import math", True),
    ("mfcore", "from mfcore.models.recommender import load", True),
    ("mfcore", "from mfcore.models.registry import MODELS", False),
    ("mfcore.models.registry", "from mfcore import validation", True),
    ("mfcore", "if TYPE_CHECKING:\n    from mfcore.models.recommender import load", False),
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


def test_more_than_one_writer_or_one_elsewhere_is_seen():
    one, two = ("".join(f"def {name}():\n    sys.stdout.write('x')\n" for name in names)
                for names in ("f", "fg"))
    assert list(output_complaints(module("mfcore.cli.new", one))) == []
    assert list(output_complaints(module("mfcore.cli.new", two))) != []
    assert list(output_complaints(module("mfcore.plots", one))) != []


def test_a_file_of_one_line_too_many_is_seen():
    assert list(length_complaints(module("mfcore.data.new", "\n" * LONGEST_FILE))) == []
    assert list(length_complaints(module("mfcore.data.new", "\n" * (LONGEST_FILE + 1)))) != []


def test_a_cycle_through_an_import_for_types_is_seen():
    above = module("mfcore.solvers.sgd", "from mfcore.solvers.als import ALS")
    below = module("mfcore.solvers.als",
                   "if TYPE_CHECKING:\n    from mfcore.solvers.sgd import SGD")
    assert cycles(edges_of([above, below])) == ["mfcore.solvers.als", "mfcore.solvers.sgd"]


class Root:
    """The first of a tower of classes, each of which says again what some method does."""

    given = 1

    def fit(self):
        """Learn."""

    def method(self):
        """Answer."""

    @property
    def value(self):
        """Answer without being asked."""


class Once(Root):
    given = 2

    def method(self):
        """Answer otherwise."""

    @property
    def value(self):
        """Answer otherwise."""


class Twice(Once):
    given = 3

    def __repr__(self):
        return ""

    def fit(self):
        """Learn otherwise."""

    @property
    def value(self):
        """Answer otherwise again."""


class Tall(Twice):
    def __repr__(self):
        return "tall"

    def method(self):
        """Answer otherwise again."""


class Taller(Tall):
    """One too many."""


@pytest.mark.parametrize(("cls", "seen"), [(Root, False), (Tall, False), (Taller, True)])
def test_a_tower_is_seen(cls, seen):
    assert bool(list(depth_complaints(cls))) == seen


@pytest.mark.parametrize(("cls", "seen"), [
    (Once, []), (Twice, ["value"]), (Tall, ["method", "value"]), (Taller, ["method", "value"])])
def test_a_method_that_is_overridden_twice_is_seen(cls, seen):
    assert sorted(each.split()[0] for each in override_complaints(cls)) == [
        f"{cls.__name__}.{name}" for name in seen]


def test_a_fit_of_its_own_is_seen(monkeypatch):
    assert fit_complaints(Once) == []
    assert fit_complaints(Taller) == ["Twice overrides fit"]
    monkeypatch.setitem(OWN_FIT, "Twice", "for this test")
    assert fit_complaints(Taller) == []


@pytest.mark.parametrize(("name", "source", "seen"), [
    ("mfcore.models.items.ease", "from mfcore.models.ranking.bpr import BPR", True),
    ("mfcore.models.items.ease", "def f():\n    import mfcore.models.ranking.bpr", True),
    ("mfcore.models.segments.segmented", "from mfcore.models.pairs.core import Pairs", True),
    ("mfcore.models.segments.segmented",
     "if TYPE_CHECKING:\n    from mfcore.models.pairs.core import Pairs", True),
    ("mfcore.models.items.ease", "from mfcore.models.items.filters import Filter", False),
    ("mfcore.models.items.ease", "from mfcore.models.recommender import Recommender", False),
    ("mfcore.models.storage", "from mfcore.models.items.ease import EASE", False),
    ("mfcore.data.ratings", "from mfcore.nn.pairs import Pairs", False),
])
def test_a_family_that_imports_another_is_seen(name, source, seen):
    assert bool(family_complaints(module(name, source))) == seen


@pytest.mark.parametrize(("name", "source", "seen"), [
    ("mfcore.plots", "model._check_fitted()", True),
    ("mfcore.plots", "estimator._x", True), ("mfcore.plots", "fitted._x = 3", True),
    ("mfcore.plots", "models[0]._scorer", True), ("mfcore.plots", "self.models_[0]._x", True),
    ("mfcore.metrics.new", "self.task.model._x", True),
    ("mfcore.metrics.new", "hasattr(model, '_scorer')", True),
    ("mfcore.metrics.new", "getattr(self.model, '_scorer', None)", True),
    ("mfcore.models.recommender", "model._check_fitted()", False),
    ("mfcore.plots", "model.__class__", False), ("mfcore.plots", "model.predict()", False),
    ("mfcore.plots", "self._x", False), ("mfcore.plots", "hasattr(model, 'predict')", False),
    ("mfcore.plots", "getattr(model, name)", False),
    ("mfcore.plots", "getattr(other, '_x')", False),
])
def test_a_look_into_a_model_is_seen(name, source, seen):
    assert bool(list(privacy_complaints(module(name, source)))) == seen


@pytest.mark.parametrize(("source", "seen"), [
    ("getattr(self, f'{side}_bias_')", True), ("setattr(self, f'{side}_bias_', 3)", True),
    ("hasattr(model, f'_{name}')", True), ("delattr(self, f'{name}_')", True),
    ("builtins.getattr(self, f'{side}_bias_')", True),
    ("getattr(self, prefix + f'{side}')", True),
    ("getattr(self, name)", False), ("getattr(self, 'bias_')", False),
    ("getattr(self, 'bias_', f'{side}')", False), ("f'{getattr(self, name)}'", False),
])
def test_a_name_put_together_is_seen(source, seen):
    assert bool(list(made_up_name_complaints(module("mfcore.data.new", source)))) == seen


@pytest.mark.parametrize(("name", "source", "seen"), [
    ("mfcore.models.new", "copy(self)", True), ("mfcore.models.new", "copy.copy(self)", True),
    ("mfcore.models.new", "deepcopy(self)", True), ("mfcore.models.items.new", "copy(self)", True),
    ("mfcore.models.new", "copy(other)", False), ("mfcore.models.new", "at.copy()", False),
    ("mfcore.nn.new", "copy(self)", False),
])
def test_a_copy_of_itself_is_seen(name, source, seen):
    assert bool(list(copy_complaints(module(name, source)))) == seen


def test_a_folder_too_full_is_seen():
    files = [Path("models", f"{number}.py") for number in range(FULLEST_FOLDER)]
    elsewhere = [Path("models", "__init__.py"), Path("models", "items", "ease.py")]
    assert crowd_complaints([*files, *elsewhere]) == []
    assert crowd_complaints([*files, Path("models", "one_more.py")]) == ["models holds 13 files"]


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


def test_one_estimator_is_imported_without_the_others():
    script = "import sys, mfcore; mfcore.MatrixFactorization; print(*sys.modules)"
    loaded = [name for name in run_python("-c", script).split() if name.startswith("mfcore.")]
    assert "mfcore.solvers.als" in loaded
    assert len(loaded) <= MOST_MODULES, loaded


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


# ------------------------------------------------------------ how far a call wanders

MODELS_FOLDER = str(PACKAGE / "models")
MOST_FILES, MOST_CHANGES = 8, 25


def files_called(call):
    """Return the file of each function of the models that a call enters, one after the other."""
    files = []

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(MODELS_FOLDER):
            files.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


def wandering(files):
    """Return how many files a call enters, and how often it goes from one to another."""
    return len(set(files)), sum(one != other for one, other in pairwise(files))


@pytest.mark.parametrize("made", [made for made in samples.EVERY if made is not mfcore.Segmented],
                         ids=lambda made: made.__name__)
def test_a_fit_and_a_list_can_be_followed_through_few_files(made):
    model, cells = samples.small(made, n_threads=1), samples.matrix(60, 40)
    calls = {"fit": lambda: model.fit(cells), "list": lambda: model.recommend(ratings=cells[:2])}
    for call in calls.values():
        call()                                         # (what the first call alone does is over)
    for name, call in calls.items():
        n_files, n_changes = wandering(files_called(call))
        assert n_files <= MOST_FILES, name
        assert n_changes <= MOST_CHANGES, name


def test_a_call_that_wanders_is_seen():
    assert wandering(["a", "a", "b", "a", "c"]) == (3, 3)
