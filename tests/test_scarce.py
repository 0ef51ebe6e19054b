"""Memory that runs out, at any array: nothing is half-done, and the next call works."""

from __future__ import annotations

import os
import pickle
import random
import threading
from copy import copy

import numpy as np
import pytest
import samples
import scipy.sparse as sp
from reliability import record
from scarce import asked_for, scarce
from test_parallel import blas_threads

import mfcore
from mfcore import MatrixFactorization, Ratings, evaluate, load, parallel, read_ratings
from mfcore.data.convert import convert

DRAWN, FOR_GOOD = 6, 2               # allocations to refuse; and from which on to refuse all
OLD, NEW = samples.counts(seed=5), samples.counts()
HELD = Ratings(samples.counts(seed=9))

# Class, hyper-parameters, and what else `fit` takes.
FITS = {made.__name__: (made, {}, {}) for made in samples.EVERY}
FITS |= {solver: (MatrixFactorization, {"solver": solver}, {}) for solver in (
    "cholesky", "subspace", "sgd", "adam", "lbfgs")}
FITS |= {
    "threads": (MatrixFactorization, {"n_threads": 2, "unknown_weight": 0.1}, {}),
    "patience": (MatrixFactorization, {"patience": 1, "n_epochs": 4}, {"eval_set": HELD}),
    "held out": (MatrixFactorization, {"validation": 0.2}, {}),
    "reg by the data": (MatrixFactorization, {"reg": "auto", "bias_reg": "auto"}, {}),
    "groups": (MatrixFactorization, {"features": "average"},
               {"user_features": [["a"], ["b"]] * 5 + [["a"]]}),
    "neural groups": (mfcore.NeuralMF, {}, {"item_features": [["a"], ["b"]] * 4}),
    "periods": (MatrixFactorization, {"user_periods": 3, "item_periods": "9D"}, {}),
    "levels in time": (mfcore.BayesianMF, {"likelihood": "ordinal", "user_periods": 3}, {}),
    "half-life": (mfcore.Popularity, {"half_life": "9D"}, {}),
}
# Every allocation of two epochs of small batches would take RecVAE as long as all others together.
SHORTER = {"RecVAE": {"n_epochs": 1, "batch_size": 8}}


def data(params):
    """Ratings of before and of now; with times, one a day, where a model asks for them."""
    if not {"user_periods", "half_life"} & params.keys():
        return OLD, NEW
    return tuple(Ratings(each, times=np.arange(each.nnz) * np.timedelta64(1, "D")
                         + np.datetime64("2020-01-01")) for each in (OLD, NEW))


