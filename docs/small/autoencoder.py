"""An autoencoder of ratings: a row goes in, the same row is asked for, through a narrow middle.

    h = σ(x V + a),  s = h W + c        L = Σ w (s − t)² + λ_c Σ_rows ‖∂h/∂x‖²
    ‖∂h/∂x‖² = Σ_j φ'_j² ‖V_j‖²         φ' = h (1 − h),  φ'' = φ' (1 − 2h),  V_j column j
"""

import numpy as np


def loss_and_gradient(at, x, t, w, contract=0.0):
    """Return L of inputs x with targets t and weights w, its derivatives, and the output s."""
    h = 1 / (1 + np.exp(-(x @ at["V"] + at["a"])))
    s = h @ at["W"] + at["c"]
    loss, ds, slope = (w * (s - t)**2).sum(), 2 * w * (s - t), h * (1 - h)
    dz, dV = ds @ at["W"].T * slope, 0
    if contract:                                           # a code that moves little with its row
        size = (at["V"]**2).sum(axis=0)
        loss += contract * (slope**2 * size).sum()
        dz += 2 * contract * slope**2 * (1 - 2 * h) * size
        dV = 2 * contract * (slope**2).sum(axis=0) * at["V"]
    return loss, {"V": x.T @ dz + dV, "a": dz.sum(axis=0), "W": h.T @ ds, "c": ds.sum(axis=0)}, s


def fit(R, known, k, *, mask=0.0, noise=0.0, contract=0.0, refeed=False, rate=0.01, steps=2000,
        seed=0):
    """Return the parameters and the loss before every step."""
    random, m, history = np.random.default_rng(seed), R.shape[1], []
    at = {"V": random.normal(size=(m, k)) / m**0.5, "a": np.zeros(k),
          "W": random.normal(size=(k, m)) / k**0.5, "c": np.zeros(m)}

    def step(x, t, w):
        loss, d, s = loss_and_gradient(at, x, t, w, contract)
        for name in at:
            at[name] -= rate * d[name]
        return loss, s

    for _ in range(steps):
        x = R * known
        if mask:                                           # asked for, and not given
            x = x * (random.random(R.shape) >= mask)
        if noise:                                          # given with noise, asked for without
            x = x + known * random.normal(scale=noise, size=R.shape)
        loss, y = step(x, R, known * 1.0)
        if refeed:                                         # y is a row too, and a constant now:
            step(y, y, np.full(R.shape, 1 / m))            # f(y) = y, on all cells
        history.append(loss)
    return at, history


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    known, x = R > 0, np.where(R > 0, R - R[R > 0].mean(), 0)
    for how in {}, {"mask": 0.3}, {"noise": 0.5}, {"contract": 0.1}, {"refeed": True}:
        at, history = fit(x, known, k=2, **how)
        s = np.where(known, -np.inf, loss_and_gradient(at, x, x, known)[2])[0]
        print(f"{[*how, 'plain'][0]:9} loss", *(f"{each:.1f}" for each in history[::500]),
              f"… {history[-1]:.1f};  user 0: {films[s.argmax()]}")
