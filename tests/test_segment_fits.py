"""A `Segmented` checks every segment before it fits one, and its labels come back from a file."""

from __future__ import annotations

import datetime
import enum
import warnings
from decimal import Decimal

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import BPR, ImplicitMF, MatrixFactorization, Ratings, Segmented, load
from mfcore.models.registry import MODELS

N_USERS, N_ITEMS = 12, 8
HALVES = ["few", "many"] * 3 + ["many"] * 6          # rows 0, 2 and 4, and the others
FEW = np.array([0, 2, 4])
CELLS = samples.counts(N_USERS, N_ITEMS)
COUNTED = Ratings(CELLS)


class Colour(str, enum.Enum):
    RED = "red"


class Grade(enum.IntEnum):
    FIRST = 1


# Where the cells have none.
UNSEEN = Ratings(sp.csr_array(np.where(samples.stored(CELLS), 0, 1 + np.arange(N_ITEMS) % 5)))


def small(made=MatrixFactorization, **changes):
    return samples.small(made, **changes)


def of_the_many(ratings=COUNTED):
    """Evaluation cells of the larger segment alone."""
    return ratings.select_cells(~np.isin(ratings.users_of_cells, FEW))


def counted(fit):
    """Return what a fit raises and how many epochs it ran."""
    epochs = []
    try:
        fit(lambda model, record: epochs.append(record) or False)
    except (ValueError, TypeError) as error:
        return error, len(epochs)
    return None, len(epochs)


# --------------------------------------------------------------------------- labels

LABELS = {
    "text": "a", "empty text": "", "unicode": "žluť\x00\n", "integer": 3, "large": 2**70,
    "negative": -1, "float": 0.1, "infinite": float("inf"), "true": True, "tuple": ("a", 0),
    "nested": (("a", 1), (), (None, 2.5, (True,))), "numpy integer": np.int64(3),
    "numpy float": np.float32(0.1), "numpy text": np.str_("x"), "numpy bool": np.bool_(False),
    "integer enumeration": Grade.FIRST}
UNKEPT = {
    "date": datetime.date(2020, 1, 1), "numpy date": np.datetime64("2020"), "bytes": b"a",
    "set": frozenset([1]), "decimal": Decimal(1), "complex": 1j, "list": [1], "array": np.ones(2),
    "NaN in a tuple": ("a", float("nan")), "date in a tuple": ("a", datetime.date(2020, 1, 1)),
    "text enumeration": Colour.RED, "an object": object()}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("form", ["list", "mapping"])
def test_labels_come_back_from_a_file_as_they_were(label, form, tmp_path):
    by = [label if name == "few" else ("b", -1) for name in HALVES]
    model = Segmented(small(), dict(enumerate(by)) if form == "mapping" else by).fit(CELLS)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.segment_labels_ == model.segment_labels_ == [label, ("b", -1)]
    assert list(map(type, again.segment_labels_)) == list(map(type, model.segment_labels_))
    assert repr(again.segment_labels_) == repr(model.segment_labels_)
    assert again.history_ == model.history_
    np.testing.assert_array_equal(again.segment(label).user_factors_,
                                  model.segment(label).user_factors_)
    named = samples.counts(2, N_ITEMS, seed=5)
    for one in (model, again):
        one.similar_items([1], 2, segment=label)
        one.recommend(ratings=Ratings(named, user_ids=[0, 1]), k=2)
    again.fit(CELLS)
    assert again.segment_labels_ == model.segment_labels_


@pytest.mark.parametrize("label", UNKEPT.values(), ids=UNKEPT)
def test_labels_that_a_file_does_not_keep_are_refused_before_the_fit(label):
    by = [label if name == "few" else "b" for name in HALVES]
    error, epochs = counted(lambda tell: Segmented(small(), by).fit(CELLS, callbacks=[tell]))
    assert isinstance(error, TypeError)
    assert "labels that a model file can keep" in str(error)
    assert epochs == 0
    elsewhere = {0: "a", 99: label}             # of a user whom the fit does not have
    with pytest.raises(TypeError, match="labels that a model file can keep"):
        Segmented(small(), elsewhere).fit(CELLS)


@pytest.mark.parametrize("by", [range(N_USERS), tuple(HALVES), np.array(HALVES, object),
                                np.arange(N_USERS) % 2, [("a", row % 3) for row in range(N_USERS)]],
                         ids=["range", "tuple", "objects", "integers", "tuples"])
def test_every_sequence_of_labels_can_be_saved(by, tmp_path):
    model = Segmented(small(), by).fit(CELLS)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.segment_labels_ == model.segment_labels_
    again.fit(CELLS)
    assert again.segment_labels_ == model.segment_labels_


# ------------------------------------------------------------------ checks before all fits

def full(rows):
    """The cells, with the given rows complete."""
    dense = CELLS.toarray()
    dense[rows] = 1 + np.arange(N_ITEMS)
    return sp.csr_array(dense)


def unweighted(rows):
    weights = np.where(np.isin(COUNTED.users_of_cells, rows), 0.0, 1.0)
    return Ratings(CELLS, weights=weights)


def negative(rows):
    dense = CELLS.toarray()
    dense[rows] *= -1
    return sp.csr_array(dense)


