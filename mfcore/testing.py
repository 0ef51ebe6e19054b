"""What holds for every recommender of this library, as checks for yours.

    from mfcore.testing import check_recommender, recommender_checks

    check_recommender(MyModel(n_epochs=2))                # raises AssertionError, or returns

    @pytest.mark.parametrize("check", recommender_checks(MyModel(n_epochs=2)), ids=str)
    def test_my_model(check):                             # one test per promise
        check()

A model is asked through its public methods alone.  So a recommender of another library can be
tried, too, behind an adapter that has

* `fit(ratings)`, which takes a SciPy matrix or `Ratings` and returns the model, and
* `recommend(users=None, k=10, exclude_seen=True)`, which returns items and scores, both of
  shape (n_users, k), best first, padded with -1 and -inf.

What else is tried depends on what it has: `predict`, `get_params`, `save`,
`recommend(ratings=...)`.  A subclass of `mfcore.Recommender` has all of it, and what it cannot do
is held against the table in `mfcore/models/registry.py`.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings

SHAPE = 23, 14
SILENT_USER, SILENT_ITEM = 3, 4                 # without ratings


class Check(NamedTuple):
    """A promise, and the function that tries it: call it; it raises AssertionError."""

    promise: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Try it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # (small ratings say little, and models warn)
            self.run()

    def __str__(self) -> str:
        return self.promise


def check_recommender(model: Any, ratings: Any = None) -> None:
    """Try all promises on copies of an unfitted model.

    Parameters
    ----------
    model : object
        Unfitted, with settings that make a fit quick.
    ratings : sparse matrix or Ratings, or None
        What it is fitted to; None: 23 users × 14 items with counts from 1 to 5, among them a user
        and an item without any.

    Raises
    ------
    AssertionError
        Names each promise that is broken, and how.
    """
    broken = []
    for check in recommender_checks(model, ratings):
        try:
            check()
        except Exception as error:              # whatever it is, others are still tried
            broken.append(f"* {check.promise}: {type(error).__name__}: {error}")
    if broken:
        raise AssertionError("\n".join([
            f"{type(model).__name__} breaks {len(broken)} promises:", *broken]))


def recommender_checks(model: Any, ratings: Any = None) -> list[Check]:
    """Return the checks that apply to a model, to be called one by one.

    Parameters are those of `check_recommender`.
    """
    contract = Contract(model, sample() if ratings is None else ratings)
    return [Check(promise, run) for promise, run in contract.promises()]


def sample(seed: int = 0) -> sp.csr_array:
    """Return counts from 1 to 5, with a user and an item that have none."""
    random = np.random.default_rng(seed)
    stored = random.random(SHAPE) < 0.5
    stored[0, :2], stored[0, 2:] = True, False
    stored[SILENT_USER], stored[:, SILENT_ITEM] = False, False
    return sp.csr_array(np.where(stored, random.integers(1, 6, SHAPE), 0).astype(np.float32))


class Contract:
    """The promises, for one model and ratings."""

    def __init__(self, model: Any, ratings: Any) -> None:
        self.model = model
        self.ratings = ratings if isinstance(ratings, Ratings) else Ratings(ratings)
        self.matrix = self.ratings.by_user
        self.seen = np.zeros(self.matrix.shape, bool)
        self.seen[self.matrix.nonzero()] = True
        self.known = list(range(self.matrix.shape[0]) if self.ratings.user_ids is None
                          else self.ratings.user_ids)

    def promises(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield the name and the function of each that applies."""
        yield "fit returns the model", self._fit_returns_the_model
        yield "fit leaves the ratings as they are", self._ratings_stay
        yield "a model that is not fitted says so", self._unfitted
        yield "lists hold what is new to the user, once, best first, padded", self._lists
        yield "exclude_seen=False ranks every item", self._everything
        yield "a user has the same list alone and in a batch", self._alone
        yield "answers are in the order of the questions", self._order
        yield "a user who is not known is refused", self._unknown_user
        yield "k must be a positive number", self._wrong_k
        yield "ratings that are no numbers are refused, and the model stays", self._bad_ratings
        yield "copies and pickles answer to the same bits", self._copies
        if find_spec("hypothesis") is not None:
            yield "any ratings give lists or a sentence", self._any_ratings
        if hasattr(self.model, "predict"):
            yield "predictions are finite for every user and item", self._finite
        if hasattr(self.model, "get_params"):
            yield "fit changes no parameter", self._parameters_stay
            if "random_state" in self.model.get_params():
                yield "the same seed gives the same bits", self._seed
            if "n_threads" in self.model.get_params():
                yield "one and two threads give the same bits", self._threads
        if hasattr(self.model, "save"):
            yield "a model comes back from its file to the same bits", self._file
        if "ratings" in inspect.signature(self.model.recommend).parameters:
            yield "a new user is offered what is new to them", self._new_users
        if hasattr(type(self.model), "begin"):
            yield "it can do what the table of models says, and nothing else", self._abilities

    # ------------------------------------------------------------------------- fitting

    def _fresh(self, **parameters: Any) -> Any:
        model = copy.deepcopy(self.model)
        names = model.get_params() if hasattr(model, "get_params") else {}
        if "random_state" in names and names["random_state"] is None:
            parameters.setdefault("random_state", 0)
        return model.set_params(**parameters) if parameters else model

    def _fitted(self, **parameters: Any) -> Any:
        return self._fresh(**parameters).fit(self.ratings)

    def _fit_returns_the_model(self) -> None:
        model = self._fresh()
        demand(model.fit(self.ratings) is model, "fit must return the model itself")

    def _ratings_stay(self) -> None:
        before = self.matrix.copy()
        self._fitted()
        for name in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(self.matrix, name), getattr(before, name))

    def _parameters_stay(self) -> None:
        model = self._fresh()
        before = repr(model.get_params())
        after = repr(model.fit(self.ratings).get_params())
        demand(after == before, f"they were {before} and are {after}")

    def _seed(self) -> None:
        same(self._fitted(random_state=7).recommend(), self._fitted(random_state=7).recommend())

    def _threads(self) -> None:
        same(self._fitted(n_threads=1).recommend(), self._fitted(n_threads=2).recommend())

    def _unfitted(self) -> None:
        refused(lambda: self._fresh().recommend(), "recommend before fit")

    def _bad_ratings(self) -> None:
        model = self._fitted()
        before = model.recommend()
        for value in (np.nan, np.inf):
            wrong = self.matrix.toarray()
            wrong[0, 0] = value
            refused(partial(model.fit, sp.csr_array(wrong)), f"a rating of {value}")
            same(model.recommend(), before)

    def _any_ratings(self) -> None:
        from hypothesis import HealthCheck, given, settings
        from hypothesis import strategies as st

        @settings(max_examples=10, deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck))
        @given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 9), st.floats(0.1, 1))
        def tried(seed: int, n_users: int, n_items: int, density: float) -> None:
            random = np.random.default_rng(seed)
            stored = random.random((n_users, n_items)) < density
            stored[0, 0] = True
            cells = sp.csr_array(np.where(stored, random.integers(1, 6, stored.shape), 0.0))
            try:
                model = self._fresh().fit(cells)
            except (ValueError, FloatingPointError) as error:
                demand(str(error), "an error must say what is wrong")
            else:
                items, scores = model.recommend(k=n_items)
                self._are_lists(items, scores, stored)

        tried()

    # ------------------------------------------------------------------------- answers

    def _lists(self) -> None:
        n_items = self.matrix.shape[1]
        for k in (1, n_items, n_items + 3):
            items, scores = self._fitted().recommend(k=k)
            demand(items.shape == scores.shape == (len(self.known), k), f"k={k}: {items.shape}")
            self._are_lists(self._columns(items), scores, self.seen)

    def _everything(self) -> None:
        n_items = self.matrix.shape[1]
        items, _ = self._fitted().recommend(k=n_items, exclude_seen=False)
        np.testing.assert_array_equal(np.sort(self._columns(items), axis=1),
                                      np.tile(np.arange(n_items), (len(self.known), 1)))

    def _alone(self) -> None:
        model = self._fitted()
        items, scores = model.recommend(k=4)
        for row, user in enumerate(self.known):
            same(model.recommend([user], k=4), (items[[row]], scores[[row]]))

    def _order(self) -> None:
        model, random = self._fitted(), np.random.default_rng(0)
        order = random.permutation(len(self.known))
        items, scores = model.recommend(k=4)
        same(model.recommend([self.known[row] for row in order], k=4),
             (items[order], scores[order]))

    def _finite(self) -> None:
        model, items = self._fitted(), self._item_ids()
        for user in self.known:
            demand(np.isfinite(model.predict([user] * len(items), items)).all(), f"user {user!r}")

    def _new_users(self) -> None:
        model = self._fitted()
        items, scores = model.recommend(ratings=self.ratings, k=self.matrix.shape[1])
        self._are_lists(self._columns(items), scores, self.seen)

    def _unknown_user(self) -> None:
        model = self._fitted()
        for user in ("nobody of this name", 10**9):
            refused(partial(model.recommend, [user]), f"user {user!r}")

    def _wrong_k(self) -> None:
        model = self._fitted()
        for k in (0, -1, 1.5, "10"):
            refused(partial(model.recommend, k=k), f"k={k!r}")

    def _copies(self) -> None:
        model = self._fitted()
        for made in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            same(made.recommend(), model.recommend())

    def _file(self) -> None:
        from mfcore import load

        model = self._fitted()
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model")
            same(load(Path(folder) / "model").recommend(), model.recommend())

    def _abilities(self) -> None:
        from mfcore.models import registry

        model, made, items = self._fitted(), type(self.model), self._item_ids()
        asked = {"fold_in_items": lambda: model.fold_in_items(self.ratings),
                 "explain": lambda: model.explain(self.known[0], items[0]),
                 "objective": model.objective,
                 "similar_items": lambda: model.similar_items(items[:1]),
                 "similar_users": lambda: model.similar_users(self.known[:1]),
                 "index_vectors": model.index_vectors}
        for ability, ask in asked.items():
            answer = registry.entry(made).answer(ability)
            try:
                ask()
            except NotImplementedError:
                demand(answer != "yes", f"{ability} is listed and not implemented")
            else:
                demand(answer != "no", f"{ability} is implemented and not listed")

    def _item_ids(self) -> list[Any]:
        ids = self.ratings.item_ids
        return list(range(self.matrix.shape[1]) if ids is None else ids)

    def _columns(self, items: np.ndarray) -> np.ndarray:
        place = {item: column for column, item in enumerate(self._item_ids())} | {-1: -1, None: -1}
        return np.array([[place[item] for item in row] for row in items.tolist()])

    @staticmethod
    def _are_lists(items: np.ndarray, scores: np.ndarray, seen: np.ndarray) -> None:
        for row, values, known in zip(items, scores, seen, strict=True):
            n = min(np.count_nonzero(~known), len(row))
            demand(len(set(row[:n].tolist())) == n, f"an item comes twice: {row}")
            demand(not (row[:n] < 0).any(), f"too few: {row}")
            demand(not known[row[:n]].any(), f"seen before: {row}")
            demand((row[n:] == -1).all(), f"not padded with -1: {row}")
            demand((values[n:] == -np.inf).all(), f"not padded with -inf: {values}")
            demand(np.isfinite(values[:n]).all(), f"scores are not finite: {values}")
            demand((np.diff(values[:n]) <= 0).all(), f"not best first: {values}")


def same(found: Any, wanted: Any) -> None:
    """Raise AssertionError unless items and scores are equal to the bit."""
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def refused(ask: Callable[[], Any], what: str) -> None:
    """Raise AssertionError unless asking raises an error that says something."""
    try:
        ask()
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        demand(str(error), f"{what} is refused without a word")
    else:
        raise AssertionError(f"{what} is not refused")


def demand(holds: Any, otherwise: str) -> None:
    """Raise AssertionError unless it holds.  (`python -O` leaves `assert` out.)"""
    if not holds:
        raise AssertionError(otherwise)
