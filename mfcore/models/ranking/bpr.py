"""Bayesian personalized ranking: learn the order of items from pairs of them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mfcore.data.features import choices
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded, NewRows
from mfcore.models.fitted import Linear
from mfcore.models.recommender import Recommender
from mfcore.models.settings import TRAINED, setting, settings
from mfcore.models.sides import Sides
from mfcore.models.training import Start
from mfcore.objectives.pairwise import Ranking
from mfcore.parallel import Pool
from mfcore.solvers.bpr import PairwiseSGD, Steps, fold_in_by_pairs


@settings(*TRAINED)
class BPR(Recommender):
    """Rank items by pairs: what a user has rated should score above what is left.

    Minimises, over sampled triples (user u, item i that u prefers, item j that is left),
    by stochastic gradient,

        Σ [ −ln σ(s_ui − s_uj) + λ (‖P_u‖² + ‖Q_i‖² + ‖Q_j‖²) + λᵇ (b_i² + b_j²) ]

    with s_ui = P_u·Q_i + b_i.  Cells above 0 are preferred; stored cells of 0 or less are
    left, like cells that are not stored (but `exclude_seen` leaves them out).

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors.  More helps the more ratings there are, and costs time and memory
        in proportion: begin with 64, and double while held-out ratings gain.
    sampling : {"uniform", "adaptive"}
        Negatives are any item not preferred; or those that score high along a factor that
        matters to the user, which are more to learn from where items are many.
    item_bias : bool
        Whether items have a bias b_i, which holds their popularity and leaves taste to vectors.
    reg : float, >= 0
        λ, penalty weight of the vectors, paid at each draw.
    bias_reg : float >= 0, or None
        λᵇ, penalty weight of the biases; None: `reg`.  As large as `reg`, it keeps lists behind
        those of Popularity where best-sellers say most.
    learning_rate : float, > 0
        η, length of a step.  If it is too long, the loss in `history_` does not fall; if it is too
        short, a fit needs more epochs.
    schedule : {"inverse", "constant"}
        η / (1 + decay·t) in epoch t = 0, 1, ...; or η throughout.
    decay : float, >= 0
        Of the inverse schedule.
    n_epochs : int, >= 1
        One epoch draws a negative for each preferred cell.  `validation` finds the number.
    tol : float >= 0, or None
        Stop when the mean of −ln σ falls by less than this share in an epoch.
    init_scale : float, > 0
        Vectors start normal with standard deviation init_scale / √k.
    patience, validation, refit
        As in `MatrixFactorization`.
    eval_metric : str or None
        "ndcg@10" by default.
    dtype : {"float32", "float64"}
        Precision of the vectors.
    random_state : int, numpy Generator, or None
        What draws the start and the order; the same integer gives the same bits.
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    Notes
    -----
    `history_` holds the mean of −ln σ(x) over an epoch's draws, each before its step.
    A new user's vector takes the same steps as in training, for as many epochs as ran, from
    0 and with items frozen; its draws have a fixed seed, so the same ratings always give
    the same vector.

    References
    ----------
    Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009; Rendle, Freudenthaler 2014
    (adaptive sampling).

    See Also
    --------
    SoftmaxMF : Many negatives for each chosen item.
    ImplicitMF : The squared loss of all cells.

    Examples
    --------
    >>> from mfcore import BPR, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = BPR(16, random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    n_factors: int = setting(default=64, low=1, kw_only=False)
    sampling: str = setting(default="uniform", among=("uniform", "adaptive"))
    item_bias: bool = True
    reg: float = setting(default=0.01, low=0)
    bias_reg: float | None = setting(default=0.002, low=0)
    learning_rate: float = setting(default=0.2, low=0, above=0)
    schedule: str = setting(default="inverse", among=("constant", "inverse"))
    decay: float = setting(default=0.1, low=0)
    n_epochs: int = setting(default=60, low=1)
    tol: float | None = setting(default=None, low=0)
    init_scale: float = setting(default=0.5, low=0, high=1e3, above=0)

    predicts_ratings = False

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings that hold no pair to learn from."""
        positives = liked(ratings)
        if positives.nnz == 0:
            raise ValueError("ratings must hold at least one value above 0, got none: BPR "
                             "takes these cells as preferred")
        full = np.flatnonzero(np.diff(positives.indptr) == positives.shape[1])
        if full.size:
            names = full if ratings.user_ids is None else ratings.user_ids[full]
            shown = ", ".join(map(repr, names[:5].tolist()))
            raise ValueError(f"every user must leave an item to compare with, but all "
                             f"{positives.shape[1]} are rated by {shown}; leave out these "
                             f"{full.size} users, or add the items that nobody rated")

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        self.global_mean_ = 0.0
        at = self._start(ratings.shape, random)
        solver = PairwiseSGD(liked(ratings), self._steps(), self.sampling == "adaptive",
                             seed=int(random.integers(2**63)))

        def publish(at: Ranking) -> None:
            sides.users.factors, sides.items.factors = at.P, at.Q
            sides.items.bias = at.gamma if self.item_bias else None

        return Start(solver, at, publish)

    def _start(self, shape: tuple[int, int], random: np.random.Generator) -> Ranking:
        dtype = np.dtype(self.dtype)
        scale = dtype.type(self.init_scale / np.sqrt(self.n_factors))
        P, Q = (scale * random.standard_normal((n, self.n_factors), dtype=dtype)
                for n in shape)
        return Ranking(P, Q, np.zeros(shape[1], dtype))

    def _steps(self) -> Steps:
        decay = self.decay if self.schedule == "inverse" else 0.0
        bias_reg = self.reg if self.bias_reg is None else self.bias_reg
        return Steps(self.learning_rate, self.reg, bias_reg, decay, self.item_bias)

    def answers(self) -> Linear:
        """Return what is asked of the fitted model."""
        return Linear(self.users_, self.items_, 0.0, self._fold)

    def _fold(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users after the steps of training, items frozen."""
        Q, gamma = self.items_.factors, self.items_.bias
        gamma = np.zeros(len(Q), Q.dtype) if gamma is None else gamma
        P = fold_in_by_pairs(liked(new.known(len(Q))), Q, gamma, self._steps(),
                             max(self.n_epochs_, 1), self.sampling == "adaptive", pool)
        return Folded(P, None)


def liked(ratings: Ratings) -> sp.csr_array:
    """Return the cells above 0."""
    return choices(ratings, "binary").by_user
