"""Softmax: all items compete for every choice, by cosine.

    L = −Σ_(u,i) ln( e^(s_ui/τ) / Σ_j e^(s_uj/τ) ),   s = cos(P_u, Q_j),  i chosen by u
    ∂L/∂s_uj = (n_u π_uj − [j chosen by u]) / τ,      π_u = softmax(s_u / τ),  n_u choices of u
"""

import numpy as np


def unit(X):
    """Return the rows of X with length 1, and the lengths."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / length, length


def through(g, x, length):
    """Return the derivative by a row of what it is by x = row / length."""
    return (g - x * (g * x).sum(axis=1, keepdims=True)) / length


def loss_and_gradient(chosen, P, Q, tau):
    """Return L, ∂L/∂P and ∂L/∂Q."""
    (x, p), (y, q) = unit(P), unit(Q)
    e = np.exp((x @ y.T - 1) / tau)                        # (a cosine is at most 1: no overflow)
    pi = e / e.sum(axis=1, keepdims=True)
    loss = -(chosen * np.log(pi)).sum()
    dS = (chosen.sum(axis=1, keepdims=True) * pi - chosen) / tau
    return loss, through(dS @ y, x, p), through(dS.T @ x, y, q)


def fit(chosen, k, *, tau=0.2, rate=0.02, steps=300, seed=0):
    """Return P, Q and the loss before every step."""
    random = np.random.default_rng(seed)
    P, Q = (random.normal(size=(rows, k)) for rows in chosen.shape)
    history = []
    for _ in range(steps):
        loss, dP, dQ = loss_and_gradient(chosen, P, Q, tau)
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
    scores = np.where(R > 0, -np.inf, unit(P)[0] @ unit(Q)[0].T)
    for u in 0, 4:
        print(f"user {u}: {films[scores[u].argmax()]} first")