@pytest.mark.parametrize(("estimator", "ratings", "given"), [
    (small(unknown_weight="balanced"), full(FEW), {}),
    (small(BPR), full(FEW), {}), (small(BPR), negative(FEW), {}),
    (small(eval_metric="no such metric"), CELLS, {"eval_set": CELLS}),
    (small(eval_metric="cross_group_rate"), CELLS, {"eval_set": CELLS}),
    (small(patience=2), CELLS, {}), (small(), CELLS, {"eval_set": CELLS[:5]}),
    (small(), CELLS, {"callbacks": [3]}), (small(), CELLS, {"item_features": [["a"]] * 3}),
    (small(validation=0.1, unknown_weight="balanced"), full(FEW), {}),
], ids=["full", "BPR full", "BPR negative", "metric", "groups", "patience",
        "eval_set", "callback", "features", "validation"])
def test_no_segment_is_fitted_if_one_cannot_be(estimator, ratings, given):
    def fit(tell):
        Segmented(estimator, HALVES).fit(ratings, **{"callbacks": [tell], **given})

    error, epochs = counted(fit)
    assert isinstance(error, (ValueError, TypeError))
    assert epochs == 0
    assert "'few'" in str(error) or "all users" in str(error) or "callbacks" in str(error)


def test_a_generator_as_a_seed_is_not_used_up_by_the_checks():
    fits = [Segmented(small(random_state=np.random.default_rng(5)), HALVES).fit(CELLS)]
    whole = small(random_state=np.random.default_rng(5)).fit(CELLS)
    np.testing.assert_array_equal(fits[0].fallback_.item_factors_, whole.item_factors_)


# ------------------------------------------------------------- segments that go unwatched

PATIENT = [name for name in MODELS if "patience" in getattr(mfcore, name)._parameter_names()]


@pytest.mark.parametrize("name", PATIENT)
def test_a_segment_without_evaluation_cells_runs_all_epochs_with_a_note(name):
    estimator = small(getattr(mfcore, name), patience=1)
    with pytest.warns(UserWarning, match="1 of 2 .* have no part of eval_set to watch: 'few'"):
        model = Segmented(estimator, HALVES).fit(CELLS, eval_set=of_the_many(UNSEEN))
    few, many = model.segment("few"), model.segment("many")
    assert few.n_epochs_ == estimator.n_epochs
    assert few.get_params() == many.get_params() == estimator.get_params()
    assert len(few.history_[0]) < len(many.history_[0])
    alone = small(getattr(mfcore, name)).fit(COUNTED.select_users(FEW))
    np.testing.assert_array_equal(few.item_factors_, alone.item_factors_)


def test_the_note_comes_once_and_not_without_need():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Segmented(small(patience=1), HALVES).fit(CELLS, eval_set=CELLS)
        Segmented(small(), HALVES).fit(CELLS)
    with pytest.warns(UserWarning, match="1 of 2") as told:
        Segmented(small(), HALVES).fit(CELLS, eval_set=of_the_many())
    assert len(told) == 1


def test_a_segment_whose_evaluation_cells_were_all_seen_goes_unwatched():
    known = COUNTED.select_cells(np.isin(COUNTED.users_of_cells, FEW))
    both = Ratings(of_the_many(UNSEEN).by_user + known.by_user)
    with pytest.warns(UserWarning, match="no part of eval_set to watch: 'few'"):
        model = Segmented(small(ImplicitMF, patience=1), HALVES).fit(CELLS, eval_set=both)
    assert "ndcg@10" not in model.segment("few").history_[0]
    assert "ndcg@10" in model.segment("many").history_[0]


def test_a_fit_whose_evaluation_cells_were_all_seen_is_refused_before_its_first_epoch():
    error, epochs = counted(lambda tell: small(ImplicitMF).fit(
        CELLS, eval_set=CELLS, callbacks=[tell]))
    assert "eval_set must hold a relevant cell that takes part in the ranking" in str(error)
    assert epochs == 0


def test_a_segment_with_nothing_to_hold_out_runs_all_epochs_with_a_note():
    dense = CELLS.toarray()
    dense[FEW] = 0
    dense[FEW, [1, 2, 3]] = 4.0                         # one rating each
    with pytest.warns(UserWarning, match="1 of 2 segments have no share to hold out: 'few'"):
        model = Segmented(small(validation=0.3), HALVES).fit(sp.csr_array(dense))
    assert model.segment("few").n_epochs_ == small().n_epochs
    assert model.segment("few").validation == 0.3


def test_a_held_out_share_stands_in_for_an_evaluation_set_that_holds_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Segmented(small(validation=0.3), HALVES).fit(CELLS, eval_set=of_the_many())
    assert hasattr(model.segment("few"), "validation_history_")


@pytest.mark.parametrize("ids", ["numbers", "names", "reversed"])
def test_each_segment_watches_the_cells_of_its_own_users(ids):
    """Also where the evaluation set names its users and the ratings number them."""
    held = Ratings(samples.counts(N_USERS, N_ITEMS, seed=9))
    order = np.arange(N_USERS)[::-1] if ids == "reversed" else np.arange(N_USERS)
    given = held if ids == "numbers" else Ratings(held.by_user[order], user_ids=order)
    model = Segmented(small(), HALVES).fit(CELLS, eval_set=given)
    for label, rows in (("few", FEW), ("many", np.setdiff1d(np.arange(N_USERS), FEW))):
        alone = small().fit(COUNTED.select_users(rows), eval_set=held.select_users(rows))
        assert [record["rmse"] for record in model.segment(label).history_] == \
            [record["rmse"] for record in alone.history_]
