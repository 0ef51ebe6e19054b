"""Whatever somebody does to the arrays of a fitted model, no kernel reads what is not there.

Each change and the questions after it are tried in a fork, which may die without harm.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore.models.registry import MODELS

NAMES = [name for name in MODELS if name != "Segmented"]


def cut(value):
    return value[:2].copy()


def resized(value):
    if sp.issparse(value):
        value.resize((2, 2))
    else:
        value.resize((1,) * value.ndim, refcheck=False)
    return value


def far(value):
    """Every cell in a column, and every row at a place, that there is not."""
    if sp.issparse(value):
        value.indices[:] = 10**8
        value.indptr[1:] = 10**8
    return value


def reshaped(value):
    value.shape = (value.size, *(1,) * (value.ndim - 1))
    return value


def asked(model):
    rated = dict.fromkeys(range(3), 3.0)
    for ask in (lambda: model.recommend(k=3), lambda: model.recommend(ratings=rated, k=2),
                lambda: model.predict([1, 2], [2, 3]), lambda: model.similar_items([1], k=2),
                lambda: model.similar_users([1], k=2), lambda: model.fold_in_users(rated),
                lambda: model.recommend_users([1], k=2)):
        with suppress(Exception):
            ask()


@pytest.mark.parametrize("name", NAMES)
def test_no_change_of_a_fitted_array_ends_the_process(name):
    model = samples.small(getattr(mfcore, name)).fit(samples.counts())
    asked(model)                                        # (a fork need not load kernels)
    arrays = {part for part, value in model.fitted_attributes().items()
              if isinstance(value, np.ndarray) or sp.issparse(value)}
    for part, change in itertools.product(sorted(arrays | {"user_factors_", "item_factors_"}),
                                          (cut, resized, far, reshaped)):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                value = change(getattr(model, part))
                with suppress(Exception):
                    setattr(model, part, value)
            with suppress(BaseException):
                asked(model)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert not os.WIFSIGNALED(status), f"{part}, {change.__name__}: {os.WTERMSIG(status)}"


@pytest.mark.parametrize("name", ["ImplicitMF", "MatrixFactorization", "PureSVD", "NeuralMF"])
def test_vectors_of_another_shape_are_refused(name):
    model = samples.small(getattr(mfcore, name)).fit(samples.counts())
    before = model.recommend(k=3)[1]
    for part in ("user_factors_", "item_factors_"):
        held = getattr(model, part)
        for other in (held[:3], held[:, :1], held[0], np.vstack([held, held])):
            with pytest.raises(ValueError, match=f"{part} must have shape .*, as the fit left it"):
                setattr(model, part, other)
        with pytest.raises(TypeError, match=f"{part} must be numbers"):
            setattr(model, part, held.astype(str))
    np.testing.assert_array_equal(model.recommend(k=3)[1], before)


@pytest.mark.parametrize("name", ["EASE", "SparseEASE", "ItemKNN", "RP3Beta"])
def test_weights_of_another_shape_are_refused_where_they_are_used(name):
    model = samples.small(getattr(mfcore, name)).fit(samples.counts())
    model.weights_ = model.weights_[:3, :3]
    for ask in (lambda: model.recommend(k=3), lambda: model.predict([1], [2])):
        with pytest.raises(ValueError, match="weights_ must have shape"):
            ask()


def test_degrees_of_another_length_are_refused_where_they_are_used():
    for part in ("user_degrees_", "item_degrees_"):
        model = samples.small(mfcore.GraphFilter).fit(samples.counts())
        setattr(model, part, getattr(model, part)[:2])
        with pytest.raises(ValueError, match="degrees must have one entry per row and column"):
            model.recommend(k=3)


@pytest.mark.parametrize("loaded", [False, True])
def test_sparse_weights_are_frozen_after_a_fit_and_in_a_loaded_model(loaded, tmp_path):
    model = samples.small(mfcore.ItemKNN).fit(samples.counts())
    if loaded:
        model.save(tmp_path / "m")
        model = mfcore.load(tmp_path / "m")
    with pytest.raises(TypeError, match="frozen"):
        model.weights_.resize((3, 3))
    with pytest.raises(ValueError, match="read-only"):
        model.weights_.indices[:] = 9
