"""Choose hyper-parameters by successive halving on held-out ratings.

Many settings are tried on a sample of the users, the best third on a larger one, the best third
of those on all users for a third of the epochs, and the best of these for all epochs.  The first
setting, the model just as given, goes through all of them: what is best on a small sample may not
be better than a default.  It is what is returned, too, unless another setting is better by half a
standard error of their difference on the held-out ratings.  Where only epochs grow, a fit goes on
from the state that it has, by the library's checkpoints.  Alternating fits take their few epochs
on samples, too: shorter ones prefer weak penalties.  Sizes of vectors are doubled after that, from
a small one, as long as the held-out ratings gain as surely at the last rung but one, and start from
scratch: from padded vectors of a smaller one they are behind after as many epochs.  What is left of
the budget goes to settings next to the best one, in a neighbourhood that shrinks.

The last fit, to all ratings, starts again if the budget allows.  Else, where the solver alternates,
it goes on from the vectors of the best model, for a third of the epochs: with more it would fit
what the number of epochs keeps it from.

Costs are counted, not measured, so that the search does not depend on the machine: one fit of the
model as given, to all ratings, costs 1; others by their share of users, epochs and factors.

Jamieson, Talwalkar 2016; Li et al. 2018 (Hyperband).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mfcore import validation as checks
from mfcore.data.ratings import Ratings
from mfcore.metrics.table import main_metric, of_ratings, sign, watchable
from mfcore.models.sides import training_features, with_history
from mfcore.models.stopping import Plan, epochs_of, searches
from mfcore.models.training import fit_as_planned, training_ratings
from mfcore.progress import alone, progress_bar
from mfcore.tuning.costs import KEPT, Costs, Rung, kept
from mfcore.tuning.judging import Judge, parted, total
from mfcore.tuning.spaces import Doubling, at_points, checked_space, drawn, near, point_of
from mfcore.tuning.trials import Trial, Tuned, framed
from mfcore.validation import DivergenceError

FOR_SIZES = 0.6             # of a budget, for doubled sizes and the last fit
MOST = 1000                 # settings
# Of a neighbourhood: its first width, as a share of the space, and how much of it a miss leaves.
WIDTH, SHRINKS = 0.4, 0.85


def tune(model: Any, ratings: Any, space: Mapping[str, Any] | None = None, *,
         metric: str | None = None, budget: float = 8.0, validation: Any = 0.1,
         user_features: Any = None, item_features: Any = None, random_state: int = 0,
         verbose: int | None = None) -> Tuned:
    """Choose the hyper-parameters of a model on held-out ratings, and fit it with them.

    Parameters
    ----------
    model : estimator
        Its parameters are the first setting that is tried, and stay as they are; what `space`
        does not name keeps its value.
    ratings : Ratings or scipy sparse, shape (n_users, n_items)
        What to learn from; a share of it is held out to choose by.
    space : dict, or None
        Parameter: a list of values, or a distribution with a method `ppf`, such as
        `mfcore.tuning.spaces.LogRange(low, high)` or those of `scipy.stats`; a
        `Doubling(low, high)` of `n_factors` is climbed at the end.  None: the space of the
        class in `mfcore.tuning.spaces.SPACES`.
    metric : str or None
        As in `evaluate`, such as "ndcg@20"; None: "rmse" for models of ratings, else "ndcg@10".
    budget : float
        What the search and the last fit may cost together, in fits of the model as given to
        all ratings.
    validation : float in (0, 1), Ratings, or (fold_in, test)
        Share of the ratings to hold out; or a set of its own, and then `ratings` are all
        learned from.
    user_features, item_features
        As in `MatrixFactorization.fit`.
    random_state : int
        What draws settings, samples and the held-out share; models keep their own.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    Returns
    -------
    Tuned
        `model`, fitted to all ratings with the best setting; `table`, a line per fit: trial,
        parameters, the share of users, epochs, cost, and the metric.  A pandas DataFrame where
        pandas is installed, else a list of dicts.

    Raises
    ------
    ValueError, TypeError
        For a budget too small for one fit (it names the least), parameters and values that the
        model does not have, an unknown metric, a share that leaves a side empty, a validation set
        of another kind, and a `Segmented`: its estimator is tuned; before any work.

    Notes
    -----
    Ctrl-C ends the search and returns the best model so far as the search had it, with a warning.
    The same `random_state` finds the same setting on any number of threads.  A setting that
    diverges counts as the worst.

    Examples
    --------
    >>> from mfcore import ImplicitMF, fetch, tune
    >>> found = tune(ImplicitMF(8, random_state=0), fetch("planted").ratings, budget=3)
    >>> found.model.get_params()["n_factors"] >= 8
    True
    """
    search = _search(model, ratings, space, metric, budget, validation, user_features,
                     item_features, random_state)
    progress = progress_bar(
        verbose, total=float(budget), desc="tune", unit="fit",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} fits{postfix}")
    search.progress = progress
    try:
        with alone(), TemporaryDirectory(prefix="mfcore-tune-") as folder:
            search.folder = Path(folder)
            search.run()
            best = search.finished()
    except KeyboardInterrupt:
        if search.best is None:
            raise
        warnings.warn("the search was interrupted: this is the best model so far, as the search "
                      "had it", stacklevel=2)
        best = search.best_model
    finally:
        progress.close()
    return Tuned(best, framed(search.lines))


def _search(model: Any, ratings: Any, space: Any, metric: str | None, budget: float,
            validation: Any, user_features: Any, item_features: Any, random_state: int) -> Search:
    """Check everything that is given, and return the search."""
    space = checked_space(model, space)
    if isinstance(getattr(model, "random_state", None), np.random.Generator):
        raise ValueError("the model's random_state must be an integer or None: a search fits it "
                         "many times, and goes on with fits that it has begun")
    if metric is None:
        metric = getattr(model, "eval_metric", None) or main_metric(model.predicts_ratings)
    wanted, seed = watchable("metric", metric), checks.integer("random_state", random_state)
    known, whole, judge = parted(wanted, training_ratings(ratings, None), validation, seed)
    for side, (name, given) in enumerate((("user_features", user_features),
                                          ("item_features", item_features))):
        with_history(name, given, known, side)               # (raises for what does not fit)
    random = np.random.default_rng([seed, 1])
    costs = Costs(model, known, not of_ratings(wanted.key))
    search = Search(model, space, judge, whole, known, (user_features, item_features), random,
                    random.permutation(known.shape[0]), costs)
    search.spend(checks.real("budget", budget))
    return search


@dataclass
class Search:
    """The state of a search."""

    given: Any
    space: dict[str, Any]
    judge: Judge
    whole: Ratings | None               # to fit to at the end; None: `known` is all there is
    known: Ratings
    features: tuple[Any, Any]
    random: np.random.Generator
    order: np.ndarray                   # of users; a sample is the first of them
    costs: Costs
    budget: float = 0.0
    spent: float = 0.0
    best: Trial | None = None
    best_model: Any = None
    given_model: Any = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    progress: Any = None
    folder: Path = Path()

    def spend(self, budget: float) -> None:
        """Lay out as many trials as a budget pays for."""
        small = {name: max(each.low, min(each.high, getattr(self.given, name) // 2))
                 for name, each in self.space.items() if isinstance(each, Doubling)}
        double = {name: 2 * each for name, each in small.items()}
        given = {name: getattr(self.given, name) for name in small}
        first, end = self.costs.search(1, given), self.costs.rungs[-1]
        least = first + self._last(given, end)
        if budget < least:
            raise ValueError(f"budget must be at least {math.ceil(10 * least) / 10} fits, to try "
                             f"one setting and to fit with it to all ratings, got {budget}")
        later, tried = min(max(self._last(given, end), self._afresh(given)), budget - first), 0.0
        while double and all(size <= self.space[name].high for name, size in double.items()):
            tried += self._early(double)
            if tried + self._last(double, self.costs.early) > FOR_SIZES * budget:
                break
            later = max(later, tried + self._last(double, self.costs.early))
            double = {name: 2 * size for name, size in double.items()}
        n, later = 0, later + first - self.costs.search(1, small)
        while n < MOST and self.costs.search(n + 2, small) + later <= budget:
            n += 1
        points = drawn(self.space, n, self.random)
        settings = at_points(self.given, self.space, points)
        self.budget, self.trials = budget, [Trial(0, given)]
        spare, usual = budget - later - self.costs.search(n + 1, small), self.costs.search(1, small)
        for point, own in zip(points, settings, strict=True):    # (dear ones as they can be paid)
            params = {**small, **own}
            last = max(later, self._last(params, end))
            more = max(0.0, self.costs.search(1, params) - usual) + last - later
            if more == 0 or more <= spare:
                self.trials.append(Trial(len(self.trials), params, point))
                spare, later = spare - more, last
        for trial in self.trials:
            self._made(trial.params).validate()

    def _last(self, params: Mapping[str, Any], rung: Rung) -> float:
        """Return what it costs to fit a setting that has come to a rung to all ratings."""
        if self.whole is not None:
            return self.costs.last(params, rung)
        end = self.costs.rungs[-1]
        return 0.0 if rung == end else self.costs.step(params, rung, end)

    def _afresh(self, given: Mapping[str, Any]) -> float:
        """Return what it costs to fit the model as given to all ratings from nothing."""
        return 0.0 if self.whole is None else self.costs.last(given, Rung())

    def _early(self, params: Mapping[str, Any]) -> float:
        """Return what it costs to see what a size is worth."""
        return self.costs.step(params, Rung(), self.costs.early)

    def run(self) -> None:
        """Halve the settings rung by rung; double the sizes; then look around the best."""
        going = self.trials
        for rung in self.costs.rungs:
            for trial in going:
                self._fit(trial, rung)
            best = sorted(going, key=lambda trial: -trial.score)[:-(-len(going) // KEPT)]
            given = [each for each in going if each.number == 0 and each not in best]
            going = best + given[:kept(len(going)) - len(best)]
        for name, each in self.space.items():
            if isinstance(each, Doubling):
                self._double(name, each.high)
        self._look_around()
        self._settle()

    def _settle(self) -> None:
        """Return to the model as given where what was found is no better than noise."""
        given, best = self.trials[0], self.best
        seen = [rung for rung in self.costs.rungs
                if best is not None and rung in best.values and rung in given.values]
        if best is not None and seen and best is not given \
                and not self.judge.prefers(best.values[seen[-1]], given.values[seen[-1]]):
            self.best, self.best_model = given, self.given_model

    def _double(self, name: str, most: int) -> None:
        """Double a size while it gains at the last rung but one."""
        best = self.best
        while best is not None and 2 * best.params[name] <= most:
            params = {**best.params, name: 2 * best.params[name]}
            trial, early = Trial(len(self.trials), params, best.point), self.costs.early
            if self.spent + self._early(params) + self._last(params, early) > self.budget:
                return
            self.trials.append(trial)
            model = self._fit(trial, early)
            if early not in trial.values or early in best.values \
                    and not self.judge.prefers(trial.values[early], best.values[early]):
                return
            trial.epochs = best.epochs
            best, self.best, self.best_model = trial, trial, model

    def _look_around(self) -> None:
        """Try settings next to the best one for what is left, and go on with those that gain."""
        width, early, given = WIDTH, self.costs.early, self.trials[0].params
        while (best := self.best) is not None and len(self.trials) < MOST:
            if best.point is None:
                best.point = point_of(self.space, self.best_model)
            point = near(best.point, width, self.random)
            params = {**best.params, **at_points(self.given, self.space, [point])[0]}
            more = self.costs.step(params, early, best.rung) if best.rung != early else 0.0
            last = max(self._last(params, best.rung), self._afresh(given))
            if not len(point) or self.spent + self._early(params) + more + last > self.budget:
                return
            trial = Trial(len(self.trials), params, point)
            self.trials.append(trial)
            self._made(params).validate()
            self._fit(trial, early)
            if best.rung != early and self._score(trial, early) > self._score(best, early):
                self._fit(trial, best.rung)
            if self.best is not trial:
                width *= SHRINKS
            elif trial.rung == early:
                trial.epochs = best.epochs

    def _fit(self, trial: Trial, rung: Rung) -> Any:
        """Fit a setting as far as a rung goes, score it, keep it if it is the best; return it."""
        cost = self.costs.step(trial.params, trial.rung, rung)
        rows, model = self._rows(rung.users), self._made(trial.params)
        n_epochs = epochs_of(model, self.known).most
        if self.costs.goes_on:
            n_epochs = max(1, round(n_epochs * rung.epochs))
        try:
            n_epochs = self._train(model, trial, rung, rows, n_epochs)
            trial.values[rung] = self.judge.values(model, rows, self._judges(rung))
        except (DivergenceError, FloatingPointError):
            trial.values.pop(rung, None)
        score = self._score(trial, rung)
        gained = trial.rung.users < rung.users or score >= trial.score
        if gained:                                              # (else fewer epochs were better)
            trial.score, trial.epochs = score, n_epochs
        trial.rung = rung
        if gained if trial is self.best else self.best is None \
                or (rung, trial.score) > (self.best.rung, self.best.score):
            self.best, self.best_model = trial, model
        if gained and trial.number == 0:
            self.given_model = model
        self._note(trial, {name: getattr(model, name) for name in self.space}, n_epochs, cost)
        return model

    def _score(self, trial: Trial, rung: Rung) -> float:
        """Return how good a setting was at a rung, larger is better; −inf if it diverged."""
        value = total(trial.values.get(rung, math.nan))
        return -math.inf if math.isnan(value) else sign(self.judge.metric.key) * value

    def _judges(self, rung: Rung) -> int:
        """Return how many users to rank: they cost no more than the fit of the model as given."""
        sweeps = rung.users * rung.epochs * epochs_of(self.given, self.known).most
        return int(10 * sweeps * self.known.nnz / self.known.shape[1])

    def _note(self, trial: Trial, params: dict[str, Any], n_epochs: int, cost: float) -> None:
        key, value = self.judge.metric.key, total(trial.values.get(trial.rung, math.nan))
        self.spent += cost
        self.lines.append({"trial": trial.number, **params, "users": trial.rung.users,
                           "epochs": n_epochs, "cost": cost, key: value})
        self.progress.update(min(cost, self.progress.total - self.progress.n))
        self.progress.set_postfix({key: f"{value:.5g}"})

    def _train(self, model: Any, trial: Trial, rung: Rung, rows: np.ndarray | None,
               n_epochs: int) -> int:
        """Fit, from where the setting is; a model that searches for its epochs is stopped, too.

        Returns the epoch whose state is kept.
        """
        known = self.known if rows is None else self.known.select_users(rows)
        plan = Plan(n_epochs, None)
        if self.costs.goes_on and rung.users == 1:           # (samples are not gone on from)
            plan = Plan(n_epochs, None, checkpoint=(self.folder / str(trial.number), n_epochs),
                        stays=True)
        if searches(self.given):
            plan = plan._replace(patience=model.patience or epochs_of(model, known).patience,
                                 eval_set=self.judge.watched(rows))
        return fit_as_planned(model, known, plan, item_features=self.features[1],
                              user_features=self._features_of(rows))

    def _made(self, params: Mapping[str, Any]) -> Any:
        return type(self.given)(**{**self.given.get_params(deep=False), **params})

    def _features_of(self, rows: np.ndarray | None) -> Any:
        def chosen(part: Any) -> Any:
            if part is None or isinstance(part, str):
                return part
            features = training_features("user_features", part, self.known.shape, 0)
            return None if features is None else features.select(rows)

        given = self.features[0]
        if rows is None:
            return given
        return tuple(map(chosen, given)) if isinstance(given, tuple) else chosen(given)

    def _rows(self, share: float) -> np.ndarray | None:
        """Return the users of a sample, the same for all settings; None: all."""
        n = round(share * self.known.shape[0])
        return None if share == 1.0 else np.sort(self.order[:max(1, n)])

    def finished(self) -> Any:
        """Return the best model, fitted to all ratings."""
        if self.best is None or self.best.score == -math.inf:
            raise DivergenceError("no setting of the space gave a finite result; name smaller "
                                  "learning rates or larger penalties in `space`")
        params, epochs = self.best.params, self.best.epochs
        done = self.best_model.n_epochs_ if self.costs.goes_on else epochs
        if self.whole is None and epochs == done:
            return self.best_model
        if self.costs.goes_on and not searches(self.given):
            params = {**params, "n_epochs": epochs}
        model, plan, learned = self._made(params), Plan(epochs, None), self.whole
        if learned is None:
            learned = self.known
            if epochs > done and self.best.rung.users == 1:
                plan = plan._replace(checkpoint=(self.folder / str(self.best.number), epochs))
        elif self.costs.goes_on and self.costs.alternates and self.best.rung.users == 1 \
                and self.spent + self.costs.whole(params) > self.budget:
            share = self.costs.left(Rung(1.0, done / epochs))
            plan = Plan(max(1, round(share * epochs)), None, start=self.best_model)
        fit_as_planned(model, learned, plan, user_features=self.features[0],
                       item_features=self.features[1])
        return model
