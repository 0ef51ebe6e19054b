"""The memory that a fit, recommendations and an evaluation take at their highest.

    python tests/peaks.py CLASS PARAMETERS N_USERS N_ITEMS PER_USER THREADS [GROUPS [ASKS]]

prints bytes beside what was there before each of them, after the same on a small matrix (for
kernels to be compiled); users are in GROUPS groups, where these are given.  Where ASKS is 0, only
the fit is measured.  Linux alone tells a process its peak and sets it back.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import scipy.sparse as sp

import mfcore
from mfcore.data.features import one_hot
from mfcore.solvers.als import sides_as_large


def ratings(n_users: int, n_items: int, per_user: int, seed: int) -> mfcore.Ratings:
    """So many ratings for each user, of items at random, in both orders."""
    random = np.random.default_rng(seed)
    items = random.integers(n_items, size=(n_users, per_user), dtype=np.int32)
    items = (np.sort(items, axis=1) + np.arange(per_user, dtype=np.int32)).ravel()  # distinct
    values = random.integers(1, 6, items.size).astype(np.float32)
    indptr = np.arange(n_users + 1, dtype=np.int32) * per_user
    made = mfcore.Ratings(sp.csr_array((values, items, indptr),
                                       shape=(n_users, n_items + per_user)))
    _ = made.by_item
    return made


def status(name: str) -> int:
    """A figure of this process in bytes: VmRSS now, or VmHWM at its highest."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def peak(work: Callable[[], Any]) -> int:
    """The bytes that `work` takes at its highest beside those before it."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")                 # the peak is what there is now
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def measured(made: Any, params: dict[str, Any], shape: tuple[int, int], per_user: int,
             groups: int = 0, asks: int = 1) -> dict[str, int]:
    """The peaks of fit, and of recommend and evaluate where `asks` is 1."""
    for kernels in (sides_as_large(), nullcontext()):                          # compiles kernels
        with kernels:
            _peaks(made(**params), (50, 200), 5, params["n_threads"], groups, asks)
    return _peaks(made(**params), shape, per_user, params["n_threads"], groups, asks)


def _peaks(model: Any, shape: tuple[int, int], per_user: int, n_threads: int, groups: int,
           asks: int) -> dict[str, int]:
    known = {"user_features": one_hot(np.arange(shape[0]) % groups)} if groups else {}
    cells, test = ratings(*shape, per_user, 0), ratings(*shape, 2, 1).by_user
    test = mfcore.Ratings(sp.csr_array((test.data, test.indices, test.indptr), cells.shape))
    fit = {"fit": peak(lambda: model.fit(cells, **known))}
    if not asks:
        return fit
    return {**fit, "recommend": peak(lambda: model.recommend(k=20)),
            "evaluate": peak(lambda: mfcore.evaluate(model, test, metrics=["ndcg", "recall"],
                                                     n_threads=n_threads))}


if __name__ == "__main__":
    name, given, *numbers = sys.argv[1:]
    n_users, n_items, each, threads, *rest = map(int, numbers)
    model_params = {**json.loads(given), "n_threads": threads}
    sys.stdout.write(json.dumps(measured(getattr(mfcore, name), model_params,
                                         (n_users, n_items), each, *rest)) + "\n")
