"""Matrix factorization by gradient descent: the smallest thing that learns.

    L = Σ_known (R − P Qᵀ)² + λ (‖P‖² + ‖Q‖²)
    E = P Qᵀ − R on known cells, 0 elsewhere        ∂L/∂P = 2 (E Q + λ P),  ∂L/∂Q = 2 (Eᵀ P + λ Q)
"""

import numpy as np


def loss_and_gradient(R, known, P, Q, reg):
    """Return L, ∂L/∂P and ∂L/∂Q."""
    E = known * (P @ Q.T - R)
    loss = (E**2).sum() + reg * ((P**2).sum() + (Q**2).sum())
    return loss, 2 * (E @ Q + reg * P), 2 * (E.T @ P + reg * Q)


def fit(R, known, k, *, reg=0.1, rate=0.01, steps=500, seed=0):
    """Return P, Q and the loss before every step."""
    random = np.random.default_rng(seed)
    P, Q = (random.normal(size=(rows, k)) for rows in R.shape)
    history = []
    for _ in range(steps):
        loss, dP, dQ = loss_and_gradient(R, known, P, Q, reg)
        P -= rate * dP
        Q -= rate * dQ
        history.append(loss)
    return P, Q, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    P, Q, history = fit(R, R > 0, k=2)
    print("loss", *(f"{loss:.2f}" for loss in history[::100]), f"… {history[-1]:.2f}")
    scores = np.where(R > 0, -np.inf, P @ Q.T)
    for u in 0, 4:
        best = scores[u].argmax()
        print(f"user {u}: {films[best]}, {scores[u, best]:.1f} stars expected")
