"""Calls in any order: what holds after one holds after every sequence of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import samples
import scipy.sparse as sp
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from reliability import record

import mfcore
from mfcore.models.registry import MODELS
from mfcore.parallel import Pool

seeds = st.integers(0, 99)
PARTIAL, GROWING, FORGETFUL = ([getattr(mfcore, name) for name, entry in MODELS.items()
                                if entry.answer(ability) != "no"]
                               for ability in ("partial_fit", "new_items", "forget_items"))
tried: Counter[str] = Counter()


class Calls(RuleBasedStateMachine):
    """One model, and beside it what its users have rated."""

    made: Any = None

    def __init__(self) -> None:
        super().__init__()
        tried["sequences"] += 1
        self.model = samples.small(self.made)
        self.seen = np.zeros((0, 0), bool)
        self.pool = Pool(1)                         # (BLAS is held once, not for each call)
        self.pool.__enter__()

    def teardown(self) -> None:
        self.pool.__exit__(None, None, None)

    def rows(self, n_users: int, seed: int) -> sp.csr_array:
        return samples.counts(n_users, self.seen.shape[1], seed=seed)

    @initialize(seed=seeds, named=st.booleans())
    def first(self, seed: int, named: bool) -> None:
        self.fit(7, 6, seed, named)

    @rule(n_users=st.integers(2, 9), n_items=st.integers(5, 9), seed=seeds, named=st.booleans())
    def fit(self, n_users: int, n_items: int, seed: int, named: bool) -> None:
        cells = samples.counts(n_users, n_items, seed=seed)
        self.model.fit(samples.named(cells) if named else cells)
        self.seen = samples.stored(cells)

    @rule(n_users=st.integers(1, 3), start=st.integers(0, 9), seed=seeds,
          how=st.sampled_from(["add", "replace"]))
    def partial_fit(self, n_users: int, start: int, seed: int, how: str) -> None:
        """Put new ratings to those of known users, or in their place, and new users behind them."""
        n_known = len(self.seen)
        rows = np.arange(min(start, n_known), min(start, n_known) + n_users)
        cells = self.rows(n_users, seed)
        users = rows if self.model.user_ids_ is None else [f"u{row}" for row in rows]
        if self.made not in PARTIAL:
            with pytest.raises(NotImplementedError):
                self.model.partial_fit(cells, users=users)
            return
        grown = np.zeros((max(n_known, rows.max(initial=-1) + 1), self.seen.shape[1]), bool)
        grown[:n_known] = self.seen
        grown[rows] = samples.stored(cells) | (grown[rows] if how == "add" else False)
        if self.made is mfcore.BPR and grown.all(axis=1).any():
            return                                          # (which it refuses)
        self.model.partial_fit(cells, users=users, how=how)
        self.seen = grown

    @rule(seed=seeds)
    def update(self, seed: int) -> None:
        """Put a new user, and a new item that some users take, behind the others."""
        n_users, n_items = self.seen.shape
        taken = np.flatnonzero(np.append(True, np.random.default_rng(seed).random(n_users) < 0.4))
        new = [n_users, *taken], [0, *[n_items] * len(taken)]
        names = [[f"{kind}{number}" for number in numbers] for kind, numbers in
                 zip("ui", new, strict=True)]
        numbered = self.model.user_ids_ is None
        day = mfcore.Ratings.from_arrays(*(new if numbered else names))
        if self.made not in GROWING:
            with pytest.raises(NotImplementedError):
                self.model.update(day)
            return
        self.model.update(day)
        self.seen = np.pad(self.seen, ((0, 1), (0, 1)))
        self.seen[new] = True

    @rule(user=st.integers(0, 4), item=st.integers(0, 4))
    @precondition(lambda self: self.made in FORGETFUL and min(self.seen.shape) > 5
                  and self.seen.sum() > 20)
    def forget(self, user: int, item: int) -> None:
        """Leave a user and an item out, where they have names the last (others are called by row).
        """
        if self.model.user_ids_ is not None:
            user, item = self.seen.shape[0] - 1, self.seen.shape[1] - 1
            self.model.forget([f"u{user}"], [f"i{item}"])
        else:
            self.model.forget([user], [item])
        self.seen = np.delete(np.delete(self.seen, user, 0), item, 1)

    @rule(n_users=st.integers(1, 4), seed=seeds)
    def fold_in(self, n_users: int, seed: int) -> None:
        cells = self.rows(n_users, seed)
        before = self.model.recommend(k=3)
        self.model.fold_in_users(cells)
        self.check_lists(*self.model.recommend(ratings=cells, k=12), samples.stored(cells))
        for old, new in zip(before, self.model.recommend(k=3), strict=True):
            np.testing.assert_array_equal(old, new)

    @rule(n_epochs=st.integers(3, 5), n_threads=st.integers(1, 2))
    def set_params(self, n_epochs: int, n_threads: int) -> None:
        given = {"n_epochs": n_epochs, "n_threads": n_threads}
        known = self.model.get_params(deep=False)
        self.model.set_params(**{name: value for name, value in given.items() if name in known})

    @rule()
    @precondition(lambda self: "n_factors" in self.model.get_params(deep=False))
    def set_another_size(self) -> None:
        """Refused until the model is fitted again, or the size put right."""
        right = self.model.n_factors
        self.model.set_params(n_factors=right + 1)
        with pytest.raises(ValueError, match="n_factors"):
            self.model.recommend()
        self.model.set_params(n_factors=right)

    @rule()
    def refit_in_vain(self) -> None:
        """A fit that is refused leaves the model."""
        with pytest.raises(ValueError, match="at least one rating"):
            self.model.fit(sp.csr_array((3, 3)))

    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            self.model.save(path)
            again = mfcore.load(path)
        assert samples.answers(again) == samples.answers(self.model)
        self.model = again

    @rule(users=st.lists(st.integers(0, 12), max_size=4))
    def predict(self, users: list[int]) -> None:
        named = self.model.user_ids_ is not None
        asked = [f"u{user}" for user in users] if named else users
        for item in ("i0", "never seen") if named else (0, 99):
            scores = self.model.predict(asked, item)
            assert scores.shape == (len(users),)
            assert np.isfinite(scores).all()

    @invariant()
    def lists_hold_what_is_not_seen(self) -> None:
        tried["calls"] += 1
        if len(self.seen):
            assert self.model.ratings_.shape == self.seen.shape
            for similarity in ("dot", "cosine"):
                self.check_lists(*self.model.recommend(k=12, similarity=similarity), self.seen)

    def check_lists(self, items: np.ndarray, scores: np.ndarray, seen: np.ndarray) -> None:
        """Each list holds what its user has not rated, once, best first; then nothing."""
        ids = self.model.item_ids_
        places = {name: place for place, name in enumerate(range(seen.shape[1]) if ids is None
                                                           else ids.tolist())}
        for row, values, known in zip(items.tolist(), scores, seen, strict=True):
            left = len(known) - known.sum()
            assert sorted(places[name] for name in row[:left]) == np.flatnonzero(~known).tolist()
            assert set(row[left:]) <= {-1, None}
            assert np.isfinite(values[:left]).all()
            assert (np.diff(values[:left]) <= 0).all()


def run(made: Any, n_sequences: int) -> None:
    """Try sequences of calls to a model of one class."""
    machine = type(f"CallsOf{made.__name__}", (Calls,), {"made": made})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=n_sequences, stateful_step_count=12, deadline=None, derandomize=True,
        suppress_health_check=list(HealthCheck)))


@pytest.mark.parametrize("made", samples.EVERY)
def test_any_sequence_of_calls_keeps_the_promises(made):
    run(made, 4)


@pytest.mark.soak
def test_many_sequences_of_calls_keep_the_promises():
    tried.clear()
    for made in samples.EVERY:
        run(made, 100)
    record("sequences of fit, partial_fit, fold-in, recommend, predict, set_params, save and load",
           tried["sequences"], "test_sequences.py::test_any_sequence_of_calls_keeps_the_promises",
           calls=tried["calls"])
