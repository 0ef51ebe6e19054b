"""EASE: every item predicted from all the others, in closed form.

    L = ‖X − X B‖² + Σ_ij Λ_i B_ij²,  diag B = 0          Λ_i = λ + p/(1−p) (XᵀX)_ii
    C = (XᵀX + diag Λ)⁻¹,  B = I − C diag(1 / diag C)     p: the share of cells left out (EDLAE)
"""

import numpy as np


def fit(X, reg, dropout=0.0):
    """Return B."""
    XtX = X.T @ X
    C = np.linalg.inv(XtX + np.diag(reg + dropout / (1 - dropout) * np.diag(XtX)))
    return np.eye(len(C)) - C / np.diag(C)


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    X = (R >= 4).astype(float)
    for reg in 100, 10, 1:
        B = fit(X, reg)
        print(f"λ = {reg}: Σ (X − X B)² = {((X - X @ B)**2).sum():.2f}")
    scores = np.where(R > 0, -np.inf, X @ B)
    for u in 0, 4:
        print(f"user {u}: {films[scores[u].argmax()]} first")
