"""`compare`: what differs only by chance is no difference, and what was planted is found."""

from __future__ import annotations

import numpy as np
import pytest
import samples
from test_evaluate import Stub, line_model

from mfcore import (
    BPR,
    BiasOnly,
    ImplicitMF,
    MatrixFactorization,
    Popularity,
    Ratings,
    compare,
    cross_validate,
    evaluate,
    evaluate_lists,
)
from mfcore.data import split, synthetic
from mfcore.metrics import contest
from mfcore.metrics.paired import METHODS

NONE = "no difference shown"


@pytest.fixture(scope="module")
def parts():
    """Generated ratings: all of them, a training and a test part."""
    ratings = synthetic.planted(120, 60, random_state=3).ratings
    return ratings, *split.per_user_split(ratings, 0.3, random_state=0)


def mf(seed=0, **params):
    return MatrixFactorization(4, random_state=seed, n_epochs=8, **params)


@pytest.fixture(scope="module")
def fitted(parts):
    models = {"mf": mf(), "bias": BiasOnly(), "popular": Popularity()}
    return {name: model.fit(parts[1]) for name, model in models.items()}


# ------------------------------------------------------------------------- what it says

def test_values_are_those_of_evaluate_and_differences_those_of_values(parts, fitted):
    metrics = ["ndcg@5", "recall@5", "novelty@5"]
    found = compare(fitted, parts[2], metrics=metrics, refits=0)
    for name, model in fitted.items():
        assert found.values[name] == pytest.approx(evaluate(model, parts[2], metrics=metrics))
    assert [(each.metric, each.first, each.second) for each in found.differences[:3]] == [
        ("ndcg@5", "mf", "bias"), ("ndcg@5", "mf", "popular"), ("ndcg@5", "bias", "popular")]
    for each in found.differences:
        own = found.values
        assert each.difference == pytest.approx(
            own[each.first][each.metric] - own[each.second][each.metric])
        assert each.low < each.difference < each.high
        assert each.p <= each.p_holm
        assert each.at_most == max(-each.low, each.high)
    assert found.n_users == 120
    assert (found.n_folds, found.n_fits) == (1, 1)


def test_of_fits_alone_the_interval_is_that_of_the_paired_t_test(parts, fitted):
    stats = pytest.importorskip("scipy.stats")
    found = compare(fitted, parts[2], metrics="ndcg@5", refits=0, confidence=0.9)
    first, second = (evaluate(fitted[name], parts[2], metrics="ndcg@5", per_user=True)["ndcg@5"]
                     for name in ("mf", "bias"))
    wanted = stats.ttest_rel(first, second, nan_policy="omit")
    low, high = wanted.confidence_interval(0.9)
    each = found["ndcg@5"][0]
    np.testing.assert_allclose([each.low, each.high, each.p], [low, high, wanted.pvalue])


def test_folds_are_those_of_cross_validation(parts):
    models = {"bias": BiasOnly(), "popular": Popularity()}
    found = compare(models, parts[0], 3, metrics=["ndcg"], random_state=7)
    wanted = {name: cross_validate(model, parts[0], 3, metrics=["ndcg"], k=10, random_state=7)
              for name, model in models.items()}
    for name in models:
        assert found.values[name]["ndcg@10"] == pytest.approx(wanted[name]["ndcg@10"].mean())
    assert (found.n_folds, found.n_fits) == (3, 3)


def test_models_of_one_seed_start_alike_on_each_fold_and_no_two_folds_do(parts):
    seen = []

    class Spy(Stub):
        def __init__(self, n_factors=2, seed=0, rates=False, random_state=0):
            super().__init__(n_factors, seed, rates)
            self.random_state = random_state

        def get_params(self, deep=True):
            return {"random_state": self.random_state}

        def fit(self, ratings):
            seen.append(self.random_state)
            return super().fit(ratings)

    compare({"a": Spy(), "b": Spy(), "c": Spy(random_state=5)}, parts[0], 3, metrics="ndcg")
    a, b, c = (seen[start::3] for start in range(3))
    assert a == b
    assert a[0] == 0
    assert c[0] == 5
    assert len({*a, *c}) == 6


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_difference_is_found_and_its_direction_told(parts, fitted, method):
    found = compare(fitted, parts[2], baseline="bias", method=method, n_resamples=400, refits=1)
    assert [(each.metric, each.first, each.verdict) for each in found.differences] == [
        ("ndcg@10", "mf", "better"), ("ndcg@10", "popular", "better")]
    rated = compare({"bias": fitted["bias"], "mf": fitted["mf"]}, parts[2], method=method,
                    n_resamples=400, refits=1)
    assert [(each.metric, each.verdict) for each in rated.differences] == [
        ("rmse", "worse"), ("ndcg@10", "worse")]
    assert rated["rmse"][0].difference > 0


