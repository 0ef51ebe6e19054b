"""The claims study: statistics against known answers, budgets that are equal, nothing lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import claims
from benchmarks.claims import report, study
from benchmarks.claims.edges import opened, pressed
from benchmarks.claims.similarity import by_cosine
from benchmarks.claims.space import Between, by_default, drawn, end_of, is_free, one_of
from benchmarks.claims.splits import core
from benchmarks.claims.statistics import FOLDS, TRIALS, Effect, effect, holm, together, verdict
from benchmarks.claims.study import Arm, Claim, Comparison, Fold
from benchmarks.claims.variational import deleted, injected
from mfcore import ImplicitMF, Ratings, evaluate
from mfcore.data.synthetic import planted

SPACE = {"x": Between(0.1, 10), "kind": one_of("a", "b"), "fixed": 3}


def a_claim(measure, **more) -> Claim:
    """Return a claim of two arms whose figures a function makes."""
    return Claim(**{
        "name": "toy", "says": "One beats two.", "hypothesis": "It does.", "data": ("planted",),
        "arms": {"one": Arm(SPACE, "rmse"), "two": Arm(SPACE, "rmse")},
        "fold": lambda data, number, quick: Fold("inner", "outer"), "measure": measure,
        "comparisons": [Comparison("one beats two", "one", "two", "rmse")], **more})


def by_settings(task) -> dict[str, float]:
    """Return an error that the settings and the arm decide; x is 5 by default."""
    worse = 0.1 if task.arm == "two" else 0.0
    x = task.settings.get("x", 5.0)
    return {"rmse": abs(np.log(x)) + worse + 0.01 * task.seed * task.final}


@pytest.fixture
def log():
    """Return a list of the tasks measured, and what measures and writes them down."""
    tasks = []
    return tasks, lambda task: tasks.append(task) or by_settings(task)


# ------------------------------------------------------------------------ statistics


def test_an_effect_is_the_mean_and_its_size_is_in_standard_deviations():
    found = effect([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.size == pytest.approx(3 / np.sqrt(2.5))
    assert found.high - 3 == pytest.approx(2.7764 * np.sqrt(0.5), rel=1e-4)     # t of 4 at 0.975
    assert found.p == pytest.approx(0.0132, abs=1e-4)


def test_differences_that_do_not_vary_have_an_interval_of_one_point():
    assert effect([0.5] * 5) == Effect(0.5, 0.5, 0.5, np.inf, 0.0)
    assert effect([0.0] * 5) == Effect(0.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("n", [5, 10])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(n):
    random = np.random.default_rng(0)
    found = [effect(random.normal(1, 2, n)) for _ in range(2000)]
    inside = np.mean([each.low <= 1 <= each.high for each in found])
    assert 0.94 <= inside <= 0.96       # a bootstrap widened for five: 0.92
    assert np.mean([each.p < 0.05 for each in found]) == pytest.approx(
        np.mean([not each.low <= 0 <= each.high for each in found]), abs=1e-9)


def test_splits_that_share_ratings_have_a_wider_interval():
    alone, shared = effect([1.0, 2.0, 4.0, 4.0, 5.0]), effect([1.0, 2.0, 4.0, 4.0, 5.0], 0.25)
    assert (shared.high - shared.low) / (alone.high - alone.low) == pytest.approx(1.5)
    assert shared.p > alone.p


def test_holm_multiplies_the_smallest_p_by_all_and_keeps_their_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_difference_is_no_effect():
    with pytest.raises(ValueError, match="at least two, got 1"):
        effect([1.0])


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0.1, 0.2, "shown"), (-0.2, -0.1, "refuted"), (-0.1, 0.1, "not shown"), (0, 0, "not shown")])
def test_a_verdict_is_where_the_interval_lies(low, high, expected):
    assert verdict(Effect((low + high) / 2, low, high, 1.0, 0.1), FOLDS, TRIALS) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [
    (-0.01, 0.01, "the same"), (0.001, 0.01, "the same"), (-0.01, 0.02, "not shown"),
    (0.001, 0.03, "shown")])
def test_an_interval_within_the_smallest_effect_is_no_difference(low, high, expected):
    assert verdict(Effect(0.0, low, high, 1.0, 0.1), FOLDS, TRIALS, 0.02) == expected


def test_few_folds_or_trials_give_no_verdict():
    clear = Effect(1.0, 0.9, 1.1, 10.0, 0.001)
    assert {verdict(clear, FOLDS - 1, TRIALS), verdict(clear, FOLDS, TRIALS - 1)} == \
        {"too few to tell"}


def test_comparisons_that_disagree_depend():
    assert together(["shown", "shown"]) == "shown"
    assert together(["shown", "refuted"]) == "it depends"
    assert together(["shown", "too few to tell"]) == "shown"
    assert together(["too few to tell"]) == "too few to tell"
    assert together(["space too small", "refuted"]) == "refuted"


# ---------------------------------------------------------------------------- search


def test_draws_stay_within_their_space_and_repeat_by_seed():
    found = [drawn(SPACE, np.random.default_rng(seed)) for seed in range(200)]
    assert all(0.1 <= each["x"] <= 10 and each["kind"] in "ab" and each["fixed"] == 3
               for each in found)
    assert 0.4 < np.mean([each["x"] < 1 for each in found]) < 0.6       # uniform in the logarithm
    assert found[3] == drawn(SPACE, np.random.default_rng(3))


@pytest.mark.parametrize(("space", "value", "end"), [
    (Between(0.1, 10), 0.11, "lowest"), (Between(0.1, 10), 1.0, ""),
    (Between(0.1, 10), 9.5, "highest"), (Between(0, 1, log=False), 0.01, ""),
    (one_of(5, 10, 20), 5, "lowest"), (one_of(5, 10, 20), 10, ""), (one_of(5, 10), 5, ""),
    (one_of(5, 10), 10, "highest"), (one_of(8), 8, ""), (one_of(5, 10), None, ""),
    (one_of(0.0, 0.2, 0.5), 0.0, ""), (one_of("a", "b"), "b", ""),
    (3, 3, "")])
def test_a_space_ends_where_something_lies_beyond(space, value, end):
    assert end_of(space, value) == end


@pytest.mark.parametrize(("gain", "times", "expected"), [
    (0.1, 2, ["n_epochs highest"]), (0.001, 5, []), (0.1, 1, [])])
def test_an_arm_presses_against_an_end_that_it_often_takes_and_that_pays(gain, times, expected):
    space, tried = {"n_epochs": one_of(2, 4, 8)}, [{"n_epochs": n} for n in (2, 4, 8)]
    at_end = (tried, {"trials": [0.9, 0.8, 0.8 - gain], "settings": tried[2]})
    inside = (tried, {"trials": [0.9, 0.7, None], "settings": tried[1]})
    folds = [at_end] * times + [inside] * (5 - times)
    assert pressed(space, folds, 0.002, lower=True) == expected


def test_the_end_of_the_loser_opens_a_verdict_and_the_winners_does_not():
    assert opened("shown", ["a"], []) == opened("refuted", [], ["b"]) == []
    assert opened("shown", ["a"], ["b"]) == ["b"]
    assert opened("not shown", ["a"], ["b"]) == ["a", "b"]


def test_every_arm_has_the_same_number_of_trials_and_one_test(log, tmp_path):
    tasks, measure = log
    study.run(a_claim(measure, folds=2, trials=7), out=tmp_path)
    for arm in "one", "two":
        for seed in 0, 1:
            mine = [task for task in tasks if (task.arm, task.seed) == (arm, seed)]
            assert [task.split for task in mine] == ["inner"] * 8 + ["outer"]
            errors = [by_settings(task)["rmse"] for task in mine[:8]]
            assert mine[8].settings == mine[int(np.argmin(errors))].settings


def test_the_last_trial_is_the_librarys_defaults_but_for_what_makes_the_arm():
    random, space = np.random.default_rng(0), SPACE | {"own": Between(2, 3, always=True)}
    assert set(by_default(space, random)) == {"fixed", "own"}
    assert list(study.searched(SPACE, 3, 0))[-1] == {"fixed": 3}


def test_results_from_before_a_trial_was_added_get_that_trial_alone(log, tmp_path, monkeypatch):
    tasks, measure = log
    searched = study.searched
    monkeypatch.setattr(study, "searched", lambda *given: list(searched(*given))[:-1])
    study.run(a_claim(measure, folds=1, trials=3), out=tmp_path)
    before = len(tasks)
    monkeypatch.setattr(study, "searched", searched)
    study.run(a_claim(measure, folds=1, trials=3), out=tmp_path)
    assert [task.settings for task in tasks[before:]] == [{"fixed": 3}] * 2


def test_arms_of_one_space_try_the_same_settings(log, tmp_path):
    tasks, measure = log
    study.run(a_claim(measure, folds=1, trials=4), out=tmp_path)
    one, two = ([task.settings for task in tasks if task.arm == arm] for arm in ("one", "two"))
    assert one[:5] == two[:5]


def test_a_trial_that_diverges_is_spent_and_never_chosen(tmp_path):
    def measure(task):
        if task.settings.get("kind") == "a":
            raise FloatingPointError
        return by_settings(task)

    result = study.run(a_claim(measure, folds=1, trials=12), out=tmp_path)
    cell = result["arms"]["one"]["folds"]["planted 0"]
    assert len(cell["trials"]) == 13
    assert None in cell["trials"]
    assert cell["settings"]["kind"] == "b"


def test_settings_that_diverge_on_the_whole_give_way_to_the_next_best(tmp_path):
    whole = study.run(a_claim(by_settings, folds=1, trials=6), out=tmp_path / "whole")
    first = whole["arms"]["one"]["folds"]["planted 0"]["settings"]

    def measure(task):
        if task.final and task.settings == first:
            raise FloatingPointError
        return by_settings(task)

    result = study.run(a_claim(measure, folds=1, trials=6), out=tmp_path)
    cell = result["arms"]["one"]["folds"]["planted 0"]
    order = study.ranked(cell["trials"], lower=True)
    assert cell["diverged"] == order[:1]
    assert cell["test"]["rmse"] == pytest.approx(sorted(cell["trials"])[1], abs=1e-4)


@pytest.mark.parametrize("name", claims.NAMES)
def test_a_claim_of_the_study_can_reach_a_verdict(name):
    claim = claims.claim(name)
    assert claim.name == name
    assert claim.folds >= FOLDS
    assert claim.trials >= TRIALS
    assert any(each.decides for each in claim.comparisons)
    assert claim.answer.endswith((".", ".)"))
    for each in claim.comparisons:
        assert {each.first, each.second} <= set(claim.arms)
    used = {arm for each in claim.comparisons for arm in (each.first, each.second)}
    for arm in used:
        space = claim.arms[arm].space
        assert is_free(space)
        assert all(map(str, space.values()))
    assert study.quick_data(claim)


def test_there_are_thirteen():
    assert len(set(claims.NAMES)) == 13


# --------------------------------------------------------------------------- resuming


class Stop(BaseException):
    """As Ctrl-C, but only here."""


@pytest.mark.parametrize("after", [1, 5, 15, 23])
def test_a_study_that_was_stopped_goes_on_and_ends_the_same(after, log, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PAUSE", 0.0)
    tasks, measure = log
    whole = study.run(a_claim(by_settings, folds=2, trials=5), out=tmp_path / "whole")

    def stopping(task):
        if len(tasks) == after:
            raise Stop
        return measure(task)

    with pytest.raises(Stop):
        study.run(a_claim(stopping, folds=2, trials=5), out=tmp_path)
    again = study.run(a_claim(measure, folds=2, trials=5), out=tmp_path)
    assert len(tasks) == 2 * 2 * 7                      # nothing measured twice
    for result in whole, again:
        for arm in result["arms"].values():
            for cell in arm["folds"].values():
                del cell["cpu_seconds"]
    assert again == whole


def test_a_finished_study_measures_nothing(log, tmp_path):
    tasks, measure = log
    study.run(a_claim(measure, folds=1, trials=2), out=tmp_path)
    before = (tmp_path / "toy.json").read_text()
    study.run(a_claim(measure, folds=1, trials=2), out=tmp_path)
    assert len(tasks) == 8
    assert (tmp_path / "toy.json").read_text() == before


def test_an_arm_with_another_space_is_measured_anew_and_the_others_are_not(log, tmp_path):
    tasks, measure = log
    study.run(a_claim(measure, folds=1, trials=2), out=tmp_path)
    arms = {"one": Arm(SPACE, "rmse"), "two": Arm(SPACE | {"fixed": 4}, "rmse")}
    study.run(a_claim(measure, folds=1, trials=2, arms=arms), out=tmp_path)
    assert [task.arm for task in tasks[8:]] == ["two"] * 4


def test_ctrl_c_says_where_finished_arms_are(monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "run", interrupted)
    with pytest.raises(SystemExit, match="finished arms are in"):
        claims.main(["bias", "--out", str(tmp_path)])


def test_missing_data_are_named_with_what_else_can_run(monkeypatch, tmp_path):
    def fetch(name, **_):
        raise FileNotFoundError(f"{name} is not here: set MFCORE_DATA")

    monkeypatch.setattr("benchmarks.claims.splits.fetch", fetch)
    with pytest.raises(SystemExit) as error:
        claims.main(["unknown", "--data", "ml-100k+online-retail", "--out", str(tmp_path)])
    assert all(part in str(error.value) for part in (
        "'unknown' needs planted-audiences and ml-100k+online-retail", "set MFCORE_DATA",
        "--data planted", "--quick"))


def test_data_that_no_claim_has_are_refused_before_any_work(tmp_path):
    with pytest.raises(SystemExit, match="--data must name data of these claims.*got ml1m"):
        claims.main(["bias", "--data", "planted", "ml1m", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("here", "ran"), [
    ((), {"planted"}), (("movietweetings-100k",), {"planted", "movietweetings-100k/core"}),
    (("movietweetings-100k", "ml-1m"), {"planted", "movietweetings-100k/core"})])
def test_other_data_are_run_where_they_are_and_some_only_by_name(here, ran, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "is_here", lambda name: name in here)
    claim = a_claim(by_settings, folds=1, trials=2, also=("movietweetings-100k/core",))
    folds = study.run(claim, out=tmp_path)["arms"]["one"]["folds"]
    assert {key.rpartition(" ")[0] for key in folds} == ran
    folds = study.run(claim, out=tmp_path, data=["ml-1m"])["arms"]["one"]["folds"]
    assert {key.rpartition(" ")[0] for key in folds} == ran | {"ml-1m"}


def test_folds_of_data_that_a_claim_no_longer_has_are_dropped(tmp_path):
    study.run(a_claim(by_settings, folds=1, trials=2, data=("planted", "old")), out=tmp_path)
    result = study.run(a_claim(by_settings, folds=1, trials=2), out=tmp_path)
    assert list(result["arms"]["one"]["folds"]) == ["planted 0"]


# ---------------------------------------------------------------------------- verdicts


def test_the_sign_of_a_difference_is_in_favour_of_the_sentence(tmp_path):
    result = study.run(a_claim(by_settings, trials=20), out=tmp_path)
    row = result["comparisons"][0]
    assert row["verdict"] == result["verdict"] == "shown"
    assert row["mean"] == pytest.approx(0.1, abs=1e-4)
    assert len(row["differences"]) == 5
    other = a_claim(by_settings, trials=20, comparisons=[
        Comparison("two beats one", "two", "one", "rmse"),
        Comparison("one has more", "one", "two", "rmse", lower=False)])
    assert [row["verdict"] for row in study.run(other, out=tmp_path)["comparisons"]] == \
        ["refuted", "refuted"]


def test_the_report_holds_every_sentence_and_its_verdict(tmp_path):
    result = study.run(a_claim(by_settings, trials=20, answer="It does, by 0.1."), out=tmp_path)
    text = report.markdown([result])
    assert "| [One beats two.](#toy) | It does, by 0.1. | shown 1 | – | – | – |" in text
    assert "one beats two" in report.figure(result)
    assert report.figure(result) == report.figure(json.loads(json.dumps(result)))
    assert "data:image/svg+xml;base64," in report.pages([result])


def test_the_page_of_the_study_is_the_one_of_its_result_files():
    page = study.RESULTS.parents[1] / "CLAIMS.md"
    assert page.read_text() == report.markdown(report.results()), \
        "run `python -m benchmarks claims --report`"


# ------------------------------------------------------------------- parts of the claims


@pytest.fixture(scope="module")
def small() -> Ratings:
    """Return few ratings."""
    return planted(60, 40, random_state=0).ratings


def test_by_cosine_ranks_as_recommend_does(small):
    model = ImplicitMF(4, n_epochs=2, random_state=0, n_threads=1).fit(small)
    items, _ = model.recommend(k=3, similarity="cosine")
    best = Ratings(sp.csr_array((np.ones(items.size), (np.repeat(np.arange(60), 3), items.ravel())),
                                shape=small.shape))
    found = evaluate(by_cosine(model), best, metrics="precision@3", n_threads=1)
    assert found["precision@3"] == 1
    assert evaluate(model, best, metrics="precision@3", n_threads=1)["precision@3"] < 1


def test_a_core_has_enough_of_everybody_and_loses_nobody_who_has(small):
    data = planted(60, 40, random_state=0)
    found = core(data, 11).ratings
    assert min(np.diff(found.by_user.indptr).min(), np.diff(found.by_item.indptr).min()) >= 11
    assert found.shape == (33, 32)
    again = core(core(data, 11), 11).ratings
    np.testing.assert_array_equal(again.by_user.toarray(), found.by_user.toarray())
    assert core(data, 1).ratings.nnz == small.nnz


def test_half_of_each_row_is_deleted_and_as_much_injected(small):
    random = np.random.default_rng(0)
    held = small.select_cells(random.random(small.nnz) < 0.2)
    left = deleted(small, random)
    assert (np.diff(left.by_user.indptr) == np.maximum(1, np.diff(small.by_user.indptr) // 2)).all()
    more = injected(small.select_cells(small.by_user.data > 3), held, random)
    kept = small.select_cells(small.by_user.data > 3).by_user
    new = more.by_user.toarray()[kept.toarray() == 0]
    assert more.nnz > 1.2 * kept.nnz
    assert set(new) <= {0, more.by_user.data.max()}
    apart = (more.by_user.toarray() != 0) & (kept.toarray() == 0) & (held.by_user.toarray() != 0)
    assert not apart.any()


@pytest.mark.parametrize("name", ["cold", "unknown"])
def test_a_quick_run_measures_every_arm(name, tmp_path, capsys):
    claims.main([name, "--quick", "--out", str(tmp_path)])
    assert "too few to tell" in capsys.readouterr().out
    result = json.loads((tmp_path / f"{name}.json").read_text())
    assert all(len(cell["trials"]) in (1, 3) and cell["test"] and cell["settings"]
               for arm in result["arms"].values() for cell in arm["folds"].values())
    assert len(result["arms"]) * 2 == sum(len(a["folds"]) for a in result["arms"].values())
