"""Bayesian personalised ranking: what a user chose should score above what the user did not.

    L = Σ_(u,i,j) [ −ln σ(x) + λ (‖P_u‖² + ‖Q_i‖² + ‖Q_j‖²) ],   x = P_u·(Q_i − Q_j)
    d(−ln σ(x))/dx = −σ(−x)            i chosen by u, j not
"""

import numpy as np


def loss_and_gradient(users, chosen, others, P, Q, reg):
    """Return L of triples (u, i, j), ∂L/∂P and ∂L/∂Q."""
    p, q, r = P[users], Q[chosen], Q[others]
    x = (p * (q - r)).sum(axis=1)
    pull = 1 / (1 + np.exp(x))[:, None]                    # σ(−x): near 0 once the order is right
    loss = np.log1p(np.exp(-x)).sum() + reg * (p**2 + q**2 + r**2).sum()
    dP, dQ = np.zeros_like(P), np.zeros_like(Q)
    np.add.at(dP, users, -pull * (q - r) + 2 * reg * p)
    np.add.at(dQ, chosen, -pull * p + 2 * reg * q)
    np.add.at(dQ, others, pull * p + 2 * reg * r)
    return loss, dP, dQ


def fit(chosen, k, *, reg=0.02, rate=0.05, steps=300, seed=0):
    """Return P, Q and the loss before every step; every step draws another j for each (u, i)."""
    random, (users, items) = np.random.default_rng(seed), np.nonzero(chosen)
    P, Q = (random.normal(scale=0.1, size=(rows, k)) for rows in chosen.shape)
    history = []
    for _ in range(steps):
        others = np.array([random.choice(np.flatnonzero(~chosen[u])) for u in users])
        loss, dP, dQ = loss_and_gradient(users, items, others, P, Q, reg)
        P -= rate * dP
        Q -= rate * dQ
        history.append(loss)
    return P, Q, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    P, Q, history = fit(R >= 4, k=2)
    print("loss", *(f"{loss:.1f}" for loss in history[::60]), f"… {history[-1]:.1f}")
    scores = np.where(R > 0, -np.inf, P @ Q.T)
    for u in 0, 4:
        print(f"user {u}: {films[scores[u].argmax()]} first")
