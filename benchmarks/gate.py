"""A gate for kernels: each is compared with NumPy and SciPy doing the same, in one process.

    python -m benchmarks gate

Times are CPU seconds at size small, after a call that compiles, the two sides taking turns; the
figure is the least of the reference's seconds over the least of ours, which others on the machine
move little.  A floor is about half of the lowest that was measured: far enough for a busy machine,
and near enough to see a kernel that lost its vector instructions, its blocking or gathered rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from benchmarks.data import SIZES
from benchmarks.generated import chosen
from mfcore import BPR, EASE, ImplicitMF, MatrixFactorization, Ratings

K, TURNS, ROWS = 64, 5, 1000
Work = Callable[[], object]


class Gate(NamedTuple):
    """A kernel: what prepares (ours, reference), and the ratio below which it fails."""

    name: str
    make: Callable[[], tuple[Work, Work]]
    floor: float


@cache
def choices() -> Ratings:
    """Return choices of the small size."""
    return Ratings(chosen(*SIZES["small"]))


@cache
def factors() -> tuple[np.ndarray, np.ndarray]:
    """Return factors of all users and items."""
    random = np.random.default_rng(0)
    P, Q = (random.normal(0, 0.1, (n, K)).astype(np.float32) for n in choices().shape)
    return P, Q


# -------------------------------------------------------------------------- references


def gradient() -> object:
    """Return the gradients of both sides, by sparse products: what a sweep must at least do."""
    (P, Q), R = factors(), choices().by_user
    rows = np.repeat(np.arange(R.shape[0]), np.diff(R.indptr))
    scores = np.einsum("tf,tf->t", P[rows], Q[R.indices])
    E = sp.csr_array(((R.data - 1) * scores - R.data, R.indices, R.indptr), shape=R.shape)
    return E @ Q + P @ (Q.T @ Q), E.T @ P + Q @ (P.T @ P)


def exact_rows() -> object:
    """Solve the equations of the first users, one by one."""
    (_, Q), R = factors(), choices().by_user
    G, found = Q.T @ Q + np.eye(K, dtype=np.float32), []
    for u in range(ROWS):
        cells = slice(R.indptr[u], R.indptr[u + 1])
        q, w = Q[R.indices[cells]], R.data[cells].astype(np.float32)
        found.append(np.linalg.solve(G + (q.T * w) @ q, w @ q))
    return found


def pairs() -> object:
    """Step through a draw of pairs in mini-batches."""
    (P, Q), R = factors(), choices().by_user
    P, Q, random = P.copy(), Q.copy(), np.random.default_rng(0)
    t = random.integers(0, R.nnz, R.nnz // 10)
    users = np.repeat(np.arange(R.shape[0]), np.diff(R.indptr))[t]
    items, others = R.indices[t], random.integers(0, R.shape[1], len(t))
    for batch in np.array_split(np.arange(len(t)), len(t) // 1000):
        u, i, j = users[batch], items[batch], others[batch]
        p, d = P[u], Q[i] - Q[j]
        g = 0.05 / (1 + np.exp(np.einsum("tf,tf->t", p, d)))[:, None]
        np.add.at(P, u, g * d)
        np.add.at(Q, i, g * p)
        np.add.at(Q, j, -g * p)
    return P


def best() -> object:
    """Return the ten best unseen items of the first users."""
    (P, Q), R = factors(), choices().by_user
    scores = P[:ROWS] @ Q.T
    scores[R[:ROWS].nonzero()] = -np.inf
    top = np.argpartition(-scores, 10, axis=1)[:, :10]
    return np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1), 1)


def inverse() -> object:
    """Return the inverse of the items' Gram matrix, by LAPACK."""
    X = choices().by_user.astype(np.float32)
    G = np.asfortranarray((X.T @ X).toarray() + 200 * np.eye(X.shape[1], dtype=np.float32))
    factor, _ = lapack.spotrf(G, lower=0)
    return lapack.spotri(factor, lower=0)


# ------------------------------------------------------------------------------- gates


def fits(make: Callable[..., Any], reference: Work, n_epochs: int = 1) -> tuple[Work, Work]:
    """Return a fit of ours and the reference."""
    return lambda: make(n_epochs=n_epochs, random_state=0, n_threads=1).fit(choices()), reference


def serving() -> tuple[Work, Work]:
    """Return the best ten for the first users."""
    model = ImplicitMF(K, reg=5.0, n_epochs=1, n_threads=1, random_state=0).fit(choices())
    model.user_factors_, model.item_factors_ = factors()
    return lambda: model.recommend(np.arange(ROWS), k=10), best


def new_users() -> tuple[Work, Work]:
    """Return the vectors of users, solved."""
    model = ImplicitMF(K, reg=5.0, n_epochs=1, n_threads=1, random_state=0).fit(choices())
    new = choices().by_user[:ROWS]
    return lambda: model.fold_in_users(new), exact_rows


GATES = (
    Gate("five sweeps of ALS by CG, to gradients by sparse products, once",
         partial(fits, partial(ImplicitMF, K, reg=5.0, solver="cg"), gradient, 5), 0.12),
    Gate("two sweeps of exact ALS, to 1000 rows by NumPy",
         partial(fits, partial(ImplicitMF, K, reg=5.0, solver="cholesky"), exact_rows, 2), 0.06),
    Gate("five epochs of SGD, to gradients by sparse products, once",
         partial(fits, partial(MatrixFactorization, K, reg=1.1, bias_reg=2.0, solver="sgd"),
                 gradient, 5), 0.5),
    Gate("an epoch of BPR, to a tenth of it by NumPy", partial(fits, partial(BPR, K), pairs), 0.9),
    Gate("the best ten of 1000 users", serving, 0.5),
    Gate("the vectors of 1000 new users", new_users, 1.2),
    Gate("EASE, to LAPACK", lambda: (
        lambda: EASE(reg=200.0, n_threads=1).fit(choices()), inverse), 0.8),
)


def seconds(work: Work) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ratio(gate: Gate, turns: int = TURNS) -> float:
    """Return the least of the reference's seconds over the least of ours."""
    with threadpool_limits(1):
        ours, reference = gate.make()
        ours(), reference()
        found = [(seconds(ours), seconds(reference)) for _ in range(turns)]
    mine, theirs = zip(*found, strict=True)
    return min(theirs) / min(mine)


def main(arguments: list[str]) -> None:
    """Print every ratio; end with 1 if one is below its floor."""
    found = [(gate, ratio(gate)) for gate in GATES]
    for gate, each in found:
        verdict = "passed" if each >= gate.floor else "FAILED"
        print(f"{verdict} {each:6.2f}, floor {gate.floor:5.2f}: {gate.name}", flush=True)
    sys.exit(any(each < gate.floor for gate, each in found))