def test_metrics_of_which_neither_is_better_are_higher_or_lower(parts, fitted):
    found = compare(fitted, parts[2], metrics=["novelty", "popularity"], baseline="popular",
                    refits=0)
    assert {(each.metric, each.verdict) for each in found.differences} == {
        ("novelty@10", "higher"), ("popularity@10", "lower")}


def test_two_seeds_of_one_model_are_no_difference(parts):
    """Two fits of few epochs differ by more than their users tell."""
    models = {"a": mf(1, solver="sgd"), "b": mf(2, solver="sgd")}
    alone = {name: mf(seed, solver="sgd").fit(parts[1]) for name, seed in (("a", 1), ("b", 2))}
    for found in (compare(models, parts[0]), compare(alone, parts[2]),
                  compare(models, parts[0], folds=[parts[1:]])):
        assert {each.verdict for each in found.differences} == {NONE}
        assert all(each.at_most > 0 for each in found.differences)


def test_a_single_fold_is_fitted_again(parts):
    found = compare({"mf": mf(), "bias": BiasOnly()}, parts[0], folds=[parts[1:]], refits=2)
    assert (found.n_folds, found.n_fits) == (1, 3)
    wanted = [evaluate(contest.reseeded(mf(), number).fit(parts[1]), parts[2], metrics="rmse")
              for number in range(3)]
    assert found.values["mf"]["rmse"] == pytest.approx(np.mean([each["rmse"] for each in wanted]))


def test_the_same_model_twice_differs_by_nothing(parts, fitted):
    found = compare({"a": fitted["mf"], "b": fitted["mf"]}, parts[2], refits=0)
    for each in found.differences:
        assert (each.difference, each.p, each.verdict, each.at_most) == (0, 1, NONE, 0)


def test_more_comparisons_ask_for_more(parts, fitted):
    few = compare({name: fitted[name] for name in ("mf", "bias")}, parts[2], metrics="ndcg",
                  refits=0)
    many = compare(fitted, parts[2], metrics=["ndcg", "recall", "mrr"], refits=0)
    assert many["ndcg@10"][0].p == few["ndcg@10"][0].p == few["ndcg@10"][0].p_holm
    assert many["ndcg@10"][0].p_holm > few["ndcg@10"][0].p_holm


def test_users_are_told_apart_by_id_across_folds():
    """Folds with other users: each is a user of its own; the same ones in another order are not."""
    rng = np.random.default_rng(0)
    whole = Ratings(samples.random_array((40, 12), density=0.5, format="csr", rng=rng),
                    user_ids=[f"u{u}" for u in range(40)], item_ids=np.arange(12))
    train, test = split.random_split(whole, 0.3, random_state=0)
    rows = rng.permutation(40)
    folds = [(train, test), (train.select_users(rows), test.select_users(rows))]
    found = compare({"bias": BiasOnly(), "popular": Popularity()}, whole, folds=folds,
                    metrics="ndcg@3")
    assert found.n_users == compare({"bias": BiasOnly(), "popular": Popularity()}, whole,
                                    folds=folds[:1], metrics="ndcg@3").n_users
    halves = [(train, test.select_cells(test.users_of_cells % 2 == part)) for part in (0, 1)]
    assert compare({"bias": BiasOnly(), "popular": Popularity()}, whole, folds=halves,
                   metrics="ndcg@3").n_users == found.n_users


@pytest.mark.kernel
def test_users_without_a_value_of_one_model_are_left_out_of_the_pair():
    test, features = samples.matrix(8, 6, seed=3), np.arange(12).reshape(6, 2) % 5
    users = np.repeat(np.flatnonzero(np.diff(test.indptr)), 2)
    one, other = ({"user": users, "item": np.resize(items, len(users))}
                  for items in ([0, 1, 2, 3], [4, 5, 1, 2]))
    short = {name: column[2:] for name, column in other.items()}        # the first has no list
    found, wanted = (compare({"one": one, "other": lists}, test, metrics="entropy@2",
                             item_features=features)
                     for lists in (short, other))
    each = [evaluate_lists(lists, test, metrics="entropy@2", item_features=features,
                           per_user=True)["entropy@2"] for lists in (one, other)]
    gaps = (each[0] - each[1])[np.unique(users)]
    assert found.differences[0].difference == pytest.approx(gaps[1:].mean())
    assert wanted.differences[0].difference == pytest.approx(gaps.mean())
    assert (found.n_users, wanted.n_users) == (len(gaps) - 1, len(gaps))


