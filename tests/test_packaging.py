"""The wheel, its metadata, and the public names."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import mfcore

ROOT = Path(__file__).parents[1]
LARGEST_WHEEL = 800_000
# What pip says when it cannot fetch the build backend, as without a network.
NO_BACKEND = "setuptools>=77"


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def has_backend():
    version = importlib.metadata.version("setuptools") if importlib.util.find_spec(
        "setuptools") else "0"
    return int(version.split(".")[0]) >= 77


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout, so that nothing is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "mfcore", source / "mfcore",
                    ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", source / "tests",
                    ignore=shutil.ignore_patterns("__pycache__"))
    isolation = ["--no-build-isolation"] if has_backend() else []
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", str(source), "--no-deps",
                           "--wheel-dir", str(folder), *isolation],
                          capture_output=True, text=True, check=False)
    if done.returncode and NO_BACKEND in done.stderr and not isolation:
        pytest.skip(f"the build needs {NO_BACKEND} and no network brings it")
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def read_text(wheel, ending):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(ending))
        return archive.read(name).decode()


# ----------------------------------------------------------------------- the wheel

def test_the_wheel_is_pure_python_for_any_platform(wheel):
    assert wheel.name == f"mfcore-{mfcore.__version__}-py3-none-any.whl"
    assert "Root-Is-Purelib: true" in read_text(wheel, ".dist-info/WHEEL")
    assert {Path(name).suffix for name in names_in(wheel) if name.startswith("mfcore/")} \
        <= {".py", ".typed"}


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_the_wheel_holds_every_module_the_type_marker_and_the_licence(wheel):
    names = set(names_in(wheel))
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("mfcore/**/*.py")}
    assert modules <= names
    assert "mfcore/py.typed" in names
    assert "the mfcore developers" in read_text(wheel, "LICENSE")


def test_the_wheel_holds_nothing_else(wheel):
    assert {name.split("/")[0].split("-")[0] for name in names_in(wheel)} == {"mfcore"}
    assert not [name for name in names_in(wheel) if Path(name).name.startswith("test_")]


def test_the_wheel_says_what_it_is_and_needs(wheel):
    metadata = Parser().parsestr(read_text(wheel, ".dist-info/METADATA"))
    assert metadata["Name"] == "mfcore"
    assert metadata["Version"] == mfcore.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.10"
    required = metadata.get_all("Requires-Dist")
    assert {name.split(">")[0] for name in required if "extra" not in name} \
        == {"numpy", "scipy", "numba", "threadpoolctl", "tqdm"}
    assert not [name for name in required if "<" in name or "==" in name.split(";")[0]]
    assert "mfcore = mfcore.cli:main" in read_text(wheel, "entry_points.txt")


# ---------------------------------------------------------------------- one version

def test_the_version_is_the_one_of_the_metadata():
    assert mfcore.__version__ == setup_cfg()["metadata"]["version"]


def test_the_changelog_speaks_of_this_version():
    assert mfcore.__version__ in (ROOT / "CHANGELOG.md").read_text("utf-8")


# --------------------------------------------------------------------- public names

def test_every_public_name_is_found_and_documented():
    assert set(mfcore.__all__) <= set(dir(mfcore))
    assert [name for name in mfcore.__all__ if not getattr(mfcore, name).__doc__] == []


def test_the_three_lists_of_public_names_agree():
    tree = ast.parse(Path(mfcore.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == mfcore._HOMES
    assert {*mfcore._HOMES, "gradcheck", "__version__"} == set(mfcore.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mfcore' has no attribute 'nonsense'"):
        mfcore.nonsense  # noqa: B018
    with pytest.raises(ImportError, match="nonsense"):
        from mfcore import nonsense  # noqa: F401


@pytest.mark.parametrize("first", [
    "import mfcore.gradcheck", "from mfcore.gradcheck import GradientError",
    "import importlib; importlib.import_module('mfcore.gradcheck')", "import mfcore.validation",
    "from mfcore import *", "pass"])
def test_gradcheck_is_the_function_whatever_was_imported_before(first):
    script = (f"{first}\nfrom mfcore import gradcheck\nimport mfcore, sys, types\n"
              "print(isinstance(gradcheck, types.FunctionType), mfcore.gradcheck is gradcheck,"
              " sys.modules['mfcore.gradcheck'].gradcheck is gradcheck)")
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, env=env)
    assert done.stdout.split() == ["True"] * 3


def test_gradcheck_can_be_pickled():
    assert pickle.loads(pickle.dumps(mfcore.gradcheck)) is mfcore.gradcheck


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    recipe = (ROOT / "conda" / "meta.yaml").read_text("utf-8")
    run = recipe[recipe.index("  run:"):recipe.index("\ntest:")]
    wanted = {line.strip()[2:].replace(" ", "") for line in run.splitlines()[1:] if line.strip()}
    options, metadata = setup_cfg()["options"], setup_cfg()["metadata"]
    assert wanted == {*options["install_requires"].split(), f"python{options['python_requires']}"}
    assert f'version: "{metadata["version"]}"' in recipe
    assert f"summary: {metadata['description']}" in recipe
    assert "http" not in recipe


def test_the_workflow_runs_what_contributors_run_on_the_oldest_python():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")
    assert "- run: bash .ci/run\n" in workflow
    oldest = setup_cfg()["options"]["python_requires"].removeprefix(">=")
    assert workflow.count(f'python: ["{oldest}", ') == 2
