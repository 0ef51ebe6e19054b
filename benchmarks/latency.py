"""What one request costs, next to its arithmetic: medians and 99th percentiles.

    python -m benchmarks.latency [--requests 1000] [--out FILE]

Vectors of 64 factors, 20 ratings per user, one thread.  "Arithmetic" is one product of a vector
with all items in NumPy, and a partial sort.  Kinds of requests take turns, so that all of them
meet the same machine.  CPU-milliseconds of the calling thread; the implicit package is measured
where it is installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from benchmarks.harness import RESULTS, write
from benchmarks.machine import environment
from mfcore import ImplicitMF, Ratings, serving
from mfcore.atomic import replaceable

K, RATED, N_USERS = 64, 20, 3000
SIZES = (20_000, 200_000)
Ask = Callable[[int], Any]


def ratings_of(n_items: int, text: bool) -> Ratings:
    """Return choices of 20 items per user, popular ones more often."""
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(N_USERS), RATED)
    items = (n_items * random.random(users.size) ** 3).astype(np.int64)
    cells = sp.coo_array((np.ones(users.size), (users, items)), shape=(N_USERS, n_items)).tocsr()
    cells.data[:] = 1
    if not text:
        return Ratings(cells)
    return Ratings(cells, user_ids=[f"user-{n}" for n in range(N_USERS)],
                   item_ids=[f"item-{n}" for n in range(n_items)])


def with_vectors(ratings: Ratings) -> ImplicitMF:
    """Return a model of random vectors: what they are does not matter here."""
    model = ImplicitMF(K, n_epochs=1, reg=1.0, random_state=0, n_threads=1).fit(ratings)
    random = np.random.default_rng(1)
    for name in ("user_factors_", "item_factors_"):
        shape = getattr(model, name).shape
        setattr(model, name, random.standard_normal(shape, np.float32))
    return model


def asked(n_items: int, text: bool) -> Iterator[tuple[str, Ask]]:
    """Yield the kinds of requests of one catalogue."""
    ratings = ratings_of(n_items, text)
    model, random = with_vectors(ratings), np.random.default_rng(2)
    P, Q = model.user_factors_, model.item_factors_
    users = model.user_ids_ if text else np.arange(N_USERS)
    items = model.item_ids_ if text else np.arange(n_items)
    picked = [random.choice(n_items, RATED, replace=False) for _ in range(64)]

    def arithmetic(number: int) -> Any:
        scores = Q @ P[number]
        best = np.argpartition(-scores, 10)[:10]
        return best[np.argsort(-scores[best])]

    yield "arithmetic", arithmetic
    yield "known user", lambda number: model.recommend([users[number]])
    yield "new user", lambda number: model.recommend(ratings=list(items[picked[number % 64]]))
    yield "explain", lambda number: model.explain(users[number], items[number])
    yield "similar items", lambda number: model.similar_items([items[number]])
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.mfcore")
        served = serving.load(Path(folder) / "model.mfcore")
    yield "known user, mfcore.serving", lambda number: served.recommend([users[number]])
    if not text and (theirs := peer(P, Q)) is not None:
        cells = sp.csr_matrix(ratings.by_user)
        yield "known user, implicit", lambda number: theirs.recommend(number, cells[number], N=10)
        yield "new user, implicit", lambda number: theirs.recommend(
            number, cells[number], N=10, recalculate_user=True)


def peer(P: np.ndarray, Q: np.ndarray) -> Any:
    """Return implicit's model with these vectors, or None where it is not installed."""
    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ImportError:
        return None
    model = AlternatingLeastSquares(K, num_threads=1)
    model.user_factors, model.item_factors = np.array(P), np.array(Q)
    return model


def measured(kinds: dict[str, Ask], n: int) -> dict[str, list[float]]:
    """Return median and 99th percentile of each kind, in CPU-milliseconds."""
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(-3, n):
        for name, ask in kinds.items():
            start = time.thread_time()
            ask(number % N_USERS)
            if number >= 0:
                spent[name].append(1e3 * (time.thread_time() - start))
    return {name: [round(float(each), 3) for each in np.percentile(times, [50, 99])]
            for name, times in spent.items()}


def main() -> None:
    """Measure all catalogues."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--out", type=replaceable, default=RESULTS / "latency.json")
    given = parser.parse_args()
    result: dict[str, Any] = {"command": "python -m benchmarks.latency", "requests": given.requests,
                              "environment": environment(1), "rows": []}
    for n_items in SIZES:
        for text in (False, True):
            with threadpool_limits(1, "blas"):          # (the arithmetic, and implicit, too)
                found = measured(dict(asked(n_items, text)), given.requests)
            for kind, (middle, high) in found.items():
                result["rows"].append({"items": n_items, "ids": "text" if text else "numbers",
                                       "kind": kind, "median": middle, "p99": high})
                print(f"{n_items:9,} {'text' if text else 'numbers':8} {kind:28} {middle:8.3f} "
                      f"{high:8.3f}", flush=True)
            write(given.out, result)


if __name__ == "__main__":
    main()
