"""The harness of the benchmarks: ratios pair by pair, skipped peers, resuming."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import als, harness


def points(seconds):
    return {"points": [{"wall": seconds * t, "cpu": seconds * t, "loss": 10.0 - t}
                       for t in range(1, 7)]}


def test_ratios_are_those_of_each_round():
    rounds = [{"mfcore": points(1), "implicit": points(2)},
              {"mfcore": points(10), "implicit": points(60)},
              {"mfcore": points(1), "implicit": points(3)}]
    assert harness.summary(rounds, "implicit")["wall"] == pytest.approx([2.5, 3, 4.5])


def test_a_loss_that_is_never_reached_has_no_time():
    assert harness.seconds_to(points(1)["points"], 3.0, "wall") is None


def test_a_missing_peer_is_skipped_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(als, "CONTESTANTS", {"mfcore": "mfcore", "absent": "no_such_library"})
    result = harness.compare(als.NAME, "small", 1, tmp_path, lambda *_: points(1))
    assert "no_such_library" in result["skipped"]["absent"]
    assert list(result["rounds"][0]) == ["mfcore"]


def test_a_run_goes_on_from_the_rounds_that_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(als, "CONTESTANTS", {"mfcore": "mfcore"})
    calls = []

    def run(*names):
        calls.append(names)
        return points(1)

    harness.compare(als.NAME, "small", 2, tmp_path, run)
    harness.compare(als.NAME, "small", 3, tmp_path, run)
    assert len(calls) == 3
    assert len(json.loads((tmp_path / f"{als.NAME}_small.json").read_text())["rounds"]) == 3


def test_the_judge_counts_every_cell():
    R = als.data("small")[:30, :40]
    R = R[np.diff(R.indptr) > 0]
    random = np.random.default_rng(0)
    P, Q = random.normal(size=(R.shape[0], als.K)), random.normal(size=(R.shape[1], als.K))
    dense, s = R.toarray(), P @ Q.T
    weights = np.where(dense > 0, dense, 1)
    expected = (weights * ((dense > 0) - s) ** 2).sum() + als.REG * ((P**2).sum() + (Q**2).sum())
    assert als.loss(R, P, Q) == pytest.approx(expected)
