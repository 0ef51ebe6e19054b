"""Factorization by ranking losses: a chosen item against many that were not."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded, NewRows
from mfcore.models.fitted import Linear
from mfcore.models.ranking.bpr import liked
from mfcore.models.recommender import Recommender
from mfcore.models.settings import TRAINED, fitted, setting, settings
from mfcore.models.sides import FeaturedSide, Row, Sides
from mfcore.models.stopping import AUTO, Budget
from mfcore.models.training import Start
from mfcore.nn.optimizers import Adam
from mfcore.nn.parameters import initial_table
from mfcore.objectives.factors import unit_rows
from mfcore.objectives.softmax import (
    Contrastive,
    Loss,
    Pairs,
    Ranked,
    Softmax,
    Surrogate,
    TopK,
    Vectors,
    Warp,
)
from mfcore.parallel import Pool
from mfcore.solvers.ranked_rows import fold_in_by_ranking
from mfcore.solvers.softmax import Negatives, RankingAdam
from mfcore.solvers.spectral import SpectralStart

# "auto": up to FEW_ITEMS items, all of them are negatives; of more, DRAWN are drawn.
FEW_ITEMS, DRAWN = 1024, 512


@settings(*TRAINED)
class SoftmaxMF(Recommender):
    """Rank items by vectors, a chosen item against many others at once: softmax and its relatives.

    Minimises, by Adam on batches of the cells that users have chosen,

        Σ [ −ln( e^{s_ui/τ} / (e^{s_ui/τ} + Σ_j w_j e^{s_uj/τ}) ) + λ (‖P_u‖² + ‖Q_i‖²) ]

    with s_ui = cos(P_u, Q_i), or P_u·Q_i, over negatives j that a batch shares, of weight
    w_j = 1 / (number · probability of j), so that their sum is that over all items in expectation.
    Items that the user has chosen are no negatives.  Cells above 0 are chosen; stored cells of 0
    or less are left, like cells that are not stored (but `exclude_seen` leaves them out).

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors.  More helps the more ratings there are, and costs time and memory
        in proportion: begin with 64, and double while held-out ratings gain.
    loss : {"softmax", "psl", "sl@k", "bpr", "ccl", "warp"}
        The formula above, or a relative (objectives/softmax.py): "psl", with the exponential
        replaced by a surrogate that grows less; "sl@k", weighted by how near a cell is to the
        user's 20 best; "bpr", the mean over pairs; "ccl", the cosine contrastive loss; "warp".
    similarity : {"cosine", "dot"}
        What a score is.  Cosines take no account of lengths, and need no penalty; products take
        a temperature of about 1 and a penalty.  "psl" and "ccl" are made for cosines.
    temperature : float > 0, or "auto"
        τ of "softmax", "psl", "sl@k" and "bpr": the lower, the more the best negatives count.  For
        cosines 0.05 to 0.4; try lower values where items and ratings are many.  "auto": 1 for
        products; for cosines 0.2 up to 2,000 items, and then down with their logarithm to 0.1 at
        40,000, or twice that: the one that ranks a held-out tenth better after a short fit
        (solvers/warmth.py).  What was found is `temperature_`.
    margin : float, > 0
        m of "ccl", above which a negative's cosine counts, and of "warp".
    negative_weight : float, > 0
        ω of "ccl": how much all negatives together weigh next to a chosen cell.
    n_negatives : int >= 1, "auto", or None
        Negatives that a batch draws; None: all items.  "auto": all where there are up to 1,024
        items, else 512.
    sampling : {"uniform", "popularity"}
        Whether a negative is any item, or is drawn as often as it is chosen; the weights w_j
        make up for the difference, so that it is one of noise.
    reg : float, >= 0
        λ, penalty weight of the vectors, paid for each cell, in the gradient.
    learning_rate : float, > 0
        η of Adam, which moves the rows of a batch only.  Larger batches bear larger ones.
    batch_size : int, >= 1
        Chosen cells of a batch, which share negatives: larger is faster, up to some thousands.
    n_epochs : int >= 1, or "auto"
        Passes over the chosen cells.  "auto": as many as a held-out tenth finds to be best, within
        a budget of steps (`budget`); where that is fewer than 100 ratings, the steps that do
        without.  An integer holds nothing out, unless `validation` is given.  Of cosines,
        popularity alone counts as epoch 0, and stays where no epoch is better.
    init_scale : float, > 0
        Length of the vectors at the start: of cosines along popularity and the leading directions
        of the graph of users and items (solvers/spectral.py), of products at random.
    tol : float >= 0, or None
        Stop when the mean loss falls by less than this share in an epoch.
    patience, validation, refit
        As in `MatrixFactorization`.
    eval_metric : str or None
        "ndcg@10" by default.
    dtype : {"float32", "float64"}
        Precision of the vectors.
    random_state : int, numpy Generator, or None
        What draws the start, the order and the negatives; the same integer gives the same bits.
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    Notes
    -----
    For cosines `user_factors_` and `item_factors_` have length 1, so that products are cosines.
    An item that nobody has chosen is a negative like others, but with sampling="popularity",
    where it has no vector unless it has features.  A user who has chosen all items has nothing to
    learn from.

    fit(user_features=...) gives P_u = U_u + F_u G; "history" are the items that a user has chosen,
    each with a second vector: their sum over √n.  Features of items do the same for Q.

    A new user's vector is brought to a minimum of the same loss on its own cells, with all else
    frozen: from the sum of its items' vectors, or of its features', by BFGS, with negatives drawn
    from a fixed seed, the same for all.
    `history_` holds the mean loss over an epoch's cells, each before its step.

    References
    ----------
    Wu et al. 2024 (sampled softmax); Yi et al. 2019 (correction by the probability of a
    negative); Mao et al. 2021 (CCL, history); Yang et al. 2024 (PSL), 2025 (SL@K); Rendle et al.
    2009 (BPR); Weston, Bengio, Usunier 2011 (WARP).

    See Also
    --------
    BPR : One negative for each chosen item, drawn by itself.
    ImplicitMF : The squared loss of all cells, counts as weights.

    Examples
    --------
    >>> from mfcore import SoftmaxMF, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = SoftmaxMF(16, n_epochs=5, random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    >>> near, cosines = model.similar_items(items[0, :1], k=3)
    >>> sorted({hobbies.item_titles[item].split()[0] for item in near[0]})
    ['Gardening']
    """

    n_factors: int = setting(default=64, low=1, kw_only=False)
    loss: str = setting(default="softmax", among=("softmax", "psl", "sl@k", "bpr", "ccl", "warp"))
    similarity: str = setting(default="cosine", among=("cosine", "dot"))
    temperature: float | str = setting(default=AUTO, above=0, among=(AUTO,))
    margin: float = setting(default=0.4, low=0, above=0)
    negative_weight: float = setting(default=150.0, low=0, above=0)
    n_negatives: int | str | None = setting(default=AUTO, low=1, among=(AUTO,))
    sampling: str = setting(default="uniform", among=("uniform", "popularity"))
    reg: float = setting(default=0.0, low=0)
    learning_rate: float = setting(default=0.003, low=0, above=0)
    batch_size: int = setting(default=256, low=1)
    n_epochs: int | str = setting(default=AUTO, low=1, among=(AUTO,))
    init_scale: float = setting(default=1.0, low=0, high=1e3, above=0)

    temperature_: float = fitted(doc="τ of the fit.")

    # Chosen on validation parts: see benchmarks/defaults.py.
    budget = Budget(enough=5000, patience=800, epochs=(5, 60), most=100)

    predicts_ratings = False
    side_type = FeaturedSide

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings that hold nothing to learn from, and for too many negatives."""
        if not (ratings.by_user.data > 0).any():
            raise ValueError("ratings must hold at least one value above 0, got none: SoftmaxMF "
                             "takes these cells as chosen")
        n_items = ratings.shape[1]
        if isinstance(self.n_negatives, int) and self.n_negatives > n_items:
            raise ValueError(f"n_negatives must be at most the number of items, {n_items}, got "
                             f"{self.n_negatives}; None takes all of them")

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        self.global_mean_ = 0.0
        cells, real = liked(ratings), np.dtype(self.dtype)
        scale = self.init_scale / np.sqrt(self.n_factors)
        P, Q = (initial_table(n, self.n_factors, scale, random, real) for n in ratings.shape)
        if self.sampling == "popularity" and self.n_negatives is not None:
            Q[np.bincount(cells.indices, minlength=len(Q)) == 0] = 0      # (nothing moves them)
        F, E = (None if side.features is None else side.features.matrix.astype(real)
                for side in sides)
        at = Vectors(P, Q, *(side.groups(self.n_factors, real)[0] for side in sides))
        taus = self._taus(len(Q))
        spectral = SpectralStart(cells, self.init_scale) if self.similarity == "cosine" \
            else None
        solver = RankingAdam(cells, self._problem(taus[0]), self._negatives(len(Q)),
                             (F, E), Adam(self.learning_rate, lazy=True), self.batch_size,
                             seed=int(random.integers(2**63)), start=spectral, taus=taus)

        def publish(at: Vectors) -> None:
            self.temperature_ = solver.tau
            for side, X, features, G in zip(sides, (at.P, at.Q), (F, E), (at.G, at.H), strict=True):
                whole = X if features is None else X + features @ G
                side.factors = unit_rows(whole) if self.similarity == "cosine" else whole
                side.feature_factors = None if features is None else G

        return Start(solver, at, publish,
                     simple=None if spectral is None else lambda: spectral.popular(at))

    def n_steps(self, ratings: Ratings) -> int:
        """Return the steps of an epoch."""
        return -(-max(1, int((ratings.by_user.data > 0).sum())) // self.batch_size)

    def answers(self) -> Linear:
        """Return what is asked of the fitted model."""
        return Linear(self.users_, self.items_, 0.0, self._fold, self._default)

    def _fold(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users."""
        users, Q = self.users_, self.items_.factors
        if self.n_epochs_ == 0:                     # (popularity alone, the same for all users)
            return Folded(np.repeat(users.factors[:1], new.n_rows, axis=0), None)
        cells, k, real = liked(new.known(len(Q))), Q.shape[1], Q.dtype
        if users.feature_factors is None:
            P = cells.astype(bool).astype(real) @ Q
        else:
            means, _ = users.means(users.completed(new.features, new.ratings), k)
            P = np.broadcast_to(means, (new.n_rows, k)).astype(real)
        draws = Negatives(self._negatives(len(Q)).number, False)
        fold_in_by_ranking(cells, P, Q, *draws.draw(cells, np.zeros(0), np.random.default_rng(0)),
                           self._problem(self.temperature_), pool)
        return Folded(unit_rows(P) if self.similarity == "cosine" else P, None)

    def _default(self, side: FeaturedSide) -> Row | None:
        """Return the vector of an unknown row."""
        row = side.default_row()
        if row is None or self.similarity == "dot":
            return row
        return Row(unit_rows(row.vector[None])[0], 0.0)

    def _problem(self, tau: float) -> Ranked:
        return Ranked(self._loss(tau), self.similarity == "cosine", self.reg)

    def _taus(self, n_items: int) -> tuple[float, ...]:
        if not isinstance(self.temperature, str):
            return (self.temperature,)
        if self.similarity == "dot":
            return (1.0,)
        return temperature_of(n_items), 2 * temperature_of(n_items)

    def _loss(self, tau: float) -> Loss:
        made: dict[str, Loss] = {
            "softmax": Softmax(tau), "psl": Surrogate(tau), "sl@k": TopK(tau), "bpr": Pairs(tau),
            "ccl": Contrastive(self.negative_weight, self.margin), "warp": Warp(self.margin)}
        return made[self.loss]

    def _negatives(self, n_items: int) -> Negatives:
        number: Any = self.n_negatives
        if number == AUTO:
            number = None if n_items <= FEW_ITEMS else DRAWN
        return Negatives(number, self.sampling == "popularity")


def temperature_of(n_items: int) -> float:
    """Return τ of cosines: 0.2 up to 2,000 items, 0.1 from 40,000 on, in between by ln n_items."""
    share = np.log(max(n_items, 1) / 2000) / np.log(20)
    return float(0.2 - 0.1 * np.clip(share, 0, 1))
