"""The promises that others can be held to: kept by a plain adapter, and each seen to be broken."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from mfcore import Popularity
from mfcore.testing import check_recommender, recommender_checks


class Adapter:
    """A recommender of somebody else: what most users have chosen."""

    def fit(self, ratings):
        cells = sp.csr_array(getattr(ratings, "by_user", ratings))
        if not np.isfinite(cells.data).all():
            raise ValueError("ratings must be finite")
        self.seen = np.zeros(cells.shape, bool)
        self.seen[cells.nonzero()] = True
        return self

    def recommend(self, users=None, k=10, exclude_seen=True):
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be a positive integer, got {k!r}")
        rows = np.arange(len(self.seen)) if users is None else users
        scores = np.tile(self.seen.sum(axis=0).astype(float), (len(rows), 1))
        if exclude_seen:
            scores[self.seen[rows]] = -np.inf
        items = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, items, axis=1)
        items[best == -np.inf] = -1
        missing = [(0, 0), (0, k - items.shape[1])]
        return (np.pad(items, missing, constant_values=-1),
                np.pad(best, missing, constant_values=-np.inf))


def test_an_adapter_with_two_methods_is_tried_and_keeps_every_promise():
    check_recommender(Adapter())
    assert len(recommender_checks(Adapter())) == 12


class Forgetful(Adapter):
    def fit(self, ratings):
        super().fit(ratings)


class Greedy(Adapter):
    def recommend(self, users=None, k=10, exclude_seen=True):
        return super().recommend(users, k, exclude_seen=False)


class Careless(Adapter):
    def fit(self, ratings):
        cells = sp.csr_array(getattr(ratings, "by_user", ratings))
        cells.data = np.nan_to_num(cells.data)
        return super().fit(cells)


class Crowded(Adapter):
    """Scores depend on who else asks."""

    def recommend(self, users=None, k=10, exclude_seen=True):
        items, scores = super().recommend(users, k, exclude_seen)
        return items, scores * len(items)


class Short(Adapter):
    def recommend(self, users=None, k=10, exclude_seen=True):
        items, scores = super().recommend(users, k, exclude_seen)
        return items[:, :self.seen.shape[1]], scores[:, :self.seen.shape[1]]


class Welcoming(Adapter):
    def recommend(self, users=None, k=10, exclude_seen=True):
        users = None if users is None else [
            user if user in range(len(self.seen)) else 0 for user in users]
        return super().recommend(users, k, exclude_seen)


@pytest.mark.parametrize(("made", "promise"), [
    (Forgetful, "fit returns the model"), (Greedy, "lists hold what is new to the user"),
    (Careless, "ratings that are no numbers are refused"),
    (Crowded, "a user has the same list alone and in a batch"),
    (Short, "lists hold what is new to the user"),
    (Welcoming, "a user who is not known is refused")])
def test_a_broken_promise_is_named(made, promise):
    with pytest.raises(AssertionError, match=rf"{made.__name__} breaks \d+ promises:") as raised:
        check_recommender(made())
    assert re.search(rf"^\* {promise}", str(raised.value), re.MULTILINE)


class Boastful(Popularity):
    """It is listed as Popularity, which compares no items."""

    def similar_items(self, items=None, k=10, **options):
        return np.zeros((1, k)), np.zeros((1, k))


def test_what_the_table_of_models_does_not_list_is_found():
    with pytest.raises(AssertionError, match="similar_items is implemented and not listed"):
        check_recommender(Boastful())


def test_importing_the_library_loads_no_testing_and_testing_no_test_tools():
    script = ("import sys, mfcore; mfcore.Popularity; a = 'mfcore.testing' in sys.modules; "
              "import mfcore.testing as t; "
              "print(a, *(name in sys.modules for name in ('hypothesis', 'pytest')))")
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                           check=True)
    assert found.stdout.split() == ["False"] * 3
