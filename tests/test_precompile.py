"""Kernels compiled ahead serve later processes, and what is missing is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from mfcore import compile_kernels, compiled, precompile

ANSWER = """
import json
from mfcore import Popularity, Ratings, compiled, read_ratings
from mfcore.data.synthetic import planted
Popularity().fit(planted(50, 40).ratings).recommend([0, 1])
Popularity().fit(planted(50, 600, density=0.1).ratings).recommend([0, 1], 20)
with open("ratings.csv", "w") as file:
    file.write("user,item,rating\\nb,x,1\\na,y,2\\n")
read_ratings("ratings.csv")
Ratings.from_arrays([3, 1, 2], [1, 2, 3])
print(json.dumps(sorted(compiled.USED)))
"""
LOOK = """
import json
from mfcore import precompile
print(json.dumps([sorted(each) for each in precompile.noted()]))
"""


def run(*words, folder):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False,
                          cwd=folder, env={**os.environ, "NUMBA_CACHE_DIR": str(folder)})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_a_later_process_finds_all_that_was_compiled_ahead(tmp_path):
    said = json.loads(run("-m", "mfcore", "compile", "--models", "popularity", "--json",
                          folder=tmp_path))
    before = {path.name for path in Path(said["folder"]).iterdir()}
    used = json.loads(run("-c", ANSWER, folder=tmp_path))
    assert said["n_kernels"] == said["n_new"] > 0
    assert set(used) <= before
    assert {path.name for path in Path(said["folder"]).iterdir()} == before
    assert json.loads(run("-c", LOOK, folder=tmp_path)) == [["Popularity"], []]
    (Path(said["folder"]) / used[0]).unlink()
    assert json.loads(run("-c", LOOK, folder=tmp_path)) == [["Popularity"], [used[0]]]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder of kernels."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    (tmp_path / "mfcore").mkdir()
    return tmp_path / "mfcore"


def test_nothing_is_known_where_nothing_was_compiled_ahead(folder):
    assert precompile.noted() is None


def test_the_note_of_another_processor_or_version_does_not_count(monkeypatch, folder):
    precompile._note(folder, ["EASE"], {"a.nbc"})
    assert precompile.noted() == (["EASE"], {"a.nbc"})
    monkeypatch.setattr(compiled, "machine", lambda: "another")
    assert precompile.noted() is None


def test_models_compiled_later_are_added_to_the_note(folder):
    precompile._note(folder, ["EASE"], {"a.nbc"})
    precompile._note(folder, ["BPR"], {"b.nbc"})
    assert precompile.noted() == (["BPR", "EASE"], {"a.nbc", "b.nbc"})


def test_kernels_that_nobody_keeps_are_an_error_that_names_the_folders(monkeypatch, folder):
    monkeypatch.setattr(compiled, "USED", {"a.nbc"})
    monkeypatch.setattr(precompile, "_tasks", lambda names: [])
    with pytest.raises(OSError, match=str(folder)):
        compile_kernels("EASE")


def test_a_name_that_is_no_model_is_refused_before_any_work():
    with pytest.raises(ValueError, match="models"):
        compile_kernels(["EASE", "ease"])
