"""Bayesian factorization by Gibbs sampling: least squares with noise, over and over.

    r_ui ~ N(P_u·Q_i, 1/τ),   P_u ~ N(μ, Λ⁻¹), Λ = diag λ;   and Q_i with its own μ and λ
    P_u | rest ~ N(A⁻¹ c, A⁻¹),   A = τ Σ_i Q_i Q_iᵀ + Λ,   c = τ Σ_i r_ui Q_i + Λ μ
    τ | rest ~ Gamma((N + 1)/2, rate (Σ (r − s)² + v)/2)           N known cells, v their variance
    λ_f | P ~ Gamma((n + 1)/2, rate (Σ_u P_uf² − n²/(n+1) P̄_f² + v_f)/2),  P̄ the mean of n rows
    μ_f | λ, P ~ N( n/(n+1) P̄_f, 1/((n + 1) λ_f) )
"""

import numpy as np


def draw_rows(R, known, X, tau, mu, lam, noise):
    """Return a draw of each row's vector, given the other side's X; noise is standard normal."""
    A = tau * np.einsum("ui,if,ig->ufg", known, X, X) + np.diag(lam)
    c = tau * (known * R) @ X + lam * mu
    root = np.linalg.cholesky(A).transpose(0, 2, 1)        # A = rootᵀ root, so that
    return (np.linalg.solve(A, c[..., None])               # root⁻¹ ε has the covariance A⁻¹
            + np.linalg.solve(root, noise[..., None]))[..., 0]


def draw_prior(X, guess, random):
    """Return a draw of μ and λ of one side."""
    n, mean = len(X), X.mean(axis=0)
    rate = ((X**2).sum(axis=0) - n**2 / (n + 1) * mean**2 + guess) / 2
    lam = random.gamma((n + 1) / 2, 1 / rate)
    return random.normal(n / (n + 1) * mean, 1 / ((n + 1) * lam)**0.5), lam


def fit(R, known, k, *, sweeps=300, burn_in=100, seed=0):
    """Return the mean and the standard deviation of all scores, and the squared error by sweep."""
    random, v = np.random.default_rng(seed), R[known].var()
    guess = (v / k)**0.5                                   # so that a score varies by about v
    P, Q = (guess**0.5 * random.normal(size=(n, k)) for n in R.shape)
    total, squares, history = 0, 0, []
    for sweep in range(sweeps):
        error = (known * (R - P @ Q.T)**2).sum()
        tau = random.gamma((known.sum() + 1) / 2, 2 / (error + v))
        P = draw_rows(R, known, Q, tau, *draw_prior(P, guess, random), random.normal(size=P.shape))
        Q = draw_rows(R.T, known.T, P, tau, *draw_prior(Q, guess, random),
                      random.normal(size=Q.shape))
        history.append(error)
        if sweep >= burn_in:
            s = P @ Q.T
            total, squares = total + s, squares + s**2
    mean = total / (sweeps - burn_in)
    return mean, (squares / (sweeps - burn_in) - mean**2)**0.5, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    known, average = R > 0, R[R > 0].mean()
    mean, spread, history = fit(np.where(known, R - average, 0), known, k=2)
    print("squared error", *(f"{error:.1f}" for error in (*history[:3], *history[50::50])))
    for u in 0, 4:
        i = np.where(known, -np.inf, mean)[u].argmax()
        print(f"user {u}: {films[i]}, {average + mean[u, i]:.1f} ± {spread[u, i]:.1f} stars")