def test_what_is_printed_says_all(parts, fitted):
    found = compare(fitted, parts[2], refits=0)
    text = str(found)
    for word in ("ndcg@10", "99 % interval", "p (Holm)", "better", "120 users, 1 fit"):
        assert word in text
    same = str(compare({"a": fitted["mf"], "b": fitted["mf"]}, parts[2], refits=0)["ndcg@10"][0])
    assert same.startswith("a against b, ndcg@10: no difference shown, at most 0 (")
    with pytest.raises(KeyError, match=r"metric must be one of ndcg@10, got 'mrr'"):
        found["mrr"]


def test_lists_of_another_library_are_compared_with_models(parts, fitted):
    items, scores = fitted["mf"].recommend(k=10)
    lists = {"user": np.repeat(np.arange(120), 10), "item": items.ravel(), "score": scores.ravel()}
    found = compare({"lists": lists, **fitted}, parts[2], metrics=["ndcg", "novelty"], refits=0)
    assert found.values["lists"] == pytest.approx(found.values["mf"])
    assert found["ndcg@10"][0].verdict == NONE
    assert found["ndcg@10"][1].verdict == "better"


# ------------------------------------------------------------------------------ refusals

class NeverFitted(Stub):
    random_state = 0

    def fit(self, ratings):
        raise AssertionError("fitted before all was checked")


class NeverAsked(Stub):
    def scorer(self, *asked):
        raise AssertionError("asked before all was checked")

    predict = scorer


@pytest.mark.kernel
@pytest.mark.parametrize(("options", "error", "message"), [
    ({"metrics": "correctness"}, ValueError, "metrics must be one of"),
    ({"metrics": "gini"}, ValueError, "gini is a number of all lists together"),
    ({"metrics": "entropy"}, ValueError, "item_features must be one row per item"),
    ({"k": 9}, ValueError, "k must be <= the number of items, 8, got 9"),
    ({"metrics": "ndcg@12"}, ValueError, "k must be <= the number of items, 8, got 12"),
    ({"baseline": "c"}, ValueError, "baseline must be one of 'a', 'b', got 'c'"),
    ({"confidence": 1}, ValueError, "confidence must be a share"),
    ({"confidence": "high"}, TypeError, "confidence must be a real number"),
    ({"method": "anova"}, ValueError, "method must be one of 't'"),
    ({"n_resamples": 0}, ValueError, "n_resamples must be >= 1"),
    ({"refits": -1}, ValueError, r"refits must be in \[0, 1000\], got -1"),
    ({"random_state": -1}, ValueError, "random_state must be >= 0"),
    ({"cutoff": 3}, TypeError, "cutoff"),
    ({"per_user": True}, TypeError, "per_user"),
])
@pytest.mark.parametrize("made", [NeverFitted, NeverAsked])
def test_options_are_refused_before_any_work(made, options, error, message):
    train, test = samples.matrix(seed=1), samples.matrix(seed=2)
    models = {"a": made(), "b": made()}
    if made is NeverAsked:
        models = {name: model.fit(train) for name, model in models.items()}
    with pytest.raises(error, match=message):
        compare(models, test, **{"k": 3, **options})


def named(prefix, n=8):
    return Ratings(samples.matrix(), item_ids=[f"{prefix}{i}" for i in range(n)])


@pytest.mark.kernel
@pytest.mark.parametrize(("models", "error", "message"), [
    ([Stub(), Stub()], TypeError, "models must be a mapping from name to model, got list"),
    ({"a": Stub()}, ValueError, r"models must be at least two, named by strings, got \['a'\]"),
    ({1: Stub(), 2: Stub()}, ValueError, "named by strings"),
    ({"a": Stub().fit(samples.matrix()), "b": Stub()}, ValueError, "all be fitted, .* got b not"),
    ({"a": Stub().fit(samples.matrix()), "b": 3}, TypeError, r"models\['b'\] must be a model, or"),
    ({"a": Stub().fit(named("i")), "b": Stub().fit(named("j"))}, ValueError,
     "fitted on the same items, .* got 8 of a and 8 of b, of which 0 are the same"),
    ({"a": Stub().fit(named("i")), "b": Stub().fit(samples.matrix())}, ValueError, "same items"),
    ({"a": Stub().fit(samples.matrix()), "b": Stub().fit(samples.matrix(11, 9))}, ValueError,
     "got 8 of a and 9 of b"),
    ({"a": Stub().fit(samples.matrix()), "b": Stub().fit(samples.matrix(12))}, ValueError,
     "same users, in the same order, got 11 of a and 12 of b"),
    ({"a": Stub().fit(samples.matrix()), "b": Stub().fit(samples.matrix(seed=4))}, ValueError,
     "a and b were fitted on different ratings"),
])
def test_models_that_cannot_be_compared_are_refused(models, error, message):
    with pytest.raises(error, match=message):
        compare(models, samples.matrix(seed=9), k=3)


