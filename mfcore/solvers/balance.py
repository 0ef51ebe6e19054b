"""Balance of the two sides: the coordinates of the factors that minimise their penalty.

Statement.  For invertible M (k, k), P → P M and Q → Q M⁻ᵀ leave every score as it is:

    (P M)(Q M⁻ᵀ)ᵀ = P M M⁻¹ Qᵀ = P Qᵀ

so that only the penalty changes.  With S = M Mᵀ, users' own U = P − F G, the same for items, and

    A = Uᵀ Λ U + Gᵀ Λ_g G          B = the same of items                            (k, k)
    penalty(S) = tr(Mᵀ A M) + tr(M⁻¹ B M⁻ᵀ) = tr(A S) + tr(B S⁻¹)

Derivation.

    0 = ∂/∂S = A − S⁻¹ B S⁻¹                                   the penalty is convex in S > 0
    S A S = B
    (Lᵀ S L)² = Lᵀ B L            A = L Lᵀ (Cholesky); times Lᵀ from the left, L from the right
    S = L⁻ᵀ (V D Vᵀ)^½ L⁻¹        Lᵀ B L = V D Vᵀ: the geometric mean of A⁻¹ and B
    M = L⁻ᵀ V D^¼,   M⁻ᵀ = L V D^−¼           M Mᵀ = S

For α A and β B, M is (β/α)^¼ times as large as for A and B; these are scaled to a mean eigenvalue
of 1, so that no scale is too small or large for Cholesky.  In the new coordinates both sides have
the same A = B, which is diagonal.  Along P (I + εX) and Q (I − εXᵀ) the derivative of L is
2 tr((A − B) X), so that A = B at stationary points, which stay.

Why.  Alternating least squares moves along these directions at a rate of λ over the squared
singular values of the data, as each side compensates at once for the other: scale and shape of
the start stay for dozens of sweeps.  This step is exact there, and costs two Grams and two
products of (n_users + n_items) k² per sweep.  benchmarks/README.md has losses with and without it.

Source: the balance of two factors of a nuclear norm is folklore (Srebro, Rennie, Jaakkola 2005
for Λ = λI); the geometric mean is Pusz and Woronowicz's of 1975.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import Pool, tiled_product

FLOOR = 1e-6      # added to eigenvalues of mean 1: directions that neither side uses stay
FADED = 1e-280    # least trace: the square of a smaller one is no normal number


def balance(problem: Quadratic, at: Factors, pool: Pool) -> None:
    """Minimise the penalty in place without changing any score.

    Nothing moves if a side has no penalty, or almost none, or one that does not pull towards zero.
    """
    if problem.users.pulls_elsewhere or problem.items.pulls_elsewhere:
        return
    A, B = problem.users.spread(at.P, at.G, pool), problem.items.spread(at.Q, at.H, pool)
    if not (FADED < np.trace(A) < np.inf and FADED < np.trace(B) < np.inf):
        return
    M, turned = balancing(A, B)
    if not np.sum(M * (A @ M)) + np.sum(turned * (B @ turned)) < np.trace(A) + np.trace(B):
        return                              # nothing to gain but FLOOR and rounding
    sides = (problem.users, at.P, at.G, M), (problem.items, at.Q, at.H, turned)
    for prior, X, G, turn in sides:
        turn = turn.astype(X.dtype)
        tiled_product(X, turn, pool, out=X)
        if G.size:
            prior.turn_groups(G, turn, pool)


def balancing(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return M and M⁻ᵀ that minimise tr(Mᵀ A M) + tr(M⁻¹ B M⁻ᵀ); A and B are not 0."""
    L = np.linalg.cholesky(_lifted(A))
    D, V = np.linalg.eigh(L.T @ _lifted(B) @ L)
    V *= np.sign(V[np.abs(V).argmax(axis=0), np.arange(len(V))])    # (rounding must not decide it)
    D = np.maximum(D, D[-1] * np.finfo(float).eps) ** 0.25
    D *= np.trace(B) ** 0.25 / np.trace(A) ** 0.25
    M: np.ndarray = scipy.linalg.solve_triangular(L, V * D, lower=True, trans="T")
    return M, L @ (V / D)


def _lifted(A: np.ndarray) -> np.ndarray:
    """Return A scaled to a mean eigenvalue of 1, with no eigenvalue below FLOOR."""
    lifted: np.ndarray = A / np.trace(A) * len(A) + FLOOR * np.eye(len(A))
    return lifted
