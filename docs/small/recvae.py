"""RecVAE: a variational autoencoder held near its own past.

The prior of a code is a mixture of N(0, 1), its own distribution of a round ago and a wide normal;
β = γ n_u grows with the row; encoder and decoder learn in turns.  All else is as in vae.py.

    L = Σ_u [ −Σ_i x_i ln π_i + γ n_u (ln q(z) − ln p(z)) ],     z = μ + e^(ℓ/2) ε
    p(z) = Σ_m a_m N(z; μ_m, e^ℓ_m)      ∂ ln p/∂z = −Σ_m ρ_m (z − μ_m) e^−ℓ_m,  ρ_m: its share
"""

import numpy as np


def divergence(z, log, epsilon, old):
    """Return ln q(z) − ln p(z) of each number, and its derivatives by z and by ℓ."""
    parts = [(3 / 20, 0, 0), (3 / 4, *old), (1 / 10, 0, 10)]    # share, mean, ln variance
    pulls = np.array([(z - m) * np.exp(-v) for _, m, v in parts])
    p = np.array([a * np.exp(-(v + (z - m)**2 * np.exp(-v)) / 2) for a, m, v in parts])
    value = -(log + epsilon**2) / 2 - np.log(p.sum(axis=0))    # (the ln 2π of q and p cancel)
    return value, (p * pulls).sum(axis=0) / p.sum(axis=0), np.full_like(z, -0.5)


def loss_and_gradient(at, x, epsilon, gamma, old):
    """Return L for given draws ε, its derivative by every parameter, and (μ, ℓ)."""
    n = x.sum(axis=1, keepdims=True)                       # (x holds 0 and 1: ‖x‖² = n)
    rows, beta = x / n**0.5, gamma * n
    mu, log = np.split(rows @ at["V"] + at["a"], 2, axis=1)
    z = mu + np.exp(log / 2) * epsilon
    pi = np.exp(z @ at["W"] + at["c"])
    pi /= pi.sum(axis=1, keepdims=True)
    far, far_z, far_log = divergence(z, log, epsilon, old or (mu, log))
    dy = n * pi - x
    dz = dy @ at["W"].T + beta * far_z
    dcode = np.hstack([dz, dz * np.exp(log / 2) * epsilon / 2 + beta * far_log])
    d = {"V": rows.T @ dcode, "a": dcode.sum(axis=0), "W": z.T @ dy, "c": dy.sum(axis=0)}
    return -(x * np.log(pi)).sum() + (beta * far).sum(), d, (mu, log)


def fit(x, k, *, gamma=0.05, rate=0.03, rounds=100, seed=0):
    """Return the parameters, the means of the codes, and the loss at the end of every round."""
    random, (n, m), old, history = np.random.default_rng(seed), x.shape, None, []
    at = {"V": random.normal(size=(m, 2 * k)) / m**0.5, "a": np.zeros(2 * k),
          "W": random.normal(size=(k, m)) / k**0.5, "c": np.zeros(m)}
    for _ in range(rounds):
        for learned in "Va", "Va", "Va", "Wc":             # the encoder three times, the decoder
            loss, d, code = loss_and_gradient(at, x, random.normal(size=(n, k)), gamma, old)
            at = {name: value - rate * d[name] * (name in learned) for name, value in at.items()}
        old, history = code, [*history, loss]
    return at, code[0], history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    at, mu, history = fit((R >= 4) * 1.0, k=2)
    best = films[np.where(R > 0, -np.inf, mu @ at["W"] + at["c"]).argmax(axis=1)]
    print("loss", *(f"{loss:.1f}" for loss in history[::20]), f"…; user 0: {best[0]} first")
