"""Alternating least squares: the whole linear family, dense, in NumPy.

    L = Σ W (T − s)² + λ (Σ_u ‖P_u − F_u G‖² + ‖Q‖²) + λᵇ (‖b‖² + ‖c‖²) + λᵍ ‖G‖²
    s = μ + P_u·Q_i + b_u + c_i        W = 1, T = r on known cells;  W = w0, T = r0 on the others

minimal: bias=False      weighted unknown: w0=0.1      groups: F, a row of features per user
"""

import numpy as np


def least_squares(W, T, X, ridge, prior=0):
    """For each row, return the z that makes least Σ_i W_i (T_i − X_i·z)² + ridge·(z − prior)²."""
    A = np.einsum("ui,if,ig->ufg", W, X, X) + np.diag(ridge)
    return np.linalg.solve(A, ((W * T) @ X + ridge * prior)[..., None])[..., 0]


def fit(R, known, k, *, bias=True, w0=0.0, r0=0.0, F=None, reg=1.0, bias_reg=2.0, group_reg=10.0,
        epochs=15, seed=0):
    """Return μ, P = [b | P | 1], Q = [1 | Q | c], G, the loss of every epoch;  s = μ + P Qᵀ."""
    random, one = np.random.default_rng(seed), int(bias)
    F = np.zeros((len(R), 0)) if F is None else F
    W, T = np.where(known, 1.0, w0), np.where(known, R, r0)
    mu = R[known].mean() if bias else 0.0
    P, Q = (np.hstack([np.ones((n, one)), random.normal(size=(n, k)) / k**0.5, np.ones((n, one))])
            for n in R.shape)
    b, c, user, item = slice(0, one), slice(k + one, None), slice(0, k + one), slice(one, None)
    P[:, b], Q[:, c], G = 0, 0, np.zeros((F.shape[1], k + one))
    lam_user, lam_item = np.r_[[bias_reg] * one, [reg] * k], np.r_[[reg] * k, [bias_reg] * one]
    history = []
    for _ in range(epochs):
        Q[:, item] = least_squares(W.T, (T - mu).T - P[:, b].sum(axis=1), P[:, item], lam_item)
        P[:, user] = least_squares(W, T - mu - Q[:, c].sum(axis=1), Q[:, user], lam_user, F @ G)
        each = np.repeat(lam_user[:, None], len(R), axis=1)        # groups: rows as targets
        G = least_squares(each, P[:, user].T, F, np.full(F.shape[1], group_reg)).T
        penalty = (lam_user * (P[:, user] - F @ G)**2).sum() + (lam_item * Q[:, item]**2).sum()
        history.append((W * (T - mu - P @ Q.T)**2).sum() + penalty + group_reg * (G**2).sum())
    return mu, P, Q, G, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    for name, more in {"minimal": {"bias": False}, "biases": {}, "weighted unknown": {"w0": 0.1},
                       "groups": {"F": np.repeat(np.eye(2), 4, axis=0)}}.items():
        mu, P, Q, G, history = fit(R, R > 0, 2, **more)
        s = np.where(R > 0, -np.inf, mu + P @ Q.T)[0]
        print(f"{name:16} loss", *(f"{loss:.2f}" for loss in history[::5]), f"… {history[-1]:.2f};"
              f"  user 0: {films[s.argmax()]}, {s.max():.1f} stars")
