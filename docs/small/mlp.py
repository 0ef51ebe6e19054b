"""Neural factorization: a network of two layers takes the place of the dot product.

    x = [P_u | Q_i],  z = x V + a,  h = max(0, z),  s = h·w + c
    L = Σ_known (s − r)² + λ Σ_known ‖x‖²
    back:  ds = 2 (s − r),  dw = hᵀ ds,  dz = ds wᵀ where z > 0,  dV = xᵀ dz,  dx = dz Vᵀ + 2 λ x
"""

import numpy as np


def start(n, m, k, hidden, random):
    """Return the parameters: vectors of users and of items, and the numbers of two layers."""
    return {"P": random.normal(size=(n, k)) / k**0.5, "Q": random.normal(size=(m, k)) / k**0.5,
            "V": random.normal(size=(2 * k, hidden)) / k**0.5, "a": np.zeros(hidden),
            "w": random.normal(size=hidden) / hidden**0.5, "c": np.zeros(1)}


def forward(at, users, items):
    """Return the scores of cells, and x, z and h, which the way back needs."""
    x = np.hstack([at["P"][users], at["Q"][items]])
    z = x @ at["V"] + at["a"]
    h = np.maximum(z, 0)
    return h @ at["w"] + at["c"], (x, z, h)


def loss_and_gradient(at, users, items, r, reg):
    """Return L, and its derivative by every parameter."""
    s, (x, z, h) = forward(at, users, items)
    ds = 2 * (s - r)
    dz = np.outer(ds, at["w"]) * (z > 0)
    dx = dz @ at["V"].T + 2 * reg * x
    d = {"V": x.T @ dz, "a": dz.sum(axis=0), "w": h.T @ ds, "c": ds.sum(keepdims=True),
         "P": np.zeros_like(at["P"]), "Q": np.zeros_like(at["Q"])}
    k = at["P"].shape[1]
    np.add.at(d["P"], users, dx[:, :k])                    # a user's cells all move its vector
    np.add.at(d["Q"], items, dx[:, k:])
    return ((s - r)**2).sum() + reg * (x**2).sum(), d


def fit(R, known, k, *, hidden=8, reg=0.01, rate=0.003, steps=1000, seed=0):
    """Return the parameters and the loss before every step."""
    (users, items), r = np.nonzero(known), R[known]
    at, history = start(*R.shape, k, hidden, np.random.default_rng(seed)), []
    for _ in range(steps):
        loss, d = loss_and_gradient(at, users, items, r - r.mean(), reg)
        at = {name: value - rate * d[name] for name, value in at.items()}
        history.append(loss)
    return at, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    at, history = fit(R, R > 0, k=2)
    print("loss", *(f"{loss:.2f}" for loss in history[::200]), f"… {history[-1]:.2f}")
    scores = forward(at, *np.indices(R.shape).reshape(2, -1))[0].reshape(R.shape) + R[R > 0].mean()
    best = np.where(R > 0, -np.inf, scores).argmax(axis=1)
    print(*(f"user {u}: {films[best[u]]}, {scores[u, best[u]]:.1f} stars;" for u in (0, 4)))
