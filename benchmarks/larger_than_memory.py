"""Ratings larger than memory: what sorting and training take, in anonymous memory and in time.

    python -m benchmarks.larger_than_memory build FOLDER --ratings 200e6 --memory 2e9
    python -m benchmarks.larger_than_memory fit FOLDER [--in-memory] [--model als|sgd]

Parts are generated one at a time.  Memory is RssAnon of /proc/self/status, its highest value
of samples every 20 ms: pages that lie in files do not count, the system drops them at will.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from functools import partial

import numpy as np

from mfcore import MatrixFactorization, Ratings
from mfcore.data.convert import convert

PART = 2_000_000


def part(number: int, n_users: int, n_items: int, size: int) -> dict[str, np.ndarray]:
    """Return the ratings of one range of users: log-normal activity, popularity a power law."""
    random = np.random.default_rng([7, number])
    activity = random.lognormal(0, 1.2, n_users)
    counts = np.maximum((activity / activity.sum() * size * 1.08).astype(int), 1)
    popularity = np.cumsum((np.arange(1, n_items + 1) + 50.0) ** -0.9)
    users = np.repeat(np.arange(n_users), counts)
    items = np.searchsorted(popularity / popularity[-1], random.random(len(users)))
    cells = np.sort(users * n_items + items)            # (np.unique hashes: 60 times as long)
    users, items = np.divmod(cells[np.append(True, cells[1:] != cells[:-1])], n_items)
    hidden = np.sin(users * 0.37 + items * 0.11) + np.cos(items * 1.7)
    noise = random.normal(0, 0.6, len(users))
    stars = np.clip(np.round((3.5 + 0.5 * hidden + noise) * 2) / 2, 0.5, 5)
    return {"user": users + number * n_users, "item": items * 7919 % n_items, "rating": stars}


class Anonymous:
    """Samples the anonymous memory of this process while it is entered."""

    def __init__(self) -> None:
        self.most, self._done = 0, threading.Event()

    def _sample(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, self.now())

    @staticmethod
    def now() -> int:
        """Return RssAnon in bytes."""
        with open("/proc/self/status") as stream:
            return next(int(line.split()[1]) * 1024 for line in stream if "RssAnon" in line)

    def __enter__(self) -> Anonymous:
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def build(arguments: argparse.Namespace) -> dict[str, object]:
    """Sort generated parts into a folder."""
    n_parts = -(-int(arguments.ratings) // PART)
    sizes = (PART // 200, max(1000, n_parts * 1000), PART)
    ratings = convert([partial(part, number, *sizes) for number in range(n_parts)],
                      arguments.folder, memory=int(arguments.memory), verbose=1)
    return {"ratings": ratings.nnz, "shape": ratings.shape}


def fit(arguments: argparse.Namespace) -> dict[str, object]:
    """Train on an opened folder, or on a copy of it in memory."""
    ratings = Ratings.open(arguments.folder, verify=False)
    if arguments.in_memory:
        ratings = Ratings(ratings.by_user, user_ids=ratings.user_ids, item_ids=ratings.item_ids)
        ratings.by_item  # noqa: B018  (built before the clock runs)
    solver = {"als": "cg", "sgd": "sgd"}[arguments.model]
    model = MatrixFactorization(arguments.factors, solver=solver, n_epochs=arguments.epochs,
                                random_state=0, n_threads=arguments.threads, verbose=1)
    start = time.perf_counter(), time.process_time()
    model.fit(ratings)
    factors = model.user_factors_.nbytes + model.item_factors_.nbytes
    return {"ratings": ratings.nnz, "in_memory": arguments.in_memory, "model": arguments.model,
            "epochs": [round(record["seconds"], 2) for record in model.history_],
            "fit_wall": time.perf_counter() - start[0],
            "fit_cpu": time.process_time() - start[1], "factor_bytes": factors,
            "loss": model.history_[-1]["loss"]}


def main() -> None:
    """Run one command and write a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("build", "fit"))
    parser.add_argument("folder")
    parser.add_argument("--ratings", type=float, default=2e7)
    parser.add_argument("--memory", type=float, default=2e9)
    parser.add_argument("--factors", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=("als", "sgd"), default="als")
    parser.add_argument("--in-memory", action="store_true")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with Anonymous() as memory:
        found = {"build": build, "fit": fit}[arguments.command](arguments)
    sys.stdout.write(json.dumps({**found, "anonymous_bytes": memory.most,
                                 "wall": time.perf_counter() - start}) + "\n")


if __name__ == "__main__":
    main()
