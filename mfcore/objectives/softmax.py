"""Ranking losses of a positive score and many negative ones: softmax and its relatives.

Statement.  T holds cells (u, i): user u has chosen item i.  N holds negatives that all cells of a
batch share, each drawn with probability q_j in every draw; s_ui and s_uj are cosines or products:

    L = Σ_T [ ℓ(s_ui, s_uN) + λ (‖P_u‖² + ‖Q_i‖²) ]          w_j = 1 / (|N| q_j)

    softmax     ℓ = −ln( e^{s_i/τ} / (e^{s_i/τ} + Σ_j w_j e^{s_j/τ}) ) = ln(1 + Σ_j w_j e^{d_j/τ})
    PSL         ℓ = ln(1 + Σ_j w_j σ(d_j/2)^{1/τ})            σ(x) = 1 + tanh x, or max(0, 1 + x)
    SL@K        ℓ = logistic((s_i − β)/τ') · softmax          β near the user's K-th best score
    BPR         ℓ = Σ_j w_j ln(1 + e^{d_j/τ}) / Σ_j w_j
    CCL         ℓ = 1 − s_i + ω Σ_j w_j max(0, s_j − m) / Σ_j w_j
    WARP        ℓ = ln(1 + r) · mean over V of (m + d_j)      V = {m + d_j > 0},  r = Σ_V w_j

with d_j = s_j − s_i.  With one negative and w = 1, softmax is BPR, and at τ = 1 with products that
of pairwise.py.

Shared negatives.  Σ_j w_j f(s_j) has the expectation Σ_all f(s_j), whatever q is:

    E Σ_{j∈N} f(s_j) / (|N| q_j) = |N| Σ_j q_j f(s_j) / (|N| q_j)        |N| draws, each with q
                                 = Σ_j f(s_j)

In a softmax w_j is ln w_j added to a score, the correction by log q.  With N = all items and
w = 1 nothing is left to chance.  A negative that is u's own i, or another item that u has chosen,
is hidden: s_uj = −∞, which all losses take for a weight of 0.

Derivation, for one cell.  A loss says a = ∂ℓ/∂s_i and D_j = ∂ℓ/∂s_j; with x = ln σ:

    h_j = x(d_j)/τ + ln w_j      ∂ℓ/∂h_j = e^{h_j} / (1 + Σ e^h) = p_j         ln(1 + Σ e^h)
    D_j = p_j x'(d_j) / τ        a = −Σ_j D_j                                  d_j = s_j − s_i
    x' = 1                       softmax
    x' = ½ (1 − tanh(d/2))       PSL with σ = 1 + tanh:  (ln(1 + t))' = (1 − t²) / (1 + t) = 1 − t
    x' = ½ / (1 + d/2)           PSL with σ = max(0, 1 + x), where σ > 0

The rest does not know the loss.  Scores are s = x·y of what lies on both sides, so that

    ∂L/∂x_u = a y_i + Σ_j D_j y_j        ∂L/∂y_i = a x_u        ∂L/∂y_j = D_j x_u

A cosine has unit vectors x = P_u/‖P_u‖.  With ∂x/∂P = (I − x xᵀ)/‖P‖, symmetric:

    ∂L/∂P_u = (g − x (x·g)) / ‖P_u‖,  g = ∂L/∂x_u             and likewise for Q
    ∂L/∂P_u = g                                               for products

Features.  A side's vector is P_u + F_u G, with features F of its own (objectives/penalty.py).
With g the gradient by P_u, that by G is Σ F_uᵀ g over the cells.  What a user has chosen may be
features; to leave a cell's own item out of them would betray it: all other cells have it.

β of SL@K and r of WARP are held: they say how much a cell matters, not which way to go.  (r does
not move with small steps.)

Sources: Rendle et al. 2009 (BPR); Weston, Bengio, Usunier 2011 (WARP); Yi et al. 2019 (log q); Wu
et al. 2024 (sampled softmax); Mao et al. 2021 (CCL, eq. 1); Yang et al. 2024 (PSL) and 2025 (SL@K).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp

from mfcore.kernels.nn_sparse import sparse_product
from mfcore.kernels.softmax import begin_softmax, end_softmax
from mfcore.parallel import Pool, row_chunks

TILE = 128                  # cells whose scores are computed together


class Pull(NamedTuple):
    """What losses say of n cells: ℓ (n,), a = ∂ℓ/∂s_i (n,) and D = ∂ℓ/∂s_j (n, |N|)."""

    value: np.ndarray
    a: np.ndarray
    D: np.ndarray


class Loss(Protocol):
    """A loss of a positive score and of negative ones."""

    def pull(self, s: np.ndarray, S: np.ndarray, w: np.ndarray) -> Pull:
        """Return the losses of cells and their derivatives; S may be overwritten.

        s, S : ndarray, shapes (n,), (n, n_negatives); −∞ hides a negative
        w : ndarray, shape (n_negatives,), weights of the negatives
        """


@dataclass(frozen=True)
class Softmax:
    """ln(1 + Σ w e^{d/τ}); tau > 0."""

    tau: float = 0.1

    def pull(self, s: np.ndarray, S: np.ndarray, w: np.ndarray) -> Pull:
        """Return the losses of cells and their derivatives."""
        own = s / s.dtype.type(self.tau)
        value, a = np.empty_like(own), np.empty_like(own)
        offset = np.log(w).astype(s.dtype)
        top = np.maximum(own, S.max(axis=1, initial=-np.inf) / s.dtype.type(self.tau)
                         + offset.max(initial=-np.inf))             # (so that no e^ overflows)
        begin_softmax(S, 1 / self.tau, offset, top)
        np.exp(S, out=S)
        own -= top
        end_softmax(S, 1 / self.tau, own, value, a)
        return Pull(value, a, S)


@dataclass(frozen=True)
class Surrogate:
    """PSL, ln(1 + Σ w σ(d/2)^{1/τ}) for cosines; tau > 0, surrogate "tanh" or "relu"."""

    tau: float = 0.1
    surrogate: str = "tanh"

    def pull(self, s: np.ndarray, S: np.ndarray, w: np.ndarray) -> Pull:
        """Return the losses of cells and their derivatives."""
        x = (S - s[:, None]) / 2
        t = np.tanh(x) if self.surrogate == "tanh" else np.clip(x, -1, None)
        with np.errstate(divide="ignore"):
            h = np.log1p(t) / self.tau + np.log(w).astype(s.dtype)
        top = np.maximum(h.max(axis=1, initial=-np.inf), 0)
        p = np.exp(h - top[:, None])
        total = np.exp(-top) + p.sum(axis=1)
        slope = 1 - t if self.surrogate == "tanh" else \
            np.divide(1, 1 + t, out=np.zeros_like(t), where=t > -1)
        D = p * slope / (2 * self.tau * total[:, None])
        D = D.astype(s.dtype, copy=False)
        return Pull(top + np.log(total), -D.sum(axis=1), D)


@dataclass(frozen=True)
class TopK:
    """SL@K, a softmax loss weighted by how near a positive is to the top k.

    tau, tau_weight : float, > 0
    k : int, >= 1
        β is the score that about k of all items exceed, as far as the negatives can tell.
    beta : ndarray, shape (n,), or None
        β of each cell; None: from the negatives.
    """

    tau: float = 0.1
    tau_weight: float = 1.0
    k: int = 20
    beta: np.ndarray | None = None

    def held(self, S: np.ndarray, w: np.ndarray) -> TopK:
        """Return the loss with β of these scores, which is then a constant."""
        rank = max(1, min(round(self.k / float(w.mean())), S.shape[1]))
        best: np.ndarray = np.partition(S, S.shape[1] - rank, axis=1)[:, -rank]
        return TopK(self.tau, self.tau_weight, self.k, best)

    def pull(self, s: np.ndarray, S: np.ndarray, w: np.ndarray) -> Pull:
        """Return the losses of cells and their derivatives."""
        beta = self.held(S, w).beta if self.beta is None else self.beta
        weight = logistic((s - beta) / self.tau_weight).astype(s.dtype)
        value, a, D = Softmax(self.tau).pull(s, S, w)
        D *= weight[:, None]
        steeper = weight * (1 - weight) / s.dtype.type(self.tau_weight)
        return Pull(weight * value, weight * a + (steeper * value).astype(s.dtype), D)


@dataclass(frozen=True)
class Pairs:
    """BPR, the mean of ln(1 + e^{d/τ}) over the negatives; tau > 0."""

    tau: float = 1.0

    def pull(self, s: np.ndarray, S: np.ndarray, w: np.ndarray) -> Pull:
        """Return the losses of cells and their derivatives."""
        S -= s[:, None]
        S /= s.dtype.type(self.tau)
        share = (w / w.sum()).astype(s.dtype)
        value = np.logaddexp(0, S) @ share
        D = logistic(S) * (share / s.dtype.type(self.tau))
        return Pull(value, -D.sum(axis=1), D)


@dataclass(frozen=True)
class Contrastive:
    """CCL, 1 − s + ω · mean of max(0, s_j − m), for cosines; weight >= 0, margin in [−1, 1]."""

    weight: float = 150.0
    margin: float = 0.4

    def pull(self, s: np.ndarray, S: np.ndarray, w: np.ndarray) -> Pull:
        """Return the losses of cells and their derivatives."""
        share = (self.weight * w / w.sum()).astype(s.dtype)
        S -= s.dtype.type(self.margin)
        D = (S > 0) * share
        return Pull(1 - s + np.maximum(S, 0) @ share, np.full_like(s, -1), D)


@dataclass(frozen=True)
class Warp:
    """WARP, ln(1 + r) times the mean violation of a margin; margin > 0."""

    margin: float = 0.2

    def pull(self, s: np.ndarray, S: np.ndarray, w: np.ndarray) -> Pull:
        """Return the losses of cells and their derivatives."""
        S += (s.dtype.type(self.margin) - s)[:, None]
        violates = S > 0
        n = np.maximum(violates.sum(axis=1), 1)
        height = (np.log1p(violates @ w.astype(s.dtype)) / n).astype(s.dtype)
        D = violates * height[:, None]
        return Pull(height * np.maximum(S, 0).sum(axis=1), -D.sum(axis=1), D)


LOSSES: dict[str, type] = {"softmax": Softmax, "psl": Surrogate, "sl@k": TopK, "bpr": Pairs,
                           "ccl": Contrastive, "warp": Warp}


# ------------------------------------------------------------- the rest of the gradient

@dataclass
class Vectors:
    """A point of the parameter space: P (n_users, k), Q (n_items, k), and those of features.

    G, H : shapes (n_features, k), those of users and of items; empty without features.
    """

    P: np.ndarray
    Q: np.ndarray
    G: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))
    H: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))

    def copy(self) -> Vectors:
        """Return a copy that shares no memory."""
        return Vectors(self.P.copy(), self.Q.copy(), self.G.copy(), self.H.copy())


class Batch(NamedTuple):
    """Cells and the negatives that they share.

    users, items : ndarray of int, shape (n_cells,)
    negatives, w : ndarray, shape (n_negatives,)
        Distinct items, and their weights.
    hidden : (rows, columns), ndarrays of int
        Scores of cells and negatives that do not count; rows ascend.
    F, E : csr_array, shapes (n_cells, n_features), (n_cells + n_negatives, n_features), or None
        Features of the cells' users, and of `columns`.
    """

    users: np.ndarray
    items: np.ndarray
    negatives: np.ndarray
    w: np.ndarray
    hidden: tuple[np.ndarray, np.ndarray]
    F: sp.csr_array | None = None
    E: sp.csr_array | None = None

    @property
    def columns(self) -> np.ndarray:
        """The items of the cells, then the negatives."""
        return np.concatenate([self.items, self.negatives])


class Slopes(NamedTuple):
    """L of a batch, and its gradient by the vectors of each cell and of each item in it.

    users : ndarray, shape (n_cells, k); items : ndarray, shape (n_cells + n_negatives, k)
    """

    value: float
    users: np.ndarray
    items: np.ndarray


@dataclass(frozen=True)
class Ranked:
    """The objective of a batch.

    Parameters
    ----------
    loss : Loss
    cosine : bool
        Whether scores are cosines.
    reg : float, >= 0
        λ.
    """

    loss: Loss
    cosine: bool
    reg: float = 0.0

    def slopes(self, at: Vectors, batch: Batch, pool: Pool, share: float = 1.0) -> Slopes:
        """Return `share` times L without its penalty, and the gradient of that by vectors."""
        left = self._side(at.P, batch.users, batch.F, at.G, pool)
        right = self._side(at.Q, batch.columns, batch.E, at.H, pool)
        found = _tiled(left.x, right.x, self.loss, batch, pool)
        g, h = found.dx, np.concatenate([found.dy, found.dz])
        if self.cosine:
            g, h = through_unit(*left, g), through_unit(*right, h)
        g *= g.dtype.type(share)
        h *= h.dtype.type(share)
        return Slopes(share * float(found.value.sum(dtype=np.float64)), g, h)

    def value(self, at: Vectors, batch: Batch, pool: Pool) -> float:
        """Return L."""
        own = at.P[batch.users], at.Q[batch.items]
        return self.slopes(at, batch, pool).value \
            + self.reg * sum(float(np.sum(X.astype(np.float64) ** 2)) for X in own)

    def gradient(self, at: Vectors, batch: Batch, pool: Pool) -> Vectors:
        """Return the gradient of L by each block, whole."""
        _, g, h = self.slopes(at, batch, pool)
        d = Vectors(*(np.zeros_like(block) for block in vars(at).values()))
        for X, rows in ((at.P, batch.users), (at.Q, batch.items)):
            np.add.at(d.P if X is at.P else d.Q, rows, 2 * self.reg * X[rows])
        np.add.at(d.P, batch.users, g)
        np.add.at(d.Q, batch.columns, h)
        if batch.F is not None:
            d.G += batch.F.T @ g
        if batch.E is not None:
            d.H += batch.E.T @ h
        return d

    def _side(self, X: np.ndarray, rows: np.ndarray, F: sp.csr_array | None, G: np.ndarray,
              pool: Pool) -> _Side:
        x = vectors(X[rows], F, G, pool)
        return _Side(*unit(x)) if self.cosine else _Side(x, np.ones(len(x), x.dtype))


def vectors(X: np.ndarray, F: sp.csr_array | None, G: np.ndarray, pool: Pool) -> np.ndarray:
    """Return X + F G, in place of X."""
    if F is not None:
        means = np.empty_like(X)
        pool.over_rows(lambda lo, hi: sparse_product(F.indptr, F.indices, F.data, G, means, lo,
                                                     hi), F.indptr)
        X += means
    return X


class _Side(NamedTuple):
    """What scores are products of, and 1/length of the vectors."""

    x: np.ndarray
    inverse: np.ndarray


class Lines(NamedTuple):
    """Losses of cells, and gradients by what their scores are products of."""

    value: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    dz: np.ndarray


def _tiled(x: np.ndarray, right: np.ndarray, loss: Loss, batch: Batch, pool: Pool) -> Lines:
    """Return losses and gradients of cells, in fixed tiles of cells."""
    n = len(x)
    y, z, (rows, columns) = right[:n], right[n:], batch.hidden

    def tile(lo: int, hi: int) -> Lines:
        some = slice(*np.searchsorted(rows, (lo, hi)))
        return lines(x[lo:hi], y[lo:hi], z, loss, batch.w, (rows[some] - lo, columns[some]))

    found = pool.map(tile, row_chunks(n, TILE))
    value, dx, dy, dz = zip(*found, strict=True)
    return Lines(np.concatenate(value), np.concatenate(dx), np.concatenate(dy),
                 sum(dz[1:], start=dz[0]))


def lines(x: np.ndarray, y: np.ndarray, z: np.ndarray, loss: Loss, w: np.ndarray,
          hidden: tuple[np.ndarray, np.ndarray]) -> Lines:
    """Return losses and gradients of cells: the rest of the formula, for any loss.

    x, y : ndarray, shape (n, k); z : ndarray, shape (n_negatives, k)
    hidden : (rows, columns) of the (n, n_negatives) scores that do not count
    """
    S = x @ z.T
    S[hidden] = -np.inf
    value, a, D = loss.pull(np.einsum("nf,nf->n", x, y), S, w)
    dx = D @ z
    dx += a[:, None] * y
    return Lines(value, dx, a[:, None] * x, D.T @ x)


def unit(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of X divided by their lengths, and 1/length; of zero rows, zeros."""
    length = np.sqrt(np.einsum("nf,nf->n", X, X))
    inverse = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return X * inverse[:, None], inverse


def through_unit(x: np.ndarray, inverse: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the gradient by vectors from that by their unit vectors x."""
    back: np.ndarray = g - x * np.einsum("nf,nf->n", x, g)[:, None]
    back *= inverse[:, None]
    return back


def logistic(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^{−x}) without overflow."""
    found: np.ndarray = (1 + np.tanh(x / 2)) / 2
    return found
