"""The linear autoencoder of neighbours: every item is predicted by those nearest to it."""

from __future__ import annotations

import scipy.sparse as sp

from mfcore import validation
from mfcore.models.items.neighbours import Neighbours
from mfcore.models.settings import fitted, setting, settings
from mfcore.objectives.linear import Neighbourhoods
from mfcore.solvers.loop import Solver
from mfcore.solvers.neighbours import LocalRidges


@settings("dtype", "n_threads", "verbose")
class SparseEASE(Neighbours):
    """Rank items by a sparse linear function of a user's row: s_u = x_u B, diag B = 0.

    Column j of B is a ridge regression of item j on its nearest items N_j, those of the largest
    cosines: with G = XᵀWX, W_u ∝ d_u^-user_power and Λ_i = reg + dropout/(1−dropout) G_ii,

        b_j = (G_NN + Λ_NN)⁻¹ G_Nj

    so that a million items take gigabytes, not terabytes, and the fit grows with n_items.
    With all other items as neighbours, and user_power=0, it is `EASE` of that reg and dropout.

    Parameters
    ----------
    n_neighbors : int, >= 1
        Items that an item is predicted from.  More costs memory in proportion, and time up to
        the third power.
    reg : float, > 0
        λ, penalty weight of B: larger where ratings are few or noisy.
    dropout : float in [0, 1)
        The share of cells that training leaves out at random: see `EASE`.
    user_power : float in [0, 2]
        Users count by d_u^-user_power, d_u the sum of their row, in units that make the mean of
        all cells 1: 0 as in EASE; more, and long rows, which say less of what goes together,
        count less.
    values : {"binary", "raw"}
        X holds 1 for each rating above 0, or the ratings as they are, which must then be >= 0.
    memory : float, > 0
        Gigabytes that the fit may take besides the ratings.
    dtype : {"float32", "float64"}
    n_threads, verbose
        As in `MatrixFactorization`.

    Notes
    -----
    `weights_` is B, CSR; `user_factors_` are the rows of the fit, `item_factors_` the columns of B.
    New users need no solve, and saved with seen=False the model answers for them alone.
    An item without common users has no neighbours, and scores 0.
    `history_` has one epoch, whose loss is the minimum.

    References
    ----------
    Steck 2019 (EASE, and Markov random fields for sparse B); Steck 2020 (EDLAE); Park et al. 2025
    (DAN: powers of degrees in linear autoencoders).

    See Also
    --------
    EASE : all items at once, for up to some 40,000.

    Examples
    --------
    >>> from mfcore import SparseEASE, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = SparseEASE().fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    n_neighbors: int = setting(default=100, low=1)
    reg: float = setting(default=100.0, above=0)
    dropout: float = setting(default=0.3, check=validation.rate)
    user_power: float = setting(default=0.5, low=0, high=2)
    values: str = setting(default="binary", among=("binary", "raw"))
    memory: float = setting(default=8.0, above=0)

    weights_: sp.csr_array = fitted(doc="B, CSR, shape (n_items, n_items).")

    def _solver(self, X: sp.csr_array) -> Solver:
        """Return what solves the system of each item."""
        return LocalRidges(Neighbourhoods(X, self.reg, self.dropout, self.user_power))
