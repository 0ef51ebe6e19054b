"""A variational autoencoder of choices: a code with a mean and a spread.

    (μ, ℓ) = x/‖x‖ V + a,  z = μ + e^(ℓ/2) ε,  π = softmax(z W + c),  ε ~ N(0, 1)
    L = Σ_u [ −Σ_i x_i ln π_i + β KL ],    KL( N(μ, e^ℓ) ‖ N(0, 1) ) = Σ_f ½ (e^ℓ + μ² − 1 − ℓ)
"""

import numpy as np


def encode(at, x):
    """Return μ and ℓ of the codes."""
    return np.split(x @ at["V"] + at["a"], 2, axis=1)


def decode(at, z):
    """Return the probabilities of the items."""
    y = z @ at["W"] + at["c"]
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def loss_and_gradient(at, x, epsilon, beta):
    """Return L for given draws ε, and its derivative by every parameter."""
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    mu, log = encode(at, rows)
    spread = np.exp(log / 2) * epsilon
    pi = decode(at, z := mu + spread)
    loss = -(x * np.log(pi)).sum() + beta / 2 * (np.exp(log) + mu**2 - 1 - log).sum()
    dy = x.sum(axis=1, keepdims=True) * pi - x
    dz = dy @ at["W"].T
    dcode = np.hstack([dz + beta * mu, dz * spread / 2 + beta / 2 * (np.exp(log) - 1)])
    return loss, {"V": rows.T @ dcode, "a": dcode.sum(axis=0),
                  "W": z.T @ dy, "c": dy.sum(axis=0)}


def fit(x, k, *, beta=0.2, rate=0.03, steps=600, seed=0):
    """Return the parameters and the loss before every step."""
    random, (n, m), history = np.random.default_rng(seed), x.shape, []
    at = {"V": random.normal(size=(m, 2 * k)) / m**0.5, "a": np.zeros(2 * k),
          "W": random.normal(size=(k, m)) / k**0.5, "c": np.zeros(m)}
    for _ in range(steps):
        loss, d = loss_and_gradient(at, x, random.normal(size=(n, k)), beta)
        at = {name: value - rate * d[name] for name, value in at.items()}
        history.append(loss)
    return at, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    x, n = (R >= 4) * 1.0, (R >= 4).sum(axis=1, keepdims=True)
    for beta in 0.0, 0.2, 1.0:
        at, history = fit(x, k=2, beta=beta)
        mu, log = encode(at, x / n**0.5)
        s = np.where(R > 0, -np.inf, decode(at, mu))[0]
        print(f"β = {beta}: loss", *(f"{loss:.1f}" for loss in history[::200]), "…",
              f"spread of codes {np.exp(log / 2).mean():.2f}; user 0: {films[s.argmax()]}")
