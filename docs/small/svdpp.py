"""SVD++: what a user has rated, whatever the rating, says something about the user.

    s_ui = μ + b_u + c_i + (U_u + Σ_j G_j / √n_u)·Q_i            j: the n_u items that u rated
    L = Σ_known (s − r)² + λ (‖U‖² + ‖Q‖²) + λᵍ ‖G‖² + λᵇ (‖b‖² + ‖c‖²)
"""

import numpy as np


def vectors(at, F):
    """Return the users' vectors: U + F G."""
    return at["U"] + F @ at["G"]


def history_of(known):
    """Return F: 1/√n_u for the items that u has rated."""
    return known / np.maximum(known.sum(axis=1, keepdims=True), 1)**0.5


def loss_and_gradient(at, R, known, F, reg):
    """Return L, and its derivative by every parameter; reg holds a λ for each."""
    P, Q = vectors(at, F), at["Q"]
    E = known * (P @ Q.T + at["b"][:, None] + at["c"] - R)
    d = {"U": E @ Q, "G": F.T @ E @ Q, "Q": E.T @ P, "b": E.sum(axis=1), "c": E.sum(axis=0)}
    loss = (E**2).sum() + sum(reg[name] * (value**2).sum() for name, value in at.items())
    return loss, {name: 2 * (d[name] + reg[name] * value) for name, value in at.items()}


def fit(R, known, k, *, reg=1.0, bias_reg=2.0, history_reg=5.0, rate=0.005, steps=1000, seed=0):
    """Return the parameters and the loss before every step."""
    random, (n, m), F = np.random.default_rng(seed), R.shape, history_of(known)
    at = {"U": random.normal(size=(n, k)), "G": np.zeros((m, k)), "Q": random.normal(size=(m, k)),
          "b": np.zeros(n), "c": np.zeros(m)}
    weights = {"U": reg, "Q": reg, "G": history_reg, "b": bias_reg, "c": bias_reg}
    history = []
    for _ in range(steps):
        loss, d = loss_and_gradient(at, R, known, F, weights)
        at = {name: value - rate * d[name] for name, value in at.items()}
        history.append(loss)
    return at, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    known, mean = R > 0, R[R > 0].mean()
    at, history = fit(R - mean, known, k=2)
    print("loss", *(f"{loss:.2f}" for loss in history[::200]), f"… {history[-1]:.2f}")
    s = mean + at["b"][:, None] + at["c"] + vectors(at, history_of(known)) @ at["Q"].T
    for u in 0, 4:
        i = np.where(known, -np.inf, s)[u].argmax()
        print(f"user {u}: {films[i]}, {s[u, i]:.1f} stars expected")