@pytest.mark.kernel
def test_models_fitted_on_integers_and_on_their_text_can_be_compared():
    numbers, texts = (Ratings(samples.matrix(), item_ids=list(map(kind, range(10, 18))))
                      for kind in (int, str))
    test = Ratings(samples.matrix(seed=9), item_ids=numbers.item_ids)
    found = compare({"a": Stub().fit(numbers), "b": Stub().fit(texts)}, test, k=3).values
    assert found["a"] == found["b"]


@pytest.mark.kernel
def test_items_in_another_order_are_refused():
    turned = Ratings(samples.matrix(), item_ids=[f"i{i}" for i in range(8)][::-1])
    with pytest.raises(ValueError, match="in the same order, .* of which 8 are the same"):
        compare({"a": Stub().fit(named("i")), "b": Stub().fit(turned)}, named("i"), k=3)


@pytest.mark.kernel
@pytest.mark.parametrize("made", [NeverFitted, NeverAsked])
def test_a_single_user_is_refused(made):
    train, test = samples.matrix(), samples.matrix()[[0]]
    test.resize(11, 8)
    models = {"a": made(), "b": made()}
    if made is NeverAsked:
        models = {name: model.fit(train) for name, model in models.items()}
        given = {}
    else:
        given = {"folds": [(train, test)]}
    with pytest.raises(ValueError, match="test ratings of at least two users, got 1"):
        compare(models, test, k=3, **given)


@pytest.mark.kernel
def test_one_user_with_relevant_items_left_is_refused():
    train = samples.matrix(seed=1).tolil()
    test = train.copy()
    test[samples.SILENT_USER, 5] = 3.0
    train, test = train.tocsr(), test.tocsr()
    models = {"a": Stub().fit(train), "b": Stub(seed=1).fit(train)}
    with pytest.raises(ValueError, match="at least two users with a value of ndcg@3, got 1"):
        compare(models, test, k=3)


@pytest.mark.kernel
def test_no_folds_are_refused():
    with pytest.raises(ValueError, match="folds must hold at least one"):
        compare({"a": Stub(), "b": Stub()}, samples.matrix(), folds=[], k=3)


@pytest.mark.kernel
def test_scores_that_are_not_numbers_are_refused():
    train = samples.matrix(seed=1)
    models = {"a": line_model(np.arange(8), train), "b": line_model([np.nan] * 8, train)}
    with pytest.raises(ValueError, match="scores must not be NaN"):
        compare(models, samples.matrix(seed=2), k=3)


def test_a_model_of_features_is_not_fitted_again_in_silence(parts):
    features = np.arange(120)[:, None] % 2 * 1.0
    from mfcore.data.features import numeric

    model = mf().fit(parts[1], user_features=numeric(features[:, 0], "x"))
    with pytest.raises(ValueError, match="refits must be 0 for mf, which was fitted with features"):
        compare({"mf": model, "bias": BiasOnly().fit(parts[1])}, parts[2])
    found = compare({"mf": model, "bias": BiasOnly().fit(parts[1])}, parts[2], refits=0)
    assert found["rmse"][0].verdict == "better"


# --------------------------------------------------------------------------- a hundred times

TRIALS = {"als": lambda seed: mf(seed), "sgd": lambda seed: mf(seed, solver="sgd"),
          "implicit": lambda seed: ImplicitMF(4, random_state=seed),
          "bpr": lambda seed: BPR(4, n_epochs=10, random_state=seed)}


@pytest.mark.soak
@pytest.mark.parametrize("kind", TRIALS)
@pytest.mark.parametrize("form", ["folds", "fitted"])
def test_of_a_hundred_pairs_of_seeds_ninety_five_show_no_difference(kind, form):
    shown = 0
    for trial in range(100):
        ratings = synthetic.planted(120, 60, random_state=trial).ratings
        models = {name: TRIALS[kind](2 * trial + place) for place, name in enumerate("ab")}
        if form == "fitted":
            train, ratings = split.per_user_split(ratings, 0.3, random_state=trial)
            models = {name: model.fit(train) for name, model in models.items()}
        found = compare(models, ratings, random_state=trial)
        shown += any(each.verdict != NONE for each in found.differences)
    assert shown <= 5, f"{kind}, {form}: {shown} of 100 differ"


@pytest.mark.soak
@pytest.mark.parametrize("form", ["folds", "fitted"])
def test_of_a_hundred_planted_differences_ninety_five_are_found(form):
    found = 0
    for trial in range(100):
        ratings = synthetic.planted(120, 60, random_state=trial).ratings
        models = {"mf": mf(trial), "bias": BiasOnly()}
        if form == "fitted":
            train, ratings = split.per_user_split(ratings, 0.3, random_state=trial)
            models = {name: model.fit(train) for name, model in models.items()}
        differences = compare(models, ratings, random_state=trial).differences
        found += [each.verdict for each in differences] == ["better", "better"]
    assert found >= 95, f"{form}: {found} of 100 found"
