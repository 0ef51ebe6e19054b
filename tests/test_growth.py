"""The growth command: which points, what is timed, and going on from what is on file."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import data, growth
from benchmarks.floor import touched

POINT = {"curve": "fixed", "kind": "als", "users": 60, "items": 40, "millions": 1, "k": 4}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A run in this process on a small matrix, at a machine that is always the same."""
    R = sp.random_array((60, 40), density=0.2, rng=np.random.default_rng(0), format="csr",
                        dtype=np.float32)
    monkeypatch.setattr(data, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(growth, "generated", lambda *_: R)
    monkeypatch.setattr(growth, "environment", lambda n_threads: {"cpu": "x"})
    monkeypatch.setattr(growth, "same", lambda old, new: old == new)
    monkeypatch.setattr(growth, "limits", lambda n_threads: {"GF/s": 1.0, "GB/s": 1.0})
    calls = []

    def run(command, **_):
        point = json.loads(command[-2])
        calls.append(growth.key(point))
        return SimpleNamespace(stdout=json.dumps(growth.measured(point, 1)))

    monkeypatch.setattr(growth.subprocess, "run", run)
    return calls


def test_ratings_grow_with_users_and_items_fixed_and_with_them():
    points = list(growth.points(100, ["als"]))
    fixed, growing, factors = ([point for point in points if point["curve"] == curve]
                               for curve in growth.CURVES)
    assert [point["millions"] for point in fixed] == [1, 3, 10, 30, 100]
    assert {(point["users"], point["items"]) for point in fixed} == {(138_493, 26_744)}
    assert [round(point["users"] / point["millions"]) for point in growing] == [6925] * 5
    assert [point["k"] for point in factors] == [16, 32, 64, 128, 256]


@pytest.mark.parametrize("kind", growth.KINDS)
def test_every_kind_has_seconds_and_memory(kind, here):
    found = growth.measured(POINT | {"kind": kind}, 1)
    assert found["cpu"] > 0
    assert found["wall"] > 0
    assert 0.01 < found["gigabytes"] < 20
    assert found["GF/s"] == 1.0
    assert ("floor" in found) == (kind == "als")


def test_a_run_that_broke_off_goes_on_at_the_next_point(here, tmp_path, monkeypatch):
    asked = ["--most", "3", "--what", "als", "--out", str(tmp_path)]
    whole = growth.subprocess.run

    def breaks(command, **more):
        if len(here) == 2:
            raise KeyboardInterrupt
        return whole(command, **more)

    monkeypatch.setattr(growth.subprocess, "run", breaks)
    with pytest.raises(KeyboardInterrupt):
        growth.main(asked)
    assert len(json.loads((tmp_path / "growth.json").read_text())["points"]) == 2
    monkeypatch.setattr(growth.subprocess, "run", whole)
    growth.main(asked)
    assert len(here) == len(set(here)) == 4


def test_options_choose_kinds_and_curves(here, tmp_path):
    growth.main(["--most", "1", "--what", "sgd", "--curves", "growing", "--out", str(tmp_path)])
    assert here == [("growing", "sgd", 1, 64)]


def test_the_limits_are_rates_of_this_process():
    found = growth.limits(1)
    assert found["GF/s"] > 1
    assert found["GB/s"] > 0.1


def test_the_floor_touches_every_line_of_the_vectors_that_ratings_name():
    X = np.arange(5 * 48, dtype=np.float32).reshape(5, 48)
    indices = np.array([4, 0, 4, 2])
    expected = sum(X[i, f] for i in indices[1:] for f in (0, 16, 32))
    assert touched(indices, X, 16, 1, 4) == expected
