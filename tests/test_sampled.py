"""Answers of samples: spreads of pairs of any ids, and checkpoints of another chain."""

from __future__ import annotations

import numpy as np
import pytest
import samples

from mfcore import BayesianMF, Ratings
from mfcore.data.features import one_hot

GROUPS = one_hot(["uk", "fr", "uk", "de", "fr", "uk", "de", "uk", "fr", "uk", "de"], "country")


def model(**params) -> BayesianMF:
    return BayesianMF(**{"n_factors": 3, "n_epochs": 24, "burn_in": 4, "keep": 20,
                         "random_state": 0, "n_threads": 1, **params})


def test_the_spread_has_a_number_a_pair_whatever_the_ids_are():
    items = [("film", number) for number in range(8)]
    named = model().fit(Ratings(samples.matrix(), user_ids=list("abcdefghijk"), item_ids=items))
    plain = model().fit(samples.matrix())
    for users, rows in ((["a", "c"], [0, 2]), ("b", 1)):
        scores, std = named.predict(users, items[2:4], return_std=True)
        assert scores.shape == std.shape == (2,)
        np.testing.assert_array_equal(std, plain.predict(rows, [2, 3], return_std=True)[1])


@pytest.mark.parametrize("bias", ["learned", "mean", None])
@pytest.mark.parametrize("features", [None, GROUPS])
def test_of_whom_nothing_is_known_the_spread_is_that_of_the_prior(bias, features):
    fitted = model(bias=bias).fit(samples.matrix(), user_features=features)
    known = fitted.predict(np.repeat(np.arange(11), 8), np.tile(np.arange(8), 11),
                           return_std=True)[1].mean()
    items = np.arange(8)
    stranger = fitted.predict(99, items, return_std=True)[1]
    empty = samples.matrix()[[samples.SILENT_USER]]
    folded = fitted.predict(0, items, ratings=empty, return_std=True)[1]
    np.testing.assert_allclose(stranger, folded, rtol=1e-4)
    assert fitted.predict(99, 99, return_std=True)[1][0] > known / 2
    assert (stranger > 0).all()


def test_the_checkpoint_of_a_chain_of_another_length_is_refused(tmp_path):
    def stop(model, record):
        if record["epoch"] == 8:
            raise KeyboardInterrupt

    path = tmp_path / "chain"
    with pytest.raises(KeyboardInterrupt):
        model().fit(samples.matrix(), checkpoint=path, callbacks=[stop])
    with pytest.raises(ValueError, match="another fit: n_epochs is 24 there and 30 here"):
        model(n_epochs=30).fit(samples.matrix(), checkpoint=path)
    resumed = model().fit(samples.matrix(), checkpoint=path)
    np.testing.assert_array_equal(resumed.user_factors_,
                                  model().fit(samples.matrix()).user_factors_)
