"""The harness of the benchmarks: ratios round by round, targets, missing peers, resuming."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import data, harness, machine
from benchmarks.case import Case, Contestant, Task, both_reach, figure_after
from benchmarks.cases import als, cases, reading


def points(seconds, figures=(9.0, 8.0, 7.0, 6.0, 5.0, 4.0)):
    times = [seconds * t for t in range(1, len(figures) + 1)]
    return {"first call": 0.0, "gigabytes": 0.1, "wall": times, "cpu": times,
            "figure": list(figures)}


FOURTH = figure_after(4)


def case_of(*peers, target=FOURTH, needs="numpy", higher=False):
    contestants = {name: Contestant(lambda task: None, needs) for name in peers}
    return Case("test", "A test", "", lambda size: {}, dict,
                {"mfcore": Contestant(lambda task: None, "mfcore"), **contestants},
                lambda data: None, "loss", target, higher)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "cache_dir", lambda: tmp_path)
    return tmp_path


NARROW = cases((8,), 8)


# ------------------------------------------------------------------------ ratios, targets


def test_ratios_are_those_of_each_round():
    rounds = [{"mfcore": points(1), "peer": points(2)}, {"mfcore": points(10), "peer": points(60)},
              {"mfcore": points(1), "peer": points(3)}]
    found = harness.summary(case_of("peer"), rounds, "peer")
    assert found["wall"] == pytest.approx([2.5, 3, 4.5])
    assert found["loss"] == 6.0


def test_a_figure_that_is_never_reached_is_counted_and_gives_no_ratio():
    rounds = [{"mfcore": points(1), "peer": points(2)},
              {"mfcore": points(1, (9.0, 8.0)), "peer": points(2)}]
    found = harness.summary(case_of("peer"), rounds, "peer")
    assert found["reached it"] == {"mfcore": 1, "peer": 2}
    assert (found["rounds"], found["wall"]) == (2, [2, 2, 2])


def test_a_peer_that_came_later_is_compared_in_the_rounds_it_took_part_in():
    rounds = [{"mfcore": points(1)}, {"mfcore": points(1), "peer": points(3)}]
    assert harness.summary(case_of("peer"), rounds, "peer")["rounds"] == 1


@pytest.mark.parametrize(("higher", "figures", "expected"), [
    (False, ((3.0, 1.0), (4.0, 2.0)), 2.02), (True, ((0.1, 0.3), (0.1, 0.2)), 0.198)])
def test_both_reach_the_worse_of_the_two_bests(higher, figures, expected):
    ours, theirs = (points(1, each) for each in figures)
    case = case_of(higher=higher)
    target = both_reach(0.01)(case, ours, theirs)
    assert target == pytest.approx(expected)
    assert case.reached(ours, target, "wall") == case.reached(theirs, target, "cpu") == 2


def test_without_a_target_the_end_counts():
    found = harness.summary(case_of("peer", target=None),
                            [{"mfcore": points(1), "peer": points(5)}], "peer")
    assert found["cpu"] == [5, 5, 5]


def test_what_is_kept_is_a_copy_that_does_not_count(monkeypatch):
    clock = iter(np.array([[0.0, 0], [2.0, 1], [9.0, 8], [10.0, 9], [11.0, 10]]))
    monkeypatch.setattr(Task, "_now", staticmethod(lambda: next(clock)))
    task, P = Task({}, 1), np.zeros(2)
    task.keep(P)
    P[:] = 1
    task.keep(P)
    assert task.times == [[2, 1], [3, 2]]
    assert task.states[0][0].tolist() == [0, 0]


# ------------------------------------------------------------------- turns and resuming


def test_a_missing_peer_is_skipped_with_its_reason(tmp_path):
    case = case_of("absent", needs="no_such_library")
    result = harness.compare(case, "small", 1, out=tmp_path, run=lambda *_: points(1))
    assert "no_such_library" in result["skipped"]["absent"]
    assert set(result["rounds"][0]) == {"mfcore", "load"}


def test_contestants_take_turns_and_a_run_goes_on_from_what_is_written(tmp_path):
    calls = []

    def run(case, name, *_):
        calls.append(name)
        return points(1)

    harness.compare(case_of("peer"), "small", 2, out=tmp_path, run=run)
    harness.compare(case_of("peer"), "small", 3, out=tmp_path, run=run)
    assert calls == ["mfcore", "peer"] * 3
    assert len(json.loads((tmp_path / "test_small.json").read_text())["rounds"]) == 3


def test_a_contestant_that_fails_is_tried_once_more_and_then_left_out_with_its_reason(tmp_path):
    calls = []

    def run(case, name, *_):
        calls.append(name)
        if name == "peer" or len(calls) == 1:
            raise harness.FailedError("stopped after 60 s")
        return points(1)

    result = harness.compare(case_of("peer"), "small", 2, out=tmp_path, run=run)
    assert calls == ["mfcore", "mfcore", "peer", "peer", "mfcore"]
    assert result["skipped"] == {"peer": "stopped after 60 s, 2 times"}
    assert [set(turn) for turn in result["rounds"]] == [{"mfcore", "load"}] * 2
    assert json.loads((tmp_path / "test_small.json").read_text())["skipped"] == result["skipped"]


def test_the_limit_is_five_times_the_longest_run_and_at_least_a_minute():
    rounds = [{"mfcore": {"process": 3.0}}, {"mfcore": {"process": 30.0}, "peer": {"process": 2.0}}]
    assert harness.limit_of("mfcore", rounds) == 150
    assert harness.limit_of("peer", rounds) == 60
    assert harness.limit_of("other", rounds) == harness.FIRST


@pytest.fixture
def contestant(tmp_path, monkeypatch):
    """What makes every contestant a shell script."""
    def become(script):
        path = tmp_path / "contestant"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(harness.sys, "executable", str(path))
        return ("bpr_64", "mfcore", "small", 1)

    return become


def test_a_contestant_that_hangs_is_stopped_with_all_that_it_started(contestant, tmp_path):
    alive = tmp_path / "alive"
    asked = contestant(f"(sleep 2; touch {alive}) & wait")
    with pytest.raises(harness.FailedError, match=r"^stopped after 0 s$"):
        harness.apart(*asked, 0.2)
    time.sleep(2.2)
    assert not alive.exists()


@pytest.mark.parametrize(("script", "reason"), [
    ("kill -SEGV $$", "killed by SIGSEGV"), ("exit 3", "exit status 3"),
    ("echo first >&2; echo 'MemoryError: no room' >&2; exit 1", "MemoryError: no room")])
def test_a_contestant_that_dies_says_why(contestant, script, reason):
    with pytest.raises(harness.FailedError, match=f"^{reason}$"):
        harness.apart(*contestant(script), 60)


def test_the_result_is_the_last_line_with_the_seconds_of_the_process(contestant):
    found = harness.apart(*contestant("echo warning; echo '{\"wall\": [1]}'"), 60)
    assert found["wall"] == [1]
    assert found["process"] >= 0


def test_rounds_of_other_code_are_measured_anew(tmp_path, monkeypatch):
    case = case_of("peer")
    harness.compare(case, "small", 2, out=tmp_path, run=lambda *_: points(1))
    monkeypatch.setattr(machine, "sources", lambda: "other")
    result = harness.compare(case, "small", 1, out=tmp_path, run=lambda *_: points(1))
    assert len(result["rounds"]) == 1
    assert result["environment"]["mfcore"] == "other"


def test_a_peer_asked_for_later_has_rounds_of_its_own(tmp_path):
    case = case_of("one", "two")
    case = dataclasses.replace(case, contestants={
        **case.contestants, "two": Contestant(lambda task: None, "scipy")})
    for peers in ["numpy"], ["scipy"]:
        result = harness.compare(case, "small", 1, peers=peers, out=tmp_path,
                                 run=lambda *_: points(1))
    found = result["peer's seconds to ours"]
    assert {name: each["rounds"] for name, each in found.items()} == {"one": 1, "two": 1}


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = {"wall": [1.5, 2.25], "says": "a [b] c", "empty": [], "rounds": [{"cpu": [1]}]}
    harness.write(tmp_path / "r.json", result)
    assert json.loads((tmp_path / "r.json").read_text()) == result
    assert "[1.5, 2.25]" in (tmp_path / "r.json").read_text()


def test_the_environment_names_the_kernel_of_blas():
    found = machine.environment(2)
    assert all(len(each.split(", ")) == 2 for each in found["blas"])
    assert found["blas"]
    assert machine.same(found, {**found, "commit": "other"})
    assert not machine.same(found, {**found, "threads": 3})


# ----------------------------------------------------------------------------- the data


def test_data_are_made_once(folder):
    made = []

    def make():
        made.append(1)
        return {"R": sp.csr_array(np.eye(3)[:2]), "P": np.arange(4.0)}

    first, second = data.stored("d", make), data.stored("d", make)
    assert len(made) == 1
    for found in first, second:
        np.testing.assert_array_equal(found["R"].toarray(), np.eye(3)[:2])
        np.testing.assert_array_equal(found["P"], np.arange(4.0))


@pytest.fixture
def tiny(folder, monkeypatch):
    """The sizes of all cases, small enough for a test."""
    monkeypatch.setattr(data, "SIZES", {"small": (60, 40, 900)})
    monkeypatch.setattr(reading, "SIZES", data.SIZES)


@pytest.mark.parametrize(("name", "contestant"), [
    (name, contestant) for name, case in NARROW.items() for contestant in case.contestants
    if not name.endswith("_ml100k")                 # (the same as others, on data of the network)
    and "never compiled" not in contestant])        # (half a minute of compilation and no more)
def test_every_contestant_runs_and_is_judged(name, contestant, tiny):
    case = NARROW[name]
    if why := machine.missing(case.contestants[contestant].needs):
        pytest.skip(why)
    run = harness.one(case, contestant, "small", 1)
    assert len(run["wall"]) == len(run["cpu"]) == len(run["figure"]) >= 1
    assert np.isfinite(run["figure"]).all()
    if case.figure == "loss" and contestant == "mfcore":
        assert all(np.diff(run["figure"]) < 1e-6 * run["figure"][0])


# --------------------------------------------------------- the objectives of the peers


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    dense = random.integers(1, 6, (30, 20)) * (random.random((30, 20)) < 0.3)
    P, Q = random.normal(size=(30, 4)), random.normal(size=(20, 4))
    return dense.astype(float), {"R": sp.csr_array(dense.astype(np.float32))}, P, Q


def test_the_judge_of_implicit_counts_every_cell(problem):
    dense, given, P, Q = problem
    weights = np.where(dense > 0, dense, 1)
    expected = (weights * ((dense > 0) - P @ Q.T) ** 2).sum() + 5 * ((P**2).sum() + (Q**2).sum())
    assert als.judge(als.IMPLICIT, 4, given)(P, Q) == pytest.approx(expected)


def test_the_judge_of_cmfrec_adds_one_to_the_counts(problem):
    dense, given, P, Q = problem
    expected = ((1 + dense) * ((dense > 0) - P @ Q.T) ** 2).sum() \
        + 5 * ((P**2).sum() + (Q**2).sum())
    assert als.judge(als.CMFREC, 4, given)(P, Q) == pytest.approx(expected)


def test_the_judge_of_irspack_is_twice_what_irspack_computes(problem):
    pytest.importorskip("irspack")
    _, given, _, _ = problem
    task = Task(given, 1)
    loss = als.judge(als.IRSPACK, 4, given)
    for solver in "CG", "CHOLESKY", "IALSPP":
        trainer = als.irspack_trainer(4, solver, task)
        trainer.run_epoch()
        factors = trainer.core_trainer.user, trainer.core_trainer.item
        assert loss(*factors) == pytest.approx(2 * trainer.compute_loss(), rel=1e-5)