def plain(value):
    """What is compared of a model's attributes: bits of arrays; not seconds, nor metrics, which
    the last epoch lacks if it could not be measured."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if sp.issparse(value):
        return [plain(getattr(value, name)) for name in ("data", "indices", "indptr")]
    if isinstance(value, Ratings):
        return [plain(getattr(value.by_user, name)) for name in ("data", "indices", "indptr")]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()
                if name not in ("seconds", "rmse")}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    if hasattr(value, "get_params"):
        return state(value)
    return plain(value.matrix.toarray()) if hasattr(value, "matrix") else value


def state(model):
    """All that a fit has left in a model."""
    return plain({**model.fitted_attributes(), **{name: getattr(model, name, None) for name in (
        "ratings_", "models_", "shaped_")}})


def places(work, soak):
    """(which allocation is refused, whether all after it are, too), drawn unless all are asked."""
    total = asked_for(work)
    if soak:
        return [(n, False) for n in range(1, total + 1)]
    draw = random.Random(0)
    last = draw.sample(range(max(1, total - 60), total + 1), min(total, DRAWN // 2))
    return [*((n, False) for n in last),
            *((draw.randint(1, total), number < FOR_GOOD) for number in range(DRAWN))]


def refused(work, n, for_good):
    """Do some work without memory for its n-th array: pools and BLAS are as before."""
    before = threading.active_count(), blas_threads()
    with scarce(n, for_good=for_good), pytest.raises(MemoryError):
        work()
    assert (threading.active_count(), blas_threads()) == before
    assert parallel._guard._holders == 0


def epochs_of(made, params, given):
    """What fits leave that an error has ended after each of their epochs."""
    class StopError(Exception):
        pass

    def stop(model, record):
        epochs.append(record)
        if len(epochs) > len(found):
            raise StopError

    found = []
    while made is not mfcore.Segmented:
        model, epochs = samples.small(made, **params), []
        try:
            model.fit(data(params)[1], callbacks=[stop], **given)
        except StopError:
            found.append(state(model))
        else:
            break
    return found


def fit_in_little_memory(name, soak=False):
    """Refuse memory to a fit of a model that has been fitted before; return how often."""
    made, params, given = FITS[name]
    params = {**params, **SHORTER.get(name, {})} if soak else params
    before, now = data(params)
    old = samples.small(made, **params).fit(before, **given)
    wanted = state(samples.small(made, **params).fit(now, **given))
    whole = [state(old), wanted, *epochs_of(made, params, given)]
    if "validation" in params:
        whole += epochs_of(made, {**params, "refit": False}, given)
    found = places(lambda: copy(old).fit(now, **given), soak)
    for n, for_good in found:
        model = copy(old)
        refused(lambda: model.fit(now, **given), n, for_good)               # noqa: B023
        assert state(model) in whole, f"allocation {n} leaves it half-fitted"
    assert state(model.fit(now, **given)) == wanted
    return len(found)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_without_memory_leaves_the_old_model_or_a_whole_epoch(name):
    assert fit_in_little_memory(name) > 0


@pytest.mark.parametrize("made", [MatrixFactorization, mfcore.BayesianMF, mfcore.NeuralMF])
def test_a_fit_without_memory_goes_on_from_its_checkpoint(made, tmp_path):
    path, small = tmp_path / "checkpoint", samples.small(made)
    wanted = state(samples.small(made).fit(NEW))
    for n, for_good in places(lambda: samples.small(made).fit(NEW, checkpoint=path), False):
        refused(lambda: small.fit(NEW, checkpoint=path), n, for_good)       # noqa: B023
        assert set(os.listdir(tmp_path)) <= {path.name}
        assert state(small.fit(NEW, checkpoint=path)) == wanted
        assert os.listdir(tmp_path) == []


# ----------------------------------------------------------------------------- other calls

FITTED = samples.small(MatrixFactorization).fit(NEW)
ROWS = {"ratings": samples.counts(3, 8, seed=7), "users": [1, 3, 11]}
ASKED = {name: ask for name, ask in samples.questions(FITTED).items()
         if name not in ("predict unknown", "recommend by features", "repr")}
ASKED["evaluate"] = lambda: evaluate(FITTED, HELD)
ASKED["cross_validate"] = lambda: mfcore.cross_validate(samples.small(MatrixFactorization),
                                                        Ratings(NEW), n_folds=2)
ASKED["Ratings"] = lambda: Ratings(NEW)


def ask_in_little_memory(name, soak=False):
    before, answer = state(FITTED), plain(ASKED[name]())
    found = places(ASKED[name], soak)
    for n, for_good in found:
        refused(ASKED[name], n, for_good)
    assert (state(FITTED), plain(ASKED[name]())) == (before, answer)
    return len(found)


@pytest.mark.parametrize("name", ASKED)
def test_a_question_without_memory_changes_nothing(name):
    assert ask_in_little_memory(name) > 0


def refit_in_little_memory(folder, soak=False):
    old, new = copy(FITTED), copy(FITTED).partial_fit(**ROWS)
    found = places(lambda: copy(old).partial_fit(**ROWS), soak)
    for n, for_good in found:
        model = copy(old)
        refused(lambda: model.partial_fit(**ROWS), n, for_good)             # noqa: B023
        assert state(model) == state(old)
    assert state(model.partial_fit(**ROWS)) == state(new)
    return len(found)


def save_in_little_memory(folder, soak=False):
    path, kept = folder / "model", pickle.dumps(samples.small(mfcore.Segmented).fit(NEW))
    FITTED.save(path)
    before, other = path.read_bytes(), pickle.loads(kept)
    found = places(lambda: other.save(folder / "other"), soak)
    (folder / "other").unlink()
    for n, for_good in found:
        other = pickle.loads(kept)                          # (a second save of one asks for none)
        refused(lambda: other.save(path), n, for_good)      # noqa: B023
        assert (os.listdir(folder), path.read_bytes()) == (["model"], before)
    other.save(path)
    assert state(load(path)) == state(other)
    return len(found)


def load_in_little_memory(folder, soak=False):
    FITTED.save(folder / "model")
    found = places(lambda: load(folder / "model"), soak)
    for n, for_good in found:
        refused(lambda: load(folder / "model"), n, for_good)
    assert state(load(folder / "model")) == state(FITTED)
    return len(found)


def table_of(folder):
    """A file of ratings."""
    cells, path = NEW.tocoo(), folder / "ratings.csv"
    lines = [f"u{user},i{item},{value}" for user, item, value in zip(
        *cells.coords, cells.data, strict=True)]
    path.write_text("\n".join(["user,item,rating", *lines, ""]))
    return path


def read_in_little_memory(folder, soak=False):
    path = table_of(folder)
    wanted = plain(read_ratings(path))
    found = places(lambda: read_ratings(path), soak)
    for n, for_good in found:
        refused(lambda: read_ratings(path), n, for_good)
    assert plain(read_ratings(path)) == wanted
    assert os.listdir(folder) == [path.name]
    return len(found)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def convert_in_little_memory(folder, soak=False):
    path = table_of(folder)
    convert(path, folder / "whole")
    found = places(lambda: convert(path, folder / "counted"), soak)
    for number, (n, for_good) in enumerate(found):
        target = folder / f"folder{number}"
        refused(lambda: convert(path, target), n, for_good)                 # noqa: B023
        if not target.exists():
            convert(path, target)
        assert contents(target) == contents(folder / "whole")
    assert not list(folder.glob(".*"))
    return len(found)


OTHERS = {"partial_fit": refit_in_little_memory, "save": save_in_little_memory,
          "load": load_in_little_memory, "read_ratings": read_in_little_memory,
          "convert": convert_in_little_memory}


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls_without_memory_leave_what_was_there(name, tmp_path):
    assert OTHERS[name](tmp_path) > 0


@pytest.mark.soak
def test_every_allocation_refused_leaves_nothing_half_done(tmp_path):
    count = sum(fit_in_little_memory(name, soak=True) for name in FITS)
    count += sum(ask_in_little_memory(name, soak=True) for name in ASKED)
    for name, work in OTHERS.items():
        (tmp_path / name).mkdir()
        count += work(tmp_path / name, soak=True)
    record("allocations refused, each of fits, answers, saves, reads and conversions, that leave "
           "the old state or the new one, whole", count,
           "test_scarce.py::test_every_allocation_refused_leaves_nothing_half_done")


def test_the_n_th_array_is_refused_and_no_other():
    def work():
        made.clear()
        for _ in range(4):
            made.append(np.empty(3))

    made = []
    assert asked_for(work) == 4
    for n in range(1, 5):
        with scarce(n), pytest.raises(MemoryError):
            work()
        assert len(made) == n - 1
