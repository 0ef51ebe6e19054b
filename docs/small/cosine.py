"""Dot product and cosine: two ways to rank by the same vectors.

    P_u·Q_i = ‖P_u‖ ‖Q_i‖ cos(P_u, Q_i)        the dot product lets long vectors win
"""

import numpy as np


def unit(X):
    """Return the rows of X with length 1; zero rows stay zero."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1)


def recommend(P, Q, seen, n, *, cosine=False):
    """Return the n best unseen items of each user, and their scores."""
    scores = unit(P) @ unit(Q).T if cosine else P @ Q.T
    scores = np.where(seen, -np.inf, scores)
    items = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    return items, np.take_along_axis(scores, items, axis=1)


def similar(Q, n):
    """Return for each item the n others at the smallest angle, and the cosines."""
    return recommend(Q, Q, np.eye(len(Q), dtype=bool), n, cosine=True)


if __name__ == "__main__":
    films = np.array(["Alien", "Solaris", "Stalker", "Dune", "Emma", "Amelie", "Carol", "Once"])
    R = np.array([list(row) for row in (          # a row per user; 0 where nothing is known
        "55400110", "45051020", "50450011", "04550102",
        "10015450", "01105540", "20010455", "11004505")], float)
    U, S, Vt = np.linalg.svd(R, full_matrices=False)      # vectors: the two largest directions
    P, Q = U[:, :2] * S[:2]**0.5, Vt[:2].T * S[:2]**0.5
    print(f"with 2 of 8 directions, {(S[2:]**2).sum() / (S**2).sum():.0%} of the squares are lost")
    for film, others in zip(films, films[similar(Q, 2)[0]], strict=True):
        print(f"near {film}: {', '.join(others)}")
    for name, cosine in (("dot", False), ("cosine", True)):
        lists = films[recommend(P, Q, R > 0, 2, cosine=cosine)[0]]
        print(f"users 0 and 4 by {name}: {', '.join(lists[0])}; {', '.join(lists[4])}")
